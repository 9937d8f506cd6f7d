"""The pytest plugin, as a user's tests meet it: pytest in a process of its own."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REFUSE = Path(__file__).parents[1] / "refuse.py"
SETUP = 425

OF_PYTEST_TRIO = """
import hypothesis, pytest, trio
from hypothesis import strategies

def backend():
    return trio.lowlevel.current_statistics().io_statistics.backend

@pytest.fixture
async def pair(nursery):
    near, far = trio.socket.socketpair()
    with near, far:
        assert backend() == "BACKEND"
        yield near, far

@pytest.mark.trio
async def test_fixture(pair):
    near, far = pair
    await near.send(b"x")
    assert await far.recv(1) == b"x"

@pytest.mark.trio
@hypothesis.given(strategies.binary(min_size=1))
@hypothesis.settings(max_examples=20, database=None)
async def test_hypothesis(data):
    near, far = trio.socket.socketpair()
    with near, far:
        await near.send(data)
        assert await far.recv(len(data)) == data
    assert backend() == "BACKEND"

@pytest.mark.trio
async def test_clock(autojump_clock):
    await trio.sleep(10_000)
    assert backend() == "BACKEND"

def test_plain():
    async def main():
        return backend()
    assert trio.run(main) == "BACKEND"
"""

OF_ANYIO = """
import anyio, pytest, sniffio, trio

pytestmark = pytest.mark.anyio

@pytest.fixture(params=["uring", ("uring", {"strict_exception_groups": True})], scope="module")
def anyio_backend(request):
    return request.param

@pytest.fixture(scope="module")
async def listener(anyio_backend):
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        yield listener

async def test_echo(listener):
    async def serve(stream):
        async with stream:
            await stream.send(await stream.receive())
    address = listener.extra(anyio.abc.SocketAttribute.local_address)
    async with anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        async with await anyio.connect_tcp(*address) as client:
            await client.send(b"x")
            assert await client.receive() == b"x"
        group.cancel_scope.cancel()
    assert trio.lowlevel.current_statistics().io_statistics.backend == "io_uring"
    assert sniffio.current_async_library() == "trio"
"""


def run(tmp_path: Path, tests: str, *options: str, before: tuple[str, ...] = ()) -> str:
    (tmp_path / "test_it.py").write_text(tests)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, *before, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error", *options],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(("options", "backend"), [(("--uring",), "io_uring"), ((), "epoll")])
def test_tests_of_pytest_trio(tmp_path: Path, options: tuple[str, ...], backend: str) -> None:
    output = run(tmp_path, OF_PYTEST_TRIO.replace("BACKEND", backend), *options)
    assert "4 passed" in output, output
    assert ("Trio runs on io_uring" in output) is bool(options)


def test_tests_of_anyio_name_the_backend(tmp_path: Path) -> None:
    output = run(tmp_path, OF_ANYIO)
    assert "2 passed" in output, output


OF_FILES = """
import sys, trio

async def main():
    async with await trio.open_file(sys.executable, "rb") as file:
        return type(file).__module__.startswith("uring_trio"), await trio.Path(sys.executable).exists()

def test_it():
    assert trio.run(main) == (FILES, True)
"""


@pytest.mark.parametrize(
    ("options", "files"),
    [((), True), (("--uring-options=files=1",), True), (("--uring-options=files=0",), False)],
)
def test_files_too(tmp_path: Path, options: tuple[str, ...], files: bool) -> None:
    output = run(tmp_path, OF_FILES.replace("FILES", str(files)), "--uring", *options)
    assert "1 passed" in output, output


OF_SETTINGS = """
import trio
from uring_trio.core import engine

def test_it():
    async def main():
        return engine.current().options.entries if ON_RING else stock()
    def stock():
        return trio.lowlevel.current_statistics().io_statistics.backend
    assert trio.run(main) == EXPECTED
"""


@pytest.mark.parametrize(
    ("settings", "options", "expected"),
    [
        ("uring = true", (), 256),
        ("uring = true\nuring_options = entries=32", (), 32),
        ("uring = true\nuring_options = entries=32", ("--uring-options=entries=16",), 16),
        ("uring_options = entries=32", ("--uring",), 32),
        ("uring_options = entries=32", (), "epoll"),
        ("uring = true\nuring_options = entries=32", ("--no-uring",), "epoll"),
        ("uring = false", ("--uring", "--uring-options=entries=16"), 16),
    ],
)
def test_settings_in_a_file(
    tmp_path: Path, settings: str, options: tuple[str, ...], expected: int | str
) -> None:
    (tmp_path / "pytest.ini").write_text(f"[pytest]\n{settings}\n")
    tests = OF_SETTINGS.replace("ON_RING", str(expected != "epoll")).replace("EXPECTED", repr(expected))
    output = run(tmp_path, tests, *options)
    assert "1 passed" in output, output
    assert ("Trio runs on io_uring" in output) is (expected != "epoll")


def test_settings_in_a_toml_file(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[tool.pytest.ini_options]\nuring = true\nuring_options = "entries=32"\n'
    )
    tests = OF_SETTINGS.replace("ON_RING", "True").replace("EXPECTED", "32")
    output = run(tmp_path, tests)
    assert "1 passed" in output, output


@pytest.mark.parametrize("options", [(), ("--no-uring",)])
def test_options_without_the_ring_are_refused(tmp_path: Path, options: tuple[str, ...]) -> None:
    output = run(tmp_path, OF_FILES, "--uring-options=entries=16", *options)
    assert "ERROR: --uring-options has no effect without --uring" in output
    assert "passed" not in output
    assert "failed" not in output


def test_options_of_the_ring(tmp_path: Path) -> None:
    tests = """
import trio
from uring_trio.core.engine import current

def test_it():
    async def main():
        return current().options.entries
    assert trio.run(main) == 16
"""
    assert "1 passed" in run(tmp_path, tests, "--uring", "--uring-options=entries=16")


def test_wrong_options_are_refused(tmp_path: Path) -> None:
    output = run(tmp_path, "", "--uring", "--uring-options=size=16")
    assert "ERROR: --uring-options is name=value with buffer_size, buffers, " in output
    assert "; not 'size=16'" in output
    (tmp_path / "pytest.ini").write_text("[pytest]\nuring = true\nuring_options = entries=3\n")
    assert "ERROR: uring_options: entries is a power of two, not 3" in run(tmp_path, "")


def test_without_io_uring_it_fails_before_any_test(tmp_path: Path) -> None:
    rules = json.dumps([[SETUP, -1, errno.EPERM]])
    output = run(tmp_path, OF_PYTEST_TRIO, "--uring", before=(str(REFUSE), rules))
    assert "ERROR: --uring: " in output
    assert "passed" not in output
