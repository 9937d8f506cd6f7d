"""Moving bytes between descriptors inside the kernel: splice, tee; and pipe, which both need.

splice and tee always run in a kernel worker and block there: ``O_NONBLOCK`` of either end and
``SPLICE_F_NONBLOCK`` make them complete with ``EAGAIN``. Cancelled while they wait they are interrupted.
A broken pipe is ``EPIPE`` without a signal.
"""

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
    """Moves up to ``n`` bytes from one descriptor to another, one of which is a pipe (Linux 5.7); completes
    with the number moved, 0 at the end. See splice(2).

    Offsets are for the end that is not a pipe; None is the file's own position. ``fixed_in`` and
    ``fixed_file``: ``fd_in``, ``fd_out`` is a registered file.

    While it waits for data of a socket without ``O_NONBLOCK`` the kernel keeps the pipe locked. A read
    or write of the pipe, non-blocking or through a ring, then sleeps until data comes, and no signal ends it
    (Linux 6.18; TCP does so with ``SPLICE_F_NONBLOCK`` too). Splice from non-blocking sockets.
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
    """Copies up to ``n`` bytes from one pipe to another without consuming them (Linux 5.8); completes with
    the number copied. See tee(2)."""
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
    """Makes a pipe (Linux 6.16); completes with (read end, write end). See pipe2(2).

    ``O_CLOEXEC`` is added, as Python's own descriptors have it. With ``file_index`` the ends go into that
    slot of the registered files and the next one, or into free ones with ``IORING_FILE_INDEX_ALLOC``, and
    it completes with the slots.
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
