"""Sending and receiving in every form, against the kernel."""

import errno
import mmap
import os
import socket
import struct

import pytest

from uring import abi, ops
from uring.kernel.addresses import SOCKADDR_SIZE, decode_address, encode_address
from uring.kernel.buffers import BufferRing
from uring.kernel.messages import Message, ReceivedMessage, decode_control

NOTIF = abi.IORING_CQE_F_NOTIF
MORE = abi.IORING_CQE_F_MORE


@pytest.fixture
def udp():
    with socket.socket(type=socket.SOCK_DGRAM) as a, socket.socket(type=socket.SOCK_DGRAM) as b:
        a.bind(("127.0.0.1", 0))
        b.bind(("127.0.0.1", 0))
        yield a, b


@pytest.fixture
def group(kernel):
    buffers = BufferRing(kernel.ring, 5, 4, 64)
    yield buffers
    buffers.close()


def taken(buffers, completion):
    res, flags = completion
    assert flags & abi.IORING_CQE_F_BUFFER
    return bytes(buffers.views[flags >> 16][:res])


@pytest.mark.opcodes("SEND", "RECV")
def test_bytes_go_across(kernel, tcp_pair):
    a, b = tcp_pair
    room = bytearray(10)
    waiting = kernel.start(ops.recv(b, room))
    kernel.step()
    assert not waiting.ended
    assert kernel.run(ops.send(a, b"hello")) == 5
    assert kernel.finish(waiting) == 5
    assert room[:5] == b"hello"
    assert kernel.run(ops.send(a, memoryview(b"hello again"), n=5, poll_first=True)) == 5
    assert kernel.run(ops.recv(b, room, n=3, poll_first=True)) == 3
    assert kernel.run(ops.recv(b, room, flags=socket.MSG_PEEK)) == 2
    assert kernel.run(ops.recv(b, room)) == 2
    a.close()
    assert kernel.run(ops.recv(b, room)) == 0


@pytest.mark.opcodes("SEND")
def test_a_send_that_waits_for_all_goes_on(kernel, tcp_pair):
    a, b = tcp_pair
    data = bytes(8 << 20)
    sending = kernel.start(ops.send(a, data, flags=socket.MSG_WAITALL))
    got = 0
    while got < len(data):
        kernel.step()
        got += len(b.recv(1 << 20))
    assert kernel.finish(sending) == len(data)


@pytest.mark.opcodes("SEND", "RECV")
def test_sends_and_receives_fail_as_their_system_calls_do(kernel, tcp_pair):
    a, b = tcp_pair
    with pytest.raises(BlockingIOError):
        kernel.run(ops.recv(b, bytearray(1), flags=socket.MSG_DONTWAIT))
    b.close()
    kernel.result(ops.send(a, b"x"))
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        kernel.run(ops.send(a, b"x"))
    reader, writer = os.pipe()
    assert kernel.result(ops.recv(reader, bytearray(1))) == -errno.ENOTSOCK
    assert kernel.result(ops.send(writer, b"x")) == -errno.ENOTSOCK
    os.close(reader)
    os.close(writer)


@pytest.mark.opcodes("RECV", "SEND")
def test_registered_sockets_send_and_receive(kernel, tcp_pair):
    a, b = tcp_pair
    kernel.register_files(a.fileno(), b.fileno())
    room = bytearray(4)
    assert kernel.run(ops.send(0, b"slot", fixed_file=True)) == 4
    assert kernel.run(ops.recv(1, room, fixed_file=True)) == 4
    assert room == b"slot"


@pytest.mark.opcodes("RECV")
def test_a_receive_takes_a_buffer_of_a_group(kernel, tcp_pair, group):
    a, b = tcp_pair
    a.sendall(b"x" * 100)
    request = kernel.start(ops.recv(b, buffer_group=5))
    kernel.finish(request)
    assert taken(group, request.completions[0]) == b"x" * 64
    request = kernel.start(ops.recv(b, buffer_group=5, read_buffer_size=10))
    assert kernel.finish(request) == 10
    assert kernel.result(ops.recv(b, buffer_group=6)) == -errno.ENOBUFS


@pytest.mark.opcodes("RECV")
def test_a_multishot_receive_goes_on_to_the_end_of_the_stream(kernel, tcp_pair, group):
    a, b = tcp_pair
    request = kernel.start(ops.recv_multishot(b, 5))
    kernel.step()
    for message in (b"one", b"two"):
        a.sendall(message)
        assert taken(group, kernel.next_of(request)) == message
    a.close()
    kernel.finish(request)
    assert request.res == 0


@pytest.mark.opcodes("RECV")
def test_a_multishot_receive_has_bounds_and_ends_without_buffers(kernel, tcp_pair, group):
    a, b = tcp_pair
    a.sendall(b"0123456789abcdef")
    request = kernel.start(ops.recv_multishot(b, 5, read_buffer_size=4, total=10))
    kernel.finish(request)
    assert [res for res, _ in request.completions] == [4, 4, 4]
    request = kernel.start(ops.recv_multishot(b, 5, read_buffer_size=1))
    kernel.finish(request)
    assert [res for res, _ in request.completions] == [1, -errno.ENOBUFS]
    assert kernel.result(ops.recv_multishot(b, 5, flags=socket.MSG_WAITALL)) == -errno.EINVAL


@pytest.mark.opcodes("RECV", "SEND")
def test_bundles_fill_and_send_several_buffers(kernel, tcp_pair, group):
    a, b = tcp_pair
    a.sendall(b"y" * 192)
    request = kernel.start(ops.recv_bundle(b, 5))
    assert kernel.finish(request) == 192
    assert request.flags & abi.IORING_CQE_F_BUFFER
    first = request.flags >> 16
    assert all(group.views[first + i] == b"y" * 64 for i in range(3))
    for bid in range(3):
        group.put(bid)
    a.sendall(b"z" * 192)
    request = kernel.start(ops.recv_bundle_multishot(b, 5))
    res, flags = kernel.next_of(request)
    assert res == 192
    assert flags & MORE
    a.shutdown(socket.SHUT_WR)
    kernel.finish(request)
    assert request.res == 0
    # One buffer is left in the group, to be sent.
    assert kernel.run(ops.send_bundle(b, 5)) == 64
    assert kernel.result(ops.send_bundle(b, 5)) == -errno.ENOBUFS
    assert len(a.recv(100)) == 64


@pytest.mark.opcodes("SEND")
def test_sends_take_addresses_and_vectors(kernel, udp):
    a, b = udp
    assert kernel.run(ops.sendto(a, b"to you", socket.AF_INET, b.getsockname())) == 6
    assert b.recvfrom(10) == (b"to you", a.getsockname())
    a.connect(b.getsockname())
    assert kernel.run(ops.sendv(a, [b"in ", bytearray(b"pieces")])) == 9
    assert b.recv(10) == b"in pieces"


@pytest.mark.opcodes("SENDMSG", "RECVMSG")
def test_messages_carry_addresses_and_control_data(kernel, udp):
    a, b = udp
    name = encode_address(socket.AF_INET, b.getsockname())
    assert kernel.run(ops.sendmsg(a, [b"two ", b"parts"], name=name)) == 9
    rooms = [bytearray(4), bytearray(10)]
    message = Message(rooms, writable=True, name_size=SOCKADDR_SIZE)
    assert kernel.run(ops.recvmsg(b, message)) == 9
    assert rooms[0] + rooms[1][:5] == b"two parts"
    assert decode_address(message.name) == a.getsockname()
    assert message.flags == 0

    left, right = socket.socketpair()
    reader, writer = os.pipe()
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", writer))
    kernel.run(ops.sendmsg(left, [b"fd"], [rights]))
    os.close(writer)
    message = Message([bytearray(2)], writable=True, control_size=socket.CMSG_SPACE(4))
    assert kernel.run(ops.recvmsg(right, message, flags=socket.MSG_CMSG_CLOEXEC)) == 2
    ((level, kind, data),) = decode_control(message.control)
    assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
    (fd,) = struct.unpack_from("i", data)
    os.write(fd, b"passed")
    assert os.read(reader, 10) == b"passed"
    for each in (fd, reader):
        os.close(each)
    left.close()
    right.close()


@pytest.mark.opcodes("RECVMSG")
def test_messages_go_into_buffers_of_a_group(kernel, udp):
    a, b = udp
    buffers = BufferRing(kernel.ring, 9, 4, 256)
    message = Message(name_size=SOCKADDR_SIZE, selected=100)
    b.sendto(b"single", a.getsockname())
    request = kernel.start(ops.recvmsg(a, message, buffer_group=9))
    kernel.finish(request)
    assert taken(buffers, request.completions[0]) == b"single"
    assert decode_address(message.name) == b.getsockname()

    plan = Message(name_size=SOCKADDR_SIZE)
    request = kernel.start(ops.recvmsg_multishot(a, plan, 9))
    kernel.step()
    for text in (b"first", b"x" * 200):
        b.sendto(text, a.getsockname())
        res, flags = kernel.next_of(request)
        got = ReceivedMessage.parse(buffers.views[flags >> 16][:res], plan)
        assert decode_address(got.name) == b.getsockname()
        assert bytes(got.payload) == text[: 256 - 16 - SOCKADDR_SIZE]
        assert bool(got.flags & socket.MSG_TRUNC) == (len(text) > len(got.payload))
        assert len(got.control) == 0
        del got
    kernel.run(ops.async_cancel(request.user_data))
    kernel.finish(request)
    with pytest.raises(ValueError, match="at least 144 bytes"):
        ReceivedMessage.parse(memoryview(b"short"), plan)
    buffers.close()


@pytest.mark.opcodes("SENDMSG", "RECVMSG")
def test_messages_fail_as_their_system_calls_do(kernel, udp):
    a, _ = udp
    assert kernel.result(ops.sendmsg(a, [b"nowhere"])) == -errno.EDESTADDRREQ
    message = Message([bytearray(2)], writable=True)
    assert kernel.result(ops.recvmsg(a, message, flags=socket.MSG_DONTWAIT)) == -errno.EAGAIN
    assert kernel.result(ops.recvmsg_multishot(a, message, 77)) == -errno.ENOBUFS


@pytest.mark.opcodes("SEND_ZC", "SENDMSG_ZC")
def test_zero_copy_sends_complete_twice(kernel, tcp_pair):
    a, b = tcp_pair
    for op in (
        ops.send_zc(a, b"zero copy", report_usage=True),
        ops.send_zc(a, b"zero copy!", n=9, poll_first=True),
        ops.sendmsg_zc(a, [b"zero", b" copy"], report_usage=True),
    ):
        request = kernel.start(op)
        assert kernel.finish(request) == 9
        (_, first), (usage, second) = request.completions
        assert first & MORE
        assert second & NOTIF
        assert usage in (0, -(1 << 31))
        assert b.recv(20) == b"zero copy"


@pytest.mark.opcodes("SEND_ZC", "SENDMSG_ZC")
def test_zero_copy_sends_from_registered_buffers_and_to_addresses(kernel, udp):
    a, b = udp
    area = mmap.mmap(-1, mmap.PAGESIZE)
    view = memoryview(area)
    view[:5] = b"fixed"
    kernel.register_buffers(area)
    to = b.getsockname()
    assert kernel.run(ops.sendto_zc(a, view[:5], socket.AF_INET, to, buf_index=0)) == 5
    assert b.recvfrom(10) == (b"fixed", a.getsockname())
    name = encode_address(socket.AF_INET, to)
    assert kernel.run(ops.sendmsg_zc(a, [view[:2], view[2:5]], name=name, buf_index=0)) == 5
    assert b.recv(10) == b"fixed"
    a.connect(to)
    request = kernel.start(ops.send_zc(a, b"elsewhere", buf_index=0))
    assert kernel.finish(request) == -errno.EFAULT
    kernel.ring.register(abi.IORING_UNREGISTER_BUFFERS)


@pytest.mark.opcodes("SEND_ZC", "SENDMSG_ZC")
def test_a_failed_zero_copy_send_owes_its_notification_all_the_same(kernel):
    a, b = socket.socketpair()
    for op in (ops.send_zc(a, b"x"), ops.sendmsg_zc(a, [b"x"])):
        request = kernel.start(op)
        assert kernel.finish(request) == -errno.EOPNOTSUPP
        assert len(request.completions) == 2
        assert request.flags & NOTIF
    a.close()
    b.close()


@pytest.mark.opcodes("RECV_ZC")
def test_zero_copy_receive_without_a_queue_is_the_kernels_clear_error(open_kernel, tcp_pair):
    for more in (abi.IORING_SETUP_CQE32, 0):
        kernel = open_kernel(SETUP | more)
        op = ops.recv_zero_copy(tcp_pair[0], 0)
        res = kernel.result(op)
        with pytest.raises(OSError, match="recv_zero_copy") as caught:
            kernel.value(op, res)
        assert caught.value.errno == errno.EINVAL


SETUP = int(abi.IORING_SETUP_SINGLE_ISSUER | abi.IORING_SETUP_DEFER_TASKRUN | abi.IORING_SETUP_TASKRUN_FLAG)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: ops.recv(3), TypeError),
        (lambda: ops.recv(3, b"read-only"), TypeError),
        (lambda: ops.recv(3, bytearray(1), buffer_group=0), TypeError),
        (lambda: ops.recv(3, bytearray(1), read_buffer_size=1), TypeError),
        (lambda: ops.recv(3, buffer_group=0, n=1), TypeError),
        (lambda: ops.recv(3, bytearray(1), n=2), ValueError),
        (lambda: ops.recv(3, bytearray(1), flags=-1), ValueError),
        (lambda: ops.recv(3, bytearray(1), offset=0), TypeError),
        (lambda: ops.recv(3, buffer_group=-1), ValueError),
        (lambda: ops.recv_multishot(3, 1 << 16), ValueError),
        (lambda: ops.recv_multishot(3, 0, read_buffer_size=-1), ValueError),
        (lambda: ops.recv_multishot(3, 0, total=1 << 31), ValueError),
        (lambda: ops.recv_bundle(3, None), TypeError),
        (lambda: ops.recv_bundle_multishot(3, "0"), TypeError),
        (lambda: ops.recv_zero_copy(3, -1), ValueError),
        (lambda: ops.recv_zero_copy(3, 0, 1 << 32), ValueError),
        (lambda: ops.recvmsg(3, bytearray(5)), TypeError),
        (lambda: ops.recvmsg_multishot(3, None, 1), TypeError),
        (lambda: ops.recvmsg_multishot(3, Message(), -1), ValueError),
        (lambda: ops.send(3, "text"), TypeError),
        (lambda: ops.send(3, b"x", n=2), ValueError),
        (lambda: ops.send(3, b"x", address=("127.0.0.1", 1)), TypeError),
        (lambda: ops.sendto(3, b"x", socket.AF_INET, "host"), TypeError),
        (lambda: ops.sendv(3, [b"x"] * 1025), ValueError),
        (lambda: ops.sendv(3, [5]), TypeError),
        (lambda: ops.send_bundle(3, -1), ValueError),
        (lambda: ops.send_zc(3, b"x", buf_index=-1), ValueError),
        (lambda: ops.send_zc(3, b"x", flags="0"), TypeError),
        (lambda: ops.sendto_zc(3, b"x", 250, "x"), ValueError),
        (lambda: ops.sendmsg(3, [b"x"] * 1025), ValueError),
        (lambda: ops.sendmsg(3, ["x"]), TypeError),
        (lambda: ops.sendmsg_zc(3, [b"x"], buf_index=1 << 16), ValueError),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_queued(call, error):
    with pytest.raises(error):
        call()
