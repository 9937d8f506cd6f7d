"""Functions of `os` on names in the file system, awaitable on the ring, and a few more.

They take the arguments of `os` (str, bytes, path objects), return its results and raise its exceptions, with
the file names in them (see `uring_trio.fs.filenames`). Each is a checkpoint. A kernel worker does the work
and cannot be stopped once it has begun: a cancelled call either has done nothing, or it completes and
returns. Each raises the auditing event of its namesake.
"""

from __future__ import annotations

import operator
import os
import sys
from typing import TYPE_CHECKING, Any

from uring import abi, ops

from ..core.perform import perform
from .filenames import absolute, perform_named

if TYPE_CHECKING:
    from uring.ops.base import Fd, Path

__all__ = [
    "getxattr",
    "link",
    "make_directory",
    "mkdir",
    "rename",
    "rmdir",
    "setxattr",
    "symlink",
    "sync_file_range",
    "unlink",
]

_CURRENT = -1
"""The ``dir_fd`` of auditing events where there is none."""


async def rename(src: Path, dst: Path, *, flags: int = 0) -> None:
    """`os.rename`, which replaces ``dst``. See renameat2(2).

    A checkpoint. A cancelled call has done nothing, or ends first and returns.

    Args:
        src: the path as it is.
        dst: the path as it is to be.
        flags: ``RENAME_*`` flags of renameat2(2), 0 for none.

    Raises:
        OSError: as `os.rename`; its ``filename`` and ``filename2`` are the paths.
        TypeError, ValueError: an argument that cannot be one.
        RuntimeError: outside a ring run.
    """
    op = ops.renameat(absolute(src), absolute(dst), flags)
    sys.audit("os.rename", os.fspath(src), os.fspath(dst), _CURRENT, _CURRENT)
    await perform_named(op, src, dst)


async def unlink(path: Path) -> None:
    """`os.unlink`. See unlink(2).

    A checkpoint. A cancelled call has done nothing, or ends first and returns.

    Args:
        path: the file to remove.

    Raises:
        OSError: as `os.unlink`; its ``filename`` is the path.
        TypeError, ValueError: an argument that cannot be one.
        RuntimeError: outside a ring run.
    """
    op = ops.unlinkat(absolute(path))
    sys.audit("os.remove", os.fspath(path), _CURRENT)
    await perform_named(op, path)


async def rmdir(path: Path) -> None:
    """`os.rmdir`. See rmdir(2).

    A checkpoint. A cancelled call has done nothing, or ends first and returns.

    Args:
        path: an empty directory.

    Raises:
        OSError: as `os.rmdir`; its ``filename`` is the path.
        TypeError, ValueError: an argument that cannot be one.
        RuntimeError: outside a ring run.
    """
    op = ops.unlinkat(absolute(path), int(abi.AT_REMOVEDIR))
    sys.audit("os.rmdir", os.fspath(path), _CURRENT)
    await perform_named(op, path)


async def mkdir(path: Path, mode: int = 0o777) -> None:
    """`os.mkdir`. See mkdir(2).

    A checkpoint. A cancelled call has done nothing, or ends first and returns.

    Args:
        path: the directory to make.
        mode: its permissions, of which the umask takes some away.

    Raises:
        OSError: as `os.mkdir`; its ``filename`` is the path.
        TypeError, ValueError: an argument that cannot be one.
        RuntimeError: outside a ring run.
    """
    await make_directory(absolute(path), path, mode)


async def make_directory(name: Path, path: Path, mode: int) -> None:
    """`mkdir` of an absolute name; errors and the auditing event are of ``path``, as the caller was given
    it."""
    mode = operator.index(mode)
    op = ops.mkdirat(name, file_mode=mode)
    sys.audit("os.mkdir", os.fspath(path), mode, _CURRENT)
    await perform_named(op, path)


async def symlink(target: Path, path: Path) -> None:
    """`os.symlink`: makes ``path`` a symbolic link that says ``target``. See symlink(2).

    A checkpoint. A cancelled call has done nothing, or ends first and returns.

    Args:
        target: the text of the link, a path.
        path: where the link is made.

    Raises:
        OSError: as `os.symlink`; its ``filename`` and ``filename2`` are the paths.
        TypeError, ValueError: an argument that cannot be one.
        RuntimeError: outside a ring run.
    """
    op = ops.symlinkat(target, absolute(path))
    sys.audit("os.symlink", os.fspath(target), os.fspath(path), _CURRENT)
    await perform_named(op, target, path)


async def link(src: Path, dst: Path, *, follow_symlinks: bool = False) -> None:
    """`os.link`: gives a file a second name. See link(2).

    A checkpoint. A cancelled call has done nothing, or ends first and returns.

    Args:
        src: the path of the file.
        dst: its second path.
        follow_symlinks: where ``src`` is a symbolic link, link to its target.

    Raises:
        OSError: as `os.link`; its ``filename`` and ``filename2`` are the paths.
        TypeError, ValueError: an argument that cannot be one.
        RuntimeError: outside a ring run.
    """
    flags = int(abi.AT_SYMLINK_FOLLOW) if follow_symlinks else 0
    op = ops.linkat(absolute(src), absolute(dst), flags)
    sys.audit("os.link", os.fspath(src), os.fspath(dst), _CURRENT, _CURRENT)
    await perform_named(op, src, dst)


async def getxattr(path: Path | int, name: Path) -> bytes:
    """`os.getxattr` of a path or a descriptor. See getxattr(2).

    A checkpoint. A cancelled call has done nothing, or ends first and returns its result.

    Args:
        path: a path, or an open descriptor.
        name: the attribute, such as ``"user.comment"``.

    Raises:
        OSError: as `os.getxattr`; its ``filename`` is the path.
        TypeError, ValueError: an argument that cannot be one.
        RuntimeError: outside a ring run.
    """
    op = ops.fgetxattr(path, name) if isinstance(path, int) else ops.getxattr(absolute(path), name)
    named = path if isinstance(path, int) else os.fspath(path)
    sys.audit("os.getxattr", named, os.fspath(name))
    value: bytes = await perform_named(op, path)
    return value


async def setxattr(path: Path | int, name: Path, value: Any, flags: int = 0) -> None:
    """`os.setxattr` of a path or a descriptor. See setxattr(2).

    A checkpoint. A cancelled call has done nothing, or ends first and returns.

    Args:
        path: a path, or an open descriptor.
        name: the attribute, such as ``"user.comment"``.
        value: a buffer of bytes.
        flags: ``os.XATTR_CREATE``, ``os.XATTR_REPLACE``, or 0 for either.

    Raises:
        OSError: as `os.setxattr`; its ``filename`` is the path.
        TypeError, ValueError: an argument that cannot be one.
        RuntimeError: outside a ring run.
    """
    if isinstance(path, int):
        op = ops.fsetxattr(path, name, value, flags)
    else:
        op = ops.setxattr(absolute(path), name, value, flags)
    named = path if isinstance(path, int) else os.fspath(path)
    sys.audit("os.setxattr", named, os.fspath(name), value, flags)
    await perform_named(op, path)


async def sync_file_range(fd: Fd, offset: int, length: int, flags: int) -> None:
    """Starts or awaits writing part of a file to storage. See sync_file_range(2).

    A checkpoint. A cancelled call may have started to write: that changes no contents.

    Args:
        fd: a descriptor, or an object with ``fileno()``.
        offset: the first byte of the part, from 0 on.
        length: the size of the part in bytes; 0: up to the end.
        flags: ``SYNC_FILE_RANGE_*`` of `uring.abi`.

    Raises:
        OSError: the kernel's errno.
        TypeError, ValueError: an argument that cannot be one.
        RuntimeError: outside a ring run.
    """
    await perform(ops.sync_file_range(fd, offset, length, sync_flags=flags))
