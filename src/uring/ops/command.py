"""Commands of drivers and sockets: uring_cmd, and what sockets offer through it.

The driver defines the meaning of a command's data. If the data names memory, the caller must keep that memory
alive. The socket commands below keep theirs. A file that takes no commands completes with ``EOPNOTSUPP``.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast, overload

from .. import abi
from ..kernel.memory import pin, zeroed
from .base import INT_MAX, UINT_MAX, Fd, PeerName, check_fd, check_flags, check_int, make
from .socket import PeerAddress

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ..kernel.op import Multishot, Op

__all__ = [
    "getsockname",
    "getsockopt",
    "setsockopt",
    "siocinq",
    "siocoutq",
    "tx_timestamp",
    "uring_cmd",
    "uring_cmd128",
]

_COMMAND_MAX = 80
_OPTION_MAX = 1 << 20


def uring_cmd(
    fd: Fd,
    cmd_op: int,
    data: Buffer = b"",
    *,
    cmd_flags: int = 0,
    buf_index: int = 0,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """A command of the file's driver (Linux 5.19); what it completes with is the driver's to say.

    ``data`` is copied into the entry: 16 bytes, or 80 on a ring with ``IORING_SETUP_SQE128``, where more is
    refused when it is queued. ``cmd_flags`` are ``IORING_URING_CMD_*``: with ``FIXED`` the command uses the
    registered buffer ``buf_index``.
    """
    opcode = abi.IORING_OP_URING_CMD
    return _command("uring_cmd", opcode, fd, cmd_op, data, cmd_flags, buf_index, fixed_file).with_options(
        sqe_flags, personality
    )


def uring_cmd128(
    fd: Fd,
    cmd_op: int,
    data: Buffer = b"",
    *,
    cmd_flags: int = 0,
    buf_index: int = 0,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """`uring_cmd` in a 128-byte entry (Linux 6.19): the ring needs ``IORING_SETUP_SQE128``."""
    opcode = abi.IORING_OP_URING_CMD128
    return _command("uring_cmd128", opcode, fd, cmd_op, data, cmd_flags, buf_index, fixed_file).with_options(
        sqe_flags, personality
    )


def siocinq(fd: Fd, *, fixed_file: bool = False, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """How many bytes a socket has to read (Linux 6.6); Unix sockets are ``EOPNOTSUPP``. See tcp(7)."""
    return _socket("siocinq", abi.SOCKET_URING_OP_SIOCINQ, fd, fixed_file).with_options(
        sqe_flags, personality
    )


def siocoutq(fd: Fd, *, fixed_file: bool = False, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """How many bytes a socket has not sent yet, or not seen acknowledged (Linux 6.6). See tcp(7)."""
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
    """Reads a socket option (Linux 6.7); completes with an int, or with up to ``size`` bytes. See
    getsockopt(2). Levels other than ``SOL_SOCKET`` are ``EOPNOTSUPP``."""
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
    """Sets a socket option to an int or to bytes (Linux 6.7); completes with 0. See setsockopt(2)."""
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
    """A socket's own address, or its peer's (Linux 6.19); completes with it as the `socket` module gives it.
    See getsockname(2), getpeername(2)."""
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
    """When packets of a socket with ``SO_TIMESTAMPING`` were sent, until cancelled (Linux 6.17): a 32-byte
    completion each. Its result is the packet's key, its flags from bit 17 on say which stamp, its second
    half has seconds and nanoseconds. ``EINVAL`` on a ring without such completions."""
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


def _command(
    name: str,
    opcode: int,
    fd: Fd,
    cmd_op: int,
    data: Buffer,
    cmd_flags: int,
    buf_index: int,
    fixed_file: bool,
) -> Op[int]:
    _, length, _ = pin(data)
    if length > _COMMAND_MAX:
        raise ValueError(f"a command has at most {_COMMAND_MAX} bytes of data, not {length}")
    return make(
        name,
        opcode,
        check_fd(fd),
        off=check_int("cmd_op", cmd_op, 0, UINT_MAX),
        op_flags=check_flags("cmd_flags", cmd_flags),
        buf_index=check_int("buf_index", buf_index, 0, 0xFFFF),
        fixed_file=fixed_file,
        command=bytes(data),
    )
