"""Programs in processes of their own, and real clients for them."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
RESET = b"\1\0\0\0\0\0\0\0"  # SO_LINGER of a socket whose close, with data unread, is a reset
SECONDS = 60

Address = tuple[str, int]


class Example:
    """An example's process, from its first line of output on."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line.startswith("listening on "), line + process.stderr.read()
        host, _, port = line.removeprefix("listening on ").strip().rpartition(":")
        self.address = host, int(port)

    def has_ring(self) -> bool:
        """Whether the process holds a ring, as the kernel says."""
        return any(map(is_ring, Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def stop(self) -> None:
        """Ctrl-C; the example must end by itself, and without complaint."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=SECONDS)
        assert (self.process.returncode, out, err) == (0, "stopped\n", "")


@contextmanager
def started(*command: str) -> Iterator[Example]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", *command, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield Example(process)
        finally:
            if process.poll() is None:
                process.kill()


def is_ring(entry: Path) -> bool:
    try:
        return "io_uring" in os.readlink(entry)
    except FileNotFoundError:  # a connection that is closed meanwhile
        return False


def path(name: str) -> str:
    return str(EXAMPLES / name)


def exchange(address: Address, data: bytes) -> bytes:
    """Everything the server answers to ``data`` and the end of the stream."""
    answer = bytearray()
    with socket.create_connection(address, timeout=SECONDS) as client:
        sender = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
        sender.start()
        while part := client.recv(65536):
            answer += part
        sender.join()
    return bytes(answer)
