"""An open queue of zero-copy receives: its memory, and the ring that they need beside that of the run.

Completions of such receives have 32 bytes, those of a run's ring 16. So a queue opens a second ring, which
signals an eventfd when it has work, and the run's ring polls that.

Invariants
  - The second ring is entered by the run's thread alone, and never waits.
  - A piece of memory is with the kernel, in a completion that a consumer has not taken, in a `Lease`, or in
    the refill ring.
  - The second ring is closed when nothing is in flight on it and no poll of the eventfd is left. The memory
    stays as long as a lease shows it.
"""

from __future__ import annotations

import errno
import mmap
import os
import select
from collections import deque
from operator import not_
from typing import TYPE_CHECKING, Any

import trio

from uring import abi
from uring.kernel.ring import CQE_BIG

from .. import seams
from ..multishot.leases import Lender
from ..multishot.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable

    from uring.machines.zcrx_queue import ZCRXQueue

    from ..core.engine import Engine
    from ..core.fd import Fd
    from ..core.operation import Operation

__all__ = ["OFFSET_SHIFT", "RECV_ZC", "Feed", "ZeroCopySubscription"]

RECV_ZC = int(abi.IORING_OP_RECV_ZC)
_MULTISHOT = int(abi.IORING_RECV_MULTISHOT) << 8
_POLL_ADD = int(abi.IORING_OP_POLL_ADD)
_ASYNC_CANCEL = int(abi.IORING_OP_ASYNC_CANCEL)
_MORE = int(abi.IORING_CQE_F_MORE)
_CANCEL = 1 << 62  # user_data of cancels, whose completions are ignored
OFFSET_SHIFT = 32
"""Where a piece is, in a completion's flags: above the kernel's 32 bits."""


class Feed(Lender):
    """An open queue: its ring, the memory, and the receives that are in flight.

    Attributes:
        queue: the memory, and the refill ring.
        views: what arrived and was not taken, by its offset.
    """

    __slots__ = (
        "_arrived",
        "_delivering",
        "_engine",
        "_entering",
        "_eventfd",
        "_late",
        "_next",
        "_poll",
        "_receives",
        "_ring",
        "_sizes",
        "_subscriptions",
        "_watching",
        "park",
        "queue",
        "task",
        "views",
    )

    def __init__(self, engine: Engine, ring: Any, queue: ZCRXQueue) -> None:
        super().__init__(engine.run_soon)
        self._engine = engine
        self._ring = ring
        self.queue: ZCRXQueue = queue
        self.views: dict[int, memoryview[int]] = {}
        self._sizes: dict[int, int] = {}  # of all that arrived and was not given back
        self._late: list[tuple[int, int]] = []  # what the refill ring had no room for
        self._subscriptions: set[ZeroCopySubscription] = set()
        self._receives: dict[int, _Receive] = {}
        self._next = 1
        self._arrived: deque[tuple[int, int, int, int]] = deque()
        self._delivering = False
        self._watching = False
        self._entering = False  # whether the next tick enters
        self.task: Any = None  # who waits for the end of the poll
        self.park: Any = seams.park_message(_abort)
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        try:
            ring.register_eventfd(self._eventfd)
            self._poll: Operation = engine.acquire("recv_zero_copy", self._eventfd)
        except BaseException:
            os.close(self._eventfd)
            ring.close()
            raise
        self._poll.handler = self._on_signal
        engine.queues.add(self)
        engine.on_close[self] = self._end

    @property
    def pages(self) -> int:
        """How many pages the memory has."""
        return self.queue.area.nbytes // mmap.PAGESIZE

    @property
    def on_loan(self) -> int:
        """Pieces in leases, or not taken yet."""
        return len(self._sizes)

    @property
    def cancels(self) -> Feed:
        """This feed, which ends its receives as the run's `Cancels` end its operations."""
        return self

    # ---- receives ------------------------------------------------------------------------------------

    def subscribe(self, owner: Fd, discard: Callable[[int, int], None]) -> ZeroCopySubscription:
        """A receive of a consumer, which its first ``get`` submits."""
        subscription = ZeroCopySubscription(self, owner, discard)
        self._subscriptions.add(subscription)
        return subscription

    def forget(self, subscription: ZeroCopySubscription) -> None:
        """Nothing is in flight for it any more."""
        self._subscriptions.discard(subscription)

    def submit(self, subscription: ZeroCopySubscription) -> _Receive | None:
        """Submits a receive; None where the kernel takes none now."""
        self.queue.flush()
        receive = _Receive(self, self._next, subscription)
        fd = subscription.owner.fd
        fields = RECV_ZC, _MULTISHOT, fd, 0, 0, 0, 0, 0, self.queue.zcrx_id, 0
        if self._ring.put_now(receive.user_data, *fields) < 0:
            return None
        self._next += 1
        self._receives[receive.user_data] = receive
        self._watch()
        self._enter_again()
        return receive

    def cancel(self, receive: _Receive) -> None:
        """Ends a receive, which makes the kernel drop its reference to the socket. Data that
        had arrived is delivered before its end."""
        if receive.user_data in self._receives:
            self._ring.put(_CANCEL, _ASYNC_CANCEL, 0, -1, 0, receive.user_data, 0, 0, 0, 0, 0)
            self.take()

    def release(self, receive: _Receive) -> None:
        """The last completion of a receive was delivered."""

    def take(self) -> None:
        """Enters the second ring and delivers its completions; a call from within adds to those that are
        left."""
        while (n := self._ring.cycle(0.0)) > 0:
            completions = CQE_BIG.iter_unpack(self._ring.out[: n * CQE_BIG.size])
            self._arrived += [
                (user_data, res, flags, offset) for user_data, res, flags, offset, _ in completions
            ]
        if self._delivering:
            return
        self._delivering = True
        try:
            while self._arrived:
                self._deliver(*self._arrived.popleft())
        finally:
            self._delivering = False
        self._watch()
        self._enter_again()

    def _enter_again(self) -> None:
        """Enters in the next tick where the kernel has not taken all of the queue: nothing else would."""
        if self._ring.pending and not self._entering:
            self._entering = True
            self._engine.run_soon(self._enter)

    def _enter(self) -> None:
        self._entering = False
        if not self.closed:
            self.take()

    def _deliver(self, user_data: int, res: int, flags: int, offset: int) -> None:
        receive = self._receives.get(user_data)
        if receive is None:
            return  # the answer to a cancel
        if res > 0:
            self.views[offset] = self.queue.locate(offset, res)
            self._sizes[offset] = res
        elif res == -errno.ENOMEM and receive.subscription.share.passes():
            res = -errno.ENOBUFS
        elif res == -errno.ENOSPC:
            res = -errno.ECANCELED  # the completion queue was full
        if not flags & _MORE:
            del self._receives[user_data]
        receive.subscription.deliver(receive, res, flags | offset << OFFSET_SHIFT)

    def recycle(self, bid: int) -> None:
        """Gives the piece at an offset back to the kernel."""
        if self.closed:
            return
        self.views.pop(bid, None)
        self._late.append((bid, self._sizes.pop(bid)))
        try:
            while self._late:
                self.queue.refill(*self._late[-1])
                self._late.pop()
        except BlockingIOError:
            pass  # the refill ring is full; the next one tries again
        for subscription in list(self._subscriptions):
            if subscription.share.on_return is not None:
                subscription.share.on_return()

    # ---- signals -------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Polls the eventfd while something is in flight."""
        if self._receives and not self._watching and not self._engine.closed:
            self._watching = True
            self._engine.submit(self._poll, (_POLL_ADD, 0, self._eventfd, 0, 0, 0, select.POLLIN, 0, 0, 0))

    def _on_signal(self, op: Operation, res: int, flags: int) -> None:
        self._watching = False
        try:
            os.eventfd_read(self._eventfd)
        except BlockingIOError:
            pass  # the poll was cancelled
        self.take()
        if not self._watching and self.task is not None:
            task, self.task = self.task, None
            self._engine.reschedule(task)

    # ---- the end -------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Closes every receive, and the ring. Cancelled it goes on closing."""
        for subscription in list(self._subscriptions):
            subscription.close()
        with trio.CancelScope(shield=True):
            await trio.lowlevel.checkpoint()
            while self._watching:
                self._engine.cancels.cancel(self._poll)
                await seams.wait_for(self)
        self._engine.release(self._poll)
        self._end()

    def _end(self) -> None:
        """Closes the ring, which has nothing in flight."""
        self._engine.on_close.pop(self, None)
        self._engine.queues.discard(self)
        self.closed = True
        self._ring.close()
        os.close(self._eventfd)


class ZeroCopySubscription(Subscription):
    """A multishot receive on the second ring."""

    __slots__ = ("_feed", "share")

    def __init__(self, feed: Feed, owner: Fd, discard: Callable[[int, int], None]) -> None:
        self._feed = feed
        self.share: _Share = _Share(feed, self)
        super().__init__(
            owner, "recv_zero_copy", (RECV_ZC,), discard, feed.pages, group=self.share, ends=not_
        )

    @property
    def op(self) -> None:
        """None of the run's ring: closing the descriptor finds nothing to cancel there."""
        return

    def close(self) -> None:
        super().close()
        self._cancel()

    def abandon(self) -> None:
        super().abandon()
        self._cancel()

    def deliver(self, receive: Any, res: int, flags: int) -> None:
        """A completion of it, with the place of the data above the kernel's flags."""
        self(receive, res, flags)

    def _cancel(self) -> None:
        receive: Any = self._op
        if receive is not None:
            self._feed.cancel(receive)

    def _arm(self) -> bool:
        self.share.arm()
        receive: Any = self._feed.submit(self)
        self._op = receive
        return receive is not None


class _Share:
    """The memory as a subscription sees it: whether a receive would find any."""

    __slots__ = ("_feed", "_seen", "_subscription", "on_return")

    def __init__(self, feed: Feed, subscription: ZeroCopySubscription) -> None:
        self._feed = feed
        self._subscription = subscription
        self._seen = 0  # how much had come back when it was armed
        self.on_return: Callable[[], None] | None = None

    def arm(self) -> None:
        """Notes that a receive is about to be submitted."""
        self._seen = self._feed.queue.refilled

    @property
    def available(self) -> int:
        """Whether memory has come back since, or all of it is there."""
        queue = self._feed.queue
        return int(queue.refilled != self._seen or not queue.on_loan)

    def passes(self) -> bool:
        """Whether a receive that found no memory may find some later. Not where nothing is on loan and
        nothing came back: then the kernel itself has none."""
        queue = self._feed.queue
        return queue.on_loan > 0 or queue.refilled != self._seen

    def consume(self, res: int, flags: int) -> None:
        """The kernel chooses the memory, and the queue counts it."""

    def grow(self) -> None:
        """The memory does not grow."""

    def give_back(self) -> None:
        """The consumer is done."""
        self.on_return = None
        self._feed.forget(self._subscription)


class _Receive:
    """A receive in flight, as a `Subscription` sees an operation."""

    __slots__ = ("engine", "runner", "subscription", "user_data")

    def __init__(self, feed: Feed, user_data: int, subscription: ZeroCopySubscription) -> None:
        self.engine: Feed = feed
        self.runner: Any = subscription.owner.engine.runner
        self.user_data: int = user_data
        self.subscription: ZeroCopySubscription = subscription


def _abort(raise_cancel: object) -> seams.Abort:
    return seams.Abort.FAILED  # it is waited for in a shield
