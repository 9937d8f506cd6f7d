"""`open_file`: the standard library decides what the arguments mean, the ring opens the file.

`io.open` is asked twice. Before: with an opener that goes no further, so that wrong arguments are refused
as it refuses them and the flags are its own; what it answered for a mode is remembered. After: with an
opener that returns the descriptor, so that the file under ours (`RingFile.wrapped`) is just what `io.open`
would have made.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

import trio
from trio.lowlevel import enable_ki_protection

from .base import Descriptor, RingFile
from .buffered import BufferedFile
from .descriptors import open_descriptor
from .functions import absolute, renamed
from .raw import RawFile
from .text import TextFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import OpenBinaryMode, OpenTextMode

__all__ = ["FileOrName", "Opener", "file_of", "open_file"]

FileOrName: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes] | int"
Opener: TypeAlias = "Callable[[str, int], int]"

_PLAIN = (-1, None, None, None, True)
_open_stock: Any = open
_flags: dict[str, int] = {}


@overload
async def open_file(
    file: FileOrName,
    mode: OpenTextMode = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
) -> TextFile: ...


@overload
async def open_file(
    file: FileOrName,
    mode: OpenBinaryMode,
    buffering: Literal[0],
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
    opener: Opener | None = None,
) -> RawFile: ...


@overload
async def open_file(
    file: FileOrName,
    mode: OpenBinaryMode,
    buffering: Literal[-1, 1] = -1,
    encoding: None = None,
    errors: None = None,
    newline: None = None,
    closefd: bool = True,
    opener: Opener | None = None,
) -> BufferedFile: ...


@overload
async def open_file(
    file: FileOrName,
    mode: str,
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
) -> Any: ...


@enable_ki_protection
async def open_file(
    file: FileOrName,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Opener | None = None,
) -> Any:
    """Opens a file on the ring: `trio.open_file` without its threads.

    Arguments and exceptions are those of `open`; the result is a `RawFile`, `BufferedFile` or `TextFile`,
    an asynchronous context manager. An ``opener`` is called in this thread. A checkpoint; a file that was
    opened when the cancellation came is closed again, or handed out.

    Raises:
        OSError, ValueError, TypeError, LookupError: as `open`.
        RuntimeError: outside a ring run.
    """
    if opener is not None or isinstance(file, int):
        await trio.lowlevel.checkpoint()
        made = _open_stock(file, mode, buffering, encoding, errors, newline, closefd, opener)
        return file_of(made, newline)
    path = os.fspath(file)
    fd = await _open(path, _flags_of(path, mode, buffering, encoding, errors, newline, closefd))
    taken = False

    def take(path: Any, flags: int) -> int:
        nonlocal taken
        taken = True
        return fd

    try:
        made = _open_stock(path, mode, buffering, encoding, errors, newline, closefd, take)
    except BaseException:
        if not taken:
            os.close(fd)
        raise
    return file_of(made, newline)


def file_of(made: Any, newline: str | None = None) -> RingFile:
    """The asynchronous file on the descriptor of a fresh file of the standard library, which it owns from
    now on. ``newline`` as given to `open`."""
    try:
        if isinstance(made, io.FileIO):
            return RawFile(Descriptor(made), made)
        if not isinstance(made, io.TextIOWrapper):
            return BufferedFile(Descriptor(made.raw), made, _size_of(made))
        raw: Any = made.buffer.raw
        buffered = BufferedFile(Descriptor(raw), made.buffer, _size_of(made.buffer))
        return TextFile(buffered, made, newline)
    except BaseException:
        made.close()
        raise


async def _open(path: Any, flags: int) -> int:
    try:
        return await open_descriptor(absolute(path), flags)
    except OSError as exc:
        raise renamed(exc, path) from None


def _flags_of(path: Any, mode: str, *others: Any) -> int:
    """The flags that `open` opens the file with; raises what it raises for wrong arguments."""
    if others == _PLAIN and mode in _flags:
        return _flags[mode]
    found: list[int] = []

    def refuse(path: Any, flags: int) -> int:
        found.append(flags)
        raise _Enough

    try:
        _open_stock(path, mode, *others[:4], True, refuse).close()
    except _Enough:
        pass
    if others == _PLAIN:
        _flags[mode] = found[0]
    return found[0]


class _Enough(Exception):
    """Ends a call of `io.open` that has told what it would do."""


def _size_of(made: Any) -> int:
    """How large the buffer is that the standard library chose."""
    return int(made.__sizeof__()) - type(made).__basicsize__
