"""The base of all files: sync attributes, turns of tasks, closing, and the stock counterpart.

Invariants
  - Every file has a counterpart, a file of the standard library on the same descriptor. It answers the calls
    that need no I/O, and raises the error of a call that this file does not support.
  - A buffered file is in one of two states. On the ring, its own buffers have the state, and the standard
    library's file owns nothing. Handed over, the standard library's file has the state and the descriptor
    (`BufferedFile._convey`), and the calls of this file are calls of that one, in threads, as in Trio. The
    first access to ``wrapped`` hands it over, a non-blocking descriptor does, and so does the finalizer
    of a file that was never closed: the standard library's then warns, writes and closes.
"""

from __future__ import annotations

import errno
import functools
import operator
import os
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

import outcome
import trio
from trio.lowlevel import enable_ki_protection

from uring import ops
from uring.errors import EXPLAINED, error_from_result

from .positional import Positional

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from typing import Self

    from .descriptor import Descriptor

__all__ = ["RingFile", "exclusive"]

_PLAIN = frozenset(
    (
        "buffer", "closefd", "encoding", "errors", "line_buffering", "mode", "name", "newlines", "raw",
    )
)  # fmt: skip
"""Attributes that a file has if the standard library's has them."""

P = ParamSpec("P")
T = TypeVar("T")
FileT = TypeVar("FileT", bound="RingFile")


def exclusive(
    fn: Callable[Concatenate[FileT, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[FileT, P], Coroutine[Any, Any, T]]:
    """A method that runs in its turn and is a checkpoint even if it needs no transfer."""

    @functools.wraps(fn)
    @enable_ki_protection
    async def method(self: FileT, *args: P.args, **kwargs: P.kwargs) -> T:
        file = self._file
        await file.take_turn()
        try:
            await file.rest()
            return await fn(self, *args, **kwargs)
        finally:
            file.end_turn()

    return cast("Callable[Concatenate[FileT, P], Coroutine[Any, Any, T]]", method)


class RingFile(Positional, trio.abc.AsyncResource):
    """An open file on the ring: the interface of the asynchronous files of `trio.open_file`.

    Methods have the names, arguments, results and exceptions of the standard library's file objects (`io`);
    those that may do I/O are async, and each of these is a checkpoint. In a ``for`` loop a line that is in
    memory already only looks for a cancellation; the loop yields each time the buffer is filled.

    A call on a regular file that is cancelled either has done nothing or ends first and returns what it did.
    A call on a file that can wait without end (a FIFO, a terminal) can be cancelled at any time.

    Methods from `pread` on are the ring's own: they have explicit offsets, bypass the buffers, and any number
    of them may be under way at once. ``flush`` before you mix them with buffered writes.
    """

    _writable: bool

    def __init__(self, file: Descriptor, wrapped: Any) -> None:
        self._file: Descriptor = file
        self._wrapped = wrapped

    # ---- what needs no I/O ---------------------------------------------------------------------------

    @property
    def wrapped(self) -> Any:
        """The standard library's file that Trio's file would be around, with all that this file has read
        ahead or not written yet.

        From the first access on, this file's methods call that file's in a thread, as on stock Trio. (The
        methods with offsets stay on the ring. An unbuffered file has nothing to hand over, and stays there
        too.)

        Raises:
            trio.BusyResourceError: on the first access, while a call of another task is under way.
            OSError: on the first access, what positioning the descriptor raises.
        """
        self._hand_over()
        return self._wrapped

    def _hand_over(self) -> None:
        """Moves the state of the file into the standard library's, once."""

    @property
    def closed(self) -> bool:
        """Whether the file was closed."""
        return bool(self._wrapped.closed) or self._file.closing

    def fileno(self) -> int:
        """The descriptor. Raises ValueError when the file is closed."""
        return int(self._wrapped.fileno())

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return bool(self._wrapped.isatty())

    def readable(self) -> bool:
        """Whether it was opened for reading."""
        return bool(self._wrapped.readable())

    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return bool(self._wrapped.writable())

    def seekable(self) -> bool:
        """Whether it has positions; a pipe has none."""
        return bool(self._wrapped.seekable())

    def __getattr__(self, name: str) -> Any:
        if name in _PLAIN:
            return getattr(self._wrapped, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __dir__(self) -> Iterable[str]:
        return {*super().__dir__(), *(name for name in _PLAIN if hasattr(self._wrapped, name))}

    def __repr__(self) -> str:
        return f"<uring_trio.{type(self).__name__} {self._wrapped!r}>"

    # ---- iterating, flushing and closing -------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    @exclusive
    async def flush(self) -> None:
        """Writes the buffer to the kernel. An unbuffered file has none."""
        if self._unable():
            await self._refuse("flush")
            return
        await self._flush()

    @exclusive
    async def truncate(self, size: int | None = None, /) -> int:
        """Makes the file shorter or longer; returns its new size.

        Args:
            size: the new size in bytes; None: up to the position.
        """
        if self._unable(self._writable):
            refused: int = await self._refuse("truncate", size)
            return refused
        return await self._truncate(size)

    async def aclose(self) -> None:
        """Writes what is buffered and closes the descriptor, also in a cancelled scope; a checkpoint.

        New calls are refused from now on, those under way come to their end first. Idempotent.
        """
        file = self._file
        with trio.CancelScope(shield=True):
            if not self.closed:
                file.interrupt()
                await file.take_turn()
                try:
                    await self._close()
                finally:
                    file.end_turn()
        await trio.lowlevel.checkpoint()

    async def _close(self) -> None:
        file = self._file
        if self.closed:
            return
        if file.handed:
            file.close()
            await file.drain()
            await trio.to_thread.run_sync(self._wrapped.close)
            return
        try:
            file.begun = False
            await self._flush()
        finally:
            file.close()
            try:
                await file.drain()
            finally:
                self._close_descriptor()

    async def _flush(self) -> None:
        """Writes what is buffered, in this call's turn."""

    def _close_descriptor(self) -> None:
        """Closes the descriptor."""
        self._wrapped.close()

    def _unable(self, able: bool = True) -> bool:
        """Whether a call is not for the ring: the file is closed or handed over, or was not opened for that.
        Asked in the call's turn."""
        file = self._file
        if file.waits and not file.away and file.nonblocking():
            self._take_to_threads()
        return not able or file.away

    def _take_to_threads(self) -> None:
        """Leaves the calls on a descriptor that does not block to the standard library's file."""
        self._file.hand()

    async def _refuse(self, name: str, *args: Any) -> Any:
        """Calls the standard library's file, for a call that is not for the ring: in a thread, as Trio does,
        if it has the state. Otherwise the call mostly raises."""
        file = self._file
        call = getattr(self._wrapped, name)
        if file.handed:
            # Trio's frames and an exception that went through them keep each other, and the file.
            answer = await trio.to_thread.run_sync(outcome.capture, call, *args)
            try:
                return answer.unwrap()
            finally:
                del answer
        if file.closing and not self._wrapped.closed:
            raise ValueError("I/O operation on closed file.")
        return call(*args)

    async def _refuse_unbegun(self, name: str, *args: Any) -> Any:
        """`_refuse` for a call that has not taken its turn: a cancellation comes first, as before the thread
        on stock Trio."""
        await trio.lowlevel.checkpoint()
        return await self._refuse(name, *args)

    def _check_open(self) -> None:
        if self._file.closing or self._wrapped.closed:
            raise ValueError("I/O operation on closed file.")

    async def _truncate(self, size: int | None) -> int:
        """Writes what is buffered, then `io.FileIO.truncate`, in this call's turn."""
        await self._flush()
        file = self._file
        where = file.raw.tell() if size is None else operator.index(size)
        if where < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        with trio.CancelScope(shield=file.begun):
            try:
                await self._run(ops.ftruncate(file.fd, where))
            except EXPLAINED:
                raise
            except OSError as exc:
                raise error_from_result(-(exc.errno or 0)) from None
        file.begun = True
        return where
