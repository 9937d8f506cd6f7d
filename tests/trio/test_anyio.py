"""AnyIO's backend ``uring``: how it is found and entered, and that what is AnyIO's works in a run on it."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import sniffio
import trio
from anyio import from_thread, to_process, to_thread

import uring_trio
import uring_trio.anyio
from uring_trio.core.engine import current
from uring_trio.testing import assert_nothing_in_flight, no_leaks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REFUSE = Path(__file__).parents[1] / "refuse.py"
SETUP = 425


def run(main: Any, *args: Any, **options: Any) -> Any:
    with no_leaks():
        return anyio.run(main, *args, backend="uring", backend_options=options)


def python(program: str, *before: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *before, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )


# ---- entering ------------------------------------------------------------------------------------------


def test_a_run_is_on_the_ring_and_inside_it_is_trio() -> None:
    async def main(what: str) -> tuple[str, str, str]:
        backend = trio.lowlevel.current_statistics().io_statistics.backend
        return what, backend, sniffio.current_async_library()

    assert run(main, "argument") == ("argument", "io_uring", "trio")


def test_options_reach_the_ring_and_trio() -> None:
    options = uring_trio.RingOptions(entries=16)
    clock = trio.testing.MockClock(autojump_threshold=0)

    async def main() -> Any:
        await anyio.sleep(10_000)
        return current().options

    assert run(main, ring=options, clock=clock) == options


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"entries": 16}, TypeError, "are ring, unavailable, clock, .* not 'entries'"),
        ({"use_uvloop": True}, TypeError, "not 'use_uvloop'"),
        ({"ring": {"entries": 16}}, TypeError, "ring is a RingOptions, not dict"),
        ({"unavailable": "poll"}, ValueError, "not 'poll'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        anyio.run(anyio.sleep, 0, backend="uring", backend_options=options)
    with pytest.raises(error, match=says):
        uring_trio.anyio.UringBackend.create_test_runner(options)
    assert sniffio.current_async_library_cvar.get() is None


def test_install_makes_the_backend_known_without_importing_anyio() -> None:
    done = python(
        """
import sys, uring_trio
uring_trio.install()
assert "anyio" not in sys.modules
uring_trio.uninstall()
import anyio, trio

async def main():
    print(trio.lowlevel.current_statistics().io_statistics.backend)

anyio.run(main, backend="uring")
anyio.run(main, backend="trio")
"""
    )
    assert (done.stderr, done.stdout.split()) == ("", ["io_uring", "epoll"])


def test_a_missing_anyio_is_named() -> None:
    done = python("import sys; sys.modules['anyio'] = None; import uring_trio.anyio")
    assert "AnyIO is not installed" in done.stderr
    assert "uring-trio[anyio]" in done.stderr


def test_an_anyio_with_other_internals_is_refused() -> None:
    done = python("import anyio._core._eventloop as loop; del loop.loaded_backends; import uring_trio.anyio")
    assert "does not look as expected" in done.stderr
    assert "tested with AnyIO 4." in done.stderr


def test_an_anyio_never_tested_is_warned_of() -> None:
    program = """
import importlib.metadata as metadata
found = metadata.version
metadata.version = lambda name: "4.99.0" if name == "anyio" else found(name)
import uring_trio.anyio
"""
    done = python(program)
    assert done.returncode == 0
    assert "RuntimeWarning: AnyIO 4.99.0 was never tested on the ring, only 4." in done.stderr


@pytest.mark.parametrize("unavailable", ["raise", "epoll"])
def test_where_io_uring_is_refused(unavailable: str) -> None:
    program = f"""
import anyio, trio, uring_trio.anyio

async def main():
    print(trio.lowlevel.current_statistics().io_statistics.backend)

anyio.run(main, backend="uring", backend_options={{"unavailable": {unavailable!r}}})
"""
    rules = json.dumps([[SETUP, -1, errno.EPERM]])
    done = python(program, str(REFUSE), rules)
    if unavailable == "raise":
        assert done.returncode == 1
        assert "RingUnavailable" in done.stderr.splitlines()[-1]
    else:
        assert done.stdout.split() == ["epoll"]
        assert "RuntimeWarning: running on epoll" in done.stderr


# ---- the test runner -----------------------------------------------------------------------------------


def test_the_test_runner_is_a_guest_run_on_the_ring() -> None:
    seen = []

    async def fixture() -> AsyncIterator[Any]:
        near, far = trio.socket.socketpair()
        with near, far:
            yield near, far

    async def test(pair: Any) -> None:
        near, far = pair
        async with anyio.create_task_group() as group:
            group.start_soon(near.send, b"x")
            seen.append(await far.recv(10))
        seen.append(trio.lowlevel.current_statistics().io_statistics.backend)
        assert_nothing_in_flight()

    async def failing() -> None:
        raise LookupError("of the test")

    with no_leaks():
        with uring_trio.anyio.UringBackend.create_test_runner({}) as runner:
            assert sniffio.current_async_library_cvar.get() == "trio"
            for pair in runner.run_asyncgen_fixture(fixture, {}):
                runner.run_test(test, {"pair": pair})
            with pytest.raises(LookupError, match="of the test"):
                runner.run_test(failing, {})
    assert seen == [b"x", "io_uring"]
    assert sniffio.current_async_library_cvar.get() is None


def test_what_is_chosen_for_a_test_runner_is_for_it_alone() -> None:

    async def backend() -> str:
        return str(trio.lowlevel.current_statistics().io_statistics.backend)

    seen = []

    async def test() -> None:
        seen.append(await backend())

    with uring_trio.anyio.UringBackend.create_test_runner({}) as runner:
        runner.run_test(test, {})
        other = threading.Thread(target=lambda: seen.append(trio.run(backend)))
        other.start()
        other.join()
        runner.run_test(test, {})
    seen.append(trio.run(backend))
    assert seen == ["io_uring", "epoll", "io_uring", "epoll"]


# ---- inside --------------------------------------------------------------------------------------------


def test_threads_and_portals() -> None:
    async def main() -> None:
        def worker() -> str:
            assert sniffio.current_async_library_cvar.get() is None
            return from_thread.run(name)

        async def name() -> str:
            return sniffio.current_async_library()

        assert await to_thread.run_sync(worker) == "trio"
        async with from_thread.BlockingPortal() as portal:
            assert await to_thread.run_sync(portal.call, name) == "trio"

    run(main)


def test_a_portal_in_a_thread_of_its_own() -> None:
    @asynccontextmanager
    async def context() -> AsyncIterator[str]:
        yield str(trio.lowlevel.current_statistics().io_statistics.backend)

    with no_leaks():
        with from_thread.start_blocking_portal("uring") as portal:
            with portal.wrap_async_context_manager(context()) as backend:
                assert backend == "io_uring"


def test_processes_and_signals() -> None:
    async def main() -> None:
        echo = "import sys; sys.stdout.write(sys.stdin.read().upper())"
        done = await anyio.run_process([sys.executable, "-c", echo], input=b"through pipes")
        assert done.stdout == b"THROUGH PIPES"
        assert await to_process.run_sync(sum, [1, 2, 3]) == 6
        with anyio.open_signal_receiver(signal.SIGUSR1) as signals:
            os.kill(os.getpid(), signal.SIGUSR1)
            async for number in signals:
                assert number == signal.SIGUSR1
                break

    run(main)


def test_unix_streams_pass_descriptors(tmp_path: Path) -> None:
    async def main() -> bytes:
        listener = await anyio.create_unix_listener(tmp_path / "socket")

        async def serve(stream: Any) -> None:
            async with stream:
                message, (fd,) = await stream.receive_fds(100, 1)
                assert message == b"take it"
                with open(fd, "rb") as file:
                    await stream.send(file.read())

        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, serve)
            async with await anyio.connect_unix(tmp_path / "socket") as client:
                with open(tmp_path / "file", "w+b") as file:
                    file.write(b"what is in it")
                    file.seek(0)
                    await client.send_fds(b"take it", [file])
                    answer: bytes = await client.receive()
            group.cancel_scope.cancel()
        assert_nothing_in_flight()
        return answer

    assert run(main) == b"what is in it"


def test_udp_to_many_and_connected() -> None:
    async def main() -> None:
        async with await anyio.create_udp_socket(local_host="127.0.0.1") as server:
            port = server.extra(anyio.abc.SocketAttribute.local_port)
            async with await anyio.create_connected_udp_socket("127.0.0.1", port) as client:
                await client.send(b"ping")
                packet, address = await server.receive()
                await server.sendto(packet + b" pong", *address)
                assert await client.receive() == b"ping pong"
        assert_nothing_in_flight()

    run(main)


def test_cancelled_receives_leave_the_stream_usable() -> None:
    async def main() -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")

        async def serve(stream: Any) -> None:
            async with stream:
                async for data in stream:
                    await stream.send(data)

        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, serve)
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            async with await anyio.connect_tcp("127.0.0.1", port) as client:
                for number in range(20):
                    with anyio.move_on_after(0.001) as scope:
                        await client.receive()
                    assert scope.cancelled_caught
                    await client.send(str(number).encode())
                    assert await client.receive() == str(number).encode()
            group.cancel_scope.cancel()

    run(main)


# ---- streams, whose two methods are ours ----------------------------------------------------------------


@asynccontextmanager
async def stream_pair() -> AsyncIterator[tuple[Any, Any]]:
    """Both ends of a TCP connection, as AnyIO's streams."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        near = await anyio.connect_tcp("127.0.0.1", port)
        far = await listener.listeners[0].accept()
    async with near, far:
        yield near, far


BACKENDS = pytest.mark.parametrize("backend", ["uring", "trio"])


@BACKENDS
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_more_than_a_socket_holds(backend: str, kind: Any) -> None:
    """The receiver starts when the sender waits, and everything arrives in order."""
    sent = bytes(range(256)) * (1 << 15)

    async def main() -> None:
        async with stream_pair() as (near, far), anyio.create_task_group() as group:
            group.start_soon(near.send, kind(sent))
            await anyio.wait_all_tasks_blocked()
            got = bytearray()
            while len(got) < len(sent):
                got += await far.receive(100_000)
            assert got == sent
            await near.send(b"")
            await near.send_eof()
            with pytest.raises(anyio.EndOfStream):
                await far.receive()

    anyio.run(main, backend=backend)


@BACKENDS
def test_one_task_in_each_direction(backend: str) -> None:
    async def main() -> None:
        async with stream_pair() as (near, _), anyio.create_task_group() as group:
            group.start_soon(near.receive)
            group.start_soon(near.send, bytes(1 << 24))
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(anyio.BusyResourceError, match="reading from"):
                await near.receive()
            with pytest.raises(anyio.BusyResourceError, match="writing to"):
                await near.send(b"x")
            with pytest.raises(ValueError, match="max_bytes"):
                await near.receive(0)
            group.cancel_scope.cancel()

    anyio.run(main, backend=backend)


@BACKENDS
def test_a_stream_that_is_closed_or_broken(backend: str) -> None:
    async def waits(call: Any, *args: Any) -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await call(*args)

    async def main() -> None:
        async with stream_pair() as (near, _):
            async with anyio.create_task_group() as group:
                group.start_soon(waits, near.receive)
                group.start_soon(waits, near.send, bytes(1 << 24))
                await anyio.wait_all_tasks_blocked()
                await near.aclose()
            await waits(near.receive)
            await waits(near.send, b"x")
        async with stream_pair() as (near, far):
            raw = near.extra(anyio.abc.SocketAttribute.raw_socket)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await near.aclose()
            with pytest.raises(anyio.BrokenResourceError):
                await far.receive()
            with pytest.raises(anyio.BrokenResourceError):
                await far.send(b"x")

    anyio.run(main, backend=backend)


@BACKENDS
def test_a_cancelled_scope_sends_and_receives_nothing(backend: str) -> None:
    async def main() -> None:
        async with stream_pair() as (near, far):
            await far.send(b"1")
            with anyio.CancelScope() as scope:
                scope.cancel()
                await near.receive()
            with anyio.CancelScope() as scope:
                scope.cancel()
                await near.send(b"2")
            assert await near.receive() == b"1"
            await near.send_eof()
            with pytest.raises(anyio.EndOfStream):
                await far.receive()

    anyio.run(main, backend=backend)


def test_streams_of_the_backend_trio_take_the_short_way_too() -> None:
    program = """
import anyio, uring_trio
uring_trio.install()

async def main():
    from anyio.abc import SocketStream
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        near = await anyio.connect_tcp("127.0.0.1", port)
        async with near, await listener.listeners[0].accept() as far:
            await near.send(b"x")
            print(await far.receive(), type(near).receive.__code__.co_filename.endswith("seams/anyio.py"))

anyio.run(main, backend="trio")
"""
    done = python(program)
    assert (done.stderr, done.stdout) == ("", "b'x' True\n")


def test_an_anyio_with_other_streams_takes_the_long_way() -> None:
    program = """
import anyio, uring_trio, trio
import anyio._backends._trio as backend
del backend.TestRunner._call_in_runner_task
uring_trio.install()

async def main():
    print(trio.lowlevel.current_statistics().io_statistics.backend)

anyio.run(main, backend="trio")
"""
    done = python(program)
    assert (done.stderr, done.stdout) == ("", "io_uring\n")


def test_it_is_among_the_backends() -> None:
    program = (
        "import anyio; before = anyio.get_all_backends(); import uring_trio.anyio\n"
        "print(before, anyio.get_all_backends(), 'uring' in anyio.get_available_backends())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "('asyncio', 'trio') ('asyncio', 'trio', 'uring') True\n"
