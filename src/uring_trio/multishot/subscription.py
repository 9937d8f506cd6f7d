"""A multishot operation in progress: one request, many completions, taken one by one.

`Subscription.step` is the only thing that changes the state, by the table in `states`.

  - Each arming takes a new slot. So a late completion of an old arming is never taken for one of the new.
  - The queue is bounded: at ``limit`` the multishot is cancelled, or the kernel ends it because the
    consumer's buffers are used up. It is armed again once half of the queue is taken and a buffer is
    available, never on a timer. Nothing is lost, nothing grows without bound.
  - ``discard`` gives back the completions that are left in the queue, in order, after the last completion:
    descriptors are closed, buffers recycled.
  - Waiting for a completion is not an operation: a cancelled ``get`` leaves the completion in the queue.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

import trio
from trio.lowlevel import enable_ki_protection

from uring import abi

from .. import seams
from ..core.operation import CLOSED_FD
from ..core.restrictions import check
from .states import OVER, TABLE, Action, Event, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..core.fd import Fd
    from ..core.operation import Operation

__all__ = ["Pacer", "Subscription", "Supply"]

_MORE = int(abi.IORING_CQE_F_MORE)
_ECANCELED = -errno.ECANCELED
_ENOBUFS = -errno.ENOBUFS

S = State
_ARMED = State.ARMED


class Pacer(Protocol):
    """The coalescing of a flow; see `uring_trio.net.receive_coalescing`."""

    receive: Callable[[int], bytes]
    receive_into: Callable[[memoryview], int]

    @property
    def active(self) -> bool:
        """Whether the socket holds back data."""

    def consumed(self, size: int) -> None:
        """Notes that the consumer took ``size`` bytes."""

    def close(self) -> None:
        """Ends coalescing for good."""


class Supply(Protocol):
    """Where the memory of a subscription comes from; see `uring_trio.multishot.leases.Group`."""

    on_return: Callable[[], None] | None

    @property
    def available(self) -> int:
        """How many buffers the kernel has; 0: it would find none."""

    def consume(self, res: int, flags: int) -> None:
        """Notes what a completion took."""

    def grow(self) -> None:
        """The kernel found no buffer."""

    def give_back(self) -> None:
        """The consumer is done."""


class Subscription:
    """Completions of one multishot request on a descriptor.

    Args:
        owner: the `Fd`; closing it ends the subscription with `trio.ClosedResourceError`.
        name: the operation's name in the statistics.
        fields: the entry, as ``KernelRing.put`` takes it.
        discard: gives back what a completion (its result and flags) holds.
        limit: completions queued before the multishot is paused.
        pins: what the entry points to.
        group: the buffers that the entry selects from; ``ENOBUFS`` then means that they are used up.
        ends: whether a last completion with this result is the end, and not a reason to arm again.
        merge: makes one queued completion's result of two, so that at most one is queued.
    """

    __slots__ = (
        "_abandoned",
        "_discard",
        "_ends",
        "_fields",
        "_last",
        "_limit",
        "_merge",
        "_op",
        "_paused",
        "_pins",
        "_taking",
        "coalescing",
        "failure",
        "group",
        "name",
        "owner",
        "park",
        "queue",
        "state",
        "task",
    )

    def __init__(
        self,
        owner: Fd,
        name: str,
        fields: tuple[int, ...],
        discard: Callable[[int, int], None],
        limit: int = 256,
        *,
        pins: object = None,
        group: Supply | None = None,
        ends: Callable[[int], bool] | None = None,
        merge: Callable[[int, int], int] | None = None,
    ) -> None:
        self.owner: Fd = owner
        self.group: Supply | None = group
        self.coalescing: Pacer | None = None
        self.state: State = S.IDLE
        self.name: str = name
        self._fields = fields
        self._discard = discard
        self._limit = limit
        self._pins = pins
        self._ends = ends
        self._merge = merge
        self.queue: deque[tuple[int, int]] = deque()
        self._op: Operation | None = None
        self.task: Any = None  # who waits for a completion
        self._last = 0  # the result of the final completion
        self.failure: int = 0  # the same if it is a negative errno that was not raised yet
        self._taking = False
        self._paused = False
        self._abandoned = False
        self.park: Any = seams.park_message(self._abort)
        owner.others.append(self)

    def check(self, res: int) -> None:
        """Raises `uring.OperationRestricted` if a result says that the run's restrictions refuse it."""
        check(self.owner.engine, self._fields[0], res)

    @property
    def op(self) -> Operation | None:
        """The operation of the current arming; None while nothing is armed."""
        return self._op

    @property
    def over(self) -> bool:
        """Whether it was closed: `get` raises `trio.ClosedResourceError`."""
        return self.state in OVER

    @enable_ki_protection
    async def wait(self, *_: object) -> tuple[int, int]:
        """`get` without the look for a cancellation. A task that was woken does not look again: there is
        what it was woken for, an end or a close."""
        if self._taking:
            raise trio.BusyResourceError("another task is already iterating here")
        self._taking = True
        try:
            while not self.queue:
                if self.state is not _ARMED:
                    if self.state in OVER:
                        raise trio.ClosedResourceError(CLOSED_FD)
                    if self.state is S.ENDED:
                        await trio.lowlevel.cancel_shielded_checkpoint()
                        if self.state is not S.ENDED:
                            continue  # closed meanwhile: the end is not reported after a close
                        self.step(Event.GET)
                        self.failure = 0
                        return self._last, 0
                    self._refill()
                    self.step(Event.GET)
                    if self.state is S.IDLE or self._has_room():
                        await trio.lowlevel.checkpoint()  # the kernel takes no more now
                        continue
                await seams.wait_for(self)
        finally:
            self._taking = False
        return self._take()

    @seams.compiled("get", again=wait, usual=0)
    @enable_ki_protection
    async def get(self) -> tuple[int, int]:
        """The next completion's result and flags, or the result that ended the multishot: an errno,
        negative, or what ``ends`` says. That is returned once; the next call arms again.

        Checks for cancellation each time. It yields where the queue is empty, and so at least once per
        refill: completions are delivered between the steps of tasks.

        Raises:
            trio.BusyResourceError: another task is taking completions.
            trio.ClosedResourceError: the descriptor was closed.
        """
        if seams.interrupted():
            await trio.lowlevel.checkpoint_if_cancelled()
        return await self.wait()

    def get_nowait(self) -> tuple[int, int] | None:
        """The result of `get` if it would neither wait nor raise, else None."""
        if not self.queue or self._taking or seams.interrupted():
            return None
        return self._take()

    def _take(self) -> tuple[int, int]:
        taken = self.queue.popleft()
        if self.state is S.RESTING:
            try:
                self._refill()
            except BaseException:
                self.put_back(taken)
                raise
        return taken

    def put_back(self, taken: tuple[int, int]) -> None:
        """Makes a completion that was taken the next one, because there was no memory for its item."""
        self.queue.appendleft(taken)

    @property
    def paused(self) -> bool:
        """Whether `pause` is complete: nothing is in flight, and nothing is left to take."""
        return self._paused and self.state is S.RESTING and not self.queue

    async def pause(self) -> bool:
        """Cancels the multishot and waits for its last completion; it is armed again by `resume` alone.

        A checkpoint only where there is something to wait for. A cancelled call leaves it pausing.

        Returns:
            `paused`. If False, take what `get` returns, then call this again.

        Raises:
            trio.BusyResourceError: another task is taking completions.
        """
        if self._taking:
            raise trio.BusyResourceError("another task is already iterating here")
        self._paused = True
        if self.state is _ARMED:
            self.step(Event.FULL)
        self._taking = True
        try:
            while self._op is not None and not self.queue and self.state is S.PAUSING:
                await seams.wait_for(self)
        finally:
            self._taking = False
        return self.paused

    def resume(self) -> None:
        """Arms the multishot again after `pause`, or lets the next `get` do so."""
        self._paused = False
        self._refill()

    @enable_ki_protection
    async def aclose(self) -> None:
        """Cancels the multishot, waits for its last completion and gives back the queue.

        A task that waits in `get` wakes with `trio.ClosedResourceError`.
        """
        if self in self.owner.others:
            self.owner.others.remove(self)
        self.close()
        if self._op is not None:
            self._op.engine.cancels.cancel(self._op)
            with trio.CancelScope(shield=True):
                while self._op is not None:
                    await seams.wait_for(self)
        while self.queue:
            self._discard(*self.queue.popleft())
        if self.group is not None:
            self.group.give_back()
        if self.owner.receiving is self:
            self.owner.receiving = None

    def close(self) -> None:
        """Marks the subscription as closed; the owner of the descriptor cancels in the kernel."""
        self._close()
        self._wake()

    def abandon(self) -> None:
        """As `aclose` after the end of the run: it waits for nothing and wakes no task."""
        self._close()
        self._abandoned = True
        self.task = None
        while self.queue:
            self._discard(*self.queue.popleft())

    def _close(self) -> None:
        self.step(Event.CLOSE)
        if self.coalescing is not None:
            self.coalescing.close()

    def step(self, event: Event) -> None:
        """Follows the table. Raises `uring.IllegalEvent` where the event cannot happen now."""
        after, action = TABLE.step(self.state, event)
        if after is self.state:
            return
        if action is Action.ARM and not self._arm():
            return
        if action is Action.CANCEL and self._op is not None:
            self._op.engine.cancels.cancel(self._op)
        if self.group is not None:
            self.group.on_return = self._returned if after is S.RESTING else None
        self.state = after

    def _returned(self) -> None:
        if self._paused:
            return
        self._refill()
        if self._has_room():
            self._wake()  # the kernel takes no more now: the consumer goes on trying

    def _refill(self) -> None:
        """Arms a resting multishot again if there is room for what it brings. Where the kernel takes no more
        now, the next `get` tries again."""
        group = self.group
        if group is not None and not group.available and self.state is S.RESTING and not self._paused:
            # There may have been no ENOBUFS: a bundle has the last buffer, or the consumer took it.
            group.grow()
        if self._has_room():
            self.step(Event.ROOM)

    def _has_room(self) -> bool:
        enough = len(self.queue) <= self._limit // 2 and (self.group is None or self.group.available > 0)
        return enough and self.state is S.RESTING and not self._paused

    def _arm(self) -> bool:
        """Queues the request; False if the kernel takes no more now."""
        engine = self.owner.engine
        op = self.owner.operation(self.name)
        if op.put(op.user_data, *self._fields) < 0:
            engine.release(op)
            engine.check_usable()
            return False
        op.handler = self
        op.pins = self._pins
        self._op = op
        return True

    def __call__(self, op: Operation, res: int, flags: int) -> None:
        """Takes a completion, as the handler of its operation."""
        more = flags & _MORE
        group = self.group
        if group is not None:
            group.consume(res, flags)
            if more and self.state is _ARMED and self._merge is None:
                # The usual case, without the checks below.
                self.queue.append((res, flags))
                task = self.task
                if task is not None:
                    self.task = None
                    seams.reschedule(op.runner, task, seams.DONE)
                return
        ends = not more and res >= 0 and self._ends is not None and self._ends(res)
        if self._abandoned:
            if res >= 0:
                self._discard(res, flags)
        elif (more or res >= 0) and not ends:
            queue = self.queue
            if self._merge is not None and queue:
                queue[0] = self._merge(queue[0][0], res), flags
            else:
                queue.append((res, flags))
                if more and len(queue) == self._limit and self.group is None:
                    self.step(Event.FULL)
        if not more:
            self._op = None
            op.engine.release(op)
            if res == _ENOBUFS and self.group is not None:
                self.group.grow()
            passing = res >= 0 or res == _ECANCELED or (res == _ENOBUFS and self.group is not None)
            if ends or not passing:
                self._last = res
                self.failure = min(res, 0)
                self.step(Event.FINAL)
            else:
                self.step(Event.LAST)
                self._refill()
        elif self.state is S.CLOSING:
            # A cancel that meets a timer just as it fires finds nothing to stop: ask again.
            op.engine.cancels.cancel(op)
        self._wake()

    def _wake(self) -> None:
        if self.task is not None:
            task, self.task = self.task, None
            self.owner.engine.reschedule(task)

    def _abort(self, raise_cancel: object) -> seams.Abort:
        self.task = None
        return seams.Abort.SUCCEEDED


seams.describe_subscriptions(Subscription, S.ARMED, S.RESTING)
