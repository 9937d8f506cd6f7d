"""Requests to cancel operations, from the call to the kernel's answer.

Invariants
  - A request is never dropped: one that does not fit into the queue waits in ``waiting``.
  - An entry that the kernel has not seen is taken back instead.
  - A request names one use of an operation. Once that use has ended it is not sent: ``user_data`` then names
    the next one.
  - A request that found nothing is repeated while that use goes on. The kernel does not find an operation
    that deferred work, not run yet, is to retry: its file was ready when the wait was armed.

It is independent of why something is cancelled, and of when the ring is entered.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, Any

from uring import abi

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uring.kernel.inflight import Table
    from uring.kernel.ringlike import RingLike
    from uring.kernel.volley import Volley

    from .operation import Operation

__all__ = ["Cancels"]

_Request = tuple[int, Any, int]

_ASYNC_CANCEL = int(abi.IORING_OP_ASYNC_CANCEL)

_MEMBER = object()
"""Stands for the interrupt of a volley's member, whose user_data is never used again."""

_AGAIN = 16
"""How often a request is repeated: the kernel may not find an entry linked behind another for long."""

_MEMBER_AGAIN = 2
"""The same for a member: whether it has ended is not known."""


class Cancels:
    """The requests of one run.

    Attributes:
        user_data: of the operation that the kernel's answers come to, which calls `answered`.
        waiting: requests that are not queued yet, as (user_data, interrupt, how often again).
        deferred: requests that wait for a timer which is due.
        requested, won, lost, running, unsent: see `RingStatistics`.
    """

    def __init__(self, ring: RingLike, table: Table[Operation]) -> None:
        self._ring = ring
        self._table = table
        self.user_data: int = 0
        self.waiting: list[_Request] = []
        self.deferred: list[_Request] = []
        self._asked: deque[_Request | None] = deque()  # requests without an answer, the oldest first
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
        self.waiting.append((op.user_data, op.interrupt, _AGAIN))
        self.send()

    def defer(self, op: Operation) -> None:
        """As `cancel`, for an operation whose linked timer is due: the ring is entered once before. So the
        timer ends it, unless it completed before its time was up: then the result is delivered."""
        self.deferred.append((op.user_data, op.interrupt, _AGAIN))

    def cancel_volley(self, volley: Volley) -> None:
        """Takes back the members that the kernel has not seen and asks it to cancel the others."""
        self.unsent += max(0, volley.unqueue())
        running = volley.unfinished()
        self.requested += len(running)
        self.waiting += [(member, _MEMBER, _MEMBER_AGAIN) for member in running]
        self.send()

    def end(self, ops: Iterable[Operation]) -> None:
        """Cancels the operations and makes the kernel drop their references to the file at once.

        Entries still in the queue never reach the kernel; for the rest one enter carries the cancels and
        then runs the deferred work that ends them, so that a close that follows takes effect. A receive
        whose data has arrived since the last enter is cancelled before that work would take it. Each is
        looked up by its ``user_data``: by descriptor the kernel would look through all that is in flight,
        and find what waits on duplicates too.
        """
        ring = self._ring
        asked = []
        for op in ops:
            if ring.unqueue(op.user_data) > 0:
                self.unsent += 1
            else:
                asked.append((op.user_data, op.interrupt, _AGAIN))
        if not asked:
            if ring.eager:
                ring.flush(0)
            return
        self.requested += len(asked)
        self.waiting += asked
        idle = ring.idle()
        self.send()
        taken = ring.flush(1)
        if taken >= 0 and self.waiting:
            self.send()  # what the queue had no room for
            ring.flush(1)
        elif not idle:
            # Deferred work that this enter ran may have retried one, which its cancel did not find.
            for user_data, _, _ in asked:
                self._put(user_data, None)
            ring.flush(1)

    def take_deferred(self) -> list[_Request]:
        """The requests that `defer` has kept. The caller enters the ring, then calls `flush_deferred`."""
        due, self.deferred = self.deferred, []
        return due

    def flush_deferred(self, due: list[_Request]) -> None:
        """Takes back what the kernel has not seen; the next `send` cancels the rest."""
        for request in due:
            if self._ring.unqueue(request[0]) > 0:
                self.unsent += 1
            else:
                self.requested += 1
                self.waiting.append(request)

    def send(self) -> None:
        """Queues what waits, as far as there is room."""
        while self.waiting:
            target, interrupt, again = request = self.waiting[0]
            op = self._table.find(target)
            if interrupt is not _MEMBER and (op is None or op.interrupt is not interrupt):
                # That use of it has ended; its user_data names the next one.
                self.lost += again < _AGAIN
                del self.waiting[0]
                continue
            if not self._put(target, request):
                return
            del self.waiting[0]

    def _put(self, target: int, request: _Request | None) -> bool:
        """Queues one, if there is room. ``request``: the one that the answer is for; None: it is ignored."""
        if self._ring.put(self.user_data, _ASYNC_CANCEL, 0, -1, 0, target, 0, 0, 0, 0, 0) < 0:
            return False
        self._asked.append(request)
        return True

    def answered(self, op: Operation, res: int, flags: int) -> None:
        """The kernel's answer to the oldest request that has none."""
        request = self._asked.popleft() if self._asked else None
        if res >= 0:
            self.won += 1
        elif res == -errno.EALREADY:
            self.running += 1
        elif request is not None:
            target, interrupt, again = request
            if again:
                self.waiting.append((target, interrupt, again - 1))
            else:
                self.lost += 1
