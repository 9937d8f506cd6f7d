"""Calls in C as others see them: as coroutines that are awaited once and leave nothing behind."""

from __future__ import annotations

import contextlib
import gc
import inspect
import sys
import types
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

import uring_trio
from tests.trio.bothways import CALL, compiled_here, kinds, on_ring, pair, same, turns
from uring_trio import RingOptions, UringStream, seams

if TYPE_CHECKING:
    from collections.abc import Callable


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
            assert inspect.getcoroutinestate(call) == inspect.CORO_CREATED
            assert hasattr(call, "cr_state") == hasattr(types.CoroutineType, "cr_state")
            call.close()

    on_ring(program)


def test_the_state_of_a_call() -> None:
    """As `inspect` and debuggers ask for it: new, waiting in C, waiting in its coroutine, over."""

    async def program() -> list[str]:
        async with pair() as (near, far):
            found = []
            for size in (100, 50):  # the reader is set up for one of them
                call = near.recv(size)
                found.append(inspect.getcoroutinestate(call))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(lambda call=call: call)
                    await turns()
                    found.append(inspect.getcoroutinestate(call))
                    await far.send(b"x")
                found.append(inspect.getcoroutinestate(call))
            return found

    assert on_ring(program) == ["CORO_CREATED", "CORO_SUSPENDED", "CORO_CLOSED"] * 2


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
                outcome_of(call.throw, ValueError)
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


def test_a_coroutine_that_closes_its_own_call_stays_until_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """The call holds the only reference to it."""
    unraisable = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    log = []

    class Holder:
        async def send(self, data: bytes) -> None:
            try:
                await trio.sleep_forever()
            finally:
                with pytest.raises(ValueError, match="already executing"):
                    call.close()
                log.append(data)

    async def program() -> None:
        nonlocal call
        await trio.lowlevel.checkpoint()
        call = method.__get__(Holder())(b"its own")
        assert type(call) is CALL
        call.send(None)
        call.close()

    call: Any = None
    method = seams.ticks.C.Method("send", False, Holder.send, None, None, None, None, None, None)
    uring_trio.run(program, ring=RingOptions(compiled=True))
    assert log == [b"its own"]
    assert not unraisable


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


def test_nothing_is_left_behind() -> None:
    async def program() -> bool:
        async with pair() as (near, far):
            for receive, send in (await kinds(near, far)).values():
                for _ in range(20):
                    await send(b"x" * 50)
                    await receive(100)
            gc.collect()
            watched = [None, True, False, seams.DONE, near, far, trio.lowlevel.current_task()]
            # From 3.12 on some objects are immortal: the interpreter counts few of their references.
            watched = [each for each in watched if sys.getrefcount(each) < 1 << 30]
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
