"""Pools of slots, and a slot that is given back automatically."""

from __future__ import annotations

import itertools
import threading
from typing import TYPE_CHECKING, TypeVar

from ..bounds import check_int
from ..errors import PoolExhausted
from .context import (
    GENERATION_MASK,
    INDEX_BITS,
    POOL_BITS,
    POOL_MASK,
    POOL_SHIFT,
    ExtSQE,
    IndirectSQE,
    SQEContext,
    living_pools,
)

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["ContextPools", "ScopedExtSQE"]

S = TypeVar("S", bound=IndirectSQE)

_numbers = itertools.count()


class ContextPools:
    """Two pools of slots, for indirect and extended contexts. Any thread may use them.

    Args:
        capacity: how many slots each has, 1 to 16777216.

    Raises:
        TypeError, ValueError: ``capacity`` is not such an int.
        PoolExhausted: there are 262143 pools.
    """

    __slots__ = ("__weakref__", "_capacity", "_free", "_lock", "_number", "_taken")

    def __init__(self, capacity: int) -> None:
        check_int("the capacity", capacity, 1, 1 << INDEX_BITS)
        self._capacity = capacity
        self._lock = threading.Lock()
        self._number = _new_number()
        # For each mode the free numbers (slot and generation); the borrowed slots by their contexts.
        self._free: dict[int, list[int]] = {1: [], 2: []}
        self._taken: dict[int, IndirectSQE] = {}
        self._fill()
        living_pools[self._number] = self

    @property
    def capacity(self) -> int:
        """How many slots each pool has."""
        return self._capacity

    @property
    def indirect_available(self) -> int:
        """How many indirect slots can be borrowed."""
        return len(self._free[1])

    @property
    def extended_available(self) -> int:
        """How many extended slots can be borrowed."""
        return len(self._free[2])

    def indirect(self) -> IndirectSQE:
        """Borrows an indirect slot. Raises PoolExhausted when all are taken."""
        return self._borrow(1, IndirectSQE)

    def extended(self) -> ExtSQE:
        """Borrows an extended slot. Raises PoolExhausted when all are taken."""
        return self._borrow(2, ExtSQE)

    def put_indirect(self, indirect: IndirectSQE) -> None:
        """Gives a slot back; the object is invalid afterwards.

        Args:
            indirect: the slot.

        Raises:
            RuntimeError: its operation is in flight.
            ValueError: of another pool, or given back already.
        """
        self._give_back(indirect)

    def put_extended(self, ext: ExtSQE) -> None:
        """Gives a slot back, as `put_indirect`; references in it are dropped.

        Args:
            ext: the slot.

        Raises:
            RuntimeError, ValueError: as `put_indirect`.
        """
        self._give_back(ext)

    def reset(self) -> None:
        """Makes every slot available again; objects of those still borrowed become invalid.

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
        """The borrowed slot that a context names.

        Args:
            raw: the context.

        Returns:
            The slot; None when it names none, or one that was given back.
        """
        return self._taken.get(raw)

    def _borrow(self, mode: int, kind: type[S]) -> S:
        with self._lock:
            free = self._free[mode]
            if not free:
                raise PoolExhausted(f"all {self._capacity} slots are taken; they come back with put_…")
            raw = mode << 62 | self._number << POOL_SHIFT | free.pop()
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
        index = raw & (1 << INDEX_BITS) - 1
        generation = (raw >> INDEX_BITS) + 1 & GENERATION_MASK
        self._free[raw >> 62].append(generation << INDEX_BITS | index)
        if isinstance(slot, ExtSQE):
            slot.sidecar[:] = [None] * len(slot.sidecar)

    def _fill(self) -> None:
        for free in self._free.values():
            free[:] = range(self._capacity - 1, -1, -1)


def _new_number() -> int:
    """A number that no living pool has; numbers are used again after 262143 pools."""
    for number in itertools.islice(_numbers, 1 << POOL_BITS):
        # The last one belongs to requests without a context, see `REQUEST_VALUES`.
        if number & POOL_MASK not in living_pools and number & POOL_MASK != POOL_MASK:
            return number & POOL_MASK
    raise PoolExhausted(f"there are {(1 << POOL_BITS) - 1} pools of contexts already")


class ScopedExtSQE:
    """An extended slot that goes back by itself unless its operation was submitted.

    In ``with ring.new_scoped_ext_sqe() as scope:`` use ``scope.ext``, then call ``scope.submitted()`` if the
    completion's receiver gives the slot back. A slot that is in flight when the block ends counts as
    submitted.

    Args:
        ext: the slot.

    Raises:
        TypeError: ``ext`` is no `ExtSQE`.
    """

    __slots__ = ("_done", "ext")

    def __init__(self, ext: ExtSQE) -> None:
        if not isinstance(ext, ExtSQE):
            raise TypeError(f"an ExtSQE is needed, not {type(ext).__name__}")
        self.ext: ExtSQE = ext
        self._done = False

    @property
    def valid(self) -> bool:
        """Whether the scope still has to give the slot back."""
        return not self._done and self.ext.valid

    def submitted(self) -> None:
        """Leaves the slot to the receiver of the completion, which gives it back."""
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
