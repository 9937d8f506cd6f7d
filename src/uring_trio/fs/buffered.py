"""Buffered binary files, with the behaviour of `io.BufferedReader`, `io.BufferedWriter` and
`io.BufferedRandom`: the calls of programs, in turns. `block` says what they do.
"""

# The standard library's file answers refused calls, and its answers have no type.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import operator
import sys
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import enable_ki_protection

from uring.kernel.memory import pin_writable

from .. import seams
from .base import exclusive
from .block import BlockFile
from .raw import RawFile, lines_of

if TYPE_CHECKING:
    import io
    from collections.abc import Iterable

__all__ = ["BufferedFile"]


_OFFSETS = 1 << 63
"""Offsets are less than this, and its negative at least."""


class BufferedFile(BlockFile):
    """A buffered binary file, as `open_file` returns it; see `io.BufferedReader`, `io.BufferedWriter` and
    `io.BufferedRandom` for what its methods do and `RingFile` for the rest.
    """

    @property
    def raw(self) -> io.FileIO:
        """The unbuffered file of the standard library's under `wrapped`."""
        raw: io.FileIO = self.wrapped.raw
        return raw

    # ---- reading -------------------------------------------------------------------------------------

    @enable_ki_protection
    async def read(self, size: int | None = -1, /) -> bytes:
        """Reads ``size`` bytes, fewer only at the end.

        Args:
            size: how many bytes; -1 or None: all up to the end.
        """
        try:
            n = -1 if size is None else operator.index(size)
        except TypeError:
            return await self._refuse_unbegun("read", size)
        if not self._readable or not -1 <= n <= sys.maxsize:
            return await self._refuse_unbegun("read", size)
        file = self._file
        # A read that may first write moves the position, so that it looks for a cancellation before.
        if file.busy or self._writable:
            await file.take_turn()
        file.busy = True
        file.begun = False
        try:
            if file.away or (file.waits and self._unable()):
                return await self._refuse_unbegun("read", size)
            if n < 0:
                return await self._read_all()
            pos = self._pos
            if self._ahead() < n:
                return await self._read_generic(n)
            await file.rest()
            if file.away:
                return await self._refuse("read", size)
            pos = self._pos
            self._pos = pos + n
            return bytes(self._block[pos : pos + n])
        finally:
            file.busy = False
            if file.turns:
                file.turns.unpark()

    @exclusive
    async def read1(self, size: int = -1, /) -> bytes:
        """Reads up to ``size`` bytes with at most one transfer.

        Args:
            size: how many bytes; -1: as many as the buffer holds.
        """
        if self._unable(self._readable):
            return await self._refuse("read1", size)
        return await self._read1(operator.index(size))

    @enable_ki_protection
    async def readinto(self, buffer: Any, /) -> int:
        """Fills a writable buffer; returns the number of bytes, less than its size only at the end.

        Args:
            buffer: a writable buffer.
        """
        return await self._into("readinto", buffer, once=False)

    @enable_ki_protection
    async def readinto1(self, buffer: Any, /) -> int:
        """Reads into a writable buffer with at most one transfer; returns the number of bytes.

        Args:
            buffer: a writable buffer.
        """
        return await self._into("readinto1", buffer, once=True)

    @exclusive
    async def peek(self, size: int = 0, /) -> bytes:
        """The contents of the buffer, which is filled if it is empty; the position stays.

        Args:
            size: ignored, as by `io.BufferedReader.peek`; a number of bytes.
        """
        if self._unable(self._readable):
            return await self._refuse("peek", size)
        operator.index(size)
        if self._writable:
            await self._flush_and_rewind()
        if self._ahead() == 0:
            self._reset_read()
            await self._fill()
            self._pos = 0
        return bytes(self._block[self._pos : self._pos + self._ahead()])

    @exclusive
    async def readline(self, size: int | None = -1, /) -> bytes:
        """Reads one line with its end, or what is left.

        Args:
            size: at most so many bytes of the line; negative or None: all of it.
        """
        limit = -1 if size is None else operator.index(size)
        if self._unable(self._readable):
            return await self._refuse("readline", size)
        return await self._readline(limit)

    @exclusive
    async def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        """Reads lines up to the end, or until they have ``hint`` bytes together.

        Args:
            hint: stops after the line that reaches so many bytes; not positive or None: reads all lines.
        """
        if self._unable(self._readable):
            return await self._refuse("readlines", hint)
        return await lines_of(self._readline, hint)

    async def __anext__(self) -> bytes:
        pos = self._pos
        if not self._file.busy and self._read_end is not None and self._write_end is None:
            end = self._bytes.find(b"\n", pos, self._read_end) + 1
            if end and not self._file.away and not seams.cancelled():
                self._pos = end
                return bytes(self._block[pos:end])
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    # ---- writing -------------------------------------------------------------------------------------

    @enable_ki_protection
    async def write(self, data: Any, /) -> int:
        """Writes bytes into the buffer, and through it when it is full; returns their number.

        Args:
            data: a buffer of any kind, such as `bytes`.
        """
        if not self._writable:
            return await self._refuse_unbegun("write", data)
        file = self._file
        await file.take_turn()
        try:
            if file.away or (file.waits and self._unable()):
                return await self._refuse("write", data)
            with memoryview(data) as view:
                if not view.c_contiguous:
                    await self._refuse("write", data)
                with view.cast("B") as octets:
                    if self._fits(len(octets)):
                        await file.rest()
                        if file.away:
                            return await self._refuse("write", data)
                    return await self._write(octets)
        finally:
            file.end_turn()

    @exclusive
    async def writelines(self, lines: Iterable[Any], /) -> None:
        """Writes each of the lines.

        Args:
            lines: buffers of any kind; no ends of lines are added.
        """
        if self._unable(self._writable):
            await self._refuse("writelines", lines)
            return
        for line in lines:
            with memoryview(line) as view, view.cast("B") as octets:
                await self._write(octets)
                self._file.begun = True

    # ---- position ------------------------------------------------------------------------------------

    @exclusive
    async def seek(self, target: int, whence: int = 0, /) -> int:
        """Moves the position; returns the new one.

        Args:
            target: where to, in bytes; it may be negative unless it counts from the start.
            whence: what ``target`` counts from: 0 the start of the file, 1 the position, 2 the end
                (`os.SEEK_SET` and its like).
        """
        whence = operator.index(whence)
        if self._unable() or whence not in (0, 1, 2, 3, 4) or not self._wrapped.seekable():
            return await self._refuse("seek", target, whence)
        target = operator.index(target)
        if not -_OFFSETS <= target < _OFFSETS:
            return await self._refuse("seek", target, whence)
        return await self._seek(target, whence)

    @exclusive
    async def tell(self) -> int:
        """The position in bytes."""
        if self._unable() or not self._wrapped.seekable():
            return await self._refuse("tell")
        return self._tell()

    @exclusive
    async def detach(self) -> RawFile:
        """Writes what is buffered and returns the unbuffered file; this one is of no use any more."""
        if self._unable():
            return RawFile(self._file, await self._refuse("detach"))
        await self._flush()
        self._stock.own(self._wrapped)
        raw = RawFile(self._file, self._wrapped.detach())
        self._leave()
        return raw

    # ---- inside --------------------------------------------------------------------------------------

    async def _into(self, name: str, buffer: Any, *, once: bool) -> int:
        if not self._readable:
            return await self._refuse_unbegun(name, buffer)
        file = self._file
        await file.take_turn()
        try:
            if file.away or (file.waits and self._unable()):
                return await self._refuse(name, buffer)
            if memoryview(buffer).readonly:
                return await self._refuse(name, buffer)
            address, size, view = pin_writable(buffer)
            ahead = self._ahead()
            have = min(ahead, size)
            if have == size:
                await file.rest()
                if file.away:
                    return await self._refuse(name, buffer)
            view[:have] = self._block[self._pos : self._pos + have]
            self._pos += have
            if ahead and have == size:
                return have
            if self._writable:
                await self._flush_for_read(self._pos - have)
            try:
                return await self._into_rest(address, view, have, once)
            except (trio.Cancelled, KeyboardInterrupt):
                self._unread([bytes(view[:have])])
                raise
        finally:
            file.end_turn()
