"""What all operations share: argument checks and the entry's fields by name; nop and close."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .. import abi
from ..op import Op

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["check_fd", "check_int", "close", "close_fd", "make", "nop"]

_NOP = Op("nop", (0, 0, -1, 0, 0, 0, 0, 0, 0, 0))


def nop() -> Op:
    """Does nothing; completes with 0 (Linux 5.1). The cheapest way through the ring and back."""
    return _NOP


def close(fd: int) -> Op:
    """Closes a descriptor (Linux 5.6); completes with 0. See close(2).

    Operations in flight on it are not ended: they hold the file. Cancel them first.
    """
    return make("close", abi.IORING_OP_CLOSE, check_fd(fd))


def make(
    name: str,
    opcode: int,
    fd: int = -1,
    *,
    off: int = 0,
    addr: int = 0,
    length: int = 0,
    op_flags: int = 0,
    flags: int = 0,
    ioprio: int = 0,
    buf_index: int = 0,
    file_index: int = 0,
    addr3: int = 0,
    pins: object = None,
    decode: Callable[[int], Any] | None = None,
    discard: Callable[[int], None] | None = None,
) -> Op:
    """An `Op` from the entry's fields; those not named are zero, as the kernel demands of unused ones."""
    fields = (
        int(opcode),
        int(flags) | int(ioprio) << 8,
        fd,
        off,
        addr,
        length,
        int(op_flags),
        buf_index,
        file_index,
        addr3,
    )
    return Op(name, fields, pins, decode, discard)


def check_int(name: str, value: Any, least: int, most: int) -> int:
    """The value as an int within bounds.

    Raises:
        TypeError, ValueError: saying what was given and what is allowed.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is an int, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{name} is {least} to {most}, not {value}")
    return int(value)


def check_fd(fd: Any) -> int:
    """A descriptor from an int or anything with ``fileno()``."""
    if not isinstance(fd, int) and hasattr(fd, "fileno"):
        fd = fd.fileno()
    return check_int("a file descriptor", fd, 0, (1 << 31) - 1)


def close_fd(fd: int) -> None:
    """Discards a descriptor that nobody will receive."""
    os.close(fd)
