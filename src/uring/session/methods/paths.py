"""Files by name, extended attributes, the registered file table.

Each method queues the request of the same name in `uring.ops`, where it is described.
Common to all: ``ctx`` as in `uring.Ring.submit`; ``sqe_flags`` are ``IOSQE_*`` bits, ``personality``
registered credentials. Returns the context that completions carry.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ... import ops
from ...abi import STATX_BASIC_STATS, STATX_BTIME
from ..life import RingCore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...contexts.context import SQEContext
    from ...ops.base import Fd, Path

__all__ = ["PathMethods"]

STATX_MASK = int(STATX_BASIC_STATS | STATX_BTIME)


class PathMethods(RingCore):
    """Files by name, extended attributes, the registered file table."""

    def openat(
        self,
        ctx: int | None,
        path: Path,
        flags: int = os.O_RDONLY,
        *,
        file_mode: int = 438,
        dir_fd: Fd | None = None,
        file_index: int | None = None,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Opens a file (Linux 5.6)."""
        return self._request(
            ctx,
            ops.openat(path, flags, file_mode=file_mode, dir_fd=dir_fd, file_index=file_index),
            sqe_flags,
            personality,
        )

    def openat2(
        self,
        ctx: int | None,
        path: Path,
        flags: int = os.O_RDONLY,
        *,
        file_mode: int | None = None,
        resolve: int = 0,
        dir_fd: Fd | None = None,
        file_index: int | None = None,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """`openat` with ``RESOLVE_*`` limits on how the path may lead (Linux 5.6)."""
        return self._request(
            ctx,
            ops.openat2(
                path, flags, file_mode=file_mode, resolve=resolve, dir_fd=dir_fd, file_index=file_index
            ),
            sqe_flags,
            personality,
        )

    def statx(
        self,
        ctx: int | None,
        path: Path,
        *,
        flags: int = 0,
        mask: int = STATX_MASK,
        dir_fd: Fd | None = None,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """What the file system knows of a file (Linux 5.6)."""
        return self._request(
            ctx, ops.statx(path, flags=flags, mask=mask, dir_fd=dir_fd), sqe_flags, personality
        )

    def renameat(
        self,
        ctx: int | None,
        src: Path,
        dst: Path,
        flags: int = 0,
        *,
        src_dir_fd: Fd | None = None,
        dst_dir_fd: Fd | None = None,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Renames a file (Linux 5.11)."""
        return self._request(
            ctx,
            ops.renameat(src, dst, flags, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd),
            sqe_flags,
            personality,
        )

    def unlinkat(
        self,
        ctx: int | None,
        path: Path,
        flags: int = 0,
        *,
        dir_fd: Fd | None = None,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Removes a name, with ``AT_REMOVEDIR`` a directory (Linux 5.11)."""
        return self._request(ctx, ops.unlinkat(path, flags, dir_fd=dir_fd), sqe_flags, personality)

    def mkdirat(
        self,
        ctx: int | None,
        path: Path,
        *,
        file_mode: int = 511,
        dir_fd: Fd | None = None,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Makes a directory (Linux 5.15)."""
        return self._request(
            ctx, ops.mkdirat(path, file_mode=file_mode, dir_fd=dir_fd), sqe_flags, personality
        )

    def symlinkat(
        self,
        ctx: int | None,
        target: Path,
        path: Path,
        *,
        dir_fd: Fd | None = None,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Makes ``path`` a symbolic link to ``target`` (Linux 5.15)."""
        return self._request(ctx, ops.symlinkat(target, path, dir_fd=dir_fd), sqe_flags, personality)

    def linkat(
        self,
        ctx: int | None,
        src: Path,
        dst: Path,
        flags: int = 0,
        *,
        src_dir_fd: Fd | None = None,
        dst_dir_fd: Fd | None = None,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Gives a file another name (Linux 5.15)."""
        return self._request(
            ctx,
            ops.linkat(src, dst, flags, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd),
            sqe_flags,
            personality,
        )

    def getxattr(
        self,
        ctx: int | None,
        path: Path,
        name: Path,
        value: Any = None,
        *,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Reads an extended attribute (Linux 5.19)."""
        return self._request(ctx, ops.getxattr(path, name, value), sqe_flags, personality)

    def fgetxattr(
        self,
        ctx: int | None,
        fd: Fd,
        name: Path,
        value: Any = None,
        *,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """`getxattr` of an open file (Linux 5.19)."""
        return self._request(
            ctx, ops.fgetxattr(fd, name, value, fixed_file=fixed_file), sqe_flags, personality
        )

    def setxattr(
        self,
        ctx: int | None,
        path: Path,
        name: Path,
        value: Any,
        flags: int = 0,
        *,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Sets an extended attribute (Linux 5.19)."""
        return self._request(ctx, ops.setxattr(path, name, value, flags), sqe_flags, personality)

    def fsetxattr(
        self,
        ctx: int | None,
        fd: Fd,
        name: Path,
        value: Any,
        flags: int = 0,
        *,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """`setxattr` of an open file (Linux 5.19)."""
        return self._request(
            ctx, ops.fsetxattr(fd, name, value, flags, fixed_file=fixed_file), sqe_flags, personality
        )

    def files_update(
        self,
        ctx: int | None,
        fds: Sequence[int],
        offset: int = 0,
        *,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Puts descriptors into the registered file table from slot ``offset`` on, -1 emptying a slot
        (Linux 5.6)."""
        return self._request(ctx, ops.files_update(fds, offset), sqe_flags, personality)

    def fixed_fd_install(
        self,
        ctx: int | None,
        file_index: int,
        *,
        cloexec: bool = True,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Makes a descriptor of a registered file (Linux 6.8)."""
        return self._request(ctx, ops.fixed_fd_install(file_index, cloexec=cloexec), sqe_flags, personality)
