"""Byte streams over ring sockets, with as few layers as there can be between a call and the ring."""

from __future__ import annotations

import errno
import socket as _stdlib
from abc import ABC, abstractmethod
from collections import deque
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import enable_ki_protection

from .. import seams
from ..core.engine import current
from ..core.perform import check_timeout
from ..multishot.leases import Lease
from ..multishot.subscription import State
from .chunks import ByteItems, bundles_work, recv_fields
from .coalescing import Coalescing
from .sendfile import SocketFailed, send_file
from .socket import RingSocket
from .zerocopy import send_zero_copy

if TYPE_CHECKING:
    from ..core.engine import Engine
    from ..core.fd import Fd
    from ..multishot.subscription import Items, Pacer, Subscription

__all__ = ["ByteReceiver", "UringStream", "open_tcp_stream", "stream_error"]

_DEFAULT_SIZE = 65536

_PIECE = 1 << 20
"""Bytes that a plain receive makes room for at most: memory for more is new from the kernel each time."""


class ByteReceiver(ABC):
    """What streams of every kind share: `chunks`, and what it received that nobody took."""

    __slots__ = ("_unread",)

    def __init__(self) -> None:
        self._unread: deque[bytes | OSError] | None = None  # what chunks() received and nobody took

    @abstractmethod
    async def receive_some(self, max_bytes: int | None = None, *, timeout: float | None = None) -> bytes:
        """See `trio.abc.ReceiveStream.receive_some`."""

    @abstractmethod
    def receiving_owner(self) -> Fd:
        """The `Fd` to receive from, which nobody else receives from now."""

    def coalescing(self, manager: Engine, room: int) -> Coalescing | None:
        """What makes a fast flow arrive in larger pieces, where this is a socket that can."""
        return None

    @abstractmethod
    def _check_open(self) -> None:
        """Raises `trio.ClosedResourceError` if this is closed."""

    def chunks(
        self, *, copy: bool = True, bundle: bool = False, chunk_size: int = 262144, buffers: int = 4
    ) -> ByteItems[Any]:
        """What arrives, as it arrives, by one multishot receive:

            async with stream.chunks() as chunks:
                async for data in chunks:
                    ...

        The iteration ends with the peer's end of stream. It stops receiving when all buffers are taken and
        goes on when one is given back, so that a slow consumer slows its peer down. Whichever way the block
        is left (a break, an exception, a cancel), what had arrived and was not taken is the first that
        `receive_some`, `receive_into` or the next ``chunks`` brings; ``stream.socket`` does not know of it.

        Args:
            copy: items are bytes. False: each is a `Lease` of the memory that the data arrived in, which
                the consumer gives back by leaving ``with lease:``. Whoever keeps all of them gets no more,
                and slows down nobody else.
            bundle: one completion for all that has arrived, in as many buffers as it takes: for small
                buffers and large amounts. Ignored where this kernel's bundles fail a test.
            chunk_size: bytes in each buffer: without ``bundle`` the most that an item has.
            buffers: how many there are.

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


class UringStream(ByteReceiver, trio.abc.HalfCloseableStream):
    """A connected stream socket as a Trio stream.

    Sends go out at once as far as the socket takes them; the ring finishes the rest in one operation.
    Receives wait in the ring and take memory when data arrives.

    Args:
        socket: a connected stream socket of Trio's, made in a ring run.

    Attributes:
        socket: the socket; closing it closes the stream.
    """

    __slots__ = ("_send", "_sending", "socket")

    def __init__(self, socket: Any) -> None:
        if not isinstance(socket, RingSocket):
            raise TypeError(f"a UringStream wraps a socket of a ring run, not {type(socket).__name__}")
        if socket.type != _stdlib.SOCK_STREAM:
            raise ValueError("a UringStream needs a SOCK_STREAM socket")
        super().__init__()
        self.socket: RingSocket = socket
        self._send = seams.stdlib_socket(socket).send
        self._sending = False

    @enable_ki_protection
    async def send_all(self, data: bytes | bytearray | memoryview, *, timeout: float | None = None) -> None:
        """Sends all of ``data``. A checkpoint, even for no data.

        After a cancel an unknown part may have been sent. ``timeout``: seconds for all of it, held by the
        kernel.

        Raises:
            trio.TooSlowError: ``timeout`` passed; an unknown part may have been sent.
            trio.BusyResourceError: another task is sending.
            trio.BrokenResourceError: the connection is gone.
            trio.ClosedResourceError: this side is closed or has sent its end of stream.
        """
        if self._sending:
            raise trio.BusyResourceError("another task is currently sending data on this stream")
        if self.socket.did_shutdown_SHUT_WR:
            raise trio.ClosedResourceError("can't send data after sending EOF")
        check_timeout(timeout)
        until = None if timeout is None else perf_counter() + timeout
        self._sending = True
        try:
            sent = await seams.inline(self._send, data)
            if sent != (len(data) if data.__class__ is bytes else memoryview(data).nbytes):
                await self._send_rest(data, sent, until)
        except BlockingIOError:
            await self._send_rest(data, 0, until)
        except OSError as exc:
            raise stream_error(exc) from exc
        finally:
            self._sending = False

    async def _send_rest(self, data: Any, sent: int, until: float | None) -> None:
        with memoryview(data) as view, view.cast("B") as octets:
            while sent < len(octets):
                with octets[sent:] as rest:
                    try:
                        left = None if until is None else max(0.0, until - perf_counter())
                        sent += await self.socket.send_when_ready(rest, timeout=left)
                    except OSError as exc:
                        raise stream_error(exc) from exc

    @enable_ki_protection
    async def send_zero_copy(self, data: bytes | bytearray | memoryview) -> bool:
        """Sends all of ``data`` from where it is; returns when its memory may be changed again.

        Returns:
            Whether the kernel copied the data after all: over loopback always, and where the socket or the
            limit on locked memory refuses the rest is sent as `send_all` does. Worth it for large data on a
            network that does not copy; the notification that the memory is free costs a round trip.

        Errors as for `send_all`. Cancelled it stops sending, and returns once what was sent has left the
        memory, for which the peer must take it or the connection end: so there is no ``timeout``.
        """
        self._start_sending()
        try:
            return await send_zero_copy(self.socket, data)
        except OSError as exc:
            raise stream_error(exc) from exc
        finally:
            self._sending = False

    @enable_ki_protection
    async def send_file(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Sends part of a file without taking it through this process: from the page cache through a pipe.

        The file's own position does not matter and does not change. A file that cannot be spliced is read
        and sent instead.

        Args:
            file: a descriptor, or an object that has one; open for reading, until this returns.
            offset: where to begin.
            count: how many bytes, by default all to the end of the file.

        Returns:
            The number of bytes sent: less than ``count`` where the file ends before.

        Raises:
            ValueError: ``offset`` or ``count`` is negative.
            OSError: the file cannot be read.

        Other errors and cancellation as for `send_all`.
        """
        for name, value in (("offset", offset), ("count", 0 if count is None else count)):
            if value < 0:
                raise ValueError(f"{name} is not negative ({value})")
        self._start_sending()
        try:
            return await send_file(self.socket, file, offset, count)
        except SocketFailed as exc:
            raise stream_error(exc.cause) from exc.cause
        finally:
            self._sending = False

    def _start_sending(self) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is currently sending data on this stream")
        if self.socket.did_shutdown_SHUT_WR:
            raise trio.ClosedResourceError("can't send data after sending EOF")
        self._sending = True

    async def wait_send_all_might_not_block(self) -> None:
        """Waits until the socket takes some data. Errors as for `send_all`."""
        if self._sending:
            raise trio.BusyResourceError("another task is currently sending data on this stream")
        self._sending = True
        try:
            if self.socket.fileno() == -1:
                raise trio.ClosedResourceError("this stream is closed")
            await self.socket.wait_writable()
        except OSError as exc:
            raise stream_error(exc) from exc
        finally:
            self._sending = False

    @enable_ki_protection
    async def receive_some(self, max_bytes: int | None = None, *, timeout: float | None = None) -> bytes:
        """Waits for data: up to ``max_bytes`` of what has arrived, or b"" at the end of the stream.

        Nothing is lost to a cancel: data that arrived is returned, or is still in the socket.
        ``timeout``: seconds to wait, held by the kernel.

        Raises:
            trio.TooSlowError: ``timeout`` passed; what comes later stays in the socket.
            ValueError: ``max_bytes`` is less than 1.
            trio.BusyResourceError: another task is receiving.
            trio.BrokenResourceError: the connection is gone.
            trio.ClosedResourceError: the stream is closed.
        """
        if max_bytes is None:
            max_bytes = _DEFAULT_SIZE
        elif max_bytes < 1:
            raise ValueError(f"max_bytes is at least 1, not {max_bytes}")
        if self._unread is not None:
            return await self._receive_unread(max_bytes, timeout)
        try:
            if timeout is not None:
                check_timeout(timeout)
                return await self.socket.recv_within(max_bytes, timeout)
            return await self.socket.recv(max_bytes)
        except OSError as exc:
            raise stream_error(exc) from exc

    @enable_ki_protection
    async def receive_into(self, buffer: Any, *, timeout: float | None = None) -> int:
        """As `receive_some`, into a writable buffer; returns the number of bytes, 0 at the end."""
        check_timeout(timeout)
        if self._unread is not None:
            with memoryview(buffer) as view, view.cast("B") as octets:
                data = await self._receive_unread(len(octets), timeout)
                octets[: len(data)] = data
                return len(data)
        try:
            if timeout is not None:
                return await self.socket.recv_into_within(buffer, timeout)
            return await self.socket.recv_into(buffer)
        except OSError as exc:
            raise stream_error(exc) from exc

    async def send_eof(self) -> None:
        """Ends this side's data; the peer can still send. Idempotent. Errors as for `send_all`."""
        if self._sending:
            raise trio.BusyResourceError("another task is currently sending data on this stream")
        await trio.lowlevel.checkpoint()
        if self.socket.did_shutdown_SHUT_WR:
            return
        try:
            self.socket.shutdown(_stdlib.SHUT_WR)
        except OSError as exc:
            raise stream_error(exc) from exc

    def receiving_owner(self) -> Fd:
        """For a subscription that takes what arrives; see `RingSocket.receiving_owner`."""
        return self.socket.receiving_owner()

    def coalescing(self, manager: Engine, room: int) -> Coalescing:
        return Coalescing(manager, seams.stdlib_socket(self.socket), room)

    def _check_open(self) -> None:
        if self.socket.fileno() == -1:
            raise trio.ClosedResourceError("this stream is closed")

    async def aclose(self) -> None:
        """Closes the socket; tasks that wait on it get `trio.ClosedResourceError`. Idempotent."""
        self.socket.close()
        await trio.lowlevel.checkpoint()

    def __repr__(self) -> str:
        return f"<UringStream {self.socket!r}>"


@enable_ki_protection
async def open_tcp_stream(host: str | bytes, port: int, **options: Any) -> UringStream:
    """Connects to ``host``, trying its addresses as `trio.open_tcp_stream` does (Happy Eyeballs), each
    attempt a ring operation. ``options`` and errors are those of Trio's function."""
    current()
    stream = await trio.open_tcp_stream(host, port, **options)
    return UringStream(stream.socket)


class _StreamChunks(ByteItems[Any]):
    """`UringStream.chunks`: by single receives where the kernel has no room for another group of buffers,
    which happens early in processes without privileges."""

    __slots__ = ("_bundle", "_burst", "_dry", "_inline", "_piece", "_single", "_stream", "_waiting")

    def __init__(self, stream: ByteReceiver, copy: bool, bundle: bool, size: int, count: int) -> None:
        self._bundle = bundle and bundles_work()
        fields = partial(recv_fields, bundle=self._bundle)
        super().__init__(stream.receiving_owner, fields, "recv_multishot", size, count, copy, stream._keep)
        self._stream = stream
        self._single = False
        self._piece = min(size, _PIECE) if copy else size
        self._inline = False  # a fast flow is received by plain calls; bundles bring more at a time
        self._burst = count  # how many there were since others had their turn
        self._dry = False  # the last one found no more
        self._waiting = False  # a task is about it

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
        subscription.coalescing = self._stream.coalescing(owner.manager, self._size * self._count)
        return subscription

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
        if taken is None:
            taken = await subscription.get()
            if taken[0] <= 0 and subscription.state is State.IDLE:
                return self._last(taken[0])
        coalescing = subscription.coalescing
        if coalescing is not None:
            coalescing.consumed(taken[0])
            self._inline = coalescing.active and not self._bundle
        return self._item(*taken)

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
        """What a plain receive brings while receives are coalesced; None: the subscription tells what is
        next. As many in a row as there are buffers, then others have their turn.
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
                        break  # somebody else waits for this socket
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
        """What is in the socket, as bytes or in a buffer, which is recycled if that is nothing."""
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


def stream_error(exc: OSError) -> Exception:
    if exc.errno == errno.EBADF:
        return trio.ClosedResourceError("this stream is closed")
    return trio.BrokenResourceError(f"the connection is broken: {exc}")
