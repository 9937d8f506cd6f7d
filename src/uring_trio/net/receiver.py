"""Streams as receivers: `ByteReceiver.chunks`, with coalesced receives where the socket can."""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, overload

import trio
from trio.lowlevel import enable_ki_protection

from .. import seams
from ..core.fd import CLOSED
from ..multishot.leases import Lease
from ..multishot.states import State
from .chunks import ByteItems, bundles_work, recv_fields
from .receive_coalescing import COALESCE_AFTER, Coalescing

if TYPE_CHECKING:
    from ..core.engine import Engine
    from ..core.fd import Fd
    from ..multishot.items import Items
    from ..multishot.subscription import Pacer, Subscription

__all__ = ["ByteReceiver", "stream_error"]

_PIECE = 1 << 20
"""Bytes that a plain receive makes room for at most: memory for more is new from the kernel each time."""


class ByteReceiver(ABC):
    """The common part of streams: `chunks`, and the data that it received and the consumer did not take."""

    __slots__ = ("_unread",)

    def __init__(self) -> None:
        self._unread: deque[bytes | OSError] | None = None  # left over from chunks()

    @abstractmethod
    async def receive_some(self, max_bytes: int | None = None, *, timeout: float | None = None) -> bytes:
        """See `trio.abc.ReceiveStream.receive_some`."""

    @abstractmethod
    def _receiving_owner(self) -> Fd:
        """The `Fd` to receive from, which no other task receives from now."""

    def _coalescing(self, engine: Engine, room: int) -> Coalescing | None:
        """The coalescing of a fast flow, where this is a socket that can coalesce."""
        return None

    @abstractmethod
    def _check_open(self) -> None:
        """Raises `trio.ClosedResourceError` if this is closed."""

    @overload
    def chunks(
        self, *, copy: Literal[True] = True, bundle: bool = False, chunk_size: int = 262144, buffers: int = 4
    ) -> ByteItems[bytes]: ...
    @overload
    def chunks(
        self, *, copy: Literal[False], bundle: bool = False, chunk_size: int = 262144, buffers: int = 4
    ) -> ByteItems[Lease]: ...
    @overload
    def chunks(
        self, *, copy: bool, bundle: bool = False, chunk_size: int = 262144, buffers: int = 4
    ) -> ByteItems[Any]: ...
    def chunks(
        self, *, copy: bool = True, bundle: bool = False, chunk_size: int = 262144, buffers: int = 4
    ) -> ByteItems[Any]:
        """Data as it arrives, by one multishot receive:

            async with stream.chunks() as chunks:
                async for data in chunks:
                    use(data)

        The iteration ends with the peer's end of stream. It stops receiving when all buffers are in use and
        continues when one is recycled, so that a slow consumer slows its peer down. When the block is left
        (by a break, an exception, a cancel), `receive_some`, `receive_into` or the next ``chunks`` returns
        first the data that had arrived and was not taken; ``stream.socket`` does not return it.

        Args:
            copy: items are bytes. False: each is a `Lease` of the memory that the data arrived in, which
                the consumer gives back by leaving ``with lease:``. A consumer that holds all of its buffers
                stops receiving; others are unaffected.
            bundle: one completion for all that has arrived, in as many buffers as it takes: for small
                buffers and large amounts. Ignored where this kernel's bundles fail a test.
            chunk_size: bytes in each buffer: without ``bundle`` the most that an item has.
            buffers: the number of buffers.

        Raises:
            TypeError, ValueError: on entering, no such sizes or more than `RingOptions.group_memory`.
            trio.BusyResourceError: on entering, another task or ``chunks`` is receiving; while iterating,
                another task iterates.
            trio.BrokenResourceError: while iterating, the connection is gone.
            trio.ClosedResourceError: the stream, or the block, was closed.
            RuntimeError: iterated without ``async with``.
        """
        return _StreamChunks(self, copy, bundle, chunk_size, buffers)

    async def _receive_unread(self, size: int, timeout: float | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        self._check_open()
        unread = self._unread
        if not unread:
            self._unread = None
            return await self.receive_some(size, timeout=timeout)
        first = unread.popleft()
        if not unread:
            self._unread = None
        if isinstance(first, OSError):
            raise stream_error(first) from first
        if len(first) > size:
            self._unread = unread
            unread.appendleft(first[size:])
        return first[:size]

    def _keep(self, item: bytes | OSError) -> None:
        if self._unread is None:
            self._unread = deque()
        self._unread.append(item)


class _StreamChunks(ByteItems[Any]):
    """`UringStream.chunks`: by single receives where the kernel has no room for another group of buffers,
    which happens early in processes without privileges."""

    __slots__ = ("_bundle", "_burst", "_dry", "_inline", "_piece", "_single", "_stream", "_waiting")

    def __init__(self, stream: ByteReceiver, copy: bool, bundle: bool, size: int, count: int) -> None:
        self._bundle = bundle and bundles_work()
        fields = partial(recv_fields, bundle=self._bundle)
        super().__init__(stream._receiving_owner, fields, "recv_multishot", size, count, copy, stream._keep)
        self._stream = stream
        self._single = False
        self._piece = min(size, _PIECE) if copy else size
        self._inline = False  # a fast flow is received by plain calls; bundles bring more at a time
        self._burst = count  # plain calls since other tasks could run
        self._dry = False  # the last one left nothing in the socket
        self._waiting = False  # a task is in `_next_inline`

    @enable_ki_protection
    async def __aenter__(self) -> Items[Any]:
        try:
            return await super().__aenter__()
        except OSError as exc:
            if exc.errno != errno.ENOMEM:
                raise
            self._single = True
            return self

    @enable_ki_protection
    async def __aexit__(self, *exc_info: object) -> None:
        if self._single:
            self._single, self._done = False, True
        else:
            await super().__aexit__(*exc_info)

    def _open(self) -> Subscription:
        subscription = super()._open()
        owner = subscription.owner
        owner.receiving = subscription
        subscription.coalescing = self._stream._coalescing(owner.engine, self._size * self._count)
        return subscription

    @enable_ki_protection
    async def _go_on(self, _: object, __: object, taken: tuple[int, int] | None) -> Any:
        """The next item, where C has taken a completion that is not usual, or was woken without one."""
        subscription = self._subscription
        assert subscription is not None
        return self._next_of(subscription, taken or await subscription.wait())

    @seams.compiled("next", again=_go_on, usual=0)
    @enable_ki_protection
    async def __anext__(self) -> Any:
        subscription = self._subscription
        if (
            subscription is None
            or self._done
            or self._rest
            or self._inline
            or self._stream._unread is not None
        ):
            return await self._next_slowly()
        # As the base class does, with a frame less for each of its layers.
        taken = subscription.get_nowait() if subscription.queue else None
        return self._next_of(subscription, taken or await subscription.get())

    def _next_of(self, subscription: Subscription, taken: tuple[int, int]) -> Any:
        if taken[0] <= 0 and subscription.state is State.IDLE:
            return self._last(taken[0])
        coalescing = subscription.coalescing
        if coalescing is not None:
            coalescing.consumed(taken[0])
            self._inline = coalescing.active and not self._bundle
        return self._item_of(subscription, taken)

    async def _next_slowly(self) -> Any:
        stream = self._stream
        if stream._unread is not None and self._subscription is not None and not self._done:
            data = await stream._receive_unread(self._size)
            return data if self._copy else Lease(memoryview(data))
        if self._single:
            data = await stream.receive_some(self._size)
            if not data:
                raise StopAsyncIteration
            return data if self._copy else Lease(memoryview(data))
        if self._inline and not self._done and not self._rest:
            received = await self._next_inline()
            if received is not None:
                return received
        return await super().__anext__()

    async def _next_inline(self) -> bytes | Lease | None:
        """The next item by a plain receive, while receives are coalesced; None: the subscription has it.
        After as many in a row as there are buffers, other tasks can run.
        """
        subscription = self._subscription
        assert subscription is not None
        coalescing, owner = subscription.coalescing, subscription.owner
        assert coalescing is not None
        if seams.interrupted():
            await trio.lowlevel.checkpoint_if_cancelled()
        if self._waiting:
            raise trio.BusyResourceError("another task is already iterating here")
        self._waiting = True
        try:
            while coalescing.active:
                if not subscription.paused and not await subscription.pause():
                    return None
                if self._dry:
                    if owner.is_read():
                        break  # another task waits for this socket
                    await owner.wait_readable("recv")
                    self._dry, self._burst = False, 0
                elif self._burst >= self._count:
                    self._burst = 0
                    await trio.lowlevel.checkpoint()
                    continue
                bid = 0 if self._copy else self._group.take()
                if bid < 0:
                    break  # the consumer has all buffers: the subscription waits for one
                try:
                    item = self._receive(coalescing, bid)
                except BlockingIOError:
                    self._dry = True
                    continue
                except OSError as exc:
                    raise stream_error(exc) from exc
                size = len(item)
                if not size:
                    self._done = True
                    raise StopAsyncIteration
                self._burst += 1
                self._dry = size < self._piece
                coalescing.consumed(size)
                return item
        finally:
            self._waiting = False
        self._inline = self._dry = False
        self._burst = self._count
        subscription.resume()
        return None

    def _receive(self, coalescing: Pacer, bid: int) -> bytes | Lease:
        """The data in the socket, as bytes or in a buffer, which is recycled if there is none."""
        if self._copy:
            return coalescing.receive(self._piece)
        group, size = self._group, 0
        try:
            size = coalescing.receive_into(group.views[bid])
        finally:
            if not size:
                group.recycle(bid)
        return Lease(group.views[bid][:size], group if size else None, bid)

    def _last(self, res: int) -> Any:
        try:
            return super()._last(res)
        except OSError as exc:
            raise stream_error(exc) from exc


seams.describe_chunks(_StreamChunks, Coalescing, COALESCE_AFTER)


def stream_error(exc: OSError) -> Exception:
    if exc.errno in CLOSED:
        return trio.ClosedResourceError("this stream is closed")
    return trio.BrokenResourceError(f"the connection is broken: {exc}")
