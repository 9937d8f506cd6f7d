"""Listening sockets: set up on the ring as a task of the caller's nursery, connections by multishot accept.

The task that sets a listener up owns it: when the nursery is cancelled the multishot ends, its last
completion is awaited, the descriptors in the queue are closed, and then the listener.
"""

from __future__ import annotations

import errno
import operator
import os
import socket as _stdlib
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import disable_ki_protection, enable_ki_protection

from uring import abi, ops
from uring.errors import OperationRestricted, error_from_result

from ..core.perform import perform
from ..multishot.subscription import Subscription
from .bind_errors import advise
from .connections import CONNECTION_LOST, Connections
from .direct_listener import DirectListener, open_direct_listener
from .socket import adopt
from .stream import UringStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["UringListener", "check_backlog", "listen_tcp", "open_listener", "serve", "serve_tcp"]

_ACCEPT = int(abi.IORING_OP_ACCEPT)
_MULTISHOT = int(abi.IORING_ACCEPT_MULTISHOT) << 8
_POLL_ADD = int(abi.IORING_OP_POLL_ADD)
_POLL_MULTI = int(abi.IORING_POLL_ADD_MULTI)
_POLLIN = int(abi.POLLIN)
_BACKLOG = 0xFFFF
_PORTS = 16  # how many ports of the kernel's choice to try, where several addresses are to share one
_FD_FLAGS = _stdlib.SOCK_CLOEXEC | _stdlib.SOCK_NONBLOCK


class UringListener(trio.abc.Listener[UringStream]):
    """A listening stream socket.

    Attributes:
        socket: the listening socket, one of Trio's.
    """

    def __init__(self, socket: Any) -> None:
        self.socket = socket

    @property
    def address(self) -> Any:
        """The address it listens on, as ``getsockname`` gives it."""
        return self.socket.getsockname()

    async def accept(self) -> UringStream:
        """Waits for one connection.

        A cancelled call loses no connection: it stays in the backlog, or is returned.

        Raises:
            trio.BusyResourceError: another task is accepting.
            trio.ClosedResourceError: the listener was closed.
            OSError: no descriptor or memory for a connection; it stays in the backlog.
        """
        while True:
            try:
                sock, _ = await self.socket.accept()
            except OSError as exc:
                if exc.errno == errno.EBADF:
                    raise trio.ClosedResourceError("this listener is closed") from None
                if exc.errno not in CONNECTION_LOST:
                    raise
            else:
                return UringStream(sock)

    def connections(self) -> Connections[UringStream]:
        """Connections as they come, by one multishot request:

            async with listener.connections() as incoming:
                async for stream in incoming:
                    nursery.start_soon(handle, stream)

        Leaving the block cancels the request, waits for its last completion and closes the connections in
        the queue. The request is submitted again when it ends for a temporary reason. Without descriptors or
        memory this logs, waits a tenth of a second and goes on. One task iterates at a time.

        For a listener of `listen_tcp`, `serve_tcp` or their Unix counterparts in this run the kernel accepts.
        It wakes one ring for each connection, even if that ring's loop is busy. So connections of any other
        listener, which other processes or descriptors may share, are accepted by the loop after a multishot
        poll.

        Raises:
            trio.ClosedResourceError: the listener was closed.
            OSError: the listener failed.
        """
        return Connections(self._accepts, partial(_connected, self.socket.family))

    def _accepts(self) -> tuple[Subscription, Callable[[], int] | None]:
        """The request of `connections`, and what accepts after it if it is a poll."""
        owner = self.socket.owner()
        if owner.exclusive:
            fields = (_ACCEPT, _MULTISHOT, owner.fd, 0, 0, 0, _FD_FLAGS, 0, 0, 0)
            return Subscription(owner, "accept_multishot", fields, _close_connection), None
        fields = (_POLL_ADD, 0, owner.fd, 0, 0, _POLL_MULTI, _POLLIN, 0, 0, 0)
        accepts = Subscription(owner, "accept", fields, _nothing, merge=operator.or_)
        return accepts, self.socket.accept_now

    def close(self) -> None:
        """Closes the listener; tasks that accept get `trio.ClosedResourceError`. Idempotent."""
        self.socket.close()

    async def aclose(self) -> None:
        """As `close`, and a checkpoint."""
        self.close()
        await trio.lowlevel.checkpoint()


@enable_ki_protection
async def listen_tcp(
    host: str | bytes | None,
    port: int,
    backlog: int | None = None,
    *,
    dual_stack: bool | None = None,
    reuse_port: bool = False,
    direct: bool = False,
    task_status: trio.TaskStatus[UringListener | DirectListener] = trio.TASK_STATUS_IGNORED,
) -> None:
    """A listener as a nursery task: ``listener = await nursery.start(listen_tcp, host, port)``.

    Socket, bind and listen run on the ring. The task holds the listener until it is cancelled, then
    closes it.

    Args:
        host: a name or address; the first one it resolves to. None: every IPv6 and IPv4 address.
        port: 0 picks a free one, see ``listener.address``.
        backlog: connections that wait in the kernel, by default as many as it allows.
        dual_stack: whether an IPv6 socket takes IPv4 connections too; by default where ``host`` is None.
        reuse_port: other sockets may listen on the same address, in this process and in others of this user;
            the kernel spreads connections over them.
        direct: the listener is a `DirectListener`. It and its connections are in the ring's own table
            and take no descriptors of the process.
        task_status: given by ``nursery.start``, which returns the listener.

    Raises:
        TypeError, ValueError: a host, port or backlog that cannot be one.
        OSError: the message names the stage (socket, bind, listen) and the address.
        RuntimeError: outside a ring run.
    """
    check_backlog(backlog)
    family, address = (await _resolve(host, port))[0]
    dual = host is None if dual_stack is None else dual_stack
    listener: UringListener | DirectListener
    if direct:
        options = _tcp_options(family, dual, reuse_port)
        listener = await open_direct_listener(
            family, address, _BACKLOG if backlog is None else backlog, options
        )
    else:
        listener = await open_listener(family, address, backlog, dual=dual, reuse_port=reuse_port)
    try:
        task_status.started(listener)
        await trio.sleep_forever()
    finally:
        listener.close()


@enable_ki_protection
async def serve_tcp(
    handler: Callable[[UringStream], Awaitable[object]],
    port: int,
    *,
    host: str | bytes | None = None,
    backlog: int | None = None,
    reuse_port: bool = False,
    handler_nursery: trio.Nursery | None = None,
    task_status: trio.TaskStatus[list[UringListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """As `trio.serve_tcp`: listens on every address of ``host`` and runs ``handler(stream)`` in a task for
    each connection; the stream is closed when it returns. Starts with the list of listeners.

    An exception of a handler cancels the server, unless ``handler_nursery`` is given to run them.

    It runs until it is cancelled, then closes the listeners.

    Args:
        handler: an async function that takes a `UringStream`.
        port: the port; 0 picks a free one, the same for all addresses.
        host: a name or address; None: every IPv6 and IPv4 address.
        backlog: connections that wait in the kernel, by default as many as it allows.
        reuse_port: as for `listen_tcp`.
        handler_nursery: where the handlers run; by default in a nursery of this call.
        task_status: given by ``nursery.start``, which returns the list of listeners.

    Raises:
        OSError: the message names the stage (socket, bind, listen) and the address.
    """
    check_backlog(backlog)
    addresses = await _resolve(host, port)
    listeners: list[UringListener] = []
    try:
        for others in reversed(range(1 if port else _PORTS)):
            try:
                await _listen_on_each(addresses, backlog, reuse_port, listeners)
                break
            except OSError as error:
                # A port that the kernel chose need be free for the first address only.
                if error.errno != errno.EADDRINUSE or not others:
                    raise
                while listeners:
                    listeners.pop().close()
        await serve(listeners, handler, handler_nursery, task_status)
    finally:
        for listener in listeners:
            listener.close()


async def _listen_on_each(
    addresses: list[tuple[int, Any]], backlog: int | None, reuse_port: bool, listeners: list[UringListener]
) -> None:
    for family, address in addresses:
        if listeners and address[1] == 0:
            address = (address[0], listeners[0].address[1], *address[2:])
        listeners.append(await open_listener(family, address, backlog, reuse_port=reuse_port))


async def serve(
    listeners: list[UringListener],
    handler: Callable[[UringStream], Awaitable[object]],
    handler_nursery: trio.Nursery | None,
    task_status: trio.TaskStatus[list[UringListener]],
) -> None:
    """Runs ``handler`` for each connection of the listeners; see `serve_tcp`."""
    async with trio.open_nursery() as nursery:
        for listener in listeners:
            nursery.start_soon(_serve, listener, handler, handler_nursery or nursery)
        task_status.started(listeners)


@enable_ki_protection  # no Ctrl-C between a connection's arrival and its task
async def _serve(
    listener: UringListener, handler: Callable[[UringStream], Awaitable[object]], nursery: trio.Nursery
) -> None:
    async with listener.connections() as incoming:
        async for stream in incoming:
            nursery.start_soon(_handle, handler, stream)


@enable_ki_protection
async def _handle(handler: Callable[[UringStream], Awaitable[object]], stream: UringStream) -> None:
    try:
        await _unprotected(handler, stream)
    finally:
        stream.socket.close()


@disable_ki_protection
async def _unprotected(handler: Callable[[UringStream], Awaitable[object]], stream: UringStream) -> None:
    await handler(stream)


async def _resolve(host: str | bytes | None, port: int) -> list[tuple[int, Any]]:
    if not isinstance(port, int):
        raise TypeError(f"a port is an int, not {type(port).__name__}")
    if not 0 <= port <= 65535:
        # The resolver would take it modulo 65536.
        raise ValueError(f"a port is 0 to 65535, not {port}")
    found = await trio.socket.getaddrinfo(
        host,
        port,
        type=_stdlib.SOCK_STREAM,
        flags=_stdlib.AI_PASSIVE | _stdlib.AI_ADDRCONFIG if host is None else 0,
    )
    known = [(int(family), address) for family, _, _, _, address in found]
    # For a wildcard IPv6 comes first: its socket can serve both families.
    return sorted(known, key=lambda entry: entry[0] != _stdlib.AF_INET6) if host is None else known


def check_backlog(backlog: int | None) -> None:
    """Raises TypeError or ValueError for an invalid backlog, before anything is opened."""
    if backlog is not None and (isinstance(backlog, bool) or not isinstance(backlog, int)):
        raise TypeError(f"a backlog is an int or None, not {type(backlog).__name__}")
    if backlog is not None and not 0 <= backlog < 1 << 31:
        raise ValueError(f"a backlog is 0 to {(1 << 31) - 1}, not {backlog}")


async def open_listener(
    family: int,
    address: Any,
    backlog: int | None,
    *,
    dual: bool = False,
    reuse_port: bool = False,
    mode: int | None = None,
) -> UringListener:
    """Socket, bind and listen on the ring. ``mode`` is that of a Unix socket, less the umask: its file has it
    from the moment it is there.

    Raises:
        OSError: the message names the stage and the address.
    """
    fd = await perform(ops.socket(family, _stdlib.SOCK_STREAM | _stdlib.SOCK_NONBLOCK))
    sock = adopt(fd, family, _stdlib.SOCK_STREAM)
    try:
        if family != _stdlib.AF_UNIX:
            for option in _tcp_options(family, dual, reuse_port):
                sock.setsockopt(*option)
        elif mode is not None:
            os.fchmod(fd, mode)
        for stage in (
            partial(ops.bind, fd, family, address),
            partial(ops.listen, fd, _BACKLOG if backlog is None else backlog),
        ):
            try:
                await perform(stage())
            except OperationRestricted:
                raise
            except OSError as exc:
                named = error_from_result(-(exc.errno or errno.EIO), stage.func.__name__, fd, address)
                raise advise(named, address) from None
    except BaseException:
        sock.close()
        raise
    sock.owner().exclusive = True
    return UringListener(sock)


def _tcp_options(family: int, dual: bool, reuse_port: bool) -> list[tuple[int, int, int]]:
    options = [(_stdlib.SOL_SOCKET, _stdlib.SO_REUSEADDR, 1)]
    if reuse_port:
        options.append((_stdlib.SOL_SOCKET, _stdlib.SO_REUSEPORT, 1))
    if family == _stdlib.AF_INET6:
        options.append((_stdlib.IPPROTO_IPV6, _stdlib.IPV6_V6ONLY, int(not dual)))
    # Connections inherit these: small writes are sent at once, and unsent data can still be cancelled.
    options.append((_stdlib.IPPROTO_TCP, _stdlib.TCP_NODELAY, 1))
    options.append((_stdlib.IPPROTO_TCP, _stdlib.TCP_NOTSENT_LOWAT, 16384))
    return options


def _connected(family: int, fd: int) -> UringStream:
    return UringStream(adopt(fd, family, _stdlib.SOCK_STREAM))


def _close_connection(fd: int, flags: int) -> None:
    os.close(fd)


def _nothing(res: int, flags: int) -> None:
    """A report of readiness holds nothing to give back."""
