"""Queries of the kernel with answers written by the test: some need a kernel newer than 6.18."""

from __future__ import annotations

import ctypes
import errno

import pytest

from uring import NotSupported, QueryOpcode, QuerySCQ, QueryZCRX, abi, query_opcodes, query_scq, query_zcrx
from uring.abi.layouts import QUERY_HDR, QUERY_OPCODE, QUERY_SCQ, QUERY_ZCRX
from uring.session import queries


@pytest.fixture
def kernel(monkeypatch):
    """Answers every query with these bytes and this result; keeps the opcode of the query."""
    asked = []

    def answer(data: bytes = b"", result: int = 0, refusal: int = 0):
        def register(opcode: int, address: int, n: int, what: str) -> int:
            if refusal:
                raise OSError(refusal, what)
            header = ctypes.string_at(address, QUERY_HDR.size)
            _, there, query, size, _ = QUERY_HDR.unpack(header)
            asked.append((opcode, query))
            assert size >= len(data)
            ctypes.memmove(there, data, len(data))
            ctypes.memmove(address, QUERY_HDR.pack(0, there, query, len(data), result), QUERY_HDR.size)
            return 0

        monkeypatch.setattr(queries, "register_blind", register)
        return asked

    return answer


def test_opcodes(kernel):
    asked = kernel(QUERY_OPCODE.pack(63, 36, 0x3FFFF, 0x7FFFF, 0xFF, 0x7F, 1))
    told = query_opcodes()
    assert asked == [(abi.IORING_REGISTER_QUERY, abi.IO_URING_QUERY_OPCODES)]
    assert told == QueryOpcode(
        nr_request_opcodes=63,
        nr_register_opcodes=36,
        feature_flags=0x3FFFF,
        ring_setup_flags=0x7FFFF,
        enter_flags=0xFF,
        sqe_flags=0x7F,
        nr_query_opcodes=1,
    )


def test_zero_copy_receive(kernel):
    asked = kernel(QUERY_ZCRX.pack(1, 2, 3, 4, 64, 128))
    told = query_zcrx()
    assert asked == [(abi.IORING_REGISTER_QUERY, abi.IO_URING_QUERY_ZCRX)]
    assert told == QueryZCRX(
        register_flags=1, area_flags=2, nr_ctrl_opcodes=3, features=4, rq_hdr_size=64, rq_hdr_alignment=128
    )


def test_queues(kernel):
    asked = kernel(QUERY_SCQ.pack(64, 4096))
    told = query_scq()
    assert asked == [(abi.IORING_REGISTER_QUERY, abi.IO_URING_QUERY_SCQ)]
    assert told == QuerySCQ(hdr_size=64, hdr_alignment=4096)


@pytest.mark.parametrize("ask", [query_opcodes, query_zcrx, query_scq])
def test_a_kernel_that_does_not_know(kernel, ask):
    kernel(result=-errno.EOPNOTSUPP)
    with pytest.raises(NotSupported, match=r"it needs Linux 6\.1"):
        ask()
    kernel(refusal=errno.EINVAL)
    with pytest.raises(NotSupported, match=r"it needs Linux 6\.1"):
        ask()
    kernel(result=-errno.EFAULT)
    with pytest.raises(OSError, match="QUERY") as other:
        ask()
    assert other.value.errno == errno.EFAULT
