"""Whole scheduler ticks in C, for a ring run on a Trio that they were written for.

Trio's loop hands out events once for each batch of tasks. `make_ticks` returns an object whose ``run``
then goes on by itself, batch after batch, until something is uncommon: an instrument, a task in
``wait_all_tasks_blocked``, a deadline that is due, Ctrl-C, an end. Trio's own loop does the rest.

The C code reads and writes fields of Trio's objects in place. Their offsets are found here, on a fresh object
of each class. For a Trio of another shape there are no ticks in C, and the run is slower.
"""

from __future__ import annotations

import sys
import threading
import types
from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import outcome

from . import checkpoints, methods, scopes, tasks
from .names import NAMES_OF_TICKS, context, core_run, core_traps, present, replaced, tested
from .waits import DONE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    C: Any
else:
    try:
        from uring_trio.seams import _ticks as C
    except ImportError:  # not built, or a CPython without what it needs
        C = None

__all__ = ["C", "find_offsets", "make_ticks", "restore"]

_TASK = (
    "_next_send_fn",
    "_next_send",
    "_abort_func",
    "custom_sleep_data",
    "context",
    "coro",
    "_cancel_points",
    "_schedule_points",
    "_cancel_status",
)
_OPERATION = ("user_data", "task", "res", "flags", "pins", "interrupt", "handler")


class _Again(outcome.Value[None]):  # type: ignore[misc]  # it is final; no program sees this one
    """The outcome that resumes every shielded checkpoint: unlike others it can be unwrapped each time."""

    def unwrap(self) -> None:
        return None


_again = _Again(None)
_offsets: dict[type, tuple[int, ...] | None] = {}
_exchanging = threading.RLock()
"""Two first runs in two threads would each copy what the other has exchanged."""


def make_ticks(
    operation: type,
    table: tuple[list[Any], list[Any]],
    owners: dict[int, Any],
    foreign: Any,
    ring: tuple[int, ...],
    offset: float,
    quiet: Callable[[], float],
    stray: Callable[[int, int, int], None],
) -> Any:
    """The ticks of the current run, or None where Trio's own loop has to do them all.

    Args:
        operation: the class of what is in ``table``, the two lists of the in-flight table: all, and those
            that are free.
        owners: the `Fd` of each descriptor in use; ``foreign``: Trio's own manager beside the ring's.
        ring: addresses of the mapped ring, of its pointer to completions, and of functions of the shim:
            whether it is idle, one cycle, the room in its queue, an entry into it, its submission.
        offset: seconds that Trio's clock is ahead of the monotonic clock.
        quiet: how many seconds the run may wait as far as its manager is concerned; negative: not at all.
        stray: what takes a completion that belongs to no operation.
    """
    runner = context.runner
    if C is None or runner.is_guest or sys.implementation.name != "cpython" or replaced():
        return None
    offsets = _find(operation)
    if offsets is None or type(runner.runq) is not deque:
        return None

    def unusual(task: Any, message: Any) -> None:
        _unusual(runner, task, message)

    objects = {
        "task_type": core_run.Task,
        "operation_type": operation,
        "runner": runner,
        "runq": runner.runq,
        "tasks": runner.tasks,
        "idle": runner.waiting_for_idle,
        "deadlines": runner.deadlines,
        "instruments": runner.instruments,
        "hooks": runner.instruments.data,
        "run_context": context.__dict__,
        "module": vars(core_run),
        "yield_message": core_traps.CancelShieldedCheckpoint,
        "park_type": core_traps.WaitTaskRescheduled,
        "entries": table[0],
        "free": table[1],
        "owners": owners,
        "registered": foreign._registered,
        "done": DONE,
        "again": _again,
        "value": outcome.Value,
        "error": outcome.Error,
        "quiet": quiet,
        "stray": stray,
        "foreign": unusual,
        "shuffle": _shuffle,
    }
    ticks = C.Ticks(objects, offsets, ring, offset)
    with _exchanging:
        checkpoints.exchange(C, find_offsets)
        scopes.exchange(C, find_offsets)
        tasks.exchange(C, find_offsets)
        methods.exchange(C, find_offsets)
    return ticks


def restore() -> None:
    """Puts Trio's own functions back, until the next run begins its ticks. Runs that go on get slower."""
    with _exchanging:
        for each in (methods, checkpoints, scopes, tasks):
            each.restore()


def _shuffle(batch: list[Any]) -> None:
    """The order of a batch where tests want schedules that repeat."""
    batch.sort(key=attrgetter("_counter"))
    core_run._r.shuffle(batch)


def _unusual(runner: Any, task: Any, message: Any) -> None:
    """A message that is neither of the usual two, answered as Trio's loop does."""
    if type(message) is core_traps.PermanentlyDetachCoroutineObject:
        runner.task_exited(task, message.final_outcome)
        return
    wrong = TypeError(
        f"trio.run received unrecognized yield message {message!r}. Are you trying to use a library written "
        "for some other framework like asyncio? That won't work without some kind of compatibility shim."
    )
    runner.reschedule(task, wrong)
    task._next_send_fn = task.coro.throw


def _find(operation: type) -> tuple[int, ...] | None:
    """The offsets of the fields, in the order of the list in C; None where one is not as expected."""
    if operation not in _offsets and not (tested() and all(map(present, NAMES_OF_TICKS))):
        _offsets[operation] = None
    elif operation not in _offsets:
        wanted = [(core_run.Task, name) for name in _TASK]
        wanted += [
            (core_run.CancelStatus, "effectively_cancelled"),
            (core_run.Runner, "ki_pending"),
            (core_run.Runner, "main_task"),
            (core_run.Deadlines, "_heap"),
            (core_run.Deadlines, "_active"),
        ]
        wanted += [(operation, name) for name in _OPERATION]
        _offsets[operation] = find_offsets(wanted)
    return _offsets[operation]


def find_offsets(wanted: Iterable[tuple[Any, str]]) -> tuple[int, ...] | None:
    """Where in the instances of each class the slot of that name is; None where one is not as expected."""
    found = [_offset(kind, name) for kind, name in wanted]
    return None if None in found else tuple(at for at in found if at is not None)


def _offset(kind: Any, name: str) -> int | None:
    """Where in its instances the slot of that name is; looked for twice, since a match may be chance."""
    slot = getattr(kind, name, None)
    if not isinstance(slot, types.MemberDescriptorType):
        return None
    probe = kind.__new__(kind)
    answers = set()
    for marker in (object(), object()):
        slot.__set__(probe, marker)
        answers.add(C.where(probe, marker, kind.__basicsize__))
        slot.__delete__(probe)
    return answers.pop() if len(answers) == 1 and min(answers) > 0 else None
