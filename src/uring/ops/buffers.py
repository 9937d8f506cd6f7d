"""Legacy provided buffers, added to a group one request at a time.

`uring.BufferRing` is the newer and faster kind. Legacy buffers belong to the kernel after the request has
completed, until a receive or ``remove_buffers`` takes them. So this module holds their memory, for the whole
process, until `release_provided` is called for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import abi
from ..kernel.memory import pin_writable
from .base import INT_MAX, check_group, check_int, make

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ..kernel.op import Op

__all__ = ["provide_buffers", "release_provided", "remove_buffers"]

_COUNT_MAX = 65536

_provided: dict[tuple[int, int], object] = {}
"""Memory that some group may still write to, by address and length."""


def provide_buffers(
    memory: Buffer,
    size: int,
    buffer_group: int,
    *,
    first_id: int = 0,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Gives writable memory to a group as buffers of ``size`` bytes, numbered from ``first_id`` on
    (Linux 5.7); completes with 0.

    Raises:
        ValueError: the memory is not one to 65536 buffers of that size, or the numbers go beyond 65535.
    """
    address, length, held = pin_writable(memory)
    check_int("size", size, 1, INT_MAX)
    count, rest = divmod(length, size)
    if rest or not 1 <= count <= _COUNT_MAX:
        raise ValueError(f"{length} bytes are not 1 to {_COUNT_MAX} buffers of {size}")
    check_int("first_id", first_id, 0, _COUNT_MAX - count)
    group = check_group(buffer_group)
    _provided[address, length] = (held, memory)
    return make(
        "provide_buffers",
        abi.IORING_OP_PROVIDE_BUFFERS,
        count,
        off=first_id,
        addr=address,
        length=size,
        buf_index=group,
        pins=held,
    ).with_options(sqe_flags, personality)


def remove_buffers(buffer_group: int, count: int, *, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Takes up to ``count`` buffers back from a group (Linux 5.7); completes with how many it had, or
    ``ENOENT``."""
    return make(
        "remove_buffers",
        abi.IORING_OP_REMOVE_BUFFERS,
        check_int("count", count, 1, _COUNT_MAX),
        buf_index=check_group(buffer_group),
    ).with_options(sqe_flags, personality)


def release_provided(memory: Buffer) -> None:
    """Lets go of memory that was given with `provide_buffers`: no group of any ring has a buffer in it.

    Raises:
        LookupError: it was not given.
    """
    address, length, _ = pin_writable(memory)
    if _provided.pop((address, length), None) is None:
        raise LookupError("this memory was not given with provide_buffers")
