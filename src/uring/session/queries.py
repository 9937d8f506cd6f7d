"""Questions to the kernel that need no ring, and a message to a ring from a thread without one."""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import abi
from ..abi.layouts import QUERY_HDR, QUERY_OPCODE, QUERY_SCQ, QUERY_ZCRX
from ..errors import NotSupported, error_from_result
from ..kernel.memory import zeroed
from ..kernel.ring import register_blind
from ..ops.base import check_fd, check_int

if TYPE_CHECKING:
    from struct import Struct

__all__ = [
    "QueryOpcode",
    "QuerySCQ",
    "QueryZCRX",
    "query_opcodes",
    "query_scq",
    "query_zcrx",
    "send_msg_ring",
]


@dataclass(frozen=True, slots=True)
class QueryOpcode:
    """How many opcodes of each kind the kernel has, and the flags that it knows (bit masks)."""

    nr_request_opcodes: int
    nr_register_opcodes: int
    feature_flags: int
    ring_setup_flags: int
    enter_flags: int
    sqe_flags: int
    nr_query_opcodes: int


@dataclass(frozen=True, slots=True)
class QueryZCRX:
    """Zero-copy receive: flags (bit masks), control opcodes, and the refill ring's header."""

    register_flags: int
    area_flags: int
    nr_ctrl_opcodes: int
    features: int
    rq_hdr_size: int
    rq_hdr_alignment: int


@dataclass(frozen=True, slots=True)
class QuerySCQ:
    """Size and alignment of the header of the submission and completion queues."""

    hdr_size: int
    hdr_alignment: int


def query_opcodes() -> QueryOpcode:
    """The opcodes and features of the kernel (Linux 6.18). Raises NotSupported on older ones."""
    return QueryOpcode(*_query("QUERY_OPCODES", int(abi.IO_URING_QUERY_OPCODES), QUERY_OPCODE, "Linux 6.18"))


def query_zcrx() -> QueryZCRX:
    """The features of zero-copy receive (Linux 6.19). Raises NotSupported on older ones."""
    return QueryZCRX(*_query("QUERY_ZCRX", int(abi.IO_URING_QUERY_ZCRX), QUERY_ZCRX, "Linux 6.19"))


def query_scq() -> QuerySCQ:
    """How large the queues' headers are (Linux 6.19). Raises NotSupported on older ones."""
    return QuerySCQ(*_query("QUERY_SCQ", int(abi.IO_URING_QUERY_SCQ), QUERY_SCQ, "Linux 6.19"))


def send_msg_ring(ring_fd: Any, message: int, result: int = 0) -> None:
    """Posts a completion on a ring from any thread of this process, without a ring of its own (Linux 6.13).

    It arrives in reserved mode: ``cqe.context.message`` is ``message`` (62 bits), ``cqe.res`` is ``result``.
    It wakes a thread that waits on the ring.

    Raises:
        OSError: not a ring, or one that was not started (``EBADFD``). ValueError: out of range.
    """
    check_int("message", message, 0, (1 << 62) - 1)
    check_int("result", result, -(1 << 31), (1 << 31) - 1)
    sqe = zeroed(64)
    struct.pack_into(
        "=BBHiQQi",
        sqe.view,
        0,
        int(abi.IORING_OP_MSG_RING),
        0,
        0,
        check_fd(ring_fd),
        message | 3 << 62,
        0,
        result,
    )
    register_blind(int(abi.IORING_REGISTER_SEND_MSG_RING), sqe.address, 1, "send message to ring")


def _query(name: str, opcode: int, layout: Struct, needs: str) -> tuple[int, ...]:
    data = zeroed(layout.size)
    header = zeroed(QUERY_HDR.size)
    QUERY_HDR.pack_into(header.view, 0, 0, data.address, opcode, layout.size, 0)
    try:
        register_blind(int(abi.IORING_REGISTER_QUERY), header.address, 0, name)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise NotSupported(name, needs) from None
        raise
    result: int = QUERY_HDR.unpack_from(header.view, 0)[4]
    if result == -errno.EOPNOTSUPP:
        raise NotSupported(name, needs)
    if result < 0:
        raise error_from_result(result, name)
    return layout.unpack_from(data.view, 0)
