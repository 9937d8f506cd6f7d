"""Sockets: creating, naming, connecting, accepting, shutting down.

``O_NONBLOCK`` makes no difference to these: they wait in the kernel either way. ``accept``'s ``dontwait``
makes it complete with ``EAGAIN`` instead. Sending and receiving are in ``uring.ops.send`` and ``receive``,
a constructor for each protocol is in ``uring.ops.protocols``.
"""

from __future__ import annotations

import socket as _socket
import sys
from typing import TYPE_CHECKING, Literal, cast, overload

from .. import abi
from ..kernel.addresses import SOCKADDR_SIZE, decode_address, encode_address
from ..kernel.memory import zeroed
from .base import (
    INT_MAX,
    Address,
    Fd,
    PeerName,
    check_fd,
    check_flags,
    check_int,
    close_fd,
    make,
    new_file,
    renamed,
)

if TYPE_CHECKING:
    from ..kernel.op import Multishot, Op

__all__ = [
    "PeerAddress",
    "SocketAddress",
    "accept",
    "accept_direct",
    "accept_direct_multishot",
    "accept_multishot",
    "bind",
    "connect",
    "listen",
    "shutdown",
    "socket",
    "socket_direct",
    "socket_raw",
]

_FAMILY_MAX = 255
_ALLOC = abi.IORING_FILE_INDEX_ALLOC
_POLL_FIRST = int(abi.IORING_ACCEPT_POLL_FIRST)
_DONTWAIT = int(abi.IORING_ACCEPT_DONTWAIT)
_MULTISHOT = int(abi.IORING_ACCEPT_MULTISHOT)


@renamed(type="kind")
def socket(family: int, kind: int, protocol: int = 0, *, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Creates a socket (Linux 5.19); completes with its descriptor. See socket(2).

    ``SOCK_CLOEXEC`` is added, as Python's own sockets have it; ``kind`` may carry ``SOCK_NONBLOCK``.
    """
    check_int("kind", kind, 0, INT_MAX)
    return _socket_op("socket", family, kind | _socket.SOCK_CLOEXEC, protocol, None).with_options(
        sqe_flags, personality
    )


@renamed(type="kind")
def socket_raw(
    family: int, kind: int, protocol: int = 0, *, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """`socket` with exactly these numbers: without ``SOCK_CLOEXEC`` the descriptor outlives exec(2)."""
    return _socket_op("socket_raw", family, kind, protocol, None).with_options(sqe_flags, personality)


@renamed(type="kind")
def socket_direct(
    family: int,
    kind: int,
    protocol: int = 0,
    *,
    file_index: int = _ALLOC,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """`socket` into a slot of the registered files, or into a free one (Linux 5.19); completes with the slot.

    ``ENXIO``, ``ENFILE``: no file table, no free slot.
    """
    return _socket_op("socket_direct", family, kind, protocol, file_index).with_options(
        sqe_flags, personality
    )


def bind(
    fd: Fd,
    family: int,
    address: Address,
    *,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Binds a socket to an address (Linux 6.11); completes with 0. See bind(2)."""
    raw = SocketAddress(encode_address(family, address))
    return make(
        "bind",
        abi.IORING_OP_BIND,
        check_fd(fd),
        addr=raw.address,
        off=raw.length,
        fixed_file=fixed_file,
        pins=raw,
        address=address,
    ).with_options(sqe_flags, personality)


def listen(
    fd: Fd, backlog: int = 128, *, fixed_file: bool = False, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Makes a socket listen (Linux 6.11); completes with 0. See listen(2)."""
    length = check_int("backlog", backlog, 0, INT_MAX)
    return make(
        "listen", abi.IORING_OP_LISTEN, check_fd(fd), length=length, fixed_file=fixed_file
    ).with_options(sqe_flags, personality)


def connect(
    fd: Fd,
    family: int,
    address: Address,
    *,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Connects a socket (Linux 5.5); completes with 0. See connect(2).

    After a cancel the socket's state is undefined: close it. A Unix socket that waits for room in a backlog
    blocks in a kernel worker and is interrupted.
    """
    raw = SocketAddress(encode_address(family, address))
    return make(
        "connect",
        abi.IORING_OP_CONNECT,
        check_fd(fd),
        addr=raw.address,
        off=raw.length,
        fixed_file=fixed_file,
        pins=raw,
        address=address,
    ).with_options(sqe_flags, personality)


@overload
def accept(
    fd: Fd,
    *,
    flags: int = ...,
    with_address: Literal[False] = ...,
    dontwait: bool = ...,
    poll_first: bool = ...,
    fixed_file: bool = ...,
    sqe_flags: int = ...,
    personality: int = ...,
) -> Op[int]: ...
@overload
def accept(
    fd: Fd,
    *,
    flags: int = ...,
    with_address: Literal[True],
    dontwait: bool = ...,
    poll_first: bool = ...,
    fixed_file: bool = ...,
    sqe_flags: int = ...,
    personality: int = ...,
) -> Op[tuple[int, PeerName]]: ...
@overload
def accept(
    fd: Fd,
    *,
    flags: int = ...,
    with_address: bool = ...,
    dontwait: bool = ...,
    poll_first: bool = ...,
    fixed_file: bool = ...,
    sqe_flags: int = ...,
    personality: int = ...,
) -> Op[int | tuple[int, PeerName]]: ...
def accept(
    fd: Fd,
    *,
    flags: int = _socket.SOCK_CLOEXEC,
    with_address: bool = False,
    dontwait: bool = False,
    poll_first: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int | tuple[int, PeerName]]:
    """Accepts one connection (Linux 5.5); completes with its descriptor, or with (descriptor, address).

    ``flags`` are ``SOCK_CLOEXEC`` and ``SOCK_NONBLOCK``. ``dontwait`` completes with ``EAGAIN`` when there is
    none, ``poll_first`` waits before it tries (6.10). See accept4(2).
    """
    room = PeerAddress() if with_address else None
    return make(
        "accept",
        abi.IORING_OP_ACCEPT,
        check_fd(fd),
        addr=room.address if room else 0,
        off=room.size_address if room else 0,
        op_flags=check_flags("flags", flags),
        ioprio=_accept_flags(dontwait, poll_first),
        fixed_file=fixed_file,
        pins=room,
        decode=(lambda res: (res, room.get())) if room else None,
        discard=close_fd,
    ).with_options(sqe_flags, personality)


def accept_direct(
    fd: Fd,
    *,
    file_index: int = _ALLOC,
    flags: int = 0,
    dontwait: bool = False,
    poll_first: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """`accept` into a slot of the registered files, or into a free one (Linux 5.15); completes with the slot.

    ``SOCK_CLOEXEC`` means nothing there and is refused with ``EINVAL``.
    """
    slot, decode, _ = new_file(file_index)
    return make(
        "accept_direct",
        abi.IORING_OP_ACCEPT,
        check_fd(fd),
        op_flags=check_flags("flags", flags),
        ioprio=_accept_flags(dontwait, poll_first),
        file_index=slot,
        fixed_file=fixed_file,
        decode=decode,
    ).with_options(sqe_flags, personality)


def accept_multishot(
    fd: Fd,
    *,
    flags: int = _socket.SOCK_CLOEXEC,
    poll_first: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Multishot[int]:
    """Accepts connections until cancelled (Linux 5.19): a completion each, with its descriptor.

    Peer addresses come from ``getpeername``: completions would overwrite one another's. Ends without
    ``F_MORE`` on an error (``EMFILE`` leaves the connection in the backlog), on cancel and when the
    completion queue overflows.
    """
    return cast(
        "Multishot[int]",
        make(
            "accept_multishot",
            abi.IORING_OP_ACCEPT,
            check_fd(fd),
            op_flags=check_flags("flags", flags),
            ioprio=_MULTISHOT | _accept_flags(False, poll_first),
            fixed_file=fixed_file,
            discard=close_fd,
        ).with_options(sqe_flags, personality),
    )


def accept_direct_multishot(
    fd: Fd,
    *,
    file_index: int = _ALLOC,
    flags: int = 0,
    poll_first: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Multishot[int]:
    """`accept_multishot` into free slots of the registered files (Linux 5.19): a completion each, with the
    slot. Ends with ``ENFILE`` when none is free.

    Raises:
        ValueError: ``file_index`` names a slot: all connections cannot go into one.
    """
    if file_index != _ALLOC:
        raise ValueError(f"a multishot accept takes free slots (IORING_FILE_INDEX_ALLOC), not {file_index}")
    return cast(
        "Multishot[int]",
        make(
            "accept_direct_multishot",
            abi.IORING_OP_ACCEPT,
            check_fd(fd),
            op_flags=check_flags("flags", flags),
            ioprio=_MULTISHOT | _accept_flags(False, poll_first),
            file_index=-1,
            fixed_file=fixed_file,
        ).with_options(sqe_flags, personality),
    )


def shutdown(
    fd: Fd, how: int, *, fixed_file: bool = False, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Shuts a connection down in one direction or both (Linux 5.11); completes with 0. See shutdown(2)."""
    length = check_int("how", how, 0, 2)
    return make(
        "shutdown", abi.IORING_OP_SHUTDOWN, check_fd(fd), length=length, fixed_file=fixed_file
    ).with_options(sqe_flags, personality)


def _socket_op(name: str, family: int, kind: int, protocol: int, file_index: int | None) -> Op[int]:
    slot, decode, discard = new_file(file_index)
    return make(
        name,
        abi.IORING_OP_SOCKET,
        check_int("family", family, 0, _FAMILY_MAX),
        off=check_int("kind", kind, 0, INT_MAX),
        length=check_int("protocol", protocol, 0, INT_MAX),
        file_index=slot,
        decode=decode,
        discard=discard,
    )


def _accept_flags(dontwait: bool, poll_first: bool) -> int:
    return (_DONTWAIT if dontwait else 0) | (_POLL_FIRST if poll_first else 0)


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

    def get(self) -> PeerName:
        """The address as the `socket` module gives it."""
        size = int.from_bytes(self._memory.view[SOCKADDR_SIZE : SOCKADDR_SIZE + 4], sys.byteorder)
        return decode_address(self._memory.view[: min(size, SOCKADDR_SIZE)])
