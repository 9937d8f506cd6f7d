"""Requests to cancel operations, from the wish to the kernel's answer.

Invariants
  - A request is never dropped: what does not fit into the queue waits in ``waiting``.
  - An entry that the kernel has not seen is taken back instead.
  - A request names one use of an operation. Once that has ended it is not sent: what is in flight under the
    same ``user_data`` is the next one.

It must not know why something is cancelled, nor when the ring is entered.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from uring import abi

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uring.inflight import Table
    from uring.kernel import RingLike
    from uring.volley import Volley

    from .operation import Operation

__all__ = ["Cancels"]

_ASYNC_CANCEL = int(abi.IORING_OP_ASYNC_CANCEL)
_FD_ALL = int(abi.IORING_ASYNC_CANCEL_FD | abi.IORING_ASYNC_CANCEL_ALL)
_FD_FIXED = int(abi.IORING_ASYNC_CANCEL_FD_FIXED)

_MEMBER = object()
"""Stands for the interrupt of a volley's member, whose user_data is never used again."""


class Cancels:
    """Of one run.

    Attributes:
        user_data: of the operation that the kernel's answers come to, which calls `answered`.
        waiting: requests that the queue has no room for, as (user_data, interrupt).
        ripening: requests that wait for a timer which is due.
        requested, won, lost, running, unsent: see `RingStatistics`.
    """

    def __init__(self, ring: RingLike, table: Table[Operation]) -> None:
        self._ring = ring
        self._table = table
        self.user_data: int = 0
        self.waiting: list[tuple[int, Any]] = []
        self.ripening: list[tuple[int, Any]] = []
        self.requested: int = 0
        self.won: int = 0
        self.lost: int = 0
        self.running: int = 0
        self.unsent: int = 0

    def cancel(self, op: Operation) -> None:
        """Asks the kernel to cancel ``op``; its completion comes all the same. Idempotent for the kernel."""
        unqueued = self._ring.unqueue(op.user_data)
        if unqueued:
            self.unsent += 1
            if unqueued > 0 and self._ring.eager:
                self._ring.flush(0)
            return
        self.requested += 1
        self.waiting.append((op.user_data, op.interrupt))
        self.send()

    def cancel_after_timers(self, op: Operation) -> None:
        """As `cancel`, for an operation whose linked timer is due: the ring is entered once before. So the
        timer ends it, unless it completed before its time was up: then the result is delivered."""
        self.ripening.append((op.user_data, op.interrupt))

    def cancel_volley(self, volley: Volley) -> None:
        """Takes back the members that the kernel has not seen and asks it to cancel the others."""
        self.unsent += max(0, volley.unqueue())
        running = volley.unfinished()
        self.requested += len(running)
        self.waiting += [(member, _MEMBER) for member in running]
        self.send()

    def cancel_fd(self, fd: int, ops: Iterable[Operation], *, fixed: bool = False) -> None:
        """Cancels the operations and makes the kernel drop their references to the file at once.

        Entries still in the queue never reach the kernel; for the rest one enter carries the cancel and
        runs the deferred work that ends them, so that a close that follows takes effect.
        """
        ring = self._ring
        sent: list[tuple[int, Any]] = []
        for op in ops:
            if ring.unqueue(op.user_data) > 0:
                self.unsent += 1
            else:
                sent.append((op.user_data, op.interrupt))
        if sent:
            self.requested += 1
            flags = _FD_ALL | (_FD_FIXED if fixed else 0)
            put = ring.put(self.user_data, _ASYNC_CANCEL, 0, fd, 0, 0, 0, flags, 0, 0, 0)
            if ring.flush(1) < 0 or put < 0 or ring.flush(0):
                # The kernel takes nothing now, and by the time it does the descriptor may be closed: these
                # cancels name the operations.
                self.waiting += sent
                self.send()
                ring.flush(1)
        elif ring.eager:
            ring.flush(0)

    def ripen(self) -> list[tuple[int, Any]]:
        """What `cancel_after_timers` kept so far. Whoever takes it enters the ring, then calls `insist`."""
        ripe, self.ripening = self.ripening, []
        return ripe

    def insist(self, ripe: list[tuple[int, Any]]) -> None:
        """What is left of these operations (a kernel worker has it) is cancelled with the next `send`."""
        self.requested += len(ripe)
        self.waiting += ripe

    def send(self) -> None:
        """Queues what waits, as far as there is room."""
        while self.waiting:
            target, interrupt = self.waiting[0]
            op = self._table.find(target)
            if interrupt is not _MEMBER and (op is None or op.interrupt is not interrupt):
                # That use of it has ended; what is in flight under its user_data now is the next one.
                del self.waiting[0]
                continue
            if self._ring.put(self.user_data, _ASYNC_CANCEL, 0, -1, 0, target, 0, 0, 0, 0, 0) < 0:
                return
            del self.waiting[0]

    def answered(self, op: Operation, res: int, flags: int) -> None:
        """The kernel's answer to a request."""
        if res >= 0:
            self.won += 1
        elif res == -errno.EALREADY:
            self.running += 1
        else:
            self.lost += 1
