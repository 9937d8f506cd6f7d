"""Commands of sockets: their options, addresses, queues and time stamps, through `uring_cmd`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast, overload

from .. import abi
from ..kernel.memory import pin, zeroed
from .base import INT_MAX, UINT_MAX, Fd, PeerName, check_fd, check_int, make
from .sockaddrs import PeerAddress

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ..kernel.op import Multishot, Op

__all__ = ["getsockname", "getsockopt", "setsockopt", "siocinq", "siocoutq", "tx_timestamp"]

_OPTION_MAX = 1 << 20


def siocinq(fd: Fd, *, fixed_file: bool = False, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Asks how many bytes a socket has to read; of a UDP socket: how many the next datagram has.

    Args:
        fd: the socket, a descriptor or an object with ``fileno()``.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The number of bytes.

    Errors:
        - ``EBADF``: ``fd`` is not open, or the slot is empty.
        - ``EINVAL``: the socket listens.
        - ``EOPNOTSUPP``: the file is no socket, or one without this command, such as a Unix socket.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.6.

    Source:
        tcp(7), udp(7); io_uring_prep_cmd_sock(3), ``SOCKET_URING_OP_SIOCINQ``.
    """
    return _socket("siocinq", abi.SOCKET_URING_OP_SIOCINQ, fd, fixed_file).with_options(
        sqe_flags, personality
    )


def siocoutq(fd: Fd, *, fixed_file: bool = False, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Asks how many bytes in a socket's send queue are not sent, or not acknowledged yet.

    Args:
        fd: the socket, a descriptor or an object with ``fileno()``.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The number of bytes.

    Errors:
        - ``EBADF``: ``fd`` is not open, or the slot is empty.
        - ``EINVAL``: the socket listens.
        - ``EOPNOTSUPP``: the file is no socket, or one without this command, such as a Unix socket.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.6.

    Source:
        tcp(7), udp(7); io_uring_prep_cmd_sock(3), ``SOCKET_URING_OP_SIOCOUTQ``.
    """
    return _socket("siocoutq", abi.SOCKET_URING_OP_SIOCOUTQ, fd, fixed_file).with_options(
        sqe_flags, personality
    )


@overload
def getsockopt(
    fd: Fd,
    level: int,
    optname: int,
    size: None = None,
    *,
    fixed_file: bool = ...,
    sqe_flags: int = ...,
    personality: int = ...,
) -> Op[int]: ...
@overload
def getsockopt(
    fd: Fd,
    level: int,
    optname: int,
    size: int,
    *,
    fixed_file: bool = ...,
    sqe_flags: int = ...,
    personality: int = ...,
) -> Op[bytes]: ...
@overload
def getsockopt(
    fd: Fd,
    level: int,
    optname: int,
    size: int | None = None,
    *,
    fixed_file: bool = ...,
    sqe_flags: int = ...,
    personality: int = ...,
) -> Op[int | bytes]: ...
def getsockopt(
    fd: Fd,
    level: int,
    optname: int,
    size: int | None = None,
    *,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int | bytes]:
    """Reads a socket option.

    Args:
        fd: the socket, a descriptor or an object with ``fileno()``.
        level: ``SOL_SOCKET``. The kernel refuses others.
        optname: the option, ``SO_*``, 0 to 2**31 - 1.
        size: asks for bytes, this many at most, 0 to 2**20; None asks for an int.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        An int; with ``size`` bytes.

    Errors:
        - ``EBADF``: ``fd`` is not open, or the slot is empty.
        - ``ENOPROTOOPT``: there is no such option.
        - ``EOPNOTSUPP``: ``level`` is another one, or the file is no socket.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.7.

    Source:
        getsockopt(2); io_uring_prep_cmd_sock(3), ``SOCKET_URING_OP_GETSOCKOPT``.
    """
    room = zeroed(4 if size is None else check_int("size", size, 0, _OPTION_MAX))
    length = len(room.view)

    def decode(res: int) -> int | bytes:
        if size is None:
            return int.from_bytes(room.view, sys.byteorder, signed=True)
        return bytes(room.view[:res])

    return make(
        "getsockopt",
        abi.IORING_OP_URING_CMD,
        check_fd(fd),
        off=int(abi.SOCKET_URING_OP_GETSOCKOPT),
        addr=_option(level, optname),
        file_index=length,
        addr3=room.address,
        fixed_file=fixed_file,
        pins=room,
        decode=decode,
    ).with_options(sqe_flags, personality)


def setsockopt(
    fd: Fd,
    level: int,
    optname: int,
    value: int | Buffer,
    *,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Sets a socket option.

    Args:
        fd: the socket, a descriptor or an object with ``fileno()``.
        level: the protocol, such as ``SOL_SOCKET`` or ``IPPROTO_TCP``, 0 to 2**31 - 1.
        optname: the option, 0 to 2**31 - 1.
        value: an int of 32 bits, or bytes.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0.

    Errors:
        - ``EBADF``: ``fd`` is not open, or the slot is empty.
        - ``ENOPROTOOPT``: there is no such option.
        - ``EINVAL``: the value has the wrong size or is out of range.
        - ``EPERM``: the option needs privileges.
        - ``EOPNOTSUPP``: the file is no socket.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.7.

    Source:
        setsockopt(2); io_uring_prep_cmd_sock(3), ``SOCKET_URING_OP_SETSOCKOPT``.
    """
    if isinstance(value, int):
        number = check_int("value", value, -INT_MAX - 1, UINT_MAX)
        value = (number & UINT_MAX).to_bytes(4, sys.byteorder)
    address, length, held = pin(value)
    return make(
        "setsockopt",
        abi.IORING_OP_URING_CMD,
        check_fd(fd),
        off=int(abi.SOCKET_URING_OP_SETSOCKOPT),
        addr=_option(level, optname),
        file_index=check_int("the size of value", length, 0, INT_MAX),
        addr3=address,
        fixed_file=fixed_file,
        pins=(held, value),
    ).with_options(sqe_flags, personality)


def getsockname(
    fd: Fd, *, peer: bool = False, fixed_file: bool = False, sqe_flags: int = 0, personality: int = 0
) -> Op[PeerName]:
    """Reads a socket's own address, or that of its peer.

    Args:
        fd: the socket, a descriptor or an object with ``fileno()``.
        peer: the peer's address instead.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The address, as `socket.socket.getsockname` gives it.

    Errors:
        - ``EBADF``: ``fd`` is not open, or the slot is empty.
        - ``ENOTCONN``: with ``peer``, the socket is not connected.
        - ``EOPNOTSUPP``: the file is no socket, or the kernel does not know the command (Linux 6.18).

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.19.

    Source:
        getsockname(2), getpeername(2); io_uring_prep_cmd_getsockname(3).
    """
    room = PeerAddress()
    return make(
        "getsockname",
        abi.IORING_OP_URING_CMD,
        check_fd(fd),
        off=int(abi.SOCKET_URING_OP_GETSOCKNAME),
        addr=room.address,
        file_index=int(bool(peer)),
        addr3=room.size_address,
        fixed_file=fixed_file,
        pins=room,
        decode=lambda _: room.get(),
    ).with_options(sqe_flags, personality)


def tx_timestamp(
    fd: Fd, *, fixed_file: bool = False, sqe_flags: int = 0, personality: int = 0
) -> Multishot[int]:
    """Reports when packets of a socket were sent, until it is cancelled.

    The socket needs ``SO_TIMESTAMPING``, the ring 32-byte completions. In the flags of a completion the bits
    from 17 on are the kind of stamp, and bit 16 says that the card made it; its second half has seconds and
    nanoseconds.

    Args:
        fd: the socket, a descriptor or an object with ``fileno()``.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        Of each completion: the key of the packet (``SOF_TIMESTAMPING_OPT_ID``).

    Errors:
        - ``EBADF``: ``fd`` is not open, or the slot is empty.
        - ``EINVAL``: the ring has no 32-byte completions.
        - ``EOPNOTSUPP``: the file is no socket.

    Ends:
        On a cancel and on an error: the completion without ``F_MORE`` is the last.

    Cancellation:
        `async_cancel` ends it at once with ``ECANCELED``.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.17.

    Source:
        The kernel's Documentation/networking/timestamping.rst; io_uring_prep_cmd_sock(3),
        ``SOCKET_URING_OP_TX_TIMESTAMP``.
    """
    return cast(
        "Multishot[int]",
        _socket("tx_timestamp", abi.SOCKET_URING_OP_TX_TIMESTAMP, fd, fixed_file).with_options(
            sqe_flags, personality
        ),
    )


def _socket(name: str, cmd_op: int, fd: Fd, fixed_file: bool) -> Op[int]:
    return make(name, abi.IORING_OP_URING_CMD, check_fd(fd), off=int(cmd_op), fixed_file=fixed_file)


def _option(level: int, optname: int) -> int:
    return check_int("level", level, 0, INT_MAX) | check_int("optname", optname, 0, INT_MAX) << 32
