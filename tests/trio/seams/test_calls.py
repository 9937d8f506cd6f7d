"""Calls in C that receive and send: a program runs on stock Trio, by coroutines on the ring, and in C."""

from __future__ import annotations

import contextlib
import errno
import signal
import socket as stdlib
import struct
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from anyio._backends._trio import SocketStream as AnyIOStream

import uring_trio
from tests.trio.bothways import CALL, compiled_here, kinds, on_ring, pair, parked, same, turns, warm
from uring_trio import RingOptions, UringStream

if TYPE_CHECKING:
    from collections.abc import Awaitable

RESET = struct.pack("ii", 1, 0)


def test_usual_calls_wait_in_c() -> None:
    async def program() -> list[str]:
        seen = []
        async with pair() as (near, far):
            for name, (receive, send) in (await kinds(near, far)).items():
                got = []

                async def take(receive: Any = receive, got: list[Any] = got) -> None:
                    got.append(await receive(100))

                async with trio.open_nursery() as nursery:
                    await parked(nursery, take)
                    await send(b"data")
                seen.append(f"{name} {got}")
        return seen

    assert len(on_ring(program)) == 3


def test_receives_and_sends() -> None:
    async def program() -> list[Any]:
        log: list[Any] = []
        async with pair() as (near, far):
            stream = trio.SocketStream(near)
            for size in (1, 100, 5000, 100_000):
                data = bytes(range(256)) * (size // 256 + 1)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(stream.send_all, data[:size])
                    received = b""
                    while len(received) < size:
                        received += await far.recv(100)
                log.append((size, received == data[:size]))
            log.append(await near.send(memoryview(b"abc")))
            log.append(await near.send(bytearray(b"def"), 0))
            while log[-1] != b"abcdef":
                log.append(await far.recv(100, stdlib.MSG_PEEK))
            log[:] = [each for each in log if not isinstance(each, bytes)]
            log.append(await far.recv(2))
            log.append(await stream.send_all(b""))
            far.shutdown(stdlib.SHUT_WR)
            log.append(
                [await stream.receive_some(), await stream.receive_some(max_bytes=1), await near.recv(5)]
            )
        return log

    same(program)


def test_a_flow_of_data_is_received_without_waiting_first() -> None:
    async def program() -> list[Any]:
        log: list[Any] = []
        size = 600_000
        data = bytes(range(256)) * (size // 256)
        async with pair() as (near, far):
            ways: dict[str, tuple[Any, Any]] = await kinds(near, far)
            for receive, _ in ways.values():
                received = b""

                async def take(receive: Any = receive) -> None:
                    nonlocal received
                    while len(received) < len(data):
                        received += await receive(100_000)

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(take)
                    await trio.SocketStream(far).send_all(data)
                assert received == data
                # What is large is taken at once, as long as more of it comes.
                await far.send(b"s")
                assert await receive(100_000) == b"s"
                await far.send(b"small")
                log.append(await receive(100_000))
            near._streaming = compiled_here()
            await far.send(b"at once")
            await trio.lowlevel.wait_readable(near)
            await turns()
            call = near.recv(50)
            if compiled_here():
                call.send(None)
                assert type(call) is CALL
                assert call.cr_await is None
                with pytest.raises(StopIteration) as stop:
                    call.send(None)
                log.append(stop.value.value)
            else:
                log.append(await call)
            near._streaming = compiled_here()
            with trio.CancelScope() as scope:
                scope.cancel()
                await near.recv(50)
            await far.send(b"kept")
            log.append(await near.recv(50))
            near._streaming = compiled_here()
            far.shutdown(stdlib.SHUT_WR)
            log.append(await near.recv(50))
        return log

    assert on_ring(program) == [b"small"] * 3 + [b"at once", b"kept", b""]


def test_streams_of_anyio() -> None:
    """AnyIO's streams say what they say on stock Trio."""

    async def program() -> list[str]:
        log: list[str] = []

        async def note(call: Awaitable[Any]) -> None:
            try:
                log.append(repr(await call))
            except Exception as exc:
                log.append(type(exc).__name__)

        async with pair() as (first, second):
            near, far = AnyIOStream(first), AnyIOStream(second)
            await warm(first, second)
            for _ in range(3):
                await note(near.send(b"data"))
                await note(far.receive(100))
                async with trio.open_nursery() as nursery:
                    await parked(nursery, far.receive, 100)
                    await note(far.receive(100))
                    await near.send(b"taken")
                async with trio.open_nursery() as nursery:
                    await parked(nursery, far.receive, 100)
                    nursery.cancel_scope.cancel()
            await note(near.send(b"x" * 100_000))
            total = 0
            while total < 100_000:
                total += len(await far.receive())
            log.append(str(total))
            await near.send_eof()
            await note(far.receive(100))
            await note(near.send(b"late"))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(note, near.receive(100))
                await turns()
                await near.aclose()
            await note(near.receive(100))
            await note(near.send(b"x"))
        return log

    log = same(program)
    assert log.count("BusyResourceError") == 3
    assert log[-3:] == ["ClosedResourceError"] * 3


def test_points_are_counted_alike() -> None:
    async def program() -> list[int]:
        async with pair() as (near, _):
            stream = trio.SocketStream(near)
            task: Any = trio.lowlevel.current_task()
            before = task._cancel_points, task._schedule_points
            for _ in range(20):
                await near.send(b"x" * 100)
                await stream.send_all(b"y" * 100)
            return [task._cancel_points - before[0], task._schedule_points - before[1]]

    assert same(program) == [40, 40]


def test_a_send_lets_others_run() -> None:
    async def program() -> bool:
        ran = 0

        async def count() -> None:
            nonlocal ran
            while True:
                ran += 1
                await trio.lowlevel.checkpoint()

        async with pair() as (near, _), trio.open_nursery() as nursery:
            nursery.start_soon(count)
            await trio.lowlevel.checkpoint()
            before = ran
            for _ in range(50):
                await near.send(b"x")
            nursery.cancel_scope.cancel()
            return ran - before >= 49

    assert same(program)


def test_a_cancel_ends_a_receive_and_loses_nothing() -> None:
    async def program() -> list[Any]:
        log: list[Any] = []
        async with pair() as (near, far):
            for receive, send in (await kinds(near, far)).values():
                for _ in range(3):
                    with trio.move_on_after(0.001) as scope:
                        await receive(100)
                    log.append(scope.cancelled_caught)
                    with trio.CancelScope() as scope:
                        scope.cancel()
                        await receive(100)
                    log.append(scope.cancelled_caught)
                    async with trio.open_nursery() as nursery:
                        await parked(nursery, receive, 100)
                        nursery.cancel_scope.cancel()
                    log.append(nursery.cancel_scope.cancelled_caught)
                    with trio.CancelScope() as scope:
                        scope.cancel()
                        await send(b"never")
                    log.append(scope.cancelled_caught)
                    await send(b"kept")
                    log.append(await receive(100))
            return log

    log = on_ring(program)
    assert log.count(b"kept") == 9
    assert False not in log


def test_a_result_beats_a_cancel() -> None:
    async def program() -> bool:
        async with pair() as (near, far):
            for _ in range(20):
                got = b""
                scope = trio.CancelScope()

                async def take(scope: trio.CancelScope = scope) -> None:
                    nonlocal got
                    with scope:
                        got = await near.recv(100)

                async with trio.open_nursery() as nursery:
                    await parked(nursery, take)
                    await far.send(b"data")
                    scope.cancel()
                if not got:
                    got = await near.recv(100)
                assert got == b"data"
        return True

    assert same(program)


def test_a_close_wakes_a_receive() -> None:
    async def program() -> list[str]:
        log = []
        for which in range(3):
            async with pair() as (near, far):
                ways = await kinds(near, far)
                receive = list(ways.values())[min(which, len(ways) - 1)][0]

                async def take(receive: Any = receive) -> None:
                    with pytest.raises(trio.ClosedResourceError) as info:
                        await receive(100)
                    log.append(str(info.value))

                async with trio.open_nursery() as nursery:
                    await parked(nursery, take)
                    near.close()
        return log

    assert same(program) == ["another task closed this fd"] * 3


def test_two_tasks_cannot_receive() -> None:
    async def program() -> list[str]:
        log = []
        async with pair() as (near, far):
            for receive, _ in (await kinds(near, far)).values():
                async with trio.open_nursery() as nursery:
                    await parked(nursery, receive, 100)
                    for _ in range(3):
                        with pytest.raises(trio.BusyResourceError) as info:
                            await receive(100)
                        log.append(str(info.value))
                    nursery.cancel_scope.cancel()
        return sorted(set(log))

    same(program)


def test_two_tasks_cannot_send() -> None:
    async def program() -> list[str]:
        log = []
        async with pair() as (near, _):
            streams: list[Any] = [trio.SocketStream(near)]
            with contextlib.suppress(TypeError):
                streams.append(UringStream(near))
            for stream in streams:

                async def send(stream: Any = stream) -> None:
                    for _ in range(5):
                        try:
                            await stream.send_all(b"x")
                        except trio.BusyResourceError as exc:
                            log.append(str(exc).partition("this")[0])

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(send)
                    nursery.start_soon(send)
                await stream.send_all(b"free again")
        return sorted(set(log))

    assert same(program) == ["another task is currently sending data on "]


def test_errors_of_the_connection() -> None:
    async def program() -> list[str]:
        log = []
        for which in range(6):
            async with pair() as (near, far):
                ways = await kinds(near, far)
                receive = list(ways.values())[min(which // 2, len(ways) - 1)][0]
                send = list((await kinds(far, near)).values())[min(which // 2, len(ways) - 1)][1]
                far.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_LINGER, RESET)
                far.close()
                await trio.lowlevel.wait_readable(near)
                calls = [lambda: receive(100), lambda: send(b"x")]
                for call in calls[:: -1 if which % 2 else 1] + calls:
                    try:
                        log.append(repr(await call()))
                    except (OSError, trio.BrokenResourceError) as exc:
                        cause: Any = exc.__cause__ or exc
                        log.append(f"{type(exc).__name__} {cause.errno}")
        return log[:8]

    log = same(program)
    assert f"ConnectionResetError {errno.ECONNRESET}" in log
    assert f"BrokenPipeError {errno.EPIPE}" in log


def test_a_failure_leaves_the_stream_free() -> None:
    async def program() -> list[str]:
        log = []
        async with pair() as (near, far):
            stream = trio.SocketStream(near)
            far.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_LINGER, RESET)
            far.close()
            await trio.lowlevel.wait_readable(near)
            for _ in range(3):
                with pytest.raises(trio.BrokenResourceError) as info:
                    await stream.send_all(b"x")
                log.append(str(info.value))
            near.close()
            for call in (stream.send_all(b"x"), stream.receive_some(10)):
                with pytest.raises(trio.ClosedResourceError) as closed:
                    await call
                log.append(str(closed.value))
        return log

    same(program)


def test_wrong_arguments() -> None:
    async def program() -> list[str]:
        log = []
        async with pair() as (near, _):
            stream: Any = trio.SocketStream(near)
            for call in (
                lambda: near.recv(-1),
                lambda: near.recv("10"),
                lambda: near.recv(),
                lambda: near.recv(1, 2, 3),
                lambda: near.send("text"),
                lambda: near.send(memoryview(b"abcd")[::2]),
                lambda: stream.receive_some(0),
                lambda: stream.send_all(None),
                lambda: stream.send_all(),
            ):
                try:
                    await call()
                except Exception as exc:
                    log.append(type(exc).__name__)
        return log

    assert len(same(program)) == 9


def test_ctrl_c_wakes_a_receive() -> None:
    async def main() -> None:
        async with pair() as (near, _), trio.open_nursery() as nursery:

            async def press() -> None:
                await turns()
                signal.raise_signal(signal.SIGINT)

            nursery.start_soon(press)
            await near.recv(100)

    for compiled in (False, True):
        with pytest.raises((KeyboardInterrupt, BaseExceptionGroup)) as info:
            uring_trio.run(main, ring=RingOptions(compiled=compiled))
        exc: BaseException | None = info.value
        assert isinstance(exc, KeyboardInterrupt) or exc.subgroup(KeyboardInterrupt)  # type: ignore[attr-defined]


def test_sockets_of_another_run() -> None:
    """A socket that a run in C has prepared works on in a later one, and in a stock run."""
    near, far = stdlib.socketpair()
    sockets: list[Any] = []

    async def program() -> bytes:
        if not sockets:
            sockets.extend(map(trio.socket.from_stdlib_socket, (near, far)))
        await warm(*sockets)
        await sockets[0].send(b"data")
        data: bytes = await sockets[1].recv(100)
        return data

    with near, far:
        for _ in range(2):
            assert uring_trio.run(program, ring=RingOptions(compiled=True)) == b"data"
            assert trio.run(program) == b"data"
            assert uring_trio.run(program, ring=RingOptions(compiled=False)) == b"data"
