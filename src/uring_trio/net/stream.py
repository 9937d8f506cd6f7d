"""Byte streams over ring sockets, with as few layers as there can be between a call and the ring."""

from __future__ import annotations

import os
import socket as _stdlib
from time import perf_counter
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import enable_ki_protection

from uring.errors import OperationRestricted

from .. import seams
from ..core.engine import current
from ..core.perform import check_timeout
from .receive_coalescing import Coalescing
from .receiver import ByteReceiver, stream_error
from .sendfile import SocketFailed, send_file
from .socket import RingSocket
from .zerocopy import send_zero_copy

if TYPE_CHECKING:
    from ..core.engine import Engine
    from ..core.fd import Fd
    from .zerocopy_queue import ZeroCopyChunks, ZeroCopyQueue

__all__ = ["UringStream", "open_tcp_stream"]

_DEFAULT_SIZE = 65536


async def _receive_again(stream: UringStream, max_bytes: int | None, owner: Any, res: int) -> bytes:
    try:
        return await stream.socket.receive_again(owner, max_bytes or _DEFAULT_SIZE, res)
    except OSError as exc:
        raise stream_error(exc) from exc


async def _send_again(stream: UringStream, data: Any, _: None, sent: int) -> None:
    if sent >= 0:
        await stream._send_rest(data, sent, None)
        return
    try:
        raise OSError(-sent, os.strerror(-sent))
    except OSError as exc:
        raise stream_error(exc) from exc


class UringStream(ByteReceiver, trio.abc.HalfCloseableStream):
    """A connected stream socket as a Trio stream.

    Sends go out at once as far as the socket takes them; the ring finishes the rest in one operation.
    Receives wait in the ring and take memory when data arrives.

    Async methods are checkpoints. A cancelled receive loses nothing; after a cancelled send an
    unknown part may have been sent. `aclose` closes in a cancelled scope too.

    Args:
        socket: a connected stream socket of Trio's, made in a ring run.

    Attributes:
        socket: the socket; closing it closes the stream.

    Raises:
        TypeError: not a socket of a ring run.
        ValueError: not a ``SOCK_STREAM`` socket.
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

    @seams.compiled("send_all", _send_again, socket="socket", flag="_sending")
    @enable_ki_protection
    async def send_all(self, data: bytes | bytearray | memoryview, *, timeout: float | None = None) -> None:
        """Sends all of ``data``. A checkpoint, even for no data.

        After a cancel an unknown part may have been sent.

        Args:
            data: a buffer of bytes.
            timeout: seconds for all of it, held by the kernel; None: no limit.

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

        Args:
            data: a buffer of bytes, which may not change before this returns.

        Returns:
            Whether the kernel copied the data after all. It always does over loopback. Where the socket or
            the limit on locked memory refuses, the rest is sent as `send_all` does. Worth it for large data
            on a network that does not copy: the notification that the memory is free costs a round trip.

        Errors as for `send_all`. Cancelled, it stops sending, and returns once the sent data has left the
        memory: the peer must take it, or the connection end. So there is no ``timeout``.
        """
        self._start_sending()
        try:
            return await send_zero_copy(self.socket, data)
        except OperationRestricted:
            raise
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
            offset: the first byte, from 0 on.
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

    @seams.compiled("receive", _receive_again, socket="socket", unread="_unread", usual=_DEFAULT_SIZE)
    @enable_ki_protection
    async def receive_some(self, max_bytes: int | None = None, *, timeout: float | None = None) -> bytes:
        """Waits for data: up to ``max_bytes`` of what has arrived, or b"" at the end of the stream.

        Nothing is lost to a cancel: data that arrived is returned, or stays in the socket.

        Args:
            max_bytes: how many bytes at most; None: 64 KiB.
            timeout: seconds to wait, held by the kernel; None: no limit.

        Raises:
            trio.TooSlowError: ``timeout`` passed; later data stays in the socket.
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
        """As `receive_some`, into a writable buffer; returns the number of bytes, 0 at the end.

        Errors and cancellation as for `receive_some`.

        Args:
            buffer: a writable buffer.
            timeout: seconds to wait, held by the kernel; None: no limit.
        """
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

    def zero_copy_chunks(self, queue: ZeroCopyQueue | None = None) -> ZeroCopyChunks:
        """As ``chunks(copy=False)``, by a zero-copy receive of a TCP connection:

            async with stream.zero_copy_chunks(queue) as chunks:
                async for lease in chunks:
                    with lease:
                        use(lease.data)

        Each item is a `Lease` of up to a page of the queue's memory, where the network card put the data.
        Data that came another way is copied there by the kernel. The iteration ends with the peer's end of
        stream. It stops receiving while leases and chunks in the queue have all of the memory, and goes on
        when a lease is released. When the block is left, data that had arrived and was not taken comes
        first from `receive_some` and the next ``chunks``.

        It never falls back to another way: where the kernel cannot do it, entering raises.

        Args:
            queue: the memory of a card's receive queue, open in this run; None: 4 MiB of its own, which any
                connection is copied into (Linux 7.1).

        Raises:
            NotSupported: on entering, what the kernel or the card lacks.
            PermissionError: on entering without a queue, and without CAP_NET_ADMIN.
            OperationRestricted: on entering, the run's restrictions leave out ``recv_zc``.
            ValueError: this is no TCP connection.
            trio.BusyResourceError: on entering, another task or ``chunks`` is receiving; while iterating,
                another task iterates.
            trio.BrokenResourceError: while iterating, the connection is gone.
            trio.ClosedResourceError: the stream, the block or the queue was closed.
            RuntimeError: iterated without ``async with``.
        """
        if self.socket.family not in (_stdlib.AF_INET, _stdlib.AF_INET6):
            raise ValueError("zero_copy_chunks needs a TCP connection")
        from .zerocopy_queue import ZeroCopyChunks  # few programs receive so

        return ZeroCopyChunks(self, queue)

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

    def _receiving_owner(self) -> Fd:
        """For a subscription that takes what arrives; see `RingSocket.receiving_owner`."""
        return self.socket.receiving_owner()

    def _coalescing(self, engine: Engine, room: int) -> Coalescing:
        return Coalescing(engine, seams.stdlib_socket(self.socket), room)

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
    attempt a ring operation. Errors are those of Trio's function.

    Cancelled, it leaves no socket behind.

    Args:
        host: a name or a numeric address.
        port: the port, 1 to 65535.
        **options: the keywords of Trio's function: ``happy_eyeballs_delay`` in seconds, ``local_address``.
    """
    current()
    stream = await trio.open_tcp_stream(host, port, **options)
    return UringStream(stream.socket)
