"""Enters that the kernel refuses, as while it has no memory for requests.

Entries stay queued and are tried again. An entry that was taken back before the kernel saw it completes
without an enter, so that a deadline or Ctrl-C ends such a call. Operations that the kernel has end only by an
enter: where none succeeds for `uring.kernel.refusals.REFUSED_SECONDS`, the run ends with the error.
"""

from __future__ import annotations

import errno
import time
from typing import TYPE_CHECKING

from uring.errors import CQOverflow, error_from_result
from uring.kernel import refusals
from uring.kernel.ring import KernelRing

if TYPE_CHECKING:
    from uring.kernel.ringlike import RingLike

__all__ = ["Refusals", "failure"]


def failure(ring: RingLike, result: int) -> OSError:
    """The error that ends the run, for the result of an enter."""
    if result == -errno.EBADF and isinstance(ring, KernelRing):
        return ring.closed_error()
    if result == -errno.EBADR:
        return CQOverflow("the kernel had no memory to keep completions in, and dropped some")
    return error_from_result(result, "io_uring_enter")


class Refusals(refusals.Refusals):
    """The refused enters of one run."""

    def endure(self, ring: RingLike, instead: int) -> int | None:
        """Puts completions of entries that were taken back into the ring's ``out`` and returns how many;
        without any it waits for a millisecond. None: this has lasted for too long. ``instead`` is the
        ``user_data`` under which those entries stay queued."""
        if not self.endured(ring):
            return None
        ended = ring.end_unsent(instead)
        if ended <= 0:
            time.sleep(refusals.PAUSE)
        return max(0, ended)
