"""Opening files by name, so that an open which waits without end blocks no other operation.

The kernel runs opens in the workers that files and paths share. The workers are few, and an open may wait
without end: for the other end of a FIFO, for a terminal's carrier, for the holder of a lease. So the name is
looked up first. A regular file, a directory and a missing name are opened with ``O_NONBLOCK``, with which an
open does not wait, and the flag is cleared afterwards. A FIFO, a device, and a file whose open would have to
wait nevertheless are opened without it, by an additional worker. That is a kernel thread for each, which a
cancellation ends.

A FIFO cannot be opened correctly without a thread. To wait for a writer, the FIFO must be open for reading,
or writers would not see the reader; but poll(2) does not report a writer before it writes. A new reader is
not reported at all.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat as modes
from typing import TYPE_CHECKING, Any

from trio.lowlevel import enable_ki_protection

from uring import abi, ops
from uring.cached import find_stat
from uring.errors import EXPLAINED

from ..core.engine import current
from ..core.perform import perform, persist

if TYPE_CHECKING:
    from uring.ops.base import Path

__all__ = ["open_descriptor"]

_ASYNC = int(abi.IOSQE_ASYNC)
_TYPE = int(abi.STATX_TYPE)
_DONT_SYNC = int(abi.AT_STATX_DONT_SYNC)
_NEVER_WAIT = os.O_NONBLOCK | os.O_PATH
_WOULD_WAIT = frozenset((errno.EAGAIN, errno.ENXIO))
"""The errors of an open with ``O_NONBLOCK`` that would wait: for a lease, for a FIFO's reader."""


@enable_ki_protection
async def open_descriptor(name: Path, flags: int, mode: int = 0o666) -> int:
    """`os.open` of an absolute name, on the ring. A checkpoint. It goes on after the process was stopped.

    Raises:
        OSError: the kernel's, with ``name``.
    """
    if flags & _NEVER_WAIT:
        return await persist(ops.openat(name, flags, file_mode=mode))
    if not await _may_wait(name):
        try:
            fd = await persist(ops.openat(name, flags | os.O_NONBLOCK, file_mode=mode))
        except OSError as exc:
            if exc.errno not in _WOULD_WAIT or isinstance(exc, EXPLAINED):
                raise
        else:
            try:
                fcntl.fcntl(fd, fcntl.F_SETFL, flags)
            except BaseException:
                os.close(fd)
                raise
            return fd
    engine = current()
    engine.workers.widen(1)
    try:
        return await persist(ops.openat(name, flags, file_mode=mode).with_flags(_ASYNC))
    finally:
        if not engine.closed:
            engine.workers.widen(-1)


async def _may_wait(name: Path) -> bool:
    """Whether an open of the present file may wait."""
    current()
    found: Any = find_stat(name, True)
    if found is None:
        try:
            found = await perform(ops.statx(name, flags=_DONT_SYNC, mask=_TYPE))
        except OSError:
            return False  # the open reports the reason
    if isinstance(found, int):
        return False
    kind = modes.S_IFMT(found.st_mode)
    return kind in (modes.S_IFIFO, modes.S_IFCHR, modes.S_IFBLK)
