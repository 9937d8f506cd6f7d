"""Trio's sockets on the ring.

Every socket that Trio makes is a `RingSocket` once a ring run was started in this process. In a ring run
the ring waits and the task acts, as on stock Trio: each call tries once without blocking, waits for readiness
in the ring where it would block (see `uring_trio.core.fd`), and tries again. Anywhere else Trio's own code
runs.

  - One thing acts in the kernel: a plain ``recv`` of a stream socket. It takes memory when data arrives, from
    the run's provided buffers; a parked ``recv`` holds none. Where the buffers are used up it waits like all
    others. So it does where the socket may have more than its stream; see `uring_trio.net.urgent_data`.
  - Nothing is read ahead: ``is_readable``, ``MSG_PEEK``, ``detach`` and ``dup`` see what they should.

While scheduler ticks run in C, the usual ``accept``, ``recv``, ``send`` and ``close`` do too:
`uring_trio.seams.calls` and ``_io_*.c``. A change of either belongs in both places. There a connection has no
`Fd` until a receive of it has to wait.
"""

from __future__ import annotations

import errno
import os
import socket as _stdlib
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import trio
from trio.lowlevel import enable_ki_protection

from uring.kernel.memory import LENGTH_MAX

from .. import seams
from ..core.buffers import STREAMING
from ..core.fd import Fd
from ..core.operation import Operation
from . import unix_retry, urgent_data
from .attached_socket import AttachedSocket

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RingSocket", "adopt"]

_ENOBUFS = -errno.ENOBUFS
_REFUSED = -(1 << 31)
"""In the place of a result: the operation was not begun."""

T = TypeVar("T")
_Ancillary = list[tuple[int, int, bytes]]

# The plain numbers: making a member of an enumeration for each look costs as much as a system call.
_family = _stdlib.SocketType.family.__get__
_type = _stdlib.SocketType.type.__get__
_proto = _stdlib.SocketType.proto.__get__
_accept: Callable[[Any], tuple[int, Any]] = _stdlib.SocketType._accept  # type: ignore[attr-defined]
_recv: Callable[..., bytes] = _stdlib.SocketType.recv
_recv_into: Callable[..., int] = _stdlib.SocketType.recv_into
_recvfrom: Callable[..., tuple[bytes, Any]] = _stdlib.SocketType.recvfrom
_recvfrom_into: Callable[..., tuple[int, Any]] = _stdlib.SocketType.recvfrom_into
_recvmsg: Callable[..., tuple[bytes, _Ancillary, int, Any]] = _stdlib.SocketType.recvmsg
_recvmsg_into: Callable[..., tuple[int, _Ancillary, int, Any]] = _stdlib.SocketType.recvmsg_into
_send: Callable[..., int] = _stdlib.SocketType.send
_sendto: Callable[..., int] = _stdlib.SocketType.sendto
_sendmsg: Callable[..., int] = _stdlib.SocketType.sendmsg
_NO_FLAGS = 0
"""The object that a call has which is given none: another may be no number."""


async def _receive_again(sock: RingSocket, buflen: int, owner: Fd, res: int) -> bytes:
    return await sock.receive_again(owner, buflen, res)


async def _receive_from_again(sock: RingSocket, bufsize: int, owner: Fd, res: int) -> tuple[bytes, Any]:
    return await sock.act_again(owner, res, _recvfrom, bufsize)


async def _receive_into_again(sock: RingSocket, buffer: Any, owner: Fd, res: int) -> int:
    return await sock.act_again(owner, res, _recv_into, buffer)


class RingSocket(AttachedSocket):
    """A Trio socket; see `trio.socket.SocketType` for what its methods do."""

    __slots__ = ()

    # ---- receiving -----------------------------------------------------------------------------------

    @seams.compiled("receive", _receive_again)
    @enable_ki_protection
    async def recv(self, buflen: int, flags: int = 0, /) -> bytes:
        owner = self._owner
        if (
            owner is None
            or owner.fd != self._sock.fileno()
            or self._streaming
            or flags is not _NO_FLAGS
            or buflen.__class__ is not int
            or owner.receive_size != buflen
        ):
            return await self._recv_slowly(buflen, flags)
        op: Any = owner.reader
        data: bytes
        try:
            res = await seams.transact(op)
        except (seams.OtherRun, trio.BusyResourceError):
            res = _REFUSED
        if res > 0:
            bid = op.flags >> 16
            data = owner.views[bid][:res].tobytes()
            owner.give_back(bid)
            if res >= STREAMING:
                self._streaming = True
            return data
        if res == 0:
            return b""
        if res is _REFUSED:
            return await self._recv_slowly(buflen, flags)
        return await self.receive_again(owner, buflen, res)

    async def _recv_slowly(self, buflen: int, flags: int) -> bytes:
        fresh = self._owner is None
        owner = self._attach()
        if owner is None:
            return await super().recv(buflen, flags)
        plain = flags is _NO_FLAGS and buflen.__class__ is int and 0 < buflen <= LENGTH_MAX
        # Where a task waits, the attempt and the look at the cancel scope come before the refusal.
        if not plain or not self._may_receive_in_kernel(owner) or owner.is_read():
            return await self._act_on_input(owner, _recv, buflen, flags)
        if fresh or self._streaming:
            # A client mostly sends first, and has done so by now.
            self._check_alone(owner)
            waits = self._streaming
            self._streaming = False
            try:
                data = await seams.inline(_recv, self._sock, buflen)
                self._streaming = waits and len(data) >= STREAMING
                return data
            except BlockingIOError:
                pass
            if waits:
                return await self._recv_when_ready(owner, buflen)
        op = self._prepare_receive(owner, buflen)
        res = await seams.transact(op)
        if res < 0:
            if res == -errno.EBADF and fresh:  # it was open in the attempt
                await owner.lost()
            return await self.receive_again(owner, buflen, res)
        self._streaming = res >= STREAMING
        return self._take_buffer(owner, op, res)

    async def _recv_when_ready(self, owner: Fd, buflen: int, timeout: float | None = None) -> bytes:
        receive = urgent_data.unless_urgent
        data: bytes = await owner.when_readable("recv", receive, _recv, self._sock, buflen, timeout=timeout)
        self._streaming = len(data) >= STREAMING
        return data

    async def receive_again(self, owner: Fd, buflen: int, res: int, timeout: float | None = None) -> bytes:
        """Receives once more when there is input, after a receive that would block, or failed for a reason of
        the ring's."""
        if res == _ENOBUFS:
            # More arrived in one tick than there are buffers.
            owner.engine.more_buffers()
        elif res != -errno.EAGAIN and res not in seams.CANCELLED:
            raise OSError(-res, os.strerror(-res))
        return await self._recv_when_ready(owner, buflen, timeout)

    @enable_ki_protection
    async def recv_within(self, buflen: int, timeout: float) -> bytes:
        """As `recv`, at most ``timeout`` seconds, held by the kernel.

        Raises:
            trio.TooSlowError: nothing arrived in that time; later data stays in the socket.
        """
        owner = self.owner()
        if not self._may_receive_in_kernel(owner):
            return await self._act_on_input(owner, _recv, buflen, timeout=timeout)
        op = owner.reader
        if op is None or op.task is not None or owner.receive_size != buflen:
            op = self._prepare_receive(owner, buflen)
        res = await seams.transact_within(op, timeout)
        if res < 0:
            return await self.receive_again(owner, buflen, res, timeout)
        return self._take_buffer(owner, op, res)

    @seams.compiled("receive_into", _receive_into_again)
    @enable_ki_protection
    async def recv_into(self, /, *args: Any, **kwargs: Any) -> int:
        owner = self._attach()
        if owner is None:
            return await super().recv_into(*args, **kwargs)
        return await self._act_on_input(owner, _with(_recv_into, kwargs), *args)

    @enable_ki_protection
    async def recv_into_within(self, buffer: Any, timeout: float) -> int:
        """As `recv_into`, at most ``timeout`` seconds; see `recv_within`."""
        return await self._act_on_input(self.owner(), _recv_into, buffer, timeout=timeout)

    @seams.compiled("receive_from", _receive_from_again)
    @enable_ki_protection
    async def recvfrom(self, /, *args: Any, **kwargs: Any) -> tuple[bytes, Any]:
        owner = self._attach()
        if owner is None:
            return await super().recvfrom(*args, **kwargs)
        return await self._act_on_input(owner, _with(_recvfrom, kwargs), *args)

    @enable_ki_protection
    async def recvfrom_into(self, /, *args: Any, **kwargs: Any) -> tuple[int, Any]:
        owner = self._attach()
        if owner is None:
            return await super().recvfrom_into(*args, **kwargs)
        return await self._act_on_input(owner, _with(_recvfrom_into, kwargs), *args)

    @enable_ki_protection
    async def recvmsg(self, /, *args: Any, **kwargs: Any) -> tuple[bytes, _Ancillary, int, Any]:
        owner = self._attach()
        if owner is None:
            return await super().recvmsg(*args, **kwargs)
        return await self._act_on_input(owner, _with(_recvmsg, kwargs), *args)

    @enable_ki_protection
    async def recvmsg_within(
        self, bufsize: int, ancbufsize: int, timeout: float
    ) -> tuple[bytes, _Ancillary, int, Any]:
        """As `recvmsg`, at most ``timeout`` seconds; see `recv_within`."""
        return await self._act_on_input(self.owner(), _recvmsg, bufsize, ancbufsize, timeout=timeout)

    @enable_ki_protection
    async def recvmsg_into(self, /, *args: Any, **kwargs: Any) -> tuple[int, _Ancillary, int, Any]:
        owner = self._attach()
        if owner is None:
            return await super().recvmsg_into(*args, **kwargs)
        if args:
            args = _kept(args[0]), *args[1:]
        return await self._act_on_input(owner, _with(_recvmsg_into, kwargs), *args)

    async def _act_on_input(
        self, owner: Fd, fn: Callable[..., T], *args: Any, timeout: float | None = None
    ) -> T:
        """Calls a function of the socket module's with this socket, once it does not block."""
        self._check_alone(owner)
        if urgent_data.asks_for_urgent(fn, args):
            owner.engine.keep_urgent()
        try:
            return await seams.inline(fn, self._sock, *args)
        except BlockingIOError:
            pass
        return await self._act_when_ready(owner, fn, *args, timeout=timeout)

    async def act_again(self, owner: Fd, res: int, fn: Callable[..., T], *args: Any) -> T:
        """Acts once more when there is input, after an attempt that would block, or failed."""
        if res != -errno.EAGAIN:
            raise OSError(-res, os.strerror(-res))
        return await self._act_when_ready(owner, fn, *args)

    async def _act_when_ready(
        self, owner: Fd, fn: Callable[..., T], *args: Any, timeout: float | None = None
    ) -> T:
        name = getattr(fn, "__name__", "recv_into")
        owner.wait_in_c(name)
        return await owner.when_readable(
            name, urgent_data.unless_urgent, fn, self._sock, *args, timeout=timeout
        )

    # ---- accepting and connecting --------------------------------------------------------------------

    @seams.compiled("accept", usual=0)
    @enable_ki_protection
    async def accept(self) -> tuple[Any, Any]:
        known = self._owner
        owner = self._attach()
        if owner is None:
            return await super().accept()
        sock = self._sock
        accepted = None
        # For a socket that does not listen poll(2) may report nothing, and accept(2) fails.
        tried = owner is not known or not self._idle or owner.is_read()
        if tried:
            try:
                accepted = await seams.inline(_accept, sock)
            except BlockingIOError:
                self._idle = True
        if accepted is None:
            accepted = await owner.when_readable("accept", _accept, sock, tried=tried)
            self._idle = False
        fd, address = accepted
        return adopt(fd, _family(sock), _type(sock), _proto(sock)), address

    def accept_now(self) -> int:
        """Accepts without waiting; the connection's descriptor.

        Raises:
            BlockingIOError: there is none.
        """
        return _accept(self._sock)[0]

    @enable_ki_protection
    async def connect(self, address: Any) -> None:
        owner = self._attach()
        if owner is None:
            await super().connect(address)
            return
        sock = self._sock
        try:
            address = await seams.resolve(self, address, local=False)
            try:
                await seams.inline(sock.connect, address)
                return
            except BlockingIOError as exc:
                no_room = exc.errno == errno.EAGAIN and _family(sock) == _stdlib.AF_UNIX
            if no_room:
                await unix_retry.connect(owner, partial(sock.connect, address))
                return
            await owner.until_writable("connect")
        except trio.Cancelled:
            # The socket's state is undefined after a cancelled connect: close it, as Trio does.
            self.close()
            raise
        error = sock.getsockopt(_stdlib.SOL_SOCKET, _stdlib.SO_ERROR)
        if error:
            raise OSError(error, f"Error connecting to {address!r}: {os.strerror(error)}")

    # ---- sending -------------------------------------------------------------------------------------

    @seams.compiled("send")
    @enable_ki_protection
    async def send(self, data: Any, flags: int = 0, /) -> int:
        try:
            return await seams.inline(_send, self._sock, data, flags)
        except BlockingIOError:
            pass
        return await self.send_when_ready(data, flags)

    @enable_ki_protection
    async def send_when_ready(self, data: Any, flags: int = 0, /, timeout: float | None = None) -> int:
        """As `send`, without the attempt to send at once; for data that is known not to fit.

        Raises:
            trio.TooSlowError: ``timeout`` seconds, held by the kernel, have passed and nothing was sent.
        """
        owner = self._attach()
        if owner is None:
            return await super().send(data, flags)
        return await owner.when_writable("send", _send, self._sock, data, flags, timeout=timeout)

    @seams.compiled("send_to")
    @enable_ki_protection
    async def sendto(self, *args: Any) -> int:
        arguments = list(args)
        arguments[-1] = await seams.resolve(self, args[-1], local=False)
        try:
            return await seams.inline(_sendto, self._sock, *arguments)
        except BlockingIOError:
            pass
        owner = self._attach()
        if owner is None:
            return await super().sendto(*arguments)
        return await self._send_when_ready(owner, "sendto", arguments[-1], _sendto, *arguments)

    @enable_ki_protection
    async def sendmsg(self, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None, /) -> int:
        buffers, ancdata = _kept(buffers), _kept(ancdata)
        if ancdata and urgent_data.queues_errors(ancdata):
            self._stamps = True
            if self._owner is not None:
                self._owner.forget_receive()
        if address is not None:
            address = await seams.resolve(self, address, local=False)
        arguments = buffers, ancdata, flags, address
        try:
            return await seams.inline(_sendmsg, self._sock, *arguments)
        except BlockingIOError:
            pass
        owner = self._attach()
        if owner is None:
            return await super().sendmsg(*arguments)
        return await self._send_when_ready(owner, "sendmsg", address, _sendmsg, *arguments)

    async def _send_when_ready(
        self, owner: Fd, name: str, address: Any, fn: Callable[..., int], *args: Any
    ) -> int:
        sock = self._sock
        if address is None or _family(sock) != _stdlib.AF_UNIX or _type(sock) != _stdlib.SOCK_DGRAM:
            return await owner.when_writable(name, fn, sock, *args)
        return await unix_retry.send_to(owner, name, address, partial(fn, sock, *args))

    def setsockopt(self, *args: Any) -> None:
        super().setsockopt(*args)
        owner = self._owner
        if owner is not None and (
            owner.reader is None or owner.reader.task is None or urgent_data.makes_error_queue(args)
        ):
            owner.forget_receive()

    # ---- closing -------------------------------------------------------------------------------------

    @seams.closing
    def close(self) -> None:
        self._owner = None
        super().close()

    def detach(self) -> int:
        self._end_operations()
        return super().detach()

    def shutdown(self, flag: int) -> None:
        owner = self._owner
        if owner is not None and owner.writer is not None and owner.writer.task is not None:
            # A zero-copy send that is queued must be in the kernel before the end of the stream is.
            owner.engine.ring.flush(0)
        super().shutdown(flag)

    @seams.closing
    def __exit__(self, *exc_info: Any) -> None:
        self._end_operations()
        super().__exit__(*exc_info)


@enable_ki_protection
def _prepare(sock: RingSocket, buflen: int) -> Fd | None:
    """For C, after the first receive that would block; None: the coroutine has to find out how to receive."""
    return sock.prepared(buflen)


@enable_ki_protection
def _accepted(listener: _stdlib.socket, fd: int) -> Any:
    """For C: the socket of a connection."""
    return adopt(fd, _family(listener), _type(listener), _proto(listener))


seams.describe_sockets(RingSocket, Fd, Operation, _prepare, _accepted)


def _kept(items: Any) -> Any:
    """The items in a form that the call may be tried with again: those of an iterator as a list. A list stays
    itself, because a program may change it while the call waits. The call refuses anything else itself."""
    if isinstance(items, (list, tuple)):
        return items
    try:
        return list(items)
    except TypeError:
        return items


def _with(fn: Callable[..., T], kwargs: dict[str, Any]) -> Callable[..., T]:
    """A function that is given these keywords, which most refuse."""
    return partial(fn, **kwargs) if kwargs else fn


def adopt(fd: int, family: int, type: int, proto: int = 0) -> Any:
    """The Trio socket of a descriptor that the ring made, which is closed if that fails."""
    try:
        sock = _stdlib.socket(family, type, proto, fileno=fd)
    except BaseException:
        os.close(fd)
        raise
    return trio.socket.from_stdlib_socket(sock)
