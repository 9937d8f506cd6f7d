"""Files without a buffer: each call is one transfer, as `io.FileIO` has it."""

# The standard library's file answers refused calls, and its answers have no type.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import operator
from typing import Any

from trio.lowlevel import enable_ki_protection

from uring.kernel.memory import pin, pin_writable

from .base import RingFile, exclusive
from .descriptor import READ, WRITE, Descriptor, joined

__all__ = ["RawFile", "lines_of"]


class RawFile(RingFile):
    """An unbuffered binary file, as `open_file` returns it; see `io.FileIO` for what its methods do and
    `RingFile` for the rest.
    """

    def __init__(self, file: Descriptor, wrapped: Any) -> None:
        super().__init__(file, wrapped)
        self._readable = bool(file.raw.readable())
        self._writable = bool(file.raw.writable())

    # ---- reading -------------------------------------------------------------------------------------

    @enable_ki_protection
    async def read(self, size: int | None = -1, /) -> bytes:
        """Reads up to ``size`` bytes, fewer if there are no more now.

        Args:
            size: how many bytes; negative or None: all up to the end.
        """
        file = self._file
        if file.closing or not self._readable:
            return await self._refuse_unbegun("read", size)
        try:
            n = -1 if size is None else operator.index(size)
        except TypeError:
            return await self._refuse_unbegun("read", size)
        if file.busy:
            await file.take_turn()
        file.busy = True
        file.begun = False
        try:
            if file.away or (file.waits and self._unable()):
                return await self._refuse_unbegun("read", size)
            self._check_open()
            return await file.piece(n) if n >= 0 else await self._readall()
        finally:
            file.end_turn()

    @exclusive
    async def readall(self) -> bytes:
        """All bytes up to the end."""
        if self._unable(self._readable):
            return await self._refuse("readall")
        return await self._readall()

    @enable_ki_protection
    async def readinto(self, buffer: Any, /) -> int:
        """Reads into a writable buffer; returns the number of bytes, 0 at the end.

        Args:
            buffer: a writable buffer.
        """
        file = self._file
        if file.closing or not self._readable:
            return await self._refuse_unbegun("readinto", buffer)
        await file.take_turn()
        try:
            if self._unable():
                return await self._refuse("readinto", buffer)
            address, size, held = pin_writable(buffer)
            return await file.step(READ, address, size, held)
        finally:
            file.end_turn()

    @exclusive
    async def readline(self, size: int | None = -1, /) -> bytes:
        """Reads one line with its end, or what is left. A read per byte, since there is no buffer.

        Args:
            size: at most so many bytes of the line; negative or None: all of it.
        """
        if self._unable(self._readable):
            return await self._refuse("readline", size)
        limit = -1 if size is None else operator.index(size)
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
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    # ---- writing -------------------------------------------------------------------------------------

    @enable_ki_protection
    async def write(self, data: Any, /) -> int:
        """Writes bytes; returns how many the kernel took.

        Args:
            data: a buffer of any kind, such as `bytes`.
        """
        file = self._file
        if file.closing or not self._writable:
            return await self._refuse_unbegun("write", data)
        await file.take_turn()
        try:
            if self._unable():
                return await self._refuse("write", data)
            address, size, held = pin(data)
            return await file.step(WRITE, address, size, (held, data))
        finally:
            file.end_turn()

    @exclusive
    async def writelines(self, lines: Any, /) -> None:
        """Writes each of the lines.

        Args:
            lines: buffers of any kind; no ends of lines are added.
        """
        if self._unable(self._writable):
            await self._refuse("writelines", lines)
            return
        for line in lines:
            address, size, held = pin(line)
            await self._file.step(WRITE, address, size, (held, line))

    # ---- position ------------------------------------------------------------------------------------

    @exclusive
    async def seek(self, offset: int, whence: int = 0, /) -> int:
        """Moves the position; returns the new one.

        Args:
            offset: where to, in bytes; it may be negative unless it counts from the start.
            whence: what ``offset`` counts from: 0 the start of the file, 1 the position, 2 the end
                (`os.SEEK_SET` and its like).
        """
        return int(self._file.raw.seek(offset, whence))

    @exclusive
    async def tell(self) -> int:
        """The position in bytes."""
        return int(self._file.raw.tell())

    # ---- inside --------------------------------------------------------------------------------------

    def _unable(self, able: bool = True) -> bool:
        return super()._unable(able) or bool(self._wrapped.closed)

    async def _readall(self) -> bytes:
        return joined(await self._file.read_left(b""))

    async def _readline(self, limit: int) -> bytes:
        line = b""
        while limit < 0 or len(line) < limit:
            piece = await self._file.piece(1)
            line += piece
            if not piece or piece == b"\n":
                break
        return line


async def lines_of(readline: Any, hint: int | None) -> list[Any]:
    """The lines that ``readline(-1)`` gives until they have more than ``hint`` characters together."""
    wanted = 0 if hint is None else operator.index(hint)
    lines = []
    total = 0
    while line := await readline(-1):
        lines.append(line)
        total += len(line)
        if 0 < wanted < total:
            break
    return lines
