"""Installs a wheel with the interpreter that runs this, without a compiler, and uses it as the README does.

    python3.13 tools/try_wheel.py dist/uring_trio-….whl

In an environment of its own: the launcher's version, the doctor, the README's server with clients that
break off, and an AnyIO program on the backend ``uring``. Where there is no usable io_uring, the doctor
says so, and the programs have to. `make dist` runs this with every Python of the machine, and
`tools/newer-pythons` with later ones.
"""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
SECONDS = 60
RESET = struct.pack("ii", 1, 0)
ANYIO = """
import anyio, trio

async def main():
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(b"hello")
                assert await stream.receive() == b"hello"
            group.cancel_scope.cancel()
    print(trio.lowlevel.current_statistics().io_statistics.backend)

async def echo(stream):
    async with stream:
        await stream.send(await stream.receive())

import uring_trio.anyio
anyio.run(main, backend="uring")
"""


def main() -> None:
    (wheel,) = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder, "bin", "python"))
        # Whatever is compiled would be compiled by this.
        pip = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--only-binary=:all:"]
        say([*pip, f"{Path(wheel).absolute()}[anyio]"], environment={**os.environ, "CC": "/bin/false"})
        version = say([python, "-m", "uring_trio", "--version"]).strip()
        doctor = subprocess.run([python, "-m", "uring"], capture_output=True, text=True, check=False)
        if doctor.returncode:
            refused = subprocess.run([python, "-c", ANYIO], capture_output=True, text=True, check=False)
            if "RingUnavailable" not in refused.stderr:
                sys.exit(f"without a ring: {refused.stderr or refused.stdout}")
            print(f"{version}, installed without a compiler; no ring here: {doctor.stdout.splitlines()[0]}")
            return
        serve(python)
        backend = say([python, "-W", "error", "-c", ANYIO]).strip()
        if backend != "io_uring":
            sys.exit(f"anyio ran on {backend}")
        print(f"{version}, installed without a compiler: the README's server and AnyIO run on the ring")


def serve(python: str) -> None:
    """The server of the README, and two clients that break off after their answer."""
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (program,) = (block for block in blocks if "8000" in block)
    server = subprocess.Popen(
        [python, "-u", "-W", "error", "-c", program.replace("8000", "0")], stdout=subprocess.PIPE, text=True
    )
    with server:
        try:
            line = server.stdout.readline() if server.stdout else ""
            said = re.fullmatch(r"type: nc localhost (\d+)\n", line)
            if said is None:
                sys.exit(f"the README's server said {line!r}")
            for _ in range(2):
                with socket.create_connection(("localhost", int(said[1])), timeout=SECONDS) as client:
                    client.sendall(b"hello")
                    if client.recv(5) != b"hello":
                        sys.exit("the README's server echoed something else")
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        finally:
            server.kill()


def say(command: list[str], environment: dict[str, str] | None = None) -> str:
    """The output of a program. Where it fails, that is shown and ends this one."""
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode:
        print(done.stdout)
        sys.exit(f"{' '.join(command[:4])} failed with status {done.returncode}")
    return done.stdout


if __name__ == "__main__":
    main()
