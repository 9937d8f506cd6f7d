"""Readiness: poll_add in its forms, poll_update, poll_remove.

A one-shot poll completes at once if there are events. A multishot completes again at each new event, not
while the state stays the same. Errors and hang-ups are always reported.
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
    """Waits until a descriptor is ready.

    It completes at once if the descriptor is ready already. A regular file always is.

    Args:
        fd: a descriptor, or an object with ``fileno()``.
        mask: the events to wait for, ``POLL*`` of poll(2), 1 to 2**32 - 1. Errors and hang-ups are always
            reported.
        multishot: goes on, with a completion at each new event (Linux 5.13).
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The events that happened.

    Errors:
        - ``EBADF``: ``fd`` is not open, or the slot is empty.

    Ends:
        A multishot ends on a cancel, on an error and when the completion queue overflows: the completion
        without ``F_MORE`` is the last. While the descriptor's state stays the same there are no completions.

    Cancellation:
        `poll_remove`, `async_cancel` and `link_timeout` end it at once with ``ECANCELED``. Closing the
        descriptor does not: the poll holds the file.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.1.

    Source:
        poll(2); io_uring_enter(2), ``IORING_OP_POLL_ADD``.
    """
    return _poll("poll_add", fd, mask, _MULTI if multishot else 0, fixed_file).with_options(
        sqe_flags, personality
    )


def poll_add_multishot(
    fd: Fd, mask: int, *, fixed_file: bool = False, sqe_flags: int = 0, personality: int = 0
) -> Multishot[int]:
    """Reports readiness of a descriptor until it is cancelled.

    The first completion comes at once if the descriptor is ready, the others at each new event. While the
    descriptor's state stays the same there are none.

    Args:
        fd: a descriptor, or an object with ``fileno()``.
        mask: the events to report, ``POLL*`` of poll(2), 1 to 2**32 - 1. Errors and hang-ups are always
            reported.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        Of each completion: the events that happened.

    Errors:
        - ``EBADF``: ``fd`` is not open, or the slot is empty.
        - ``EINVAL``: ``sqe_flags`` has ``IOSQE_CQE_SKIP_SUCCESS``.

    Ends:
        On a cancel, on an error and when the completion queue overflows: the completion without ``F_MORE`` is
        the last.

    Cancellation:
        `poll_remove` and `async_cancel` end it at once with ``ECANCELED``. Closing the descriptor does not:
        the poll holds the file.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.13.

    Source:
        poll(2); io_uring_enter(2), ``IORING_OP_POLL_ADD``, ``IORING_POLL_ADD_MULTI``.
    """
    return cast(
        "Multishot[int]",
        _poll("poll_add_multishot", fd, mask, _MULTI, fixed_file).with_options(sqe_flags, personality),
    )


def poll_add_level(
    fd: Fd, mask: int, *, fixed_file: bool = False, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Waits until a descriptor is ready, level-triggered. Linux 6.18 defines the flag and refuses it.

    Args:
        fd: a descriptor, or an object with ``fileno()``.
        mask: the events to wait for, ``POLL*`` of poll(2), 1 to 2**32 - 1.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The events that happened.

    Errors:
        - ``EBADF``: ``fd`` is not open, or the slot is empty.
        - ``EINVAL``: the kernel refuses the flag (Linux 6.18 does).

    Cancellation:
        `poll_remove`, `async_cancel` and `link_timeout` end it at once with ``ECANCELED``.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.18 has the flag ``IORING_POLL_ADD_LEVEL`` and refuses it.

    Source:
        io_uring_enter(2), ``IORING_OP_POLL_ADD``.
    """
    return _poll("poll_add_level", fd, mask, _LEVEL, fixed_file).with_options(sqe_flags, personality)


def poll_add_multishot_level(
    fd: Fd, mask: int, *, fixed_file: bool = False, sqe_flags: int = 0, personality: int = 0
) -> Multishot[int]:
    """Reports readiness of a descriptor while it lasts. Linux 6.18 defines the flag and refuses it.

    Args:
        fd: a descriptor, or an object with ``fileno()``.
        mask: the events to report, ``POLL*`` of poll(2), 1 to 2**32 - 1.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        Of each completion: the events that happened.

    Errors:
        - ``EBADF``: ``fd`` is not open, or the slot is empty.
        - ``EINVAL``: the kernel refuses the flag (Linux 6.18 does).

    Ends:
        On a cancel, on an error and when the completion queue overflows: the completion without ``F_MORE`` is
        the last.

    Cancellation:
        `poll_remove` and `async_cancel` end it at once with ``ECANCELED``.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.18 has the flag ``IORING_POLL_ADD_LEVEL`` and refuses it.

    Source:
        io_uring_enter(2), ``IORING_OP_POLL_ADD``.
    """
    return cast(
        "Multishot[int]",
        _poll("poll_add_multishot_level", fd, mask, _MULTI | _LEVEL, fixed_file).with_options(
            sqe_flags, personality
        ),
    )


def poll_remove(user_data: int, *, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Ends a poll. The poll itself completes with ``ECANCELED``.

    Args:
        user_data: the value under which the poll was submitted, 0 to 2**64 - 1.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0.

    Errors:
        - ``ENOENT``: no poll in flight has this value. Other operations are not found.
        - ``EALREADY``: the poll is completing.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.1.

    Source:
        io_uring_enter(2), ``IORING_OP_POLL_REMOVE``.
    """
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
    """Changes a poll in flight: its events, its ``user_data``, or both.

    Args:
        user_data: the value under which the poll was submitted, 0 to 2**64 - 1.
        mask: the new events to wait for, 1 to 2**32 - 1; None leaves them.
        new_user_data: the value that later completions carry, 0 to 2**64 - 1; None leaves it.
        multishot: the poll is a multishot and stays one under a new ``mask``.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0.

    Errors:
        - ``ENOENT``: no poll in flight has this value.
        - ``EALREADY``: the poll is completing.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError: neither ``mask`` nor ``new_user_data``, or a wrong type.
        ValueError: an argument is out of range.

    Since:
        Linux 5.13.

    Source:
        io_uring_enter(2), ``IORING_OP_POLL_ADD``; io_uring_prep_poll_update(3).
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
        name, abi.IORING_OP_POLL_ADD, check_fd(fd), op_flags=_mask(mask), length=flags, fixed_file=fixed_file
    )
