"""Sockets: creating, naming, connecting, accepting, shutting down, against the kernel."""

import errno
import os
import socket

import pytest

from uring import abi, ops

ALLOC = abi.IORING_FILE_INDEX_ALLOC


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def adopt(fd):
    return socket.socket(fileno=fd)


@pytest.mark.opcodes("SOCKET")
@pytest.mark.parametrize(
    ("make", "family", "kind"),
    [
        (ops.tcp4_socket, socket.AF_INET, socket.SOCK_STREAM),
        (ops.tcp6_socket, socket.AF_INET6, socket.SOCK_STREAM),
        (ops.udp4_socket, socket.AF_INET, socket.SOCK_DGRAM),
        (ops.udp6_socket, socket.AF_INET6, socket.SOCK_DGRAM),
        (ops.unix_socket, socket.AF_UNIX, socket.SOCK_STREAM),
    ],
)
def test_each_protocol_has_a_socket(kernel, make, family, kind):
    with adopt(kernel.run(make())) as made:
        assert (made.family, made.type) == (family, kind)
        assert not made.get_inheritable()


@pytest.mark.opcodes("SOCKET", "FIXED_FD_INSTALL")
@pytest.mark.parametrize(
    ("make", "family"),
    [
        (ops.tcp4_socket_direct, socket.AF_INET),
        (ops.tcp6_socket_direct, socket.AF_INET6),
        (ops.udp4_socket_direct, socket.AF_INET),
        (ops.udp6_socket_direct, socket.AF_INET6),
        (ops.unix_socket_direct, socket.AF_UNIX),
    ],
)
def test_each_protocol_has_a_socket_among_the_registered_files(kernel, make, family):
    kernel.register_files(-1, -1)
    assert kernel.run(make(file_index=1)) == 1
    assert kernel.run(make()) == 0
    with adopt(kernel.run(ops.fixed_fd_install(1))) as made:
        assert made.family == family
    assert kernel.result(make()) == -errno.ENFILE


@pytest.mark.opcodes("SOCKET")
@pytest.mark.parametrize(
    ("make", "family", "kind", "protocol"),
    [
        (ops.sctp4_socket, socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP),
        (ops.sctp6_socket, socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_SCTP),
        (ops.sctp4_socket_direct, socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP),
        (ops.sctp6_socket_direct, socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_SCTP),
        # Linux 7.2 has no UDP-Lite.
        (ops.udplite4_socket, socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDPLITE),
        (ops.udplite6_socket, socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_UDPLITE),
        (ops.udplite4_socket_direct, socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDPLITE),
        (ops.udplite6_socket_direct, socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_UDPLITE),
    ],
)
def test_a_protocol_that_the_kernel_may_lack(kernel, make, family, kind, protocol):
    """There, or its own clear error, as the system call has it."""
    kernel.register_files(-1)
    op = make()
    res = kernel.result(op)
    try:
        socket.socket(family, kind, protocol).close()
    except OSError as error:
        assert error.errno == errno.EPROTONOSUPPORT
        with pytest.raises(OSError, match=r"Protocol not supported.*socket") as caught:
            kernel.value(op, res)
        assert caught.value.errno == errno.EPROTONOSUPPORT
        return
    assert res >= 0
    if op.discard is not None:
        with adopt(res) as made:
            assert (made.family, made.type, made.proto) == (family, kind, protocol)


@pytest.mark.opcodes("SOCKET")
def test_sockets_take_numbers(kernel):
    with adopt(kernel.run(ops.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK))) as made:
        assert not os.get_blocking(made.fileno())
    with adopt(kernel.run(ops.socket_raw(socket.AF_UNIX, socket.SOCK_DGRAM))) as made:
        assert made.get_inheritable()
    kernel.register_files(-1)
    assert kernel.run(ops.socket_direct(socket.AF_UNIX, socket.SOCK_DGRAM, file_index=0)) == 0
    assert kernel.result(ops.socket(250, socket.SOCK_STREAM)) == -errno.EAFNOSUPPORT
    keep = socket.SOCK_STREAM | socket.SOCK_CLOEXEC
    assert kernel.result(ops.socket_direct(socket.AF_UNIX, keep)) == -errno.EINVAL


@pytest.mark.opcodes("BIND", "LISTEN", "ACCEPT", "CONNECT", "SHUTDOWN")
@pytest.mark.parametrize(("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_connection_is_made_from_both_ends(kernel, family, host):
    server = adopt(kernel.run(ops.socket(family, socket.SOCK_STREAM)))
    client = adopt(kernel.run(ops.socket(family, socket.SOCK_STREAM)))
    with server, client:
        assert kernel.run(ops.bind(server, family, (host, 0))) == 0
        assert kernel.run(ops.listen(server, backlog=4)) == 0
        accepting = kernel.start(ops.accept(server, with_address=True))
        address = server.getsockname()[:2]
        assert kernel.run(ops.connect(client, family, address)) == 0
        fd, peer = kernel.value(accepting.op, kernel.finish(accepting))
        with adopt(fd) as accepted:
            assert peer == client.getsockname()
            assert not accepted.get_inheritable()
            client.sendall(b"x")
            assert kernel.run(ops.shutdown(client, socket.SHUT_WR)) == 0
            assert accepted.recv(2) == b"x"
            assert accepted.recv(2) == b""


@pytest.mark.opcodes("BIND", "LISTEN", "CONNECT", "ACCEPT")
def test_a_connection_is_made_over_a_unix_path(kernel, tmp_path):
    path = str(tmp_path / "socket")
    server = adopt(kernel.run(ops.unix_socket()))
    client = adopt(kernel.run(ops.unix_socket()))
    with server, client:
        kernel.run(ops.bind(server, socket.AF_UNIX, path))
        kernel.run(ops.listen(server))
        kernel.run(ops.connect(client, socket.AF_UNIX, path))
        fd, peer = kernel.run(ops.accept(server, with_address=True))
        assert peer in (None, "")
        os.close(fd)
        assert kernel.result(ops.bind(client, socket.AF_UNIX, path)) == -errno.EADDRINUSE


@pytest.mark.opcodes("BIND", "LISTEN", "CONNECT", "ACCEPT", "SHUTDOWN")
def test_registered_sockets_do_the_same(kernel):
    kernel.register_files(*[-1] * 4)
    kernel.run(ops.tcp4_socket_direct(file_index=0))
    kernel.run(ops.tcp4_socket_direct(file_index=1))
    kernel.run(ops.bind(0, socket.AF_INET, ("127.0.0.1", 0), fixed_file=True))
    kernel.run(ops.listen(0, fixed_file=True))
    with adopt(kernel.run(ops.fixed_fd_install(0))) as listener:
        address = listener.getsockname()
    kernel.run(ops.connect(1, socket.AF_INET, address, fixed_file=True))
    assert kernel.run(ops.accept_direct(0, file_index=3, fixed_file=True)) == 3
    assert kernel.run(ops.shutdown(3, socket.SHUT_RDWR, fixed_file=True)) == 0
    room = bytearray(1)
    assert kernel.run(ops.recv(1, room, fixed_file=True)) == 0


@pytest.mark.opcodes("ACCEPT")
def test_accept_may_refuse_to_wait(kernel, listener):
    with pytest.raises(BlockingIOError):
        kernel.run(ops.accept(listener, dontwait=True))
    waiting = kernel.start(ops.accept(listener, poll_first=True, flags=socket.SOCK_NONBLOCK))
    with socket.create_connection(listener.getsockname()):
        with adopt(kernel.finish(waiting)) as accepted:
            assert not os.get_blocking(accepted.fileno())
            assert accepted.get_inheritable()


@pytest.mark.opcodes("ACCEPT", "ASYNC_CANCEL")
def test_a_multishot_accept_goes_on_until_cancelled(kernel, listener):
    request = kernel.start(ops.accept_multishot(listener))
    kernel.step()
    for _ in range(3):
        with socket.create_connection(listener.getsockname()):
            fd, flags = kernel.next_of(request)
            assert flags & abi.IORING_CQE_F_MORE
            request.op.discard(fd)
            with pytest.raises(OSError):
                os.fstat(fd)
    assert kernel.run(ops.async_cancel(request.user_data)) == 0
    kernel.finish(request)
    assert request.completions[-1] == (-errno.ECANCELED, 0)


@pytest.mark.opcodes("ACCEPT")
def test_connections_are_accepted_into_free_slots_until_none_is_left(kernel, listener):
    kernel.register_files(-1, -1)
    request = kernel.start(ops.accept_direct_multishot(listener))
    kernel.step()
    clients = [socket.create_connection(listener.getsockname()) for _ in range(3)]
    kernel.finish(request)
    slots = [res for res, _ in request.completions]
    assert sorted(slots[:2]) == [0, 1]
    assert slots[2:] == [-errno.ENFILE]
    assert request.op.discard is None
    for client in clients:
        client.close()


@pytest.mark.opcodes("ACCEPT", "CONNECT", "BIND", "LISTEN", "SHUTDOWN")
def test_sockets_fail_as_their_system_calls_do(kernel, listener):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = free.getsockname()
    with socket.socket() as made:
        with pytest.raises(ConnectionRefusedError, match=f"connect on fd {made.fileno()}, address"):
            kernel.run(ops.connect(made, socket.AF_INET, nobody))
    with socket.socket() as made:
        assert kernel.result(ops.bind(made, socket.AF_INET, listener.getsockname())) == -errno.EADDRINUSE
        assert kernel.result(ops.shutdown(made, socket.SHUT_WR)) == -errno.ENOTCONN
        assert kernel.result(ops.accept(made)) == -errno.EINVAL
    reader, writer = os.pipe()
    assert kernel.result(ops.listen(reader)) == -errno.ENOTSOCK
    assert kernel.result(ops.shutdown(reader, 0)) == -errno.ENOTSOCK
    os.close(reader)
    os.close(writer)
    assert kernel.result(ops.accept(listener, flags=1 << 30)) == -errno.EINVAL
    assert kernel.result(ops.accept_direct(listener, flags=socket.SOCK_CLOEXEC)) == -errno.EINVAL


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: ops.socket(-1, 1), ValueError),
        (lambda: ops.socket("inet", 1), TypeError),
        (lambda: ops.socket(2, -1), ValueError),
        (lambda: ops.socket(2, 1, 1 << 31), ValueError),
        (lambda: ops.socket_raw(2, "stream"), TypeError),
        (lambda: ops.socket_direct(2, 1, file_index=-1), ValueError),
        (lambda: ops.tcp4_socket(file_index=1), TypeError),
        (lambda: ops.tcp4_socket_direct(file_index=1 << 20), ValueError),
        (lambda: ops.bind(3, socket.AF_INET, "127.0.0.1"), TypeError),
        (lambda: ops.bind(3, socket.AF_INET, ("localhost", 1)), ValueError),
        (lambda: ops.bind(3, socket.AF_INET, ("127.0.0.1", 70000)), OverflowError),
        (lambda: ops.connect(3, 250, "x"), ValueError),
        (lambda: ops.connect(-1, socket.AF_INET, ("127.0.0.1", 1)), ValueError),
        (lambda: ops.listen(3, -1), ValueError),
        (lambda: ops.listen(3, 1.5), TypeError),
        (lambda: ops.accept(3, flags=-1), ValueError),
        (lambda: ops.accept(3, backlog=1), TypeError),
        (lambda: ops.accept_direct(3, file_index="any"), TypeError),
        (lambda: ops.accept_direct_multishot(3, file_index=2), ValueError),
        (lambda: ops.accept_multishot(object()), TypeError),
        (lambda: ops.shutdown(3, 3), ValueError),
        (lambda: ops.shutdown(3, "wr"), TypeError),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_queued(call, error):
    with pytest.raises(error):
        call()
