"""A ring's methods for sockets, against the kernel: one connection, datagram or message after the other."""

from __future__ import annotations

import errno
import os
import socket
import struct

import pytest

from tests.ringside import run, take
from uring import Message, NotSupported, Ring, abi, for_fd, ops
from uring.kernel.addresses import SOCKADDR_SIZE, decode_address, encode_address

ALLOC = abi.IORING_FILE_INDEX_ALLOC
CANCELLED = -errno.ECANCELED


@pytest.fixture
def ring():
    with Ring(entries=32) as ring:
        yield ring


@pytest.fixture
def pair():
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def adopt(fd: int) -> socket.socket:
    return socket.socket(fileno=fd)


def connected(ring: Ring, to: socket.socket) -> socket.socket:
    """A client's socket, made and connected by the ring."""
    client = adopt(run(ring, ring.tcp4_socket(None)))
    assert run(ring, ring.connect(None, client, socket.AF_INET, to.getsockname())) == 0
    return client


# Making sockets.

PROTOCOLS = {
    "tcp4": (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "tcp6": (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP),
    "udp4": (socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "udp6": (socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    "unix": (socket.AF_UNIX, socket.SOCK_STREAM, 0),
}
UNBUILT = {
    "sctp4": (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP),
    "sctp6": (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_SCTP),
    # Linux 7.2 has no UDP-Lite.
    "udplite4": (socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDPLITE),
    "udplite6": (socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_UDPLITE),
}


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_socket_of_each_protocol(ring, name):
    with adopt(run(ring, getattr(ring, f"{name}_socket")(None))) as made:
        assert (made.family, made.type, made.proto) == PROTOCOLS[name]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_socket_of_each_protocol_among_the_registered_files(ring, name):
    make = getattr(ring, f"{name}_socket_direct")
    ring.register_files_sparse(2)
    assert run(ring, make(None, file_index=1)) == 1
    assert run(ring, make(None)) == 0, "the kernel chose the free slot"
    with adopt(run(ring, ring.fixed_fd_install(None, 1))) as made:
        assert (made.family, made.type, made.proto) == PROTOCOLS[name]
    with pytest.raises(OSError, match="socket") as full:
        run(ring, make(None))
    assert full.value.errno == errno.ENFILE


def kernel_has(name: str) -> bool:
    """Asks the kernel by its own system call."""
    try:
        socket.socket(*UNBUILT[name]).close()
    except OSError as error:
        assert error.errno == errno.EPROTONOSUPPORT
        return False
    return True


@pytest.mark.parametrize("name", UNBUILT)
def test_a_protocol_that_the_kernel_may_lack(ring, name):
    context = getattr(ring, f"{name}_socket")(None)
    if kernel_has(name):
        with adopt(run(ring, context)) as made:
            assert (made.family, made.type, made.proto) == UNBUILT[name]
        return
    with pytest.raises(OSError, match=r"Protocol not supported.*socket") as refused:
        run(ring, context)
    assert refused.value.errno == errno.EPROTONOSUPPORT


@pytest.mark.parametrize("name", UNBUILT)
def test_a_protocol_that_the_kernel_may_lack_among_the_registered_files(ring, name):
    ring.register_files_sparse(1)
    context = getattr(ring, f"{name}_socket_direct")(None)
    if kernel_has(name):
        assert run(ring, context) == 0
        return
    with pytest.raises(OSError, match=r"Protocol not supported.*socket") as refused:
        run(ring, context)
    assert refused.value.errno == errno.EPROTONOSUPPORT


def test_sockets_by_their_numbers(ring):
    with adopt(run(ring, ring.socket_raw(None, abi.AF_UNIX, abi.SOCK_SEQPACKET))) as made:
        assert (made.family, made.type) == (socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with adopt(run(ring, ring.socket_raw(None, abi.AF_INET, abi.SOCK_RAW, abi.IPPROTO_RAW))) as made:
        assert (made.type, made.proto) == (socket.SOCK_RAW, socket.IPPROTO_RAW)
    ring.register_files_sparse(3)
    assert run(ring, ring.socket_direct(None, abi.AF_UNIX, abi.SOCK_DGRAM, file_index=2)) == 2
    assert run(ring, ring.socket_direct(None, abi.AF_UNIX, abi.SOCK_DGRAM, file_index=ALLOC)) == 0
    for bad in (-1, 1 << 32):
        with pytest.raises(ValueError, match="file_index"):
            ring.socket_direct(None, abi.AF_UNIX, abi.SOCK_DGRAM, file_index=bad)
    assert ring.in_flight == 0


# Connections.


def test_listen_connect_accept_shutdown(ring):
    server = adopt(run(ring, ring.tcp4_socket(None)))
    with server:
        assert run(ring, ring.bind(None, server, socket.AF_INET, ("127.0.0.1", 0))) == 0
        assert run(ring, ring.listen(None, server, backlog=1)) == 0
        client = connected(ring, server)
        accepted = adopt(run(ring, ring.accept(for_fd(server.fileno()), server)))
        with client, accepted:
            assert accepted.getpeername() == client.getsockname()
            assert run(ring, ring.shutdown(None, client, abi.SHUT_WR)) == 0
            assert accepted.recv(1) == b""
            with pytest.raises(ValueError, match="not 7"):
                ring.shutdown(None, server, 7)


def test_errors_of_connections_are_pythons_own(ring):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = closed.getsockname()
    with adopt(run(ring, ring.tcp4_socket(None))) as client:
        with pytest.raises(ConnectionRefusedError, match="connect"):
            run(ring, ring.connect(None, client, socket.AF_INET, address))
        with socket.create_server(("127.0.0.1", 0)) as taken:
            with pytest.raises(OSError, match="bind") as caught:
                run(ring, ring.bind(None, client, socket.AF_INET, taken.getsockname()))
            assert caught.value.errno == errno.EADDRINUSE
    with (
        adopt(run(ring, ring.tcp4_socket(None))) as alone,
        pytest.raises(OSError, match="shutdown") as caught,
    ):
        run(ring, ring.shutdown(None, alone, abi.SHUT_RDWR))
    assert caught.value.errno == errno.ENOTCONN


def test_accept_into_the_registered_files(ring, listener):
    ring.register_files_sparse(3)
    with connected(ring, listener) as first, connected(ring, listener) as second:
        assert run(ring, ring.accept_direct(None, listener, file_index=2)) == 2
        assert run(ring, ring.accept_direct(None, listener)) == 0
        first.sendall(b"hi")
        second.sendall(b"hi")
        data = bytearray(2)
        for slot in (2, 0):
            assert run(ring, ring.recv(None, slot, data, fixed_file=True)) == 2
            assert data == b"hi"
            assert run(ring, ring.close_direct(None, slot)) == 0


def test_multishot_accept_without_a_handler(ring, listener):
    context = ring.submit_accept_multishot(None, listener)
    clients = []
    for _ in range(2):
        clients.append(connected_outside(listener))
        (cqe,) = take(ring)
        assert (cqe.context, cqe.has_more) == (context, True)
        os.close(cqe.res)
    ring.async_cancel(None, context)
    assert sorted(cqe.res for cqe in take(ring, 2)) == [CANCELLED, 0]
    for client in clients:
        client.close()


def connected_outside(to: socket.socket) -> socket.socket:
    return socket.create_connection(to.getsockname())


def test_multishot_accept_into_the_registered_files(ring, listener):
    ring.register_files_sparse(1)
    with pytest.raises(ValueError, match="ALLOC"):
        ring.submit_accept_direct_multishot(None, listener, file_index=0)
    context = ring.submit_accept_direct_multishot(None, listener, file_index=ALLOC)
    first, second = connected_outside(listener), connected_outside(listener)
    (cqe,) = take(ring)
    assert (cqe.context, cqe.res, cqe.has_more) == (context, 0, True)
    (cqe,) = take(ring)
    assert (cqe.res, cqe.has_more) == (-errno.ENFILE, False), "no slot is left: that ends it"
    first.close()
    second.close()


# Data.


def test_send_and_receive(ring, pair):
    a, b = pair
    assert run(ring, ring.send(None, a, b"hello", n=4)) == 4
    room = bytearray(8)
    assert run(ring, ring.recv(None, b, room)) == 4
    assert bytes(room[:4]) == b"hell"
    with pytest.raises(TypeError, match="writable"):
        ring.recv(None, b, b"read only")
    assert ring.in_flight == 0


def test_a_receive_chooses_a_buffer(ring, pair):
    a, b = pair
    group = ring.register_buf_ring(4, 7, 16)
    a.sendall(b"x" * 12)
    context = ring.recv(None, b, buffer_group=7, read_buffer_size=10)
    (cqe,) = take(ring)
    assert (cqe.context, cqe.res, cqe.buf_group) == (context, 10, 7)
    assert cqe.has_buffer
    assert cqe.socket_nonempty, "two bytes are left"
    assert bytes(group.views[cqe.buf_id][:10]) == b"x" * 10
    group.put(cqe.buf_id)


def test_bundles(ring, pair):
    a, b = pair
    ring.register_buf_ring(4, 7, 16)
    a.sendall(bytes(range(40)))
    got = b""
    while len(got) < 40:  # the kernel may take them in more than one bundle
        ring.recv_bundle(None, b, 7)
        (cqe,) = take(ring)
        buffers = -(-cqe.res // 16)
        assert cqe.bundle_buffers(16) == (cqe.bundle_start_id, buffers)
        assert cqe.bundle_count(16) == buffers
        bundle = ring.bundle_iterator(cqe, 7)
        got += b"".join(bundle.all())
        bundle.recycle()
    assert got == bytes(range(40))


def test_multishot_receives_without_a_handler(ring, pair):
    a, b = pair
    group = ring.register_buf_ring(4, 7, 16)
    context = ring.submit_recv_multishot(None, b, 7)
    for data in (b"one", b"two"):
        a.sendall(data)
        (cqe,) = take(ring)
        assert (cqe.context, cqe.has_more) == (context, True)
        assert bytes(group.views[cqe.buf_id][: cqe.res]) == data
        group.put(cqe.buf_id)
    a.shutdown(socket.SHUT_WR)
    (cqe,) = take(ring)
    assert (cqe.res, cqe.has_more) == (0, False)


def test_multishot_bundles(ring, pair):
    a, b = pair
    ring.register_buf_ring(4, 7, 16)
    context = ring.submit_recv_bundle_multishot(None, b, 7)
    for n in (20, 33):
        a.sendall(bytes(range(n)))
        got = b""
        while len(got) < n:
            (cqe,) = take(ring)
            assert (cqe.context, cqe.has_more) == (context, True)
            bundle = ring.bundle_iterator(cqe, 7)
            got += b"".join(bundle)
            bundle.recycle()
        assert got == bytes(range(n))
    a.shutdown(socket.SHUT_WR)
    assert [cqe.res for cqe in take(ring)] == [0]


def test_a_bundle_is_sent_out_of_a_group(ring, pair):
    a, b = pair
    group = ring.register_buf_ring(2, 7, 16)
    for view in group.views:
        view[:] = b"0123456789abcdef"
    assert run(ring, ring.send_bundle(None, a, 7)) == 32
    assert b.recv(100) == b"0123456789abcdef" * 2
    for bid in (0, 1):
        group.put(bid)
    ring.send_bundle(None, a, 7, write_buffer_size=20)
    first, rest = take(ring, 2)
    assert (first.res, first.buf_id, first.has_more) == (16, 0, True), "whole buffers of 20 bytes at most"
    assert (rest.res, rest.buf_id, rest.has_more) == (16, 1, False), "what is left in the group"
    assert len(b.recv(100)) == 32


def test_messages_with_addresses_and_control_data(ring, pair):
    with (
        adopt(run(ring, ring.udp4_socket(None))) as a,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as b,
    ):
        b.bind(("127.0.0.1", 0))
        to = encode_address(socket.AF_INET, b.getsockname())
        assert run(ring, ring.sendmsg(None, a, [b"two ", b"parts"], name=to)) == 9
        room = bytearray(16)
        message = Message([room], writable=True, name_size=SOCKADDR_SIZE)
        assert run(ring, ring.recvmsg(None, b, message)) == 9
        assert bytes(room[:9]) == b"two parts"
        assert decode_address(message.name) == ("127.0.0.1", a.getsockname()[1])
    left, right = pair
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", left.fileno()))
    assert run(ring, ring.sendmsg(None, left, [b"fd"], [rights])) == 2
    _, ancillary, _, _ = right.recvmsg(2, socket.CMSG_SPACE(4))
    os.close(struct.unpack("i", ancillary[0][2])[0])


def test_zero_copy_messages_complete_twice(ring, listener):
    with connected(ring, listener) as client, listener.accept()[0] as accepted:
        context = ring.sendmsg_zc(None, client, [b"no ", b"copy"])
        result, notice = take(ring, 2)
        assert (result.context, result.res, result.has_more) == (context, 7, True)
        assert (notice.context, notice.is_notification, notice.has_more) == (context, True, False)
        assert accepted.recv(16) == b"no copy"


def test_zero_copy_receive_needs_wide_completions_and_a_queue(ring, pair):
    with pytest.raises(NotSupported, match="16-byte completions"):
        ring.recv_zero_copy(None, pair[0], 0)
    assert ring.in_flight == 0
    with Ring(entries=4, cqe32=True) as wide, pytest.raises(OSError, match="recv") as refused:
        run(wide, wide.recv_zero_copy(None, pair[0], 0, 4096))
    assert refused.value.errno == errno.EINVAL


# Commands.


def test_socket_commands(ring, listener):
    with connected(ring, listener) as a, listener.accept()[0] as b:
        commands_on(ring, a, b)


def commands_on(ring, a, b):
    a.sendall(b"four")
    assert run(ring, ring.siocinq(None, b)) == 4
    assert run(ring, ring.uring_cmd(None, b, abi.SOCKET_URING_OP_SIOCINQ)) == 4
    with pytest.raises(ValueError, match="16 bytes"):
        ring.uring_cmd(None, b, abi.SOCKET_URING_OP_SIOCINQ, bytes(17))
    with pytest.raises(OSError, match="uring_cmd") as refused:
        run(ring, ring.uring_cmd(None, b, 999))
    assert refused.value.errno == errno.EOPNOTSUPP


def test_operations_of_newer_kernels_are_refused_by_the_probe(ring, pair):
    def refused(ring: Ring) -> None:
        for opcode, call in (
            (abi.IORING_OP_NOP128, lambda: ring.nop128(None)),
            (abi.IORING_OP_URING_CMD128, lambda: ring.uring_cmd128(None, pair[0], 0, bytes(80))),
        ):
            if ring.supports(opcode) and ring.features.sqe_bytes == 128:
                continue  # the tests of the operations themselves run it
            with pytest.raises(NotSupported) as error:
                call()
            assert error.value.needs
        assert ring.in_flight == 0

    refused(ring)
    with Ring(entries=4, sqe128=True) as wide:
        refused(wide)


def test_what_is_queued_by_a_method_is_the_operations_request(ring, pair):
    ext = ring.ext_sqe()
    context = ring.recv(ext.context, pair[0], bytearray(3), sqe_flags=abi.IOSQE_ASYNC, personality=0)
    op = ops.recv(pair[0], bytearray(3))
    view = take_back(ring, context).sqe
    assert (view.opcode, view.fd, view.len) == (op.opcode, pair[0].fileno(), 3)
    assert view.has_async
    ring.put_ext_sqe(ext)


def take_back(ring: Ring, context: int):
    """Cancels a request and waits for both ends."""
    ring.async_cancel(None, context)
    cancelled, other = sorted(take(ring, 2), key=lambda cqe: cqe.context != context)
    assert cancelled.res in (CANCELLED, -errno.EINTR)
    assert other.res == 0
    return cancelled
