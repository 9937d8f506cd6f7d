"""Checkpoints in C: nobody can tell them from Trio's but by their speed."""

from __future__ import annotations

import collections.abc
import gc
import inspect
import signal
import sys
import threading
import traceback
import types
import warnings
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from trio.lowlevel import cancel_shielded_checkpoint, checkpoint, checkpoint_if_cancelled

import uring_trio
from tests.trio.seams.modes import same, turns
from uring_trio import RingOptions
from uring_trio.seams import checkpoints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FUNCTIONS = [checkpoint, cancel_shielded_checkpoint, checkpoint_if_cancelled]
COMPILED = RingOptions(compiled=True)


def ours(coro: object) -> bool:
    """Whether this is the awaitable in C."""
    return type(coro) is not types.CoroutineType


@pytest.fixture(params=FUNCTIONS, ids=lambda function: function.__name__)
def function(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(autouse=True)
def exchanged() -> Iterator[None]:
    """Every test begins without C, which the first compiled run brings."""
    checkpoints.restore()
    yield
    checkpoints.restore()


def test_a_step_in_c_gets_the_awaitable(function: Any) -> None:
    """And nobody else does: neither other runs, nor this one where Trio's loop steps the task."""

    async def made() -> bool:
        await turns()
        coro = function()
        await coro
        return ours(coro)

    class Nothing(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            pass

    assert uring_trio.run(made, ring=COMPILED)
    assert not uring_trio.run(made, ring=RingOptions(compiled=False))
    assert not uring_trio.run(made, ring=COMPILED, instruments=[Nothing()])
    assert not trio.run(made)
    coro = function()
    assert type(coro) is types.CoroutineType
    coro.close()


def test_the_function_stays_what_it_is(function: Any) -> None:
    def seen() -> list[object]:
        code = function.__code__
        return [
            inspect.iscoroutinefunction(function),
            inspect.signature(function),
            function.__doc__,
            function.__name__,
            function.__qualname__,
            function.__module__,
            inspect.getsource(function),
            (code.co_name, code.co_filename, code.co_firstlineno),
        ]

    before, code = seen(), function.__code__
    uring_trio.run(turns, ring=COMPILED)
    assert function.__code__ is not code
    assert seen() == before
    uring_trio.uninstall()
    assert function.__code__ is code
    uring_trio.run(turns, ring=COMPILED)
    assert function.__code__ is not code


def test_the_awaitable_looks_like_a_coroutine(function: Any) -> None:
    async def program() -> list[object]:
        await turns()
        found: list[object] = []
        for wanted in (
            inspect.iscoroutine,
            inspect.isawaitable,
            inspect.getcoroutinestate,
            lambda coro: isinstance(coro, collections.abc.Coroutine),
            lambda coro: isinstance(coro, types.CoroutineType),
            lambda coro: isinstance(coro, collections.abc.Generator),
            lambda coro: (coro.__name__, coro.__qualname__),
            lambda coro: repr(coro).rpartition(" at 0x")[0],
            lambda coro: (coro.cr_frame.f_lineno, coro.cr_code.co_name, coro.cr_running, coro.cr_await),
            lambda coro: weakref.ref(coro)() is coro,
            lambda coro: [name for name in dir(types.CoroutineType) if not hasattr(coro, name)],
            lambda coro: getattr(coro, "no_such_name", "none"),
        ):
            coro = function()
            found.append(wanted(coro))
            coro.close()
        return found

    same(program)


def test_methods_of_coroutines(function: Any) -> None:
    """Each in the three states that a checkpoint has: new, parked, over."""

    def told(call: Callable[[], object]) -> object:
        try:
            result = call()
        except BaseException as exc:
            return [
                type(exc).__name__,
                str(exc),
                [each.name for each in traceback.extract_tb(exc.__traceback__)],
            ]
        return getattr(result, "__name__", result)

    calls: list[Callable[[Any], object]] = [
        lambda coro: coro.send(None),
        lambda coro: coro.send("early"),
        lambda coro: coro.throw(ValueError("thrown")),
        lambda coro: coro.throw(KeyError, KeyError("thrown"), None),
        lambda coro: coro.throw("nothing"),
        lambda coro: coro.close(),
        lambda coro: next(coro.__await__()),
        lambda coro: setattr(coro, "__name__", "other") or coro.__name__,
        lambda coro: coro.cr_frame and coro.cr_frame.f_code.co_name,
        lambda coro: inspect.getcoroutinestate(coro),
    ]

    async def program() -> list[object]:
        await turns()
        found = []
        for call in calls:
            new = function()
            found.append(told(lambda coro=new: call(coro)))
            new.close()
            parked = function()
            told(lambda coro=parked: coro.send(None))
            found.append(told(lambda coro=parked: call(coro)))
            parked.close()
            over = function()
            over.close()
            found.append(told(lambda coro=over: call(coro)))
            done = function()
            await done
            found.append(told(lambda coro=done: call(coro)))
        return found

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # throw with three arguments
        same(program)


def test_generators_that_are_coroutines_yield_from_it(function: Any) -> None:
    @types.coroutine
    def allowed() -> Any:
        return (yield from function())

    def refused() -> Any:
        yield from function()

    async def program() -> list[object]:
        await turns()
        task = trio.lowlevel.current_task()
        found = [await allowed(), task._cancel_points, task._schedule_points]
        coro = function()
        for call in (lambda: next(refused()), lambda: iter(coro), lambda: list(coro)):
            with pytest.raises(TypeError):
                call()
        coro.close()
        return found

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # what was refused is never awaited
        same(program)


def test_points_are_counted(function: Any) -> None:
    async def program() -> tuple[int, int]:
        await turns()
        for _ in range(20):
            await function()
        task = trio.lowlevel.current_task()
        return task._cancel_points, task._schedule_points

    same(program)


def test_the_warning_of_a_checkpoint_never_awaited(function: Any) -> None:
    async def program() -> list[tuple[str, str, int]]:
        await turns()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            function()
            function()
            gc.collect()
            try:
                raise ValueError
            except ValueError:
                function()
        return [(str(each.message), each.filename, each.lineno) for each in caught]

    same(program)


def test_a_cancelled_scope(function: Any) -> None:
    """With the traceback of Trio's own function."""

    async def program() -> list[object]:
        found: list[object] = []
        for shield in (False, True):
            with trio.CancelScope() as scope:
                await turns()
                scope.cancel()
                with trio.CancelScope(shield=shield):
                    try:
                        await function()
                    except trio.Cancelled as exc:
                        found += [(each.name, each.line) for each in traceback.extract_tb(exc.__traceback__)]
                        raise
                found.append("passed")
            task = trio.lowlevel.current_task()
            found += [scope.cancelled_caught, task._cancel_points, task._schedule_points]
        return found

    same(program)


def test_a_scope_cancelled_while_the_task_is_parked(function: Any) -> None:
    async def program() -> list[object]:
        found: list[object] = []
        for scope in [trio.CancelScope() for _ in range(10)]:

            async def loop(scope: trio.CancelScope = scope) -> None:
                with scope:
                    while True:
                        await function()
                        await trio.lowlevel.cancel_shielded_checkpoint()
                        if function is cancel_shielded_checkpoint and scope.cancel_called:
                            break

            async with trio.open_nursery() as nursery:
                nursery.start_soon(loop)
                await turns(7)
                scope.cancel()
            found.append(scope.cancelled_caught)
        return found

    same(program)


def test_a_deadline() -> None:
    async def program() -> list[bool]:
        found = []
        for seconds in (-1, 0, 0.001):
            with trio.move_on_after(max(seconds, 0)) as scope:
                if seconds < 0:
                    scope.deadline = -1
                while True:
                    await trio.sleep(0)
            found.append(scope.cancelled_caught)
        return found

    same(program)


def test_frames_of_a_task_in_a_checkpoint() -> None:
    async def program() -> list[tuple[str, int]]:
        async def inner() -> None:
            await checkpoint()

        async def loops() -> None:
            for _ in range(100):
                await inner()

        found: list[tuple[str, int]] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(loops)
            await turns()
            (task,) = trio.lowlevel.current_task().child_nurseries[0].child_tasks
            found = [(frame.f_code.co_name, line) for frame, line in task.iter_await_frames()]
            await turns()
        return found

    assert [name for name, _ in same(program)][:3] == ["loops", "inner", "checkpoint"]


def test_as_the_function_of_a_task(function: Any) -> None:
    async def program() -> list[object]:
        await turns()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(function)
            (task,) = trio.lowlevel.current_task().child_nurseries[0].child_tasks
            found = [task.name, task.coro.cr_frame.f_code.co_name, repr(task).partition(" at ")[0]]
            with pytest.raises(TypeError) as caught:
                nursery.start_soon(function())
        return [*found, str(caught.value).partition(" at 0x")[0]]

    same(program)


def test_an_instrument_added_while_tasks_are_in_checkpoints() -> None:
    """What was begun in C is resumed in Trio's own loop."""

    class Counts(trio.abc.Instrument):
        steps = 0

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            self.steps += 1

    async def program() -> list[int]:
        counts = Counts()
        points = []

        async def task(function: Any) -> None:
            for _ in range(30):
                await function()
            points.append(trio.lowlevel.current_task()._cancel_points)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(task, checkpoint)
            nursery.start_soon(task, cancel_shielded_checkpoint)
            nursery.start_soon(turns, 30)
            await turns(5)
            trio.lowlevel.add_instrument(counts)
            await turns(5)
            trio.lowlevel.remove_instrument(counts)
        return [*sorted(points), counts.steps > 10]

    same(program)


def test_an_awaitable_that_is_awaited_elsewhere(function: Any) -> None:
    """Made in a step in C, awaited in a run on stock Trio of another thread, and by no run at all."""

    async def program() -> list[str]:
        await turns()
        coro, other = function(), function()

        async def awaits() -> str:
            await coro
            return "awaited"

        found: list[str] = []
        thread = threading.Thread(target=lambda: found.append(trio.run(awaits)))
        thread.start()
        thread.join()

        def drive() -> None:
            try:
                found.append(repr(other.send(None)))
            except BaseException as exc:
                found.append(f"{exc!r}")

        thread = threading.Thread(target=drive)
        thread.start()
        thread.join()
        other.close()
        return found

    same(program)


def test_an_answer_that_is_no_checkpoints(function: Any) -> None:
    """A task in a checkpoint is resumed with an error by a wrong reschedule: Trio's own words."""
    import outcome

    async def program() -> list[str]:
        await turns()
        found = []
        for answer in (outcome.Value(3), outcome.Error(ValueError("answer"))):
            coro = function()
            try:
                coro.send(None)
                coro.send(answer)
            except (ValueError, StopIteration) as exc:
                found.append(repr(exc))
            coro.close()
        return found

    same(program)


def test_ctrl_c_in_a_loop_of_checkpoints() -> None:
    """Whenever the signal comes, it ends the run, and leaves no checkpoint that was never awaited."""

    async def main(turn: int) -> None:
        async def others() -> None:
            while True:
                await checkpoint()

        def interrupt(thread: int) -> None:
            started.wait()
            for _ in range(turn * 10):
                pass
            signal.pthread_kill(thread, signal.SIGINT)

        started = threading.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            await turns()
            thread = threading.Thread(target=interrupt, args=[threading.get_ident()])
            thread.start()
            try:
                started.set()
                while True:
                    await checkpoint()
            finally:
                thread.join()

    for run in (trio.run, partial(uring_trio.run, ring=COMPILED)):
        for turn in range(30):
            with pytest.raises(BaseException) as caught:
                run(main, turn)
            _, others = BaseExceptionGroup("", [caught.value]).split(KeyboardInterrupt)
            assert others is None


def test_ctrl_c_between_the_call_and_its_await_gives_no_warning() -> None:
    async def main() -> None:
        await turns()
        coro = checkpoint()
        assert ours(coro)
        try:
            raise KeyboardInterrupt
        finally:
            del coro

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(KeyboardInterrupt):
            uring_trio.run(main, ring=COMPILED)
    assert len(caught) == 1  # deleted by a statement: nothing has interrupted the call itself


def test_channels_locks_and_sleeps_use_them() -> None:
    """Trio's own modules call the same functions."""

    async def program() -> list[object]:
        sender, receiver = trio.open_memory_channel[int](1)
        lock, limiter, event = trio.Lock(), trio.CapacityLimiter(1), trio.Event()
        event.set()
        found: list[object] = []
        for n in range(3):
            await sender.send(n)
            found.append(await receiver.receive())
            async with lock, limiter:
                await trio.sleep(0)
            await event.wait()
        with trio.CancelScope() as scope:
            scope.cancel()
            await sender.send(3)
        found.append([scope.cancelled_caught, sender.statistics().current_buffer_used])
        task = trio.lowlevel.current_task()
        return [*found, task._cancel_points, task._schedule_points]

    same(program)


def test_references_stay_level(function: Any) -> None:
    async def program() -> bool:
        kinds = (None, trio.lowlevel.current_task(), function)

        async def each_state() -> None:
            for _ in range(300):
                await function()
                function().close()
                parked = function()
                if function is not checkpoint_if_cancelled:
                    parked.send(None)
                assert parked.cr_frame
                parked.close()

        await each_state()
        gc.collect()
        before = [sys.getrefcount(kind) for kind in kinds], len(gc.get_objects())
        await each_state()
        gc.collect()
        after = [sys.getrefcount(kind) for kind in kinds], len(gc.get_objects())
        return all(abs(b - a) < 200 for a, b in zip(before[0], after[0])) and abs(after[1] - before[1]) < 200

    assert same(program)


def test_a_cycle_through_an_awaitable_is_collected() -> None:
    class Node:
        coro: Any = None

    async def program() -> list[bool]:
        await turns()
        node = Node()
        node.coro = checkpoint()
        node.coro.send(None)
        node.coro.cr_frame.f_globals  # noqa: B018  # from here on it is Trio's coroutine
        gone = weakref.ref(node)
        node.coro.close()
        del node
        gc.collect()
        return [gone() is None]

    same(program)


def test_a_function_that_something_was_put_around_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    async def other(argument: int = 0) -> None:
        await cancel_shielded_checkpoint()

    monkeypatch.setattr(trio.lowlevel, "checkpoint", other)
    code, before = other.__code__, checkpoint.__code__

    async def main() -> bool:
        await turns()
        return ours(coro := cancel_shielded_checkpoint()) or bool(coro.close())

    assert uring_trio.run(main, ring=COMPILED) is False
    assert other.__code__ is code
    assert checkpoint.__code__ is before
