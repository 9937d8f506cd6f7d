"""What a submission is known by: the 64 bits that come back with its completions.

The top two bits of a context say what the rest is:

    direct     0   bits 0-7 opcode, 8-15 ``IOSQE_*`` flags, 16-31 buffer group, 32-61 descriptor (signed)
    indirect   1   bits 0-23 slot, 24-43 generation, 44-61 pool: an `IndirectSQE`, the submitted entry
    extended   2   the same, naming an `ExtSQE`: the entry, 64 bytes of the caller's and Python references
    reserved   3   bits 0-61 as in direct: a message of another ring, or a request silent on success

Invariants
  - No address ever stands in a context. A slot is found by number and generation, so that a late or forged
    completion names nothing.
  - A slot has one operation in flight at most, and cannot be given back before its last completion.
  - A borrowed slot is an object of its own: one that was given back stays dead, whoever has its number now.
"""

from __future__ import annotations

import itertools
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ..errors import PoolExhausted
from ..kernel.op import Op
from .shapes import Ctx

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = [
    "CTX_MODE_DIRECT",
    "CTX_MODE_EXTENDED",
    "CTX_MODE_INDIRECT",
    "CTX_MODE_RESERVED",
    "ContextPools",
    "ExtSQE",
    "IndirectSQE",
    "SQEContext",
    "ScopedExtSQE",
    "cast_user_data",
    "for_fd",
    "pack_direct",
    "pack_extended",
    "pack_indirect",
]

CTX_MODE_DIRECT: Final = 0
CTX_MODE_INDIRECT: Final = 1 << 62
CTX_MODE_EXTENDED: Final = 2 << 62
CTX_MODE_RESERVED: Final = 3 << 62

USER_DATA_SIZE: Final = 64

_MODE = 3 << 62
_FD_BITS = 30
_FD_MASK = (1 << _FD_BITS) - 1
_FD_LEAST, _FD_MOST = -(1 << (_FD_BITS - 1)), (1 << (_FD_BITS - 1)) - 1
_BUFFER_SELECT = 1 << 5
_INDEX_BITS, _GENERATION_BITS, _POOL_BITS = 24, 20, 18
_GENERATION_MASK = (1 << _GENERATION_BITS) - 1
_POOL_MASK = (1 << _POOL_BITS) - 1
_POOL_SHIFT = _INDEX_BITS + _GENERATION_BITS

_NO_FIELDS = (0, 0, -1, 0, 0, 0, 0, 0, 0, 0)

T = TypeVar("T")


class SQEContext(int):
    """A submission's identity: an integer, as it stands in ``user_data``.

    Made by `for_fd`, `pack_direct`, `pack_indirect` and `pack_extended`. The ``with_…`` methods answer a
    new context in direct mode; in the other modes they change the slot's record and answer the same one.

    Raises:
        ValueError: not in 64 bits.
    """

    __slots__ = ()

    def __new__(cls, raw: int = 0) -> SQEContext:
        if not 0 <= raw < 1 << 64:
            raise ValueError(f"a context has 64 bits: {raw} is out of range")
        return int.__new__(cls, raw)

    @classmethod
    def from_raw(cls, raw: int) -> SQEContext:
        """The context of a completion's ``user_data``."""
        return cls(raw)

    @property
    def raw(self) -> int:
        return int(self)

    @property
    def mode(self) -> int:
        """`CTX_MODE_DIRECT`, `CTX_MODE_INDIRECT`, `CTX_MODE_EXTENDED` or `CTX_MODE_RESERVED`."""
        return self & _MODE

    @property
    def is_direct(self) -> bool:
        return not self >> 62

    @property
    def is_indirect(self) -> bool:
        return self >> 62 == 1

    @property
    def is_extended(self) -> bool:
        return self >> 62 == 2

    @property
    def op(self) -> int:
        """The opcode, from the context itself or from its slot's entry."""
        slot = self._slot()
        return slot.fields[0] if slot is not None else self & 0xFF

    @property
    def flags(self) -> int:
        """The ``IOSQE_*`` flags."""
        slot = self._slot()
        return slot.fields[1] & 0xFF if slot is not None else self >> 8 & 0xFF

    @property
    def buf_group(self) -> int:
        """The buffer group; 0 where there is none."""
        slot = self._slot()
        if slot is None:
            return self >> 16 & 0xFFFF
        return slot.fields[7] & 0xFFFF if slot.fields[1] & _BUFFER_SELECT else 0

    @property
    def fd(self) -> int:
        """The descriptor; in direct mode 30 bits with their sign."""
        slot = self._slot()
        if slot is not None:
            return slot.fields[2]
        fd = self >> 32 & _FD_MASK
        return fd - (1 << _FD_BITS) if fd > _FD_MOST else fd

    @property
    def has_buffer_select(self) -> bool:
        """Whether ``IOSQE_BUFFER_SELECT`` is among the flags."""
        return bool(self.flags & _BUFFER_SELECT)

    @property
    def message(self) -> int:
        """The low 62 bits: what another ring sent, in reserved mode."""
        return self & ~_MODE

    @property
    def indirect_sqe(self) -> IndirectSQE:
        """The slot of an indirect context.

        Raises:
            LookupError: the context is not indirect, or its slot was given back.
        """
        slot = self._slot() if self.is_indirect else None
        if slot is None:
            raise LookupError(f"{self!r} names no borrowed indirect slot")
        return slot

    @property
    def ext_sqe(self) -> ExtSQE:
        """The slot of an extended context.

        Raises:
            LookupError: the context is not extended, or its slot was given back.
        """
        slot = self._slot() if self.is_extended else None
        if not isinstance(slot, ExtSQE):
            raise LookupError(f"{self!r} names no borrowed extended slot")
        return slot

    def with_op(self, op: int) -> SQEContext:
        """The context with this opcode."""
        _check("an opcode", op, 0, 0xFF)
        slot = self._slot_to_change()
        if slot is None:
            return SQEContext(self & ~0xFF | op)
        slot.fields = (op, *slot.fields[1:])
        return self

    def with_flags(self, flags: int) -> SQEContext:
        """The context with these ``IOSQE_*`` flags in place of all that it had."""
        _check("IOSQE flags", flags, 0, 0xFF)
        slot = self._slot_to_change()
        if slot is None:
            return SQEContext(self & ~0xFF00 | flags << 8)
        opcode, old, *rest = slot.fields
        slot.fields = (opcode, old & ~0xFF | flags, *rest)
        return self

    def with_fd(self, fd: int) -> SQEContext:
        """The context with this descriptor."""
        slot = self._slot_to_change()
        if slot is None:
            _check("a descriptor in a context", fd, _FD_LEAST, _FD_MOST)
            return SQEContext(self & ~(_FD_MASK << 32) | (fd & _FD_MASK) << 32)
        _check("a descriptor", fd, -(1 << 31), (1 << 31) - 1)
        slot.fields = (*slot.fields[:2], fd, *slot.fields[3:])
        return self

    def with_buf_group(self, buf_group: int) -> SQEContext:
        """The context with this buffer group."""
        _check("a buffer group", buf_group, 0, 0xFFFF)
        slot = self._slot_to_change()
        if slot is None:
            return SQEContext(self & ~(0xFFFF << 16) | buf_group << 16)
        slot.fields = (*slot.fields[:7], buf_group, *slot.fields[8:])
        return self

    def _slot(self) -> IndirectSQE | None:
        mode = self >> 62
        return find_slot(self) if mode in (1, 2) else None

    def _slot_to_change(self) -> IndirectSQE | None:
        if self >> 62 not in (1, 2):
            return None
        slot = find_slot(self)
        if slot is None:
            raise LookupError(f"{self!r} names no borrowed slot")
        if slot.in_flight:
            raise RuntimeError("the entry of an operation in flight cannot be changed")
        return slot

    def __repr__(self) -> str:
        mode = ("direct", "indirect", "extended", "reserved")[self >> 62]
        if mode in ("direct", "reserved"):
            return (
                f"<SQEContext {mode} op={self.op} flags={self.flags:#x} group={self.buf_group} fd={self.fd}>"
            )
        index = self & (1 << _INDEX_BITS) - 1
        return f"<SQEContext {mode} slot={index} generation={self >> _INDEX_BITS & _GENERATION_MASK}>"


def for_fd(fd: int) -> SQEContext:
    """A direct context with only the descriptor set."""
    return pack_direct(0, 0, 0, fd)


def pack_direct(op: int, flags: int = 0, buf_group: int = 0, fd: int = 0) -> SQEContext:
    """A direct context.

    Raises:
        TypeError, ValueError: a field that is no int or does not fit: 8, 8, 16 and (signed) 30 bits.
    """
    _check("an opcode", op, 0, 0xFF)
    _check("IOSQE flags", flags, 0, 0xFF)
    _check("a buffer group", buf_group, 0, 0xFFFF)
    _check("a descriptor in a context", fd, _FD_LEAST, _FD_MOST)
    return int.__new__(SQEContext, op | flags << 8 | buf_group << 16 | (fd & _FD_MASK) << 32)


def pack_indirect(sqe: IndirectSQE) -> SQEContext:
    """The context that names an indirect slot."""
    if not isinstance(sqe, IndirectSQE) or isinstance(sqe, ExtSQE):
        raise TypeError(f"an IndirectSQE is needed, not {type(sqe).__name__}")
    return sqe.context


def pack_extended(sqe: ExtSQE) -> SQEContext:
    """The context that names an extended slot."""
    if not isinstance(sqe, ExtSQE):
        raise TypeError(f"an ExtSQE is needed, not {type(sqe).__name__}")
    return sqe.context


class IndirectSQE:
    """A borrowed slot that keeps the entry submitted under it.

    Attributes:
        context: what to submit under.
        fields: the entry, as `uring.kernel.op.Op.fields`; see `uring.contexts.views.SQEView`.
        op: the prepared request that `uring.Ring.submit_extended` submits.
        in_flight: from submission to the last completion.
    """

    __slots__ = ("__weakref__", "context", "fields", "in_flight", "op", "pool")

    def __init__(self, pool: ContextPools, context: SQEContext) -> None:
        self.pool: ContextPools = pool
        self.context: SQEContext = context
        self.fields: tuple[int, ...] = _NO_FIELDS
        self.op: Op | None = None
        self.in_flight: bool = False

    @property
    def valid(self) -> bool:
        """False once the slot was given back."""
        return find_slot(self.context) is self

    def prepare(self, op: Op) -> SQEContext:
        """Records the request to submit later; its memory is kept from now on."""
        if not isinstance(op, Op):
            raise TypeError(f"a request made by a function of uring.ops is needed, not {type(op).__name__}")
        if not self.valid:
            raise LookupError("the slot was given back")
        if self.in_flight:
            raise RuntimeError("the slot's operation is in flight")
        self.op = op
        self.fields = op.fields
        return self.context

    def __repr__(self) -> str:
        state = "in flight" if self.in_flight else "borrowed" if self.valid else "given back"
        return f"<{type(self).__name__} {state} {self.context!r}>"


class ExtSQE(IndirectSQE):
    """A borrowed slot with 64 bytes of the caller's besides the entry, and Python references beside them."""

    __slots__ = ("_user_data", "sidecar")

    def __init__(self, pool: ContextPools, context: SQEContext) -> None:
        super().__init__(pool, context)
        self._user_data: bytearray | None = None
        self.sidecar: list[Any] = [None] * 8

    @property
    def user_data(self) -> bytearray:
        """The 64 bytes; they start as zero."""
        if self._user_data is None:
            self._user_data = bytearray(USER_DATA_SIZE)
        return self._user_data

    def ctx(self, refs: int = 0, vals: int = 0) -> Ctx:
        """A view of the slot as ``fn``, ``refs`` references, ``vals`` signed 64-bit numbers and the rest as
        bytes: ``fn``, ``ref1``…, ``val1``…, ``data``.

        Raises:
            ValueError: refs or vals below 0, or more than 7 together.
        """
        return Ctx(self.sidecar, self.user_data, refs, vals)


def cast_user_data(ext: ExtSQE, kind: type[T]) -> T:
    """The caller's 64 bytes as a `ctypes` type, which shares them.

    Raises:
        TypeError: not a ctypes type. ValueError: larger than 64 bytes.
    """
    import ctypes

    if not isinstance(ext, ExtSQE):
        raise TypeError(f"an ExtSQE is needed, not {type(ext).__name__}")
    try:
        size = ctypes.sizeof(kind)  # type: ignore[arg-type]
        make: Callable[[bytearray], T] = kind.from_buffer  # type: ignore[attr-defined]
    except (TypeError, AttributeError):
        raise TypeError(f"a ctypes type is needed, not {kind!r}") from None
    if size > USER_DATA_SIZE:
        raise ValueError(f"{kind.__name__} has {size} bytes, the user data has {USER_DATA_SIZE}")
    return make(ext.user_data)


class ContextPools:
    """Two pools of ``capacity`` slots each, for indirect and extended contexts. Any thread may use them.

    Raises:
        ValueError: a capacity that is not 1 to 16777216.
    """

    __slots__ = ("__weakref__", "_capacity", "_free", "_lock", "_number", "_taken")

    def __init__(self, capacity: int) -> None:
        _check("the capacity", capacity, 1, 1 << _INDEX_BITS)
        self._capacity = capacity
        self._lock = threading.Lock()
        self._number = _new_number()
        # For each mode the numbers (slot and generation) that are free, and the slots that are not.
        self._free: dict[int, list[int]] = {1: [], 2: []}
        self._taken: dict[int, IndirectSQE] = {}
        self._fill()
        _pools[self._number] = self

    @property
    def capacity(self) -> int:
        return self._capacity

    @property
    def indirect_available(self) -> int:
        return len(self._free[1])

    @property
    def extended_available(self) -> int:
        return len(self._free[2])

    def indirect(self) -> IndirectSQE:
        """Borrows an indirect slot. Raises PoolExhausted when all are taken."""
        return self._borrow(1, IndirectSQE)

    def extended(self) -> ExtSQE:
        """Borrows an extended slot. Raises PoolExhausted when all are taken."""
        return self._borrow(2, ExtSQE)

    def put_indirect(self, indirect: IndirectSQE) -> None:
        """Gives a slot back; the object is dead from now on.

        Raises:
            RuntimeError: its operation is in flight. ValueError: of another pool, or given back already.
        """
        self._give_back(indirect)

    def put_extended(self, ext: ExtSQE) -> None:
        """As `put_indirect`; references in the slot are dropped."""
        self._give_back(ext)

    def reset(self) -> None:
        """Makes every slot available again; those still borrowed are dead.

        Raises:
            RuntimeError: an operation is in flight under one of them.
        """
        with self._lock:
            flying = sum(slot.in_flight for slot in self._taken.values())
            if flying:
                raise RuntimeError(f"{flying} slots of the pool have an operation in flight")
            for slot in list(self._taken.values()):
                self._retire(slot)

    def find(self, raw: int) -> IndirectSQE | None:
        """The borrowed slot that this context names, or None."""
        return self._taken.get(raw)

    def _borrow(self, mode: int, kind: type[S]) -> S:
        with self._lock:
            free = self._free[mode]
            if not free:
                raise PoolExhausted(f"all {self._capacity} slots are taken; they come back with put_…")
            raw = mode << 62 | self._number << _POOL_SHIFT | free.pop()
            slot = kind(self, int.__new__(SQEContext, raw))
            self._taken[raw] = slot
            return slot

    def _give_back(self, slot: IndirectSQE) -> None:
        if not isinstance(slot, IndirectSQE):
            raise TypeError(f"a slot is needed, not {type(slot).__name__}")
        with self._lock:
            if slot.in_flight:
                raise RuntimeError(
                    "the slot's operation is in flight: give it back after the last completion"
                )
            if self._taken.get(slot.context) is not slot:
                raise ValueError("the slot is not borrowed from this pool, or was given back already")
            self._retire(slot)

    def _retire(self, slot: IndirectSQE) -> None:
        raw = int(slot.context)
        del self._taken[raw]
        slot.op = None
        index = raw & (1 << _INDEX_BITS) - 1
        generation = (raw >> _INDEX_BITS) + 1 & _GENERATION_MASK
        self._free[raw >> 62].append(generation << _INDEX_BITS | index)
        if isinstance(slot, ExtSQE):
            slot.sidecar[:] = [None] * len(slot.sidecar)

    def _fill(self) -> None:
        for free in self._free.values():
            free[:] = range(self._capacity - 1, -1, -1)


S = TypeVar("S", bound=IndirectSQE)

_numbers = itertools.count()
_pools: weakref.WeakValueDictionary[int, ContextPools] = weakref.WeakValueDictionary()


def _new_number() -> int:
    """A number that no living pool has: they come round again after 262144 pools."""
    for number in itertools.islice(_numbers, 1 << _POOL_BITS):
        if number & _POOL_MASK not in _pools:
            return number & _POOL_MASK
    raise PoolExhausted(f"there are {1 << _POOL_BITS} pools of contexts already")


def find_slot(raw: int) -> IndirectSQE | None:
    """The borrowed slot that an indirect or extended context names; None if late, forged or given back."""
    pool = _pools.get(raw >> _POOL_SHIFT & _POOL_MASK)
    return pool.find(raw) if pool is not None else None


class ScopedExtSQE:
    """An extended slot that goes back by itself unless its operation was submitted.

    ``with ring.new_scoped_ext_sqe() as scope:`` use ``scope.ext``, then ``scope.submitted()`` when the
    completion's receiver is to give the slot back. A slot that is in flight when the block ends counts as
    submitted.
    """

    __slots__ = ("_done", "ext")

    def __init__(self, ext: ExtSQE) -> None:
        if not isinstance(ext, ExtSQE):
            raise TypeError(f"an ExtSQE is needed, not {type(ext).__name__}")
        self.ext: ExtSQE = ext
        self._done = False

    @property
    def valid(self) -> bool:
        return not self._done and self.ext.valid

    def submitted(self) -> None:
        """Leaves giving back to whoever receives the completion."""
        self._done = True

    def release(self) -> None:
        """Gives the slot back unless it was submitted. May be called again."""
        if not self._done:
            self._done = True
            if not self.ext.in_flight and self.ext.valid:
                self.ext.pool.put_extended(self.ext)

    def __enter__(self) -> ScopedExtSQE:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _check(name: str, value: Any, least: int, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is an int, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{name} is {least} to {most}, not {value}")
