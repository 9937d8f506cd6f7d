"""The first calls of a connection and its last: on stock Trio, by coroutines, and in C."""

from __future__ import annotations

import errno
import os
import resource
import socket as stdlib
import struct
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.trio.bothways import CALL, compiled_here, on_ring, parked, same, turns
from uring_trio.core import engine

if TYPE_CHECKING:
    from pathlib import Path

RESET = struct.pack("ii", 1, 0)


async def listening(family: int, address: Any) -> Any:
    listener = trio.socket.socket(family)
    await listener.bind(address)
    listener.listen()
    return listener


async def connected(listener: Any) -> tuple[Any, Any]:
    near = trio.socket.socket(listener.family)
    await near.connect(listener.getsockname())
    far, _ = await listener.accept()
    return near, far


def known(sock: Any) -> bool:
    """Whether the run keeps anything for a socket."""
    return sock.fileno() in engine.current().owners


def in_one_step(call: Any) -> Any:
    """The result of a call in C that had to wait for nothing: one yield, and an end."""
    assert type(call) is CALL
    call.send(None)
    assert call.cr_await is None
    with pytest.raises(StopIteration) as stop:
        call.send(None)
    return stop.value.value


@pytest.mark.parametrize("kind", ["inet", "inet6", "abstract", "file"])
@pytest.mark.parametrize("named", [True, False])
def test_accepted_sockets_are_as_in_trio(kind: str, named: bool, tmp_path: Path) -> None:
    family, place = {
        "inet": (stdlib.AF_INET, ("127.0.0.1", 0)),
        "inet6": (stdlib.AF_INET6, ("::1", 0)),
        "abstract": (stdlib.AF_UNIX, f"\0uring-trio-{os.getpid()}"),
        "file": (stdlib.AF_UNIX, str(tmp_path / "listener")),
    }[kind]

    async def program() -> Any:
        await turns()
        client: Any = str(tmp_path / "client") if kind == "file" else f"\0uring-trio-{os.getpid()}-client"
        log: list[Any] = []
        with await listening(family, place) as listener, trio.socket.socket(family) as near:
            if named and family == stdlib.AF_UNIX:
                await near.bind(client)
            await near.connect(listener.getsockname())
            if compiled_here():
                far, address = in_one_step(listener.accept())
            else:
                far, address = await listener.accept()
            with far:
                assert address == near.getsockname() == far.getpeername()
                log.append(type(address))
                log.append((far.family, far.type, far.proto, far._sock.gettimeout(), far.get_inheritable()))
                log.append(far.did_shutdown_SHUT_WR)
                log.append(not os.get_blocking(far.fileno()))
        for path in (client, place):
            if kind == "file" and os.path.exists(path):
                os.unlink(path)
        return log

    same(program)


def test_accepts_that_fail() -> None:
    async def program() -> list[Any]:
        await turns()
        log: list[Any] = []

        async def note(sock: Any) -> None:
            try:
                await sock.accept()
            except OSError as exc:
                log.append((type(exc), exc.errno))

        with trio.socket.socket() as sock:
            await note(sock)
            await note(sock)
        await note(sock)
        with await listening(stdlib.AF_INET, ("127.0.0.1", 0)) as listener, trio.socket.socket() as near:
            await near.connect(listener.getsockname())
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (listener.fileno(), limits[1]))
            try:
                await note(listener)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            far, _ = await listener.accept()  # it stayed in the backlog
            far.close()
        return log

    assert same(program)[-1] == (OSError, errno.EMFILE)


def test_an_accept_that_waits_and_one_that_is_cancelled() -> None:
    async def program() -> list[Any]:
        await turns()
        log: list[Any] = []
        with await listening(stdlib.AF_INET, ("127.0.0.1", 0)) as listener:
            for _ in range(3):
                with trio.move_on_after(0.001) as scope:
                    await listener.accept()
                log.append(scope.cancelled_caught)
                near, far = await connected(listener)
                with near, far:
                    await near.send(b"x")
                    log.append(await far.recv(10))
            with trio.CancelScope() as scope:
                scope.cancel()
                await listener.accept()
            log.append(scope.cancelled_caught)
        return log

    same(program)


def test_a_connection_that_never_waits_leaves_no_state() -> None:
    async def program() -> list[Any]:
        await turns()
        log: list[Any] = []
        with await listening(stdlib.AF_INET, ("127.0.0.1", 0)) as listener:
            near, far = await connected(listener)
            with near, far:
                await near.send(b"data")
                near.shutdown(stdlib.SHUT_WR)
                await trio.sleep(0)
                if compiled_here():
                    log += [in_one_step(far.recv(2)), in_one_step(far.recv(10)), in_one_step(far.recv(10))]
                    assert not known(far)
                else:
                    log += [await far.recv(2), await far.recv(10), await far.recv(10)]
                await far.send(b"answer")
                log.append(await near.recv(100))
            log.append((near.fileno(), far.fileno()))
        return log

    assert on_ring(program) == [b"da", b"ta", b"", b"answer", (-1, -1)]


def test_the_first_wait_is_in_c_and_later_ones_too() -> None:
    async def program() -> list[Any]:
        await turns()
        log: list[Any] = []
        with await listening(stdlib.AF_INET, ("127.0.0.1", 0)) as listener:
            for size in (100, 3, 100):
                near, far = await connected(listener)
                with near, far:

                    async def receive(far: Any = far, size: int = size) -> None:
                        log.append(await far.recv(size))

                    for data in (b"one", b"two"):
                        async with trio.open_nursery() as nursery:
                            await parked(nursery, receive)
                            await near.send(data)
                    number = far.fileno()
                    assert known(far)
                assert number not in engine.current().owners
        return log

    assert on_ring(program) == [b"one", b"two"] * 3


def test_an_operation_serves_one_socket_after_the_other() -> None:
    """What receives in C stays with the operation, and is aimed at the next socket."""

    async def program() -> list[Any]:
        await turns()
        log: list[Any] = []
        with await listening(stdlib.AF_INET, ("127.0.0.1", 0)) as listener:
            pairs = [await connected(listener) for _ in range(4)]
            for turn in range(3):
                for n, (near, far) in enumerate(pairs):
                    async with trio.open_nursery() as nursery:

                        async def receive(far: Any = far, size: int = 10 + turn) -> None:
                            log.append(await far.recv(size))

                        nursery.start_soon(receive)
                        await turns()
                        await near.send(b"%d of %d......" % (n, turn))
                    with near, far:
                        pass
                    pairs[n] = await connected(listener)
                pairs.reverse()
            for near, far in pairs:
                with near, far:
                    pass
        return log

    log = same(program)
    assert [each[:6] for each in log] == [b"%d of %d" % (n, turn) for turn in range(3) for n in range(4)]
    assert {len(each) for each in log} == {10, 11, 12}


@pytest.mark.parametrize("kind", ["socket", "stream"])
def test_a_reset_is_told_once(kind: str) -> None:
    async def program() -> list[Any]:
        await turns()
        log: list[Any] = []
        with await listening(stdlib.AF_INET, ("127.0.0.1", 0)) as listener:
            near, far = await connected(listener)
            with far:
                near.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_LINGER, RESET)
                near.close()
                receive = far.recv if kind == "socket" else trio.SocketStream(far).receive_some
                for _ in range(2):
                    try:
                        log.append(await receive(10))
                    except (OSError, trio.BrokenResourceError) as exc:
                        log.append(type(exc))
        return log

    wrong = ConnectionResetError if kind == "socket" else trio.BrokenResourceError
    assert same(program) == [wrong, b""]


@pytest.mark.parametrize("end", ["close", "exit"])
@pytest.mark.parametrize("waits", ["recv", "wait_readable"])
def test_closing_wakes_the_task_that_waits(end: str, waits: str) -> None:
    async def program() -> list[Any]:
        await turns()
        log: list[Any] = []
        with await listening(stdlib.AF_INET, ("127.0.0.1", 0)) as listener:
            near, far = await connected(listener)

            async def wait() -> None:
                try:
                    await (far.recv(10) if waits == "recv" else trio.lowlevel.wait_readable(far))
                except trio.ClosedResourceError as exc:
                    log.append(str(exc))

            with near:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(wait)
                    await turns()
                    if end == "close":
                        far.close()
                        far.close()
                    else:
                        far.__exit__(None, None, None)
                        far.__exit__(None, None, None)
                log.append(await near.recv(10))
        return log

    # Stock Trio's end of a block forgets who waits.
    compare = same if end == "close" else on_ring
    assert compare(program) == ["another task closed this fd", b""]


def test_a_number_that_was_closed_without_notice() -> None:
    """The next socket of that number ends the wait when it is closed, as on stock Trio."""

    async def program() -> list[Any]:
        await turns()
        log: list[Any] = []
        with await listening(stdlib.AF_INET, ("127.0.0.1", 0)) as listener:
            near, far = await connected(listener)
            first, second = await connected(listener)

            async def wait() -> None:
                try:
                    await trio.lowlevel.wait_readable(far.fileno())
                except trio.ClosedResourceError:
                    log.append("closed")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await turns()
                os.dup2(second.fileno(), far.fileno())
                await first.send(b"data")
                await trio.sleep(0)
                log.append(await far.recv(10))
                await turns()
                far.close()
            for sock in (near, first, second):
                sock.close()
        return log

    assert same(program) == [b"data", "closed"]


def test_an_argument_too_many_is_refused_by_the_call() -> None:
    async def main() -> None:
        with trio.socket.socket() as sock:
            await turns()
            with pytest.raises(TypeError, match="2 were given"):
                sock.accept(5)  # type: ignore[call-arg]

    same(main)
