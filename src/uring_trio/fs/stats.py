"""`os.stat` on the ring, of one path and of many with one submission.

Names and attributes in the kernel's caches are answered at once (`uring.cached`).
"""

from __future__ import annotations

import os
import struct
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from trio.lowlevel import checkpoint_if_cancelled

from uring import abi, ops
from uring.cached import find_stat
from uring.kernel.memory import bytes_address, new_bytes

from .. import seams
from ..core.engine import current
from ..core.perform import perform_many
from .filenames import absolute, error_of, perform_named, with_paths

if TYPE_CHECKING:
    from collections.abc import Iterable

    from uring.ops.base import Path

__all__ = ["read_dir_stats", "stat", "stat_op"]

_NOFOLLOW = int(abi.AT_SYMLINK_NOFOLLOW)
_EMPTY_PATH = int(abi.AT_EMPTY_PATH)
_BASIC = int(abi.STATX_BASIC_STATS)
_STATX = int(abi.IORING_OP_STATX)
_AT_FDCWD = int(abi.AT_FDCWD)
_FD_MAX = (1 << 31) - 1
_STATX_SIZE = 256
_STAT_FIELDS = struct.Struct("=4xI8xIIIH2xQQQ8x qI4x 16x qI4x qI4x IIII").unpack_from
"""The part of ``struct statx`` that `os.stat_result` has."""
_NANO = 1_000_000_000
_STRETCH = 64
"""So many names are looked up before others run."""


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
        raise error_of(found, path)
    asked: os.stat_result = await perform_named(stat_op(path, follow), path)
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
        else with_paths(answer, path)
        if isinstance(answer, OSError)
        else error_of(cast("int", answer), path)
        for path, answer in zip(paths, found)
    ]


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
