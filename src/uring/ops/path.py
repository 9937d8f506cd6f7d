"""Paths: opening, naming, linking, removing; statx, extended attributes, the registered file table.

All of these may run in a kernel worker, where a relative path would race with ``chdir``: give absolute
paths, or ``dir_fd``. They cannot be stopped once running. A FIFO opened inline does not wait for its other
end (as with ``O_NONBLOCK``); with ``IOSQE_ASYNC`` it blocks in a worker like open(2).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal, overload

from .. import abi
from ..abi.layouts import OPEN_HOW
from ..kernel.memory import pin, pin_writable, zeroed
from .base import (
    INT_MAX,
    UINT_MAX,
    USER_DATA_MAX,
    Fd,
    Path,
    check_c_string,
    check_dir,
    check_fd,
    check_flags,
    check_int,
    check_sequence,
    close_fd,
    make,
    new_file,
)
from .statx import StatxResult, decode_statx

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Buffer

    from ..kernel.memory import Zeroed
    from ..kernel.op import Op

__all__ = [
    "StatxResult",
    "fgetxattr",
    "files_update",
    "fixed_fd_install",
    "fsetxattr",
    "getxattr",
    "linkat",
    "mkdirat",
    "openat",
    "openat2",
    "renameat",
    "setxattr",
    "statx",
    "symlinkat",
    "unlinkat",
]

_CREATES = os.O_CREAT | getattr(os, "O_TMPFILE", 0) & ~os.O_DIRECTORY
_STATX_MASK = int(abi.STATX_BASIC_STATS | abi.STATX_BTIME)
_STATX_SIZE = 256
_VALUE_MAX = 65536
"""``XATTR_SIZE_MAX``."""
_MODE_MAX = 0o7777


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
    """Opens a file (Linux 5.6); completes with its descriptor. See openat(2).

    ``O_CLOEXEC`` is added, as Python's own files have it. With ``file_index`` the file goes into that slot
    of the registered files, or into a free one with ``IORING_FILE_INDEX_ALLOC``, and it completes with the
    slot (5.15).
    """
    name = check_c_string("path", path)
    slot, decode, discard = new_file(file_index)
    return make(
        "openat",
        abi.IORING_OP_OPENAT,
        check_dir(dir_fd),
        addr=name.address,
        length=check_int("file_mode", file_mode, 0, _MODE_MAX),
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
    """`openat` with ``RESOLVE_*`` limits on how the path may lead (Linux 5.6). See openat2(2).

    ``file_mode`` belongs to flags that create a file, where None is 0o666; the kernel refuses it without.
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
        check_int("file_mode", file_mode, 0, _MODE_MAX),
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


def statx(
    path: Path,
    *,
    flags: int = 0,
    mask: int = _STATX_MASK,
    dir_fd: Fd | None = None,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[StatxResult]:
    """The attributes of a file (Linux 5.6); completes with a `StatxResult`. See statx(2).

    For an open file: path ``""``, ``AT_EMPTY_PATH`` and its descriptor as ``dir_fd``.
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
    """Renames a file (Linux 5.11); completes with 0. ``flags`` are ``RENAME_*``: see renameat2(2)."""
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
    """Removes a name, with ``AT_REMOVEDIR`` a directory (Linux 5.11); completes with 0. See unlinkat(2)."""
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
    """Makes a directory (Linux 5.15); completes with 0. See mkdirat(2)."""
    name = check_c_string("path", path)
    return make(
        "mkdirat",
        abi.IORING_OP_MKDIRAT,
        check_dir(dir_fd),
        addr=name.address,
        length=check_int("file_mode", file_mode, 0, _MODE_MAX),
        pins=name,
        paths=(path,),
    ).with_options(sqe_flags, personality)


def symlinkat(
    target: Path, path: Path, *, dir_fd: Fd | None = None, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Makes ``path`` a symbolic link to ``target`` (Linux 5.15); completes with 0. See symlinkat(2)."""
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
    """Gives a file another name (Linux 5.15); completes with 0. ``flags`` are ``AT_SYMLINK_FOLLOW`` and
    ``AT_EMPTY_PATH``. See linkat(2)."""
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


@overload
def getxattr(
    path: Path, name: Path, value: None = None, *, sqe_flags: int = ..., personality: int = ...
) -> Op[bytes]: ...
@overload
def getxattr(
    path: Path, name: Path, value: Buffer, *, sqe_flags: int = ..., personality: int = ...
) -> Op[int]: ...
@overload
def getxattr(
    path: Path, name: Path, value: Buffer | None = None, *, sqe_flags: int = ..., personality: int = ...
) -> Op[int | bytes]: ...
def getxattr(
    path: Path, name: Path, value: Buffer | None = None, *, sqe_flags: int = 0, personality: int = 0
) -> Op[int | bytes]:
    """Reads an extended attribute (Linux 5.19); completes with its bytes, or, when a writable buffer is
    given for them, with their number. See getxattr(2).

    ``ENODATA``: there is none of that name; ``ERANGE``: the buffer is too small; one of length 0 asks for
    the size.
    """
    where = check_c_string("path", path)
    return _getxattr("getxattr", abi.IORING_OP_GETXATTR, -1, name, value, where, (path,), False).with_options(
        sqe_flags, personality
    )


@overload
def fgetxattr(
    fd: Fd,
    name: Path,
    value: None = None,
    *,
    fixed_file: bool = ...,
    sqe_flags: int = ...,
    personality: int = ...,
) -> Op[bytes]: ...
@overload
def fgetxattr(
    fd: Fd,
    name: Path,
    value: Buffer,
    *,
    fixed_file: bool = ...,
    sqe_flags: int = ...,
    personality: int = ...,
) -> Op[int]: ...
@overload
def fgetxattr(
    fd: Fd,
    name: Path,
    value: Buffer | None = None,
    *,
    fixed_file: bool = ...,
    sqe_flags: int = ...,
    personality: int = ...,
) -> Op[int | bytes]: ...
def fgetxattr(
    fd: Fd,
    name: Path,
    value: Buffer | None = None,
    *,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int | bytes]:
    """`getxattr` of an open file (Linux 5.19). See fgetxattr(2)."""
    file = check_fd(fd)
    return _getxattr(
        "fgetxattr", abi.IORING_OP_FGETXATTR, file, name, value, None, (), fixed_file
    ).with_options(sqe_flags, personality)


def setxattr(
    path: Path, name: Path, value: Buffer, flags: int = 0, *, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Sets an extended attribute (Linux 5.19); completes with 0. ``flags`` are ``XATTR_CREATE`` and
    ``XATTR_REPLACE``. See setxattr(2)."""
    where = check_c_string("path", path)
    return _setxattr(
        "setxattr", abi.IORING_OP_SETXATTR, -1, name, value, flags, where, (path,), False
    ).with_options(sqe_flags, personality)


def fsetxattr(
    fd: Fd,
    name: Path,
    value: Buffer,
    flags: int = 0,
    *,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """`setxattr` of an open file (Linux 5.19). See fsetxattr(2)."""
    file = check_fd(fd)
    return _setxattr(
        "fsetxattr", abi.IORING_OP_FSETXATTR, file, name, value, flags, None, (), fixed_file
    ).with_options(sqe_flags, personality)


@overload
def files_update(
    fds: Sequence[int], offset: Literal[0xFFFFFFFF], *, sqe_flags: int = ..., personality: int = ...
) -> Op[list[int]]: ...
@overload
def files_update(
    fds: Sequence[int], offset: int = 0, *, sqe_flags: int = ..., personality: int = ...
) -> Op[int | list[int]]: ...
def files_update(
    fds: Sequence[int], offset: int = 0, *, sqe_flags: int = 0, personality: int = 0
) -> Op[int | list[int]]:
    """Puts descriptors into the registered file table from slot ``offset`` on, -1 emptying a slot
    (Linux 5.6); completes with the number of slots done.

    With ``IORING_FILE_INDEX_ALLOC`` as offset they go into free slots, and it completes with the list of
    them (5.15). See io_uring_register(2), ``IORING_REGISTER_FILES_UPDATE``.
    """
    if not check_sequence("fds", fds):
        raise ValueError("files_update takes at least one descriptor")
    numbers = zeroed(4 * len(fds))
    slots = numbers.view.cast("i")
    for i, fd in enumerate(fds):
        slots[i] = check_int("a file descriptor (-1: none)", fd, -1, INT_MAX)
    allocate = offset == abi.IORING_FILE_INDEX_ALLOC
    return make(
        "files_update",
        abi.IORING_OP_FILES_UPDATE,
        off=UINT_MAX if allocate else check_int("offset", offset, 0, UINT_MAX - 1),
        addr=numbers.address,
        length=len(fds),
        pins=numbers,
        decode=(lambda res: slots[:res].tolist()) if allocate else None,
    ).with_options(sqe_flags, personality)


def fixed_fd_install(
    file_index: int, *, cloexec: bool = True, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Makes a descriptor of a registered file (Linux 6.8); completes with the descriptor.

    The slot keeps the file. ``EBADF`` if it is empty.
    """
    return make(
        "fixed_fd_install",
        abi.IORING_OP_FIXED_FD_INSTALL,
        check_int("file_index", file_index, 0, INT_MAX),
        op_flags=0 if cloexec else abi.IORING_FIXED_FD_NO_CLOEXEC,
        fixed_file=True,
        discard=close_fd,
    ).with_options(sqe_flags, personality)


def _open_flags(flags: object, file_index: int | None) -> int:
    # The kernel refuses O_CLOEXEC for a slot of the registered files, which exec does not touch.
    return check_flags("flags", flags) | (os.O_CLOEXEC if file_index is None else 0)


def _getxattr(
    name: str,
    opcode: int,
    fd: int,
    key: Path,
    value: Buffer | None,
    where: Zeroed | None,
    paths: tuple[Path, ...],
    fixed_file: bool,
) -> Op[int | bytes]:
    word = check_c_string("name", key)
    decode: Callable[[int], bytes] | None = None
    held: object
    if value is None:
        room = zeroed(_VALUE_MAX)
        address, length, held = room.address, _VALUE_MAX, room
        decode = lambda res: bytes(room.view[:res])  # noqa: E731
    else:
        address, length, held = pin_writable(value)
    return make(
        name,
        opcode,
        fd,
        off=address,
        addr=word.address,
        length=min(length, _VALUE_MAX),
        addr3=where.address if where else 0,
        fixed_file=fixed_file,
        pins=(word, held, where),
        paths=paths,
        decode=decode,
    )


def _setxattr(
    name: str,
    opcode: int,
    fd: int,
    key: Path,
    value: Buffer,
    flags: int,
    where: Zeroed | None,
    paths: tuple[Path, ...],
    fixed_file: bool,
) -> Op[int]:
    word = check_c_string("name", key)
    address, length, held = pin(value)
    if length > _VALUE_MAX:
        raise ValueError(f"an extended attribute has at most {_VALUE_MAX} bytes, not {length}")
    return make(
        name,
        opcode,
        fd,
        off=address,
        addr=word.address,
        length=length,
        op_flags=check_flags("flags", flags),
        addr3=where.address if where else 0,
        fixed_file=fixed_file,
        pins=(word, held, value, where),
        paths=paths,
    )
