"""The standard library's file beside an asynchronous one: making it, giving it the descriptor, filling it.

It is created without ownership, so that it may be dropped at any time. When a program accesses it, or the
asynchronous file is dropped, it becomes the owner, in the state that it would have after the same reads and
writes.

``FileIO.__init__`` may be called again, and puts another descriptor under the buffers that are there. So the
state is made by the standard library itself: it reads what was read ahead out of a file in memory, and the
descriptor is put back.
"""

from __future__ import annotations

import codecs
import io
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "Stock",
    "buffered_of",
    "decode_again",
    "fill_buffer",
    "fill_text",
    "marks_streams",
    "raw_under",
    "show_newlines",
    "skip_mark",
]

_open: Any = open
_LEAD = 1
"""A position other than 0, where decoders expect no byte order mark."""
_FLAGS_AT = 64


class Stock:
    """The arguments of `open`, for a descriptor that is already open."""

    __slots__ = ("_arguments", "_mode", "_name", "closefd", "fd")

    def __init__(self, fd: int, name: Any, mode: str, arguments: tuple[Any, ...], closefd: bool) -> None:
        self.fd: int = fd
        self.closefd: bool = closefd
        self._name = name
        self._mode = mode
        self._arguments = arguments  # buffering, encoding, errors, newline

    def make(self) -> Any:
        """The file that `open` makes, but that it does not own the descriptor."""
        made = _open(self.fd, self._mode, *self._arguments, closefd=False)
        raw_under(made).name = self._name
        return made

    def own(self, made: Any) -> None:
        """Makes a file of `make` the owner of the descriptor.

        Raises:
            OSError: the descriptor was closed by other code.
        """
        with self._position_kept():
            self._put(made, self.fd, self.closefd)

    def make_again(self) -> Any:
        """`make`, for a file in use."""
        with self._position_kept():
            return self.make()

    @contextmanager
    def _position_kept(self) -> Iterator[None]:
        """Restores the position: making a file to append to moves it to the end."""
        where = os.lseek(self.fd, 0, os.SEEK_CUR) if "a" in self._mode and os.path.isfile(self.fd) else -1
        yield
        if where >= 0:
            os.lseek(self.fd, where, os.SEEK_SET)

    @contextmanager
    def over(self, made: Any, contents: bytes) -> Iterator[None]:
        """Puts a file in memory with these contents under a file of `make`, for a while."""
        fd = os.memfd_create("read ahead")
        try:
            os.write(fd, contents)
            self._put(made, fd, False)
            os.lseek(fd, 0, os.SEEK_SET)
            try:
                yield
            finally:
                self._put(made, self.fd, False)
        finally:
            os.close(fd)

    def _put(self, made: Any, fd: int, closefd: bool) -> None:
        raw = raw_under(made)
        raw.__init__(fd, raw.mode, closefd=closefd)
        raw.name = self._name


def buffered_of(made: Any) -> Any:
    """The buffered file of one that `Stock.make` has just made: out of a text file, which loses it."""
    return made.detach() if isinstance(made, io.TextIOWrapper) else made


def _buffered_under(made: Any) -> Any:
    """The buffered file of one that is text, or is it."""
    return made.buffer if isinstance(made, io.TextIOWrapper) else made


def raw_under(made: Any) -> Any:
    """The unbuffered file under one of any kind."""
    return made if isinstance(made, io.FileIO) else _buffered_under(made).raw


def fill_buffer(stock: Stock, buffered: Any, size: int, ahead: bytes) -> None:
    """Gives the buffer of a file that is not seekable what was read ahead."""
    buffered.__init__(buffered.raw, max(size, len(ahead)))
    with stock.over(buffered, ahead):
        buffered.peek(1)


def fill_text(
    stock: Stock,
    text: Any,
    newline: str | None,
    size: int,
    state: tuple[int, bytes, int],
    ahead: bytes,
    newlines: Any,
) -> None:
    """Gives a text file that is not seekable what was read ahead.

    ``state``: the decoder's flags, the bytes that it decoded last with these, and how many characters of what
    came of them were consumed. ``ahead``: bytes that were not decoded yet. ``newlines``: as `show_newlines`.
    """
    flags, data, used = state
    buffered = text.buffer
    expected = codecs.getincrementaldecoder(text.encoding)(text.errors).getstate()[1]
    if newline in (None, ""):
        expected <<= 1
    lead = b""
    if flags != expected:
        # The middle of a stream: only a file that is seekable can be put there, so it is made as one.
        lead = bytes(_LEAD)
    buffered.__init__(buffered.raw, max(size, len(lead) + len(data) + len(ahead)))
    with stock.over(text, lead + data + ahead):
        if lead:
            text.__init__(
                buffered, text.encoding, text.errors, newline, text.line_buffering, text.write_through
            )
    if lead or not expected:  # else this is the start, and no newline was met before
        show_newlines(stock, text, newlines)
    with stock.over(text, lead + data + ahead):
        if lead:
            text.seek(_LEAD | flags << _FLAGS_AT)
        buffered.peek(1)
        decode_again(text, len(data), used)


def decode_again(text: Any, size: int, used: int) -> None:
    """Makes a text file decode its next ``size`` bytes at once, and consume ``used`` characters of them."""
    if not size:
        return
    chunk, text._CHUNK_SIZE = text._CHUNK_SIZE, size
    text.readline(0)
    text.read(used)
    text._CHUNK_SIZE = chunk


def show_newlines(stock: Stock, text: Any, newlines: str | tuple[str, ...] | None) -> None:
    """Makes a text file read these kinds of newlines, which it remembers."""
    kinds = (newlines,) if isinstance(newlines, str) else newlines or ()
    if kinds:
        with stock.over(text, "".join(f"x{kind}x" for kind in kinds).encode(text.encoding)):
            text.read()


def skip_mark(stock: Stock, text: Any) -> None:
    """Makes the encoder of a text file write the byte order mark of the start of a file, which is
    discarded."""
    with stock.over(text, b""):
        text.write("")
        text.flush()


class _Stream(io.BytesIO):
    def seekable(self) -> bool:
        return False


def marks_streams(encoding: str) -> bool:
    """Whether the standard library begins a stream that is not seekable with this encoding's byte order mark:
    it does for some of those that have one."""
    stream = _Stream()
    text = io.TextIOWrapper(stream, encoding)
    text.write("")
    text.flush()
    return bool(stream.getvalue())
