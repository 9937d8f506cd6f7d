"""An open descriptor: what is in flight on it, whose turn it is, and the transfers that files are made of.

Invariants
  - The kernel keeps the position, as it does for the standard library: reads and writes without an offset
    move it, and a descriptor that is shared with others agrees with them.
  - Calls that use the position or a buffer take turns, so that tasks may share a file.
  - On a regular file a call cannot be torn: the first transfer of a call may be cancelled while the kernel
    has not begun it; once something was done the call goes on to its end.
  - The descriptor is closed when nothing is in flight on it.
  - A read is tried at once, without the ring, out of the page cache (`uring.cached`). It is a checkpoint all
    the same. A read that would have to wait goes through the ring.
  - No read of a file copies more than `PIECE` bytes between two yields.
"""

from __future__ import annotations

import copy
import ctypes
import errno
import fcntl
import os
import stat
import sys
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import ParkingLot

from uring import abi, ops
from uring.cached import PART, read_cached, stat_is_local
from uring.errors import error_from_result
from uring.kernel.memory import LENGTH_MAX, bytes_address, new_bytes, pin_writable

from .. import seams
from ..core.perform import perform
from ..core.restrictions import explained

if TYPE_CHECKING:
    import io
    from collections.abc import Awaitable

    from ..core.operation import Operation

__all__ = ["CURRENT", "PIECE", "READ", "WRITE", "Descriptor", "joined", "name_of"]

CURRENT = (1 << 64) - 1
"""The offset that stands for the file's own position."""

PIECE = 1 << 20
"""The most bytes that one call reads while it holds the run's thread."""
READ = int(abi.IORING_OP_READ)
WRITE = int(abi.IORING_OP_WRITE)
_PROBE = 8192
"""How much is asked for to find that a file has ended."""


class Descriptor:
    """An open descriptor, what is in flight on it and whose turn it is.

    Attributes:
        begun: the call whose turn it is has done something, so that it must not be cancelled any more.
        resting: it has changed nothing yet, so that the file's state may move elsewhere.
        users: how many calls are under way that wait for no turn.
        away: the file is ``closing``, or its state has moved into the standard library's file (``handed``).
    """

    __slots__ = (
        "active", "away", "begun", "busy", "cached", "closing", "fd", "handed", "idle", "manager", "mine",
        "raw", "regular", "resting", "turns", "users", "waits",
    )  # fmt: skip

    def __init__(self, raw: io.FileIO) -> None:
        self.raw: io.FileIO = raw
        self.fd: int = raw.fileno()
        self.regular: bool = self._is_regular()
        # With O_DIRECT a read waits for the device, whatever its flags.
        self.cached: bool = self.regular and not fcntl.fcntl(self.fd, fcntl.F_GETFL) & os.O_DIRECT
        self.waits: bool = not self.regular
        self.manager: Any = seams.manager_here()
        self.active: set[Operation] = set()
        self.mine: set[Operation] = set()  # of the call whose turn it is: one at most
        self.busy: bool = False
        self.begun: bool = False
        self.resting: bool = False
        self.away: bool = False
        self.closing: bool = False
        self.handed: bool = False
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
        self.begun = self.resting = False

    async def rest(self) -> None:
        """A checkpoint in a call's turn, before the call has changed anything."""
        self.resting = True
        try:
            await seams.pause()
        finally:
            self.resting = False

    def close(self) -> None:
        """Refuses calls from now on."""
        self.closing = self.away = True

    def hand(self) -> None:
        """The state of the file is in the standard library's from now on."""
        self.handed = self.away = True

    def gone(self) -> Descriptor:
        """A closing descriptor, for the object that has given this one away."""
        other = copy.copy(self)
        other.busy = False
        other.turns = ParkingLot()
        other.close()
        return other

    def nonblocking(self) -> bool:
        """Whether reads and writes give up where they would have to wait, by the descriptor's present flags.
        False for one that was closed without notice: the call raises the error, in the order of its
        checks."""
        try:
            return bool(fcntl.fcntl(self.fd, fcntl.F_GETFL) & os.O_NONBLOCK)
        except OSError:
            return False

    def end_turn(self) -> None:
        self.busy = False
        if self.turns:
            self.turns.unpark()

    def transfer(
        self,
        opcode: int,
        address: int,
        length: int,
        offset: int,
        pins: object,
        shielded: bool = False,
        among: set[Operation] | None = None,
    ) -> Awaitable[int]:
        """One read or write; returns the kernel's result, negative for an errno. Interrupted by `interrupt`
        it raises `trio.ClosedResourceError`."""
        active = self.active if among is None else among
        return seams.transfer(
            active, name_of(opcode), opcode, self.fd, offset, address, length, pins, shielded
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
            if length > PIECE and self.regular:
                return await self._step_by_pieces(address, length, pins)
            found = await seams.attempt(self.manager, self.find_into, address, length, CURRENT)
            if found == length:
                self.begun = True
                return found
        return await self._go_on(found, opcode, address, length, pins)

    async def _step_by_pieces(self, address: int, length: int, pins: object) -> int:
        done = 0
        while done < length:
            wanted = min(length - done, PIECE)
            try:
                got = await self.step(READ, address + done, wanted, pins)
            except OSError:
                if done:
                    break  # the next call meets it
                raise
            done += got
            if got < wanted:
                break
        return done

    async def piece(self, n: int, rested: bool = False) -> bytes:
        """Up to ``n`` bytes from the file's position on; a `step`. ``rested``: the call has just been through
        a checkpoint, so that what is in the page cache needs no other."""
        if PIECE < n <= sys.maxsize:
            n = self.within(n)
        if n <= 1:
            memory = bytearray(n)
            return bytes(memory[: await self.step(READ, pin_writable(memory)[0], n, memory)])
        data = new_bytes(n)
        address = bytes_address(data)
        length = min(n, LENGTH_MAX)
        if length > PIECE:
            done = await self.step(READ, address, length, data)
            return data if done == n else data[:done]
        if rested and seams.manager_here() is self.manager:
            found = self.find_into(address, length, CURRENT)
        else:
            found = await seams.attempt(self.manager, self.find_into, address, length, CURRENT)
        if found == n:
            self.begun = True
            return data
        return data[: await self._go_on(found, READ, address, length, data)]

    async def read_left(self, front: bytes, whole: bool = True) -> list[bytes]:
        """``front``, and behind it all that a regular file has from its position on. ``whole``: it is read
        into one object, unless the file grows meanwhile; else much is read into pieces, which are quick to
        free."""
        left, start = self.left(), len(front)
        pieces = [front] if start else []
        if not whole and left > PIECE:
            while piece := await self.piece(PIECE):
                pieces.append(piece)
            return pieces
        if left > 1:
            data = new_bytes(start + left)
            address = bytes_address(data)
            ctypes.memmove(address, front, start)
            done = start
            while done < len(data):
                got = await self.step(READ, address + done, len(data) - done, data)
                if not got:
                    data = data[:done]
                done += got
            pieces = [data]
            del data
        while piece := await self.piece(_PROBE if left > 1 else self.left() + _PROBE):
            pieces.append(piece)
            left = 0
        return pieces

    def left(self) -> int:
        """How many bytes there are from the position on, where the file's size tells."""
        try:
            where = self.position()
        except OSError:
            where = 0
        return max(os.fstat(self.fd).st_size - where, 0)

    def within(self, n: int, offset: int | None = None) -> int:
        """How much memory a read of ``n`` bytes needs: of a regular file it has no more than there are."""
        if not self.regular:
            return n
        if offset is None:
            return min(n, max(self.left(), PIECE))
        return min(n, max(os.fstat(self.fd).st_size - offset, PIECE))

    async def _go_on(self, found: int | None, opcode: int, address: int, length: int, pins: object) -> int:
        """The step after what `find_into` found."""
        done = 0
        if found is not None:
            self.begun = True
            if found >= 0:
                return found
            done = -PART - found
            if not self._is_regular():
                return done
            address += done
            length -= done
        before = self.position() if opcode == WRITE and self.regular else 0
        while True:
            shielded = self.begun and self.regular
            res = await self.transfer(opcode, address, length, CURRENT, pins, shielded, self.mine)
            if res >= 0:
                self.begun = True
                if 0 < res < length and self.regular:
                    await self._mend_position(opcode, before, res)
                return done + res
            if res not in seams.INTERRUPTED:
                if done:
                    return done
                raise explained(self.manager, opcode, error_from_result(res), name_of(opcode))

    async def _mend_position(self, opcode: int, before: int, done: int) -> None:
        """Moves the position behind a transfer of a regular file that came short.

        A transfer that ends in an error after some bytes returns their number, and Linux 6.18 leaves the
        position where it was, for reads only if no kernel worker did them. The next write would overwrite
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
        # There is more, or an error, which a read right behind these bytes meets again.
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
        """One transfer at an offset, outside any turn, of a `PIECE` of a file at most; ``begun``: of a call
        that has done something."""
        self.check_seekable()
        self.users += 1
        length = min(length, PIECE if opcode == READ and self.regular else LENGTH_MAX)
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
                if res not in seams.INTERRUPTED:
                    if done:
                        return done
                    raise explained(self.manager, opcode, error_from_result(res), name_of(opcode))
        finally:
            self.end_use()

    def find_into(self, address: int, length: int, offset: int) -> int | None:
        """Reads what is in the page cache: the result of `read_cached` when it got something, else None."""
        if not self.cached:
            return None
        res = read_cached(self.fd, offset, address, length)
        return res if res >= 0 or res < -PART else None

    def position(self) -> int:
        """The kernel's position. Not by ``raw``, which learns from its first ``tell`` whether it is seekable:
        the standard library's file would not ask here."""
        return os.lseek(self.fd, 0, os.SEEK_CUR)

    def _is_regular(self) -> bool:
        """Whether it is a file with an end. Its number may be another file's by now."""
        mode = os.fstat(self.fd).st_mode
        return stat.S_ISREG(mode) or stat.S_ISBLK(mode)

    def stat(self) -> os.stat_result | None:
        """As `os.fstat`; None if it would have to be waited for."""
        return os.fstat(self.fd) if self.regular and stat_is_local(self.fd) else None

    async def perform(self, op: ops.Op) -> Any:
        """Any operation on the descriptor, which is not closed before it has ended."""
        self.users += 1
        try:
            return await perform(op)
        finally:
            self.end_use()

    def check_seekable(self) -> None:
        """Raises the error of pread(2) for a pipe: the ring's read would take its next bytes, whatever the
        offset."""
        if not self.regular and not self.raw.seekable():
            raise error_from_result(-errno.ESPIPE)

    def landed(self, length: int) -> int:
        """How many bytes the transfer of the call whose turn it was has done, where the run ended and did not
        wake its task: all of them, if the kernel may still be writing."""
        return sum(length if op.task is not None else max(op.res, 0) for op in self.mine)

    def end_use(self) -> None:
        """Ends a call that ``users`` counts."""
        self.users -= 1
        if not self.users:
            self.idle.unpark_all()

    def interrupt(self) -> None:
        """Ends the transfers in flight that might wait without end."""
        for op in () if self.regular else (*self.active, *self.mine):
            if op.close():
                op.retired = op.pooled
                op.engine.cancels.cancel(op)

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


def joined(pieces: list[bytes]) -> bytes:
    """The pieces as one."""
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def name_of(opcode: int) -> str:
    """ "read" or "write"."""
    return "read" if opcode == READ else "write"
