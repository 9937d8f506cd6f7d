"""`wait_task_rescheduled` and `reschedule` in C: results, errors, cancels and frames are those of Trio's."""

from __future__ import annotations

import collections.abc
import gc
import inspect
import sys
import traceback
import weakref
from typing import TYPE_CHECKING, Any

import outcome
import pytest
import trio
from trio.lowlevel import Abort, reschedule, wait_task_rescheduled

import uring_trio
from tests.trio.seams.modes import same, turns
from tests.trio.seams.scoped import told, without_numbers
from uring_trio import RingOptions
from uring_trio.seams import checkpoints, tasks
from uring_trio.seams.names import core_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMPILED = RingOptions(compiled=True)


@pytest.fixture(autouse=True)
def exchanged() -> Iterator[None]:
    """Every test begins without C, which the first compiled run brings."""
    checkpoints.restore()
    tasks.restore()
    yield
    checkpoints.restore()
    tasks.restore()


def succeeds(raise_cancel: Any) -> Abort:
    return Abort.SUCCEEDED


def frames(exc: BaseException) -> list[str]:
    return [each.name for each in traceback.extract_tb(exc.__traceback__)]


async def parked(wake: Callable[[trio.lowlevel.Task], object], abort: Any = succeeds) -> object:
    """What a task that parks gets from one that wakes it: the result, or the error with its frames."""
    found: list[object] = []

    async def child() -> None:
        task: Any = trio.lowlevel.current_task()
        before = task._cancel_points, task._schedule_points
        try:
            found.append(await wait_task_rescheduled(abort))
        except BaseException as exc:
            found.append([type(exc), without_numbers(exc), frames(exc)])
        found.append([task._cancel_points - before[0], task._schedule_points - before[1]])
        found.append([task._abort_func, task.custom_sleep_data, task._next_send, task._next_send_fn])

    await turns()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(child)
        await turns(2)
        (task,) = nursery.child_tasks
        task.custom_sleep_data = "data"
        found.append(told(lambda: wake(task)))
    return found


def twice(task: trio.lowlevel.Task) -> None:
    reschedule(task)
    reschedule(task)


def unwrapped() -> outcome.Value[int]:
    value = outcome.Value(1)
    value.unwrap()
    return value


class Odd(outcome.Value):  # type: ignore[misc,type-arg]
    def unwrap(self) -> str:
        return "odd"


@pytest.mark.parametrize(
    "wake",
    [
        reschedule,
        lambda task: reschedule(task, outcome.Value("value")),
        lambda task: reschedule(task, next_send=outcome.Value(None)),
        lambda task: reschedule(task, outcome.Error(ValueError("an error"))),
        lambda task: reschedule(task, outcome.capture(lambda: 1 / 0)),
        lambda task: reschedule(task, unwrapped()),
        lambda task: reschedule(task, Odd(2)),
        lambda task: reschedule(task, "no outcome"),
        twice,
        lambda task: task._runner.reschedule(task),
        lambda task: task.parent_nursery.cancel_scope.cancel(),
    ],
)
def test_wakes(wake: Any) -> None:
    async def program() -> object:
        return await parked(wake)

    same(program)


def test_an_outcome_is_used_once() -> None:
    async def program() -> object:
        value = outcome.Value(3)
        found = await parked(lambda task: reschedule(task, value))
        return [found, told(value.unwrap)]

    same(program)


def test_wrong_arguments_of_reschedule() -> None:
    async def program() -> object:
        await turns()
        runner = core_run.GLOBAL_RUN_CONTEXT.runner
        calls: list[Any] = [
            lambda: runner.reschedule(None),
            runner.reschedule,
            lambda: runner.reschedule(1, 2, 3),
        ]
        return list(map(told, calls))

    same(program)


@pytest.mark.parametrize("answer", [Abort.SUCCEEDED, Abort.FAILED])
@pytest.mark.parametrize("early", [True, False])
def test_cancels(answer: Abort, early: bool) -> None:
    async def program() -> object:
        await turns()
        found: list[object] = []

        async def child() -> None:
            task = trio.lowlevel.current_task()
            token = trio.lowlevel.current_trio_token()

            def abort(raise_cancel: Any) -> Abort:
                found.append("abort")
                if answer is Abort.FAILED:
                    token.run_sync_soon(reschedule, task, outcome.capture(raise_cancel))
                return answer

            try:
                await wait_task_rescheduled(abort_func=abort)
            except trio.Cancelled as exc:
                found.append(frames(exc)[:2])
                raise

        async with trio.open_nursery() as nursery:
            if early:
                nursery.cancel_scope.cancel()
            nursery.start_soon(child)
            await turns(3) if not early else None
            nursery.cancel_scope.cancel()
        return [found, nursery.cancel_scope.cancelled_caught]

    same(program)


def test_the_awaitable_looks_like_a_coroutine() -> None:
    async def program() -> list[object]:
        await turns()
        found: list[object] = []
        for wanted in (
            inspect.iscoroutine,
            inspect.getcoroutinestate,
            lambda coro: isinstance(coro, collections.abc.Coroutine),
            lambda coro: (coro.__name__, coro.__qualname__),
            lambda coro: (dict(coro.cr_frame.f_locals), coro.cr_code.co_name, coro.cr_await),
            lambda coro: told(lambda: coro.throw(ValueError("thrown"))),
            lambda coro: type(coro.send(None)).__name__,
            lambda coro: coro.send(None).abort_func is succeeds,
            lambda coro: [coro.send(None) and None, told(lambda: coro.send(outcome.Value(5)))],
            lambda coro: [coro.close(), told(lambda: coro.send(None))],
            lambda coro: [coro.send(None) and None, coro.close(), coro.cr_frame],
        ):
            coro = wait_task_rescheduled(succeeds)
            found.append(wanted(coro))  # type: ignore[no-untyped-call]
            coro.close()
        found += [told(wait_task_rescheduled), told(lambda: wait_task_rescheduled(1, 2))]  # type: ignore[arg-type,call-arg]
        return found

    same(program)


def test_frames_of_a_parked_task() -> None:
    """They may be looked at, and the task goes on in the coroutine that they are of."""

    async def program() -> object:
        names: list[str] = []

        def wake(task: trio.lowlevel.Task) -> None:
            names.extend(frame.f_code.co_name for frame, _ in task.iter_await_frames())
            reschedule(task, outcome.Value("seen"))

        return [await parked(wake), names]

    same(program)


def del_now(coro: object) -> None:
    """The only reference was the caller's."""


def test_a_call_that_is_never_awaited() -> None:
    async def program() -> None:
        await turns()
        with pytest.warns(RuntimeWarning, match="'wait_task_rescheduled' was never awaited"):
            del_now(wait_task_rescheduled(succeeds))

    same(program)


def test_parks_are_in_c() -> None:
    async def called() -> set[str]:
        names = set()

        def profile(frame: Any, event: str, arg: object) -> None:
            if event == "call":
                names.add(f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}")

        await turns()
        lot = trio.lowlevel.ParkingLot()
        async with trio.open_nursery() as nursery:
            sys.setprofile(profile)
            nursery.start_soon(lot.park)
            await turns(2)
            lot.unpark()
            await turns(2)
            sys.setprofile(None)
        return names

    stock = {"trio._core._run.reschedule", "outcome._impl.unwrap", "trio._core._traps._real_async_yield"}
    assert stock <= uring_trio.run(called, ring=RingOptions(compiled=False))
    assert not stock & uring_trio.run(called, ring=COMPILED)


def test_nothing_stays_behind() -> None:
    """Neither what a call holds after its end, nor a cycle through one that is dropped while it is parked."""

    class Held:
        call: Any = None

        def abort(self, raise_cancel: Any) -> Abort:
            return Abort.SUCCEEDED

    async def program() -> list[bool]:
        await turns()
        found = []
        lot = trio.lowlevel.ParkingLot()
        held = Held()
        gone = weakref.ref(held)

        async def child(held: Held) -> None:
            coro = wait_task_rescheduled(held.abort)
            del held
            await coro
            found.append(gone() is None)
            await lot.park()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, held)
            await turns(2)
            del held
            (task,) = nursery.child_tasks
            reschedule(task)
            await turns(2)
            lot.unpark()
        held = Held()
        gone = weakref.ref(held)
        held.call = wait_task_rescheduled(held.abort)
        held.call.send(None)
        del held
        gc.collect()
        return [*found, gone() is None]

    same(program)


def test_references_stay_level() -> None:
    async def main() -> list[int]:
        levels = []
        for _ in range(3):
            send, receive = trio.open_memory_channel[int](0)
            async with trio.open_nursery() as nursery, send, receive:
                nursery.start_soon(turns, 1)
                for number in range(200):
                    nursery.start_soon(send.send, number)
                    await receive.receive()
            gc.collect()
            kinds = (core_run.Task, outcome.Value, wait_task_rescheduled, succeeds)
            levels.append(sum(map(sys.getrefcount, kinds)))
        return levels

    levels = uring_trio.run(main, ring=COMPILED)
    assert levels[1] == levels[2]
