"""Sockets: socket, bind, listen, accept, connect, recv, send, recvmsg, sendmsg, shutdown.

``O_NONBLOCK`` makes no difference to these: they wait in the kernel either way. ``MSG_DONTWAIT`` and
``accept``'s ``dontwait`` make them complete with ``-EAGAIN`` instead.
"""

from __future__ import annotations

import socket as _socket
import sys
from typing import TYPE_CHECKING, Any

from .. import abi
from ..addresses import SOCKADDR_SIZE, decode_address, encode_address
from ..memory import pin, pin_writable, zeroed
from ..messages import Message, encode_control
from .base import check_fd, check_int, close_fd, make

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..op import Op

__all__ = [
    "accept",
    "accept_multishot",
    "bind",
    "connect",
    "listen",
    "recv",
    "recvmsg",
    "send",
    "sendmsg",
    "shutdown",
    "socket",
]

_INT_MAX = (1 << 31) - 1
_UINT_MAX = (1 << 32) - 1
_SELECT = int(abi.IOSQE_BUFFER_SELECT)


def socket(family: int, type: int, protocol: int = 0) -> Op:
    """Creates a socket (Linux 5.19); completes with its descriptor. See socket(2).

    ``SOCK_CLOEXEC`` is added, as Python's own sockets have it; ``type`` may carry ``SOCK_NONBLOCK``.
    """
    check_int("family", int(family), 0, 255)
    check_int("type", int(type), 0, _INT_MAX)
    check_int("protocol", int(protocol), 0, _INT_MAX)
    kind = int(type) | _socket.SOCK_CLOEXEC
    return make("socket", abi.IORING_OP_SOCKET, int(family), off=kind, length=int(protocol), discard=close_fd)


def bind(fd: int, family: int, address: Any) -> Op:
    """Binds a socket to an address (Linux 6.11); completes with 0. See bind(2)."""
    raw = SocketAddress(encode_address(family, address))
    return make("bind", abi.IORING_OP_BIND, check_fd(fd), addr=raw.address, off=raw.length, pins=raw)


def listen(fd: int, backlog: int = 128) -> Op:
    """Makes a socket listen (Linux 6.11); completes with 0. See listen(2)."""
    check_int("backlog", backlog, 0, _INT_MAX)
    return make("listen", abi.IORING_OP_LISTEN, check_fd(fd), length=backlog)


def connect(fd: int, family: int, address: Any) -> Op:
    """Connects a socket (Linux 5.5); completes with 0. See connect(2).

    After a cancel the socket's state is undefined: close it.
    """
    raw = SocketAddress(encode_address(family, address))
    return make("connect", abi.IORING_OP_CONNECT, check_fd(fd), addr=raw.address, off=raw.length, pins=raw)


def accept(fd: int, *, flags: int = _socket.SOCK_CLOEXEC, with_address: bool = False) -> Op:
    """Accepts one connection (Linux 5.5); completes with its descriptor, or with (descriptor, address).

    ``flags`` are ``SOCK_CLOEXEC`` and ``SOCK_NONBLOCK``. See accept4(2).
    """
    if not with_address:
        return make("accept", abi.IORING_OP_ACCEPT, check_fd(fd), op_flags=flags, discard=close_fd)
    room = PeerAddress()
    return make(
        "accept",
        abi.IORING_OP_ACCEPT,
        check_fd(fd),
        addr=room.address,
        off=room.size_address,
        op_flags=flags,
        pins=room,
        decode=lambda res: (res, room.get()),
        discard=close_fd,
    )


def accept_multishot(fd: int, *, flags: int = _socket.SOCK_CLOEXEC) -> Op:
    """Accepts connections until cancelled (Linux 5.19): a completion each, with its descriptor.

    Peer addresses come from ``getpeername``: completions would overwrite one another's. Ends without
    ``F_MORE`` on an error (``EMFILE`` leaves the connection in the backlog), on cancel and when the
    completion queue overflows.
    """
    return make(
        "accept_multishot",
        abi.IORING_OP_ACCEPT,
        check_fd(fd),
        op_flags=flags,
        ioprio=abi.IORING_ACCEPT_MULTISHOT,
        discard=close_fd,
    )


def recv(
    fd: int, buffer: Any = None, *, flags: int = 0, buffer_group: int | None = None, size: int = 0
) -> Op:
    """Receives into a writable buffer, or into one that the kernel chooses from a buffer group
    (Linux 5.6); completes with the number of bytes, 0 at the end of the stream. See recv(2).

    With ``buffer_group`` the completion's flags say which buffer was taken; ``size`` bounds the receive.
    """
    if (buffer is None) == (buffer_group is None):
        raise TypeError("recv takes either a buffer or a buffer_group")
    if buffer is None:
        group = check_int("buffer_group", buffer_group, 0, 0xFFFF)
        length = check_int("size", size, 0, _INT_MAX)
        return make(
            "recv",
            abi.IORING_OP_RECV,
            check_fd(fd),
            length=length,
            op_flags=flags,
            flags=_SELECT,
            buf_index=group,
        )
    address, length, held = pin_writable(buffer)
    return make(
        "recv",
        abi.IORING_OP_RECV,
        check_fd(fd),
        addr=address,
        length=min(length, _INT_MAX),
        op_flags=flags,
        pins=held,
    )


def send(fd: int, data: Any, *, flags: int = 0) -> Op:
    """Sends bytes (Linux 5.6); completes with the number taken, which may be fewer than given unless
    ``flags`` has ``MSG_WAITALL``. Never raises ``SIGPIPE``. See send(2)."""
    address, length, held = pin(data)
    return make(
        "send",
        abi.IORING_OP_SEND,
        check_fd(fd),
        addr=address,
        length=min(length, _INT_MAX),
        op_flags=flags,
        pins=(held, data),
    )


def recvmsg(fd: int, message: Message, *, flags: int = 0) -> Op:
    """Receives into a `Message` made with writable buffers (Linux 5.3); completes with the number of
    bytes. The message then has the peer's ``name``, ``control`` and ``flags``. See recvmsg(2)."""
    return make(
        "recvmsg",
        abi.IORING_OP_RECVMSG,
        check_fd(fd),
        addr=message.address,
        length=1,
        op_flags=flags,
        pins=message,
    )


def sendmsg(
    fd: int,
    buffers: Sequence[Any],
    ancillary: Iterable[tuple[int, int, Any]] = (),
    *,
    flags: int = 0,
    name: bytes = b"",
) -> Op:
    """Sends buffers with control messages, to ``name`` (a ``sockaddr``, see `uring.addresses`) if given
    (Linux 5.3); completes with the number of bytes taken. See sendmsg(2)."""
    message = Message(buffers, name=name, control=encode_control(ancillary))
    return make(
        "sendmsg",
        abi.IORING_OP_SENDMSG,
        check_fd(fd),
        addr=message.address,
        length=1,
        op_flags=flags,
        pins=(message, buffers),
    )


def shutdown(fd: int, how: int) -> Op:
    """Shuts a connection down in one direction or both (Linux 5.11); completes with 0. See shutdown(2)."""
    check_int("how", int(how), 0, 2)
    return make("shutdown", abi.IORING_OP_SHUTDOWN, check_fd(fd), length=int(how))


class SocketAddress:
    """A ``sockaddr`` in memory of its own."""

    __slots__ = ("_memory", "address", "length")

    def __init__(self, raw: bytes) -> None:
        self._memory = zeroed(SOCKADDR_SIZE)
        self._memory.view[: len(raw)] = raw
        self.address: int = self._memory.address
        self.length: int = len(raw)


class PeerAddress:
    """Room for an address that the kernel writes, and its size behind it."""

    __slots__ = ("_memory", "address", "size_address")

    def __init__(self) -> None:
        self._memory = zeroed(SOCKADDR_SIZE + 8)
        self.address: int = self._memory.address
        self.size_address: int = self.address + SOCKADDR_SIZE
        self.reset()

    def reset(self) -> None:
        """Before each use: the kernel reads the room there is, and writes the size it used."""
        self._memory.view[SOCKADDR_SIZE : SOCKADDR_SIZE + 4] = SOCKADDR_SIZE.to_bytes(4, sys.byteorder)

    def get(self) -> Any:
        """The address as the `socket` module gives it."""
        size = int.from_bytes(self._memory.view[SOCKADDR_SIZE : SOCKADDR_SIZE + 4], sys.byteorder)
        return decode_address(self._memory.view[: min(size, SOCKADDR_SIZE)])
