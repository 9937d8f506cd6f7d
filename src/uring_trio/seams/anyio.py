"""The one place that touches private names of AnyIO.

AnyIO looks a backend up by name in a table, then among its own modules. Inside a ring run the library is Trio
and AnyIO uses its Trio backend. What differs is how a run is entered (``anyio.run``, the test runner) and, in
AnyIO's socket streams, the two methods that every byte goes through.

Those two replace AnyIO's in its class, so that types, attributes and its other methods stay. They do the same
with fewer calls on a ring socket, in a run on epoll too, and leave all else (other sockets, items that are
not ``bytes``) to AnyIO's.

Importing this imports AnyIO, and fails where AnyIO does not look as expected.
"""

from __future__ import annotations

import functools
import os
import warnings
from importlib.metadata import version
from typing import Any

from trio.lowlevel import enable_ki_protection

from .. import seams

try:
    import anyio  # first, to tell a missing AnyIO from one that looks different
except ModuleNotFoundError as _exc:
    raise ModuleNotFoundError(
        "AnyIO is not installed: install it, or this package as uring-trio[anyio]", name=_exc.name
    ) from _exc

__all__ = [
    "TESTED",
    "TestRunner",
    "TrioBackend",
    "UnsupportedAnyIO",
    "enter",
    "leave",
    "register",
    "shorten_streams",
]

TESTED = ("4.14", "4.15", "4.16")
"""Minor versions of AnyIO whose own test-suite has passed on the ring."""


class UnsupportedAnyIO(ImportError):
    """The installed AnyIO lacks internals that the backend needs."""


_installed = version("anyio")
_ring_socket: Any = None
_RECEIVE_SIZE = 65536
_eventloop: Any

try:
    from anyio._backends._trio import SocketStream, TestRunner, TrioBackend
    from anyio._core import _eventloop as _loops
    from anyio._core._eventloop import loaded_backends, reset_current_async_library, set_current_async_library

    _eventloop = _loops
    # Overridden or replaced, so they have to be there.
    TestRunner._call_in_runner_task, SocketStream._convert_socket_error  # noqa: B018
    _stock_receive, _stock_send = SocketStream.receive, SocketStream.send
    anyio.ResourceGuard("looking at")._guarded  # noqa: B018
except (ImportError, AttributeError) as _exc:
    raise UnsupportedAnyIO(
        f"AnyIO {_installed} does not look as expected ({_exc}); "
        f"the backend is tested with AnyIO {', '.join(TESTED)}"
    ) from _exc


def register(name: str, backend: type[anyio.abc.AsyncBackend]) -> None:
    """Makes ``anyio.run(backend=name)`` use ``backend``, and ``anyio.get_all_backends`` name it; warns about
    a version of AnyIO never tested."""
    loaded_backends[name] = backend
    known = getattr(_eventloop, "BACKENDS", None)
    if known is not None and name not in known:
        _eventloop.BACKENDS = (*known, name)
    if ".".join(_installed.split(".")[:2]) not in TESTED:
        warnings.warn(
            f"AnyIO {_installed} was never tested on the ring, only {', '.join(TESTED)}",
            RuntimeWarning,
            stacklevel=3,
        )


def enter() -> Any:
    """Makes Trio the name of the running library, in this context; give what it returns to `leave`."""
    return set_current_async_library("trio")


def leave(token: Any) -> None:
    reset_current_async_library(token)


async def _receive_again(self: Any, max_bytes: int | None, owner: Any, result: Any) -> bytes:
    """After a receive in C that was interrupted (an outcome), met the end of the stream (0) or an errno."""
    data = b""
    try:
        if result.__class__ is not int:
            result.unwrap()
        elif result:
            data = await self._trio_socket.receive_again(owner, max_bytes or _RECEIVE_SIZE, result)
    except BaseException as exc:
        self._convert_socket_error(exc)
    if data:
        return data
    raise anyio.EndOfStream


async def _send_again(self: Any, item: bytes, _: None, sent: int) -> None:
    """After a send in C of a part, or of nothing for an errno."""
    try:
        if sent < 0:
            raise OSError(-sent, os.strerror(-sent))
        await _send_rest(self._trio_socket, item, sent)
    except BaseException as exc:
        self._convert_socket_error(exc)


@seams.compiled(
    "receive",
    _receive_again,
    socket="_trio_socket",
    guard="_receive_guard",
    flag="_guarded",
    usual=_RECEIVE_SIZE,
    every=True,
)
@functools.wraps(_stock_receive)
@enable_ki_protection
async def _receive(self: Any, max_bytes: int = _RECEIVE_SIZE) -> bytes:
    sock, guard = self._trio_socket, self._receive_guard
    if sock.__class__ is not _ring_socket or guard._guarded or max_bytes < 1:
        return await _stock_receive(self, max_bytes)
    guard._guarded = True
    try:
        data: bytes = await sock.recv(max_bytes)
    except BaseException as exc:
        self._convert_socket_error(exc)
    finally:
        guard._guarded = False
    if data:
        return data
    raise anyio.EndOfStream


@seams.compiled("send_all", _send_again, socket="_trio_socket", guard="_send_guard", flag="_guarded")
@functools.wraps(_stock_send)
@enable_ki_protection
async def _send(self: Any, item: bytes) -> None:
    sock, guard = self._trio_socket, self._send_guard
    if sock.__class__ is not _ring_socket or guard._guarded or item.__class__ is not bytes or not item:
        await _stock_send(self, item)
        return
    guard._guarded = True
    try:
        try:
            sent = await seams.inline(seams.stdlib_socket(sock).send, item)
            if sent == len(item):
                return
        except BlockingIOError:
            sent = 0
        await _send_rest(sock, item, sent)
    except BaseException as exc:
        self._convert_socket_error(exc)
    finally:
        guard._guarded = False


async def _send_rest(sock: Any, item: bytes, sent: int) -> None:
    with memoryview(item) as view:
        while sent < len(view):
            with view[sent:] as rest:
                sent += await sock.send_when_ready(rest)


def shorten_streams(ring_socket: type) -> None:
    """Puts the two methods into AnyIO's class of socket streams, for the life of the process. Idempotent.

    Args:
        ring_socket: the class of the sockets that they are for.
    """
    global _ring_socket
    _ring_socket = ring_socket
    SocketStream.receive, SocketStream.send = _receive, _send  # type: ignore[method-assign]
