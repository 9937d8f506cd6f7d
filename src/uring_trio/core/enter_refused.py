"""Enters that the kernel refuses, as while it has no memory for requests.

Entries stay queued and are tried again. An entry that was taken back before the kernel saw it completes
without an enter, so that a deadline or Ctrl-C ends such a call. Operations that the kernel has end only by an
enter: where none succeeds for `REFUSED_SECONDS`, the run ends with the error.
"""

from __future__ import annotations

import errno
import time
from math import inf
from typing import TYPE_CHECKING

from uring.errors import CQOverflow, error_from_result
from uring.kernel.ring import KernelRing

if TYPE_CHECKING:
    from uring.kernel.ringlike import RingLike

__all__ = ["PASSING", "REFUSED_SECONDS", "Refusals", "failure"]

PASSING = frozenset((-errno.EAGAIN, -errno.EBUSY, -errno.ENOMEM))
"""Errors of an enter that a later enter may not have."""

REFUSED_SECONDS = 30.0
_APART = 1.0
"""Seconds: failures further apart do not count as one refusal."""


def failure(ring: RingLike, result: int) -> OSError:
    """The error that ends the run, for the result of an enter."""
    if result == -errno.EBADF and isinstance(ring, KernelRing):
        return ring.closed_error()
    if result == -errno.EBADR:
        return CQOverflow("the kernel had no memory to keep completions in, and dropped some")
    return error_from_result(result, "io_uring_enter")


class Refusals:
    """The refused enters of one run."""

    def __init__(self) -> None:
        self._first = self._last = -inf

    def endure(self, ring: RingLike, instead: int) -> int | None:
        """Puts completions of entries that were taken back into the ring's ``out`` and returns how many;
        without any it waits for a millisecond. None: this has lasted for too long. ``instead`` is the
        ``user_data`` under which those entries stay queued."""
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
