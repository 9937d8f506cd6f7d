"""The examples, run as their first lines say, with real clients in this process."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
LAUNCHER = ("-m", "uring_trio")
SECONDS = 30

Address = tuple[str, int]


class Example:
    """An example's process, from its first line of output on."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line.startswith("listening on "), line + process.stderr.read()
        host, _, port = line.removeprefix("listening on ").strip().rpartition(":")
        self.address = host, int(port)

    def has_ring(self) -> bool:
        """Whether the process holds a ring, as the kernel says."""
        for entry in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # a connection that is closed meanwhile
                if "io_uring" in os.readlink(entry):
                    return True
        return False

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


ECHO_SERVERS = {
    "multishot": ((path("echo_multishot.py"),), True),
    "trio on the ring": ((*LAUNCHER, path("echo_trio.py")), True),
    "trio on epoll": ((path("echo_trio.py"),), False),
}


@pytest.mark.parametrize("name", ECHO_SERVERS)
def test_echoes(name: str) -> None:
    command, on_ring = ECHO_SERVERS[name]
    messages = [os.urandom(size) for size in (0, 1, 1000, 65537, 3_000_000) for _ in range(4)]
    with started(*command) as server:
        with ThreadPoolExecutor(len(messages)) as clients:
            answers = list(clients.map(lambda data: exchange(server.address, data), messages))
        assert answers == messages
        assert server.has_ring() is on_ring
        server.stop()


@pytest.mark.parametrize("name", ECHO_SERVERS)
def test_goes_on_when_a_client_breaks_off(name: str) -> None:
    command, _ = ECHO_SERVERS[name]
    with started(*command) as server:
        with socket.create_connection(server.address, timeout=SECONDS) as client:
            client.sendall(b"x" * 100_000)
            # Closing with this set, and with answers unread, is a reset.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        assert exchange(server.address, b"still there") == b"still there"
        server.stop()


@pytest.mark.parametrize("name", ECHO_SERVERS)
def test_stops_with_clients_connected(name: str) -> None:
    command, _ = ECHO_SERVERS[name]
    with started(*command) as server:
        with socket.create_connection(server.address, timeout=SECONDS) as client:
            client.sendall(b"hello")
            assert client.recv(100) == b"hello"
            server.stop()
            assert client.recv(100) == b""


def test_anyio_program_greets() -> None:
    with started(path("anyio_hello.py")) as server:
        assert exchange(server.address, b"Ada\n") == b"Hello, Ada!\n"
        assert exchange(server.address, b"Grace") == b"Who are you? A line with your name, please.\n"
        assert exchange(server.address, b"x" * 200) == b"Who are you? A line with your name, please.\n"
        assert server.has_ring()
        server.stop()


@pytest.mark.parametrize("name", ["echo_multishot.py", "echo_trio.py", "anyio_hello.py"])
def test_every_server_says_how_to_start_it(name: str) -> None:
    done = subprocess.run(
        [sys.executable, path(name), "--help"], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "--port" in done.stdout


def test_every_example_has_a_test() -> None:
    tests = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*example*.py"))
    assert [file.name for file in EXAMPLES.glob("*.py") if f'"{file.name}"' not in tests] == []
