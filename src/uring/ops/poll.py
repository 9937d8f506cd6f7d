"""Readiness: poll_add in its forms, poll_update, poll_remove.

One shot completes with the events at once if there are some. A multishot completes again whenever something
new happens, not while things stay as they are. Errors and hang-ups are always reported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from .. import abi
from .base import UINT_MAX, Fd, check_fd, check_int, check_user_data, make

if TYPE_CHECKING:
    from ..kernel.op import Multishot, Op

__all__ = [
    "poll_add",
    "poll_add_level",
    "poll_add_multishot",
    "poll_add_multishot_level",
    "poll_remove",
    "poll_update",
]

_MULTI = int(abi.IORING_POLL_ADD_MULTI)
_LEVEL = int(abi.IORING_POLL_ADD_LEVEL)
_UPDATE_EVENTS = int(abi.IORING_POLL_UPDATE_EVENTS)
_UPDATE_USER_DATA = int(abi.IORING_POLL_UPDATE_USER_DATA)


def poll_add(
    fd: Fd,
    mask: int,
    *,
    multishot: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Waits until poll(2) reports one of ``mask``; completes with the events, errors and hang-ups too
    (Linux 5.1). ``multishot`` (5.13) goes on: a completion per change until cancelled."""
    return _poll("poll_add", fd, mask, _MULTI if multishot else 0, fixed_file).with_options(
        sqe_flags, personality
    )


def poll_add_multishot(
    fd: Fd, mask: int, *, fixed_file: bool = False, sqe_flags: int = 0, personality: int = 0
) -> Multishot[int]:
    """`poll_add` that goes on until cancelled (Linux 5.13): a completion per change."""
    return cast(
        "Multishot[int]",
        _poll("poll_add_multishot", fd, mask, _MULTI, fixed_file).with_options(sqe_flags, personality),
    )


def poll_add_level(
    fd: Fd, mask: int, *, fixed_file: bool = False, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """`poll_add`, level-triggered. ``EINVAL`` on kernels that define the flag and do not take it, such as
    6.18."""
    return _poll("poll_add_level", fd, mask, _LEVEL, fixed_file).with_options(sqe_flags, personality)


def poll_add_multishot_level(
    fd: Fd, mask: int, *, fixed_file: bool = False, sqe_flags: int = 0, personality: int = 0
) -> Multishot[int]:
    """`poll_add_multishot`, level-triggered; ``EINVAL`` as `poll_add_level`."""
    return cast(
        "Multishot[int]",
        _poll("poll_add_multishot_level", fd, mask, _MULTI | _LEVEL, fixed_file).with_options(
            sqe_flags, personality
        ),
    )


def poll_remove(user_data: int, *, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Ends the poll that was submitted under ``user_data`` (Linux 5.1); completes with 0, or ``ENOENT``."""
    return make("poll_remove", abi.IORING_OP_POLL_REMOVE, addr=check_user_data(user_data)).with_options(
        sqe_flags, personality
    )


def poll_update(
    user_data: int,
    *,
    mask: int | None = None,
    new_user_data: int | None = None,
    multishot: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Changes a poll in flight (Linux 5.13): what it waits for, what its completions carry, or both.
    Completes with 0, or ``ENOENT``. ``multishot``: it is one, and stays one under a new mask.

    Raises:
        TypeError: nothing to change.
    """
    if mask is None and new_user_data is None:
        raise TypeError("give a mask or new_user_data to change the poll to")
    flags = _MULTI if multishot else 0
    if mask is not None:
        flags |= _UPDATE_EVENTS
    if new_user_data is not None:
        flags |= _UPDATE_USER_DATA
    return make(
        "poll_update",
        abi.IORING_OP_POLL_REMOVE,
        off=0 if new_user_data is None else check_user_data(new_user_data),
        addr=check_user_data(user_data),
        length=flags,
        op_flags=0 if mask is None else _mask(mask),
    ).with_options(sqe_flags, personality)


def _mask(mask: int) -> int:
    return check_int("mask", mask, 1, UINT_MAX)


def _poll(name: str, fd: Fd, mask: int, flags: int, fixed_file: bool) -> Op[int]:
    return make(
        name,
        abi.IORING_OP_POLL_ADD,
        check_fd(fd),
        op_flags=_mask(mask),
        length=flags,
        fixed_file=fixed_file,
    )
