"""Calls in C that receive and send: a program runs on stock Trio, by coroutines on the ring, and in C."""

from __future__ import annotations

import contextlib
import errno
import gc
import inspect
import signal
import socket as stdlib
import struct
import sys
import types
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

import uring_trio
from uring_trio import RingOptions, UringStream, seams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

CALL = seams.calls.C.Call
RESET = struct.pack("ii", 1, 0)


def compiled_here() -> bool:
    statistics: Any = trio.lowlevel.current_statistics().io_statistics
    return bool(getattr(statistics, "compiled_ticks", 0))


def same(program: Callable[[], Awaitable[Any]]) -> Any:
    """What a program returns: stock Trio, coroutines on the ring and calls in C agree."""
    stock = trio.run(program)
    plain = uring_trio.run(program, ring=RingOptions(compiled=False))
    compiled = uring_trio.run(program, ring=RingOptions(compiled=True))
    assert stock == plain == compiled
    return compiled


def on_ring(program: Callable[[], Awaitable[Any]]) -> Any:
    """The same without stock Trio, for what it does not have."""
    plain = uring_trio.run(program, ring=RingOptions(compiled=False))
    compiled = uring_trio.run(program, ring=RingOptions(compiled=True))
    assert plain == compiled
    return compiled


@contextlib.asynccontextmanager
async def pair() -> AsyncIterator[tuple[Any, Any]]:
    """Two connected TCP sockets, in which the second one has received before: its reader is set up."""
    with trio.socket.socket() as listener:
        await listener.bind(("127.0.0.1", 0))
        listener.listen()
        near = trio.socket.socket()
        await near.connect(listener.getsockname())
        far, _ = await listener.accept()
    with near, far:
        await warm(near, far)
        yield near, far


async def warm(near: Any, far: Any) -> None:
    """Until both have a reader for 100 bytes, and the run is in its ticks."""
    for one, other in ((near, far), (far, near)):
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.recv, 100)
                await turns()
                await other.send(b"warm")


async def turns() -> None:
    """Enough for a new task to wait. Where a task waits for all others to be blocked, no ticks run in C."""
    for _ in range(6):
        await trio.lowlevel.checkpoint()


def in_c(task: Any) -> bool:
    """Whether a task is parked by a call in C."""
    inner = task.coro
    while type(inner) is types.CoroutineType and inner.cr_await is not None:
        inner = inner.cr_await
    return type(inner) is CALL and inner.cr_await is None


async def parked(nursery: trio.Nursery, fn: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """Starts a task and returns it when it waits; in a compiled run it does so in C."""
    task = await nursery.start(_tell, fn, args)
    await turns()
    assert in_c(task) is compiled_here()
    return task


async def _tell(fn: Any, args: Any, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
    task_status.started(trio.lowlevel.current_task())
    await trio.lowlevel.checkpoint()
    await fn(*args)


async def kinds(near: Any, far: Any) -> dict[str, tuple[Any, Any]]:
    """Ways to receive and to send in this run, of the same pair of sockets."""
    found = {"socket": (near.recv, far.send)}
    for make in (trio.SocketStream, UringStream):
        with contextlib.suppress(TypeError):
            ends = make(near), make(far)
            found[make.__name__] = (ends[0].receive_some, ends[1].send_all)
    await warm(near, far)  # a stream sets options, after which a socket looks again how to receive
    return found


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


def test_what_others_see_of_a_method() -> None:
    async def program() -> None:
        async with pair() as (near, far):
            for method in (
                near.recv,
                near.send,
                trio.SocketStream(near).receive_some,
                UringStream(far).send_all,
            ):
                function = inspect.unwrap(method)
                assert inspect.iscoroutinefunction(method)
                assert inspect.iscoroutinefunction(method.__func__)
                assert inspect.ismethod(method)
                assert method.__name__ == function.__name__
                assert method.__doc__ == function.__doc__
                assert method.__module__ == function.__module__
                assert (
                    list(inspect.signature(method).parameters)
                    == list(inspect.signature(function).parameters)[1:]
                )
                assert inspect.getsource(method).lstrip().startswith(("@", "async"))
            call = near.recv(100)
            assert type(call) is (CALL if compiled_here() else types.CoroutineType)
            assert inspect.isawaitable(call)
            assert "RingSocket.recv" in repr(call)
            assert call.__qualname__ == "RingSocket.recv"
            assert call.cr_code.co_name == call.cr_frame.f_code.co_name == "recv"
            assert call.cr_await is None
            assert not call.cr_running
            call.close()

    on_ring(program)


def test_a_call_that_nobody_awaits() -> None:
    async def program() -> list[str]:
        async with pair() as (near, _):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                near.recv(100)
                near.send(b"x")
                gc.collect()
            closed = near.recv(100)
            closed.close()
            return [str(warning.message) for warning in caught]

    assert on_ring(program) == [
        "coroutine 'RingSocket.recv' was never awaited",
        "coroutine 'RingSocket.send' was never awaited",
    ]


def test_an_exception_between_a_call_and_its_await_is_all_that_is_told() -> None:
    async def program() -> list[str]:
        async with pair() as (near, _):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                with pytest.raises(ZeroDivisionError):
                    print(near.recv(100), 1 / 0)
            return [str(warning.message) for warning in caught]

    assert uring_trio.run(program, ring=RingOptions(compiled=True)) == []


def test_the_protocol_of_coroutines() -> None:
    async def program() -> list[str]:
        log = []

        def outcome_of(fn: Callable[..., Any], *args: Any) -> None:
            try:
                log.append(repr(fn(*args)))
            except BaseException as exc:
                log.append(f"{type(exc).__name__}: {exc}")

        async with pair() as (near, _):
            for make in (lambda: near.send(b"x"), lambda: near.recv(100)):
                call = make()
                outcome_of(call.send, 1)
                outcome_of(call.throw, ValueError("thrown"))
                outcome_of(call.send, None)
                outcome_of(call.throw, ValueError("again"))
                outcome_of(call.close)
                call = make()
                outcome_of(call.throw, ValueError, "by class")
                call = make()
                outcome_of(call.close)
                outcome_of(call.send, None)
            call = near.send(b"x").__await__()
            log.append(type(next(call)).__name__)
            outcome_of(call.__next__)
            call = near.send(b"x")
            call.send(None)
            outcome_of(call.throw, ValueError("while it waits"))
            outcome_of(call.close)
            log[:] = [each for each in log if "reuse" not in each]  # which call says so differs
        return log

    log = on_ring(program)
    assert "ValueError: while it waits" in log


def test_a_call_can_be_a_task() -> None:
    async def program() -> list[bytes]:
        async with pair() as (near, far):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(near.recv, 100)
                nursery.start_soon(trio.SocketStream(far).receive_some)
                await turns()
                frames = [
                    [frame.f_code.co_name for frame, _ in task.iter_await_frames()]
                    for task in nursery.child_tasks
                ]
                assert sorted(names[0] for names in frames) == ["receive_some", "recv"]
                await near.send(b"to far")
                await far.send(b"to near")
                with pytest.raises(TypeError, match="coroutine object"):
                    nursery.start_soon(near.recv(100))
        return []

    on_ring(program)


def test_under_a_trace_function() -> None:
    async def program() -> list[bytes]:
        log = []
        async with pair() as (near, far):
            before = sys.gettrace()
            sys.settrace(lambda *_: None)
            try:
                for _ in range(3):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(near.recv, 100)
                        await turns()
                        await far.send(b"data")
                    await far.send(b"more")
                    log.append(await near.recv(100))
            finally:
                sys.settrace(before)
        return log

    same(program)


def test_a_task_that_is_thrown_into_frees_its_guard() -> None:
    async def program() -> bool:
        async with pair() as (near, _):
            stream = UringStream(near)
            call = stream.send_all(b"x")
            call.send(None)
            assert stream._sending
            with pytest.raises(ValueError, match="thrown"):
                call.throw(ValueError("thrown"))
            assert not stream._sending
            call = stream.send_all(b"x")
            call.send(None)
            del call
            gc.collect()
            return stream._sending

    assert on_ring(program) is False


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


def test_nothing_is_left_behind() -> None:
    async def program() -> bool:
        async with pair() as (near, far):
            for receive, send in (await kinds(near, far)).values():
                for _ in range(20):
                    await send(b"x" * 50)
                    await receive(100)
            gc.collect()
            watched = [None, True, False, seams.DONE, near, far, trio.lowlevel.current_task()]
            before = [sys.getrefcount(each) for each in watched]
            for receive, send in (await kinds(near, far)).values():
                for _ in range(2000):
                    await send(b"x" * 50)
                    await receive(100)
                    near.recv(100).close()
            gc.collect()
            after = [sys.getrefcount(each) for each in watched]
            calls = sum(type(each) is CALL for each in gc.get_objects())
            return all(abs(b - a) < 200 for a, b in zip(before, after)) and calls < 10

    assert on_ring(program)


def test_the_table_is_level_after_it() -> None:
    """Each operation is given back once, by whichever end of a wait."""

    async def program() -> bool:
        manager: Any = trio.lowlevel.current_task()._runner.io_manager  # type: ignore[attr-defined]
        taken = len(manager.table)
        for _ in range(30):
            async with pair() as (near, far):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(near.recv, 100)
                    with contextlib.suppress(trio.ClosedResourceError):
                        await far.send(b"x")
                with trio.move_on_after(0.0005):
                    await far.recv(100)
        await trio.testing.wait_all_tasks_blocked()
        free = {id(op) for op in manager.table.free}
        return len(manager.table) - taken < 5 and len(free) == len(manager.table.free)

    assert on_ring(program)
