"""Whether this kernel takes the time of a timeout from its entry. No query tells that: a timeout tries it."""

from __future__ import annotations

import errno
from functools import cache

from ..abi import IORING_OP_TIMEOUT, IORING_TIMEOUT_IMMEDIATE_ARG
from .refusals import first_completions
from .ring import CQE, KernelRing

__all__ = ["takes_immediate_times"]

_SECONDS = 5.0
"""For how long the answer is waited for, which comes at once."""


@cache
def takes_immediate_times() -> bool:
    """Asks the kernel, once.

    Raises:
        RingUnavailable: this machine refuses io_uring.
    """
    ring = KernelRing(2, 0)
    try:
        ring.put(1, int(IORING_OP_TIMEOUT), 0, -1, 0, 0, 1, int(IORING_TIMEOUT_IMMEDIATE_ARG), 0, 0, 0)
        n = first_completions(ring, _SECONDS)
        return any(res == -errno.ETIME for _, res, _ in CQE.iter_unpack(ring.out[: max(n, 0) * CQE.size]))
    finally:
        ring.close()
