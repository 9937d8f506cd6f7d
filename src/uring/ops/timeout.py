"""Time: timeout, link_timeout."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from .. import abi
from ..memory import zeroed
from .base import check_int, make

if TYPE_CHECKING:
    from ..memory import Zeroed
    from ..op import Op

__all__ = ["link_timeout", "timeout"]

_TIMESPEC = struct.Struct("=qq")
_UINT_MAX = (1 << 32) - 1


def timeout(seconds: float, *, count: int = 0, absolute: bool = False) -> Op:
    """Completes with ``-ETIME`` after ``seconds`` (Linux 5.4), or with 0 once ``count`` other operations
    have completed, if that comes first. ``absolute``: a time on the monotonic clock."""
    check_int("count", count, 0, _UINT_MAX)
    spec = timespec(seconds)
    flags = int(abi.IORING_TIMEOUT_ABS) if absolute else 0
    return make(
        "timeout", abi.IORING_OP_TIMEOUT, addr=spec.address, length=1, off=count, op_flags=flags, pins=spec
    )


def link_timeout(seconds: float, *, absolute: bool = False) -> Op:
    """Cancels the operation before it, which carries ``IOSQE_IO_LINK``, after ``seconds`` (Linux 5.5).

    Completes with ``-ETIME`` when it fired and with ``-ECANCELED`` when the operation was faster. It is
    armed after the operation's first attempt: what a kernel worker runs is never interrupted by it.
    """
    spec = timespec(seconds)
    flags = int(abi.IORING_TIMEOUT_ABS) if absolute else 0
    return make(
        "link_timeout", abi.IORING_OP_LINK_TIMEOUT, addr=spec.address, length=1, op_flags=flags, pins=spec
    )


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
