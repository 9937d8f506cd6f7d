"""Enters that the kernel refuses for now, as while it has no memory for requests.

Entries stay queued, and the next enter submits them. Where none succeeds for `REFUSED_SECONDS`, the error is
raised.
"""

from __future__ import annotations

import errno
import time
from math import inf

__all__ = ["PASSING", "PAUSE", "REFUSED_SECONDS", "Refusals"]

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

    def endured(self) -> bool:
        """Counts a refused enter; false where this has lasted for too long."""
        now = time.monotonic()
        if now - self._last > _APART:
            self._first = now
        self._last = now
        return now - self._first <= REFUSED_SECONDS
