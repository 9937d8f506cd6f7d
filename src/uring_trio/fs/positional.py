"""Reads and writes at an offset, and other methods that only files of the ring have.

They bypass the file's position and its buffers, and any number of them may be in flight at once.
"""

from __future__ import annotations

import errno
import operator
import os
import sys
from abc import ABC, abstractmethod
from array import array
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import enable_ki_protection

from uring import abi, ops
from uring.cached import read_piece, read_pieces
from uring.errors import error_from_result
from uring.kernel.memory import LENGTH_MAX, bytes_address, new_bytes, pin, pin_writable

from .. import seams
from ..core.engine import current
from ..core.perform import run_volley
from ..core.restrictions import explained
from .descriptor import PIECE, READ, WRITE, Descriptor, name_of
from .registered import RegisteredBuffer
from .stats import stat_op

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Positional"]

_OFFSET_MAX = (1 << 63) - 1
_SMALL = 16384
"""Up to this size a piece is read by one call. If not all of it is in memory, the ring reads all of it
again."""
_VOLLEY_MOST = 4 << 20
"""The most bytes of one submission: the call that submits it copies what is in memory."""
_ASYNC = int(abi.IOSQE_ASYNC)


class Positional(ABC):
    """The methods with offsets of every kind of file; see `RingFile`."""

    _file: Descriptor

    @abstractmethod
    def _check_open(self) -> None:
        """Raises ValueError if this is closed."""

    @abstractmethod
    async def flush(self) -> None:
        """Hands what is buffered to the kernel."""

    @enable_ki_protection
    async def pread(self, n: int, offset: int, /) -> bytes:
        """Up to ``n`` bytes from ``offset`` on, fewer only at the end of the file. See pread(2).

        Args:
            n: how many bytes, from 0 on.
            offset: the first byte, from 0 on.
        """
        file = self._file
        if file.closing or file.raw.closed:
            self._check_open()
        if n.__class__ is not int:
            n = operator.index(n)
        if offset.__class__ is not int or not 0 <= offset <= _OFFSET_MAX:
            offset = _offset(offset)
        if file.cached and 0 <= n <= _SMALL:
            found = await seams.attempt(file.manager, read_piece, file.fd, n, offset)
            if found is not None:
                return found
        if not 1 < n <= LENGTH_MAX:
            return await self._read_few(n, offset)
        if n > PIECE:
            n = file.within(n, offset)
        data = new_bytes(n)
        address = bytes_address(data)
        res = await file.at(READ, address, n, offset, data)
        if res == n:
            return data
        return data[: res + await self._fully(READ, address + res, n - res, offset + res, data)]

    async def _read_few(self, n: int, offset: int) -> bytes:
        """`pread` of one byte or none, since equal bytes objects of one byte are one object; and of more than
        one transfer can have."""
        if n < 0:
            raise ValueError(f"n is 0 or more, not {n}")
        if n > sys.maxsize:
            raise OverflowError(f"n is at most {sys.maxsize}, not {n}")
        if n > LENGTH_MAX:
            n = self._file.within(n, offset)
            data = new_bytes(n)
            return data[: await self._fully(READ, bytes_address(data), n, offset, data)]
        memory = bytearray(n)
        return bytes(memory[: await self.readinto_at(memory, offset)])

    @enable_ki_protection
    async def readinto_at(self, buffer: Any, offset: int, /) -> int:
        """Fills a writable buffer from ``offset`` on; returns the number of bytes, less than its size only at
        the end of the file. A `RegisteredBuffer` is cheaper for large pieces.

        Args:
            buffer: a writable buffer, or a `RegisteredBuffer`.
            offset: the first byte of the file, from 0 on.
        """
        self._check_open()
        if type(buffer) is RegisteredBuffer:
            return await buffer._transfer(self._file, READ, _offset(offset))
        address, size, held = pin_writable(buffer)
        return await self._fully(READ, address, size, _offset(offset), held)

    @enable_ki_protection
    async def pwrite(self, data: Any, offset: int, /) -> int:
        """Writes all of ``data``, which may be a `RegisteredBuffer`, at ``offset``; returns its size. See
        pwrite(2), also for files opened with ``"a"``, where Linux appends.

        Args:
            data: a buffer of any kind, such as `bytes`.
            offset: where the first byte goes, from 0 on.
        """
        self._check_open()
        if type(data) is RegisteredBuffer:
            return await data._transfer(self._file, WRITE, _offset(offset))
        address, size, held = pin(data)
        return await self._fully(WRITE, address, size, _offset(offset), (held, data))

    async def _fully(self, opcode: int, address: int, size: int, offset: int, pins: object) -> int:
        done = 0
        while True:
            more = await self._file.at(opcode, address + done, size - done, offset + done, pins, done > 0)
            done += more
            if more == 0 or done == size:
                return done

    async def preadv(self, buffers: Sequence[Any], offset: int, /, flags: int = 0) -> int:
        """Fills writable buffers one after the other; returns the number of bytes, which may be less than
        they hold. See preadv2(2).

        Args:
            buffers: writable buffers, 1024 at most.
            offset: the first byte of the file, from 0 on.
            flags: ``RWF_*`` flags of preadv2(2), 0 for none.
        """
        self._check_open()
        self._file.check_seekable()
        op = ops.readv(self._file.fd, buffers, offset=_offset(offset), rw_flags=flags)
        if sum(memoryview(buffer).nbytes for buffer in buffers) > _VOLLEY_MOST:
            op = op.with_flags(_ASYNC)  # in a kernel worker, which may copy for longer than this thread
        return int(await self._run(op))

    async def pwritev(self, buffers: Sequence[Any], offset: int, /, flags: int = 0) -> int:
        """Writes buffers one after the other; returns the number of bytes, which may be less than they hold.
        See pwritev2(2).

        Args:
            buffers: buffers of any kind, 1024 at most.
            offset: where the first byte goes, from 0 on.
            flags: ``RWF_*`` flags of pwritev2(2), 0 for none.
        """
        self._check_open()
        self._file.check_seekable()
        op = ops.writev(self._file.fd, buffers, offset=_offset(offset), rw_flags=flags)
        return int(await self._run(op))

    @enable_ki_protection
    async def read_many(self, places: Iterable[tuple[int, int]], /) -> list[bytes]:
        """Reads many pieces, each ``(offset, n)``, with one submission and one wake-up.

        Each result is as of `pread`. Cancelled before the kernel has begun, none is read.

        Args:
            places: pairs of an offset and a number of bytes, both from 0 on.

        Raises:
            OSError: of the first piece that failed.
        """
        places = list(places)
        file = self._file
        self._check_open()
        if not places:
            await trio.lowlevel.checkpoint()
            return []
        found: list[bytes] = []
        if file.cached:
            found = await seams.attempt(file.manager, read_pieces, file.fd, places, PIECE) or []
            if len(found) == len(places):
                return found
        while len(found) < len(places):
            found += await self._read_rest(places[len(found) : len(found) + _fitting(places, len(found))])
        return found

    async def _read_rest(self, places: list[tuple[int, int]]) -> list[bytes]:
        """`read_many` by the ring."""
        try:
            offsets, sizes = (array("Q", numbers) for numbers in zip(*places, strict=True))
        except OverflowError:
            raise _no_place() from None
        if max(sizes) > LENGTH_MAX or max(offsets) > _OFFSET_MAX:
            raise _no_place()
        if len(places) == 1 and sizes[0] > _VOLLEY_MOST:
            return [await self.pread(sizes[0], offsets[0])]
        # Bytes objects of less than two bytes are shared.
        data = [new_bytes(max(n, 2)) for n in sizes]
        numbers = array(
            "Q",
            [x for offset, piece in zip(offsets, data) for x in (offset, bytes_address(piece), len(piece))],
        )
        counts = await self._many(READ, numbers, data)
        return [
            piece if count == n == len(piece) else await self._rest(offset, n, piece[: min(count, n)])
            for offset, n, piece, count in zip(offsets, sizes, data, counts)
        ]

    async def _rest(self, offset: int, n: int, got: bytes) -> bytes:
        """A piece that came short, with the rest of it: at the end of the file there is none."""
        return got if len(got) in (0, n) else got + await self.pread(n - len(got), offset + len(got))

    @enable_ki_protection
    async def write_many(self, pieces: Iterable[tuple[int, Any]], /) -> int:
        """Writes many pieces, each ``(offset, data)``, with one submission and one wake-up; returns the
        number of bytes written, which is all of them.

        They may reach the file in any order. Cancelled before the kernel has begun none is written; pieces
        that it has begun are finished before ``Cancelled`` is raised, and when all were, it is not.

        Args:
            pieces: pairs of an offset from 0 on and the data for that place, a buffer of any kind.

        Raises:
            OSError: of the first piece that failed; others may have been written.
        """
        pieces = list(pieces)
        numbers = array("Q")
        pins = []
        for offset, data in pieces:
            address, size, held = pin(data)
            if not 0 <= offset <= _OFFSET_MAX or size > LENGTH_MAX:
                raise ValueError(f"an offset is 0 to {_OFFSET_MAX}, and a piece has up to {LENGTH_MAX} bytes")
            numbers.extend((offset, address, size))
            pins.append((held, data))
        counts = await self._many(WRITE, numbers, pins)
        for i, count in enumerate(counts):
            offset, address, size = numbers[3 * i : 3 * i + 3]
            if count < size:
                more = await self._fully(WRITE, address + count, size - count, offset + count, pins)
                counts[i] += more
        return sum(counts)

    async def _many(self, opcode: int, numbers: array[int], pins: object) -> list[int]:
        """Runs a volley of transfers; how many bytes each has done."""
        self._check_open()
        if not numbers:
            await trio.lowlevel.checkpoint()
            return []
        self._file.check_seekable()
        engine = current()
        volley = engine.volley(engine.ring, len(numbers) // 3)
        volley.fill(opcode, self._file.fd, numbers)
        self._file.users += 1
        try:
            counts, interrupt = await run_volley(volley, name_of(opcode), (pins, numbers))
        finally:
            self._file.end_use()
        if interrupt is not None and not seams.CANCELLED.isdisjoint(counts):
            interrupt()
        for i, count in enumerate(counts):
            if count in seams.INTERRUPTED:
                # The process was stopped by a signal meanwhile: as a single transfer this one begins anew.
                offset, address, length = numbers[3 * i : 3 * i + 3]
                counts[i] = await self._file.at(opcode, address, length, offset, pins, begun=True)
        if min(counts) < 0:
            shown = error_from_result(next(count for count in counts if count < 0))
            raise explained(engine, opcode, shown, name_of(opcode))
        return counts

    async def fsync(self, datasync: bool = False) -> None:
        """Writes what is buffered, then waits until the file is on storage. See fsync(2).

        Args:
            datasync: wait only for what reading the data back needs, as fdatasync(2) does.
        """
        await self.flush()
        await self._run(ops.fsync(self._file.fd, datasync=datasync))

    async def sync_range(self, offset: int, length: int = 0, *, flags: int | None = None) -> None:
        """Starts writing part of the file to storage, or with other ``flags`` waits for it. No substitute for
        `fsync`. See sync_file_range(2).

        Args:
            offset: the first byte of the part, from 0 on.
            length: the size of the part in bytes; 0: up to the end.
            flags: ``SYNC_FILE_RANGE_*`` of `uring.abi`, by default only ``SYNC_FILE_RANGE_WRITE``.
        """
        self._check_open()
        wanted = int(abi.SYNC_FILE_RANGE_WRITE) if flags is None else flags
        await self._run(ops.sync_file_range(self._file.fd, offset, length, sync_flags=wanted))

    async def allocate(self, offset: int, length: int, *, mode: int = 0) -> None:
        """Makes room for part of the file on storage. See fallocate(2).

        Args:
            offset: the first byte of the part, from 0 on.
            length: the size of the part in bytes, 1 or more.
            mode: 0, which may make the file longer, or ``FALLOC_FL_*`` flags.
        """
        self._check_open()
        await self._run(ops.fallocate(self._file.fd, mode, offset, length))

    async def advise(self, advice: int, offset: int = 0, length: int = 0) -> None:
        """Tells the kernel how part of the file will be used. See posix_fadvise(2).

        Args:
            advice: one of ``os.POSIX_FADV_*``.
            offset: the first byte of the part, from 0 on.
            length: the size of the part in bytes; 0: up to the end.
        """
        self._check_open()
        await self._run(ops.fadvise(self._file.fd, advice, offset=offset, length=length))

    async def stat(self) -> os.stat_result:
        """As `os.fstat`. See statx(2)."""
        self._check_open()
        here = await seams.attempt(self._file.manager, self._file.stat)
        if here is not None:
            return here
        found: os.stat_result = await self._run(stat_op(self._file.fd))
        return found

    async def _run(self, op: ops.Op) -> Any:
        """Any operation on the descriptor, which is not closed before it has ended."""
        return await self._file.perform(op)


def _fitting(places: list[Any], start: int) -> int:
    """How many of the places from ``start`` on one submission reads: one at least. With one that is no place,
    all that are left: the caller refuses them."""
    total = 0
    for i in range(start, len(places)):
        try:
            total += places[i][1]
        except (TypeError, LookupError):
            return len(places) - start
        if total > _VOLLEY_MOST and i > start:
            return i - start
    return len(places) - start


def _no_place() -> ValueError:
    return ValueError(f"a piece has 0 to {LENGTH_MAX} bytes and begins at 0 to {_OFFSET_MAX}")


def _offset(offset: Any) -> int:
    where = operator.index(offset)
    if not 0 <= where <= _OFFSET_MAX:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return where
