"""Queries that need no ring, and a message to a ring from a thread without one."""

from __future__ import annotations

import errno
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import abi
from ..abi.layouts import QUERY_HDR, QUERY_OPCODE, QUERY_SCQ, QUERY_ZCRX
from ..contexts.context import CTX_MODE_RESERVED
from ..errors import NotSupported, error_from_result
from ..kernel.memory import zeroed
from ..kernel.registering import register_blind
from ..ops.base import check_fd, check_int

if TYPE_CHECKING:
    from struct import Struct

    from ..ops.base import Fd

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
    """The opcodes and flags that the kernel has.

    Attributes:
        nr_request_opcodes: how many ``IORING_OP_*``.
        nr_register_opcodes: how many ``IORING_REGISTER_*``.
        feature_flags: a mask of ``IORING_FEAT_*``.
        ring_setup_flags: a mask of ``IORING_SETUP_*``.
        enter_flags: a mask of ``IORING_ENTER_*``.
        sqe_flags: a mask of ``IOSQE_*``.
        nr_query_opcodes: how many kinds of queries.
    """

    nr_request_opcodes: int
    nr_register_opcodes: int
    feature_flags: int
    ring_setup_flags: int
    enter_flags: int
    sqe_flags: int
    nr_query_opcodes: int


@dataclass(frozen=True, slots=True)
class QueryZCRX:
    """The features of zero-copy receive.

    Attributes:
        register_flags: a mask of the flags of a registration.
        area_flags: a mask of the flags of an area.
        nr_ctrl_opcodes: how many ``ZCRX_CTRL_*``.
        features: a mask of the features.
        rq_hdr_size: bytes of the refill ring's header.
        rq_hdr_alignment: its alignment, in bytes.
    """

    register_flags: int
    area_flags: int
    nr_ctrl_opcodes: int
    features: int
    rq_hdr_size: int
    rq_hdr_alignment: int


@dataclass(frozen=True, slots=True)
class QuerySCQ:
    """The header of the submission and completion queues.

    Attributes:
        hdr_size: its bytes.
        hdr_alignment: its alignment, in bytes.
    """

    hdr_size: int
    hdr_alignment: int


def query_opcodes() -> QueryOpcode:
    """Asks the kernel for its opcodes and features.

    Returns:
        A `QueryOpcode`.

    Raises:
        NotSupported: the kernel is older.

    Since:
        Linux 6.18.

    Source:
        io_uring_register(2), ``IORING_REGISTER_QUERY``.
    """
    return QueryOpcode(*_query("QUERY_OPCODES", int(abi.IO_URING_QUERY_OPCODES), QUERY_OPCODE, "Linux 6.18"))


def query_zcrx() -> QueryZCRX:
    """Asks the kernel for the features of zero-copy receive.

    Returns:
        A `QueryZCRX`.

    Raises:
        NotSupported: the kernel is older.

    Since:
        Linux 6.19.

    Source:
        io_uring_register(2), ``IORING_REGISTER_QUERY``.
    """
    return QueryZCRX(*_query("QUERY_ZCRX", int(abi.IO_URING_QUERY_ZCRX), QUERY_ZCRX, "Linux 6.19"))


def query_scq() -> QuerySCQ:
    """Asks the kernel for the size of the queues' headers.

    Returns:
        A `QuerySCQ`.

    Raises:
        NotSupported: the kernel is older.

    Since:
        Linux 6.19.

    Source:
        io_uring_register(2), ``IORING_REGISTER_QUERY``.
    """
    return QuerySCQ(*_query("QUERY_SCQ", int(abi.IO_URING_QUERY_SCQ), QUERY_SCQ, "Linux 6.19"))


def send_msg_ring(ring_fd: Fd, message: int, result: int = 0) -> None:
    """Posts a completion on a ring, from any thread of this process and without a ring of its own.

    It arrives in reserved mode: ``cqe.context.message`` is ``message``, ``cqe.res`` is ``result``. It wakes a
    thread that waits on the ring.

    Args:
        ring_fd: the ring's descriptor, or an object with ``fileno()``.
        message: 0 to 2**62 - 1.
        result: -2**31 to 2**31 - 1.

    Raises:
        OSError: ``EBADFD`` for a file that is no ring, or a ring that is not started; ``EBADF`` for a
            descriptor that is not open.
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.13.

    Source:
        io_uring_register(2), ``IORING_REGISTER_SEND_MSG_RING``.
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
        message | CTX_MODE_RESERVED,
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
