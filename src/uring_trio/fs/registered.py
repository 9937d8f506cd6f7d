"""Registered buffers: memory whose pages the kernel has looked up once, for reads and writes of files.

For each ordinary transfer the kernel looks up the pages of the memory, and with ``O_DIRECT`` pins them for
the device. A registered buffer saves that work, most for large transfers with ``O_DIRECT``.

Each buffer owns an operation. So one transfer at a time can use the buffer, and no transfer has to prepare
one.

Invariants
  - A slot of the run's table belongs to one pool, from its registration to its close.
  - The kernel holds the pages of transfers in flight: closing a pool takes no memory away from them.
  - A buffer that is garbage may go at any moment, in any thread: it is given back in a step of the run.
"""

from __future__ import annotations

import errno
import mmap
import struct
import warnings
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import ParkingLot, checkpoint, enable_ki_protection

from uring import abi
from uring.abi.layouts import RSRC_REGISTER, RSRC_UPDATE2
from uring.advice import advice
from uring.errors import error_from_result
from uring.kernel.memory import LENGTH_MAX, pin_writable, zeroed
from uring.kernel.memory import clear as clear_memory

from .. import seams
from ..core.engine import current
from ..core.restrictions import explained

if TYPE_CHECKING:
    from typing import Self

    from ..core.engine import Engine
    from ..core.operation import Operation
    from .descriptor import Descriptor

__all__ = ["RegisteredBuffer", "RegisteredBuffers"]

_READ = int(abi.IORING_OP_READ)
_FIXED = {_READ: int(abi.IORING_OP_READ_FIXED), int(abi.IORING_OP_WRITE): int(abi.IORING_OP_WRITE_FIXED)}
_REGISTER = int(abi.IORING_REGISTER_BUFFERS2)
_UPDATE = int(abi.IORING_REGISTER_BUFFERS_UPDATE)
_SPARSE = int(abi.IORING_RSRC_REGISTER_SPARSE)
_IOVEC = struct.Struct("=QQ")
_SLOTS = 64
_LARGEST = 1 << 30


class RegisteredBuffers:
    """A pool of registered buffers of this run; a context manager:

        with uring_trio.RegisteredBuffers(16, 1 << 20) as pool:
            with await pool.borrow() as buffer:
                n = await file.readinto_at(buffer, offset)
                use(buffer.data[:n])

    Linux 5.13. The memory counts against ``RLIMIT_MEMLOCK`` (io_uring_register(2)) unless the process may
    lock memory.

    Args:
        count: the number of buffers.
        size: bytes in each. They begin at page boundaries, as ``O_DIRECT`` wants them.
        clear: whether a buffer that comes back is set to zeros, so that the next borrower does not see its
            bytes. False saves the time where all borrowers may.

    Raises:
        RuntimeError: outside a ring run, or 64 pools are open in it.
        TypeError, ValueError: no such number or size; all of a pool is at most 1 GiB.
        OSError: ``ENOMEM``, with the limit in its text.
    """

    def __init__(self, count: int, size: int = 65536, *, clear: bool = True) -> None:
        for name, value in (("count", count), ("size", size)):
            if type(value) is not int:
                raise TypeError(f"{name} is an int, not {type(value).__name__}")
            if value < 1:
                raise ValueError(f"{name} is 1 or more, not {value}")
        step = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
        if count * step > _LARGEST:
            raise ValueError(f"a pool has up to 1 GiB, not {count} times {size} bytes in whole pages")
        self._clear = clear
        self.count: int = count
        self.size: int = size
        self._engine: Engine = current()
        self._memory = memoryview(mmap.mmap(-1, count * step))
        self._address, length, _ = pin_writable(self._memory)
        self._slot = _take_slot(self._engine, self._address, length)
        self._open = True
        self._ops: list[Operation] = []
        self._busy: set[Operation] = set()
        self._free: list[tuple[Operation, int]] = []
        self._lost: dict[Operation, weakref.ref[memoryview]] = {}  # memory in use whose buffer is garbage
        self._waiting = ParkingLot()
        for at in range(0, count * step, step):
            op = self._engine.acquire("registered", -1)
            self._ops.append(op)
            self._free.append((op, at))

    @property
    def available(self) -> int:
        """How many are not borrowed."""
        return len(self._free)

    async def borrow(self) -> RegisteredBuffer:
        """A buffer, as soon as one is free; waiting tasks get them in turn. A checkpoint.

        Raises:
            ValueError: the pool is closed, or gets closed meanwhile.
        """
        await checkpoint()
        while self._open and not self._free:
            await self._waiting.park()
        return self.borrow_nowait()

    def borrow_nowait(self) -> RegisteredBuffer:
        """A buffer that is free now.

        Raises:
            trio.WouldBlock: all are borrowed.
            ValueError: the pool is closed.
        """
        if not self._open:
            raise ValueError("this pool is closed")
        if not self._free:
            raise trio.WouldBlock
        op, at = self._free.pop()
        return RegisteredBuffer(self, op, self._memory[at : at + self.size], self._address + at, None)

    def close(self) -> None:
        """Unregisters the memory, which stays readable through what was borrowed; no transfer can begin any
        more, those under way end. Idempotent."""
        if not self._open:
            return
        self._open = False
        self._free.clear()
        self._waiting.unpark_all()
        if not self._engine.closed:
            for op in self._ops:
                if op not in self._busy:
                    self._engine.release(op)
            _give_slot_back(self._engine, self._slot)

    def _take_back(self, op: Operation, address: int) -> None:
        self._lost.pop(op, None)
        if self._open:
            if self._clear:
                clear_memory(address, self.size)
            self._free.append((op, address - self._address))
            self._waiting.unpark()

    def _expect(self, op: Operation, address: int, data: memoryview) -> None:
        """Takes back a buffer that is garbage, once its memory is not used any more."""
        soon = partial(self._engine.run_soon, partial(self._take_back, op, address))
        self._lost[op] = weakref.ref(data, lambda ref: soon())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class RegisteredBuffer:
    """One buffer of `RegisteredBuffers`, or part of it: a context manager that gives it back. One that is
    forgotten is given back too, with a `ResourceWarning`, once nothing uses ``data`` any more.

    ``readinto_at`` and ``pwrite`` of `RingFile` and `DirectFile` take one, and transfer all of it.
    ``buffer[start:stop]`` is a part, to transfer less.

    Attributes:
        data: its memory. Copy what is to outlive the loan.
        address: where that memory is.
    """

    __slots__ = ("_op", "_pool", "_whole", "address", "data")

    def __init__(
        self,
        pool: RegisteredBuffers,
        op: Operation,
        data: memoryview,
        address: int,
        whole: RegisteredBuffer | None,
    ) -> None:
        self._pool: RegisteredBuffers | None = pool
        self._op = op
        self._whole = whole
        self.data: memoryview = data
        self.address: int = address

    def __len__(self) -> int:
        return len(self.data)

    def __bytes__(self) -> bytes:
        return self.data.tobytes()

    def __getitem__(self, part: slice) -> RegisteredBuffer:
        pool = self._check()
        if not isinstance(part, slice):
            raise TypeError("a part of a buffer is a slice; its bytes are in data")
        start, stop, step = part.indices(len(self.data))
        if step != 1:
            raise ValueError("a part of a buffer has no step")
        data = self.data[start : max(start, stop)]
        return RegisteredBuffer(pool, self._op, data, self.address + start, self._whole or self)

    def release(self) -> None:
        """Gives the buffer back to its pool. Idempotent; a part has nothing to give back.

        Raises:
            trio.BusyResourceError: a transfer is under way.
        """
        if self._whole is not None or self._pool is None:
            return
        if self._op in self._pool._busy:
            raise trio.BusyResourceError("another task is using this buffer")
        pool, self._pool = self._pool, None
        pool._take_back(self._op, self.address)

    def _check(self) -> RegisteredBuffers:
        pool = (self._whole or self)._pool
        if pool is None:
            raise ValueError("this buffer was given back")
        if not pool._open:
            raise ValueError("this pool is closed")
        return pool

    @enable_ki_protection
    async def _transfer(
        self, file: Descriptor, opcode: int, offset: int, align: int = 1, begun: int = 0
    ) -> int:
        """Reads or writes the bytes behind the first ``begun``; returns how many are done then, fewer than
        all only at the end of the file: a transfer that is no multiple of ``align`` has met that end."""
        done, size, op = begun, len(self.data), self._op
        while True:
            pool = self._check()
            if seams.current_manager() is not pool._engine:
                raise seams.OtherRun("this buffer belongs to another Trio run")
            if op in pool._busy:
                raise trio.BusyResourceError("another task is using this buffer")
            length = min(size - done, LENGTH_MAX)
            fields = (
                _FIXED[opcode], 0, file.fd, offset + done, self.address + done, length, 0, pool._slot, 0, 0,
            )  # fmt: skip
            op.pins = self.data
            pool._busy.add(op)
            file.active.add(op)
            file.users += 1
            try:
                res = await seams.perform_fields(op, fields)
            finally:
                file.active.discard(op)
                pool._busy.discard(op)
                file.end_use()
                if not pool._open:
                    pool._engine.release(op)
            if res < 0:
                if res in seams.INTERRUPTED:
                    continue
                raise explained(pool._engine, fields[0], error_from_result(res), op.name)
            done += res
            if not res or done == size or res % align:
                return done
            if file.regular and not begun:
                # A call on a regular file that has begun is not torn.
                rest = self._transfer(file, opcode, offset, align, done)
                with trio.CancelScope(shield=True):
                    return await rest

    def __enter__(self) -> RegisteredBuffer:
        self._check()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def __del__(self) -> None:
        pool, text = self._pool, repr(self)
        if pool is not None and self._whole is None and pool._open and not pool._engine.closed:
            self._pool = None
            pool._expect(self._op, self.address, self.data)
            warnings.warn(f"{text} was not released", ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        given_back = (self._whole or self)._pool is None
        return f"<RegisteredBuffer of {len(self.data)} bytes{', given back' if given_back else ''}>"


# ---- the run's table ---------------------------------------------------------------------------------


def _take_slot(engine: Engine, address: int, length: int) -> int:
    """Registers memory in a free slot of the run's table, which is made for the first."""
    if engine.registered is None:
        memory = zeroed(RSRC_REGISTER.size)
        RSRC_REGISTER.pack_into(memory.view, 0, _SLOTS, _SPARSE, 0, 0)
        engine.ring.register(_REGISTER, memory.address, RSRC_REGISTER.size, "register buffers")  # type: ignore[attr-defined]
        engine.registered = list(range(_SLOTS - 1, -1, -1))
    if not engine.registered:
        raise RuntimeError(f"a run has up to {_SLOTS} pools of registered buffers")
    slot = engine.registered.pop()
    try:
        _update(engine, slot, address, length)
    except OSError as exc:
        engine.registered.append(slot)
        if exc.errno != errno.ENOMEM:
            raise
        why = advice(errno.ENOMEM, "io_uring_register", length)
        raise OSError(errno.ENOMEM, f"{length} bytes of registered buffers are too many: {why}") from None
    return slot


def _give_slot_back(engine: Engine, slot: int) -> None:
    _update(engine, slot, 0, 0)
    assert engine.registered is not None
    engine.registered.append(slot)


def _update(engine: Engine, slot: int, address: int, length: int) -> None:
    vector = zeroed(_IOVEC.size)
    _IOVEC.pack_into(vector.view, 0, address, length)
    memory: Any = zeroed(RSRC_UPDATE2.size)
    RSRC_UPDATE2.pack_into(memory.view, 0, slot, vector.address, 0, 1)
    engine.ring.register(_UPDATE, memory.address, RSRC_UPDATE2.size, "register buffers")  # type: ignore[attr-defined]
