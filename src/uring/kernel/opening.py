"""Opening a ring, and the reason of a refusal: the machine, a filter of system calls, an old kernel."""

from __future__ import annotations

import errno
import os
from typing import Any

from .. import abi
from .. import advice as _advice  # noqa: F401 - without a descriptor or memory it could not be loaded later
from ..errors import RingUnavailable, error_from_result, unavailable_from_errno
from .lib import ffi, lib
from .refusals import PASSING

__all__ = ["open_ring"]

_DISABLED = int(abi.IORING_SETUP_R_DISABLED)
_REGISTERED_FD_ONLY = int(abi.IORING_SETUP_REGISTERED_FD_ONLY)
_PROBE = int(abi.IORING_REGISTER_PROBE)

_TRIES = 4
"""How often a call is made that was interrupted, or had no memory at the time; signal handlers run in
between."""

_UNAVAILABLE = frozenset(
    (
        errno.ENOSYS, errno.EPERM, errno.ENOMEM, errno.EACCES, errno.EMFILE, errno.ENFILE, errno.EAGAIN,
        errno.EINTR,
    )
)  # fmt: skip
"""Errors of io_uring_setup, and of mapping its queues, that come from this machine and not the arguments."""


def open_ring(handle: Any, entries: int, params: Any) -> None:
    """io_uring_setup(2) and the mapping of the queues; ``params`` then tells the ring's sizes and features.

    Raises:
        RingUnavailable: this machine refuses io_uring, or one of its three system calls. OSError: the kernel
            refused the arguments.
    """
    flags, cq_entries = params.flags, params.cq_entries
    for _ in range(_TRIES):
        result = lib.ur_open(handle, entries, params, 0)
        if result != -errno.EINTR:
            break
    if result < 0:
        raise _set_up_error(-result, entries, cq_entries, flags)
    refused = _refused_call(handle, flags)
    if refused is not None:
        lib.ur_close(handle)
        raise refused


def _set_up_error(code: int, entries: int, cq_entries: int, flags: int) -> OSError:
    if code in _UNAVAILABLE:
        # At most this: entries and completions, both mapped, and the completions handed out.
        return unavailable_from_errno(code, memory=entries * 128 + 64 * max(cq_entries, 2 * entries))
    if code == errno.EINVAL and flags & ~_DISABLED and _old_kernel():
        return _too_old()
    return error_from_result(-code, f"io_uring_setup(entries={entries}, flags={flags:#x})")


def _refused_call(handle: Any, flags: int) -> RingUnavailable | None:
    """Makes the two other system calls, with nothing to do: a filter may allow io_uring_setup alone, and the
    program learns it before its first request."""
    # EBADFD is the kernel's own answer: a ring that is not enabled yet may not be entered.
    for _ in range(_TRIES):
        result = lib.ur_enter(handle, 0, 0, 0, ffi.NULL, 0)
        if result != -errno.EINTR and result not in PASSING:
            break
    handle.enters = 0
    if result == -errno.EINVAL and _old_kernel():
        return _too_old()
    if result < 0 and result != -errno.EBADFD:
        return unavailable_from_errno(-result, "io_uring_enter")
    opcode = _PROBE | (abi.IORING_REGISTER_USE_REGISTERED_RING if flags & _REGISTERED_FD_ONLY else 0)
    result = lib.ur_register(handle.fd, opcode, ffi.new("uint64_t[2]"), 0)
    return unavailable_from_errno(-result, "io_uring_register") if result < 0 else None


def _too_old() -> RingUnavailable:
    return RingUnavailable(
        errno.EINVAL, f"this needs Linux 6.18 or later, the running kernel is {os.uname().release}"
    )


def _old_kernel() -> bool:
    release = os.uname().release.split("-")[0].split(".")
    try:
        return (int(release[0]), int(release[1])) < (6, 18)
    except (IndexError, ValueError):
        return False
