"""Functions of `os` on names in the file system, awaitable on the ring, and a few more.

They take the arguments of `os` (str, bytes, path objects), return its results and raise its exceptions, with
the file names in them. Each is a checkpoint. A kernel worker does the work and cannot be stopped once it has
begun: a cancelled call either has done nothing, or it completes and returns.

A relative path starts at the working directory at the time of the call. Kernel workers share the working
directory with the process and run later, so the path is made absolute first. Where no absolute path exists
(the working directory was removed, is deeper than a path can name, or is below one that this user may not
search), the worker gets the relative path, which works as long as no code calls ``chdir`` meanwhile.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import shutil
import stat as modes
import struct
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from trio.lowlevel import checkpoint_if_cancelled, enable_ki_protection

from uring import abi, ops
from uring.cached import find_stat
from uring.errors import EXPLAINED
from uring.kernel.memory import bytes_address, new_bytes

from .. import seams
from ..core.engine import current
from ..core.perform import perform, perform_many, persist
from .descriptors import open_descriptor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from uring.ops.base import Fd, Path

__all__ = [
    "absolute",
    "copy_file",
    "getxattr",
    "link",
    "mkdir",
    "open_named",
    "read_dir_stats",
    "rename",
    "renamed",
    "rmdir",
    "setxattr",
    "splice",
    "stat",
    "stat_op",
    "symlink",
    "sync_file_range",
    "tee",
    "unlink",
]

_NOFOLLOW = int(abi.AT_SYMLINK_NOFOLLOW)
_EMPTY_PATH = int(abi.AT_EMPTY_PATH)
_REMOVEDIR = int(abi.AT_REMOVEDIR)
_BASIC = int(abi.STATX_BASIC_STATS)
_STATX = int(abi.IORING_OP_STATX)
_AT_FDCWD = int(abi.AT_FDCWD)
_FD_MAX = (1 << 31) - 1
_STATX_SIZE = 256
_STAT_FIELDS = struct.Struct("=4xI8xIIIH2xQQQ8x qI4x 16x qI4x qI4x IIII").unpack_from
"""The part of ``struct statx`` that `os.stat_result` has."""
_NANO = 1_000_000_000
_COPY_CHUNK = 1 << 20
_PATH_MAX = 4096
"""Bytes of a path, the NUL at its end included."""
_STRETCH = 64
"""So many names are looked up before others run."""


def absolute(path: Any) -> Any:
    """The same path from the root on, as str or bytes, if one leads there. Nothing in it is resolved or
    tidied, since with symbolic links that would change what it means.

    Raises:
        ValueError: a NUL byte in it.
        TypeError: not a path.
    """
    path = os.fspath(path)
    if isinstance(path, bytes):
        if b"\0" in path:
            raise ValueError("embedded null byte")
        return path if path[:1] in (b"/", b"") else _from_root(os.getcwdb, b"/", path)
    if "\0" in path:
        raise ValueError("embedded null byte")
    return path if path[:1] in ("/", "") else _from_root(os.getcwd, "/", path)


def _from_root(where: Callable[[], Any], slash: Any, path: Any) -> Any:
    """A relative path from the root on; as it is, where that would find something else or nothing."""
    try:
        here = where()
    except OSError:
        return path
    whole = here + slash + path
    if len(os.fsencode(whole)) >= _PATH_MAX or not os.access(here, os.X_OK, effective_ids=True):
        return path
    return whole


async def stat(path: Path | int, *, follow_symlinks: bool = True) -> os.stat_result:
    """`os.stat` of a path or a descriptor. See statx(2).

    A checkpoint. A cancelled call has done nothing, or ends first and returns its result.

    Args:
        path: a path, or an open descriptor.
        follow_symlinks: whether to look at the target of a symbolic link; if not, as `os.lstat`.

    Raises:
        OSError: as `os.stat`; its ``filename`` is the path.
        TypeError, ValueError: an argument that cannot be one.
        RuntimeError: outside a ring run.
    """
    found: os.stat_result | int | None
    found = await seams.attempt_on_ring(find_stat, path, follow_symlinks)
    return found if isinstance(found, os.stat_result) else await ask_for_stat(path, follow_symlinks, found)


async def ask_for_stat(path: Path | int, follow: bool, found: int | None) -> os.stat_result:
    """`stat` after `find_stat`."""
    if found is not None:
        raise _error(found, path)
    asked: os.stat_result = await _named(stat_op(path, follow), path)
    return asked


async def read_dir_stats(
    paths: Iterable[Path], *, follow_symlinks: bool = True
) -> list[os.stat_result | OSError]:
    """`stat` of many paths with one submission and one wake-up; in the place of each that failed, what
    `stat` would raise.

    A checkpoint. In a scope that is cancelled already nothing is asked for.

    Args:
        paths: paths, absolute or from the working directory.
        follow_symlinks: whether to look at the target of a symbolic link; if not, at the link.

    Raises:
        TypeError: a path that cannot be one.
        RuntimeError: outside a ring run.
    """
    current()
    paths = list(paths)
    await checkpoint_if_cancelled()
    # Relative ones are looked up before another task runs, which may change the working directory.
    names: list[Any] = paths
    if len(paths) > _STRETCH:
        names = [path if isinstance(path, int) else absolute(path) for path in paths]
    found: list[os.stat_result | OSError | int | None] = []
    for i in range(0, len(names), _STRETCH):
        if i:
            await seams.pause()
        found += [find_stat(name, follow_symlinks) for name in names[i : i + _STRETCH]]
    left = [i for i, answer in enumerate(found) if answer is None]
    if left or not paths:
        asked = await perform_many([stat_op(names[i], follow_symlinks) for i in left])
        for i, answer in zip(left, asked):
            found[i] = answer
    else:
        await seams.pause()
    return [
        answer
        if isinstance(answer, os.stat_result)
        else renamed(answer, path)
        if isinstance(answer, OSError)
        else _error(cast("int", answer), path)
        for path, answer in zip(paths, found)
    ]


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
    await _named(ops.renameat(absolute(src), absolute(dst), flags), src, dst)


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
    await _named(ops.unlinkat(absolute(path)), path)


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
    await _named(ops.unlinkat(absolute(path), _REMOVEDIR), path)


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
    await _named(ops.mkdirat(absolute(path), file_mode=mode), path)


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
    await _named(ops.symlinkat(target, absolute(path)), target, path)


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
    await _named(ops.linkat(absolute(src), absolute(dst), flags), src, dst)


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
    value: bytes = await _named(op, path)
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
    await _named(op, path)


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
        shutil.SameFileError: they are the same file.
        shutil.SpecialFileError: one of them is a FIFO.
        OSError: the file that failed is its ``filename``. What cannot be read leaves ``dst`` as it was.
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
            await _named(ops.ftruncate(target, 0), dst)
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
            raise renamed(written, dst)
        if isinstance(read, OSError):
            raise renamed(read, src)
        while written < have:
            op = ops.write(target, view[written:], offset=done + written)
            written += await _named(op, dst, run=persist)
        done += have
        if progress is not None:
            progress(done, max(size, done))
        full, empty, have = empty, full, read
    return done


async def _read(source: int, memory: bytearray, offset: int, path: Path) -> int:
    have: int = await _named(ops.read(source, memory, offset=offset), path, run=persist)
    return have


async def open_named(name: Path, path: Path, flags: int, mode: int = 0o666) -> int:
    """`open_descriptor` of an absolute name; errors are of ``path``, as the caller was given it."""
    try:
        return await open_descriptor(name, flags, mode)
    except OSError as exc:
        raise renamed(exc, path) from None


def stat_op(path: Any, follow: bool = True) -> ops.Op[os.stat_result]:
    """The operation of a stat, which completes with an `os.stat_result`.

    ``ops.statx`` decodes more, and takes longer; programs ask for the stat of very many paths.
    """
    if isinstance(path, int):
        if path > _FD_MAX:
            raise OverflowError("fd is greater than maximum")
        # To statx -100 is not a wrong descriptor but the working directory.
        name, flags, start = b"\0\0", _EMPTY_PATH, max(path, -1)
    else:
        name = os.fsencode(absolute(path)) + b"\0"
        flags, start = 0 if follow else _NOFOLLOW, _AT_FDCWD
    room = new_bytes(_STATX_SIZE)
    fields = (_STATX, 0, start, bytes_address(room), bytes_address(name), _BASIC, flags, 0, 0, 0)
    return ops.Op("statx", fields, (name, room), partial(_decode_stat, room))


def _decode_stat(room: bytes, _: int) -> os.stat_result:
    (
        blksize, nlink, uid, gid, mode, ino, size, blocks, atime, atime_ns, ctime, ctime_ns, mtime, mtime_ns,
        rdev_major, rdev_minor, dev_major, dev_minor,
    ) = _STAT_FIELDS(room)  # fmt: skip
    fields = (
        mode, ino, os.makedev(dev_major, dev_minor), nlink, uid, gid, size, atime, mtime, ctime,
        atime + 1e-9 * atime_ns, mtime + 1e-9 * mtime_ns, ctime + 1e-9 * ctime_ns,
        atime * _NANO + atime_ns, mtime * _NANO + mtime_ns, ctime * _NANO + ctime_ns,
        blksize, blocks, os.makedev(rdev_major, rdev_minor),
    )  # fmt: skip
    return os.stat_result(fields)


async def _named(op: ops.Op, path: Any, other: Any = None, run: Callable[..., Any] = perform) -> Any:
    """Runs an operation; its exception is what `os` would raise for these paths."""
    try:
        return await run(op)
    except OSError as exc:
        raise renamed(exc, path, other) from None


def renamed(exc: OSError, path: Any, other: Any = None) -> OSError:
    """The exception as `os` raises it for these paths."""
    if isinstance(exc, EXPLAINED):
        exc.filename = path
        if other is not None:
            exc.filename2 = other
        return exc
    return _error(exc.errno or 0, path, other)


def _error(number: int, path: Any, other: Any = None) -> OSError:
    """The exception of `os` for an errno."""
    first = path if isinstance(path, int) else os.fspath(path)
    if other is None:
        return OSError(number, os.strerror(number), first)
    return OSError(number, os.strerror(number), first, None, os.fspath(other))
