"""Receives into buffers that the kernel uses up piece by piece (``IOU_PBUF_RING_INC``).

Invariants
  - A buffer's pieces follow one another: the next starts where the last one ended, in any receive.
  - A buffer goes back to the kernel when it is used up and the handler has returned from its last piece.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import ops
from ..abi import IOU_PBUF_RING_INC
from ..errors import error_from_result
from .dispatch import CompletionOwner

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..contexts.context import ExtSQE
    from ..contexts.pools import ContextPools
    from ..contexts.views import Completion
    from ..kernel.buffers import BufferRing
    from ..ops.base import Fd
    from ..session.provided import ProvidedBuffers

__all__ = ["IncrementalHandler", "IncrementalReceiver"]


class IncrementalHandler:
    """The callbacks for received data; by default each does nothing."""

    def on_data(self, data: memoryview, has_more: bool) -> None:
        """A piece of data came.

        Args:
            data: its bytes, valid until this returns.
            has_more: the same buffer will get another piece.
        """

    def on_complete(self) -> None:
        """The buffer is full, or the stream has ended."""

    def on_error(self, error: OSError) -> None:
        """The receive failed.

        Args:
            error: the reason.
        """

    @classmethod
    def from_callbacks(
        cls,
        on_data: Callable[[memoryview, bool], None] | None = None,
        on_complete: Callable[[], None] | None = None,
        on_error: Callable[[OSError], None] | None = None,
    ) -> IncrementalHandler:
        """Makes a handler of functions.

        Args:
            on_data: as the method of this name; None does nothing.
            on_complete: as the method of this name; None does nothing.
            on_error: as the method of this name; None does nothing.

        Returns:
            The handler.
        """
        return _Callbacks(on_data, on_complete, on_error)


class _Callbacks(IncrementalHandler):
    def __init__(
        self,
        on_data: Callable[[memoryview, bool], None] | None,
        on_complete: Callable[[], None] | None,
        on_error: Callable[[OSError], None] | None,
    ) -> None:
        self._data = on_data
        self._complete = on_complete
        self._error = on_error

    def on_data(self, data: memoryview, has_more: bool) -> None:
        if self._data is not None:
            self._data(data, has_more)

    def on_complete(self) -> None:
        if self._complete is not None:
            self._complete()

    def on_error(self, error: OSError) -> None:
        if self._error is not None:
            self._error(error)


class IncrementalReceiver(CompletionOwner):
    """Receives into an incremental group, until a buffer is full.

    `recv` queues a receive. Its completion, through `uring.dispatch`, queues the next one while the buffer
    has room.

    Args:
        ring: the ring.
        pool: the pool of its slots, such as the ring's ``pools``.
        buffers: the incremental group, with memory of its own.

    Raises:
        ValueError: the group is not incremental, or has no memory of its own.
    """

    def __init__(self, ring: ProvidedBuffers, pool: ContextPools, buffers: BufferRing) -> None:
        if not getattr(buffers, "flags", 0) & IOU_PBUF_RING_INC or not buffers.size:
            raise ValueError("an incremental buffer ring with memory of its own is needed")
        self._ring = ring
        self._pool = pool
        self._buffers = buffers
        self._used: dict[int, int] = {}
        self._receives: dict[int, tuple[ExtSQE, Fd, IncrementalHandler]] = {}

    def recv(self, fd: Fd, handler: IncrementalHandler) -> None:
        """Queues a receive.

        Args:
            fd: the socket, a descriptor or an object with ``fileno()``.
            handler: is called for each piece, and at the end.

        Raises:
            PoolExhausted: no slot, or no room in the queue.
            TypeError: ``handler`` is no `IncrementalHandler`.

        Since:
            Linux 6.12.

        Source:
            io_uring_setup_buf_ring(3), ``IOU_PBUF_RING_INC``; recv(2).
        """
        if not isinstance(handler, IncrementalHandler):
            raise TypeError(f"an IncrementalHandler is needed, not {type(handler).__name__}")
        ext = self._pool.extended()
        ext.sidecar[0] = self
        try:
            self._submit(ext, fd, handler)
        except BaseException:
            self._receives.pop(ext.context, None)
            if not ext.in_flight:
                self._pool.put_extended(ext)
            raise

    def handle_cqe(self, cqe: Completion) -> bool:
        """Handles a completion of one of these receives.

        An exception of the handler is raised here; the receive nevertheless goes on, or has ended.

        Args:
            cqe: the completion, of any of the ring's ``wait`` functions.

        Returns:
            False for any other.
        """
        receive = self._receives.pop(cqe[0], None)
        if receive is None:
            return False
        ext, fd, handler = receive
        error = error_from_result(cqe.res, "recv") if cqe.res < 0 else None
        goes_on = cqe.has_buffer and cqe.has_buffer_more and cqe.res > 0
        try:
            if cqe.has_buffer and cqe.res >= 0:
                self._hand_out(cqe, handler)
        finally:
            if goes_on:
                error = self._again(ext, fd, handler)
            if error is not None or not goes_on:
                self._pool.put_extended(ext)
                if error is not None:
                    handler.on_error(error)
                else:
                    handler.on_complete()
        return True

    def _submit(self, ext: ExtSQE, fd: Fd, handler: IncrementalHandler) -> None:
        self._receives[ext.context] = (ext, fd, handler)
        self._ring.submit(ops.recv(fd, buffer_group=self._buffers.group), ext.context)

    def _again(self, ext: ExtSQE, fd: Fd, handler: IncrementalHandler) -> OSError | None:
        """Queues the receive of the next piece; returns the error if it cannot be queued."""
        try:
            self._submit(ext, fd, handler)
        except OSError as error:
            del self._receives[ext.context]
            return error
        return None

    def _hand_out(self, cqe: Completion, handler: IncrementalHandler) -> None:
        """Gives a piece to the handler, and the buffer back when it is used up."""
        bid, more = cqe.buf_id, cqe.has_buffer_more
        start = self._used.pop(bid, 0)
        if more:
            self._used[bid] = start + cqe.res
        try:
            if cqe.res:
                with self._buffers.views[bid][start : start + cqe.res] as piece:
                    handler.on_data(piece, more)
        finally:
            if not more:
                self._buffers.put(bid)
