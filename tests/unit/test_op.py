"""What an operation says of itself, and of its failure."""

import errno
import socket

import pytest

from uring import abi, ops


@pytest.mark.parametrize(
    ("op", "fd"),
    [
        (ops.read(7, bytearray(1)), 7),
        (ops.read(7, bytearray(1), fixed_file=True), -1),
        (ops.openat("/"), -1),
        (ops.openat("x", dir_fd=5), 5),
        (ops.close(4), 4),
        (ops.close_direct(4), -1),
        (ops.socket(socket.AF_INET, socket.SOCK_STREAM), -1),
        (ops.pipe(), -1),
        (ops.waitid(abi.P_PID, 1, abi.WEXITED), -1),
        (ops.futex_wake(bytearray(8)), -1),
        (ops.remove_buffers(0, 5), -1),
        (ops.fixed_fd_install(3), -1),
        (ops.nop(), -1),
    ],
    ids=repr,
)
def test_an_operation_knows_its_descriptor(op, fd):
    assert op.fd == fd


def test_a_failure_says_what_failed_and_where():
    assert str(ops.read(7, bytearray(1)).error(-errno.EIO)).endswith(": read on fd 7")
    assert str(ops.pipe().error(-errno.EMFILE)).endswith(": pipe")
    refused = ops.connect(3, socket.AF_INET, ("127.0.0.1", 9)).error(-errno.ECONNREFUSED)
    assert isinstance(refused, ConnectionRefusedError)
    assert str(refused).endswith(": connect on fd 3, address ('127.0.0.1', 9)")
    missing = ops.linkat("a", b"b").with_flags(abi.IOSQE_ASYNC).error(-errno.ENOENT)
    assert (missing.filename, missing.filename2) == ("a", b"b")
    with pytest.raises(ValueError, match="not an error"):
        ops.nop().error(0)
