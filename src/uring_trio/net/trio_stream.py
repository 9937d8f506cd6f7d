"""`trio.SocketStream` with fewer layers.

Its class stays Trio's own, since programs ask for it by name; two of its methods are replaced once a ring run
was started in this process. They do and raise what Trio's do. They leave out two context managers and a copy
of the view for each call, which cost more than the call itself. Closing it forcefully, as Trio's servers do
after each connection, leaves out a cancellation.

They must work in every Trio run, on every socket that a stream wraps.
"""

from __future__ import annotations

import os
from functools import wraps
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import enable_ki_protection

from .. import seams
from ..core.fd import CLOSED
from .socket import RingSocket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import NoReturn

__all__ = ["forceful_close", "receive_some", "send_all"]


async def _receive_again(self: trio.SocketStream, max_bytes: int | None, owner: Any, res: int) -> bytes:
    try:
        size = max_bytes or seams.DEFAULT_RECEIVE_SIZE
        data: bytes = await self.socket.receive_again(owner, size, res)  # type: ignore[attr-defined]
        return data
    except OSError as exc:
        _raise_stream_error(exc)


async def _send_again(self: trio.SocketStream, data: Any, _: None, sent: int) -> None:
    try:
        if sent < 0:
            raise OSError(-sent, os.strerror(-sent))
        await _send_rest(self.socket, data, sent)
    except OSError as exc:
        _raise_stream_error(exc)


@seams.compiled("receive", _receive_again, socket="socket", usual=seams.DEFAULT_RECEIVE_SIZE)
@enable_ki_protection
async def receive_some(self: trio.SocketStream, max_bytes: int | None = None) -> bytes:
    """See `trio.abc.ReceiveStream.receive_some`."""
    if max_bytes is None:
        max_bytes = seams.DEFAULT_RECEIVE_SIZE
    if max_bytes < 1:
        raise ValueError("max_bytes must be >= 1")
    try:
        return await self.socket.recv(max_bytes)
    except OSError as exc:
        _raise_stream_error(exc)


@seams.compiled("send_all", _send_again, socket="socket", guard="_send_conflict_detector", flag="_held")
@enable_ki_protection
async def send_all(self: trio.SocketStream, data: bytes | bytearray | memoryview) -> None:
    """See `trio.abc.SendStream.send_all`."""
    sock = self.socket
    if sock.did_shutdown_SHUT_WR:
        raise trio.ClosedResourceError("can't send data after sending EOF")
    with seams.sending(self):
        try:
            if data.__class__ is bytes and data and sock.__class__ is RingSocket:
                try:
                    sent = await seams.inline(seams.stdlib_socket(sock).send, data)
                except BlockingIOError:
                    sent = 0
                if sent == len(data):
                    return
            else:
                sent = 0
            await _send_rest(sock, data, sent)
        except OSError as exc:
            _raise_stream_error(exc)


def forceful_close(stock: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
    """`trio.aclose_forcefully`, which cancels a close so that it does not block. That of a stream on a ring
    socket is a close(2) and a checkpoint: cancelled or not it does the same, at a tenth of the price."""

    @wraps(stock)
    async def aclose_forcefully(resource: Any) -> None:
        if resource.__class__ is trio.SocketStream and resource.socket.__class__ is RingSocket:
            await resource.aclose()
        else:
            await stock(resource)

    return aclose_forcefully


async def _send_rest(sock: trio.socket.SocketType, data: bytes | bytearray | memoryview, sent: int) -> None:
    with memoryview(data) as view:
        if not view:
            if sock.fileno() == -1:
                raise trio.ClosedResourceError("socket was already closed")
            await trio.lowlevel.checkpoint()
            return
        while sent < len(view):
            with view[sent:] as remaining:
                if sent and sock.__class__ is RingSocket:
                    sent += await sock.send_when_ready(remaining)
                else:
                    sent += await sock.send(remaining)


def _raise_stream_error(exc: OSError) -> NoReturn:
    if exc.errno in CLOSED:
        raise trio.ClosedResourceError("this socket was already closed") from None
    raise trio.BrokenResourceError(f"socket connection broken: {exc}") from exc
