"""The operations in flight in a run, each with the task and the line that awaits it."""

from __future__ import annotations

import os
import socket
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from .. import seams

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .engine import Engine
    from .operation import Operation

__all__ = ["Ages", "InFlight", "collect", "describe", "flying", "steps", "waits"]

_OURS = str(Path(__file__).parents[1])
_TRIO = str(Path(trio.__file__).parent)


@dataclass(frozen=True, slots=True)
class InFlight:
    """One operation in flight.

    Attributes:
        name: as in the statistics.
        fd: its descriptor, -1 for none.
        peer: the address that a socket is connected to, or "".
        state: ``"in flight"``, with the number of completions that a multishot operation's consumer has not
            taken, or ``"cancelling"`` once a cancel was asked for; ``"waiting"`` by
            ``trio.lowlevel.wait_readable`` or ``wait_writable``, which is no operation of the ring's.
        task: the name of the task parked on it, or that waits for the next completion of a multishot
            operation; "" while that task does something else.
        where: ``file:line`` of the program's own code that awaits it, or "".
        age: seconds since the task parked; None unless `track_ages` was on by then.
    """

    name: str
    fd: int
    peer: str
    state: str
    task: str
    where: str
    age: float | None


class Ages(trio.abc.Instrument):
    """When each task took its last step."""

    def __init__(self) -> None:
        self.parked: dict[Any, float] = {}

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.parked[task] = time.monotonic()

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        self.parked.pop(task, None)


def flying(engine: Engine) -> Iterator[tuple[Operation, Any, str]]:
    """The operations of tasks and of subscriptions, with the task that waits, if one does, and the state."""
    for op in engine.table.taken():
        if op.task is not None:
            yield op, op.task, "cancelling" if op.interrupt is not None else "in flight"
    for owner in list(engine.owners.values()):
        for sub in owner.others:
            if sub.op is not None:
                yield sub.op, sub.task, f"in flight, {len(sub.queue)} queued" if sub.queue else "in flight"


def waits(engine: Engine) -> Iterator[tuple[object, str, int, str, Any]]:
    """A row for each operation in flight: a key that is unique at this moment, the name, the descriptor, the
    state, and the task that waits, if one does."""
    for op, task, state in flying(engine):
        yield op.user_data, op.name, op.fd, state, task
    for name, fd, task in seams.waiting(engine.foreign):
        yield (name, fd), name, fd, "waiting", task


def collect(engine: Engine, ages: Ages) -> Iterator[InFlight]:
    """A row for each operation in flight."""
    for _, name, fd, state, task in waits(engine):
        since = ages.parked.get(task)
        yield describe(name, fd, state, task, None if since is None else time.monotonic() - since)


def describe(name: str, fd: int, state: str, task: Any, age: float | None) -> InFlight:
    """A row. It costs a few system calls and a walk over the task's frames."""
    return InFlight(name, fd, _peer(fd), state, getattr(task, "name", ""), _where(task), age)


def steps(task: Any) -> int:
    """How often a task has parked or yielded: as long as it is the same, the task has not run."""
    return seams.steps(task)


def _where(task: Any) -> str:
    found = ""
    if task is not None:
        for frame, line in task.iter_await_frames():
            path = frame.f_code.co_filename
            if not path.startswith((_OURS, _TRIO)):
                found = f"{path}:{line}"
    return found


def _peer(fd: int) -> str:
    if fd < 0:
        return ""
    try:
        if not stat.S_ISSOCK(os.fstat(fd).st_mode):
            return ""
        with socket.socket(fileno=os.dup(fd)) as sock:
            peer = sock.getpeername()
    except OSError:
        return ""
    return ":".join(map(str, peer[:2])) if isinstance(peer, tuple) else str(peer)
