"""Addresses by the socket's own family: as arguments, in results, and those that are refused."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, Any

import pytest

from tests.ringside import PATIENCE
from uring import Message, Ring, SQEContext, abi, ops
from uring.kernel.addresses import SOCKADDR_SIZE, decode_address, encode_address, family_of

if TYPE_CHECKING:
    from pathlib import Path

AF_NETLINK, AF_VSOCK, AF_ALG = socket.AF_NETLINK, socket.AF_VSOCK, socket.AF_ALG
LOCAL = {socket.AF_INET: ("127.0.0.1", 0), socket.AF_INET6: ("::1", 0), socket.AF_UNIX: b"\0uring-test-%d"}
families = pytest.mark.parametrize("family", LOCAL, ids=lambda family: family.name)


def local(family: socket.AddressFamily, which: int = 0) -> Any:
    address: Any = LOCAL[family]
    return address % (2 * os.getpid() + which) if family == socket.AF_UNIX else address


@families
@pytest.mark.parametrize("as_number", [False, True])
def test_sockets_are_named_and_connected_by_an_address_alone(
    ring: Ring, family: socket.AddressFamily, as_number: bool
) -> None:
    with socket.socket(family) as server, socket.socket(family) as client:
        to, of = (server.fileno(), client.fileno()) if as_number else (server, client)
        assert ring.bind(to, local(family)).wait(PATIENCE) == 0
        address = server.getsockname()
        ring.listen(to).wait(PATIENCE)
        accepting = ring.accept(to, with_address=True)
        assert ring.connect(of, address).wait(PATIENCE) == 0
        fd, peer = accepting.wait(PATIENCE)
        os.close(fd)
        assert (peer or "") == client.getsockname()
        if family != socket.AF_UNIX:
            with pytest.raises(OSError, match="bind") as caught:
                ring.bind(to, address=address).wait(PATIENCE)
            assert caught.value.errno == errno.EINVAL
            assert str(address[1]) in str(caught.value), "the message tells the address"


@families
def test_datagrams_go_to_an_address_and_tell_their_sender(ring: Ring, family: socket.AddressFamily) -> None:
    with socket.socket(family, socket.SOCK_DGRAM) as a, socket.socket(family, socket.SOCK_DGRAM) as b:
        a.bind(local(family, 0))
        b.bind(local(family, 1))
        room = bytearray(9)
        message = Message([room], writable=True, name_size=SOCKADDR_SIZE)
        sends = [
            lambda: ring.sendto(a, b"datagram", b.getsockname()),
            lambda: ring.sendto(a, b"datagram", family, b.getsockname()),
            lambda: ring.sendto(a.fileno(), b"datagram", address=b.getsockname()),
            lambda: ring.sendmsg(a, [b"data", b"gram"], address=b.getsockname()),
            lambda: ring.sendmsg(a.fileno(), [b"datagram"], address=b.getsockname()),
        ]
        if family != socket.AF_UNIX:
            sends.append(lambda: ring.sendto_zc(a, b"datagram", b.getsockname()))
            sends.append(lambda: ring.sendmsg_zc(a, [b"datagram"], address=b.getsockname()))
        for send in sends:
            message.reset(SOCKADDR_SIZE)
            assert send().wait(PATIENCE) == 8
            assert ring.recvmsg(b, message).wait(PATIENCE) == 8
            assert room[:8] == b"datagram"
            assert message.peer == a.getsockname()


def test_a_path_of_any_kind_names_a_unix_socket(ring: Ring, tmp_path: Path) -> None:
    for name in (str(tmp_path / "text"), os.fsencode(tmp_path / "bytes"), tmp_path / "path"):
        with socket.socket(socket.AF_UNIX) as server:
            ring.bind(server, name).wait(PATIENCE)
            assert server.getsockname() == os.fsdecode(name)


def test_other_families_have_pairs_of_numbers_or_bytes(ring: Ring) -> None:
    with socket.socket(AF_NETLINK, socket.SOCK_RAW) as netlink:
        ring.bind(netlink, (0, 0)).wait(PATIENCE)
        pid, groups = netlink.getsockname()
        assert pid != 0
        assert decode_address(encode_address(AF_NETLINK, (pid, groups))) == (pid, groups)
    with socket.socket(AF_NETLINK, socket.SOCK_RAW) as netlink:
        ring.bind(netlink.fileno(), AF_NETLINK, (0, 1)).wait(PATIENCE)
        assert netlink.getsockname()[1] == 1
    assert decode_address(encode_address(AF_VSOCK, (3, 1024))) == (3, 1024)
    # struct sockaddr_vm: the port stands before the number of the machine.
    assert encode_address(AF_VSOCK, (3, 1024)) == struct.pack("=HHII4x", AF_VSOCK, 0, 1024, 3)
    of_any = (AF_ALG, b"hash".ljust(14, b"\0"))
    assert decode_address(encode_address(AF_ALG, of_any)) == of_any


@pytest.mark.parametrize(
    ("address", "family"),
    [
        (("127.0.0.1", 1), socket.AF_INET),
        (("::1", 1), socket.AF_INET6),
        (("::1", 1, 0, 0), socket.AF_INET6),
        ("path", socket.AF_UNIX),
        (b"\0abstract", socket.AF_UNIX),
        (bytearray(b"path"), socket.AF_UNIX),
        ((AF_ALG, b"bytes"), AF_ALG),
    ],
)
def test_a_form_tells_its_family(address: Any, family: int) -> None:
    assert family_of(address) == family


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda s: ops.connect(s), TypeError, "the address is missing"),
        (lambda s: ops.connect(s, socket.AF_INET), TypeError, "the address is missing"),
        (lambda s: ops.sendto(s, b"data"), TypeError, "the address is missing"),
        (lambda s: ops.connect(s, "family", ("127.0.0.1", 1)), TypeError, "a family is an int"),
        (lambda s: ops.connect(s, ("::1", 1)), ValueError, "numeric address of this family"),
        (lambda s: ops.connect(s, "/path"), TypeError, "of this family is"),
        (lambda s: ops.connect(3, (1, 2)), TypeError, "of what family"),
        (lambda s: ops.connect(3, 1.5), TypeError, "a tuple, a path or bytes"),
        (lambda s: ops.connect(3, AF_NETLINK, (-1, 0)), ValueError, "two numbers of 32 bits"),
        (lambda s: ops.connect(3, AF_NETLINK, 7), ValueError, "two numbers of 32 bits"),
        (lambda s: ops.connect(3, (AF_ALG, bytes(127))), ValueError, "at most 126 bytes"),
        (lambda s: ops.connect(3, AF_ALG, (AF_VSOCK, b"")), ValueError, r"is \(38, bytes\)"),
        (lambda s: ops.sendmsg(s, [b""], name=b"x", address=("::1", 1)), TypeError, "either name or address"),
    ],
)
def test_what_is_no_address_of_the_socket_is_refused(call: Any, error: type[Exception], says: str) -> None:
    with socket.socket() as sock, pytest.raises(error, match=says):
        call(sock)


def test_a_context_before_an_address(ring: Ring) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        to = server.getsockname()
        for connect in (
            lambda sock: ring.connect(7, sock, to),
            lambda sock: ring.connect(SQEContext(7), sock.fileno(), to),
            lambda sock: ring.connect(7, sock.fileno(), abi.AF_INET, to),
            lambda sock: ring.connect(sock.fileno(), to, ctx=7),
        ):
            with socket.socket() as sock:
                assert connect(sock) == 7
                (cqe,) = ring.wait(timeout=PATIENCE)
                assert (cqe.user_data, cqe.res) == (7, 0)
        for family in (socket.AF_INET, abi.AF_INET):
            with socket.socket() as sock:
                assert ring.connect(sock.fileno(), family, to).wait(PATIENCE) == 0
        with socket.socket() as sock, pytest.raises(TypeError, match=r"context by keyword \(ctx=…\)"):
            ring.connect(sock.fileno(), 2, to)
