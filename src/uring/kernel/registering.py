"""io_uring_register(2): on a ring's descriptor, or without a ring."""

from __future__ import annotations

import errno

from .. import abi
from ..errors import RingUnavailable, error_from_result
from .lib import NOT_BUILT, ffi, lib

__all__ = ["register", "register_blind"]


def register_blind(opcode: int, address: int | None, nr_args: int, what: str = "") -> int:
    """io_uring_register(2) without a ring: the few opcodes that need none.

    Raises:
        RingUnavailable: this is not Linux, or the extension is not built. OSError: the kernel refused.
    """
    if lib is None:
        raise RingUnavailable(errno.ENOSYS, NOT_BUILT)
    return register(-1, opcode, address, nr_args, what)


def register(fd: int, opcode: int, address: int | None, nr_args: int, what: str) -> int:
    arg = ffi.NULL if address is None else ffi.cast("void *", address)
    result: int = lib.ur_register(fd, opcode, arg, nr_args)
    if result < 0:
        plain = opcode & ~abi.IORING_REGISTER_USE_REGISTERED_RING
        raise error_from_result(result, what or f"io_uring_register({plain})")
    return result
