"""Provided buffers of a scripted ring."""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING

from ...errors import error_from_result
from .ring import ScriptedRing

if TYPE_CHECKING:
    from ..ringlike import RingLike

__all__ = ["ScriptedBuffers"]


class ScriptedBuffers:
    """Provided buffers of a `ScriptedRing`, with the interface of ``uring.kernel.buffers.BufferRing``.

    ``available`` lists the ids that the kernel has, next one first. ``put`` raises `ValueError` for a buffer
    that the kernel has already.
    """

    def __init__(
        self, ring: RingLike, group: int, count: int, size: int, flags: int = 0, *, first: int | None = None
    ) -> None:
        if not 0 <= group <= 0xFFFF:
            raise ValueError(f"a buffer group is 0 to 65535, not {group}")
        if not 1 <= count <= 32768:
            raise ValueError(f"a buffer ring has 1 to 32768 buffers, not {count}")
        if not 1 <= size < 1 << 31:
            raise ValueError(f"a buffer has 1 byte to 2 GiB, not {size}")
        if not isinstance(ring, ScriptedRing):
            raise TypeError(f"scripted buffers belong to a ScriptedRing, not {type(ring).__name__}")
        if group in ring.groups:
            raise error_from_result(-errno.EEXIST, f"register buffer ring {group}")
        self._ring = ring
        self.group: int = group
        self.count: int = count
        self.size: int = size
        self.closed: bool = False
        self._memory = memoryview(bytearray(count * size))
        self.views: list[memoryview[int]] = [self._memory[i * size : (i + 1) * size] for i in range(count)]
        self.available: deque[int] = deque(range(count if first is None else first))
        self._unused: list[int] = list(range(count - 1, len(self.available) - 1, -1))
        self._entries: deque[int] = deque(self.available, count)  # the ring's, with those of taken buffers
        ring.groups[group] = self

    @property
    def in_use(self) -> int:
        return self.count - len(self._unused)

    def grow(self) -> list[int]:
        if self.closed:
            return []
        new = [self._unused.pop() for _ in range(min(self.in_use, len(self._unused)))]
        self.available += new
        self._entries += new
        return new

    def shrink(self, keep: int) -> list[int]:
        if keep < 1:
            raise ValueError(f"at least one buffer stays in use, not {keep}")
        n = 0 if self.closed else min(len(self.available), max(0, self.in_use - keep))
        gone = [self.take() for _ in range(n)][::-1]
        self._unused += reversed(gone)
        return gone

    def take(self) -> int:
        if not self.available or self.closed:
            return -1
        self._entries.pop()
        return self.available.pop()

    def put(self, bid: int) -> int:
        if bid in self.available:
            raise ValueError(f"buffer {bid} is the kernel's already")
        self.available.append(bid)
        self._entries.append(bid)
        return 0

    def run(self, bid: int, n: int) -> list[int]:
        entries = list(self._entries)
        at = len(entries) - 1 - entries[::-1].index(bid)
        return entries[at : at + n]

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        for view in self.views:
            view.release()
        self._memory.release()
        del self._ring.groups[self.group]

    def fetch(self) -> int:
        return self.available.popleft()

    def restore(self, bid: int) -> None:
        self.available.appendleft(bid)
