"""A group of provided buffers for programs: every buffer goes back once, or with its block.

The kernel gives a buffer that is put twice to two receives at once, without an error. So `BufferGroup.put`
checks where the buffer is.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from .. import abi
from ..contexts.views import Completion
from ..errors import PoolExhausted, RingClosed
from ..kernel.buffers import BufferRing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from typing_extensions import Buffer

    from ..kernel.ring import KernelRing

__all__ = ["BufferGroup"]


class BufferGroup(BufferRing):
    """A buffer ring that `uring.Ring.register_buf_ring` makes.

    ``with ring.register_buf_ring(…) as group:`` unregisters it at the end of the block. Requests that wait
    for its buffers then end with ``ENOBUFS``.

    Args:
        ring: the ring.
        close: unregisters the group.
        group: the group's number, 0 to 65535.
        count: how many buffers, 1 to 32768.
        size: bytes of each, 1 to 2**31 - 1.
        flags: ``IOU_PBUF_RING_*`` bits.
        empty: the ring starts without buffers, for the caller's own.
        min_left: of incremental buffers: one with fewer bytes left counts as used up.
    """

    def __init__(
        self,
        ring: KernelRing,
        close: Callable[[BufferGroup], None],
        group: int,
        count: int,
        size: int,
        flags: int = 0,
        *,
        empty: bool = False,
        min_left: int = 0,
    ) -> None:
        self._close = close
        self._offsets: dict[int, int] = {}
        super().__init__(ring, group, count, size, flags, empty=empty, min_left=min_left)
        self._recycle = self.put
        self.put: Callable[[int], int] = self._put_back

    def _put_back(self, bid: int) -> int:
        """Gives a buffer back to the kernel; returns 0.

        Raises:
            TypeError, ValueError: it is no buffer of this group, or it is in the ring already.
            RingClosed: the group was closed.
        """
        if isinstance(bid, bool) or not isinstance(bid, int):
            raise TypeError(f"a buffer's number is an int, not {type(bid).__name__}")
        if not self.size:
            raise ValueError("this ring has no memory of its own: use provide")
        if not 0 <= bid < self.count:
            raise ValueError(f"the group has buffers 0 to {self.count - 1}, not {bid}")
        if self.closed or self._ring.closed:
            raise RingClosed(f"buffer group {self.group} was closed")
        if self.queued(bid):
            raise ValueError(f"buffer {bid} is in the ring already: it was put, and not taken since")
        self._offsets.pop(bid, None)
        return self._recycle(bid)

    def provide(self, bid: int, buffer: Buffer) -> None:
        """Puts memory of the caller's into the ring, as a buffer; it is kept until `close`.

        Args:
            bid: the buffer's number, 0 to 65535.
            buffer: writable memory.

        Raises:
            ValueError: ``bid`` is out of range, or in the ring already, or the ring has memory of its own.
            PoolExhausted: the ring is full.
            TypeError: ``bid`` is no int, or the memory is read-only.
            RingClosed: the group was closed.
        """
        usable = not self.closed and not self._ring.closed
        if usable and not self.size and isinstance(bid, int) and 0 <= bid <= 0xFFFF:
            if self.queued(bid):
                raise ValueError(f"buffer {bid} is in the ring already: it was put, and not taken since")
            if self.full():
                raise PoolExhausted(f"buffer group {self.group} has room for {self.entries} buffers")
        super().provide(bid, buffer)

    @contextmanager
    def borrow(self, cqe: Completion) -> Iterator[memoryview]:
        """The data of a completion for a ``with`` block, at whose end the buffer goes back.

        ``with group.borrow(cqe) as view:`` At the end of the stream the view is empty. In an incremental
        group the view is the new piece, and the buffer goes back with its last piece: borrow each completion
        once, in their order.

        Args:
            cqe: the completion.

        Returns:
            A context manager of the view.

        Raises:
            TypeError: ``cqe`` is no completion.
            OSError: the completion is an error.
            ValueError: it filled several buffers (see `BundleIterator`), took none or one of another group,
                or the buffer went back already.
        """
        if not isinstance(cqe, Completion):
            raise TypeError(f"a completion is needed, not {type(cqe).__name__}")
        if cqe.res < 0:
            cqe.result()
        if not cqe.has_buffer:
            if cqe.res:
                raise ValueError("the completion took no buffer: the data is in the memory of its request")
            yield memoryview(b"")
            return
        bid, start, request = cqe.buf_id, 0, cqe.request
        if request is not None and request.fields[7] != self.group:
            raise ValueError(f"the buffer is of group {request.fields[7]}, and this is group {self.group}")
        if self.flags & abi.IOU_PBUF_RING_INC:
            start = self._offsets.get(bid, 0)
        elif not self.closed and not self._ring.closed and self.queued(bid):
            raise ValueError(f"buffer {bid} is in the ring: what the completion brought is gone")
        if not 0 <= bid < self.count or start + cqe.res > self.size:
            raise ValueError("the completion filled several buffers, or one of another group")
        view = self.views[bid][start : start + cqe.res]
        self._offsets[bid] = start + cqe.res
        try:
            yield view
        finally:
            try:
                view.release()
            finally:
                if not (cqe.has_buffer_more or self.closed or self._ring.closed):
                    self.put(bid)

    def __enter__(self) -> BufferGroup:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.closed:
            self._close(self)
