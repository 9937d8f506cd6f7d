"""A multishot operation in progress: one request, many completions, taken one by one.

Invariants
  - Only a completion without ``F_MORE`` ends an arming, with an error or not. Each arming takes a slot of
    its own, so that what is left of an old one cannot be taken for the new one.
  - The queue is bounded: at ``limit`` the multishot is cancelled, and armed again once half is taken.
    Nothing is lost, nothing grows without bound.
  - What nobody takes is given back by ``discard``: descriptors are closed, buffers returned.
  - Waiting for a completion is not an operation: a cancelled ``get`` leaves the completion in the queue.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, Any

import trio

from uring import abi

from . import seams

if TYPE_CHECKING:
    from collections.abc import Callable

    from .fd import Channel
    from .operation import Operation

__all__ = ["Subscription"]

_MORE = int(abi.IORING_CQE_F_MORE)


class Subscription:
    """Completions of one multishot request on a channel.

    Args:
        channel: the descriptor; closing it ends the subscription with `trio.ClosedResourceError`.
        name: the operation's name in the statistics.
        fields: the entry, as ``KernelRing.put`` takes it.
        discard: gives back what a completion (its result and flags) holds.
        limit: completions queued before the multishot is paused.
    """

    __slots__ = (
        "_closed",
        "_discard",
        "_ended",
        "_fields",
        "_fresh",
        "_limit",
        "_name",
        "_op",
        "_park",
        "_queue",
        "_taking",
        "_task",
        "channel",
    )

    def __init__(
        self,
        channel: Channel,
        name: str,
        fields: tuple[int, ...],
        discard: Callable[[int, int], None],
        limit: int = 256,
    ) -> None:
        self.channel: Channel = channel
        self._name = name
        self._fields = fields
        self._discard = discard
        self._limit = limit
        self._queue: deque[tuple[int, int]] = deque()
        self._op: Operation | None = None
        self._task: Any = None
        self._ended: int | None = None  # the result that ended the last arming
        self._closed = False
        self._fresh = False  # something was queued since the last yield
        self._taking = False
        self._park = seams.park_message(self._abort)
        channel.others.append(self)

    @property
    def op(self) -> Operation | None:
        """The operation of the current arming; None while nothing is armed."""
        return self._op

    async def get(self) -> tuple[int, int]:
        """The next completion's result and flags: zero or more, or the errno that ended the multishot,
        negative, once each; the next call arms it again.

        Checks for cancellation each time and yields at least once per refill of the queue.

        Raises:
            trio.BusyResourceError: another task is taking completions.
            trio.ClosedResourceError: the descriptor was closed.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._taking:
            raise trio.BusyResourceError("another task is already iterating here")
        self._taking = True
        try:
            if self._queue and self._fresh:
                await trio.lowlevel.cancel_shielded_checkpoint()
            while not self._queue:
                if self._closed:
                    raise trio.ClosedResourceError("another task closed this fd")
                if self._op is None:
                    ended, self._ended = self._ended, None
                    if ended is not None and ended != -errno.ECANCELED:
                        await trio.lowlevel.cancel_shielded_checkpoint()
                        return ended, 0
                    if not self._arm():
                        await trio.lowlevel.checkpoint()
                        continue
                await self._wait()
            self._fresh = False
            return self._take()
        finally:
            self._taking = False

    async def aclose(self) -> None:
        """Cancels the multishot, waits for its last completion and gives back what nobody took.

        A task that waits in `get` wakes with `trio.ClosedResourceError`.
        """
        if self in self.channel.others:
            self.channel.others.remove(self)
        self.close()
        if self._op is not None:
            self._op.manager.cancel(self._op)
            with trio.CancelScope(shield=True):
                while self._op is not None:
                    await self._wait()
        while self._queue:
            self._discard(*self._queue.popleft())

    def close(self) -> None:
        """Marks the subscription as closed; whoever closes the descriptor cancels in the kernel."""
        self._closed = True
        self._wake()

    def abandon(self) -> None:
        """As `aclose` where the run is over: nothing is waited for, and there is nobody left to wake."""
        self._closed = True
        self._task = None
        while self._queue:
            self._discard(*self._queue.popleft())

    def _arm(self) -> bool:
        """Queues the request; False if the kernel takes no more now."""
        manager = self.channel.manager
        op = manager.acquire(self._name, self.channel.fd)
        if op.put(op.user_data, *self._fields) < 0:
            manager.release(op)
            manager.check_usable()
            return False
        op.handler = self._on_completion
        self._op = op
        return True

    def _take(self) -> tuple[int, int]:
        paused = self._op is None and self._ended in (None, -errno.ECANCELED)
        if paused and not self._closed and len(self._queue) <= self._limit // 2:
            self._ended = None
            self._arm()
        return self._queue.popleft()

    def _on_completion(self, op: Operation, res: int, flags: int) -> None:
        if op is not self._op or self._closed:
            if res >= 0:
                self._discard(res, flags)
        elif res >= 0:
            self._queue.append((res, flags))
            self._fresh = True
            if flags & _MORE and len(self._queue) == self._limit:
                op.manager.cancel(op)
        if not flags & _MORE:
            op.manager.release(op)
            if op is self._op:
                self._op = None
                self._ended = res if res < 0 else None
        self._wake()

    async def _wait(self) -> None:
        self._task = seams.current_task()
        await seams.wait(self._park)

    def _wake(self) -> None:
        if self._task is not None:
            task, self._task = self._task, None
            self.channel.manager.reschedule(task)

    def _abort(self, raise_cancel: object) -> seams.Abort:
        self._task = None
        return seams.Abort.SUCCEEDED
