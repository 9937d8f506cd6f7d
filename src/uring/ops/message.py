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
    """Posts a completion on another ring, and wakes the thread that waits there.

    Args:
        ring_fd: the other ring's descriptor, or an object with ``fileno()``.
        user_data: the completion's ``user_data``, 0 to 2**64 - 1.
        result: the completion's result, -2**31 to 2**31 - 1.
        cqe_flags: the completion's flags, 0 to 2**32 - 1; None leaves them to the kernel (Linux 6.3).
        fixed_file: ``ring_fd`` is an index into the registered files of this ring.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0: the other ring has the completion.

    Errors:
        - ``EBADF``: ``ring_fd`` is not open.
        - ``EBADFD``: ``ring_fd`` is no ring, or a ring that is not enabled yet.
        - ``EOVERFLOW``: the other ring's completion queue is full.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.18.

    Source:
        io_uring_enter(2), ``IORING_OP_MSG_RING``; io_uring_prep_msg_ring(3).
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
    """Puts a registered file of this ring into a slot of another ring, which gets a completion about it.

    Args:
        ring_fd: the other ring's descriptor, or an object with ``fileno()``.
        source_index: the slot of this ring that has the file, 0 to 2**31 - 1.
        file_index: the slot of the other ring, 0 to 2**20 - 1; ``IORING_FILE_INDEX_ALLOC``: a free one.
        user_data: the ``user_data`` of the other ring's completion, 0 to 2**64 - 1.
        skip_cqe: the other ring gets no completion.
        fixed_file: ``ring_fd`` is an index into the registered files of this ring.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The slot of the other ring.

    Errors:
        - ``EBADF``: slot ``source_index`` is empty, or ``ring_fd`` is not open.
        - ``EBADFD``: ``ring_fd`` is no ring, or a ring that is not enabled yet.
        - ``EINVAL``: the other ring is this one, or its table ends before ``file_index``.
        - ``ENFILE``: no slot of the other ring is free.
        - ``ENXIO``: ``file_index`` names a slot, and the other ring has no table of files.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.0.

    Source:
        io_uring_prep_msg_ring_fd(3); io_uring_enter(2), ``IORING_OP_MSG_RING``.
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
