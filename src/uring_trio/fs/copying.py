"""Data from one descriptor to another: copies of files, and moves between pipes and files in the kernel."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import shutil
import stat as modes
from typing import TYPE_CHECKING

from trio.lowlevel import enable_ki_protection

from uring import ops

from ..core.perform import perform, perform_many, persist
from .filenames import absolute, open_named, perform_named, with_paths
from .stats import read_dir_stats

if TYPE_CHECKING:
    from collections.abc import Callable

    from uring.ops.base import Fd, Path

__all__ = ["copy_file", "splice", "tee"]

_COPY_CHUNK = 1 << 20


@enable_ki_protection
async def copy_file(
    src: Path, dst: Path, *, progress: Callable[[int, int], None] | None = None, chunk: int = _COPY_CHUNK
) -> int:
    """Copies the contents of a file, as `shutil.copyfile` does; returns the number of bytes.

    While a chunk is written the next one is read. Cancelled, it leaves what was copied so far.

    Args:
        src: the path of the file to read.
        dst: the path of the file to write, which is made or replaced.
        progress: called after each chunk with the bytes done and the bytes there are.
        chunk: bytes of one transfer.

    Raises:
        ValueError: ``chunk`` is less than 1.
        shutil.SameFileError: they are the same file.
        shutil.SpecialFileError: one of them is a FIFO.
        OSError: the file that failed is its ``filename``. A ``src`` that cannot be opened leaves ``dst`` as
            it was.
    """
    if chunk < 1:
        raise ValueError(f"a chunk has 1 byte or more, not {chunk}")
    source_name, target_name = absolute(src), absolute(dst)
    for path, there in zip((src, dst), await read_dir_stats((source_name, target_name))):
        # Must not be opened: the open would wait for the other end, or read an empty file.
        if not isinstance(there, OSError) and modes.S_ISFIFO(there.st_mode):
            raise shutil.SpecialFileError(f"`{os.fsdecode(path)}` is a named pipe")
    source = await open_named(source_name, src, os.O_RDONLY)
    try:
        there = os.fstat(source)
        if modes.S_ISDIR(there.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(src))
        target = await open_named(target_name, dst, os.O_WRONLY | os.O_CREAT)
        try:
            if os.path.samestat(there, os.fstat(target)):
                raise shutil.SameFileError(f"{src!r} and {dst!r} are the same file")
            await perform_named(ops.ftruncate(target, 0), dst)
            return await _copy(source, target, there.st_size, chunk, progress, src, dst)
        finally:
            os.close(target)
    finally:
        os.close(source)


async def _copy(
    source: int,
    target: int,
    size: int,
    chunk: int,
    progress: Callable[[int, int], None] | None,
    src: Path,
    dst: Path,
) -> int:
    full, empty = bytearray(chunk), bytearray(chunk)
    have = await _read(source, full, 0, src)
    done = 0
    while have:
        view = memoryview(full)[:have]
        written, read = await perform_many(
            [ops.write(target, view, offset=done), ops.read(source, empty, offset=done + have)]
        )
        # After the process was stopped, operations that had done nothing come back interrupted.
        if isinstance(written, InterruptedError):
            written = 0
        if isinstance(read, InterruptedError):
            read = await _read(source, empty, done + have, src)
        if isinstance(written, OSError):
            raise with_paths(written, dst)
        if isinstance(read, OSError):
            raise with_paths(read, src)
        while written < have:
            op = ops.write(target, view[written:], offset=done + written)
            written += await perform_named(op, dst, run=persist)
        done += have
        if progress is not None:
            progress(done, max(size, done))
        full, empty, have = empty, full, read
    return done


async def _read(source: int, memory: bytearray, offset: int, path: Path) -> int:
    have: int = await perform_named(ops.read(source, memory, offset=offset), path, run=persist)
    return have


async def splice(
    fd_in: Fd,
    fd_out: Fd,
    n: int,
    *,
    offset_in: int | None = None,
    offset_out: int | None = None,
    flags: int = 0,
) -> int:
    """Moves up to ``n`` bytes between descriptors, one of them a pipe, without copying them through this
    process; returns how many, 0 at the end. See splice(2).

    It waits where splice(2) does, for an empty pipe to read from and a full one to write to, without a kernel
    worker meanwhile. ``BlockingIOError`` where that would not wait: with ``SPLICE_F_NONBLOCK``, and with a
    descriptor that has ``O_NONBLOCK``. A socket to splice from has to have it, as Trio's do: see
    `uring.ops.splice`.

    A cancelled call has moved nothing, or ends first and returns its result.

    Args:
        fd_in: the descriptor to read, or an object with ``fileno()``.
        fd_out: the descriptor to write, or an object with ``fileno()``.
        n: how many bytes at most.
        offset_in: the first byte of the file to read; None: its position, or a pipe.
        offset_out: where to write in the file, in bytes; None: its position, or a pipe.
        flags: ``SPLICE_F_*`` flags of splice(2), 0 for none.

    Raises:
        OSError: the kernel's errno, such as ``EINVAL`` without a pipe, or ``EPIPE``.
        TypeError, ValueError: an argument that cannot be one.
        RuntimeError: outside a ring run.
    """

    def op(flags: int) -> ops.Op[int]:
        return ops.splice(fd_in, fd_out, n, offset_in=offset_in, offset_out=offset_out, splice_flags=flags)

    return await _between_pipes(op, flags, fd_in, fd_out)


async def tee(fd_in: Fd, fd_out: Fd, n: int, *, flags: int = 0) -> int:
    """Copies up to ``n`` bytes from a pipe to another and leaves them there; returns how many. It waits as
    `splice` does. See tee(2).

    A cancelled call has copied nothing, or ends first and returns its result.

    Args:
        fd_in: the pipe to read, a descriptor or an object with ``fileno()``.
        fd_out: the pipe to write, a descriptor or an object with ``fileno()``.
        n: how many bytes at most.
        flags: ``SPLICE_F_*`` flags of tee(2), 0 for none.

    Raises:
        OSError: the kernel's errno, such as ``EINVAL`` without two pipes.
        TypeError, ValueError: an argument that cannot be one.
        RuntimeError: outside a ring run.
    """
    return await _between_pipes(
        lambda flags: ops.tee(fd_in, fd_out, n, splice_flags=flags), flags, fd_in, fd_out
    )


async def _between_pipes(make: Callable[[int], ops.Op[int]], flags: int, fd_in: Fd, fd_out: Fd) -> int:
    """Runs a splice or tee that would keep a kernel worker for as long as its pipe is empty, or full: where
    it would wait the ring does."""
    op = make(flags | os.SPLICE_F_NONBLOCK)
    while True:
        try:
            return await persist(op)
        except BlockingIOError:
            ends = [(_number(fd_in), select.POLLIN), (_number(fd_out), select.POLLOUT)]
            if flags & os.SPLICE_F_NONBLOCK or any(map(_refuses_to_wait, (fd for fd, _ in ends))):
                raise
            for fd, mask in ends:
                if modes.S_ISFIFO(os.fstat(fd).st_mode):
                    await perform(ops.poll_add(fd, mask))


def _number(fd: Fd) -> int:
    return fd if isinstance(fd, int) else fd.fileno()


def _refuses_to_wait(fd: int) -> bool:
    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK)
