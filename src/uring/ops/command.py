"""Commands of drivers.

The commands of sockets are in ``uring.ops.sockopt``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import abi
from ..kernel.memory import pin
from .base import UINT_MAX, Fd, check_fd, check_flags, check_int, make

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ..kernel.op import Op

__all__ = ["uring_cmd", "uring_cmd128"]

_COMMAND_MAX = 80


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
    """Gives a command to the driver of a file.

    The driver defines the data and the result. If the data names memory, the caller must keep that memory
    until the completion.

    Args:
        fd: the file, a descriptor or an object with ``fileno()``.
        cmd_op: the command's number, 0 to 2**32 - 1.
        data: bytes that are copied into the entry: 16 at most, or 80 on a ring with ``IORING_SETUP_SQE128``,
            where a longer one is refused when it is queued.
        cmd_flags: ``IORING_URING_CMD_*`` bits, 0 to 2**32 - 1. ``FIXED``: the command uses ``buf_index``.
        buf_index: a registered buffer, 0 to 65535.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The driver's.

    Errors:
        - ``EBADF``: ``fd`` is not open.
        - ``EOPNOTSUPP``: the file takes no commands, or not this one.
        - Others are the driver's.

    Ends:
        With ``IORING_URING_CMD_MULTISHOT`` (Linux 6.18) the driver decides: the completion without ``F_MORE``
        is the last.

    Cancellation:
        The driver decides whether `async_cancel` ends it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.19.

    Source:
        io_uring_enter(2), ``IORING_OP_URING_CMD``; io_uring_prep_cmd(3).
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
    """Gives a command to the driver of a file, in an entry of 128 bytes.

    The ring needs ``IORING_SETUP_SQE128``.

    Args:
        fd: the file, a descriptor or an object with ``fileno()``.
        cmd_op: the command's number, 0 to 2**32 - 1.
        data: bytes that are copied into the entry, 80 at most.
        cmd_flags: ``IORING_URING_CMD_*`` bits, 0 to 2**32 - 1. ``FIXED``: the command uses ``buf_index``.
        buf_index: a registered buffer, 0 to 65535.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The driver's.

    Errors:
        - ``EINVAL``: the kernel does not know the operation (Linux 6.18).
        - Others as `uring_cmd`.

    Ends:
        With ``IORING_URING_CMD_MULTISHOT`` the driver decides: the completion without ``F_MORE`` is the last.

    Cancellation:
        The driver decides whether `async_cancel` ends it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.19.

    Source:
        io_uring_prep_uring_cmd128(3).
    """
    opcode = abi.IORING_OP_URING_CMD128
    return _command("uring_cmd128", opcode, fd, cmd_op, data, cmd_flags, buf_index, fixed_file).with_options(
        sqe_flags, personality
    )


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
