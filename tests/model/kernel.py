"""The ring of the model: a queue of few entries, and a kernel that may do anything that a kernel may.

An operation that the kernel has is ``ARMED`` (a cancel ends it), in a ``WORKER`` (a cancel is only noted),
``READY`` (its file became ready while it was armed: until deferred work has run, no cancel finds it), or
``SENT`` (its first completion has come, and a notification is owed).
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, NamedTuple

from uring import abi

if TYPE_CHECKING:
    from collections.abc import Callable

    from .search import Choices

__all__ = ["ARMED", "DONE", "MORE", "NOTIF", "READY", "SENT", "WORKER", "InKernel", "Ring"]

ARMED, WORKER, READY, SENT = "armed", "worker", "ready", "sent"
DONE = 7
"""The result of an operation that succeeds."""

MORE = int(abi.IORING_CQE_F_MORE)
NOTIF = int(abi.IORING_CQE_F_NOTIF)
_ECANCELED = -errno.ECANCELED
_CANCEL_ANY = int(abi.IORING_ASYNC_CANCEL_ANY)


class Entry(NamedTuple):
    """One entry of the queue: an operation's, or with a ``target`` a request to cancel (-1: everything)."""

    user_data: int
    use: int = -1
    taken_back: bool = False
    target: int | None = None


class InKernel(NamedTuple):
    user_data: int
    use: int
    phase: str = ARMED
    was_ready: bool = False  # becoming ready happens to each once, so that there are finitely many states


class Ring:
    """What the product's code asks of a ring, and the kernel behind it.

    Attributes:
        queue: entries that the kernel has not seen.
        kernel: operations that it has.
        posted: completions to hand out.
        on_take: called with each operation's entry as the kernel takes it.
        on_cancel: called with the operation that a cancel ends or notes.
        on_work: what becomes of an operation whose file is ready still, when deferred work runs.
        failed: whether an enter of the present act took less than everything.
    """

    eager = False

    def __init__(self, room: int, choices: Choices) -> None:
        self.room = room
        self.choices = choices
        self.entries: list[Entry] = []
        self.kernel: list[InKernel] = []
        self.posted: list[tuple[int, int, int]] = []
        self.begin()
        self.on_take: Callable[[Entry], None] = lambda entry: None
        self.on_cancel: Callable[[InKernel], None] = lambda found: None
        self.on_work: Callable[[InKernel], None] = lambda ready: self.complete(ready, DONE)

    # Operations keep these; the model queues by `put_use`, and uses none of them.
    queue = put_now = queue_at = None

    def begin(self) -> None:
        """A new act. Within one the kernel has room for requests or has none: if it changed its mind, every
        cancel could be sent where it finds nothing, and none where it would."""
        self.failed = False
        self._refuses: bool | None = None

    @property
    def inflight(self) -> int:
        lasts = sum(not flags & MORE for _, _, flags in self.posted)
        return len(self.entries) + len(self.kernel) + lasts

    def put_use(self, user_data: int, use: int) -> int:
        return self._put(Entry(user_data, use))

    def put(self, user_data: int, opcode: int, flags: int, fd: int, off: int, addr: int, *more: int) -> int:
        if opcode != abi.IORING_OP_ASYNC_CANCEL:
            return self.put_use(user_data, 0)
        return self._put(Entry(user_data, target=-1 if more[1] & _CANCEL_ANY else addr))

    def unqueue(self, user_data: int) -> int:
        for place, entry in enumerate(self.entries):
            if entry.user_data == user_data and entry.target is None:
                self.entries[place] = entry._replace(taken_back=True)
                return 1
        return 0

    def idle(self) -> int:
        return int(not self.entries and not self.posted and not self._work())

    def flush(self, run_work: int) -> int:
        return self.enter(bool(run_work)) if self.entries or run_work else 0

    def enter(self, run_work: bool) -> int:
        """Takes everything, nothing, or one entry: the rest stays queued."""
        waiting = taken = len(self.entries)
        if waiting:
            if self._refuses is None:
                self._refuses = bool(self.choices(2))
            if self._refuses:
                self.failed = True
                return -errno.EAGAIN
            if waiting > 1 and self.choices(2):
                self.failed, taken = True, 1
        for _ in range(taken):
            self._take(self.entries.pop(0))
        if run_work:
            for each in self._work():
                if self.choices(2):
                    self.move(each, ARMED)
                else:
                    self.on_work(each)
        return taken

    def hand_out(self) -> list[tuple[int, int, int]]:
        posted, self.posted = self.posted, []
        return posted

    def complete(self, which: InKernel, res: int, flags: int = 0) -> None:
        if flags & MORE:
            self.move(which, SENT)
        else:
            self.kernel.remove(which)
        self.posted.append((which.user_data, res, flags))

    def move(self, which: InKernel, phase: str) -> None:
        place = self.kernel.index(which)
        self.kernel[place] = which._replace(phase=phase, was_ready=which.was_ready or phase == READY)

    def _work(self) -> list[InKernel]:
        return [each for each in self.kernel if each.phase == READY]

    def _put(self, entry: Entry) -> int:
        if len(self.entries) == self.room:
            self.enter(False)
        if len(self.entries) == self.room:
            return -errno.EBUSY
        self.entries.append(entry)
        return 0

    def _take(self, entry: Entry) -> None:
        if entry.target is not None:
            self._cancel(entry.user_data, entry.target)
            return
        self.on_take(entry)
        if entry.taken_back:
            self.posted.append((entry.user_data, _ECANCELED, 0))
        else:
            self.kernel.append(InKernel(entry.user_data, entry.use))

    def _cancel(self, user_data: int, target: int) -> None:
        answer = -errno.ENOENT
        ended: list[InKernel] = []
        for found in list(self.kernel):
            if target not in (-1, found.user_data):
                continue
            if found.phase in (ARMED, WORKER):
                self.on_cancel(found)
            if found.phase == WORKER:
                answer = -errno.EALREADY
            elif found.phase == ARMED:
                answer = 0
                ended.append(found)
        # Its own completion comes before or after those of what it ends.
        after = self.choices(2) if ended else 0
        if not after:
            self.posted.append((user_data, answer, 0))
        for found in ended:
            self.complete(found, _ECANCELED)
        if after:
            self.posted.append((user_data, answer, 0))
