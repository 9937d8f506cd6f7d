"""Repeated events by one multishot request: ticks of a clock, readiness of a descriptor.

Events that occur while the consumer is busy become one item, so that nothing queues up: ticks are counted,
readiness is merged.
"""

from __future__ import annotations

import operator
import struct
import time
from typing import TYPE_CHECKING, Any

from uring import abi
from uring.kernel.memory import zeroed
from uring.ops.timeout import SHORTEST_PERIOD

from ..core.engine import current
from ..core.fd import Fd
from .items import Items
from .states import Event
from .subscription import Subscription

if TYPE_CHECKING:
    from uring.kernel.memory import Zeroed

__all__ = ["poll_events", "ticks"]

_TIMEOUT = int(abi.IORING_OP_TIMEOUT)
_TIMEOUT_MULTISHOT = int(abi.IORING_TIMEOUT_MULTISHOT)
_POLL_ADD = int(abi.IORING_OP_POLL_ADD)
_POLL_MULTI = int(abi.IORING_POLL_ADD_MULTI)
_TIMESPEC = struct.Struct("=qq")
_LONGEST = 1 << 33


class ticks(Items[int]):
    """A clock in the kernel:

        async with uring_trio.ticks(0.1) as clock:
            async for passed in clock:
                use(passed)

    Each item is the number of periods that have passed since the item before: 1 if the consumer keeps up,
    more if it was busy. Periods are counted on the monotonic clock from entering the block, so that they do
    not drift; a mock clock does not change them. A period is 100 µs or longer: a shorter one expires again
    before the kernel can process a cancel.

    Args:
        seconds: the period in seconds.

    Raises:
        TypeError, ValueError: the period is no number of seconds, or too short or long.
        RuntimeError: outside a ring run, or iterated without ``async with``.
        trio.ClosedResourceError: the block was left.
    """

    __slots__ = ("_period", "_spec", "_start", "_told")

    def __init__(self, seconds: float) -> None:
        super().__init__()
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
            raise TypeError(f"a period is a number of seconds, not {type(seconds).__name__}")
        if not SHORTEST_PERIOD <= seconds < _LONGEST:
            raise ValueError(f"a period is {SHORTEST_PERIOD} to {_LONGEST} seconds, not {seconds}")
        self._period = max(1, round(seconds * 1e9))
        self._spec: Zeroed = zeroed(_TIMESPEC.size)
        _TIMESPEC.pack_into(self._spec.view, 0, *divmod(self._period, 1_000_000_000))
        self._start = 0
        self._told = 0

    def _open(self) -> Subscription:
        fields = (_TIMEOUT, 0, -1, 0, self._spec.address, 1, _TIMEOUT_MULTISHOT, 0, 0, 0)
        owner = Fd.borrow(current(), -1)
        ticking = Subscription(owner, "timeout_multishot", fields, _nothing, pins=self._spec, merge=min)
        self._start = time.monotonic_ns()
        ticking.step(Event.GET)
        return ticking

    def _item(self, res: int, flags: int) -> int:
        passed = max(1, (time.monotonic_ns() - self._start) // self._period - self._told)
        self._told += passed
        return passed


class poll_events(Items[int]):
    """Readiness of a descriptor, as poll(2) names it:

        async with uring_trio.poll_events(fd, select.POLLIN) as events:
            async for mask in events:
                use(mask)

    Each new event is an item (readiness at the start counts as new); a state that lasts is reported once.
    Events that occur while the consumer is busy are merged. Errors and hang-ups are always reported.
    The descriptor stays the caller's.

    Args:
        fd: a descriptor, or an object with ``fileno()``.
        mask: ``select.POLLIN`` and its like, one or more of them.

    Raises:
        TypeError, ValueError: no such mask or descriptor; nothing is armed.
        OSError: while iterating, the descriptor cannot be polled (``EBADF``).
        trio.ClosedResourceError: while iterating, the descriptor was closed by its owner (a socket, or
            ``trio.lowlevel.notify_closing``), or the block was left.
        RuntimeError: outside a ring run, or iterated without ``async with``.
    """

    __slots__ = ("_fd", "_mask")

    def __init__(self, fd: Any, mask: int) -> None:
        super().__init__()
        self._fd = fd if isinstance(fd, int) else fd.fileno()
        if self._fd < 0:
            raise ValueError(f"a file descriptor is not negative ({self._fd})")
        if isinstance(mask, bool) or not isinstance(mask, int):
            raise TypeError(f"a mask of events is an int, not {type(mask).__name__}")
        if not 0 < mask < 1 << 32:
            raise ValueError(f"a mask of events is 1 to {(1 << 32) - 1}, not {mask}")
        self._mask = mask

    def _open(self) -> Subscription:
        owner = Fd.borrow(current(), self._fd)
        fields = (_POLL_ADD, 0, self._fd, 0, 0, _POLL_MULTI, self._mask, 0, 0, 0)
        return Subscription(owner, "poll_multishot", fields, _nothing, merge=operator.or_)

    def _item(self, res: int, flags: int) -> int:
        return res


def _nothing(res: int, flags: int) -> None:
    """An event holds nothing to give back."""
