"""The decoder and the encoder of a text file, and the calls that use them in their turn.

Decoding is the standard library's: an incremental decoder of `codecs`, inside `io.IncrementalNewlineDecoder`
where newlines are recognised. Text that is decoded and not handed out is ``_decoded`` from ``_used`` on.

``_snapshot`` says how ``_decoded`` came about: the decoder's flags before, and the bytes that were decoded.
From these `TextFile.tell` computes the position, by making an `io.TextIOWrapper` over those bytes do the
same: so the cookies are the standard library's own.

Chunks have the standard library's size: where a write goes after a read depends on it, what is left to read
after `TextFile.detach`, and the kernel's position. The first chunk of a call costs no yield of its own if it
is in the page cache.
"""

from __future__ import annotations

import codecs
import io
from typing import TYPE_CHECKING, Any

import trio

from uring.kernel.memory import LENGTH_MAX

from .descriptor import PIECE, joined
from .stateful_file import StatefulFile
from .stdlib_file import decode_again, fill_text, marks_streams, show_newlines, skip_mark

if TYPE_CHECKING:
    from .buffered import BufferedFile

__all__ = ["CodedFile"]

_CHUNK = 8192

# Where a position keeps what it is made of: the decoder's start, its flags then, the bytes to feed it and the
# characters to skip from there on, and whether the bytes are final for it.
_POSITION = (1 << 64) - 1
_INT = (1 << 32) - 1
_FLAGS_AT, _FEED_AT, _SKIP_AT, _EOF_AT = 64, 96, 128, 160
_COOKIE_BYTES = 21


class CodedFile(StatefulFile):
    """The state of a text file; `TextFile` has the calls of programs."""

    def __init__(self, buffer: BufferedFile, wrapped: Any, newline: str | None) -> None:
        super().__init__(buffer._file, wrapped, buffer._stock)
        self._buffer = buffer
        buffer._keeps = False
        self._seekable = bool(wrapped.seekable())
        self._line_buffering = bool(wrapped.line_buffering)
        self._write_through = bool(wrapped.write_through)
        self._newline = newline
        self._end = newline or "\n"
        self._plain = newline in (None, "\n")
        info = codecs.lookup(wrapped.encoding)
        self._decoder: Any = None
        self._encoder: Any = None
        if buffer._readable:
            decoder = info.incrementaldecoder(wrapped.errors)
            self._decoder = decoder if newline else io.IncrementalNewlineDecoder(decoder, newline is None)
        if buffer._writable:
            self._encoder = info.incrementalencoder(wrapped.errors)
            if buffer._tell() != 0 if self._seekable else not marks_streams(wrapped.encoding):
                self._start_encoder(False)
        self._moved = False  # whether its coders are not as they were at first
        self._telling = self._seekable
        self._decoded = ""
        self._used = 0
        self._snapshot: tuple[int, bytes] | None = None
        self._ratio = 0.0
        self._pending: list[bytes] = []
        self._pending_size = 0
        self._keeps = True

    # ---- reading -----------------------------------------------------------------------------------

    def _forget_decoded(self) -> None:
        self._decoded = ""
        self._used = 0
        self._snapshot = None

    def _take(self, n: int) -> str:
        used = self._used
        text = self._decoded[used : used + n]
        self._used = used + len(text)
        return text

    async def _read_chunk(self, hint: int = 0) -> bool:
        """Decodes more; False when that was the end."""
        held, flags = self._decoder.getstate()
        size = max(_CHUNK, min(int(max(self._ratio, 1.0) * hint), LENGTH_MAX))
        data = await self._buffer._read1(size, size == _CHUNK and not self._file.begun)
        decoded: str = self._decoder.decode(data, not data)
        self._decoded = decoded
        self._used = 0
        self._ratio = len(data) / len(decoded) if decoded else 0.0
        self._snapshot = (flags, held + data)
        return bool(data) or bool(decoded)

    async def _read(self, n: int) -> str:
        text = self._take(n)
        if len(text) == n:
            return text
        pieces = [text]
        left = n - len(text)
        try:
            while left and await self._read_chunk(left):
                pieces.append(self._take(left))
                left -= len(pieces[-1])
        except (trio.Cancelled, KeyboardInterrupt):
            self._unread(pieces)
            raise
        return "".join(pieces)

    async def _read_all(self) -> str:
        pieces = await self._buffer._read_pieces()
        self._moved = True
        text = await self._decode_all(self._decoded[self._used :], pieces)
        self._forget_decoded()
        return text

    async def _decode_all(self, text: str, pieces: list[bytes]) -> str:
        """``text``, and behind it the end of a file, with a yield for each piece. They cannot be given back,
        so that nothing cancels this."""
        if sum(map(len, pieces)) <= PIECE:
            text += self._decoder.decode(joined(pieces), True)
            return text
        state, front = self._decoder.getstate(), len(text)
        try:
            for piece in pieces:
                # CPython extends a string that nothing else refers to. Joining them would copy all at once.
                text += self._decoder.decode(piece)
                await trio.lowlevel.cancel_shielded_checkpoint()
            text += self._decoder.decode(b"", True)
        except UnicodeError:
            # The standard library's message is about all of the bytes.
            self._decoder.setstate(state)
            text = text[:front] + self._decoder.decode(joined(pieces), True)
        while pieces:
            pieces.pop()
            await trio.lowlevel.cancel_shielded_checkpoint()
        return text

    def _unread(self, pieces: list[str]) -> None:
        """Puts back what a cancelled call has taken: on a regular file all of it was out of one chunk."""
        text = "".join(pieces)
        if self._decoded.endswith(text, 0, self._used):
            self._used -= len(text)
        else:
            self._decoded = text + self._decoded[self._used :]
            self._used = 0
            self._snapshot = None

    def _line_end(self, text: str, start: int) -> int:
        """The end of the line that begins at ``start``, 0 if it is not in this text."""
        if self._newline != "":
            found = text.find(self._end, start)
            return found + len(self._end) if found >= 0 else 0
        lf = text.find("\n", start)
        cr = text.find("\r", start, lf if lf >= 0 else len(text))
        return lf + 1 if cr < 0 else cr + 2 if lf == cr + 1 else cr + 1

    async def _readline(self, limit: int) -> str:
        pieces: list[str] = []
        length = 0
        rest = ""  # half of a line's end
        try:
            while True:
                while not self._decoded and await self._read_chunk():
                    pass
                if not self._decoded:
                    self._forget_decoded()
                    pieces.append(rest)
                    break
                text, start = (rest + self._decoded, 0) if rest else (self._decoded, self._used)
                end = self._line_end(text, start)
                stop = end or len(text) - (len(self._end) > 1 and text.endswith(self._end[0], start))
                done = end or (limit >= 0 and stop - start + length >= limit)
                if limit >= 0:
                    stop = min(stop, start + limit - length)
                pieces.append(text[start:stop])
                if done:
                    self._used = stop - len(rest)
                    break
                length += stop - start
                rest = text[stop:]
                self._decoded = ""
                self._used = 0
        except (trio.Cancelled, KeyboardInterrupt):
            if pieces or rest:
                self._decoded = "".join(pieces) + rest
                self._used = 0
                self._snapshot = None
            raise
        return pieces[0] if len(pieces) == 1 else "".join(pieces)

    # ---- writing -----------------------------------------------------------------------------------

    async def _write(self, text: str) -> int:
        self._moved = True
        lf = "\n" in text
        flush = self._line_buffering and (lf or "\r" in text)
        newline = self._newline
        data: bytes = self._encoder.encode(text.replace("\n", newline) if lf and newline else text)
        if self._pending_size + len(data) > _CHUNK:
            await self._write_pending()
        self._pending.append(data)
        self._pending_size += len(data)
        try:
            if self._pending_size >= _CHUNK or flush or self._write_through:
                await self._write_pending()
        except (trio.Cancelled, KeyboardInterrupt):
            self._pending_size -= len(self._pending.pop())
            raise
        if flush:
            await self._buffer._flush()
        if self._snapshot is not None:
            self._forget_decoded()
        if self._decoder is not None:
            self._decoder.reset()
        return len(text)

    async def _write_pending(self) -> None:
        if not self._pending:
            return
        pending, size = self._pending, self._pending_size
        self._pending, self._pending_size = [], 0
        try:
            await self._buffer._write(memoryview(b"".join(pending)))
        except (trio.Cancelled, KeyboardInterrupt):
            self._pending, self._pending_size = pending, size
            raise

    async def _flush(self) -> None:
        self._telling = self._seekable
        await self._write_pending()
        await self._buffer._flush()

    # ---- position ----------------------------------------------------------------------------------

    async def _tell(self) -> int:
        if not self._telling:
            raise OSError("telling position disabled by next() call")
        await self._flush()
        return self._place(self._buffer._tell())

    def _place(self, where: int) -> int:
        """The position when that of the bytes is ``where``."""
        if self._decoder is None or self._snapshot is None:
            return where
        flags, data = self._snapshot
        where -= len(data)
        if not self._used:
            return where | flags << _FLAGS_AT
        # At the start of a file a decoder expects a byte order mark, elsewhere it does not.
        lead = int(where > 0 or flags > 0)
        same: Any = io.TextIOWrapper(
            io.BytesIO(bytes(lead) + data), self._wrapped.encoding, self._wrapped.errors, self._newline
        )
        same._CHUNK_SIZE = max(len(data), 1)
        same.seek(lead | flags << _FLAGS_AT)
        if len(same.read(self._used)) < self._used:
            raise OSError("can't reconstruct logical file position")
        cookie: int = same.tell()
        return (cookie & ~_POSITION) | where + (cookie & _POSITION) - lead

    async def _seek(self, cookie: int, whence: int) -> int:
        self._moved = True
        if whence == 1:
            cookie = await self._tell()
        await self._flush()
        if whence == 2:
            self._forget_decoded()
            where = await self._buffer._seek(0, 2)
            if self._decoder is not None:
                self._decoder.reset()
            self._start_encoder(where == 0)
            return where
        place = int(cookie)  # of any number, as in the standard library
        place.to_bytes(_COOKIE_BYTES, "little")
        where = place & _POSITION
        where -= where >> 63 << 64  # a position is signed
        flags, feed, skip = (place >> at & _INT for at in (_FLAGS_AT, _FEED_AT, _SKIP_AT))
        await self._buffer._seek(where, 0)
        self._forget_decoded()
        if self._decoder is not None:
            if where == 0 and flags == 0:
                self._decoder.reset()
            else:
                self._decoder.setstate((b"", flags))
            self._snapshot = (flags, b"")
            if skip:
                data = await self._buffer._read(feed)
                self._snapshot = (flags, data)
                self._decoded = self._decoder.decode(data, bool(place >> _EOF_AT))
                if len(self._decoded) < skip:
                    raise OSError("can't restore logical file position")
                self._used = skip
        self._start_encoder(where == 0 and flags == 0)
        return cookie

    def _start_encoder(self, start: bool) -> None:
        """Makes the next write begin with a byte order mark, where the encoding has one, or not."""
        if self._encoder is not None:
            if start:
                self._encoder.reset()
            else:
                self._encoder.setstate(0)

    # ---- the standard library's file ---------------------------------------------------------------

    def _convey(self, *, final: bool) -> Any:
        buffer, stock = self._buffer, self._stock
        made = stock.make_again() if final else self._wrapped
        here, where = None, 0
        moved = self._moved or self._snapshot is not None
        snapshot, used = self._snapshot, self._used
        pending = b"".join(self._pending)
        if not final:
            if self._seekable:
                here = buffer._tell()
                where = self._place(here + len(pending))
            self._move_ahead(made)
        stock.own(made)
        self._keeps = False
        if final:
            self._wrapped.close()
        else:
            self._wrapped = made
            buffer._wrapped = made.buffer
        self._file.hand()
        self._forget_decoded()
        self._pending, self._pending_size = [], 0
        if final:
            buffer._move_rest(made.buffer, not pending)
        elif self._decoder is None or pending:
            if where:
                made.seek(where)  # so that its encoder writes no byte order mark
            buffer._move_rest(made.buffer, False, here)
        else:
            buffer._move_rest(made.buffer, False, here)
            if snapshot is not None and here is not None and buffer._writable:
                # Where a write goes after a read depends on how much was decoded.
                flags, data = snapshot
                made.seek(here - len(data) | flags << _FLAGS_AT)
                decode_again(made, len(data), used)
            elif self._seekable and moved:
                made.seek(where)
            return made
        if pending:
            # Not further than into the buffer: where the next read begins depends on it.
            made.buffer.write(pending)
            if self._seekable and self._decoder is not None and not final:
                made.write("")  # which resets its decoder
        return made

    def _move_ahead(self, made: Any) -> None:
        """Moves the part that needs no descriptor: bytes that cannot be read again, and the states of the
        decoder and the encoder."""
        buffer, stock = self._buffer, self._stock
        if self._decoder is not None:
            newlines = getattr(self._decoder, "newlines", None)
            if self._seekable:
                show_newlines(stock, made, newlines)
            else:
                ahead = bytes(buffer._block[buffer._pos : buffer._pos + buffer._ahead()])
                fill_text(stock, made, self._newline, buffer._size, self._origin(), ahead, newlines)
        elif not self._seekable and self._encoder.getstate() != self._new_encoder().getstate():
            skip_mark(stock, made)

    def _origin(self) -> tuple[int, bytes, int]:
        """How the decoder's state and the decoded text come about: its flags before, the bytes, and how many
        of their characters were consumed."""
        if self._snapshot is not None:
            return (*self._snapshot, self._used)
        held, flags = self._decoder.getstate()
        left = self._decoded[self._used :]
        if not left:
            return flags, held, 0
        # Text that a cancelled call gave back is of more than one chunk: the encoder makes its bytes.
        encoder = self._new_encoder()
        encoder.setstate(0)
        return flags, encoder.encode(left) + held, 0

    def _new_encoder(self) -> codecs.IncrementalEncoder:
        return codecs.getincrementalencoder(self._wrapped.encoding)(self._wrapped.errors)
