"""The in-flight table: the operation that a completion belongs to.

``user_data`` names a slot of the table and the slot's generation:

    bits 0-23   index of the slot
    bits 24-59  generation, one more each time the slot is released
    bits 60-63  zero; with both top bits set another ring sent it, with 1 it is a volley's member's

(`uring.Ring` has no such table: its values are those of `uring.contexts.context`.)

Invariants
  - A value is in flight at most once, because the kernel finds requests to cancel by it.
  - A slot is released on the last completion of its operation, never on cancel, never on close.
  - A completion whose generation does not match is late or forged: it is counted and dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["GENERATION", "INDEX_MASK", "USER_DATA_MASK", "Entry", "Table"]

INDEX_MASK = (1 << 24) - 1
GENERATION = 1 << 24
USER_DATA_MASK = (1 << 60) - 1


class Entry:
    """One slot: what is in flight under its ``user_data``, and the result of the last completion."""

    __slots__ = ("flags", "pins", "res", "user_data")

    def __init__(self, user_data: int) -> None:
        self.user_data: int = user_data
        self.pins: object = None
        self.res: int = 0
        self.flags: int = 0


E = TypeVar("E", bound=Entry)


class Table(Generic[E]):
    """Slots, reused last in first out. ``make(user_data)`` creates an entry when all are taken."""

    def __init__(self, make: Callable[[int], E]) -> None:
        self._make = make
        self.entries: list[E] = []
        self.free: list[E] = []

    def acquire(self) -> E:
        """A free slot, which the caller owns until `release`."""
        if self.free:
            return self.free.pop()
        if len(self.entries) > INDEX_MASK:
            raise MemoryError(f"more than {INDEX_MASK + 1} operations in flight")
        entry = self._make(len(self.entries))
        self.entries.append(entry)
        return entry

    def release(self, entry: E) -> None:
        """Gives the slot back under a new generation and drops its pins."""
        entry.pins = None
        entry.user_data = (entry.user_data + GENERATION) & USER_DATA_MASK
        self.free.append(entry)

    def find(self, user_data: int) -> E | None:
        """The entry that ``user_data`` names, or None for a late or forged value."""
        index = user_data & INDEX_MASK
        if index >= len(self.entries):
            return None
        entry = self.entries[index]
        return entry if entry.user_data == user_data else None

    def taken(self) -> Iterator[E]:
        """Every entry that is not free."""
        free = {id(entry) for entry in self.free}
        return (entry for entry in self.entries if id(entry) not in free)

    def __len__(self) -> int:
        """How many slots are taken."""
        return len(self.entries) - len(self.free)
