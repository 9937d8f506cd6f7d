"""Files past the page cache (``O_DIRECT``), with the aligned memory that they need.

The kernel reads and writes such a file in whole blocks at block boundaries, from and to aligned memory. This
module provides the memory. A read may have any offset and size: the whole blocks around it are read. A write
must cover whole blocks, because the rest of a block is not known; `DirectFile.truncate` sets another end of
the file.
"""

from __future__ import annotations

import errno
import fcntl
import io
import mmap
import os
from typing import Any

import trio

from uring import abi, ops
from uring.kernel.memory import pin, pin_writable

from ..core.perform import perform
from .descriptor import READ, WRITE, Descriptor
from .filenames import absolute, with_paths
from .registered import RegisteredBuffer
from .waiting_opens import open_descriptor

__all__ = ["DirectFile", "open_direct"]

_STATX_DIOALIGN = int(abi.STATX_DIOALIGN)
_DEFAULT_ALIGN = 4096
_FLAGS = {
    "r": "os.O_RDONLY",
    "r+": "os.O_RDWR",
    "w": "os.O_WRONLY | os.O_CREAT | os.O_TRUNC",
    "w+": "os.O_RDWR | os.O_CREAT | os.O_TRUNC",
    "a": "os.O_WRONLY | os.O_CREAT, and the size as offset",
    "x": "os.O_WRONLY | os.O_CREAT | os.O_EXCL",
}
"""The flags to name in the error, by the mode of `open_file` that was passed instead."""


class DirectFile(trio.abc.AsyncResource):
    """A file opened with ``O_DIRECT``; made by `open_direct`, an asynchronous context manager.

    ``align`` is what offsets and sizes of writes are multiples of.

    Async methods are checkpoints. A cancelled call has done nothing, or ends first and returns its result;
    one of more than one transfer may have done some of them.

    Raises:
        OSError: from each method, the kernel's errno.
        ValueError: from each method, the file is closed.
    """

    def __init__(self, fd: int, align: int) -> None:
        self._raw = io.FileIO(fd, "r+b" if _writable(fd) else "rb")
        self._file = Descriptor(self._raw)
        self.align: int = align

    def fileno(self) -> int:
        """The descriptor. Raises ValueError when the file is closed."""
        return self._raw.fileno()

    async def pread(self, n: int, offset: int, /) -> bytes:
        """Reads ``n`` bytes from ``offset`` on, fewer only at the end of the file; any place and size.

        Args:
            n: how many bytes, from 0 on.
            offset: the first byte, from 0 on.
        """
        if n < 0 or offset < 0:
            raise ValueError(f"n and offset are 0 or more, not {n} and {offset}")
        start = offset - offset % self.align
        size = self._whole(offset + n - start)
        address, _, view = pin(mmap.mmap(-1, max(size, self.align)))
        done = await self._read_whole(address, size, start, view)
        skip = offset - start
        return bytes(view[skip : min(done, skip + n)])

    async def readinto_at(self, buffer: Any, offset: int, /) -> int:
        """Fills a buffer from ``offset`` on, without a copy; returns the number of bytes, less than its size
        only at the end of the file.

        Its size, where it begins in memory and ``offset`` are multiples of ``align``: those of a
        `RegisteredBuffer` of a suitable size are, and those of an `mmap.mmap`.

        Args:
            buffer: a writable buffer, aligned as said above.
            offset: the first byte of the file, a multiple of ``align`` from 0 on.

        Raises:
            ValueError: they are not.
        """
        if type(buffer) is RegisteredBuffer:
            self._check_aligned(buffer.address, len(buffer), offset)
            return await buffer._transfer(self._file, READ, offset, self.align)
        address, size, view = pin_writable(buffer)
        self._check_aligned(address, size, offset)
        return await self._read_whole(address, size, offset, view)

    async def pwrite(self, data: Any, offset: int, /) -> int:
        """Writes all of ``data``, whose size and ``offset`` are multiples of ``align``; returns its size.
        A `RegisteredBuffer` is written without a copy.

        Args:
            data: a buffer of any kind, or a `RegisteredBuffer`; its size is a multiple of ``align``.
            offset: where the first byte goes, a multiple of ``align`` from 0 on.

        Raises:
            ValueError: they are not.
        """
        if type(data) is RegisteredBuffer:
            self._check_aligned(data.address, len(data), offset)
            return await data._transfer(self._file, WRITE, offset)
        with memoryview(data).cast("B") as octets:
            size = len(octets)
            if offset < 0 or offset % self.align or size % self.align:
                raise ValueError(
                    f"a direct write covers whole blocks of {self.align} bytes, not {size} bytes at {offset}"
                )
            memory = mmap.mmap(-1, max(size, self.align))
            memory[:size] = octets
        address, _, view = pin(memory)
        done = 0
        while done < size:
            done += await self._at(WRITE, address + done, size - done, offset + done, view)
        return done

    async def truncate(self, size: int) -> None:
        """Makes the file shorter or longer.

        Args:
            size: the new size in bytes, which need be no multiple of a block.
        """
        if self._file.closing:
            raise ValueError("I/O operation on closed file.")
        await self._file.perform(ops.ftruncate(self._file.fd, size))

    async def _read_whole(self, address: int, size: int, offset: int, view: memoryview) -> int:
        done = 0
        while done < size:
            more = await self._at(READ, address + done, size - done, offset + done, view)
            done += more
            if more % self.align or not more:
                break
        return done

    def _check_aligned(self, address: int, size: int, offset: int) -> None:
        if self._file.closing:
            raise ValueError("I/O operation on closed file.")
        if offset < 0 or (address | size | offset) % self.align:
            raise ValueError(
                f"without a copy, memory, size and offset are multiples of {self.align}: not {size} bytes at "
                f"{address:#x}, offset {offset}"
            )

    async def _at(self, opcode: int, address: int, length: int, offset: int, view: Any) -> int:
        if self._file.closing:
            raise ValueError("I/O operation on closed file.")
        return await self._file.at(opcode, address, length, offset, view)

    def _whole(self, size: int) -> int:
        return -(-size // self.align) * self.align

    async def aclose(self) -> None:
        """Closes the file when nothing is under way on it; a checkpoint."""
        with trio.CancelScope(shield=True):
            self._file.close()
            try:
                await self._file.drain()
            finally:
                self._raw.close()
        await trio.lowlevel.checkpoint()


async def open_direct(path: Any, flags: int = os.O_RDONLY, *, mode: int = 0o666) -> DirectFile:
    """Opens a file past the page cache.

    A checkpoint. A file that was opened when the cancellation came is closed again, or handed out.

    Args:
        path: a path.
        flags: those of `os.open`, ``os.O_RDONLY`` by default; ``O_DIRECT`` is added.
        mode: the permissions of a file that is made, of which the umask takes some away.

    Raises:
        RuntimeError: outside a ring run.
        TypeError: the flags are no int, such as a mode of `open_file`.
        OSError: ``EINVAL`` where the file system does not support it.
    """
    if not isinstance(flags, int):
        wanted = _FLAGS.get(str(flags).replace("b", ""), "os.O_RDONLY or os.O_RDWR")
        raise TypeError(f"open_direct takes the flags of os.open, not {flags!r}: pass {wanted}")
    try:
        fd = await open_descriptor(absolute(path), flags | os.O_DIRECT, mode)
    except OSError as exc:
        if exc.errno == errno.EINVAL:
            raise OSError(exc.errno, "this file cannot be opened with O_DIRECT", os.fspath(path)) from None
        raise with_paths(exc, path) from None
    try:
        found = await perform(ops.statx("", flags=abi.AT_EMPTY_PATH, mask=_STATX_DIOALIGN, dir_fd=fd))
        align = max(found.dio_offset_align, found.dio_mem_align) or _DEFAULT_ALIGN
        return DirectFile(fd, align)
    except BaseException:
        os.close(fd)
        raise


def _writable(fd: int) -> bool:
    return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
