"""Files by descriptor, and moving data between descriptors.

Each method queues the request of the same name in `uring.ops`, where it is described.
Common to all: ``ctx`` as in `uring.Ring.submit`; ``sqe_flags`` are ``IOSQE_*`` bits, ``personality``
registered credentials. Returns the context that completions carry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import ops
from ..life import RingCore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...contexts.context import SQEContext
    from ...ops.base import Fd

__all__ = ["FileMethods"]


class FileMethods(RingCore):
    """Files by descriptor, and moving data between descriptors."""

    def read(
        self,
        ctx: int | None,
        fd: Fd,
        buffer: Any = None,
        *,
        offset: int = -1,
        n: int | None = None,
        rw_flags: int = 0,
        ioprio: int = 0,
        ioprio_class: tuple[int, int] | None = None,
        buffer_group: int | None = None,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Reads into a writable buffer, or into one that the kernel chooses from ``buffer_group`` (Linux
        5.6)."""
        return self._request(
            ctx,
            ops.read(
                fd,
                buffer,
                offset=offset,
                n=n,
                rw_flags=rw_flags,
                ioprio=ioprio,
                ioprio_class=ioprio_class,
                buffer_group=buffer_group,
                fixed_file=fixed_file,
            ),
            sqe_flags,
            personality,
        )

    def write(
        self,
        ctx: int | None,
        fd: Fd,
        data: Any,
        *,
        offset: int = -1,
        n: int | None = None,
        rw_flags: int = 0,
        ioprio: int = 0,
        ioprio_class: tuple[int, int] | None = None,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Writes bytes (Linux 5.6)."""
        return self._request(
            ctx,
            ops.write(
                fd,
                data,
                offset=offset,
                n=n,
                rw_flags=rw_flags,
                ioprio=ioprio,
                ioprio_class=ioprio_class,
                fixed_file=fixed_file,
            ),
            sqe_flags,
            personality,
        )

    def readv(
        self,
        ctx: int | None,
        fd: Fd,
        buffers: Sequence[Any],
        *,
        offset: int = -1,
        rw_flags: int = 0,
        ioprio: int = 0,
        ioprio_class: tuple[int, int] | None = None,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Reads into buffers one after the other (Linux 5.1)."""
        return self._request(
            ctx,
            ops.readv(
                fd,
                buffers,
                offset=offset,
                rw_flags=rw_flags,
                ioprio=ioprio,
                ioprio_class=ioprio_class,
                fixed_file=fixed_file,
            ),
            sqe_flags,
            personality,
        )

    def writev(
        self,
        ctx: int | None,
        fd: Fd,
        buffers: Sequence[Any],
        *,
        offset: int = -1,
        rw_flags: int = 0,
        ioprio: int = 0,
        ioprio_class: tuple[int, int] | None = None,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Writes buffers one after the other (Linux 5.1)."""
        return self._request(
            ctx,
            ops.writev(
                fd,
                buffers,
                offset=offset,
                rw_flags=rw_flags,
                ioprio=ioprio,
                ioprio_class=ioprio_class,
                fixed_file=fixed_file,
            ),
            sqe_flags,
            personality,
        )

    def read_fixed(
        self,
        ctx: int | None,
        fd: Fd,
        buffer: Any,
        buf_index: int,
        *,
        offset: int = -1,
        n: int | None = None,
        rw_flags: int = 0,
        ioprio: int = 0,
        ioprio_class: tuple[int, int] | None = None,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """`read` into memory of the registered buffer ``buf_index`` (Linux 5.1)."""
        return self._request(
            ctx,
            ops.read_fixed(
                fd,
                buffer,
                buf_index,
                offset=offset,
                n=n,
                rw_flags=rw_flags,
                ioprio=ioprio,
                ioprio_class=ioprio_class,
                fixed_file=fixed_file,
            ),
            sqe_flags,
            personality,
        )

    def write_fixed(
        self,
        ctx: int | None,
        fd: Fd,
        data: Any,
        buf_index: int,
        *,
        offset: int = -1,
        n: int | None = None,
        rw_flags: int = 0,
        ioprio: int = 0,
        ioprio_class: tuple[int, int] | None = None,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """`write` from memory of the registered buffer ``buf_index`` (Linux 5.1)."""
        return self._request(
            ctx,
            ops.write_fixed(
                fd,
                data,
                buf_index,
                offset=offset,
                n=n,
                rw_flags=rw_flags,
                ioprio=ioprio,
                ioprio_class=ioprio_class,
                fixed_file=fixed_file,
            ),
            sqe_flags,
            personality,
        )

    def readv_fixed(
        self,
        ctx: int | None,
        fd: Fd,
        buffers: Sequence[Any],
        buf_index: int,
        *,
        offset: int = -1,
        rw_flags: int = 0,
        ioprio: int = 0,
        ioprio_class: tuple[int, int] | None = None,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """`readv` into pieces of the one registered buffer ``buf_index`` (Linux 6.15)."""
        return self._request(
            ctx,
            ops.readv_fixed(
                fd,
                buffers,
                buf_index,
                offset=offset,
                rw_flags=rw_flags,
                ioprio=ioprio,
                ioprio_class=ioprio_class,
                fixed_file=fixed_file,
            ),
            sqe_flags,
            personality,
        )

    def writev_fixed(
        self,
        ctx: int | None,
        fd: Fd,
        buffers: Sequence[Any],
        buf_index: int,
        *,
        offset: int = -1,
        rw_flags: int = 0,
        ioprio: int = 0,
        ioprio_class: tuple[int, int] | None = None,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """`writev` from pieces of the one registered buffer ``buf_index`` (Linux 6.15)."""
        return self._request(
            ctx,
            ops.writev_fixed(
                fd,
                buffers,
                buf_index,
                offset=offset,
                rw_flags=rw_flags,
                ioprio=ioprio,
                ioprio_class=ioprio_class,
                fixed_file=fixed_file,
            ),
            sqe_flags,
            personality,
        )

    def submit_read_multishot(
        self,
        ctx: int | None,
        fd: Fd,
        buffer_group: int,
        *,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Reads whenever there is something into buffers of a group, until cancelled (Linux 6.7)."""
        return self._request(
            ctx, ops.read_multishot(fd, buffer_group, fixed_file=fixed_file), sqe_flags, personality
        )

    def fsync(
        self,
        ctx: int | None,
        fd: Fd,
        *,
        datasync: bool = False,
        offset: int = 0,
        length: int = 0,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Writes a file's data and metadata to storage (Linux 5.1), or with ``datasync`` what reading the
        data back needs."""
        return self._request(
            ctx,
            ops.fsync(fd, datasync=datasync, offset=offset, length=length, fixed_file=fixed_file),
            sqe_flags,
            personality,
        )

    def sync_file_range(
        self,
        ctx: int | None,
        fd: Fd,
        offset: int,
        length: int,
        *,
        sync_flags: int,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Starts or awaits writing part of a file to storage, without its metadata (Linux 5.2)."""
        return self._request(
            ctx,
            ops.sync_file_range(fd, offset, length, sync_flags=sync_flags, fixed_file=fixed_file),
            sqe_flags,
            personality,
        )

    def fallocate(
        self,
        ctx: int | None,
        fd: Fd,
        mode: int,
        offset: int,
        length: int,
        *,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Allocates, punches or moves part of a file (Linux 5.6)."""
        return self._request(
            ctx, ops.fallocate(fd, mode, offset, length, fixed_file=fixed_file), sqe_flags, personality
        )

    def ftruncate(
        self,
        ctx: int | None,
        fd: Fd,
        length: int,
        *,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Makes a file exactly ``length`` bytes long (Linux 6.9)."""
        return self._request(ctx, ops.ftruncate(fd, length, fixed_file=fixed_file), sqe_flags, personality)

    def fadvise(
        self,
        ctx: int | None,
        fd: Fd,
        advice: int,
        *,
        offset: int = 0,
        length: int = 0,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Says how part of a file will be used (Linux 5.6)."""
        return self._request(
            ctx,
            ops.fadvise(fd, advice, offset=offset, length=length, fixed_file=fixed_file),
            sqe_flags,
            personality,
        )

    def madvise(
        self, ctx: int | None, memory: Any, advice: int, *, sqe_flags: int = 0, personality: int = 0
    ) -> SQEContext:
        """Says how mapped memory will be used (Linux 5.6)."""
        return self._request(ctx, ops.madvise(memory, advice), sqe_flags, personality)

    def splice(
        self,
        ctx: int | None,
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
    ) -> SQEContext:
        """Moves up to ``n`` bytes from one descriptor to another, one of which is a pipe (Linux 5.7)."""
        return self._request(
            ctx,
            ops.splice(
                fd_in,
                fd_out,
                n,
                offset_in=offset_in,
                offset_out=offset_out,
                splice_flags=splice_flags,
                fixed_in=fixed_in,
                fixed_file=fixed_file,
            ),
            sqe_flags,
            personality,
        )

    def tee(
        self,
        ctx: int | None,
        fd_in: Fd,
        fd_out: Fd,
        n: int,
        *,
        splice_flags: int = 0,
        fixed_in: bool = False,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Copies up to ``n`` bytes from one pipe to another without consuming them (Linux 5.8)."""
        return self._request(
            ctx,
            ops.tee(fd_in, fd_out, n, splice_flags=splice_flags, fixed_in=fixed_in, fixed_file=fixed_file),
            sqe_flags,
            personality,
        )

    def pipe(
        self,
        ctx: int | None,
        pipe_flags: int = 0,
        *,
        file_index: int | None = None,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> SQEContext:
        """Makes a pipe (Linux 6.16)."""
        return self._request(ctx, ops.pipe(pipe_flags, file_index=file_index), sqe_flags, personality)
