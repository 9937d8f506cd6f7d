"""UDP sockets: datagrams with their addresses and control data, by one multishot request.

Each buffer of a multishot receive starts with a header (sizes and flags), then room for the address and the
control data as large as the request's ``msghdr`` says, then the payload.
"""

from __future__ import annotations

import errno
import socket as _stdlib
from operator import not_
from typing import Any, NamedTuple

import trio
from trio.lowlevel import enable_ki_protection

from uring import abi, ops
from uring.abi.layouts import RECVMSG_OUT
from uring.kernel.addresses import decode_address, encode_address
from uring.kernel.messages import Message, decode_control

from .. import seams
from ..core.perform import check_timeout, perform
from ..multishot.items import Items
from ..multishot.leases import Group, borrow_group
from ..multishot.subscription import Subscription
from .bind_errors import advise
from .socket import RingSocket, adopt

__all__ = ["Datagram", "UringDatagrams", "open_udp"]

_RECVMSG = int(abi.IORING_OP_RECVMSG)
_SELECT = int(abi.IOSQE_BUFFER_SELECT)
_MULTISHOT = int(abi.IORING_RECV_MULTISHOT) << 8
_BUFFER = int(abi.IORING_CQE_F_BUFFER)
_NAME_SIZE = 32
_NAME_AT = RECVMSG_OUT.size
_CONTROL_AT = _NAME_AT + _NAME_SIZE
_LARGEST = 65507
_unpack_header = RECVMSG_OUT.unpack_from


class Datagram(NamedTuple):
    """A received datagram.

    Attributes:
        data: the payload, cut to the size asked for.
        address: who sent it, as the `socket` module gives addresses.
        control: control messages (level, type, data), as ``recvmsg`` gives them.
        flags: ``MSG_*`` flags.
    """

    data: bytes
    address: Any
    control: list[tuple[int, int, bytes]]
    flags: int

    @property
    def truncated(self) -> bool:
        """Whether the payload was larger than the size asked for, and was cut."""
        return bool(self.flags & _stdlib.MSG_TRUNC)


class UringDatagrams(trio.abc.AsyncResource):
    """A UDP socket. Datagrams are sent and received whole, by one task in each direction.

    Async methods are checkpoints. `aclose` closes in a cancelled scope too.

    Attributes:
        socket: the socket, one of Trio's; set options and group memberships there.

    Raises:
        TypeError: not a socket of a ring run.
        ValueError: not a UDP socket.
    """

    def __init__(self, socket: Any) -> None:
        if not isinstance(socket, RingSocket):
            raise TypeError(f"this wraps a socket of a ring run, not {type(socket).__name__}")
        if socket.type != _stdlib.SOCK_DGRAM or socket.family not in (_stdlib.AF_INET, _stdlib.AF_INET6):
            raise ValueError("this needs a UDP socket")
        self.socket: RingSocket = socket
        plain = seams.stdlib_socket(socket)
        self._send = plain.send
        self._sendto = plain.sendto
        self._checked: Any = None  # the address that was found to be numeric last

    @property
    def address(self) -> Any:
        """The address it is bound to, as ``getsockname`` gives it."""
        return self.socket.getsockname()

    @enable_ki_protection
    async def send(self, data: Any) -> None:
        """Sends a datagram to the remote that the socket was opened with. A checkpoint.

        Args:
            data: a buffer of bytes, one datagram.

        Raises:
            OSError: ``EDESTADDRREQ`` without a remote, ``EMSGSIZE``, or what the network reported about
                an earlier datagram (``ECONNREFUSED``).
            trio.ClosedResourceError: the socket is closed.
        """
        try:
            await seams.inline(self._send, data)
        except BlockingIOError:
            await self.socket.send_when_ready(data)
        except OSError as exc:
            raise _closed_or(exc) from None

    @enable_ki_protection
    async def send_to(self, data: Any, address: Any) -> None:
        """Sends a datagram to a numeric address. A checkpoint.

        Args:
            data: a buffer of bytes, one datagram.
            address: as for ``socket.sendto``, with a numeric host.

        Raises:
            TypeError, ValueError: not a numeric address of the socket's family.
            OSError: ``EMSGSIZE``, or what the network reported.
            trio.ClosedResourceError: the socket is closed.
        """
        if address != self._checked:
            encode_address(self.socket.family, address)
            self._checked = address
        try:
            await seams.inline(self._sendto, data, address)
        except BlockingIOError:
            await self.socket.sendto(data, address)
        except OSError as exc:
            raise _closed_or(exc) from None

    @enable_ki_protection
    async def receive(
        self, size: int = _LARGEST, *, control_size: int = 0, timeout: float | None = None
    ) -> Datagram:
        """Waits for one datagram; bytes beyond ``size`` are cut off.

        A cancelled call loses no datagram: it stays in the socket, or is returned.

        Args:
            size: the largest datagram in bytes.
            control_size: bytes of room for control messages; 0: none are asked for.
            timeout: seconds to wait, held by the kernel; None: no limit.

        Raises:
            trio.TooSlowError: ``timeout`` passed; a later datagram stays in the socket.
            ValueError: the size is less than 1.
            OSError: what the network reported about a datagram that was sent (``ECONNREFUSED``).
            trio.BusyResourceError: another task is receiving.
            trio.ClosedResourceError: the socket is closed.
        """
        _check_sizes(size, control_size)
        check_timeout(timeout)
        try:
            if timeout is None:
                data, control, flags, address = await self.socket.recvmsg(size, control_size)
            else:
                received = await self.socket.recvmsg_within(size, control_size, timeout)
                data, control, flags, address = received
        except OSError as exc:
            raise _closed_or(exc) from None
        return Datagram(data, address, control, flags)

    def datagrams(self, *, size: int = _LARGEST, control_size: int = 0, buffers: int = 64) -> Items[Datagram]:
        """Datagrams as they come, by one multishot receive:

            async with udp.datagrams() as incoming:
                async for datagram in incoming:
                    await udp.send_to(datagram.data, datagram.address)

        While all buffers are taken, datagrams wait in the socket, which drops what does not fit. Those that
        were received and not taken when the block is left are lost.

        Args:
            size: bytes of a payload; bytes beyond are cut off, see `Datagram.truncated`.
            control_size: bytes of room for control messages, 0 for none.
            buffers: the number of datagrams that are received ahead.

        Raises:
            TypeError, ValueError: no such sizes, or more than `RingOptions.group_memory`.
            trio.BusyResourceError: on entering, another task is receiving; while iterating, another one is.
            OSError: while iterating, what the network reported about a datagram that was sent; iterating
                can go on.
            trio.ClosedResourceError: the socket, or the block, was closed.
            RuntimeError: iterated without ``async with``.
        """
        _check_sizes(size, control_size)
        return _Incoming(self.socket, size, control_size, buffers)

    async def aclose(self) -> None:
        """Closes the socket; tasks that wait on it get `trio.ClosedResourceError`. Idempotent."""
        self.socket.close()
        await trio.lowlevel.checkpoint()

    def __repr__(self) -> str:
        return f"<UringDatagrams {self.socket!r}>"


@enable_ki_protection
async def open_udp(local: Any = None, remote: Any = None, *, reuse_port: bool = False) -> UringDatagrams:
    """A UDP socket.

    A checkpoint. Cancelled, it leaves no socket behind.

    Args:
        local: (host, port) to bind to; a port of 0, or None, picks a free one.
        remote: (host, port) of the only peer to exchange datagrams with.
        reuse_port: other sockets may bind to the same address; the kernel spreads datagrams over them.

    Raises:
        OSError: the host is unknown, or the message names the stage (socket, bind, connect) that failed.
        TypeError: neither address is a (host, port).
        RuntimeError: outside a ring run.
    """
    family, bind_to = await _resolve(local, _stdlib.AI_PASSIVE, 0)
    to = None
    if remote is not None:
        family, to = await _resolve(remote, 0, 0 if local is None else family)
        if local is None:
            bind_to = None
    fd = await perform(ops.socket(family, _stdlib.SOCK_DGRAM | _stdlib.SOCK_NONBLOCK))
    sock = adopt(fd, family, _stdlib.SOCK_DGRAM)
    try:
        if reuse_port:
            sock.setsockopt(_stdlib.SOL_SOCKET, _stdlib.SO_REUSEPORT, 1)
        if bind_to is not None:
            try:
                await perform(ops.bind(fd, family, bind_to))
            except OSError as exc:
                raise advise(exc, bind_to) from None
        if to is not None:
            await perform(ops.connect(fd, family, to))
    except BaseException:
        sock.close()
        raise
    return UringDatagrams(sock)


async def _resolve(address: Any, flags: int, family: int) -> tuple[int, Any]:
    if address is None:
        return family or int(_stdlib.AF_INET), None if family else ("0.0.0.0", 0)
    if not isinstance(address, tuple) or len(address) < 2:
        raise TypeError(f"an address is (host, port), not {address!r}")
    found = await trio.socket.getaddrinfo(
        address[0], address[1], family=family, type=_stdlib.SOCK_DGRAM, flags=flags
    )
    return int(found[0][0]), found[0][4]


class _Incoming(Items[Datagram]):
    """`UringDatagrams.datagrams`."""

    __slots__ = (
        "_address",
        "_buffers",
        "_control_size",
        "_group",
        "_message",
        "_name",
        "_payload_at",
        "_size",
        "_socket",
        "_views",
    )

    def __init__(self, socket: RingSocket, size: int, control_size: int, buffers: int) -> None:
        super().__init__()
        self._socket = socket
        self._size = size
        self._control_size = (control_size + 7) & ~7
        self._buffers = buffers
        self._message = Message(name_size=_NAME_SIZE, control_size=self._control_size)
        self._payload_at = _CONTROL_AT + self._control_size
        self._group: Any = None
        self._views: list[memoryview] = []
        self._name: bytes | None = None  # the raw address decoded last
        self._address: Any = None

    def _open(self) -> Subscription:
        owner = self._socket.receiving_owner()
        group: Group = borrow_group(owner.engine, self._buffers, self._payload_at + self._size)
        self._group = group
        self._views = group.buffers.views
        flags = _SELECT | _MULTISHOT
        fields = (_RECVMSG, flags, owner.fd, 0, self._message.address, 1, 0, group.number, 0, 0)
        subscription = Subscription(
            owner,
            "recvmsg_multishot",
            fields,
            self._discard,
            limit=self._buffers,
            pins=self._message,
            group=group,
            ends=not_,  # 0: the socket is shut down
        )
        owner.receiving = subscription
        return subscription

    def _item(self, res: int, flags: int) -> Datagram:
        bid = flags >> 16
        view = self._views[bid]
        name_size, control_size, _, message_flags = _unpack_header(view)
        name = view[_NAME_AT : _NAME_AT + name_size].tobytes()
        if name != self._name:
            self._name, self._address = name, decode_address(name)
        data = view[self._payload_at : res].tobytes()
        control: list[tuple[int, int, bytes]] = []
        if control_size:
            control = decode_control(view[_CONTROL_AT : _CONTROL_AT + control_size].tobytes())
        self._group.recycle(bid)
        return Datagram(data, self._address, control, message_flags)

    def _discard(self, res: int, flags: int) -> None:
        if flags & _BUFFER:
            self._group.recycle(flags >> 16)


def _check_sizes(size: int, control_size: int) -> None:
    for name, value, least in (("a size", size, 1), ("a control size", control_size, 0)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} is an int, not {type(value).__name__}")
        if not least <= value <= 1 << 20:
            raise ValueError(f"{name} is {least} to {1 << 20}, not {value}")


def _closed_or(exc: OSError) -> Exception:
    return trio.ClosedResourceError("this socket is closed") if exc.errno == errno.EBADF else exc
