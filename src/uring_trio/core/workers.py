"""The bound of a ring's kernel workers, and the operations that run beside it.

Files and paths share the workers of a ring. An operation that may wait without end in one, as the opening of
a FIFO does, widens the bound while it is in flight, so that the others keep theirs.

Invariants
  - `narrow_all` takes back what `widen` added: the bound is the thread's, and its next ring would have it.

It is independent of what the operations are.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from uring import abi
from uring.kernel.memory import zeroed
from uring.kernel.ring import KernelRing

if TYPE_CHECKING:
    from uring.kernel.ringlike import RingLike

__all__ = ["Workers"]

_IOWQ_MAX_WORKERS = int(abi.IORING_REGISTER_IOWQ_MAX_WORKERS)


class Workers:
    """The workers of one ring. A scripted ring has none: nothing is done, and the bound is 0."""

    def __init__(self, ring: RingLike) -> None:
        self._ring = ring
        self._beside = 0

    def limit(self, most: int) -> int:
        """Bounds the workers for files and paths, 0 leaving them as they are; returns the bound that was in
        force.

        Raises:
            OSError: a filter refuses it.
        """
        if not isinstance(self._ring, KernelRing):
            return 0
        limits = zeroed(8)
        numbers = limits.view.cast("I")
        numbers[0] = most
        self._ring.register(_IOWQ_MAX_WORKERS, limits.address, 2, "limit workers")
        return int(numbers[0])

    def widen(self, number: int) -> None:
        """Raises the bound by ``number``, or lowers it where that is negative. Where a filter refuses this,
        the bound stays as it is."""
        if isinstance(self._ring, KernelRing):
            with suppress(OSError):
                self.limit(self.limit(0) + number)
                self._beside += number

    def narrow_all(self) -> None:
        """Takes back what `widen` added, before the ring is closed."""
        if self._beside:
            self.limit(self.limit(0) - self._beside)

    def bound(self) -> int:
        """The bound in force, without what was added; 0 where it cannot be read."""
        with suppress(OSError):
            return self.limit(0) - self._beside
        return 0
