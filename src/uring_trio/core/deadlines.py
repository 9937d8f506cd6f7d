"""Deadlines that the kernel holds: which ones, and the linked timer behind an operation.

Trio expires a deadline between two ticks. While tasks keep the loop busy the kernel's timer is more exact, at
the price of a second entry for each operation: by default only near deadlines use it.

It is independent of how an operation is cancelled. The comparison of a task's deadline with `reach` stands in
`seams.waits`, and again in C (``_io_receive.c``).
"""

from __future__ import annotations

import struct
from math import inf
from typing import TYPE_CHECKING, Any

from uring import abi
from uring.kernel.memory import zeroed

if TYPE_CHECKING:
    from ..seams.protocols import Run

__all__ = ["NEAR", "KernelDeadline", "reach"]

NEAR = 0.1
"""Seconds: with ``deadlines="auto"`` an operation that starts closer to its deadline has it in the kernel."""

_SECOND = 1_000_000_000
_FOREVER = float(1 << 33)
"""Seconds on the monotonic clock: longer than any machine runs, and within what the kernel's timers take."""

_TIMESPEC = struct.Struct("=qq")
_LINK_TIMEOUT = int(abi.IORING_OP_LINK_TIMEOUT)
_TIMEOUT_ABS = int(abi.IORING_TIMEOUT_ABS)


def reach(mode: str, offset: float) -> float | None:
    """The kernel holds a deadline of Trio's clock that is at most this plus the monotonic time. Trio's clock
    is ``offset`` ahead. None: the kernel holds none. ``mode`` is `RingOptions.deadlines`."""
    return {"auto": offset + NEAR, "link": inf, "cancel": None}[mode]


class KernelDeadline:
    """A ``LINK_TIMEOUT`` behind an operation, at a time of the monotonic clock; reusable.

    All of a run share one ``user_data``: the operation's own completion says how it ended.
    """

    __slots__ = ("_spec", "template")

    def __init__(self, engine: Run) -> None:
        self._spec = zeroed(16)
        self.template: Any = engine.ring.template(
            engine.deadline_data, _LINK_TIMEOUT, 0, -1, 0, self._spec.address, 1, _TIMEOUT_ABS
        )

    def set(self, when: float) -> None:
        """Rounds up to the nanosecond: the kernel's timer never fires before Trio's. A time that no timespec
        holds becomes the nearest one."""
        when = min(max(when, 0.0), _FOREVER)
        seconds = int(when)
        nanoseconds = min(_SECOND - 1, max(0, int((when - seconds) * 1e9) + 1))
        _TIMESPEC.pack_into(self._spec.view, 0, seconds, nanoseconds)
