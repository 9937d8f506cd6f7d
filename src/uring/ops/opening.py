"""Opening files by their paths."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from .. import abi
from ..abi.layouts import OPEN_HOW
from ..kernel.memory import zeroed
from .base import (
    MODE_MAX,
    USER_DATA_MAX,
    Fd,
    Path,
    check_c_string,
    check_dir,
    check_flags,
    check_int,
    make,
    new_file,
)

if TYPE_CHECKING:
    from ..kernel.op import Op

__all__ = ["openat", "openat2"]


_CREATES = os.O_CREAT | getattr(os, "O_TMPFILE", 0) & ~os.O_DIRECTORY


def openat(
    path: Path,
    flags: int = os.O_RDONLY,
    *,
    file_mode: int = 0o666,
    dir_fd: Fd | None = None,
    file_index: int | None = None,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Opens a file.

    ``O_CLOEXEC`` is added, as Python's own files have it.

    Args:
        path: str, bytes or `os.PathLike`. A relative path is looked up when the kernel runs the operation:
            give ``dir_fd`` if chdir(2) may be called before.
        flags: ``O_*`` of open(2).
        file_mode: permissions of a file that is created, less the umask, 0 to 0o7777.
        dir_fd: the open directory that a relative path starts from; None is the current one.
        file_index: puts the file into this slot of the registered files, 0 to 2**20 - 1, or into a free one
            (``IORING_FILE_INDEX_ALLOC``); None makes a descriptor. A file in the slot is replaced (Linux
            5.15).
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The descriptor, or the slot.

    Errors:
        - ``ENOENT``, ``EACCES``, ``EEXIST``, ``ENOTDIR``, ``EISDIR``, ``ELOOP``: as open(2).
        - ``ENXIO``: a FIFO without a reader is opened for writing; the ring has no table of files.
        - ``EMFILE``, ``ENFILE``: too many descriptors are open, or no slot is free.
        - ``EINVAL``: an invalid flag; the table ends before ``file_index``.

    Cancellation:
        A path whose directories are in memory is opened while it is submitted, except where a file may be
        created or truncated. Otherwise it runs in a kernel worker, and `async_cancel` ends it with
        ``ECANCELED`` only while it is queued there. A FIFO is opened as with ``O_NONBLOCK``; with
        ``IOSQE_ASYNC`` it waits for its other end in a worker, and `async_cancel` interrupts it (``EINTR``).

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range, or a path has a NUL byte.

    Since:
        Linux 5.6; ``file_index`` 5.15.

    Source:
        openat(2); io_uring_prep_openat(3).
    """
    name = check_c_string("path", path)
    slot, decode, discard = new_file(file_index)
    return make(
        "openat",
        abi.IORING_OP_OPENAT,
        check_dir(dir_fd),
        addr=name.address,
        length=check_int("file_mode", file_mode, 0, MODE_MAX),
        op_flags=_open_flags(flags, file_index),
        file_index=slot,
        pins=name,
        paths=(path,),
        decode=decode,
        discard=discard,
    ).with_options(sqe_flags, personality)


def openat2(
    path: Path,
    flags: int = os.O_RDONLY,
    *,
    file_mode: int | None = None,
    resolve: int = 0,
    dir_fd: Fd | None = None,
    file_index: int | None = None,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Opens a file with limits on how its path is resolved.

    ``O_CLOEXEC`` is added, as Python's own files have it.

    Args:
        path: str, bytes or `os.PathLike`.
        flags: ``O_*`` of open(2). The kernel refuses unknown ones here.
        file_mode: permissions of a file that is created, less the umask, 0 to 0o7777. None is 0o666 with
            flags that create a file, else 0, because the kernel refuses any other.
        resolve: ``RESOLVE_*`` bits, 0 to 2**64 - 1.
        dir_fd: the open directory that a relative path starts from; None is the current one.
        file_index: puts the file into this slot of the registered files, 0 to 2**20 - 1, or into a free one
            (``IORING_FILE_INDEX_ALLOC``); None makes a descriptor. A file in the slot is replaced (Linux
            5.15).
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The descriptor, or the slot.

    Errors:
        - ``EINVAL``: an unknown flag or bit, or a mode without a flag that creates; the table ends before the
          slot.
        - ``EXDEV``, ``ELOOP``: the path leads where ``resolve`` forbids it.
        - ``EAGAIN``: ``RESOLVE_CACHED``, and the path is not in memory; or a rename interfered.
        - Others as `openat`.

    Cancellation:
        A path whose directories are in memory is opened while it is submitted, except where a file may be
        created or truncated. Otherwise it runs in a kernel worker, and `async_cancel` ends it with
        ``ECANCELED`` only while it is queued there. A FIFO is opened as with ``O_NONBLOCK``; with
        ``IOSQE_ASYNC`` it waits for its other end in a worker, and `async_cancel` interrupts it (``EINTR``).

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range, or a path has a NUL byte.

    Since:
        Linux 5.6; ``file_index`` 5.15.

    Source:
        openat2(2); io_uring_prep_openat2(3).
    """
    wanted = _open_flags(flags, file_index)
    if file_mode is None:
        file_mode = 0o666 if flags & _CREATES else 0
    name = check_c_string("path", path)
    how = zeroed(OPEN_HOW.size)
    OPEN_HOW.pack_into(
        how.view,
        0,
        wanted,
        check_int("file_mode", file_mode, 0, MODE_MAX),
        check_int("resolve", resolve, 0, USER_DATA_MAX),
    )
    slot, decode, discard = new_file(file_index)
    return make(
        "openat2",
        abi.IORING_OP_OPENAT2,
        check_dir(dir_fd),
        off=how.address,
        addr=name.address,
        length=OPEN_HOW.size,
        file_index=slot,
        pins=(name, how),
        paths=(path,),
        decode=decode,
        discard=discard,
    ).with_options(sqe_flags, personality)


def _open_flags(flags: object, file_index: int | None) -> int:
    # The kernel refuses O_CLOEXEC for a slot of the registered files, which exec does not touch.
    return check_flags("flags", flags) | (os.O_CLOEXEC if file_index is None else 0)
