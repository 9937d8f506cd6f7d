"""Pools of equal pieces of memory: for registered buffers, and for sends.

A piece is a number and a view of page-aligned memory. The borrower gives the number back.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import PoolExhausted
from ..options import REGISTER_BUFFER_SIZE
from .regions import aligned_mem_block

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Buffer

__all__ = ["BufferPool", "RegisterBufferPool"]


class BufferPool:
    """Pieces of memory of one size. Any thread may borrow.

    Args:
        capacity: how many pieces, from 1 on.
        size: bytes of each, from 1 on.

    Attributes:
        views: the memory of each piece, by number.

    Raises:
        ValueError: a number is not an int of 1 or more.
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
        """How many pieces can be borrowed."""
        return len(self._free)

    def get(self) -> tuple[int, memoryview]:
        """Borrows a piece.

        Returns:
            Its number and its memory.

        Raises:
            PoolExhausted: all pieces are borrowed.
        """
        with self._lock:
            if not self._free:
                raise PoolExhausted(f"all {self.capacity} buffers are taken; they come back with put")
            index = self._free.pop()
            self._taken.add(index)
        return index, self.views[index]

    @contextmanager
    def borrow(self) -> Iterator[tuple[int, memoryview]]:
        """Borrows a piece for the length of a block: ``with pool.borrow() as (index, memory):``.

        Operations on the piece must have ended when the block does.

        Raises:
            PoolExhausted: all pieces are borrowed.
        """
        index, memory = self.get()
        try:
            yield index, memory
        finally:
            self.put(index)

    def put(self, index: int) -> None:
        """Gives a piece back.

        Args:
            index: the number that `get` returned with it.

        Raises:
            ValueError: the piece is not borrowed.
        """
        with self._lock:
            if index not in self._taken:
                raise ValueError(f"buffer {index!r} is not borrowed from this pool")
            self._taken.remove(index)
            self._free.append(index)


class RegisterBufferPool(BufferPool):
    """Pieces to register with ``Ring.register_buffer_pool``: piece i is registered buffer i.

    Args:
        capacity: how many pieces, from 1 on.
        size: bytes of each, 4096 by default.
    """

    def __init__(self, capacity: int, size: int = REGISTER_BUFFER_SIZE) -> None:
        super().__init__(capacity, size)

    def fill(self, factory: Callable[[], Buffer]) -> None:
        """Fills the pieces, one after the other.

        Args:
            factory: is called once for each piece; the bytes that it returns are written to the start of the
                piece.

        Raises:
            ValueError: more bytes than a piece has.
        """
        for view in self.views:
            content = memoryview(factory()).cast("B")
            if content.nbytes > self.size:
                raise ValueError(f"a buffer has {self.size} bytes, {content.nbytes} do not fit")
            view[: content.nbytes] = content
