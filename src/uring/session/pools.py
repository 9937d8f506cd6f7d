"""Pools of equal pieces of memory: for registered buffers, and for sends.

A piece is a number and a view of page-aligned memory. The borrower gives the number back.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from ..errors import PoolExhausted
from ..options import REGISTER_BUFFER_SIZE
from .regions import aligned_mem_block

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BufferPool", "RegisterBufferPool"]


class BufferPool:
    """``capacity`` pieces of ``size`` bytes. Any thread may borrow.

    Attributes:
        views: the memory of each piece, by number.
    """

    def __init__(self, capacity: int, size: int) -> None:
        for name, value in (("capacity", capacity), ("size", size)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} is an int of 1 or more, not {value!r}")
        self.capacity: int = capacity
        self.size: int = size
        whole = aligned_mem_block(capacity * size)
        self.views: list[memoryview] = [whole[i * size : (i + 1) * size] for i in range(capacity)]
        self._lock = threading.Lock()
        self._free = list(range(capacity - 1, -1, -1))
        self._taken: set[int] = set()

    @property
    def available(self) -> int:
        return len(self._free)

    def get(self) -> tuple[int, memoryview]:
        """Borrows a piece: its number and its memory. Raises PoolExhausted when all are taken."""
        with self._lock:
            if not self._free:
                raise PoolExhausted(f"all {self.capacity} buffers are taken; they come back with put")
            index = self._free.pop()
            self._taken.add(index)
        return index, self.views[index]

    def put(self, index: int) -> None:
        """Gives a piece back. Raises ValueError when it is not borrowed."""
        with self._lock:
            if index not in self._taken:
                raise ValueError(f"buffer {index!r} is not borrowed from this pool")
            self._taken.remove(index)
            self._free.append(index)


class RegisterBufferPool(BufferPool):
    """Pieces of 4 KiB to register with ``Ring.register_buffer_pool``: piece i is registered buffer i."""

    def __init__(self, capacity: int, size: int = REGISTER_BUFFER_SIZE) -> None:
        super().__init__(capacity, size)

    def fill(self, factory: Callable[[], Any]) -> None:
        """Writes what ``factory`` returns, bytes of at most the pieces' size, into each piece in turn."""
        for view in self.views:
            content = memoryview(factory()).cast("B")
            if content.nbytes > self.size:
                raise ValueError(f"a buffer has {self.size} bytes, {content.nbytes} do not fit")
            view[: content.nbytes] = content
