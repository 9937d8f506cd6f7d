"""The iterators over subscriptions that programs use."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

import trio
from trio.lowlevel import enable_ki_protection

from uring import abi
from uring.errors import error_from_result
from uring.kernel.op import Multishot, Op, descriptor

from ..core.engine import current
from ..core.fd import Fd
from ..core.perform import check_alone
from .states import OVER, State
from .subscription import Subscription

__all__ = ["Items", "subscribe"]

_SELECT = int(abi.IOSQE_BUFFER_SELECT)
_TIMEOUT = int(abi.IORING_OP_TIMEOUT)

T_co = TypeVar("T_co", covariant=True)


class Items(ABC, Generic[T_co]):
    """The items of a subscription: an async context manager, and the iterator of its block.

    Entering makes no system call; the first iteration submits the multishot. Leaving the block in any way
    cancels it, waits for its last completion and gives back the completions in the queue. One task may
    iterate at a time.
    """

    __slots__ = ("_done", "_subscription")

    def __init__(self) -> None:
        self._subscription: Subscription | None = None
        self._done = False

    @abstractmethod
    def _open(self) -> Subscription:
        """Makes the subscription, or raises the error in its arguments."""

    @abstractmethod
    def _item(self, res: int, flags: int) -> T_co:
        """The item of a completion; MemoryError, with nothing changed, where there is no memory for it."""

    def _item_of(self, subscription: Subscription, taken: tuple[int, int]) -> T_co:
        """The item of a completion that was taken, which goes back where there is no memory for the item."""
        try:
            return self._item(*taken)
        except MemoryError:
            subscription.put_back(taken)
            raise

    def _last(self, res: int) -> T_co:
        """The item of a final result, or the exception that this raises."""
        if res < 0:
            subscription = self._subscription
            assert subscription is not None
            subscription.check(res)
            raise error_from_result(res, subscription.name, subscription.owner.fd)
        self._done = True
        raise StopAsyncIteration

    @enable_ki_protection
    async def __aenter__(self) -> Items[T_co]:
        if self._subscription is not None:
            raise RuntimeError("this was entered before; make a new one")
        await trio.lowlevel.checkpoint()
        self._subscription = self._open()
        return self

    @enable_ki_protection
    async def __aexit__(self, *exc_info: object) -> None:
        subscription = self._subscription
        assert subscription is not None
        self._done = True
        await subscription.aclose()
        subscription.owner.forget()

    def __aiter__(self) -> Items[T_co]:
        return self

    @enable_ki_protection
    async def __anext__(self) -> T_co:
        subscription = self._subscription
        if subscription is None:
            if self._done:
                raise trio.ClosedResourceError("the block of this iterator was left")
            raise RuntimeError("enter it first: async with … as items, then async for item in items")
        if self._done:  # the queue is given back: a block that is being left waits for it
            await trio.lowlevel.checkpoint()
            if subscription.state in OVER:
                raise trio.ClosedResourceError("the block of this iterator was left")
            raise StopAsyncIteration
        taken = subscription.get_nowait() if subscription.queue else None
        if taken is None:
            taken = await subscription.get()
            if taken[0] <= 0 and subscription.state is State.IDLE:
                return self._last(taken[0])
        return self._item_of(subscription, taken)


class subscribe(Items[T_co]):
    """The completions of any multishot operation of ``uring.ops``, decoded:

        async with uring_trio.subscribe(ops.poll_add_multishot(fd, select.POLLIN)) as completions:
            async for events in completions:
                use(events)

    The queue is bounded: a consumer that falls behind pauses the operation. It is armed again where it ends
    for a passing reason, an overflow of the completion queue; on an error it raises. A timeout that fires
    brings 0; one with a count ends after it.

    Args:
        op: a multishot operation of `uring.ops`.

    Raises:
        ValueError: the operation completes once (`perform` it), takes buffers of a group (use
            `UringStream.chunks`, `read_chunks` or `UringDatagrams`), is linked to the next entry, which may
            be another task's, or has no completion if it succeeds. Nothing is armed.
        TypeError: not an operation.
        OSError: while iterating, the kernel's errno.
        trio.ClosedResourceError: while iterating, the descriptor was closed.
        RuntimeError: outside a ring run.
    """

    __slots__ = ("_op",)

    def __init__(self, op: Op[T_co]) -> None:
        super().__init__()
        if not isinstance(op, Op):
            raise TypeError(f"subscribe takes an operation made by uring.ops, not {type(op).__name__}")
        if op.fields[1] & _SELECT:
            raise ValueError(f"{op.name} takes buffers of a group: use chunks, datagrams or read_chunks")
        if not isinstance(op, Multishot):
            raise ValueError(f"{op.name} completes once: perform it, or use its multishot form")
        check_alone(op)
        self._op = op

    def _open(self) -> Subscription:
        engine, op = current(), self._op
        owner = Fd.borrow(engine, descriptor(op.fields))
        release = op.discard

        def discard(res: int, flags: int) -> None:
            if release is not None and res >= 0:
                release(res)

        ends = (lambda res: True) if op.opcode == _TIMEOUT else None
        return Subscription(owner, op.name, op.fields, discard, pins=op.pins, ends=ends)

    def _item(self, res: int, flags: int) -> T_co:
        decode = self._op.decode
        return max(res, 0) if decode is None or res < 0 else decode(res)  # type: ignore[return-value]

    def _last(self, res: int) -> T_co:
        if self._op.opcode == _TIMEOUT and res == -errno.ETIME:
            self._done = True
            return 0  # type: ignore[return-value]
        return super()._last(res)
