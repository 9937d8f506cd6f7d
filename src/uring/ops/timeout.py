"""Time: timeout and link_timeout, and changing or removing them.

A time is in seconds, rounded up to the nanosecond: how long from now, or with ``absolute`` when, on the
monotonic clock unless ``boottime`` or ``realtime`` says another (5.15).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from .. import abi
from ..kernel.memory import zeroed
from .base import UINT_MAX, check_flags, check_int, check_user_data, make

if TYPE_CHECKING:
    from ..kernel.memory import Zeroed
    from ..kernel.op import Op

__all__ = ["link_timeout", "link_timeout_update", "timeout", "timeout_remove", "timeout_update", "timespec"]

SHORTEST_PERIOD = 1e-4
"""Seconds between two firings of a timer that only a cancel ends: with 10 µs none arrives in time."""

_TIMESPEC = struct.Struct("=qq")
_ABS = int(abi.IORING_TIMEOUT_ABS)
_BOOTTIME = int(abi.IORING_TIMEOUT_BOOTTIME)
_REALTIME = int(abi.IORING_TIMEOUT_REALTIME)
_CLOCKS = _BOOTTIME | _REALTIME
_ETIME_SUCCESS = int(abi.IORING_TIMEOUT_ETIME_SUCCESS)
_MULTISHOT = int(abi.IORING_TIMEOUT_MULTISHOT)
_UPDATE = int(abi.IORING_TIMEOUT_UPDATE)
_LINK_UPDATE = int(abi.IORING_LINK_TIMEOUT_UPDATE)


def timeout(
    duration: float,
    *,
    count: int = 0,
    absolute: bool = False,
    boottime: bool = False,
    realtime: bool = False,
    etime_success: bool = False,
    multishot: bool = False,
    timeout_flags: int = 0,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Completes with ``-ETIME`` when the time has come (Linux 5.4).

    Args:
        count: completes with 0 once so many other operations have completed, if that comes first; of a
            multishot, how often it fires (0: until removed).
        etime_success: firing does not break a chain of linked operations (5.16).
        multishot: fires again and again, a completion each; all but the last have ``F_MORE`` (6.4). With no
            count it is 100 µs or longer: the kernel finds no timer to stop where it is due
            again before a cancel gets there, and what is not stopped holds its ring for ever.
        timeout_flags: more ``IORING_TIMEOUT_*`` bits; the keywords are the same bits by name.

    Raises:
        ValueError: two clocks, or multishot with an absolute time, or with too short a one.
    """
    flags = _flags(absolute, boottime, realtime, timeout_flags)
    flags |= (_ETIME_SUCCESS if etime_success else 0) | (_MULTISHOT if multishot else 0)
    if flags & _MULTISHOT and flags & _ABS:
        raise ValueError("a multishot timeout fires at intervals, not at an absolute time")
    spec = timespec(duration)
    if flags & _MULTISHOT and not count and duration < SHORTEST_PERIOD:
        raise ValueError(
            f"a multishot timeout with no count is {SHORTEST_PERIOD} seconds or more, not {duration}: "
            "a cancel would come too late each time"
        )
    return make(
        "timeout",
        abi.IORING_OP_TIMEOUT,
        addr=spec.address,
        length=1,
        off=check_int("count", count, 0, UINT_MAX),
        op_flags=flags,
        pins=spec,
    ).with_options(sqe_flags, personality)


def timeout_remove(user_data: int, *, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Ends a timeout that was submitted under ``user_data`` (Linux 5.5); completes with 0, or ``ENOENT``.

    The timeout itself completes with ``-ECANCELED``. A linked timeout ends with its operation instead.
    """
    return make("timeout_remove", abi.IORING_OP_TIMEOUT_REMOVE, addr=check_user_data(user_data)).with_options(
        sqe_flags, personality
    )


def timeout_update(
    user_data: int, duration: float, *, absolute: bool = False, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Gives a timeout a new time, on the clock it has (Linux 5.11); completes with 0, or ``ENOENT``."""
    return _update("timeout_update", user_data, duration, _UPDATE | (_ABS if absolute else 0)).with_options(
        sqe_flags, personality
    )


def link_timeout(
    duration: float,
    *,
    absolute: bool = False,
    boottime: bool = False,
    realtime: bool = False,
    timeout_flags: int = 0,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Cancels the operation before it, which carries ``IOSQE_IO_LINK``, when the time has come (Linux 5.5).

    Completes with ``-ETIME`` when it fired (with 1 on futex waits and waitid) and with ``-ECANCELED`` when
    the operation was faster. It is armed after the operation's first attempt: what a kernel worker runs is
    never interrupted by it.
    """
    spec = timespec(duration)
    return make(
        "link_timeout",
        abi.IORING_OP_LINK_TIMEOUT,
        addr=spec.address,
        length=1,
        op_flags=_flags(absolute, boottime, realtime, timeout_flags),
        pins=spec,
    ).with_options(sqe_flags, personality)


def link_timeout_update(
    user_data: int, duration: float, *, absolute: bool = False, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Gives a linked timeout that is armed a new time (Linux 5.11); completes with 0, or ``ENOENT``.
    ``user_data`` is the timeout's own."""
    flags = _UPDATE | _LINK_UPDATE | (_ABS if absolute else 0)
    return _update("link_timeout_update", user_data, duration, flags).with_options(sqe_flags, personality)


def timespec(seconds: float) -> Zeroed:
    """``struct __kernel_timespec``, rounded up to the nanosecond.

    Raises:
        TypeError, ValueError: not a number, negative, or too large for the kernel.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise TypeError(f"seconds is a number, not {type(seconds).__name__}")
    if not 0 <= seconds < 1 << 33:
        raise ValueError(f"seconds is 0 to {1 << 33}, not {seconds}")
    whole = int(seconds)
    nanoseconds = -int(-(seconds - whole) * 1e9 // 1)
    memory = zeroed(_TIMESPEC.size)
    _TIMESPEC.pack_into(memory.view, 0, whole + nanoseconds // 1_000_000_000, nanoseconds % 1_000_000_000)
    return memory


def _flags(absolute: bool, boottime: bool, realtime: bool, timeout_flags: int) -> int:
    flags = check_flags("timeout_flags", timeout_flags)
    flags |= (_ABS if absolute else 0) | (_BOOTTIME if boottime else 0) | (_REALTIME if realtime else 0)
    if flags & _CLOCKS == _CLOCKS:
        raise ValueError("a timeout has one clock: boottime or realtime")
    return flags


def _update(name: str, user_data: int, duration: float, flags: int) -> Op[int]:
    spec = timespec(duration)
    return make(
        name,
        abi.IORING_OP_TIMEOUT_REMOVE,
        off=spec.address,
        addr=check_user_data(user_data),
        op_flags=flags,
        pins=spec,
    )
