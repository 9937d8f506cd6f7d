"""The attributes of an operation, and its errors."""

import errno
import inspect
import socket

import pytest

from uring import abi, ops
from uring.kernel.messages import Message
from uring.kernel.op import Multishot


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


@pytest.mark.parametrize(
    ("op", "multishot"),
    [
        (ops.accept(3), False),
        (ops.accept_multishot(3), True),
        (ops.accept_direct_multishot(3), True),
        (ops.recv(3, bytearray(1)), False),
        (ops.recv_multishot(3, 0), True),
        (ops.recv_bundle(3, 0), False),
        (ops.recv_bundle_multishot(3, 0), True),
        (ops.recv_zero_copy(3, 0), True),
        (ops.recvmsg_multishot(3, Message(), 0), True),
        (ops.read_multishot(3, 0), True),
        (ops.poll_add(3, 1), False),
        (ops.poll_add(3, 1, multishot=True), True),
        (ops.poll_add_multishot(3, 1), True),
        (ops.timeout(1), False),
        (ops.timeout(1, multishot=True), True),
        (ops.siocinq(3), False),
        (ops.tx_timestamp(3), True),
        (ops.uring_cmd(3, 0, cmd_flags=abi.IORING_URING_CMD_MULTISHOT), True),
    ],
    ids=repr,
)
def test_an_operation_knows_whether_it_completes_again(op, multishot):
    assert isinstance(op, Multishot) is multishot


@pytest.mark.parametrize("name", ["with_flags", "with_ioprio", "with_personality"])
def test_bits_that_are_none_are_refused(name: str) -> None:
    change = getattr(ops.nop(), name)
    for wrong in ("1", 1.5, None, True):
        with pytest.raises(TypeError, match=f"an int, not {type(wrong).__name__}"):
            change(wrong)
    for wrong in (-1, 1 << 16):
        with pytest.raises(ValueError, match=f"0 to (255|65535), not {wrong}"):
            change(wrong)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (lambda: ops.async_cancel(7, all=True), lambda: ops.async_cancel(7, every=True)),
        (lambda: ops.async_cancel_fd(7, all=True), lambda: ops.async_cancel_fd(7, every=True)),
        (lambda: ops.async_cancel_opcode(7, all=True), lambda: ops.async_cancel_opcode(7, every=True)),
        (
            lambda: ops.async_cancel_matching(fd=7, all=True),
            lambda: ops.async_cancel_matching(fd=7, every=True),
        ),
        (lambda: ops.socket(2, type=1, protocol=6), lambda: ops.socket(2, kind=1, protocol=6)),
        (lambda: ops.socket_raw(2, type=1), lambda: ops.socket_raw(2, 1)),
        (lambda: ops.socket_direct(2, type=1), lambda: ops.socket_direct(2, kind=1)),
    ],
)
def test_earlier_names_of_keywords(old, new):
    assert old().fields == new().fields


def test_earlier_names_of_keywords_of_waitid():
    assert ops.waitid(1, id=7, options=4).fields[2] == ops.waitid(1, target=7, options=4).fields[2] == 7


def test_a_keyword_under_both_names():
    with pytest.raises(TypeError, match="all is the earlier name of every: give one of them"):
        ops.async_cancel(7, all=True, every=True)


def test_no_parameter_hides_a_builtin():
    hidden = {
        f"{name}({parameter})"
        for name in ops.__all__
        if inspect.isfunction(getattr(ops, name))
        for parameter in inspect.signature(getattr(ops, name)).parameters
        if parameter in {"all", "any", "type", "id"}
    }
    assert not hidden


def test_one_default_for_every():
    defaults = {
        name: inspect.signature(getattr(ops, name)).parameters["every"].default
        for name in ops.__all__
        if inspect.isfunction(getattr(ops, name))
        and "every" in inspect.signature(getattr(ops, name)).parameters
    }
    assert len(defaults) == 4
    assert set(defaults.values()) == {False}
