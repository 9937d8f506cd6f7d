"""The examples, run as their first lines say, with real clients in this process."""

import hashlib
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.trio.programs import EXAMPLES, SECONDS, exchange, is_ring, path, started

LAUNCHER = ("-m", "uring_trio")

ECHO_SERVERS = {
    "multishot": ((path("echo_multishot.py"),), True),
    "chunks": ((path("chunks_echo.py"),), True),
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


def test_udp_echoes() -> None:
    with started(path("udp_echo.py")) as server:
        clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(3)]
        for client in clients:
            client.settimeout(SECONDS)
            client.connect(server.address)
        for size in (0, 1, 1000, 60_000):
            for client in clients:
                data = os.urandom(size)
                client.send(data)
                assert client.recv(65536) == data
        clients[0].send(b"an answer that nobody takes")
        clients.pop(0).close()
        clients[0].send(b"still there")
        assert clients[0].recv(100) == b"still there"
        for client in clients:
            client.close()
        assert server.has_ring()
        server.stop()


def test_proxy() -> None:
    messages = [os.urandom(size) for size in (0, 1, 1000, 3_000_000)]
    with started(path("echo_multishot.py")) as target:
        with started(path("proxy.py"), "--to-port", str(target.address[1])) as proxy:
            with ThreadPoolExecutor(len(messages)) as clients:
                assert list(clients.map(lambda data: exchange(proxy.address, data), messages)) == messages
            with socket.create_connection(proxy.address, timeout=SECONDS) as client:
                client.sendall(b"x" * 100_000)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            assert exchange(proxy.address, b"still there") == b"still there"
            assert proxy.has_ring()
            target.stop()
            with socket.create_connection(proxy.address, timeout=SECONDS) as client:
                assert client.recv(10) == b""
            proxy.stop()


def test_deadlines() -> None:
    with started(path("deadlines.py")) as server:
        assert (
            exchange(server.address, b"work 1\nwork 5000\nwork 0\nrest\n") == b"done\ntoo slow\ndone\nwhat?\n"
        )
        # A line may come in parts, and one without an end is not kept for ever.
        with socket.create_connection(server.address, timeout=SECONDS) as client:
            for part in b"wo", b"rk 1", b"\nwork":
                client.sendall(part)
            assert client.recv(100) == b"done\n"
            client.sendall(b"x" * 200)
            assert client.recv(100) == b""
        assert server.has_ring()
        server.stop()


def test_two_threads() -> None:
    messages = [os.urandom(size) for size in (0, 1, 1000, 65537, 3_000_000) for _ in range(4)]
    with started(path("two_threads.py")) as server:
        with ThreadPoolExecutor(len(messages)) as clients:
            answers = list(clients.map(lambda data: exchange(server.address, data), messages))
        assert answers == [f"{hashlib.sha256(data).hexdigest()}\n".encode() for data in messages]
        with socket.create_connection(server.address, timeout=SECONDS) as client:
            client.sendall(b"an answer that nobody takes")
        rings = [entry for entry in Path(f"/proc/{server.process.pid}/fd").iterdir() if is_ring(entry)]
        assert len(rings) >= 2
        with socket.create_connection(server.address, timeout=SECONDS) as client:
            client.sendall(b"unfinished")
            server.stop()


SERVERS = [
    "anyio_hello.py",
    "chunks_echo.py",
    "deadlines.py",
    "echo_multishot.py",
    "echo_trio.py",
    "proxy.py",
    "static_files.py",
    "two_threads.py",
    "udp_echo.py",
]


@pytest.mark.parametrize("name", SERVERS)
def test_every_server_says_how_to_start_it(name: str) -> None:
    done = subprocess.run(
        [sys.executable, path(name), "--help"], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "--port" in done.stdout


def test_every_example_has_a_test() -> None:
    tests = "".join(file.read_text() for file in Path(__file__).parent.glob("test_*example*.py"))
    assert [file.name for file in EXAMPLES.glob("*.py") if f'"{file.name}"' not in tests] == []
