"""Legacy provided buffers, added to a group one request at a time."""

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
"""Memory that the kernel may still write to, by address and length."""


def provide_buffers(
    memory: Buffer,
    size: int,
    buffer_group: int,
    *,
    first_id: int = 0,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Gives writable memory to a group, as buffers of equal size.

    The buffers belong to the kernel after the request has completed, until a receive or `remove_buffers`
    takes them. The memory is held for the whole process until `release_provided` is called for it.
    `uring.BufferRing` is the newer and faster kind.

    Args:
        memory: a writable buffer of 1 to 65536 times ``size`` bytes.
        size: bytes of one buffer, 1 to 2**31 - 1.
        buffer_group: the group, 0 to 65535. It is made if it does not exist.
        first_id: the number of the first buffer, 0 to 65536 less their count; the others follow.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0.

    Errors:
        - ``EINVAL``: the group is a buffer ring.
        - ``ENOMEM``: the kernel had no memory for its list.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError: ``memory`` is read-only, or no buffer.
        ValueError: ``memory`` is not 1 to 65536 buffers of ``size`` bytes, or the numbers go beyond 65535.

    Since:
        Linux 5.7.

    Source:
        io_uring_enter(2), ``IORING_OP_PROVIDE_BUFFERS``.
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
    """Takes buffers back from a group that `provide_buffers` filled.

    Args:
        buffer_group: the group, 0 to 65535.
        count: how many at most, 1 to 65536.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        How many buffers were taken, 0 to ``count``.

    Errors:
        - ``ENOENT``: there is no such group.
        - ``EINVAL``: the group is a buffer ring.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.7.

    Source:
        io_uring_enter(2), ``IORING_OP_REMOVE_BUFFERS``.
    """
    return make(
        "remove_buffers",
        abi.IORING_OP_REMOVE_BUFFERS,
        check_int("count", count, 1, _COUNT_MAX),
        buf_index=check_group(buffer_group),
    ).with_options(sqe_flags, personality)


def release_provided(memory: Buffer) -> None:
    """Releases memory that was given with `provide_buffers`. It makes no request.

    Call it when no group of any ring has a buffer in the memory: the kernel may write to it until then.

    Args:
        memory: the same memory, with the same start and length.

    Raises:
        LookupError: the memory was not given with `provide_buffers`.
        TypeError: ``memory`` is read-only, or no buffer.
    """
    address, length, _ = pin_writable(memory)
    if _provided.pop((address, length), None) is None:
        raise LookupError("this memory was not given with provide_buffers")
