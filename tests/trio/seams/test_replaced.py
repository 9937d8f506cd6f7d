"""Functions of Trio's that a program replaces, as tests and tracers do: the ring calls them as often as stock
Trio does."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio import lowlevel

from tests.trio.seams.modes import same, turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# No closures: a function without one may have its code exchanged, which Trio's own ones have.
_told: list[str] = []
_checkpoint = lowlevel.checkpoint
_cancel_shielded_checkpoint = lowlevel.cancel_shielded_checkpoint
_checkpoint_if_cancelled = lowlevel.checkpoint_if_cancelled
_wait_task_rescheduled = lowlevel.wait_task_rescheduled
_current_task = lowlevel.current_task
_reschedule = lowlevel.reschedule


async def checkpoint() -> None:
    _told.append("checkpoint")
    await _checkpoint()


async def cancel_shielded_checkpoint() -> None:
    _told.append("cancel_shielded_checkpoint")
    await _cancel_shielded_checkpoint()


async def checkpoint_if_cancelled() -> None:
    _told.append("checkpoint_if_cancelled")
    await _checkpoint_if_cancelled()


async def wait_task_rescheduled(abort_func: Any) -> Any:
    _told.append("wait_task_rescheduled")
    return await _wait_task_rescheduled(abort_func)


def current_task() -> Any:
    _told.append("current_task")
    return _current_task()


def reschedule(*args: Any) -> None:
    _told.append("reschedule")
    _reschedule(*args)


async def program() -> list[str]:
    """Calls of Trio's that are made of these functions; which ones were called."""
    _told.clear()
    for _ in range(3):
        await lowlevel.checkpoint()
        await _checkpoint()
    send, receive = trio.open_memory_channel[int](0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive.receive)
        await turns()
        await send.send(1)
    lock, event = trio.Lock(), trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(event.wait)
        async with lock:
            nursery.start_soon(lock.acquire)
            await turns()
        event.set()
    with trio.move_on_after(0.001):
        await trio.sleep_forever()
    async with trio.Semaphore(1), trio.CapacityLimiter(1):
        await trio.sleep(0)
    return list(_told)


@pytest.fixture
def fresh() -> Iterator[None]:
    _told.clear()
    yield
    _told.clear()


@pytest.mark.parametrize(
    "function",
    [
        checkpoint,
        cancel_shielded_checkpoint,
        checkpoint_if_cancelled,
        wait_task_rescheduled,
        current_task,
        reschedule,
    ],
)
@pytest.mark.usefixtures("fresh")
def test_a_function_that_was_replaced_before_the_run_is_called(
    monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any]
) -> None:
    code = function.__code__
    monkeypatch.setattr(lowlevel, function.__name__, function)
    assert set(same(program, ticks=False)) == {function.__name__}
    assert function.__code__ is code
    monkeypatch.undo()
    assert same(program) == []


@pytest.mark.usefixtures("fresh")
def test_the_same_in_a_process_whose_first_run_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trio's functions get their code with the first run that may have it."""
    import uring_trio.seams.ticks

    uring_trio.seams.ticks.restore()
    monkeypatch.setattr(lowlevel, "checkpoint", checkpoint)
    assert same(program, ticks=False).count("checkpoint") > 3
    assert inspect.getsource(checkpoint).startswith("async def checkpoint()")
