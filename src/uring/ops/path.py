"""Paths: attributes, naming, linking, removing.

All of these may run in a kernel worker, where a relative path races with ``chdir``: give absolute paths, or
``dir_fd``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import abi
from ..kernel.memory import zeroed
from .base import (
    INT_MAX,
    MODE_MAX,
    UINT_MAX,
    Fd,
    Path,
    check_c_string,
    check_dir,
    check_flags,
    check_int,
    make,
)
from .statx import StatxResult, decode_statx

if TYPE_CHECKING:
    from ..kernel.op import Op

__all__ = ["StatxResult", "linkat", "mkdirat", "renameat", "statx", "symlinkat", "unlinkat"]

_STATX_MASK = int(abi.STATX_BASIC_STATS | abi.STATX_BTIME)
_STATX_SIZE = 256


def statx(
    path: Path,
    *,
    flags: int = 0,
    mask: int = _STATX_MASK,
    dir_fd: Fd | None = None,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[StatxResult]:
    """Reads the attributes of a file.

    Args:
        path: str, bytes or `os.PathLike`. ``""`` with ``AT_EMPTY_PATH`` is the file that ``dir_fd`` has open.
        flags: ``AT_SYMLINK_NOFOLLOW``, ``AT_EMPTY_PATH``, ``AT_NO_AUTOMOUNT``, ``AT_STATX_*``.
        mask: the attributes asked for, ``STATX_*``, 0 to 2**31 - 1.
        dir_fd: the open directory that a relative path starts from; None is the current one.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        A `StatxResult`. Its ``mask`` has the bits of the attributes that the file system filled in.

    Errors:
        - ``ENOENT``, ``EACCES``, ``ENOTDIR``, ``ELOOP``: as stat(2).
        - ``EBADF``: ``dir_fd`` is not open, and the path is relative.
        - ``EINVAL``: an unknown flag.

    Cancellation:
        It runs in a kernel worker. `async_cancel` ends it with ``ECANCELED`` only while it is queued there;
        once it runs it goes on to its result. `link_timeout` does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range, or a path has a NUL byte.

    Since:
        Linux 5.6.

    Source:
        statx(2); io_uring_prep_statx(3).
    """
    name = check_c_string("path", path)
    room = zeroed(_STATX_SIZE)
    return make(
        "statx",
        abi.IORING_OP_STATX,
        check_dir(dir_fd),
        off=room.address,
        addr=name.address,
        length=check_int("mask", mask, 0, INT_MAX),
        op_flags=check_flags("flags", flags),
        pins=(name, room),
        paths=(path,),
        decode=lambda _: decode_statx(room.view),
    ).with_options(sqe_flags, personality)


def renameat(
    src: Path,
    dst: Path,
    flags: int = 0,
    *,
    src_dir_fd: Fd | None = None,
    dst_dir_fd: Fd | None = None,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Renames a file.

    Args:
        src: the present path: str, bytes or `os.PathLike`.
        dst: the new path.
        flags: ``RENAME_NOREPLACE``, ``RENAME_EXCHANGE``, ``RENAME_WHITEOUT``; 0 replaces a file at ``dst``.
        src_dir_fd: the directory that a relative ``src`` starts from; None is the current one.
        dst_dir_fd: the same for ``dst``.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0.

    Errors:
        - ``ENOENT``: ``src`` does not exist.
        - ``EEXIST``: ``dst`` exists, with ``RENAME_NOREPLACE``.
        - ``ENOTEMPTY``, ``ENOTDIR``, ``EISDIR``: ``dst`` is a directory with entries, or not of the kind of
          ``src``.
        - ``EXDEV``: the paths are on different mounts.
        - ``EACCES``, ``EPERM``, ``EINVAL`` and others as rename(2).

    Cancellation:
        It runs in a kernel worker. `async_cancel` ends it with ``ECANCELED`` only while it is queued there;
        once it runs it goes on to its result. `link_timeout` does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range, or a path has a NUL byte.

    Since:
        Linux 5.11.

    Source:
        renameat2(2); io_uring_prep_renameat(3).
    """
    old, new = check_c_string("src", src), check_c_string("dst", dst)
    return make(
        "renameat",
        abi.IORING_OP_RENAMEAT,
        check_dir(src_dir_fd),
        off=new.address,
        addr=old.address,
        length=check_dir(dst_dir_fd) & UINT_MAX,
        op_flags=check_flags("flags", flags),
        pins=(old, new),
        paths=(src, dst),
    ).with_options(sqe_flags, personality)


def unlinkat(
    path: Path, flags: int = 0, *, dir_fd: Fd | None = None, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Removes a name of a file, or an empty directory.

    Args:
        path: str, bytes or `os.PathLike`.
        flags: ``AT_REMOVEDIR`` for a directory, else 0.
        dir_fd: the open directory that a relative path starts from; None is the current one.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0.

    Errors:
        - ``ENOENT``: ``path`` does not exist.
        - ``EISDIR``, ``ENOTDIR``: a directory without ``AT_REMOVEDIR``, or anything else with it.
        - ``ENOTEMPTY``: the directory has entries.
        - ``EACCES``, ``EPERM``, ``EBUSY`` and others as unlink(2).

    Cancellation:
        It runs in a kernel worker. `async_cancel` ends it with ``ECANCELED`` only while it is queued there;
        once it runs it goes on to its result. `link_timeout` does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range, or a path has a NUL byte.

    Since:
        Linux 5.11.

    Source:
        unlinkat(2); io_uring_prep_unlinkat(3).
    """
    name = check_c_string("path", path)
    return make(
        "unlinkat",
        abi.IORING_OP_UNLINKAT,
        check_dir(dir_fd),
        addr=name.address,
        op_flags=check_flags("flags", flags),
        pins=name,
        paths=(path,),
    ).with_options(sqe_flags, personality)


def mkdirat(
    path: Path, *, file_mode: int = 0o777, dir_fd: Fd | None = None, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Makes a directory.

    Args:
        path: str, bytes or `os.PathLike`.
        file_mode: permissions, less the umask, 0 to 0o7777.
        dir_fd: the open directory that a relative path starts from; None is the current one.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0.

    Errors:
        - ``EEXIST``: ``path`` exists.
        - ``ENOENT``, ``ENOTDIR``: a directory on the way does not exist, or is none.
        - ``EACCES``, ``ENOSPC``, ``EROFS`` and others as mkdir(2).

    Cancellation:
        It runs in a kernel worker. `async_cancel` ends it with ``ECANCELED`` only while it is queued there;
        once it runs it goes on to its result. `link_timeout` does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range, or a path has a NUL byte.

    Since:
        Linux 5.15.

    Source:
        mkdirat(2); io_uring_prep_mkdirat(3).
    """
    name = check_c_string("path", path)
    return make(
        "mkdirat",
        abi.IORING_OP_MKDIRAT,
        check_dir(dir_fd),
        addr=name.address,
        length=check_int("file_mode", file_mode, 0, MODE_MAX),
        pins=name,
        paths=(path,),
    ).with_options(sqe_flags, personality)


def symlinkat(
    target: Path, path: Path, *, dir_fd: Fd | None = None, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Makes a symbolic link.

    Args:
        target: the text of the link: str, bytes or `os.PathLike`. It need not exist.
        path: where the link is made.
        dir_fd: the open directory that a relative path starts from; None is the current one.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0.

    Errors:
        - ``EEXIST``: ``path`` exists.
        - ``ENOENT``: a directory on the way does not exist, or ``target`` is empty.
        - ``EACCES``, ``ENOSPC``, ``EPERM``, ``EROFS`` and others as symlink(2).

    Cancellation:
        It runs in a kernel worker. `async_cancel` ends it with ``ECANCELED`` only while it is queued there;
        once it runs it goes on to its result. `link_timeout` does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range, or a path has a NUL byte.

    Since:
        Linux 5.15.

    Source:
        symlinkat(2); io_uring_prep_symlinkat(3).
    """
    text, name = check_c_string("target", target), check_c_string("path", path)
    return make(
        "symlinkat",
        abi.IORING_OP_SYMLINKAT,
        check_dir(dir_fd),
        off=name.address,
        addr=text.address,
        pins=(text, name),
        paths=(target, path),
    ).with_options(sqe_flags, personality)


def linkat(
    src: Path,
    dst: Path,
    flags: int = 0,
    *,
    src_dir_fd: Fd | None = None,
    dst_dir_fd: Fd | None = None,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Gives a file another name.

    Args:
        src: the present path: str, bytes or `os.PathLike`.
        dst: the new path.
        flags: ``AT_SYMLINK_FOLLOW`` follows a link at ``src``; ``AT_EMPTY_PATH`` with ``""`` links the file
            that ``src_dir_fd`` has open.
        src_dir_fd: the directory that a relative ``src`` starts from; None is the current one.
        dst_dir_fd: the same for ``dst``.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0.

    Errors:
        - ``EEXIST``: ``dst`` exists.
        - ``ENOENT``: ``src`` or a directory on the way does not exist.
        - ``EXDEV``: the paths are on different mounts.
        - ``EPERM``: ``src`` is a directory, or the file system has no such links.
        - ``EACCES``, ``EMLINK`` and others as link(2).

    Cancellation:
        It runs in a kernel worker. `async_cancel` ends it with ``ECANCELED`` only while it is queued there;
        once it runs it goes on to its result. `link_timeout` does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range, or a path has a NUL byte.

    Since:
        Linux 5.15.

    Source:
        linkat(2); io_uring_prep_linkat(3).
    """
    old, new = check_c_string("src", src), check_c_string("dst", dst)
    return make(
        "linkat",
        abi.IORING_OP_LINKAT,
        check_dir(src_dir_fd),
        off=new.address,
        addr=old.address,
        length=check_dir(dst_dir_fd) & UINT_MAX,
        op_flags=check_flags("flags", flags),
        pins=(old, new),
        paths=(src, dst),
    ).with_options(sqe_flags, personality)
