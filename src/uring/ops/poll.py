"""Readiness: poll_add, poll_remove."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import abi
from .base import check_fd, check_int, make

if TYPE_CHECKING:
    from ..op import Op

__all__ = ["poll_add", "poll_remove"]

_UINT_MAX = (1 << 32) - 1
_DATA_MAX = (1 << 64) - 1


def poll_add(fd: int, mask: int, *, multishot: bool = False) -> Op:
    """Waits until poll(2) reports one of ``mask``; completes with the events, errors and hang-ups too
    (Linux 5.1). ``multishot`` (5.13) goes on: a completion per change until cancelled."""
    check_int("mask", mask, 1, _UINT_MAX)
    length = int(abi.IORING_POLL_ADD_MULTI) if multishot else 0
    return make("poll_add", abi.IORING_OP_POLL_ADD, check_fd(fd), op_flags=mask, length=length)


def poll_remove(user_data: int) -> Op:
    """Ends the poll that was submitted under ``user_data`` (Linux 5.1); completes with 0, or ``ENOENT``."""
    check_int("user_data", user_data, 0, _DATA_MAX)
    return make("poll_remove", abi.IORING_OP_POLL_REMOVE, addr=user_data)
