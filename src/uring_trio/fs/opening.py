"""`open_file`: the standard library interprets the arguments, the ring opens the file.

`io.open` is called twice. The first call has an opener that stops it, so that wrong arguments raise its
errors and the flags are its flags; the result for a mode is cached. The second call is on the descriptor, and
makes the file that `io.open` would have made (see `stdlib_file`).
"""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

import trio
from trio.lowlevel import enable_ki_protection

from .buffered import BufferedFile
from .descriptor import Descriptor
from .filenames import absolute, open_named
from .raw import RawFile
from .stdlib_file import Stock, raw_under
from .text import TextFile

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed import OpenBinaryMode, OpenTextMode

    from .base import RingFile

__all__ = ["FileOrName", "Opener", "open_file"]

FileOrName: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes] | int"
Opener: TypeAlias = "Callable[[str, int], int]"

_PLAIN = (-1, None, None, None, True)
_open_stock: Any = open
_flags: dict[str, tuple[int, str]] = {}
"""For a mode, without further arguments: the flags, and the mode in the auditing event."""


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
    r"""Opens a file on the ring: `trio.open_file` without its threads.

    The result is a `RawFile`, `BufferedFile` or `TextFile`, an asynchronous context manager. A checkpoint; a
    file that was opened when the cancellation came is closed again, or handed out.

    Args:
        file: a path, or a descriptor.
        mode: ``"r"``, ``"wb"`` and their like.
        buffering: 0 none, 1 by lines, larger a size in bytes, -1 the usual size.
        encoding: by default UTF-8 or the locale's, as for `open`.
        errors: what to do about text that does not fit the encoding, ``"strict"`` by default.
        newline: how ends of lines are translated, by default all of them to ``\n``.
        closefd: whether closing the file closes a descriptor that was given.
        opener: called in this thread with the path and flags; returns the descriptor.

    Raises:
        OSError, ValueError, TypeError, LookupError: as `open`.
        RuntimeError: outside a ring run.
    """
    if isinstance(file, int):
        await trio.lowlevel.checkpoint()
        return _file_on(file, file, closefd, mode, buffering, encoding, errors, newline)
    await trio.lowlevel.checkpoint_if_cancelled()
    path = os.fspath(file)
    flags = _flags_of(path, mode, buffering, encoding, errors, newline, closefd)
    if opener is None:
        fd = await open_named(absolute(path), path, flags)
    else:
        await trio.lowlevel.checkpoint()
        fd = _ask(opener, path, flags)
    if buffering == 1 and "b" in mode:
        buffering = -1  # as `io.open` takes it, which has warned
    try:
        return _file_on(fd, path, True, mode, buffering, encoding, errors, newline)
    except OSError as exc:
        os.close(fd)
        if exc.filename == fd:
            exc.filename = path
        raise
    except BaseException:
        os.close(fd)
        raise


def _file_on(fd: int, name: Any, closefd: bool, mode: str, *others: Any) -> RingFile:
    """The asynchronous file on a descriptor, which it owns from now on unless ``closefd`` is false."""
    stock = Stock(fd, name, mode, others, bool(closefd))
    try:
        made = stock.make()
    except Exception:
        if not (closefd and fd is name):
            raise
        made = None
    if made is None:  # again, not in the handler: the error has no context
        _open_stock(fd, mode, *others).close()  # closes the descriptor as `open` would
        made = stock.make()
    file = Descriptor(raw_under(made))
    if isinstance(made, io.FileIO):
        stock.own(made)
        return RawFile(file, made)
    text = made if isinstance(made, io.TextIOWrapper) else None
    buffer: Any = made if text is None else text.buffer
    buffered = BufferedFile(file, buffer, _size_of(buffer), stock)
    return buffered if text is None else TextFile(buffered, text, others[-1])


def _ask(opener: Opener, path: Any, flags: int) -> int:
    """The result of an opener, checked as the standard library does."""
    fd = opener(path, flags)
    if not isinstance(fd, int):
        raise TypeError("expected integer from opener")
    if fd < 0:
        raise ValueError(f"opener returned {fd}")
    os.set_inheritable(fd, False)
    return fd


def _flags_of(path: Any, mode: str, *others: Any) -> int:
    """The flags that `open` opens the file with; raises what it raises for wrong arguments, and its auditing
    event."""
    if others == _PLAIN and mode in _flags:
        flags, kind = _flags[mode]
        sys.audit("open", path, kind, flags)
        return flags
    found: list[int] = []

    def refuse(path: Any, flags: int) -> int:
        found.append(flags)
        raise _Enough

    try:
        _open_stock(path, mode, *others, refuse).close()
    except _Enough:
        pass
    if others == _PLAIN:
        _flags[mode] = found[0], "".join(letter for letter in "xrwa+" if letter in mode)
    return found[0]


class _Enough(Exception):
    """Ends a call of `io.open` once its flags are known."""


def _size_of(made: Any) -> int:
    """How large the buffer is that the standard library chose."""
    return int(made.__sizeof__()) - type(made).__basicsize__
