"""Timeouts against the kernel: their results, never how long they took."""

import errno
import math
import time

import pytest

from uring import abi, ops

ETIME = -errno.ETIME
LINK = int(abi.IOSQE_IO_LINK)
FOR_EVER = 3600.0


@pytest.mark.opcodes("TIMEOUT")
def test_a_timeout_expires(kernel):
    op = ops.timeout(0.001)
    with pytest.raises(TimeoutError, match="timeout"):
        kernel.run(op)
    assert kernel.result(ops.timeout(0)) == ETIME
    assert kernel.result(ops.timeout(0.001, timeout_flags=abi.IORING_TIMEOUT_BOOTTIME)) == ETIME


@pytest.mark.opcodes("TIMEOUT")
@pytest.mark.parametrize(
    ("clock", "options"),
    [
        (time.CLOCK_MONOTONIC, {}),
        (time.CLOCK_BOOTTIME, {"boottime": True}),
        (time.CLOCK_REALTIME, {"realtime": True}),
    ],
)
def test_every_clock_counts_from_now_and_to_a_moment(kernel, clock, options):
    before = time.clock_gettime(clock)
    assert kernel.result(ops.timeout(0.001, **options)) == ETIME
    assert time.clock_gettime(clock) - before >= 0.001
    moment = time.clock_gettime(clock) + 0.001
    assert kernel.result(ops.timeout(moment, absolute=True, **options)) == ETIME
    assert time.clock_gettime(clock) >= moment - 1e-6


@pytest.mark.opcodes("TIMEOUT", "NOP")
def test_a_timeout_with_a_count_ends_when_so_many_others_have(kernel):
    request = kernel.start(ops.timeout(FOR_EVER, count=2))
    kernel.run(ops.nop())
    assert not request.ended
    kernel.run(ops.nop())
    assert kernel.finish(request) == 0


@pytest.mark.opcodes("TIMEOUT")
def test_a_multishot_timeout_fires_as_often_as_it_was_told(kernel):
    request = kernel.start(ops.timeout(0.001, multishot=True, count=3))
    kernel.finish(request)
    assert [res for res, _ in request.completions] == [ETIME] * 3
    assert [bool(flags & abi.IORING_CQE_F_MORE) for _, flags in request.completions] == [True, True, False]


@pytest.mark.opcodes("TIMEOUT", "NOP")
def test_expiry_breaks_a_chain_unless_it_counts_as_success(kernel):
    for etime_success, expected in ((False, -errno.ECANCELED), (True, 0)):
        first = kernel.start(ops.timeout(0.001, etime_success=etime_success).with_flags(LINK))
        second = kernel.start(ops.nop())
        assert kernel.finish(first) == ETIME
        assert kernel.finish(second) == expected


@pytest.mark.opcodes("TIMEOUT", "TIMEOUT_REMOVE")
def test_a_timeout_is_removed(kernel):
    for options in ({}, {"multishot": True}):
        request = kernel.start(ops.timeout(FOR_EVER, **options))
        assert kernel.run(ops.timeout_remove(request.user_data)) == 0
        assert kernel.finish(request) == -errno.ECANCELED
        assert kernel.result(ops.timeout_remove(request.user_data)) == -errno.ENOENT


@pytest.mark.opcodes("TIMEOUT", "TIMEOUT_REMOVE")
def test_a_timeout_gets_a_new_time(kernel):
    request = kernel.start(ops.timeout(FOR_EVER))
    assert kernel.run(ops.timeout_update(request.user_data, 0.001)) == 0
    assert kernel.finish(request) == ETIME
    request = kernel.start(ops.timeout(FOR_EVER))
    assert kernel.run(ops.timeout_update(request.user_data, time.monotonic(), absolute=True)) == 0
    assert kernel.finish(request) == ETIME
    assert kernel.result(ops.timeout_update(request.user_data, 1)) == -errno.ENOENT


@pytest.mark.opcodes("TIMEOUT", "LINK_TIMEOUT")
@pytest.mark.parametrize(
    "options",
    [{}, {"absolute": True}, {"boottime": True}, {"realtime": True}, {"timeout_flags": 4}],
    ids=str,
)
def test_a_linked_timeout_ends_the_operation_before_it(kernel, options):
    duration = time.monotonic() + 0.001 if "absolute" in options else 0.001
    request = kernel.start(ops.timeout(FOR_EVER).with_flags(LINK))
    limit = kernel.start(ops.link_timeout(duration, **options))
    assert kernel.finish(request) == -errno.ECANCELED
    assert kernel.finish(limit) == ETIME


@pytest.mark.opcodes("NOP", "LINK_TIMEOUT")
def test_a_linked_timeout_that_is_not_needed_is_cancelled(kernel):
    request = kernel.start(ops.nop().with_flags(LINK))
    limit = kernel.start(ops.link_timeout(FOR_EVER))
    assert kernel.finish(request) == 0
    assert kernel.finish(limit) == -errno.ECANCELED
    assert kernel.result(ops.link_timeout(1)) == -errno.EINVAL


@pytest.mark.opcodes("TIMEOUT", "LINK_TIMEOUT", "TIMEOUT_REMOVE")
def test_a_linked_timeout_gets_a_new_time(kernel):
    request = kernel.start(ops.timeout(FOR_EVER).with_flags(LINK))
    limit = kernel.start(ops.link_timeout(FOR_EVER))
    kernel.step()
    assert kernel.result(ops.timeout_update(limit.user_data, 0.001)) == -errno.ENOENT
    assert kernel.run(ops.link_timeout_update(limit.user_data, 0.001)) == 0
    assert kernel.finish(request) == -errno.ECANCELED
    assert kernel.finish(limit) == ETIME
    moment = time.monotonic()
    assert kernel.result(ops.link_timeout_update(limit.user_data, moment, absolute=True)) == -errno.ENOENT


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: ops.timeout(-0.1), ValueError),
        (lambda: ops.timeout(math.nan), ValueError),
        (lambda: ops.timeout(math.inf), ValueError),
        (lambda: ops.timeout(1 << 40), ValueError),
        (lambda: ops.timeout("1"), TypeError),
        (lambda: ops.timeout(True), TypeError),
        (lambda: ops.timeout(1, count=-1), ValueError),
        (lambda: ops.timeout(1, count=1 << 32), ValueError),
        (lambda: ops.timeout(1, boottime=True, realtime=True), ValueError),
        (lambda: ops.timeout(1, boottime=True, timeout_flags=abi.IORING_TIMEOUT_REALTIME), ValueError),
        (lambda: ops.timeout(1, multishot=True, absolute=True), ValueError),
        (lambda: ops.timeout(0, multishot=True), ValueError),
        (lambda: ops.timeout(1e-5, multishot=True, count=1001), ValueError),
        (lambda: ops.timeout(1e-5, multishot=True, count=-1), ValueError),
        (lambda: ops.timeout(0.00005, timeout_flags=abi.IORING_TIMEOUT_MULTISHOT), ValueError),
        (lambda: ops.timeout(1, timeout_flags=-1), ValueError),
        (lambda: ops.timeout(1, offset=0), TypeError),
        (lambda: ops.timeout_remove(-1), ValueError),
        (lambda: ops.timeout_remove(1 << 64), ValueError),
        (lambda: ops.timeout_update(1, -1), ValueError),
        (lambda: ops.timeout_update("1", 1), TypeError),
        (lambda: ops.link_timeout(-1), ValueError),
        (lambda: ops.link_timeout(1, count=1), TypeError),
        (lambda: ops.link_timeout(1, boottime=True, realtime=True), ValueError),
        (lambda: ops.link_timeout_update(1, None), TypeError),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_queued(call, error):
    with pytest.raises(error):
        call()
