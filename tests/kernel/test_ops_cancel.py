"""Every form of cancelling, against the kernel."""

import errno
import os

import pytest

from uring import abi, ops

CANCELED = -errno.ECANCELED


@pytest.fixture
def pipes():
    ends = [os.pipe(), os.pipe()]
    yield ends
    for pair in ends:
        for fd in pair:
            os.close(fd)


@pytest.fixture
def pending(kernel, pipes):
    """Two reads of one pipe, one of another, and a poll of the first."""
    (first, _), (second, _) = pipes
    made = [
        ops.read(first, bytearray(1)),
        ops.read(first, bytearray(1)),
        ops.read(second, bytearray(1)),
        ops.poll_add(first, abi.POLLIN),
    ]
    requests = [kernel.start(op) for op in made]
    kernel.step()
    yield requests
    if kernel.requests:
        kernel.run(ops.async_cancel_all())
        for request in list(kernel.requests.values()):
            kernel.finish(request)


def ended(kernel, pending):
    kernel.step()
    return [request.ended for request in pending]


def check(kernel, pending, indices):
    """Exactly these have ended, as cancelled."""
    assert ended(kernel, pending) == [i in indices for i in range(4)]
    for i in indices:
        assert kernel.finish(pending[i]) == CANCELED


@pytest.mark.opcodes("ASYNC_CANCEL", "READ", "POLL_ADD")
def test_by_user_data(kernel, pending):
    assert kernel.run(ops.async_cancel(pending[1].user_data)) == 0
    check(kernel, pending, [1])
    assert kernel.result(ops.async_cancel(pending[1].user_data)) == -errno.ENOENT
    assert kernel.run(ops.async_cancel(pending[1].user_data, every=True)) == 0
    assert kernel.run(ops.async_cancel(pending[2].user_data, every=True)) == 1
    kernel.finish(pending[2])


@pytest.mark.opcodes("ASYNC_CANCEL")
def test_by_descriptor(kernel, pipes, pending):
    assert kernel.run(ops.async_cancel_fd(pipes[0][0], every=True)) == 3
    check(kernel, pending, [0, 1, 3])


@pytest.mark.opcodes("ASYNC_CANCEL")
def test_by_descriptor_one_only(kernel, pipes, pending):
    assert kernel.run(ops.async_cancel_fd(pipes[0][0])) == 0
    assert sum(ended(kernel, pending)) == 1


@pytest.mark.opcodes("ASYNC_CANCEL")
def test_by_opcode(kernel, pending):
    assert kernel.run(ops.async_cancel_opcode(abi.IORING_OP_POLL_ADD)) == 0
    check(kernel, pending, [3])
    assert kernel.run(ops.async_cancel_opcode(abi.IORING_OP_READ, every=True)) == 3
    for request in pending[:3]:
        assert kernel.finish(request) == CANCELED


@pytest.mark.opcodes("ASYNC_CANCEL")
@pytest.mark.parametrize("make", [ops.async_cancel_any, ops.async_cancel_all])
def test_any_and_all_mean_everything(kernel, pending, make):
    assert kernel.run(make()) == 4
    check(kernel, pending, [0, 1, 2, 3])
    assert kernel.run(make()) == 0


@pytest.mark.opcodes("ASYNC_CANCEL")
def test_what_matches_every_criterion(kernel, pipes, pending):
    first = pipes[0][0]
    op = ops.async_cancel_matching(user_data=pending[2].user_data, fd=first)
    assert kernel.result(op) == -errno.ENOENT
    op = ops.async_cancel_matching(user_data=pending[0].user_data, fd=first, opcode=abi.IORING_OP_READ)
    assert kernel.run(op) == 0
    check(kernel, pending, [0])
    op = ops.async_cancel_matching(fd=first, opcode=abi.IORING_OP_POLL_ADD, every=True)
    assert kernel.run(op) == 1
    kernel.finish(pending[3])
    assert kernel.run(ops.async_cancel_matching(user_data=pending[1].user_data, every=True)) == 1
    kernel.finish(pending[1])


@pytest.mark.opcodes("ASYNC_CANCEL", "READ")
def test_by_registered_file(kernel, pipes):
    kernel.register_files(pipes[0][0])
    request = kernel.start(ops.read(0, bytearray(1), fixed_file=True))
    kernel.step()
    assert kernel.run(ops.async_cancel_fd(0, every=True, fixed_file=True)) == 1
    assert kernel.finish(request) == CANCELED
    request = kernel.start(ops.read(0, bytearray(1), fixed_file=True))
    kernel.step()
    assert kernel.run(ops.async_cancel_matching(fd=0, fixed_file=True)) == 0
    assert kernel.finish(request) == CANCELED


@pytest.mark.opcodes("ASYNC_CANCEL")
def test_a_closed_descriptor_matches_nothing(kernel, pipes):
    gone = os.dup(pipes[0][0])
    os.close(gone)
    assert kernel.result(ops.async_cancel_fd(gone)) == -errno.EBADF
    with pytest.raises(OSError, match="async_cancel_fd"):
        kernel.run(ops.async_cancel_fd(gone))


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: ops.async_cancel(-1), ValueError),
        (lambda: ops.async_cancel(1 << 64), ValueError),
        (lambda: ops.async_cancel(None), TypeError),
        (lambda: ops.async_cancel_fd(-1), ValueError),
        (lambda: ops.async_cancel_opcode(256), ValueError),
        (lambda: ops.async_cancel_opcode("READ"), TypeError),
        (lambda: ops.async_cancel_matching(), TypeError),
        (lambda: ops.async_cancel_matching(every=True), TypeError),
        (lambda: ops.async_cancel_matching(opcode=1, fixed_file=True), TypeError),
        (lambda: ops.async_cancel_matching(fd="0"), TypeError),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_queued(call, error):
    with pytest.raises(error):
        call()
