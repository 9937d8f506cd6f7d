"""Contexts of submissions: the 64 bits that their completions carry.

The top two bits of a context tell the meaning of the others:

    direct     0   bits 0-7 opcode, 8-15 ``IOSQE_*`` flags, 16-31 buffer group, 32-61 descriptor (signed)
    indirect   1   bits 0-23 slot, 24-43 generation, 44-61 pool: an `IndirectSQE`, the submitted entry
    extended   2   the same, of an `ExtSQE`: the entry, 64 bytes of the caller's and Python references
    reserved   3   bits 0-61 as in direct: a message of another ring, or a request silent on success

(Values of a Trio run are slots of `uring.kernel.inflight`. Members of a volley look like direct contexts of
descriptors that no process has.)

Invariants
  - A context contains no address. A slot is found by number and generation, so that a late or forged
    completion matches none. Generations repeat: the 1 048 576th loan of a slot after this one has the same
    context. Requests without a context (`uring.Request`) have a number each, see `uring.contexts.requests`.
  - A slot has one operation in flight at most, and cannot be given back before its last completion.
  - Each loan of a slot is a new object: one that was given back stays invalid when its number is reused.
"""

from __future__ import annotations

import weakref
from typing import Final, Protocol

from ..abi import IOSQE_BUFFER_SELECT
from ..bounds import check_int
from ..kernel.op import Op
from .shapes import Ctx

__all__ = [
    "CTX_MODE_DIRECT",
    "CTX_MODE_EXTENDED",
    "CTX_MODE_INDIRECT",
    "CTX_MODE_RESERVED",
    "ExtSQE",
    "IndirectSQE",
    "Lender",
    "SQEContext",
]

CTX_MODE_DIRECT: Final = 0
CTX_MODE_INDIRECT: Final = 1 << 62
CTX_MODE_EXTENDED: Final = 2 << 62
CTX_MODE_RESERVED: Final = 3 << 62

USER_DATA_SIZE: Final = 64

_MODE = 3 << 62
FD_BITS = 30
FD_MASK = (1 << FD_BITS) - 1
FD_LEAST, FD_MOST = -(1 << (FD_BITS - 1)), (1 << (FD_BITS - 1)) - 1
_BUFFER_SELECT = int(IOSQE_BUFFER_SELECT)
INDEX_BITS, _GENERATION_BITS, POOL_BITS = 24, 20, 18
GENERATION_MASK = (1 << _GENERATION_BITS) - 1
POOL_MASK = (1 << POOL_BITS) - 1
POOL_SHIFT = INDEX_BITS + _GENERATION_BITS

REQUEST_VALUES: Final = CTX_MODE_INDIRECT | POOL_MASK << POOL_SHIFT
"""The first value of requests without a context, in the number of a pool that is never made."""

_NO_FIELDS = (0, 0, -1, 0, 0, 0, 0, 0, 0, 0)


class Lender(Protocol):
    """A pool of slots as slots and contexts use it: `uring.ContextPools`."""

    def find(self, raw: int) -> IndirectSQE | None: ...
    def put_indirect(self, indirect: IndirectSQE) -> None: ...
    def put_extended(self, ext: ExtSQE) -> None: ...


living_pools: weakref.WeakValueDictionary[int, Lender] = weakref.WeakValueDictionary()
"""The pools by their numbers, which are in the contexts of their slots."""


class SQEContext(int):
    """A submission's identity: the integer in ``user_data``.

    Made by `for_fd`, `pack_direct`, `pack_indirect` and `pack_extended`. The ``with_…`` methods return a new
    context in direct mode; in the other modes they change the slot's entry and return the same one. Reading a
    field of a slot that was given back raises LookupError.

    Args:
        raw: the 64 bits.

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
        """The context of a completion's ``user_data``.

        Args:
            raw: the 64 bits.

        Returns:
            The context.
        """
        return cls(raw)

    @property
    def raw(self) -> int:
        """The 64 bits as a plain integer."""
        return int(self)

    @property
    def mode(self) -> int:
        """`CTX_MODE_DIRECT`, `CTX_MODE_INDIRECT`, `CTX_MODE_EXTENDED` or `CTX_MODE_RESERVED`."""
        return self & _MODE

    @property
    def is_direct(self) -> bool:
        """Whether the fields are in the context itself."""
        return not self >> 62

    @property
    def is_indirect(self) -> bool:
        """Whether it names an `IndirectSQE`."""
        return self >> 62 == 1

    @property
    def is_extended(self) -> bool:
        """Whether it names an `ExtSQE`."""
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
        fd = self >> 32 & FD_MASK
        return fd - (1 << FD_BITS) if fd > FD_MOST else fd

    @property
    def has_buffer_select(self) -> bool:
        """Whether ``IOSQE_BUFFER_SELECT`` is among the flags."""
        return bool(self.flags & _BUFFER_SELECT)

    @property
    def message(self) -> int:
        """The low 62 bits: in reserved mode, the message of another ring."""
        return self & ~_MODE

    @property
    def indirect_sqe(self) -> IndirectSQE:
        """The slot of an indirect context.

        Raises:
            LookupError: the context is not indirect, or its slot was given back.
        """
        slot = find_slot(self) if self.is_indirect else None
        if slot is None:
            raise LookupError(f"{self!r} names no borrowed indirect slot")
        return slot

    @property
    def ext_sqe(self) -> ExtSQE:
        """The slot of an extended context.

        Raises:
            LookupError: the context is not extended, or its slot was given back.
        """
        slot = find_slot(self) if self.is_extended else None
        if not isinstance(slot, ExtSQE):
            raise LookupError(f"{self!r} names no borrowed extended slot")
        return slot

    def with_op(self, op: int) -> SQEContext:
        """The context with another opcode.

        Args:
            op: ``IORING_OP_*``, 0 to 255.

        Returns:
            A new context in direct mode, else the same.

        Raises:
            TypeError, ValueError: not such an int.
            LookupError: its slot was given back.
            RuntimeError: its operation is in flight.
        """
        check_int("an opcode", op, 0, 0xFF)
        slot = self._slot_to_change()
        if slot is None:
            return SQEContext(self & ~0xFF | op)
        slot.fields = (op, *slot.fields[1:])
        return self

    def with_flags(self, flags: int) -> SQEContext:
        """The context with other flags in place of all that it had.

        Args:
            flags: ``IOSQE_*`` bits, 0 to 255.

        Returns:
            A new context in direct mode, else the same.

        Raises:
            TypeError, ValueError, LookupError, RuntimeError: as `with_op`.
        """
        check_int("the byte of IOSQE flags", flags, 0, 0xFF)
        slot = self._slot_to_change()
        if slot is None:
            return SQEContext(self & ~0xFF00 | flags << 8)
        opcode, old, *rest = slot.fields
        slot.fields = (opcode, old & ~0xFF | flags, *rest)
        return self

    def with_fd(self, fd: int) -> SQEContext:
        """The context with another descriptor.

        Args:
            fd: the descriptor: 30 bits with their sign in direct mode, else 32.

        Returns:
            A new context in direct mode, else the same.

        Raises:
            TypeError, ValueError, LookupError, RuntimeError: as `with_op`.
        """
        slot = self._slot_to_change()
        if slot is None:
            check_int("a descriptor in a context", fd, FD_LEAST, FD_MOST)
            return SQEContext(self & ~(FD_MASK << 32) | (fd & FD_MASK) << 32)
        check_int("a descriptor", fd, -(1 << 31), (1 << 31) - 1)
        slot.fields = (*slot.fields[:2], fd, *slot.fields[3:])
        return self

    def with_buf_group(self, buf_group: int) -> SQEContext:
        """The context with another buffer group.

        Args:
            buf_group: the group, 0 to 65535.

        Returns:
            A new context in direct mode, else the same.

        Raises:
            TypeError, ValueError, LookupError, RuntimeError: as `with_op`.
        """
        check_int("a buffer group", buf_group, 0, 0xFFFF)
        slot = self._slot_to_change()
        if slot is None:
            return SQEContext(self & ~(0xFFFF << 16) | buf_group << 16)
        slot.fields = (*slot.fields[:7], buf_group, *slot.fields[8:])
        return self

    def _slot(self) -> IndirectSQE | None:
        """The slot of an indirect or extended context; None for one that has the fields itself.

        Raises:
            LookupError: the slot was given back, so that its fields are not known.
        """
        if self >> 62 not in (1, 2):
            return None
        slot = find_slot(self)
        if slot is None:
            raise LookupError(f"{self!r} names no borrowed slot: it was given back")
        return slot

    def _slot_to_change(self) -> IndirectSQE | None:
        if self >> 62 not in (1, 2):
            return None
        slot = self._slot()
        if slot is not None and slot.in_flight:
            raise RuntimeError("the entry of an operation in flight cannot be changed")
        return slot

    def __repr__(self) -> str:
        mode = ("direct", "indirect", "extended", "reserved")[self >> 62]
        if mode in ("direct", "reserved"):
            return (
                f"<SQEContext {mode} op={self.op} flags={self.flags:#x} group={self.buf_group} fd={self.fd}>"
            )
        index = self & (1 << INDEX_BITS) - 1
        return f"<SQEContext {mode} slot={index} generation={self >> INDEX_BITS & GENERATION_MASK}>"


class IndirectSQE:
    """A borrowed slot that keeps the entry submitted under it.

    Attributes:
        pool: the pool that it was borrowed from.
        context: the context to submit under.
        fields: the entry, as `uring.Op.fields`; see `uring.SQEView`.
        op: the prepared request that `uring.Ring.submit_extended` submits.
        in_flight: true from submission to the last completion.
        res: the result of the last completion, once it was taken.
    """

    __slots__ = ("__weakref__", "context", "fields", "in_flight", "op", "pool", "res")

    def __init__(self, pool: Lender, context: SQEContext) -> None:
        self.pool: Lender = pool
        self.context: SQEContext = context
        self.fields: tuple[int, ...] = _NO_FIELDS
        self.op: Op | None = None
        self.in_flight: bool = False
        self.res: int | None = None

    @property
    def valid(self) -> bool:
        """False once the slot was given back."""
        return find_slot(self.context) is self

    def prepare(self, op: Op) -> SQEContext:
        """Records the request to submit later, and keeps its memory.

        Args:
            op: a request of ``uring.ops``.

        Returns:
            The slot's context.

        Raises:
            TypeError: ``op`` is no request.
            LookupError: the slot was given back.
            RuntimeError: the slot's operation is in flight.
        """
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
    """A borrowed slot with 64 bytes of the caller's and Python references besides the entry.

    Attributes:
        pool: the pool that it was borrowed from.
        context: the context to submit under.
        sidecar: the references: ``fn`` and ``ref1`` to ``ref7`` of `ctx`.
    """

    __slots__ = ("_user_data", "sidecar")

    def __init__(self, pool: Lender, context: SQEContext) -> None:
        super().__init__(pool, context)
        self._user_data: bytearray | None = None
        self.sidecar: list[object] = [None] * 8

    @property
    def user_data(self) -> bytearray:
        """The 64 bytes; they start as zero."""
        if self._user_data is None:
            self._user_data = bytearray(USER_DATA_SIZE)
        return self._user_data

    def ctx(self, refs: int = 0, vals: int = 0) -> Ctx:
        """A view of the slot in one of its shapes.

        It has ``fn``, references ``ref1`` and on, signed 64-bit numbers ``val1`` and on, and the rest as
        bytes in ``data``.

        Args:
            refs: how many references, 0 to 7.
            vals: how many numbers, 0 to 7 less ``refs``.

        Returns:
            The view.

        Raises:
            ValueError: below 0, or more than 7 together.
        """
        return Ctx(self.sidecar, self.user_data, refs, vals)


def find_slot(raw: int) -> IndirectSQE | None:
    """The borrowed slot that an indirect or extended context names; None if late, forged or given back."""
    pool = living_pools.get(raw >> POOL_SHIFT & POOL_MASK)
    return pool.find(raw) if pool is not None else None
