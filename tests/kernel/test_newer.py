"""Features of Linux 7.0 and 7.1 besides zero-copy receive; older kernels end each test with NotSupported."""

from __future__ import annotations

import errno
import os
import socket
import time

import pytest

from tests.newer import since
from uring import Options, Ring, abi, ops
from uring.kernel.ring import KernelRing

LOAD, IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, DENY = (RETURN, 0, 0, 1), (RETURN, 0, 0, 0)
FAMILY_AT = 16

filters = since(7, 0, r"IORING_REGISTER_BPF_FILTER.*Linux 7\.0")
immediate_times = since(7, 1, r"IORING_TIMEOUT_IMMEDIATE_ARG.*Linux 7\.1")


@pytest.fixture
def ring():
    with Ring(entries=8) as ring:
        yield ring


def result(ring, op):
    ring.submit(op, 1)
    (cqe,) = ring.wait(timeout=60.0)
    return cqe.res


# ---- filters of requests -----------------------------------------------------------------------------------


@filters
def test_a_filter_denies_one_kind(ring):
    ring.register_bpf_filter(abi.IORING_OP_NOP, [DENY])
    assert result(ring, ops.nop()) == -errno.EACCES
    assert result(ring, ops.timeout(0)) == -errno.ETIME


@filters
def test_a_filter_reads_the_request(ring):
    """Only sockets of IPv4: the program looks at the family."""
    only_ipv4 = [(LOAD, 0, 0, FAMILY_AT), (IF_EQUAL, 0, 1, socket.AF_INET), ALLOW, DENY]
    ring.register_bpf_filter(abi.IORING_OP_SOCKET, only_ipv4)
    fd = result(ring, ops.socket(socket.AF_INET, socket.SOCK_STREAM))
    assert fd >= 0
    os.close(fd)
    assert result(ring, ops.socket(socket.AF_INET6, socket.SOCK_STREAM)) == -errno.EACCES


@filters
def test_filters_add_up_and_the_rest_can_be_denied(ring):
    ring.register_bpf_filter(abi.IORING_OP_NOP, [ALLOW], deny_rest=True)
    assert result(ring, ops.nop()) == 0
    assert result(ring, ops.timeout(0)) == -errno.EACCES
    ring.register_bpf_filter(abi.IORING_OP_NOP, [DENY])
    assert result(ring, ops.nop()) == -errno.EACCES


@since(7, 1, r"IORING_REGISTER_BPF_FILTER.*Linux 7\.0")
def test_a_size_that_the_kernel_does_not_have(ring):
    ring.register_bpf_filter(abi.IORING_OP_SOCKET, [ALLOW], pdu_size=12)
    with pytest.raises(OSError, match=os.strerror(errno.EMSGSIZE)):
        ring.register_bpf_filter(abi.IORING_OP_SOCKET, [ALLOW], pdu_size=4)


@filters
def test_programs_that_the_kernel_does_not_take(ring):
    ring.register_bpf_filter(abi.IORING_OP_NOP, [ALLOW])
    for opcode, program in ((abi.IORING_OP_NOP, [(LOAD, 0, 0, 0)]), (200, [ALLOW])):
        with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
            ring.register_bpf_filter(opcode, program)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((256, [ALLOW]), ValueError),
        ((0, []), ValueError),
        ((0, [ALLOW] * 4097), ValueError),
        ((0, [(1, 2, 3)]), TypeError),
        ((0, [(0, 256, 0, 0)]), ValueError),
        ((0, [(0, 0, 0, "1")]), TypeError),
    ],
)
def test_programs_that_cannot_be(ring, arguments, error):
    with pytest.raises(error):
        ring.register_bpf_filter(*arguments)
    with pytest.raises(ValueError, match="pdu_size"):
        ring.register_bpf_filter(0, [ALLOW], pdu_size=256)


# ---- times in the entry ------------------------------------------------------------------------------------


@immediate_times
@pytest.mark.parametrize("clock", [{}, {"absolute": True}, {"boottime": True}])
def test_a_timeout_has_its_time_in_the_entry(ring, clock):
    start = time.monotonic()
    op = ops.timeout(0.02 + (start if "absolute" in clock else 0), immediate=True, **clock)
    assert op.pins is None
    assert result(ring, op) == -errno.ETIME
    assert time.monotonic() - start >= 0.02


@immediate_times
def test_a_multishot_timeout_too(ring):
    ring.submit(ops.timeout(0.001, count=3, multishot=True, immediate=True), 1)
    fired = []
    while len(fired) < 3:
        fired += ring.wait(timeout=60.0)
    assert [cqe.res for cqe in fired] == [-errno.ETIME] * 3
    assert [cqe.has_more for cqe in fired] == [True, True, False]


@immediate_times
def test_a_linked_timeout_too(ring):
    left, right = socket.socketpair()
    with left, right:
        chain = [ops.recv(right, bytearray(1)), ops.link_timeout(0.01, immediate=True)]
        ring.submit_linked([(op, i) for i, op in enumerate(chain, 1)])
        ended = {}
        while len(ended) < 2:
            ended.update((cqe[0], cqe.res) for cqe in ring.wait(timeout=60.0))
    assert ended == {1: -errno.ECANCELED, 2: -errno.ETIME}


def test_the_bit_alone_is_refused():
    """It would make the kernel take an address for a time."""
    for make in (ops.timeout, ops.link_timeout):
        with pytest.raises(ValueError, match="give immediate=True"):
            make(1.0, timeout_flags=int(abi.IORING_TIMEOUT_IMMEDIATE_ARG))


# ---- queues of another kind --------------------------------------------------------------------------------


@pytest.mark.parametrize("flag", [abi.IORING_SETUP_SQE_MIXED, abi.IORING_SETUP_SQ_REWIND])
def test_queues_that_are_not_written_here_are_refused_by_name(flag):
    with pytest.raises(ValueError, match=flag.name):
        KernelRing(4, int(flag | abi.IORING_SETUP_NO_SQARRAY))
    assert not Options().setup_flags & flag
