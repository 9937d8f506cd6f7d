"""Commands of files and sockets against the kernel."""

import errno
import os
import socket
import struct

import pytest

from uring import abi, ops

SETUP = int(
    abi.IORING_SETUP_SINGLE_ISSUER
    | abi.IORING_SETUP_DEFER_TASKRUN
    | abi.IORING_SETUP_TASKRUN_FLAG
    | abi.IORING_SETUP_NO_SQARRAY
)
SO_TIMESTAMPING = 37
TX_SOFTWARE_WITH_KEY = 1 << 1 | 1 << 4 | 1 << 7 | 1 << 11
"""TX_SOFTWARE, SOFTWARE, OPT_ID, OPT_TSONLY of linux/net_tstamp.h."""


@pytest.mark.opcodes("URING_CMD")
def test_a_socket_says_how_much_is_queued(kernel, tcp_pair):
    a, b = tcp_pair
    a.sendall(b"12345")
    assert kernel.run(ops.siocinq(b)) == 5
    assert kernel.run(ops.siocoutq(b)) == 0
    kernel.register_files(b.fileno())
    assert kernel.run(ops.siocinq(0, fixed_file=True)) == 5
    left, right = socket.socketpair()
    assert kernel.result(ops.siocinq(left)) == -errno.EOPNOTSUPP
    left.close()
    right.close()


@pytest.mark.opcodes("URING_CMD")
def test_socket_options_are_read_and_set(kernel, tcp_pair):
    a, _ = tcp_pair
    size = kernel.run(ops.getsockopt(a, socket.SOL_SOCKET, socket.SO_RCVBUF))
    assert size == a.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    linger = struct.pack("ii", 1, 5)
    assert kernel.run(ops.setsockopt(a, socket.SOL_SOCKET, socket.SO_LINGER, linger)) == 0
    assert kernel.run(ops.getsockopt(a, socket.SOL_SOCKET, socket.SO_LINGER, 8)) == linger
    assert kernel.run(ops.getsockopt(a, socket.SOL_SOCKET, socket.SO_LINGER, 100)) == linger
    assert kernel.run(ops.setsockopt(a, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)) == 0
    assert a.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))


@pytest.mark.opcodes("URING_CMD")
def test_socket_options_fail_as_their_system_calls_do(kernel, tcp_pair):
    a, _ = tcp_pair
    nodelay = ops.getsockopt(a, socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert kernel.result(nodelay) in (4, -errno.EOPNOTSUPP)
    assert kernel.result(ops.getsockopt(a, socket.SOL_SOCKET, 9999)) == -errno.ENOPROTOOPT
    assert kernel.result(ops.setsockopt(a, socket.SOL_SOCKET, 9999, 1)) == -errno.ENOPROTOOPT
    assert kernel.result(ops.setsockopt(a, socket.SOL_SOCKET, socket.SO_RCVBUF, b"")) == -errno.EINVAL
    reader, writer = os.pipe()
    with pytest.raises(OSError, match="getsockopt") as caught:
        kernel.run(ops.getsockopt(reader, socket.SOL_SOCKET, socket.SO_ERROR))
    assert caught.value.errno == errno.EOPNOTSUPP
    os.close(reader)
    os.close(writer)


@pytest.mark.opcodes("URING_CMD")
def test_a_socket_says_its_names_where_the_kernel_can(kernel, tcp_pair):
    a, b = tcp_pair
    for peer, expected in ((False, a.getsockname()), (True, b.getsockname())):
        op = ops.getsockname(a, peer=peer)
        res = kernel.result(op)
        if res == -errno.EOPNOTSUPP:  # before Linux 6.19
            with pytest.raises(OSError, match="getsockname"):
                kernel.value(op, res)
        else:
            assert kernel.value(op, res) == expected


@pytest.mark.opcodes("URING_CMD", "ASYNC_CANCEL")
def test_a_socket_says_when_packets_left(open_kernel):
    kernel = open_kernel(SETUP | int(abi.IORING_SETUP_CQE32))
    with socket.socket(type=socket.SOCK_DGRAM) as a, socket.socket(type=socket.SOCK_DGRAM) as b:
        b.bind(("127.0.0.1", 0))
        a.connect(b.getsockname())
        a.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPING, TX_SOFTWARE_WITH_KEY)
        request = kernel.start(ops.tx_timestamp(a))
        kernel.step()
        for key in range(2):
            a.send(b"x")
            res, flags = kernel.next_of(request)
            assert res == key
            assert flags & abi.IORING_CQE_F_MORE
            seconds, nanoseconds = request.extra[key]
            assert seconds > 0
            assert nanoseconds < 10**9
        assert kernel.run(ops.async_cancel(request.user_data)) == 0
        kernel.finish(request)
        assert request.res == -errno.ECANCELED


@pytest.mark.opcodes("URING_CMD")
def test_timestamps_need_big_completions(kernel):
    with socket.socket(type=socket.SOCK_DGRAM) as a:
        assert kernel.result(ops.tx_timestamp(a)) == -errno.EINVAL


@pytest.mark.opcodes("URING_CMD")
@pytest.mark.parametrize(("flags", "room"), [(SETUP, 16), (SETUP | int(abi.IORING_SETUP_SQE128), 80)])
def test_a_command_carries_data_as_long_as_the_entry(open_kernel, tcp_pair, flags, room):
    kernel = open_kernel(flags)
    a, b = tcp_pair
    b.sendall(b"123")
    # With this command a socket does not read the data, so that any data will do that fits.
    assert kernel.run(ops.uring_cmd(a, abi.SOCKET_URING_OP_SIOCINQ)) == 3
    assert kernel.run(ops.uring_cmd(a, abi.SOCKET_URING_OP_SIOCINQ, bytes(room))) == 3


def test_a_command_longer_than_the_entry_is_refused(kernel):
    with pytest.raises(ValueError, match="hold 16 bytes of a command, not 17"):
        kernel.ring.put_op(1, ops.uring_cmd(0, 0, bytes(17)))
    assert kernel.ring.pending == 0


def test_the_data_of_a_command_ends_the_entry(open_kernel):
    kernel = open_kernel(SETUP | int(abi.IORING_SETUP_SQE128))
    data = bytes(range(80))
    op = ops.uring_cmd(0, 1, data)
    template = kernel.ring.template(9, *op.fields, command=op.command)
    from uring.kernel.lib import ffi

    entry = bytes(ffi.buffer(ffi.addressof(template.sqe), 64)) + bytes(ffi.buffer(template.tail, 64))
    assert entry[48:] == data
    assert entry[0] == abi.IORING_OP_URING_CMD


@pytest.mark.opcodes("URING_CMD")
def test_files_without_commands_say_so(kernel, tmp_path):
    with open(tmp_path / "file", "w") as file:
        with pytest.raises(OSError, match="uring_cmd") as caught:
            kernel.run(ops.uring_cmd(file, 0))
    assert caught.value.errno == errno.EOPNOTSUPP


def test_uring_cmd128_runs_where_the_kernel_has_it(open_kernel, tcp_pair):
    kernel = open_kernel(SETUP | int(abi.IORING_SETUP_SQE128))
    res = kernel.result(ops.uring_cmd128(tcp_pair[0], abi.SOCKET_URING_OP_SIOCINQ, bytes(80)))
    assert res in (0, -errno.EINVAL)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: ops.uring_cmd(0, -1), ValueError),
        (lambda: ops.uring_cmd(0, 1 << 32), ValueError),
        (lambda: ops.uring_cmd(0, 0, bytes(81)), ValueError),
        (lambda: ops.uring_cmd(0, 0, "text"), TypeError),
        (lambda: ops.uring_cmd(0, 0, cmd_flags=-1), ValueError),
        (lambda: ops.uring_cmd(0, 0, buf_index=1 << 16), ValueError),
        (lambda: ops.uring_cmd128(-1, 0), ValueError),
        (lambda: ops.siocinq("s"), TypeError),
        (lambda: ops.siocoutq(-1), ValueError),
        (lambda: ops.getsockopt(0, -1, 0), ValueError),
        (lambda: ops.getsockopt(0, 0, 1 << 31), ValueError),
        (lambda: ops.getsockopt(0, 1, 1, -1), ValueError),
        (lambda: ops.setsockopt(0, 1, 1, "on"), TypeError),
        (lambda: ops.setsockopt(0, 1, 1, 1 << 32), ValueError),
        (lambda: ops.setsockopt(0, 1, 1, True), TypeError),
        (lambda: ops.getsockname(None), TypeError),
        (lambda: ops.tx_timestamp(1 << 31), ValueError),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_queued(call, error):
    with pytest.raises(error):
        call()
