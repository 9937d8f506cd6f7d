"""Messages between rings: a completion, or a registered file, for another ring.

The other ring gets an ordinary completion with the ``user_data`` given here, and is woken if it waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import abi
from .base import INT_MAX, UINT_MAX, Fd, check_fd, check_file_index, check_int, check_user_data, make

if TYPE_CHECKING:
    from ..kernel.op import Op

__all__ = ["msg_ring", "msg_ring_fd"]

_DATA = int(abi.IORING_MSG_DATA)
_SEND_FD = int(abi.IORING_MSG_SEND_FD)
_CQE_SKIP = int(abi.IORING_MSG_RING_CQE_SKIP)
_FLAGS_PASS = int(abi.IORING_MSG_RING_FLAGS_PASS)
_ALLOC = abi.IORING_FILE_INDEX_ALLOC


def msg_ring(
    ring_fd: Fd,
    user_data: int,
    result: int = 0,
    *,
    cqe_flags: int | None = None,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Posts a completion with this ``user_data`` and result on another ring (Linux 5.18); completes with 0.

    ``cqe_flags`` are the completion's flags (6.3). ``EBADFD``: not a ring, or one not enabled yet;
    ``EOVERFLOW``: its completion queue is full.
    """
    flags = 0 if cqe_flags is None else check_int("cqe_flags", cqe_flags, 0, UINT_MAX)
    return make(
        "msg_ring",
        abi.IORING_OP_MSG_RING,
        check_fd(ring_fd),
        off=check_user_data(user_data),
        addr=_DATA,
        length=check_int("result", result, -INT_MAX - 1, INT_MAX) & UINT_MAX,
        op_flags=0 if cqe_flags is None else _FLAGS_PASS,
        file_index=flags if flags <= INT_MAX else flags - (1 << 32),
        fixed_file=fixed_file,
    ).with_options(sqe_flags, personality)


def msg_ring_fd(
    ring_fd: Fd,
    source_index: int,
    *,
    file_index: int = _ALLOC,
    user_data: int = 0,
    skip_cqe: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Puts a registered file of this ring into a slot of another's, or into a free one (Linux 6.0);
    completes with the slot.

    The other ring gets a completion with ``user_data`` unless ``skip_cqe``. ``EBADF``: ``source_index`` is
    empty; ``EINVAL``: the other ring is this one.
    """
    slot = check_file_index(file_index)
    return make(
        "msg_ring_fd",
        abi.IORING_OP_MSG_RING,
        check_fd(ring_fd),
        off=check_user_data(user_data),
        addr=_SEND_FD,
        op_flags=_CQE_SKIP if skip_cqe else 0,
        file_index=slot,
        addr3=check_int("source_index", source_index, 0, INT_MAX),
        fixed_file=fixed_file,
        decode=None if slot == -1 else lambda _: file_index,
    ).with_options(sqe_flags, personality)
