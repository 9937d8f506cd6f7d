"""`UringStream.zero_copy_chunks`: leases of the memory that a zero-copy receive put the data into."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trio.lowlevel import enable_ki_protection

from ..multishot.leases import Lease
from .chunks import ByteItems, recv_fields
from .receiver import stream_error
from .zerocopy_feed import OFFSET_SHIFT
from .zerocopy_queue import ZeroCopyQueue

if TYPE_CHECKING:
    from ..multishot.subscription import Subscription
    from .receiver import ByteReceiver
    from .zerocopy_feed import Feed

__all__ = ["ZeroCopyChunks"]

_LEFT_OVER = 65536


class ZeroCopyChunks(ByteItems[Lease]):
    """The iterator; see `UringStream.zero_copy_chunks`.

    Args:
        stream: what to receive from.
        queue: where to; None: a queue of its own, without a card.
    """

    __slots__ = ("_feed", "_own", "_queue", "_stream")

    def __init__(self, stream: ByteReceiver, queue: ZeroCopyQueue | None) -> None:
        super().__init__(stream._receiving_owner, recv_fields, "recv_zero_copy", 0, 0, False, stream._keep)
        self._stream = stream
        self._own = ZeroCopyQueue() if queue is None else None
        self._queue = queue
        self._feed: Feed | None = None

    def _open(self) -> Subscription:
        owner = self._open_owner()
        try:
            self._feed = self._own.open() if self._own is not None else self._queue.feed  # type: ignore[union-attr]
        except BaseException:
            owner.forget()
            raise
        subscription = self._feed.subscribe(owner, self._discard)
        owner.receiving = subscription
        return subscription

    @enable_ki_protection
    async def __anext__(self) -> Lease:
        if self._stream._unread is not None and self._subscription is not None and not self._done:
            return Lease(memoryview(await self._stream._receive_unread(_LEFT_OVER)))
        return await super().__anext__()

    def _item(self, res: int, flags: int) -> Lease:
        feed, offset = self._feed, flags >> OFFSET_SHIFT
        assert feed is not None  # since entering
        return Lease(feed.views.pop(offset), feed, offset)

    def _discard(self, res: int, flags: int) -> None:
        feed, offset = self._feed, flags >> OFFSET_SHIFT
        if res > 0 and feed is not None:
            self._stream._keep(bytes(feed.views[offset]))
            feed.recycle(offset)

    def _last(self, res: int) -> Lease:
        try:
            return super()._last(res)
        except OSError as exc:
            raise stream_error(exc) from exc

    @enable_ki_protection
    async def __aexit__(self, *exc_info: object) -> None:
        try:
            await super().__aexit__(*exc_info)
        finally:
            if self._own is not None:
                await self._own.aclose()
