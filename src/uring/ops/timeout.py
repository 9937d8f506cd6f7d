"""Time: timeout and link_timeout, and changing or removing them.

A time is in seconds, rounded up to the nanosecond: from now, or with ``absolute`` a time of the clock, which
is the monotonic one without ``boottime`` or ``realtime`` (5.15).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from .. import abi
from ..errors import NotSupported
from ..kernel.immediate_timeouts import takes_immediate_times
from ..kernel.memory import zeroed
from .base import UINT_MAX, check_flags, check_int, check_user_data, make

if TYPE_CHECKING:
    from ..kernel.memory import Zeroed
    from ..kernel.op import Op

__all__ = ["link_timeout", "link_timeout_update", "timeout", "timeout_remove", "timeout_update", "timespec"]

SHORTEST_PERIOD = 1e-4
"""Least seconds between two firings of a timer that a cancel has to end: with 10 µs no cancel is in time."""

_MOST_AT_SHORT_PERIODS = 1000
"""How often a timer of shorter periods may fire: it ends by itself before the ring's stop gives up."""

_TIMESPEC = struct.Struct("=qq")
_ABS = int(abi.IORING_TIMEOUT_ABS)
_BOOTTIME = int(abi.IORING_TIMEOUT_BOOTTIME)
_REALTIME = int(abi.IORING_TIMEOUT_REALTIME)
_CLOCKS = _BOOTTIME | _REALTIME
_ETIME_SUCCESS = int(abi.IORING_TIMEOUT_ETIME_SUCCESS)
_MULTISHOT = int(abi.IORING_TIMEOUT_MULTISHOT)
_IMMEDIATE = int(abi.IORING_TIMEOUT_IMMEDIATE_ARG)
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
    immediate: bool = False,
    timeout_flags: int = 0,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Completes when the time has come.

    Args:
        duration: seconds from now, or with ``absolute`` since the clock's start; 0 to 2**33, rounded up to
            the nanosecond.
        count: ends earlier, once so many other operations have completed, 0 to 2**32 - 1; 0 does not count.
            Of a multishot: how often it fires; 0 until it is removed.
        absolute: ``duration`` is a time of the clock, not an interval.
        boottime: the clock is ``CLOCK_BOOTTIME``, which counts suspended time; else ``CLOCK_MONOTONIC``.
        realtime: the clock is ``CLOCK_REALTIME``.
        etime_success: firing does not break a chain of linked operations (Linux 5.16).
        multishot: fires repeatedly (Linux 6.4).
        immediate: the entry has the time itself, as nanoseconds, and no memory is kept for it (Linux 7.1).
        timeout_flags: more ``IORING_TIMEOUT_*`` bits; the keywords before are such bits by name.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0 when ``count`` operations have completed. The end of the time is the error ``ETIME``.

    Errors:
        - ``ETIME``: the time has come.

    Ends:
        A multishot completes with ``ETIME`` each time it fires. It ends after ``count`` of them, or with
        ``ECANCELED``: the completion without ``F_MORE`` is the last.

    Cancellation:
        `timeout_remove` and `async_cancel` end it at once with ``ECANCELED``.

    Raises:
        NotSupported: the kernel has no ``immediate``.
        TypeError, ValueError: an argument has the wrong type or is out of range; two clocks; a multishot with
            an absolute time; one of less than 100 µs that fires without end, or more than 1000 times: no
            cancel finds it, because it fires again first.

    Since:
        Linux 5.4; ``boottime`` and ``realtime`` 5.15.

    Source:
        io_uring_enter(2), ``IORING_OP_TIMEOUT``; io_uring_prep_timeout(3).
    """
    flags = _flags(absolute, boottime, realtime, timeout_flags)
    flags |= (_ETIME_SUCCESS if etime_success else 0) | (_MULTISHOT if multishot else 0)
    if flags & _MULTISHOT and flags & _ABS:
        raise ValueError("a multishot timeout fires at intervals, not at an absolute time")
    spec = _time(duration, immediate)
    count = check_int("count", count, 0, UINT_MAX)
    if flags & _MULTISHOT and not 1 <= count <= _MOST_AT_SHORT_PERIODS and duration < SHORTEST_PERIOD:
        raise ValueError(
            f"a multishot timeout of less than {SHORTEST_PERIOD} seconds has a count of 1 to "
            f"{_MOST_AT_SHORT_PERIODS}, not {count}: no cancel finds it, because it fires again first"
        )
    return make(
        "timeout",
        abi.IORING_OP_TIMEOUT,
        addr=spec if isinstance(spec, int) else spec.address,
        length=1,
        off=count,
        op_flags=flags | (_IMMEDIATE if immediate else 0),
        pins=None if immediate else spec,
    ).with_options(sqe_flags, personality)


def timeout_remove(user_data: int, *, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Ends a timeout. The timeout itself completes with ``ECANCELED``.

    Args:
        user_data: the value under which the timeout was submitted, 0 to 2**64 - 1.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0.

    Errors:
        - ``ENOENT``: no timeout in flight has this value. A linked one is not found: it ends with its
          operation.
        - ``EALREADY``: the timeout is firing.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.5.

    Source:
        io_uring_enter(2), ``IORING_OP_TIMEOUT_REMOVE``.
    """
    return make("timeout_remove", abi.IORING_OP_TIMEOUT_REMOVE, addr=check_user_data(user_data)).with_options(
        sqe_flags, personality
    )


def timeout_update(
    user_data: int, duration: float, *, absolute: bool = False, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Gives a timeout another time, on its clock.

    Args:
        user_data: the value under which the timeout was submitted, 0 to 2**64 - 1.
        duration: seconds from now, or with ``absolute`` since the clock's start; 0 to 2**33.
        absolute: ``duration`` is a time of the clock, not an interval.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0.

    Errors:
        - ``ENOENT``: no timeout in flight has this value. For a linked one there is `link_timeout_update`.
        - ``EALREADY``: the timeout is firing.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.11.

    Source:
        io_uring_enter(2), ``IORING_OP_TIMEOUT_REMOVE``, ``IORING_TIMEOUT_UPDATE``.
    """
    return _update("timeout_update", user_data, duration, _UPDATE | (_ABS if absolute else 0)).with_options(
        sqe_flags, personality
    )


def link_timeout(
    duration: float,
    *,
    absolute: bool = False,
    boottime: bool = False,
    realtime: bool = False,
    immediate: bool = False,
    timeout_flags: int = 0,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Cancels the operation before it, which carries ``IOSQE_IO_LINK``, when the time has come.

    The timer starts after the operation's first attempt. It never interrupts an operation that goes straight
    to a kernel worker (fsync, splice, path operations). The kernel cancels by ``user_data``: it may cancel
    another operation in flight under the same value instead.

    Args:
        duration: seconds from the operation's first attempt on, or with ``absolute`` since the clock's start;
            0 to 2**33, rounded up to the nanosecond.
        absolute: ``duration`` is a time of the clock, not an interval.
        boottime: the clock is ``CLOCK_BOOTTIME``, which counts suspended time; else ``CLOCK_MONOTONIC``.
        realtime: the clock is ``CLOCK_REALTIME``.
        immediate: the entry has the time itself, as nanoseconds, and no memory is kept for it (Linux 7.1).
        timeout_flags: more ``IORING_TIMEOUT_*`` bits; the keywords before are such bits by name.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        1 where it ended a futex wait or `waitid`. Every other outcome is an error.

    Errors:
        - ``ETIME``: it fired and cancelled the operation.
        - ``ECANCELED``: the operation ended first, or was cancelled.
        - ``ENOENT``: it fired, and the operation could not be cancelled: it completes as it would have.
        - ``EINVAL``: nothing is linked before it.

    Cancellation:
        It ends with its operation. `async_cancel` does not find it; cancel the operation.

    Raises:
        NotSupported: the kernel has no ``immediate``.
        TypeError, ValueError: an argument has the wrong type or is out of range; two clocks.

    Since:
        Linux 5.5; ``boottime`` and ``realtime`` 5.15.

    Source:
        io_uring_enter(2), ``IORING_OP_LINK_TIMEOUT``; io_uring_prep_link_timeout(3).
    """
    flags = _flags(absolute, boottime, realtime, timeout_flags)
    spec = _time(duration, immediate)
    return make(
        "link_timeout",
        abi.IORING_OP_LINK_TIMEOUT,
        addr=spec if isinstance(spec, int) else spec.address,
        length=1,
        op_flags=flags | (_IMMEDIATE if immediate else 0),
        pins=None if immediate else spec,
    ).with_options(sqe_flags, personality)


def link_timeout_update(
    user_data: int, duration: float, *, absolute: bool = False, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Gives a linked timeout that is running another time.

    Args:
        user_data: the value under which the timeout itself was submitted, 0 to 2**64 - 1.
        duration: seconds from now, or with ``absolute`` since the clock's start; 0 to 2**33.
        absolute: ``duration`` is a time of the clock, not an interval.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0.

    Errors:
        - ``ENOENT``: no linked timeout with this value is running.
        - ``EALREADY``: the timeout is firing.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.11.

    Source:
        io_uring_enter(2), ``IORING_OP_TIMEOUT_REMOVE``, ``IORING_LINK_TIMEOUT_UPDATE``.
    """
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


def _time(seconds: float, immediate: bool) -> Zeroed | int:
    """A time in memory, or as nanoseconds."""
    spec = timespec(seconds)
    if not immediate:
        return spec
    if not takes_immediate_times():
        raise NotSupported("IORING_TIMEOUT_IMMEDIATE_ARG", "Linux 7.1")
    whole, nanoseconds = _TIMESPEC.unpack(spec.view)
    return int(whole * 1_000_000_000 + nanoseconds)


def _flags(absolute: bool, boottime: bool, realtime: bool, timeout_flags: int) -> int:
    flags = check_flags("timeout_flags", timeout_flags)
    flags |= (_ABS if absolute else 0) | (_BOOTTIME if boottime else 0) | (_REALTIME if realtime else 0)
    if flags & _IMMEDIATE:
        raise ValueError("IORING_TIMEOUT_IMMEDIATE_ARG says where the time is: give immediate=True")
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
