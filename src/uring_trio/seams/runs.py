"""The current run, and which I/O manager a run gets."""

from __future__ import annotations

import threading
import types
from contextlib import contextmanager
from functools import partial
from operator import attrgetter
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .names import context, core_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import outcome

__all__ = [
    "NoRing",
    "OtherRun",
    "choose_for_next_run",
    "choose_manager",
    "clock_offset",
    "current_manager",
    "current_runner",
    "current_task",
    "deadline_checks",
    "epoll_of",
    "manager_here",
    "reschedule",
    "run_sync_soon",
    "runs_on",
    "scheduled_from",
    "set_default_manager",
    "steps",
    "stock_manager",
    "use_manager_class",
    "waiting",
    "waits_for",
]


class OtherRun(RuntimeError):
    """An operation of one run was used in another."""


class NoRing(RuntimeError):
    """The current run is not on a ring."""

    def __init__(self) -> None:
        super().__init__(
            "this needs a ring run: start it with uring_trio.run, or call uring_trio.install() "
            "before trio.run"
        )


def no_task() -> RuntimeError:
    return RuntimeError(
        "must be called from async context: in a task of a Trio run. Start one with uring_trio.run(main) or "
        'anyio.run(main, backend="uring"); a task of asyncio is none'
    )


def current_manager() -> Any:
    """The I/O manager of the run in this thread, of whatever kind.

    Raises:
        RuntimeError: not inside a Trio run.
    """
    try:
        return context.runner.io_manager
    except AttributeError:
        raise no_task() from None


def manager_here() -> Any:
    """The I/O manager of the run in this thread, or None outside of any."""
    runner = getattr(context, "runner", None)
    return None if runner is None else runner.io_manager


def run_sync_soon(runner: Any, fn: Callable[[], object]) -> None:
    """Calls ``fn`` in a run's thread, from any other.

    Raises:
        trio.RunFinishedError: the run is over.
    """
    runner.entry_queue.run_sync_soon(fn)


def runs_on(kind: type) -> bool:
    """Whether this code is in a task of a Trio run whose I/O manager is of that class."""
    try:
        return context.task._runner.io_manager.__class__ is kind
    except AttributeError:
        return False


def current_runner() -> Any:
    return context.runner


def current_task() -> Any:
    """The task that this code is in.

    Raises:
        RuntimeError: not inside a Trio run.
    """
    try:
        return context.task
    except AttributeError:
        raise no_task() from None


def clock_offset(runner: Any) -> float | None:
    """The offset of Trio's clock from the monotonic clock; None for any other clock: a mock clock, or a time
    that a test has put in the place of the interpreter's."""
    clock, seconds = runner.clock, core_run.perf_counter
    ticks = type(clock) is core_run.SystemClock and type(seconds) is types.BuiltinFunctionType
    return clock.offset if ticks else None


def deadline_checks(runner: Any, offset: float) -> tuple[Callable[[], object], Callable[[], bool]]:
    """Two functions: whether there may be any deadline, at the price of one call into C, and whether Trio's
    next deadline is due."""
    deadlines = runner.deadlines

    def due() -> bool:
        # The first entry may be of a scope that has gone; ``next_deadline`` skips those.
        heap = deadlines._heap
        if not heap or heap[0][0] > (now := offset + perf_counter()):
            return False
        return bool(deadlines.next_deadline() <= now)

    return partial(attrgetter("_heap"), deadlines), due


def reschedule(runner: Any, task: Any, result: outcome.Outcome[Any]) -> None:
    """Resumes one parked task; see `deliver`."""
    if runner.is_guest or "task_scheduled" in runner.instruments:
        runner.reschedule(task, result)
        return
    task._next_send = result
    task._next_send_fn = task.coro.send
    task._abort_func = None
    task.custom_sleep_data = None
    runner.runq.append(task)


class _Choice(threading.local):
    make: Callable[[], Any] | None = None


_choice = _Choice()
_default: Callable[[], Any] | None = None
_stock_manager: Any = getattr(core_run, "TheIOManager", None)


def use_manager_class(cls: Any) -> None:
    """Makes ``setup_runner`` call ``cls``, whose ``__new__`` is expected to ask `choose_manager`."""
    core_run.TheIOManager = cls


def choose_manager() -> Any:
    """The manager for the run being set up in this thread: the one chosen for it, else the process's
    default, else Trio's own."""
    make, _choice.make = _choice.make, None
    if make is None:
        make = _default
    return make() if make is not None else stock_manager()


def stock_manager() -> Any:
    """Trio's own I/O manager for this platform."""
    return _stock_manager()


def epoll_of(manager: Any) -> int:
    """The descriptor that becomes readable when one is ready that a task waits for by Trio's own manager."""
    return int(manager._epoll.fileno())


def waits_for(manager: Any, fd: int) -> bool:
    """Whether a task waits for this descriptor by Trio's own manager."""
    return fd in manager._registered


def reads_by(manager: Any, fd: int) -> bool:
    """Whether a task waits by Trio's own manager until this descriptor can be read."""
    waiters = manager._registered.get(fd)
    return waiters is not None and waiters.read_task is not None


def writes_by(manager: Any, fd: int) -> bool:
    """As `reads_by`, for writing."""
    waiters = manager._registered.get(fd)
    return waiters is not None and waiters.write_task is not None


def waiting(manager: Any) -> list[tuple[str, int, Any]]:
    """The waits by Trio's own manager: the function, the descriptor, the task."""
    return [
        (name, fd, task)
        for fd, waiters in manager._registered.items()
        for name, task in (("wait_readable", waiters.read_task), ("wait_writable", waiters.write_task))
        if task is not None
    ]


def steps(task: Any) -> int:
    """How often a task has parked or yielded."""
    count: int = task._schedule_points
    return count


def choose_for_next_run(make: Callable[[], Any] | None) -> None:
    """Chooses the manager of the next run set up in this thread, and of that one alone."""
    _choice.make = make


def set_default_manager(make: Callable[[], Any] | None) -> None:
    """Chooses the manager of every run in this process that nothing else was chosen for."""
    global _default
    _default = make


@contextmanager
def scheduled_from(seed: int) -> Iterator[None]:
    """Makes the order in which Trio runs the tasks of a batch follow from a number, in every run of this
    process until the block ends. For tests: other threads' runs draw from the same numbers."""
    before = core_run._ALLOW_DETERMINISTIC_SCHEDULING, core_run._r.getstate()
    core_run._ALLOW_DETERMINISTIC_SCHEDULING = True
    core_run._r.seed(seed)
    try:
        yield
    finally:
        core_run._ALLOW_DETERMINISTIC_SCHEDULING = before[0]
        core_run._r.setstate(before[1])
