"""Pipes on the ring: those of child processes, and any other descriptor of a pipe.

Once a ring run was started in this process, Trio's `Process` has a `RingPipe` at the parent's end of each
pipe. In a ring run its reads and writes are operations. In any other run it is a plain
`trio.lowlevel.FdStream`.

  - Small data is written by the ring, with the other entries of the tick. Large data is first written by
    system calls, as Trio does: with a reader that keeps up they never wait. The ring takes over when the pipe
    is full.
  - A read that waits holds no memory: the kernel takes a buffer of the run's when data arrives. After a large
    one more is likely: the next one tries first, and waits for readiness, which spares a copy.

Invariants
  - ``_owner`` is the state for one run and one descriptor number; both are compared at each use.
  - Operations that may be in flight are in the owner, so that closing ends them.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import checkpoint, checkpoint_if_cancelled, enable_ki_protection

from uring import abi
from uring.errors import OperationRestricted, error_from_result
from uring.kernel.memory import LENGTH_MAX, bytes_address, pin

from .. import seams
from ..core.buffers import RECEIVE_GROUP, SCARCE, STREAMING
from ..core.engine import Engine
from ..core.fd import Fd
from ..core.restrictions import check

if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["RingPipe"]

_READ = int(abi.IORING_OP_READ)
_WRITE = int(abi.IORING_OP_WRITE)
_SELECT = int(abi.IOSQE_BUFFER_SELECT)
_BUFFER = int(abi.IORING_CQE_F_BUFFER)
_CURRENT = (1 << 64) - 1
_DEFAULT = 65536
_ENOBUFS = -errno.ENOBUFS

_SMALL = 4096
"""Bytes that a pipe takes as a whole or not at all; such a write seldom has to wait."""

_BURST = 1 << 18
"""Bytes that are written without letting other tasks run."""


class RingPipe(seams.Subclassable, trio.lowlevel.FdStream):  # type: ignore[misc]
    """A stream over the descriptor of a pipe, terminal or the like, which it takes over; see
    `trio.lowlevel.FdStream`.

    Data that was sent before a cancel is in the pipe; a cancelled receive has taken nothing. Linux 6.18.
    """

    _owner: Fd | None = None
    _streaming = False
    _sending = False
    _receiving = False

    # ---- receiving -----------------------------------------------------------------------------------

    @enable_ki_protection
    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        owner = self._attach()
        if owner is None:
            return await super().receive_some(max_bytes)
        if self._receiving:
            raise trio.BusyResourceError("another task is using this stream for receive")
        size = _DEFAULT if max_bytes is None else max_bytes
        if not isinstance(size, int):
            raise TypeError("max_bytes must be integer >= 1")
        if size < 1:
            raise ValueError("max_bytes must be integer >= 1")
        self._receiving = True
        try:
            return await (self._read_more if self._streaming else self._read)(owner, size)
        except OSError as exc:
            _fail(exc)
        finally:
            self._receiving = False

    async def _read(self, owner: Fd, size: int) -> bytes:
        """A read into a buffer that the kernel takes when there is data."""
        op = owner.reader
        if op is None or owner.receive_size != size:
            op = owner.to_read("read")
            op.template = owner.engine.ring.template(
                op.user_data, _READ, _SELECT, owner.fd, _CURRENT, 0, min(size, LENGTH_MAX), 0, RECEIVE_GROUP
            )
            owner.receive_size = size
        res = await seams.transact(op)
        data = b""
        if op.flags & _BUFFER:
            bid = op.flags >> 16
            data = owner.views[bid][:res].tobytes()
            owner.give_back(bid)
            self._streaming = res >= STREAMING
        elif res == _ENOBUFS:  # the tick received more than the buffers hold
            owner.engine.more_buffers()
            return await self._read_when_ready(owner, min(size, SCARCE))
        elif res in seams.CANCELLED:  # cancelled by other code of the process
            return await self._read_when_ready(owner, size)
        if res < 0:
            check(owner.engine, _READ, res)
            raise error_from_result(res)
        return data

    async def _read_more(self, owner: Fd, size: int) -> bytes:
        """A read that probably finds data."""
        try:
            data = await seams.inline(os.read, owner.fd, size)
        except BlockingIOError:
            data = None
        if data is None:
            return await self._read_when_ready(owner, size)
        self._streaming = len(data) >= STREAMING
        return data

    async def _read_when_ready(self, owner: Fd, size: int) -> bytes:
        data = await owner.when_readable("read", _read_now, owner, min(size, LENGTH_MAX))
        self._streaming = len(data) >= STREAMING
        return data

    # ---- sending -------------------------------------------------------------------------------------

    @enable_ki_protection
    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        owner = self._attach()
        if owner is None:
            await super().send_all(data)
            return
        if self._sending:
            raise trio.BusyResourceError("another task is using this stream for send")
        self._sending = True
        try:
            size = len(data) if data.__class__ is bytes else memoryview(data).nbytes
            sent = 0
            while sent < size:
                if size > _SMALL:
                    try:
                        sent += await seams.inline(_write_now, owner.fd, data, sent)
                        continue
                    except BlockingIOError:
                        pass
                sent += await self._write(owner, data, sent)
            if not size:
                await checkpoint()
        except OSError as exc:
            _fail(exc)
        finally:
            self._sending = False

    async def _write(self, owner: Fd, data: Any, sent: int) -> int:
        """One write of what is left, which waits until the pipe has room."""
        op = owner.to_write("write")
        if data.__class__ is bytes:
            address, size, op.pins = bytes_address(data), len(data), data
        else:
            # A write that is never queued must not leave it pinned: the caller may want to resize it.
            await checkpoint_if_cancelled()
            address, size, op.pins = pin(data)
        length = min(size - sent, LENGTH_MAX)
        fields = (_WRITE, 0, owner.fd, _CURRENT, address + sent, length, 0, 0, 0, 0)
        res = await seams.perform_fields(op, fields)
        if res in seams.CANCELLED:
            return 0  # cancelled by other code of the process: once more
        if res < 0:
            check(owner.engine, _WRITE, res)
            raise error_from_result(res)
        return res

    async def wait_send_all_might_not_block(self) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is using this stream for send")
        self._sending = True
        try:
            await super().wait_send_all_might_not_block()
        finally:
            self._sending = False

    # ---- inside --------------------------------------------------------------------------------------

    def _attach(self) -> Fd | None:
        """The `Fd` of this descriptor in the current run; None where Trio's own code must do."""
        engine = seams.current_manager()
        fd = self.fileno()
        owner = self._owner
        if owner is not None and owner.engine is engine and owner.fd == fd >= 0:
            return owner
        self._owner = None
        if not isinstance(engine, Engine) or fd < 0:
            return None
        self._owner = Fd.open(engine, fd)
        return self._owner


def _read_now(owner: Fd, size: int) -> bytes:
    return os.read(owner.fd, size)  # -1 once it is closed: its number may be another file's


def _write_now(fd: int, data: Any, sent: int) -> int:
    """Writes what goes without waiting, up to a bound; returns how much that was.

    Raises:
        BlockingIOError: nothing.
    """
    done = 0
    with memoryview(data) as view, view.cast("B") as octets:
        end = min(sent + _BURST, len(octets))
        while sent + done < end:
            try:
                with octets[sent + done : end] as rest:
                    done += os.write(fd, rest)
            except BlockingIOError:
                if not done:
                    raise
                break
    return done


def _fail(exc: OSError) -> NoReturn:
    """Raises what Trio's own streams raise for an error of the kernel's."""
    if isinstance(exc, OperationRestricted):
        raise exc
    if exc.errno == errno.EBADF:
        raise trio.ClosedResourceError("file was already closed") from None
    raise trio.BrokenResourceError from exc
