"""What the files of every kind share: the descriptor, taking turns, closing, and what only a ring gives.

Invariants
  - Under every file there is a file of the standard library on the same descriptor (``wrapped``). It owns the
    descriptor, answers what needs no I/O, and says the error for what this file cannot do; its own buffers
    stay empty, since all reading and writing is done here.
  - The kernel keeps the position, as it does for the standard library: reads and writes without an offset
    move it, and a descriptor that is shared with others agrees with them.
  - Calls that use the position or a buffer take turns, so that tasks may share a file.
  - On a regular file a call cannot be torn: the first transfer of a call may be cancelled while the kernel
    has not begun it; once something was done the call goes on to its end.
  - The descriptor is closed when nothing is in flight on it.
  - A read is tried at once, without the ring, out of the page cache (`uring.cached`). It is a checkpoint all
    the same, and no different otherwise: what would have to wait goes through the ring.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import operator
import os
import stat
from array import array
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

import trio
from trio.lowlevel import ParkingLot, enable_ki_protection

from uring import abi, ops
from uring.cached import PART, read_cached, read_piece, read_pieces, stat_is_local
from uring.errors import NoWorker, error_from_result, explain_cancelled
from uring.kernel.memory import bytes_address, new_bytes, pin, pin_writable

from .. import seams
from ..core.manager import current
from ..core.perform import perform, run_volley
from .functions import stat_op
from .registered import RegisteredBuffer

if TYPE_CHECKING:
    import io
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
    from types import TracebackType
    from typing import Self

    from ..core.operation import Operation

__all__ = ["CURRENT", "LENGTH_MAX", "Descriptor", "RingFile", "exclusive"]

CURRENT = (1 << 64) - 1
"""The offset that stands for the file's own position."""

LENGTH_MAX = 0x7FFF_F000
PAGE = 4096
READ = int(abi.IORING_OP_READ)
WRITE = int(abi.IORING_OP_WRITE)
_OFFSET_MAX = (1 << 63) - 1
_INTERRUPTED = frozenset((-errno.EINTR, -512, -513, -514, -516))
_CANCELLED = -errno.ECANCELED
_SMALL = 16384
"""Up to here a piece is made in one call. If not all of it is in memory, what was there is read again."""
_MANY_MAX = 1 << 20
"""So many bytes are read in one call that holds the run's thread."""

_PLAIN = frozenset(
    (
        "buffer", "closefd", "encoding", "errors", "line_buffering", "mode", "name", "newlines", "raw",
    )
)  # fmt: skip
"""Attributes that a file has if the standard library's has them."""

P = ParamSpec("P")
T = TypeVar("T")
FileT = TypeVar("FileT", bound="RingFile")


class Descriptor:
    """An open descriptor, what is in flight on it and whose turn it is.

    ``begun`` says that the call whose turn it is has done something, so that it must not be cancelled any
    more; ``users`` counts the calls under way that wait for no turn.
    """

    __slots__ = (
        "active", "begun", "busy", "cached", "closing", "fd", "idle", "manager", "raw", "regular", "turns",
        "users",
    )  # fmt: skip

    def __init__(self, raw: io.FileIO) -> None:
        self.raw: io.FileIO = raw
        self.fd: int = raw.fileno()
        mode = os.fstat(self.fd).st_mode
        self.regular: bool = stat.S_ISREG(mode) or stat.S_ISBLK(mode)
        # With O_DIRECT a read waits for the device, whatever it is told.
        self.cached: bool = self.regular and not fcntl.fcntl(self.fd, fcntl.F_GETFL) & os.O_DIRECT
        self.manager: Any = seams.manager_here()
        self.active: set[Operation] = set()
        self.busy: bool = False
        self.begun: bool = False
        self.closing: bool = False
        self.users: int = 0
        self.turns: ParkingLot = ParkingLot()
        self.idle: ParkingLot = ParkingLot()

    async def take_turn(self) -> None:
        """Waits until no other call is under way. A task that is cancelled here has done nothing."""
        while self.busy:
            await self.turns.park()
        if seams.cancelled():
            self.end_turn()  # the turn that came with the wake-up goes to the next
            await trio.lowlevel.checkpoint_if_cancelled()
        self.busy = True
        self.begun = False

    def end_turn(self) -> None:
        self.busy = False
        if self.turns:
            self.turns.unpark()

    def transfer(
        self, opcode: int, address: int, length: int, offset: int, pins: object, shielded: bool = False
    ) -> Awaitable[int]:
        """One read or write; the kernel's answer, an errno negated among them. Interrupted by close it
        raises `trio.ClosedResourceError`."""
        return seams.transfer(
            self.active, name_of(opcode), opcode, self.fd, offset, address, length, pins, shielded
        )

    async def step(self, opcode: int, address: int, length: int, pins: object) -> int:
        """One transfer at the file's position, as part of the call whose turn it is; repeated when a signal
        interrupted it.

        Raises:
            OSError: the kernel's, with errno and text alone, as the standard library raises it.
        """
        length = min(length, LENGTH_MAX)
        found = None
        if opcode == READ:
            found = await seams.attempt(self.manager, self.find_into, address, length, CURRENT)
            if found == length:
                self.begun = True
                return found
        return await self._go_on(found, opcode, address, length, pins)

    async def piece(self, n: int) -> bytes:
        """Up to ``n`` bytes from the file's position on; a `step`."""
        if n <= 1:
            memory = bytearray(n)
            return bytes(memory[: await self.step(READ, pin_writable(memory)[0], n, memory)])
        data = new_bytes(n)
        address = bytes_address(data)
        length = min(n, LENGTH_MAX)
        found = await seams.attempt(self.manager, self.find_into, address, length, CURRENT)
        if found == n:
            self.begun = True
            return data
        return data[: await self._go_on(found, READ, address, length, data)]

    async def _go_on(self, found: int | None, opcode: int, address: int, length: int, pins: object) -> int:
        """The step after what `find_into` found."""
        done = 0
        if found is not None:
            self.begun = True
            if found >= 0:
                return found
            done = -PART - found
            address += done
            length -= done
        before = self.position() if opcode == WRITE and self.regular else 0
        while True:
            shielded = self.begun and self.regular
            res = await self.transfer(opcode, address, length, CURRENT, pins, shielded)
            if res >= 0:
                self.begun = True
                if 0 < res < length and self.regular:
                    await self._mend_position(opcode, before, res)
                return done + res
            if res not in _INTERRUPTED:
                if done:
                    return done
                raise explain_cancelled(error_from_result(res), name_of(opcode))

    async def _mend_position(self, opcode: int, before: int, done: int) -> None:
        """Moves the position behind a transfer of a regular file that came short.

        What ends in an error after some bytes has their number as its result, and Linux 6.18 leaves the
        position where it was, for reads only if no kernel worker did them: the next write would go over
        these bytes, and a loop of reads would never end. A system call moves it, and so does a read that met
        the end of the file.
        """
        if opcode == WRITE:
            appends = fcntl.fcntl(self.fd, fcntl.F_GETFL) & os.O_APPEND
            self.raw.seek(*((0, os.SEEK_END) if appends else (before + done, os.SEEK_SET)))
            return
        here = self.position()
        there = os.fstat(self.fd)
        if here >= there.st_size and not stat.S_ISBLK(there.st_mode):
            return
        # There is more, or an error: which is met again where it was met, right behind these bytes.
        memory = bytearray(1)
        address = pin_writable(memory)[0]
        if (
            await self.transfer(READ, address, 1, here, memory, shielded=True) >= 0
            and await self.transfer(READ, address, 1, here + done, memory, shielded=True) < 0
        ):
            self.raw.seek(here + done)

    async def at(
        self, opcode: int, address: int, length: int, offset: int, pins: object, begun: bool = False
    ) -> int:
        """One transfer at an offset, outside any turn; ``begun``: of a call that has done something."""
        self.check_seekable()
        self.users += 1
        length = min(length, LENGTH_MAX)
        done = 0
        try:
            if opcode == READ:
                got = await seams.attempt(self.manager, self.find_into, address, length, offset)
                if got is not None:
                    if got >= 0:
                        return got
                    done = -PART - got
                    begun = True
            shielded = begun and self.regular
            while True:
                res = await self.transfer(
                    opcode, address + done, length - done, offset + done, pins, shielded
                )
                if res >= 0:
                    return done + res
                if res not in _INTERRUPTED:
                    if done:
                        return done
                    raise explain_cancelled(error_from_result(res), name_of(opcode))
        finally:
            self.let_go()

    def find_into(self, address: int, length: int, offset: int) -> int | None:
        """Reads what is in the page cache: what `read_cached` answers when it got something, else None."""
        if not self.cached:
            return None
        res = read_cached(self.fd, offset, address, length)
        return res if res >= 0 or res < -PART else None

    def position(self) -> int:
        """The kernel's position. Not by ``raw``, which learns from its first ``tell`` whether it is seekable:
        the standard library's file would not ask here."""
        return os.lseek(self.fd, 0, os.SEEK_CUR)

    def stat(self) -> os.stat_result | None:
        """As `os.fstat`; None if it would have to be waited for."""
        return os.fstat(self.fd) if self.regular and stat_is_local(self.fd) else None

    async def perform(self, op: ops.Op) -> Any:
        """Any operation on the descriptor, which is not closed before it has ended."""
        self.users += 1
        try:
            return await perform(op)
        finally:
            self.let_go()

    def check_seekable(self) -> None:
        """Raises what pread(2) says to a pipe, of which the ring's read takes the next bytes, whatever the
        offset."""
        if not self.regular and not self.raw.seekable():
            raise error_from_result(-errno.ESPIPE)

    def let_go(self) -> None:
        """The end of what began with one more in ``users``."""
        self.users -= 1
        if not self.users:
            self.idle.unpark_all()

    def interrupt(self) -> None:
        """Ends the transfers in flight that might wait for ever."""
        for op in () if self.regular else self.active:
            if op.close():
                op.retired = op.pooled
                op.manager.cancels.cancel(op)

    async def drain(self) -> None:
        """Waits until nothing is in flight. Ctrl-C is raised after that; a second one at once."""
        self.interrupt()
        pressed: KeyboardInterrupt | None = None
        while self.users:
            try:
                await self.idle.park()
            except KeyboardInterrupt as exc:
                if pressed is not None:
                    raise
                pressed = exc
        if pressed is not None:
            raise pressed


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
            await seams.pause()
            return await fn(self, *args, **kwargs)
        finally:
            file.end_turn()

    return cast("Callable[Concatenate[FileT, P], Coroutine[Any, Any, T]]", method)


class RingFile(trio.abc.AsyncResource):
    """An open file on the ring: the interface of the asynchronous files of `trio.open_file`.

    Methods have the names, arguments, results and exceptions of the standard library's file objects (`io`);
    those that may do I/O are async, and each of these is a checkpoint. In a ``for`` loop a line that is in
    memory already only looks for a cancellation; the loop yields each time the buffer is filled.

    A call on a regular file that is cancelled either has done nothing or ends first and returns what it did.
    On what can wait for ever (a FIFO, a terminal) calls can be cancelled at any time.

    Methods from `pread` on are the ring's own: they have explicit offsets, bypass the buffers, and any number
    of them may be under way at once. ``flush`` before you mix them with buffered writes.
    """

    def __init__(self, file: Descriptor, wrapped: Any) -> None:
        self._file = file
        self._wrapped = wrapped

    # ---- what needs no I/O ---------------------------------------------------------------------------

    @property
    def wrapped(self) -> Any:
        """The standard library's file on the same descriptor. Reading or writing it blocks, and neither of
        the two knows what is in the other's buffer."""
        return self._wrapped

    @property
    def closed(self) -> bool:
        """Whether the file was closed."""
        return self._file.closing or bool(self._wrapped.closed)

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

    # ---- iterating and closing -----------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

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
        try:
            file.begun = False
            await self._flush()
        finally:
            file.closing = True
            try:
                await file.drain()
            finally:
                self._wrapped.close()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _flush(self) -> None:
        """Writes what is buffered, in this call's turn."""

    def _unable(self, able: bool = True) -> bool:
        """Whether a call is to be refused: the file is closed, or was not opened for that."""
        return not able or self._file.closing or bool(self._wrapped.closed)

    def _refuse(self, name: str, *args: Any) -> Any:
        """What the standard library's file says to a call that cannot be done, mostly an exception."""
        if self._file.closing and not self._wrapped.closed:
            raise ValueError("I/O operation on closed file.")
        return getattr(self._wrapped, name)(*args)

    def _check_open(self) -> None:
        if self._file.closing or self._wrapped.closed:
            raise ValueError("I/O operation on closed file.")

    # ---- what only a ring gives ----------------------------------------------------------------------

    @enable_ki_protection
    async def pread(self, n: int, offset: int, /) -> bytes:
        """Up to ``n`` bytes from ``offset`` on, fewer only at the end of the file. See pread(2)."""
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
        data = new_bytes(n)
        address = bytes_address(data)
        res = await file.at(READ, address, n, offset, data)
        if res == n:
            return data
        return data[: res + await self._fully(READ, address + res, n - res, offset + res, data)]

    async def _read_few(self, n: int, offset: int) -> bytes:
        """`pread` of one byte or none, since a bytes object of one byte is shared by all who have the same
        one; and of more than one transfer has."""
        if n < 0:
            raise ValueError(f"n is 0 or more, not {n}")
        if n > LENGTH_MAX:  # memory that nothing touches before there is something for it
            data = new_bytes(n)
            return data[: await self._fully(READ, bytes_address(data), n, offset, data)]
        memory = bytearray(n)
        return bytes(memory[: await self.readinto_at(memory, offset)])

    @enable_ki_protection
    async def readinto_at(self, buffer: Any, offset: int, /) -> int:
        """Fills a writable buffer from ``offset`` on; returns the number of bytes, less than its size only at
        the end of the file. A `RegisteredBuffer` is cheaper for large pieces."""
        self._check_open()
        if type(buffer) is RegisteredBuffer:
            return await buffer.transfer(self._file, READ, _offset(offset))
        address, size, held = pin_writable(buffer)
        return await self._fully(READ, address, size, _offset(offset), held)

    @enable_ki_protection
    async def pwrite(self, data: Any, offset: int, /) -> int:
        """Writes all of ``data``, which may be a `RegisteredBuffer`, at ``offset``; returns its size. See
        pwrite(2), also for files opened with ``"a"``, where Linux appends."""
        self._check_open()
        if type(data) is RegisteredBuffer:
            return await data.transfer(self._file, WRITE, _offset(offset))
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
        they hold. ``flags`` are ``RWF_*``. See preadv2(2)."""
        self._check_open()
        self._file.check_seekable()
        op = ops.readv(self._file.fd, buffers, offset=_offset(offset), rw_flags=flags)
        return int(await self._run(op))

    async def pwritev(self, buffers: Sequence[Any], offset: int, /, flags: int = 0) -> int:
        """Writes buffers one after the other; returns the number of bytes, which may be less than they hold.
        ``flags`` are ``RWF_*``. See pwritev2(2)."""
        self._check_open()
        self._file.check_seekable()
        op = ops.writev(self._file.fd, buffers, offset=_offset(offset), rw_flags=flags)
        return int(await self._run(op))

    @enable_ki_protection
    async def read_many(self, places: Iterable[tuple[int, int]], /) -> list[bytes]:
        """Reads many pieces, each ``(offset, n)``, with one submission and one wake-up.

        Each result is as of `pread`. Cancelled before the kernel has begun, none is read.

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
            found = await seams.attempt(file.manager, read_pieces, file.fd, places, _MANY_MAX) or []
            if len(found) == len(places):
                return found
        return found + await self._read_rest(places[len(found) :])

    async def _read_rest(self, places: list[tuple[int, int]]) -> list[bytes]:
        """`read_many` by the ring."""
        try:
            offsets, sizes = (array("Q", numbers) for numbers in zip(*places, strict=True))
        except OverflowError:
            raise _no_place() from None
        if max(sizes) > LENGTH_MAX or max(offsets) > _OFFSET_MAX:
            raise _no_place()
        # Of less than two bytes there are no objects of their own.
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
        """The rest of a piece that came short, which the end of the file explains or not."""
        return got if len(got) in (0, n) else got + await self.pread(n - len(got), offset + len(got))

    @enable_ki_protection
    async def write_many(self, pieces: Iterable[tuple[int, Any]], /) -> int:
        """Writes many pieces, each ``(offset, data)``, with one submission and one wake-up; returns the
        number of bytes written, which is all of them.

        They may reach the file in any order. Cancelled before the kernel has begun none is written; pieces
        that it has begun are finished before ``Cancelled`` is raised, and when all were, it is not.

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
        manager = current()
        volley = manager.volley(manager.ring, len(numbers) // 3)
        volley.fill(opcode, self._file.fd, numbers)
        self._file.users += 1
        try:
            counts, interrupt = await run_volley(volley, name_of(opcode), (pins, numbers))
        finally:
            self._file.let_go()
        if interrupt is not None and not (_INTERRUPTED | {_CANCELLED}).isdisjoint(counts):
            interrupt()
        for i, count in enumerate(counts):
            if count in _INTERRUPTED:
                # The process was stopped by a signal meanwhile: as a single transfer this one begins anew.
                offset, address, length = numbers[3 * i : 3 * i + 3]
                counts[i] = await self._file.at(opcode, address, length, offset, pins, begun=True)
        if min(counts) < 0:
            shown = error_from_result(next(count for count in counts if count < 0))
            raise explain_cancelled(shown, name_of(opcode))
        return counts

    async def fsync(self, datasync: bool = False) -> None:
        """Writes what is buffered, then waits until the file is on storage; with ``datasync`` only what
        reading it back needs. See fsync(2)."""
        await self.flush()
        await self._run(ops.fsync(self._file.fd, datasync=datasync))

    async def sync_range(self, offset: int, length: int = 0, *, flags: int | None = None) -> None:
        """Starts writing part of the file to storage, or with other ``flags`` waits for it; ``length`` 0
        is up to the end. No substitute for `fsync`. See sync_file_range(2)."""
        self._check_open()
        wanted = int(abi.SYNC_FILE_RANGE_WRITE) if flags is None else flags
        await self._run(ops.sync_file_range(self._file.fd, offset, length, sync_flags=wanted))

    async def allocate(self, offset: int, length: int, *, mode: int = 0) -> None:
        """Makes room for part of the file; ``mode`` is ``FALLOC_FL_*``. See fallocate(2)."""
        self._check_open()
        await self._run(ops.fallocate(self._file.fd, mode, offset, length))

    async def advise(self, advice: int, offset: int = 0, length: int = 0) -> None:
        """Says how part of the file will be used, ``os.POSIX_FADV_*``; ``length`` 0 is up to the end. See
        posix_fadvise(2)."""
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

    async def flush(self) -> None:
        """Hands what is buffered to the kernel."""
        raise NotImplementedError

    async def _run(self, op: ops.Op) -> Any:
        """Any operation on the descriptor, which is not closed before it has ended."""
        return await self._file.perform(op)

    async def _truncate(self, size: int | None) -> int:
        """`io.FileIO.truncate`, in this call's turn."""
        file = self._file
        where = file.raw.tell() if size is None else operator.index(size)
        if where < 0:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        with trio.CancelScope(shield=file.begun):
            try:
                await self._run(ops.ftruncate(file.fd, where))
            except NoWorker:
                raise
            except OSError as exc:
                raise error_from_result(-(exc.errno or 0)) from None
        file.begun = True
        return where


def name_of(opcode: int) -> str:
    """ "read" or "write"."""
    return "read" if opcode == READ else "write"


def _no_place() -> ValueError:
    return ValueError(f"a piece has 0 to {LENGTH_MAX} bytes and begins at 0 to {_OFFSET_MAX}")


def _offset(offset: Any) -> int:
    where = operator.index(offset)
    if not 0 <= where <= _OFFSET_MAX:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    return where
