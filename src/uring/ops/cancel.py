"""Cancelling: by user_data, by descriptor, any, all.

A cancel's own completion only says what was found; each target still completes exactly once, with
``-ECANCELED`` or with the result that was faster.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import abi
from .base import check_fd, check_int, make

if TYPE_CHECKING:
    from ..op import Op

__all__ = ["async_cancel", "async_cancel_all", "async_cancel_any", "async_cancel_fd"]

_DATA_MAX = (1 << 64) - 1
_ALL = int(abi.IORING_ASYNC_CANCEL_ALL)
_FD = int(abi.IORING_ASYNC_CANCEL_FD)
_ANY = int(abi.IORING_ASYNC_CANCEL_ANY)


def async_cancel(user_data: int, *, all: bool = False) -> Op:
    """Cancels what was submitted under ``user_data`` (Linux 5.5). Completes with 0 or more if it was
    found, ``-ENOENT`` if not (it may have completed, or be file I/O that nothing can stop), ``-EALREADY``
    if a kernel worker is running it. ``all``: every match; completes with their number."""
    check_int("user_data", user_data, 0, _DATA_MAX)
    flags = _ALL if all else 0
    return make("async_cancel", abi.IORING_OP_ASYNC_CANCEL, addr=user_data, op_flags=flags)


def async_cancel_fd(fd: int, *, all: bool = True) -> Op:
    """Cancels what works on a descriptor (Linux 5.19); with ``all`` completes with the number found."""
    flags = _FD | (_ALL if all else 0)
    return make("async_cancel_fd", abi.IORING_OP_ASYNC_CANCEL, check_fd(fd), op_flags=flags)


def async_cancel_any() -> Op:
    """Cancels one operation, whichever (Linux 5.19)."""
    return make("async_cancel_any", abi.IORING_OP_ASYNC_CANCEL, op_flags=_ANY)


def async_cancel_all() -> Op:
    """Cancels everything in flight (Linux 5.19); completes with the number found."""
    return make("async_cancel_all", abi.IORING_OP_ASYNC_CANCEL, op_flags=_ANY | _ALL)
