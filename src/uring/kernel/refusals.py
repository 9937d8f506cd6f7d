"""Enters that the kernel refuses for now, as while it has no memory for requests.

Entries stay queued, and the next enter submits them. Where none succeeds for `REFUSED_SECONDS`, the error is
raised.
"""

from __future__ import annotations

import errno
import time
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .ringlike import RingLike

__all__ = ["PASSING", "PAUSE", "REFUSED_SECONDS", "Refusals", "first_completions"]

PASSING = frozenset((-errno.EAGAIN, -errno.EBUSY, -errno.ENOMEM))
"""Errors of an enter that a later enter may not have."""

REFUSED_SECONDS = 30.0
PAUSE = 0.001
"""Seconds from a refused enter to the next."""

_APART = 1.0
"""Seconds: failures further apart do not count as one refusal."""


class Refusals:
    """The refused enters of one ring."""

    def __init__(self) -> None:
        self._first = self._last = -inf
        self._progress = (0, 0)

    def endured(self, ring: RingLike) -> bool:
        """Counts a refused enter; false where this has lasted for too long. It begins anew where an enter
        has succeeded since the last refused one."""
        now, progress = time.monotonic(), _progress(ring)
        if now - self._last > _APART or progress != self._progress:
            self._first = now
        self._last, self._progress = now, progress
        return now - self._first <= REFUSED_SECONDS


def _progress(ring: RingLike) -> tuple[int, int]:
    """What the enters of a ring have done so far. Completions do not count while entries are queued, since
    enters that submit nothing may bring them."""
    counters = ring.counters()
    return counters["submitted"], 0 if ring.pending else counters["completed"]


def first_completions(ring: RingLike, timeout: float) -> int:
    """A cycle that is made again after a signal, a refused enter, or a submission that hid why its wait
    ended: how many completions it left in the ring's ``out``, 0 after ``timeout`` seconds, or the error."""
    refusals, end = Refusals(), time.monotonic() + timeout
    while True:
        n = ring.cycle(max(0.0, end - time.monotonic()))
        if n > 0 or not (n == 0 or n == -errno.EINTR or (n in PASSING and refusals.endured(ring))):
            return n
        if time.monotonic() >= end:
            return n
        if n in PASSING:
            time.sleep(PAUSE)
