"""The block of memory of a buffered binary file, and the calls that use it in their turn.

The block serves reading and writing. It caches a part of the file, and these fields tell which of its bytes
are valid. The model is the standard library's, because it decides what a program sees: the result of
``peek``, the kernel's position, the bytes that a failed write leaves behind.

  ``_pos``                     where the file's logical position is in the block
  ``_raw``                     where the kernel's position is in it; None: it is not in the block
  ``_read_end``                the end of the bytes that the block has of the file; None: it has none
  ``_write_pos``, ``_write_end``  the bytes that were written and are not in the file yet; None: there are
  none

Invariants
  - The block never moves: its address is asked for once.
  - Bytes that were consumed from a pipe before a call was cancelled go back into the block.
"""

from __future__ import annotations

import io
from typing import Any

import trio

from uring.kernel.memory import pin, pin_writable

from .descriptor import READ, WRITE, Descriptor, joined
from .stateful_file import StatefulFile
from .stdlib_file import Stock, buffered_of, fill_buffer, raw_under

__all__ = ["BlockFile"]


def _read1_flushes() -> bool:
    raw = io.BytesIO()
    file = io.BufferedRandom(raw)  # type: ignore[arg-type]
    file.write(b"x")
    file.read1(1)
    return raw.getvalue() == b"x"


_READ1_FLUSHES = _read1_flushes()
"""Whether this Python's ``read1``, by which text is read, writes what is buffered first; older ones do
not."""


def _full_goes_on() -> bool:
    raw = io.BytesIO()
    file = io.BufferedWriter(raw, 2)
    file.write(b"xx")
    return raw.getvalue() == b"xx"


_FULL_GOES_ON = _full_goes_on()
"""Whether this Python writes what would just fill the buffer at once; older ones keep it."""

_PIPE_PIECE = 8192
"""How much is asked for at a time where no size says how much there is."""


class BlockFile(StatefulFile):
    """The state of a buffered file; `BufferedFile` has the calls of programs."""

    def __init__(self, file: Descriptor, wrapped: Any, size: int, stock: Stock) -> None:
        super().__init__(file, wrapped, stock)
        self._keeps = True
        self._readable = bool(file.raw.readable())
        self._writable = bool(file.raw.writable())
        self._size = size
        self._set_block(bytearray(size))
        self._pos = 0
        self._raw: int | None = 0
        self._read_end: int | None = None
        self._write_pos = 0
        self._write_end: int | None = None
        self._flushing = False

    def _set_block(self, block: bytearray) -> None:
        self._address, self._room, self._block = pin_writable(block)
        self._bytes = block

    # ---- where things are --------------------------------------------------------------------------

    def _ahead(self) -> int:
        return 0 if self._read_end is None else self._read_end - self._pos

    def _lead(self) -> int:
        """How far the kernel's position is ahead of the logical one."""
        if self._raw is None or (self._read_end is None and self._write_end is None):
            return 0
        return self._raw - self._pos

    def _reset_read(self) -> None:
        self._read_end = None

    def _advance(self, pos: int) -> None:
        self._pos = pos
        if self._read_end is not None and self._read_end < pos:
            self._read_end = pos

    def _move(self, offset: int, whence: int) -> int:
        """Moves the kernel's position."""
        if offset or whence != 1:
            self._file.begun = True
        return int(self._file.raw.seek(offset, whence))

    def _tell(self) -> int:
        return int(self._file.raw.tell()) - self._lead()

    # ---- reading -----------------------------------------------------------------------------------

    async def _step(self, opcode: int, at: int, length: int) -> int:
        return await self._file.step(opcode, self._address + at, length, self._block)

    async def _fill(self) -> int:
        """Reads into the block, behind the bytes that it has; returns how many."""
        start = self._read_end or 0
        n = await self._step(READ, start, self._room - start)
        if n:
            self._read_end = self._raw = start + n
        return n

    def _take_ahead(self) -> list[bytes]:
        """The bytes that were read ahead, which are now consumed."""
        pos, have = self._pos, self._ahead()
        self._pos = pos + have
        return [bytes(self._block[pos : pos + have])] if have else []

    def _unread(self, pieces: list[bytes]) -> None:
        """Puts back what a cancelled call has consumed."""
        data = b"".join(pieces)
        block = bytearray(max(self._size, len(data)))
        block[: len(data)] = data
        self._set_block(block)
        self._pos = 0
        self._raw = self._read_end = len(data)

    async def _read(self, n: int) -> bytes:
        pos = self._pos
        if self._ahead() < n:
            return await self._read_generic(n)
        self._pos = pos + n
        return bytes(self._block[pos : pos + n])

    async def _read_generic(self, n: int) -> bytes:
        pos = self._pos
        pieces = self._take_ahead()
        left = n - len(pieces[0]) if pieces else n
        if self._writable:
            await self._flush_for_read(pos)
        try:
            self._reset_read()
            while whole := left - left % self._size:
                piece = await self._file.piece(whole)
                if whole == n == len(piece):
                    return piece
                if not piece:
                    return b"".join(pieces)
                pieces.append(piece)
                left -= len(piece)
            self._pos = self._raw = self._read_end = 0
            while left and self._read_end < self._room:
                got = min(left, await self._fill())
                if not got:
                    break
                pieces.append(bytes(self._block[self._pos : self._pos + got]))
                self._pos += got
                left -= got
        except (trio.Cancelled, KeyboardInterrupt):
            self._unread(pieces)
            raise
        return joined(pieces)

    async def _read_all(self) -> bytes:
        return joined(await self._read_pieces(whole=True))

    async def _read_pieces(self, *, whole: bool = False) -> list[bytes]:
        """All up to the end; see `Descriptor.read_left`."""
        pos = self._pos
        pieces = self._take_ahead()
        if self._writable:
            await self._flush_for_read(pos)
        file = self._file
        try:
            self._reset_read()
            if file.regular:
                return await file.read_left(b"".join(pieces), whole)
            while piece := await file.piece(_PIPE_PIECE):
                pieces.append(piece)
        except (trio.Cancelled, KeyboardInterrupt):
            self._unread(pieces)
            raise
        return pieces

    async def _read1(self, n: int, rested: bool = False) -> bytes:
        if n < 0:
            n = self._size
        if n == 0:
            return b""
        have = self._ahead()
        if have:
            pos = self._pos
            self._pos = end = pos + min(have, n)
            return bytes(self._block[pos:end])
        if self._writable and _READ1_FLUSHES:
            await self._flush_and_rewind()
        self._reset_read()
        return await self._file.piece(n, rested)

    async def _into_rest(self, address: int, view: memoryview, done: int, once: bool) -> int:
        size = len(view)
        self._reset_read()
        self._pos = 0
        while done < size:
            if size - done > self._size:
                n = await self._file.step(READ, address + done, size - done, view)
            elif once and done:
                break
            else:
                n = min(size - done, await self._fill())
                view[done : done + n] = self._block[self._pos : self._pos + n]
                self._pos += n
            done += n
            if not n or once:
                break
        return done

    async def _readline(self, limit: int) -> bytes:
        pos = self._pos
        n = self._ahead()
        if 0 <= limit < n:
            n = limit
        end = self._bytes.find(b"\n", pos, pos + n) + 1
        if end or n == limit:
            self._pos = end = end or pos + n
            return bytes(self._block[pos:end])
        pieces = [bytes(self._block[pos : pos + n])] if n else []
        self._pos = pos + n
        limit -= n if limit > 0 else 0
        if self._writable:
            await self._flush_for_read(pos)
        try:
            while True:
                self._reset_read()
                n = await self._fill()
                if not n:
                    break
                if 0 <= limit < n:
                    n = limit
                end = self._bytes.find(b"\n", 0, n) + 1
                self._pos = end or n
                pieces.append(bytes(self._block[: end or n]))
                if end or n == limit:
                    break
                limit -= n if limit > 0 else 0
        except (trio.Cancelled, KeyboardInterrupt):
            self._unread(pieces)
            raise
        return joined(pieces)

    # ---- writing -----------------------------------------------------------------------------------

    def _fits(self, n: int) -> bool:
        """Whether the block takes so many bytes without a transfer."""
        pos = 0 if self._read_end is None and self._write_end is None else self._pos
        return n <= self._size - pos and n < self._size

    async def _write(self, data: memoryview) -> int:
        length = len(data)
        if self._fits(length):
            self._file.begun = True
            if self._read_end is None and self._write_end is None:
                self._pos = self._raw = 0
            pos = self._pos
            self._block[pos : pos + length] = data
            if self._write_end is None or self._write_pos > pos:
                self._write_pos = pos
            self._advance(pos + length)
            if self._write_end is None or self._write_end < self._pos:
                self._write_end = self._pos
            return length
        if self._read_end is None and self._write_end is None:
            self._pos = self._raw = 0
        await self._flush_block()
        if lead := self._lead():
            self._move(-lead, 1)
            self._raw = self._pos
        written = 0
        most = self._size - _FULL_GOES_ON
        if length > most:
            address, _, held = pin(data)
            while length - written > most:
                written += await self._file.step(WRITE, address + written, length - written, held)
        self._reset_read()
        left = length - written
        self._block[:left] = data[written:]
        self._write_pos = 0
        self._write_end = left
        self._raw = 0
        self._advance(left)
        return length

    async def _flush(self) -> None:
        if self._writable:
            await self._flush_and_rewind()

    async def _flush_for_read(self, pos: int) -> None:
        """Writes before a call reads; ``pos`` is where the call began. Cancelled, it has consumed nothing:
        the bytes to be written stay in the block."""
        try:
            await self._flush_and_rewind()
        except (trio.Cancelled, KeyboardInterrupt):
            self._pos = pos
            raise

    async def _flush_and_rewind(self) -> None:
        await self._flush_block()
        if self._readable:
            # Even by nothing: if the descriptor is by now another's, which has no position, this is refused.
            self._move(-self._lead(), 1)
            self._reset_read()

    async def _flush_block(self) -> None:
        if self._write_end is not None and self._write_pos < self._write_end:
            back = self._lead() + self._pos - self._write_pos
            if back:
                self._move(-back, 1)
                self._raw = (self._raw or 0) - back
            while self._write_pos < self._write_end:
                self._flushing = True
                try:
                    done = await self._step(WRITE, self._write_pos, self._write_end - self._write_pos)
                except (Exception, trio.Cancelled, KeyboardInterrupt):
                    self._flushing = False
                    raise
                self._flushing = False
                self._write_pos += done
                self._raw = self._write_pos
        self._write_pos = 0
        self._write_end = None

    async def _seek(self, target: int, whence: int) -> int:
        if whence in (0, 1) and self._readable:
            here = int(self._file.raw.tell()) - self._lead()
            ahead = self._ahead()
            if ahead:
                offset = target - here if whence == 0 else target
                if -self._pos <= offset <= ahead:
                    self._pos += offset
                    return here + offset
        if self._writable:
            await self._flush_block()
        if whence == 1:
            target -= self._lead()
        found = self._move(target, whence)
        self._raw = None
        self._reset_read()
        return found

    # ---- the standard library's file ---------------------------------------------------------------

    def _convey(self, *, final: bool) -> Any:
        # The garbage collector, if it has this file, has that one too, and may close the descriptor first.
        made = buffered_of(self._stock.make_again()) if final else self._wrapped
        if not final:
            self._move_ahead(made)
        self._stock.own(made)
        self._keeps = False
        if final:
            self._wrapped.close()
        else:
            self._wrapped = made
        self._file.hand()
        self._move_rest(made, final)
        return made

    def _move_ahead(self, made: Any) -> None:
        """Moves the part that needs no descriptor: bytes that cannot be read again."""
        if self._readable and self._ahead() and not raw_under(made).seekable():
            end = self._pos + self._ahead()
            fill_buffer(self._stock, made, self._size, bytes(self._block[self._pos : end]))

    def _move_rest(self, made: Any, final: bool, here: int | None = None) -> None:
        """The position, and what is to be written. ``here``: the logical position, if the kernel's is not
        what it was."""
        pending = b""
        where = start = self._pos
        if self._flushing and self._write_end is not None:  # the run ended in the middle of a flush
            self._write_pos += self._file.landed(self._write_end - self._write_pos)
            self._raw = self._write_pos
        if self._write_end is not None:
            pending = bytes(self._block[self._write_pos : self._write_end])
            start = self._write_pos if pending else where
        lead = self._lead()
        self._read_end = self._write_end = None
        self._write_pos = 0
        if final and not pending:
            return
        seekable = made.raw.seekable()
        if seekable:
            if here is None:
                here = self._file.position() - lead
            made.__init__(made.raw, self._size)
            made.seek(here - (where - start))
        if pending:
            made.write(pending)
        if seekable and where != start + len(pending):
            made.seek(here)

    def _leave(self) -> None:
        """The descriptor belongs to another object from now on."""
        self._keeps = False
        self._file = self._file.gone()
