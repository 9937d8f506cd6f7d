"""The programs of the tutorial and the README, and some more examples, with real clients."""

import hashlib
import os
import re
import runpy
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
import trustme

import uring_trio
from tests.trio.programs import EXAMPLES, RESET, SECONDS, exchange, path, started

README = (EXAMPLES.parent / "README.md").read_text()
TUTORIAL = EXAMPLES / "tutorial"


@contextmanager
def serving(*command: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A program that says what to type next, and its port."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-W", "error", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            line = process.stdout.readline()
            said = re.fullmatch(r"type: nc localhost (\d+)\n", line)
            assert said, line + process.stderr.read()
            yield process, int(said[1])
        finally:
            if process.poll() is None:
                process.kill()


def reset(port: int) -> None:
    """A client that breaks off with answers unread."""
    with socket.create_connection(("localhost", port), timeout=SECONDS) as client:
        client.sendall(b"x" * 100_000)
        assert client.recv(1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def servers() -> dict[str, list[str]]:
    [program] = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "8000" in block]
    return {
        "the README's": ["-c", program.replace("8000", "0")],
        **{name: [str(TUTORIAL / name), "0"] for name in ("echo.py", "echo_in_time.py", "service.py")},
    }


@pytest.mark.parametrize("name", servers())
def test_an_echo_server_survives_resets(name: str) -> None:
    with serving(*servers()[name]) as (process, port):
        for _ in range(3):
            reset(port)
            assert exchange(("localhost", port), b"still there") == b"still there"
        assert process.poll() is None


def test_an_idle_client_is_closed() -> None:
    with serving(str(TUTORIAL / "echo_in_time.py"), "0", "0.2") as (process, port):
        with socket.create_connection(("localhost", port), timeout=SECONDS) as client:
            assert client.recv(1) == b""
        assert process.stdout is not None
        assert process.stdout.readline() == "a client was idle\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_service_stops_when_its_clients_are_done(number: int) -> None:
    with serving(str(TUTORIAL / "service.py"), "0") as (process, port):
        with socket.create_connection(("localhost", port), timeout=SECONDS) as client:
            client.sendall(b"hello")
            assert client.recv(5) == b"hello"
            process.send_signal(number)
            client.shutdown(socket.SHUT_WR)
            assert client.recv(5) == b""
        assert process.communicate(timeout=SECONDS) == ("stopped\n", "")
        assert process.returncode == 0


def test_a_service_does_not_wait_for_an_idle_client() -> None:
    with serving(str(TUTORIAL / "service.py"), "0") as (process, port):
        with socket.create_connection(("localhost", port), timeout=SECONDS) as client:
            client.sendall(b"hello")
            assert client.recv(5) == b"hello"
            process.send_signal(signal.SIGTERM)
            assert client.recv(5) == b""
        assert process.communicate(timeout=SECONDS) == ("stopped\n", "")


def test_the_test_of_the_tutorial() -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "test_echo.py"],
        cwd=TUTORIAL,
        env=environment,
        capture_output=True,
        text=True,
        timeout=2 * SECONDS,
        check=False,
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_workers_share_a_port() -> None:
    with started(path("prefork.py"), "--workers", "2") as server:
        with ThreadPoolExecutor(4) as clients:
            answers = list(clients.map(lambda _: exchange(server.address, b""), range(80)))
        workers = {int(answer.removeprefix(b"worker ")) for answer in answers}
        assert len(workers) == 2
        assert server.process.pid not in workers
        server.process.terminate()
        assert server.process.communicate(timeout=SECONDS) == ("stopped\n", "")
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_worker_that_ends_is_started_anew(tmp_path: Path) -> None:
    began = tmp_path / "began"
    worker = """
import os, sys, time
first = not os.path.exists(sys.argv[1])
open(sys.argv[1], "a").close()
if not first:
    os.write(int(sys.argv[2]), b"r")
    time.sleep(60)
"""

    async def main() -> None:
        with trio.fail_after(SECONDS):
            async with trio.open_nursery() as nursery:
                # Not before one is ready.
                await nursery.start(supervise, [sys.executable, "-c", worker, str(began)])
                assert began.exists()
                nursery.cancel_scope.cancel()

    supervise = runpy.run_path(path("prefork.py"))["supervise"]
    uring_trio.run(main)


def test_tls_echoes(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = tmp_path / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with started(path("tls_echo.py"), "--certificate", str(certificate)) as server:
        data = os.urandom(100_000)
        for _ in range(2):
            with socket.create_connection(server.address, timeout=SECONDS) as plain:
                with context.wrap_socket(plain, server_hostname="localhost") as client:
                    client.sendall(data)
                    answer = bytearray()
                    while len(answer) < len(data):
                        answer += client.recv(65536)
                    assert answer == data
            with socket.create_connection(server.address, timeout=SECONDS) as client:
                client.sendall(b"this is no TLS")
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        assert server.has_ring()


@pytest.mark.parametrize("size", [0, 1, 4096, 9_000_001])
def test_direct_reads(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    file = tmp_path / "data"
    file.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-W", "error", path("direct_reads.py"), str(file)],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.stdout, done.stderr) == (f"{hashlib.sha256(data).hexdigest()}  {file}\n", "")


def test_direct_reads_of_a_missing_file() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", path("direct_reads.py"), "/missing"],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "No such file" in done.stderr
    assert "Traceback" not in done.stderr
