"""Messages between two rings of the kernel."""

import errno
import os
import socket

import pytest

from uring import abi, ops

BOTH = 3 << 62
"""The top bits that mark a completion another ring sent, so that it is not counted as one of this ring."""


@pytest.fixture
def other(open_kernel):
    return open_kernel()


@pytest.mark.opcodes("MSG_RING")
def test_a_completion_is_posted_on_the_other_ring(kernel, other):
    assert kernel.run(ops.msg_ring(other.ring.fd, BOTH | 5, -7)) == 0
    assert kernel.run(ops.msg_ring(other.ring.fd, BOTH | 6, 8, cqe_flags=1 << 31 | 4)) == 0
    other.until(lambda: len(other.strays) == 2)
    assert other.strays == [(BOTH | 5, -7, 0), (BOTH | 6, 8, 1 << 31 | 4)]


@pytest.mark.opcodes("MSG_RING", "NOP")
def test_a_registered_file_is_put_into_the_other_rings_table(kernel, other):
    a, b = socket.socketpair()
    kernel.register_files(-1, a.fileno())
    other.register_files(-1, -1)
    assert kernel.run(ops.msg_ring_fd(other.ring.fd, 1, file_index=1, user_data=BOTH | 9)) == 1
    other.until(lambda: other.strays)
    assert other.strays[0][0] == BOTH | 9
    assert kernel.run(ops.msg_ring_fd(other.ring.fd, 1, skip_cqe=True)) == 0
    other.run(ops.nop())
    assert len(other.strays) == 1
    a.close()
    for slot in (0, 1):
        assert other.run(ops.send(slot, b"x", fixed_file=True)) == 1
    assert b.recv(10) == b"xx"
    b.close()
    assert kernel.result(ops.msg_ring_fd(other.ring.fd, 1)) == -errno.ENFILE
    assert kernel.result(ops.msg_ring_fd(other.ring.fd, 0)) == -errno.EBADF
    assert kernel.result(ops.msg_ring_fd(kernel.ring.fd, 1)) == -errno.EINVAL


@pytest.mark.opcodes("MSG_RING")
def test_messages_go_to_rings_only(kernel):
    reader, writer = os.pipe()
    with pytest.raises(OSError, match="msg_ring") as caught:
        kernel.run(ops.msg_ring(reader, 1))
    assert caught.value.errno == errno.EBADFD
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: ops.msg_ring(-1, 0), ValueError),
        (lambda: ops.msg_ring(3, -1), ValueError),
        (lambda: ops.msg_ring(3, 1 << 64), ValueError),
        (lambda: ops.msg_ring(3, 0, 1 << 31), ValueError),
        (lambda: ops.msg_ring(3, 0, 1.0), TypeError),
        (lambda: ops.msg_ring(3, 0, cqe_flags=1 << 32), ValueError),
        (lambda: ops.msg_ring(3, 0, skip_cqe=True), TypeError),
        (lambda: ops.msg_ring_fd(3, -1), ValueError),
        (lambda: ops.msg_ring_fd(3, 0, file_index=-1), ValueError),
        (lambda: ops.msg_ring_fd(3, 0, file_index=abi.IORING_FILE_INDEX_ALLOC - 1), ValueError),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_queued(call, error):
    with pytest.raises(error):
        call()
