"""Doing nothing, and closing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import abi
from ..kernel.op import Op
from .base import INT_MAX, SLOTS_MAX, UINT_MAX, USER_DATA_MAX, check_fd, check_int, check_sequence, make

if TYPE_CHECKING:
    from .base import Fd

__all__ = ["close", "close_direct", "nop", "nop128"]


_PLAIN_NOP: Op[int] = Op("nop", (int(abi.IORING_OP_NOP), 0, -1, 0, 0, 0, 0, 0, 0, 0))


def nop(
    *,
    result: int | None = None,
    file: Fd | None = None,
    fixed_file: bool = False,
    buf_index: int | None = None,
    task_work: bool = False,
    extra: tuple[int, int] | None = None,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Does nothing: the cheapest request.

    Args:
        result: the result to complete with instead of 0, -2**31 to 2**31 - 1; a negated errno is an error.
        file: a descriptor that has to be open.
        fixed_file: ``file`` is an index into the registered files.
        buf_index: a registered buffer that has to exist, 0 to 65535.
        task_work: completes from deferred work instead of while it is submitted.
        extra: two numbers of 64 bits for the second half of a 32-byte completion.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0, or ``result``.

    Errors:
        - ``EBADF``: ``file`` is not open.
        - ``EFAULT``: there is no registered buffer ``buf_index``.
        - ``EINVAL``: ``extra`` on a ring without 32-byte completions.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range; ``fixed_file`` without
            ``file``.

    Since:
        Linux 5.1. Its arguments came later, the last of them with 6.18.

    Source:
        io_uring_enter(2), ``IORING_OP_NOP``.
    """
    if (
        result is None
        and file is None
        and buf_index is None
        and extra is None
        and not fixed_file
        and not task_work
        and not sqe_flags
        and not personality
    ):
        return _PLAIN_NOP
    op = _nop("nop", abi.IORING_OP_NOP, result, file, fixed_file, buf_index, task_work, extra)
    return op.with_options(sqe_flags, personality)


def nop128(*, result: int | None = None, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Does nothing, in an entry of 128 bytes. The ring needs ``IORING_SETUP_SQE128``.

    Args:
        result: the result to complete with instead of 0, -2**31 to 2**31 - 1; a negated errno is an error.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0, or ``result``.

    Errors:
        - ``EINVAL``: the kernel does not know the operation (Linux 6.18).

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.19.

    Source:
        io_uring_enter(2), ``IORING_OP_NOP128``.
    """
    return _nop("nop128", abi.IORING_OP_NOP128, result, None, False, None, False, None).with_options(
        sqe_flags, personality
    )


def close(fd: Fd, *, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Closes a descriptor.

    Operations in flight on the descriptor go on, because each holds the file. The peer of a socket sees no
    end before they have ended: cancel them first.

    Args:
        fd: the descriptor, or an object with ``fileno()``.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0.

    Errors:
        - ``EBADF``: ``fd`` is not open, or it is a ring's.
        - ``EIO``, ``ENOSPC``, ``EDQUOT``: an earlier write failed. The descriptor is closed nevertheless.

    Cancellation:
        It completes while it is submitted. A file system that flushes on close (NFS, FUSE) closes in a kernel
        worker; `async_cancel` reaches it only while it is queued there.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.6.

    Source:
        close(2); io_uring_enter(2), ``IORING_OP_CLOSE``.
    """
    return make("close", abi.IORING_OP_CLOSE, check_fd(fd)).with_options(sqe_flags, personality)


def close_direct(file_index: int, *, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Empties a slot of the registered files.

    Operations in flight on the file keep it until they end.

    Args:
        file_index: the slot, 0 to 2**20 - 1.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0.

    Errors:
        - ``EBADF``: the slot is empty.
        - ``EINVAL``: the table ends before the slot.
        - ``ENXIO``: the ring has no table of files.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.15.

    Source:
        io_uring_enter(2), ``IORING_OP_CLOSE``; io_uring_register(2), ``IORING_REGISTER_FILES``.
    """
    check_int("file_index", file_index, 0, SLOTS_MAX - 1)
    return make("close_direct", abi.IORING_OP_CLOSE, 0, file_index=file_index + 1).with_options(
        sqe_flags, personality
    )


def _nop(
    name: str,
    opcode: int,
    result: int | None,
    file: Fd | None,
    fixed_file: bool,
    buf_index: int | None,
    task_work: bool,
    extra: tuple[int, int] | None,
) -> Op[int]:
    flags = int(abi.IORING_NOP_TW) if task_work else 0
    if result is not None:
        flags |= abi.IORING_NOP_INJECT_RESULT
        result = check_int("result", result, -INT_MAX - 1, INT_MAX)
    if file is not None:
        flags |= abi.IORING_NOP_FILE | (abi.IORING_NOP_FIXED_FILE if fixed_file else 0)
    elif fixed_file:
        raise TypeError("fixed_file says what file is: give a file")
    if buf_index is not None:
        flags |= abi.IORING_NOP_FIXED_BUFFER
        check_int("buf_index", buf_index, 0, 0xFFFF)
    first = second = 0
    if extra is not None:
        flags |= abi.IORING_NOP_CQE32
        pair = check_sequence("extra (two numbers)", extra, 2)
        first, second = (check_int("extra", number, 0, USER_DATA_MAX) for number in pair)
    return make(
        name,
        opcode,
        -1 if file is None else check_fd(file),
        off=first,
        addr=second,
        length=(result or 0) & UINT_MAX,
        op_flags=flags,
        buf_index=buf_index or 0,
    )
