"""Checkpoints of calls that do not wait: one yield beside the call, or a look for a cancellation alone.

As `waits` they read a task's cancel status and yield Trio's own messages, because the public functions cost
more than such a call.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any, TypeVar

from trio.lowlevel import checkpoint_if_cancelled, enable_ki_protection

from .names import context, core_traps

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["attempt", "attempt_on_ring", "cancelled", "inline", "interrupted", "pause"]

_Yield: Any = getattr(core_traps, "CancelShieldedCheckpoint", None)
_T = TypeVar("_T")


@enable_ki_protection
@types.coroutine
def pause() -> Generator[Any, Any, None]:
    """A checkpoint for what needs no operation: cancelled tasks do not get past it, and others run."""
    task = context.task
    runner = task._runner
    if task._cancel_status.effectively_cancelled or (runner.ki_pending and task is runner.main_task):
        yield from checkpoint_if_cancelled()
    task._cancel_points += 1
    yield _Yield


@enable_ki_protection
@types.coroutine
def attempt(manager: Any, fn: Callable[..., _T | None], *args: Any) -> Generator[Any, Any, _T | None]:
    """Calls a function that does not wait, as a checkpoint, in the run that ``manager`` is of.

    None, without a yield: the function gave up (its None), this is another run, or a checkpoint would raise,
    which is left to the operation that follows.

    Hot, so that `attempt_on_ring` repeats it for any ring run.
    """
    task = context.task
    runner = task._runner
    if (
        runner.io_manager is not manager
        or task._cancel_status.effectively_cancelled
        or (runner.ki_pending and task is runner.main_task)
    ):
        return None
    result = fn(*args)
    if result is not None:
        task._cancel_points += 1
        yield _Yield
    return result


@enable_ki_protection
@types.coroutine
def attempt_on_ring(
    fn: Callable[[Any, Any], _T | None], first: Any, second: Any
) -> Generator[Any, Any, _T | None]:
    """`attempt`, with two arguments, in whatever run is on a ring.

    Raises:
        RuntimeError: not inside a Trio run.
    """
    try:
        task = context.task
    except AttributeError:
        raise RuntimeError("must be called from async context") from None
    runner = task._runner
    try:
        runner.io_manager.table  # noqa: B018  # a ring run has one
    except AttributeError:
        return None
    if task._cancel_status.effectively_cancelled or (runner.ki_pending and task is runner.main_task):
        return None
    result = fn(first, second)
    if result is not None:
        task._cancel_points += 1
        yield _Yield
    return result


@enable_ki_protection
@types.coroutine
def inline(fn: Callable[..., _T], *args: Any) -> Generator[Any, Any, _T]:
    """Calls a function that does not block, as a checkpoint: cancelled tasks do not get to call it, and
    other tasks run before it returns or raises. ``BlockingIOError`` alone comes through without a yield.
    """
    task = context.task
    runner = task._runner
    if task._cancel_status.effectively_cancelled or (runner.ki_pending and task is runner.main_task):
        yield from checkpoint_if_cancelled()
    task._cancel_points += 1
    try:
        result = fn(*args)
    except BlockingIOError:
        raise
    except Exception:
        yield _Yield
        raise
    yield _Yield
    return result


def cancelled() -> bool:
    """Whether a checkpoint would raise now: a cheap check for an iterator between two yields."""
    task = context.task
    if task._cancel_status.effectively_cancelled:
        return True
    runner = task._runner
    return bool(runner.ki_pending and task is runner.main_task)


def interrupted() -> bool:
    """Whether a checkpoint would raise now. Otherwise this counts as having passed one, without a yield."""
    task = context.task
    runner = task._runner
    if task._cancel_status.effectively_cancelled or (runner.ki_pending and task is runner.main_task):
        return True
    task._cancel_points += 1
    return False
