"""A ring run in small: the product's own parts, a few tasks, and the ring of `kernel`.

Of the product are the in-flight table, the operations, the queue of cancels, the owner of a descriptor, the
delivery of completions and what is done with them at the end of a run. Of the model are the tasks, since a
frame cannot be put back to where it was. Each slot's state is followed through `uring.machines.lifecycle`
besides, event by event, and compared with what the code has.

What holds in every state
  - A slot is given back once, by its owner, after the last completion of what was in flight under it.
  - What the kernel has is pinned, and under the `user_data` of its slot; no value is in flight twice.
  - A task is woken once for each wait. What succeeded is delivered as success.
  - Nothing is cancelled in the kernel but what was asked to be, and no such request gets lost.
  - No entry that names a closed descriptor reaches the kernel, and a close leaves nothing armed.
  - The end of the run can be reached, also after a crash that leaves operations without their tasks.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import trio

from uring.kernel.inflight import INDEX_MASK
from uring.machines.lifecycle import Event, State, step
from uring_trio import seams
from uring_trio.core import operation
from uring_trio.core.fd import Fd

from .base import ECANCELED, FD, Small
from .kernel import ARMED, DONE, MORE, NOTIF, SENT, WORKER, InKernel

if TYPE_CHECKING:
    from collections.abc import Hashable

    from uring_trio.core.operation import Operation

    from .kernel import Entry

__all__ = ["Run"]

_TASK = ("phase", "asked", "wakes", "got", "op", "succeeded")


class Asked(Exception):
    """What a cancelled task's abort function raises."""


class Task:
    """A task that makes one call: on the descriptor's reused operation, or one of its own.

    Attributes:
        phase: ``new``, ``waiting`` for room, ``parked``, ``woken``, ``done`` or ``dropped`` by a crash.
        asked: whether its scope is cancelled.
        succeeded: whether the kernel has said so.
        got: what its call came to.
    """

    def __init__(self, use: int, on_fd: bool) -> None:
        self.use = use
        self.on_fd = on_fd
        self.phase = "new"
        self.asked = False
        self.succeeded = False
        self.wakes = 0
        self.got = ""
        self.op: int = -1
        self.coro = SimpleNamespace(send=None)
        self._next_send: Any = None

    def interrupt(self) -> None:
        raise Asked(self.use)

    def answer(self) -> str:
        """What its wait resumed with."""
        if self._next_send is seams.DONE:
            return "result"
        assert not self.succeeded, "a result was lost to a cancel or a close"
        error = self._next_send.error
        assert isinstance(error, (Asked, trio.ClosedResourceError))
        if isinstance(error, Asked):
            assert error.args == (self.use,), "another task's cancellation"
            return "cancelled"
        return "closed"


class Run(Small):
    """A world for `explore`.

    Args:
        tasks: for each task whether it uses the descriptor's own operation.
        room: entries of the submission queue.
        zero_copy: whether operations may complete twice.
        crash: whether the run may end with operations in flight whose tasks are gone.
    """

    def __init__(self, tasks: list[bool], room: int, *, zero_copy: bool = False, crash: bool = False) -> None:
        self._begin(room)
        self.small.on_take, self.small.on_cancel = self._taken, self._cancelled
        self.zero_copy, self.crash = zero_copy, crash
        self.tasks = self.parties = [Task(use, on_fd) for use, on_fd in enumerate(tasks)]
        self.lives: dict[int, State] = {}
        self.fd_open = True
        self._file = Fd.open(self, FD)
        # The same function each time, so that one is told from the next by it.
        self._bound = [task.interrupt for task in self.tasks]
        self.interrupts += [operation._raise_closed, *self._bound]

    # ---- the state as a value ----------------------------------------------------------------------------

    def freeze(self) -> Hashable:
        reader = self._file.reader
        return (
            self.freeze_parts(),
            tuple([tuple([getattr(task, name) for name in _TASK]) for task in self.tasks]),
            tuple(self.lives.items()),
            (self.fd_open, -1 if reader is None else reader.user_data & INDEX_MASK, self._file.fd),
        )

    def thaw(self, state: Hashable) -> None:
        parts, tasks, lives, (self.fd_open, reader, self._file.fd) = cast("Any", state)
        for task, values in zip(self.tasks, tasks):
            for name, value in zip(_TASK, values):
                setattr(task, name, value)
        self.thaw_parts(parts)
        self.lives = dict(lives)
        self._file.reader = None if reader < 0 else self.slot(reader)
        self.owners.clear()
        if self._file.fd >= 0:
            self.owners[FD] = self._file

    # ---- what may happen ---------------------------------------------------------------------------------

    def acts(self) -> list[tuple[str, int]]:
        found = self.kernel_acts()
        for which, each in enumerate(self.small.kernel):
            found.append(("complete", which))
            if self.zero_copy and each.phase in (ARMED, WORKER):
                found.append(("complete_first", which))
        if self.draining:
            return [*found, ("drain", 0)]
        for task in self.tasks:
            if task.phase == "new" and (not task.on_fd or self.fd_open):
                found.append(("start", task.use))
            if task.phase == "waiting":
                found.append(("try_again", task.use))
            if task.phase == "woken":
                found.append(("resume", task.use))
            if task.phase in ("new", "waiting", "parked") and not task.asked:
                found.append(("cancel", task.use))
        if self.fd_open:
            found.append(("close_file", 0))
        if not any(task.phase == "woken" for task in self.tasks):
            found.append(("tick", 0))
            over = all(task.phase == "done" or (task.phase == "new" and task.on_fd) for task in self.tasks)
            if self.crash or (over and not self.fd_open):
                found.append(("end", 0))
        return found

    def act(self, name: str, which: int) -> None:
        getattr(self, f"do_{name}")(which)
        for task in self.runner.runq:
            assert task.phase == "parked", f"task {task.use} is woken while {task.phase}"
            task.phase = "woken"
            task.wakes += 1
            task.got = task.answer()
        self.runner.runq.clear()

    # Tasks.

    def do_start(self, use: int) -> None:
        task = self.tasks[use]
        if task.asked:
            task.phase, task.got = "done", "cancelled"  # nothing is queued
            return
        if task.on_fd:
            if self._file.reader is None:
                self._file.reader = self._acquire()
            op = self._file.reader
            if op.task is not None:
                return  # BusyResourceError: nothing changes
        else:
            op = self._acquire()
        task.op = op.user_data & INDEX_MASK
        op.pins = use
        op.flags = 0
        op.task = task
        self._queue(task, op)

    def do_try_again(self, use: int) -> None:
        task, op = self.tasks[use], self._op_of(use)
        if op.interrupt is None and not task.asked:
            self._queue(task, op)
            return
        # What `seams.waits._queue_later` does where the operation does not get into the queue.
        task.phase, task.got = "done", "cancelled" if op.interrupt is None else "closed"
        op.task = op.pins = op.interrupt = None
        self._life(op, Event.RESUME)
        if op.retired or not task.on_fd:
            self.release(op)

    def do_resume(self, use: int) -> None:
        task, op = self.tasks[use], self._op_of(use)
        if task.got == "result":
            task.got = {DONE: "done", ECANCELED: "ended by others"}[op.res]
        op.res = 0
        task.phase = "done"
        if not task.on_fd:
            self.release(op)

    def do_cancel(self, use: int) -> None:
        task = self.tasks[use]
        task.asked = True
        if task.phase == "new":
            return
        op = self._op_of(use)
        self._life(op, Event.CANCEL)
        if task.phase == "parked":
            assert op.task is task, "a parked task's operation serves another"
            op.abort(cast("Any", self._bound[use]))

    def do_close_file(self, _: int) -> None:
        if self._file.reader is not None:
            self._life(self._file.reader, Event.CLOSE)
        self._file.close()
        self.fd_open = False
        if not self.small.failed:
            assert not any(self.tasks[each.use].on_fd for each in self.armed()), "a close left it armed"

    # The kernel.

    def do_complete(self, which: int) -> None:
        found = self.small.kernel[which]
        self.small.complete(found, 0 if found.phase == SENT else DONE, NOTIF if found.phase == SENT else 0)

    def do_complete_first(self, which: int) -> None:
        self.small.complete(self.small.kernel[which], DONE, MORE)

    # The run.

    def do_end(self, _: int) -> None:
        self.draining = True
        for task in self.tasks:
            if task.phase != "done":
                task.phase = "dropped"

    # ---- the table of lives ------------------------------------------------------------------------------

    def _acquire(self) -> Operation:
        op = self.acquire("call", FD)
        self._life(op, Event.ACQUIRE)
        return op

    def _queue(self, task: Task, op: Operation) -> None:
        if self.small.put_use(op.user_data, task.use) < 0:
            task.phase = "waiting"
            self._life(op, Event.REFUSE)
        else:
            task.phase = "parked"
            self._life(op, Event.QUEUE)

    def release(self, op: Operation) -> None:
        busy = op.task is not None
        super().release(op)
        if not busy:
            index = op.user_data & INDEX_MASK
            if self.lives.get(index) is not State.FREE:  # a close has freed it already
                self._life(op, Event.RELEASE)

    def _life(self, op: Operation, event: Event) -> None:
        if not self.draining:
            index = op.user_data & INDEX_MASK
            self.lives[index] = step(self.lives.get(index, State.FREE), event)

    def _taken(self, entry: Entry) -> None:
        task = self.tasks[entry.use]
        assert entry.taken_back or not task.on_fd or self.fd_open, "a closed descriptor reaches the kernel"
        op = self.table.find(entry.user_data)
        assert op is not None, "an entry of a slot that was given back reaches the kernel"
        self._life(op, Event.SUBMIT)

    def _cancelled(self, found: InKernel) -> None:
        task = self.tasks[found.use]
        closed = task.on_fd and self._op_of(found.use).interrupt is operation._raise_closed
        assert task.asked or closed or self.draining, "something is cancelled that nobody asked to cancel"

    def delivering(self, user_data: int, res: int, flags: int) -> None:
        super().delivering(user_data, res, flags)
        if user_data != self.cancels.user_data:
            op = self.slot(user_data)
            self._life(op, Event.MORE if flags & MORE else Event.LAST)
            if res == DONE and not self.draining:
                self.tasks[op.pins].succeeded = True

    # ---- promises ----------------------------------------------------------------------------------------

    def check(self) -> None:
        self.check_parts()
        for task in self.tasks:
            assert task.wakes <= 1, "a task is woken twice for one wait"
        if self.draining:
            return
        for index, life in self.lives.items():
            seen = self._observe(self._slots[index])
            assert seen is life, f"slot {index} is {seen.name}, by the table {life.name}"
        for found in self.armed():
            if self.slot(found.user_data).interrupt is not None:
                assert found.user_data in self.requested(), "a request to cancel got lost"

    def _observe(self, op: Operation) -> State:
        if op in self.table.free:
            return State.FREE
        if op.task is None:
            return State.READY
        for entry in self.small.entries:
            if entry.user_data == op.user_data and entry.target is None:
                return State.TAKEN_BACK if entry.taken_back else State.QUEUED
        if op.task.phase == "waiting":
            return State.WAITING if op.interrupt is None and not op.task.asked else State.DROPPED
        if op.flags & MORE:
            return State.FINISHING
        if any(each.user_data == op.user_data for each in self.small.kernel):
            return State.CANCELLING if op.interrupt is not None else State.IN_FLIGHT
        return self.lives[op.user_data & INDEX_MASK]  # its last completion is on its way

    def _op_of(self, use: int) -> Operation:
        return self.slot(self.tasks[use].op)
