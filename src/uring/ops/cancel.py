"""Cancelling: by user_data, by descriptor, by opcode, any, all.

The result of a cancel says what it found: 0 or more if it found something, ``-ENOENT`` if not (the target may
have completed, or be file I/O, which no cancel finds), ``-EALREADY`` if a kernel worker runs the target. With
``every`` it is the number found, 0 included. Each target still completes exactly once, with ``-ECANCELED`` or
with its result if that came first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import abi
from .base import Fd, check_fd, check_int, check_user_data, make, renamed

if TYPE_CHECKING:
    from ..kernel.op import Op

__all__ = [
    "async_cancel",
    "async_cancel_all",
    "async_cancel_any",
    "async_cancel_fd",
    "async_cancel_matching",
    "async_cancel_opcode",
]

_ALL = int(abi.IORING_ASYNC_CANCEL_ALL)
_FD = int(abi.IORING_ASYNC_CANCEL_FD)
_ANY = int(abi.IORING_ASYNC_CANCEL_ANY)
_FD_FIXED = int(abi.IORING_ASYNC_CANCEL_FD_FIXED)
_USERDATA = int(abi.IORING_ASYNC_CANCEL_USERDATA)
_OP = int(abi.IORING_ASYNC_CANCEL_OP)


@renamed(all="every")
def async_cancel(user_data: int, *, every: bool = False, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Cancels an operation by its ``user_data``.

    The target still completes exactly once: with ``ECANCELED``, or with its result if that came first.

    Args:
        user_data: the value under which the target was submitted, 0 to 2**64 - 1.
        every: cancels all operations with this value, instead of the first that is found (Linux 5.19).
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0: one was found. With ``every``: how many were found, 0 included. 1 without ``every``: a futex wait
        or `waitid` was found. Each is success.

    Errors:
        - ``ENOENT``: nothing in flight matches. It may have completed, or be regular-file I/O, which no
          cancel finds.
        - ``EALREADY``: a kernel worker runs the target, which is interrupted if it can be.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.5.

    Source:
        io_uring_enter(2), ``IORING_OP_ASYNC_CANCEL``.
    """
    return _cancel(
        "async_cancel", user_data=check_user_data(user_data), flags=_ALL if every else 0
    ).with_options(sqe_flags, personality)


@renamed(all="every")
def async_cancel_fd(
    fd: Fd, *, every: bool = False, fixed_file: bool = False, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Cancels an operation that works on a file.

    It matches the file, not the number: operations on duplicates of the descriptor end too. The kernel looks
    through everything in flight, where `async_cancel` looks up one value.

    Args:
        fd: an open descriptor of the file, or an object with ``fileno()``. Cancel before closing.
        every: cancels all operations on the file, instead of the first that is found.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0: one was found. With ``every``: how many were found, 0 included. 1 without ``every``: a futex wait
        or `waitid` was found. Each is success.

    Errors:
        - ``ENOENT``: nothing in flight matches. It may have completed, or be regular-file I/O, which no
          cancel finds.
        - ``EALREADY``: a kernel worker runs the target, which is interrupted if it can be.
        - ``EBADF``: ``fd`` is not open, or the slot is empty.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.19.

    Source:
        io_uring_enter(2), ``IORING_OP_ASYNC_CANCEL``, ``IORING_ASYNC_CANCEL_FD``.
    """
    flags = _FD | (_ALL if every else 0) | (_FD_FIXED if fixed_file else 0)
    return _cancel("async_cancel_fd", check_fd(fd), flags=flags).with_options(sqe_flags, personality)


@renamed(all="every")
def async_cancel_opcode(
    opcode: int, *, every: bool = False, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Cancels an operation of one kind.

    Args:
        opcode: the kind, ``IORING_OP_*``, 0 to 255.
        every: cancels all operations of the kind, instead of the first that is found.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0: one was found. With ``every``: how many were found, 0 included. 1 without ``every``: a futex wait
        or `waitid` was found. Each is success.

    Errors:
        - ``ENOENT``: nothing in flight matches. It may have completed, or be regular-file I/O, which no
          cancel finds.
        - ``EALREADY``: a kernel worker runs the target, which is interrupted if it can be.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.6.

    Source:
        io_uring_enter(2), ``IORING_OP_ASYNC_CANCEL``, ``IORING_ASYNC_CANCEL_OP``.
    """
    flags = _OP | (_ALL if every else 0)
    return _cancel("async_cancel_opcode", opcode=_opcode(opcode), flags=flags).with_options(
        sqe_flags, personality
    )


def async_cancel_any(*, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Cancels everything in flight on the ring, as `async_cancel_all` does.

    To the kernel ``IORING_ASYNC_CANCEL_ANY`` alone means every operation, not one of them.

    Args:
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        How many operations were found; 0 with nothing in flight.

    Errors:
        None of its own. Regular-file I/O in flight is not found, and completes as it would have.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.19.

    Source:
        io_uring_enter(2), ``IORING_OP_ASYNC_CANCEL``, ``IORING_ASYNC_CANCEL_ANY``.
    """
    return _cancel("async_cancel_any", flags=_ANY).with_options(sqe_flags, personality)


def async_cancel_all(*, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Cancels everything in flight on the ring.

    Args:
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        How many operations were found; 0 with nothing in flight.

    Errors:
        None of its own. Regular-file I/O in flight is not found, and completes as it would have.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.19.

    Source:
        io_uring_enter(2), ``IORING_OP_ASYNC_CANCEL``, ``IORING_ASYNC_CANCEL_ANY`` and ``_ALL``.
    """
    return _cancel("async_cancel_all", flags=_ANY | _ALL).with_options(sqe_flags, personality)


@renamed(all="every")
def async_cancel_matching(
    *,
    user_data: int | None = None,
    fd: Fd | None = None,
    opcode: int | None = None,
    every: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Cancels an operation that matches each of the criteria given.

    Args:
        user_data: the value under which it was submitted, 0 to 2**64 - 1.
        fd: an open descriptor of the file it works on, or an object with ``fileno()``.
        opcode: its kind, ``IORING_OP_*``, 0 to 255.
        every: cancels all that match, instead of the first that is found.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0: one was found. With ``every``: how many were found, 0 included. 1 without ``every``: a futex wait
        or `waitid` was found. Each is success.

    Errors:
        - ``ENOENT``: nothing in flight matches. It may have completed, or be regular-file I/O, which no
          cancel finds.
        - ``EALREADY``: a kernel worker runs the target, which is interrupted if it can be.
        - ``EBADF``: ``fd`` is not open, or the slot is empty.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError: no criterion (`async_cancel_all` is for that), ``fixed_file`` without ``fd``, or a wrong
            type.
        ValueError: an argument is out of range.

    Since:
        Linux 6.6.

    Source:
        io_uring_enter(2), ``IORING_OP_ASYNC_CANCEL``, ``IORING_ASYNC_CANCEL_USERDATA``, ``_FD`` and ``_OP``.
    """
    if user_data is None and fd is None and opcode is None:
        raise TypeError("give user_data, fd or opcode; async_cancel_any and async_cancel_all need none")
    flags = _ALL if every else 0
    if user_data is not None:
        flags |= _USERDATA
    if fd is not None:
        flags |= _FD | (_FD_FIXED if fixed_file else 0)
    elif fixed_file:
        raise TypeError("fixed_file says what fd is: give an fd")
    if opcode is not None:
        flags |= _OP
    return _cancel(
        "async_cancel_matching",
        -1 if fd is None else check_fd(fd),
        user_data=0 if user_data is None else check_user_data(user_data),
        opcode=0 if opcode is None else _opcode(opcode),
        flags=flags,
    ).with_options(sqe_flags, personality)


def _opcode(opcode: int) -> int:
    return check_int("opcode", opcode, 0, 255)


def _cancel(name: str, fd: int = -1, *, user_data: int = 0, opcode: int = 0, flags: int = 0) -> Op[int]:
    return make(name, abi.IORING_OP_ASYNC_CANCEL, fd, addr=user_data, length=opcode, op_flags=flags)
