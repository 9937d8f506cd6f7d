"""Moving bytes between descriptors inside the kernel: splice, tee; and pipe, which both need."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .. import abi
from ..kernel.memory import zeroed
from .base import UINT_MAX, Fd, check_fd, check_file_index, check_int, make, position

if TYPE_CHECKING:
    from ..kernel.op import Op

__all__ = ["pipe", "splice", "tee"]

_IN_FIXED = int(abi.SPLICE_F_FD_IN_FIXED)
_FLAGS_MAX = _IN_FIXED - 1


def splice(
    fd_in: Fd,
    fd_out: Fd,
    n: int,
    *,
    offset_in: int | None = None,
    offset_out: int | None = None,
    splice_flags: int = 0,
    fixed_in: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Moves bytes between two descriptors, one of them a pipe, without copying them through the process.

    It runs in a kernel worker and blocks there. It does not wait where either end has ``O_NONBLOCK``. While
    it waits for a socket without ``O_NONBLOCK`` the kernel keeps the pipe locked: a read or write of the
    pipe, non-blocking or through a ring, sleeps until data comes, and no signal ends it (Linux 6.18; TCP does
    so with ``SPLICE_F_NONBLOCK`` too). Splice from non-blocking sockets.

    Args:
        fd_in: the source, a descriptor or an object with ``fileno()``.
        fd_out: the destination, likewise.
        n: bytes to move at most, 0 to 2**32 - 1.
        offset_in: where in ``fd_in`` to start, in bytes, 0 to 2**63 - 1; None is the file's position, which
            moves. A pipe takes none.
        offset_out: where in ``fd_out`` to start, in bytes, 0 to 2**63 - 1; None likewise.
        splice_flags: ``SPLICE_F_MOVE``, ``SPLICE_F_NONBLOCK``, ``SPLICE_F_MORE``.
        fixed_in: ``fd_in`` is an index into the registered files.
        fixed_file: ``fd_out`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        How many bytes were moved; 0 at the end of ``fd_in``.

    Errors:
        - ``EAGAIN``: it would wait, and an end has ``O_NONBLOCK`` or ``splice_flags`` ``SPLICE_F_NONBLOCK``.
        - ``EBADF``: an end is not open, or not for its direction.
        - ``EINVAL``: neither end is a pipe, or the file system does not splice.
        - ``ESPIPE``: an offset for a pipe.
        - ``EPIPE``: the reader of ``fd_out`` is gone. No ``SIGPIPE`` is sent.

    Cancellation:
        `async_cancel` interrupts it while it waits: it completes with ``EINTR`` (the kernel's -512 is told as
        that), the cancel request with ``EALREADY``. `link_timeout` does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.7.

    Source:
        splice(2); io_uring_enter(2), ``IORING_OP_SPLICE``.
    """
    return make(
        "splice",
        abi.IORING_OP_SPLICE,
        check_fd(fd_out),
        off=position(-1 if offset_out is None else offset_out),
        addr=position(-1 if offset_in is None else offset_in),
        length=check_int("n", n, 0, UINT_MAX),
        op_flags=_flags(splice_flags, fixed_in),
        file_index=check_fd(fd_in),
        fixed_file=fixed_file,
    ).with_options(sqe_flags, personality)


def tee(
    fd_in: Fd,
    fd_out: Fd,
    n: int,
    *,
    splice_flags: int = 0,
    fixed_in: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Copies bytes from one pipe to another, and leaves them in the first.

    It runs in a kernel worker and blocks there, for as long as the first pipe is empty or the second full. It
    does not wait where either end has ``O_NONBLOCK``.

    Args:
        fd_in: the pipe to copy from, a descriptor or an object with ``fileno()``.
        fd_out: the pipe to copy to, likewise.
        n: bytes to copy at most, 0 to 2**32 - 1.
        splice_flags: ``SPLICE_F_NONBLOCK``: does not wait.
        fixed_in: ``fd_in`` is an index into the registered files.
        fixed_file: ``fd_out`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        How many bytes were copied; 0 when the first pipe has no writer and no data.

    Errors:
        - ``EAGAIN``: it would wait, and an end has ``O_NONBLOCK`` or ``splice_flags`` ``SPLICE_F_NONBLOCK``.
        - ``EBADF``: an end is not open, or not for its direction.
        - ``EINVAL``: an end is no pipe, or both are the same.
        - ``EPIPE``: the reader of ``fd_out`` is gone. No ``SIGPIPE`` is sent.

    Cancellation:
        `async_cancel` interrupts it while it waits: it completes with ``EINTR`` (the kernel's -512 is told as
        that), the cancel request with ``EALREADY``. `link_timeout` does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.8.

    Source:
        tee(2); io_uring_enter(2), ``IORING_OP_TEE``.
    """
    return make(
        "tee",
        abi.IORING_OP_TEE,
        check_fd(fd_out),
        length=check_int("n", n, 0, UINT_MAX),
        op_flags=_flags(splice_flags, fixed_in),
        file_index=check_fd(fd_in),
        fixed_file=fixed_file,
    ).with_options(sqe_flags, personality)


def pipe(
    pipe_flags: int = 0, *, file_index: int | None = None, sqe_flags: int = 0, personality: int = 0
) -> Op[tuple[int, int]]:
    """Makes a pipe.

    ``O_CLOEXEC`` is added, as Python's own descriptors have it.

    Args:
        pipe_flags: ``O_NONBLOCK``, ``O_DIRECT`` and the like of pipe2(2), 0 to 2**32 - 1.
        file_index: puts the ends into this slot of the registered files and the next one, 0 to 2**20 - 1, or
            into free ones (``IORING_FILE_INDEX_ALLOC``); None makes descriptors.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        A pair: the end to read from and the end to write to, as descriptors or slots.

    Errors:
        - ``EINVAL``: an unknown flag, or the table of files ends before the slots.
        - ``EMFILE``, ``ENFILE``: too many descriptors are open, or no slots are free.
        - ``ENXIO``: ``file_index`` names a slot, and the ring has no table of files.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.16.

    Source:
        pipe2(2); io_uring_prep_pipe(3).
    """
    flags = check_int("pipe_flags", pipe_flags, 0, UINT_MAX)
    ends = zeroed(8)
    numbers = ends.view.cast("i")
    numbers[0] = numbers[1] = -1

    def discard(_: int) -> None:
        for i, fd in enumerate(numbers):
            if fd >= 0:
                numbers[i] = -1
                os.close(fd)

    return make(
        "pipe",
        abi.IORING_OP_PIPE,
        0,
        addr=ends.address,
        op_flags=flags if file_index is not None else flags | os.O_CLOEXEC,
        file_index=0 if file_index is None else check_file_index(file_index),
        pins=ends,
        decode=lambda _: (numbers[0], numbers[1]),
        discard=discard if file_index is None else None,
    ).with_options(sqe_flags, personality)


def _flags(splice_flags: int, fixed_in: bool) -> int:
    return check_int("splice_flags", splice_flags, 0, _FLAGS_MAX) | (_IN_FIXED if fixed_in else 0)
