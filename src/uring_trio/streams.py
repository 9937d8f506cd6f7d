"""Byte streams over ring sockets, with as few layers as there can be between a call and the ring."""

from __future__ import annotations

import errno
import socket as _stdlib
from time import perf_counter
from typing import Any

import trio
from trio.lowlevel import enable_ki_protection

from . import seams
from .manager import current
from .perform import check_timeout
from .sockets import RingSocket

__all__ = ["UringStream", "open_tcp_stream"]

_DEFAULT_SIZE = 65536


class UringStream(trio.abc.HalfCloseableStream):
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
            raise _stream_error(exc) from exc
        finally:
            self._sending = False

    async def _send_rest(self, data: Any, sent: int, until: float | None) -> None:
        """The ring sends the rest: with ``MSG_WAITALL`` the kernel goes on after a partial send."""
        with memoryview(data) as view, view.cast("B") as octets:
            while sent < len(octets):
                with octets[sent:] as rest:
                    try:
                        left = None if until is None else max(0.0, until - perf_counter())
                        sent += await self.socket.send_in_ring(rest, _stdlib.MSG_WAITALL, timeout=left)
                    except OSError as exc:
                        raise _stream_error(exc) from exc

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
            raise _stream_error(exc) from exc
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
        try:
            if timeout is not None:
                check_timeout(timeout)
                return await self.socket.recv_within(max_bytes, timeout)
            return await self.socket.recv(max_bytes)
        except OSError as exc:
            raise _stream_error(exc) from exc

    @enable_ki_protection
    async def receive_into(self, buffer: Any) -> int:
        """As `receive_some`, into a writable buffer; returns the number of bytes, 0 at the end."""
        try:
            return await self.socket.recv_into(buffer)
        except OSError as exc:
            raise _stream_error(exc) from exc

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
            raise _stream_error(exc) from exc

    async def aclose(self) -> None:
        """Closes the socket; tasks that wait on it get `trio.ClosedResourceError`. Idempotent."""
        self.socket.close()
        await trio.lowlevel.checkpoint()

    def __repr__(self) -> str:
        return f"<UringStream {self.socket!r}>"


async def open_tcp_stream(host: str | bytes, port: int, **options: Any) -> UringStream:
    """Connects to ``host``, trying its addresses as `trio.open_tcp_stream` does (Happy Eyeballs), each
    attempt a ring operation. ``options`` and errors are those of Trio's function."""
    current()
    stream = await trio.open_tcp_stream(host, port, **options)
    return UringStream(stream.socket)


def _stream_error(exc: OSError) -> Exception:
    if exc.errno == errno.EBADF:
        return trio.ClosedResourceError("this stream is closed")
    return trio.BrokenResourceError(f"the connection is broken: {exc}")
