"""What to do where the kernel refuses to be entered: for a while it may have no memory for requests.

Entries stay queued and are tried again. What was taken back before the kernel saw it completes without it, so
that a deadline or Ctrl-C ends such a call. Operations that the kernel has can end by nothing but an enter:
where none succeeds for `REFUSED_SECONDS`, the run ends with the error.
"""

from __future__ import annotations

import errno
import time
from math import inf
from typing import TYPE_CHECKING

from uring.errors import CQOverflow, error_from_result
from uring.kernel.ring import KernelRing

if TYPE_CHECKING:
    from uring.kernel.ring import RingLike

__all__ = ["PASSING", "REFUSED_SECONDS", "Refusals", "failure"]

PASSING = frozenset((-errno.EAGAIN, -errno.EBUSY, -errno.ENOMEM))
"""Results of an enter that a later one may not have."""

REFUSED_SECONDS = 30.0
_APART = 1.0
"""Seconds between two failures of which the second is not the first one's sequel."""


def failure(ring: RingLike, result: int) -> OSError:
    """What an enter's result says that ends the run."""
    if result == -errno.EBADF and isinstance(ring, KernelRing):
        return ring.closed_error()
    if result == -errno.EBADR:
        return CQOverflow("the kernel had no memory to keep completions in, and dropped some")
    return error_from_result(result, "io_uring_enter")


class Refusals:
    """Those of one run."""

    def __init__(self) -> None:
        self._first = self._last = -inf

    def endure(self, ring: RingLike, instead: int) -> int | None:
        """How many completions of entries that were taken back the ring's ``out`` has now; where there are
        none it waits for a millisecond. None: this has lasted for too long. ``instead`` is the value under
        which those entries stay queued."""
        now = time.monotonic()
        if now - self._last > _APART:
            self._first = now
        self._last = now
        if now - self._first > REFUSED_SECONDS:
            return None
        ended = ring.end_unsent(instead)
        if ended <= 0:
            time.sleep(0.001)
        return max(0, ended)
