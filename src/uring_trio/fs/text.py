"""Text files, with the behaviour of `io.TextIOWrapper`: the calls of programs, in turns. `text_coding` says
what they do.
"""

# The standard library's file answers refused calls, and its answers have no type.
# mypy: disable-error-code="no-any-return"
from __future__ import annotations

import operator
import sys
from typing import TYPE_CHECKING

from trio.lowlevel import enable_ki_protection

from .. import seams
from .base import exclusive
from .raw import lines_of
from .text_coding import CodedFile

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

    from .buffered import BufferedFile

__all__ = ["TextFile"]


class TextFile(CodedFile):
    """A text file, as `open_file` returns it; see `io.TextIOWrapper` for what its methods do and `RingFile`
    for the rest.

    The methods with offsets (`RingFile.pread` and others) are about bytes.
    """

    @property
    def buffer(self) -> BinaryIO:
        """The binary file of the standard library's under `wrapped`."""
        buffer: BinaryIO = self.wrapped.buffer
        return buffer

    @property
    def newlines(self) -> str | tuple[str, ...] | None:
        """The newlines met so far, as `io.TextIOWrapper.newlines` tells them."""
        if not self._keeps:
            return self._wrapped.newlines
        return getattr(self._decoder, "newlines", None)

    # ---- reading -------------------------------------------------------------------------------------

    @exclusive
    async def read(self, size: int | None = -1, /) -> str:
        """Reads ``size`` characters, fewer only at the end.

        Args:
            size: how many characters; negative or None: all up to the end.
        """
        n = -1 if size is None else operator.index(size)
        if self._unable(self._decoder is not None) or n > sys.maxsize:
            return await self._refuse("read", size)
        await self._write_pending()
        return await self._read(n) if n >= 0 else await self._read_all()

    @exclusive
    async def readline(self, size: int | None = -1, /) -> str:
        """Reads one line with its end, or what is left.

        Args:
            size: at most so many characters of the line; negative or None: all of it.
        """
        limit = -1 if size is None else operator.index(size)
        if self._unable():
            return await self._refuse("readline", size)
        await self._write_pending()
        if self._decoder is None:
            return await self._refuse("readline", size)
        return await self._readline(limit)

    @exclusive
    async def readlines(self, hint: int | None = -1, /) -> list[str]:
        """Reads lines up to the end, or until they have ``hint`` characters together; then `tell` is refused
        until `flush` or `seek`, as in the standard library.

        Args:
            hint: stops after the line that reaches so many characters; not positive or None: reads all lines.
        """
        operator.index(hint or 0)
        self._telling = False
        if self._unable():
            return await self._refuse("readlines", hint)
        await self._write_pending()
        if self._decoder is None:
            return await self._refuse("readlines", hint)
        lines = await lines_of(self._readline, hint)
        self._telling = self._seekable and not self._decoded
        return lines

    async def __anext__(self) -> str:
        # A line in memory needs no yield, only a look for a cancellation.
        used = self._used
        text = self._decoded
        end = text.find("\n", used) + 1 if self._plain else self._line_end(text, used)
        file = self._file
        if end and not file.busy and not file.away and not self._pending and not seams.cancelled():
            self._used = end
            return text[used:end]
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    # ---- writing -------------------------------------------------------------------------------------

    @enable_ki_protection
    async def write(self, text: str, /) -> int:
        r"""Writes text into the buffer, and through it when it is full; returns the number of characters.

        Args:
            text: characters; each ``\n`` is written as the file's ``newline`` says.
        """
        if self._encoder is None or not isinstance(text, str):
            return await self._refuse_unbegun("write", text)
        file = self._file
        await file.take_turn()
        try:
            if file.away or (file.waits and self._unable()):
                return await self._refuse("write", text)
            await file.rest()
            if file.away:
                return await self._refuse("write", text)
            return await self._write(text)
        finally:
            file.end_turn()

    @exclusive
    async def writelines(self, lines: Iterable[str], /) -> None:
        """Writes each of the lines.

        Args:
            lines: texts; no ends of lines are added.
        """
        if self._unable(self._encoder is not None):
            await self._refuse("writelines", lines)
            return
        for line in lines:
            if not isinstance(line, str):
                await self._refuse("write", line)
                return
            await self._write(line)

    @exclusive
    async def truncate(self, size: int | None = None, /) -> int:
        """Makes the file shorter or longer; returns its new size in bytes.

        Args:
            size: the new size in bytes; None: up to the position.
        """
        if self._unable():
            return await self._refuse("truncate", size)
        await self._flush()
        if not self._buffer._writable:
            return await self._refuse("truncate", size)
        return await self._buffer._truncate(size)

    # ---- position ------------------------------------------------------------------------------------

    @exclusive
    async def tell(self) -> int:
        """The position: a number that `seek` understands, not to compute with."""
        if self._unable(self._seekable):
            return await self._refuse("tell")
        return await self._tell()

    @exclusive
    async def seek(self, cookie: int, whence: int = 0, /) -> int:
        """Moves to a position from `tell`, to the start or to the end; returns it.

        Args:
            cookie: a value that `tell` returned, or 0.
            whence: 0: ``cookie`` is a position; 1: stay (with ``cookie`` 0); 2: the end (with ``cookie`` 0).
        """
        whence = operator.index(whence)
        far = whence in (1, 2) and cookie != 0
        if self._unable() or not self._seekable or far or whence not in (0, 1, 2):
            return await self._refuse("seek", cookie, whence)
        if cookie < 0:
            raise ValueError(f"negative seek position {cookie!r}")
        return await self._seek(cookie, whence)

    @exclusive
    async def detach(self) -> BufferedFile:
        """Writes what is buffered and returns the binary file; this one is of no use any more."""
        if self._unable():
            buffer = await self._refuse("detach")
            self._buffer._wrapped = buffer
            return self._buffer
        await self._flush()
        self._wrapped.detach()
        self._keeps = False
        self._file = self._file.gone()
        self._buffer._keeps = True
        return self._buffer
