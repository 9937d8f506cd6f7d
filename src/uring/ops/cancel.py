"""Cancelling: by user_data, by descriptor, by opcode, any, all.

A cancel's own completion only says what was found: 0 or more when something was, ``-ENOENT`` when nothing
(it may have completed, or be file I/O that nothing can stop), ``-EALREADY`` when a kernel worker is running
it. With ``every`` it is the number found, 0 included. Each target still completes exactly once, with
``-ECANCELED`` or with the result that was faster.
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
    """Cancels what was submitted under ``user_data`` (Linux 5.5), with ``every`` every match (5.19)."""
    return _cancel(
        "async_cancel", user_data=check_user_data(user_data), flags=_ALL if every else 0
    ).with_options(sqe_flags, personality)


@renamed(all="every")
def async_cancel_fd(
    fd: Fd, *, every: bool = False, fixed_file: bool = False, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Cancels what works on a descriptor (Linux 5.19), with ``fixed_file`` on a registered file.

    ``EBADF`` if it is not open: cancel before closing.
    """
    flags = _FD | (_ALL if every else 0) | (_FD_FIXED if fixed_file else 0)
    return _cancel("async_cancel_fd", check_fd(fd), flags=flags).with_options(sqe_flags, personality)


@renamed(all="every")
def async_cancel_opcode(
    opcode: int, *, every: bool = False, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Cancels an operation of this kind (Linux 6.6), with ``every`` every one."""
    flags = _OP | (_ALL if every else 0)
    return _cancel("async_cancel_opcode", opcode=_opcode(opcode), flags=flags).with_options(
        sqe_flags, personality
    )


def async_cancel_any(*, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Cancels whatever is in flight (Linux 5.19): the kernel takes "any" as every one, and completes with the
    number found."""
    return _cancel("async_cancel_any", flags=_ANY).with_options(sqe_flags, personality)


def async_cancel_all(*, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Cancels everything in flight (Linux 5.19); completes with the number found."""
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
    """Cancels what matches each of the criteria given (Linux 6.6).

    Raises:
        TypeError: no criterion; ``async_cancel_any`` is for that.
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
