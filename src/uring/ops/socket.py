"""Sockets: creating, naming, connecting, shutting down.

A function for each protocol is in ``uring.ops.protocols``.
"""

from __future__ import annotations

import socket as _socket
from typing import TYPE_CHECKING

from .. import abi
from .base import INT_MAX, Address, Fd, check_fd, check_int, make, new_file, renamed
from .sockaddrs import encoded

if TYPE_CHECKING:
    from ..kernel.op import Op


__all__ = ["bind", "connect", "listen", "shutdown", "socket", "socket_direct", "socket_raw"]

_FAMILY_MAX = 255
_ALLOC = abi.IORING_FILE_INDEX_ALLOC


@renamed(type="kind")
def socket(family: int, kind: int, protocol: int = 0, *, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Makes a socket.

    ``SOCK_CLOEXEC`` is added, as Python's own sockets have it.

    Args:
        family: ``AF_*``, 0 to 255.
        kind: ``SOCK_STREAM``, ``SOCK_DGRAM`` and the like, with ``SOCK_NONBLOCK``, 0 to 2**31 - 1. The
            keyword ``type`` works too.
        protocol: ``IPPROTO_*``, 0 to 2**31 - 1; 0 is the family's default.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The socket's descriptor.

    Errors:
        - ``EAFNOSUPPORT``, ``EPROTONOSUPPORT``: the kernel does not have the family or the protocol.
        - ``EINVAL``, ``ESOCKTNOSUPPORT``: an unknown kind, or one that the family does not have.
        - ``EACCES``, ``EPERM``: a raw socket needs privileges.
        - ``EMFILE``, ``ENFILE``: too many descriptors are open.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.19.

    Source:
        socket(2); io_uring_prep_socket(3).
    """
    check_int("kind", kind, 0, INT_MAX)
    return _socket_op("socket", family, kind | _socket.SOCK_CLOEXEC, protocol, None).with_options(
        sqe_flags, personality
    )


@renamed(type="kind")
def socket_raw(
    family: int, kind: int, protocol: int = 0, *, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Makes a socket with exactly these numbers. Without ``SOCK_CLOEXEC`` the descriptor outlives exec(2).

    Args:
        family: ``AF_*``, 0 to 255.
        kind: ``SOCK_STREAM``, ``SOCK_DGRAM`` and the like, with ``SOCK_NONBLOCK`` and ``SOCK_CLOEXEC``, 0 to
            2**31 - 1. The keyword ``type`` works too.
        protocol: ``IPPROTO_*``, 0 to 2**31 - 1; 0 is the family's default.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The socket's descriptor.

    Errors:
        - ``EAFNOSUPPORT``, ``EPROTONOSUPPORT``: the kernel does not have the family or the protocol.
        - ``EINVAL``, ``ESOCKTNOSUPPORT``: an unknown kind, or one that the family does not have.
        - ``EACCES``, ``EPERM``: a raw socket needs privileges.
        - ``EMFILE``, ``ENFILE``: too many descriptors are open.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.19.

    Source:
        socket(2); io_uring_prep_socket(3).
    """
    return _socket_op("socket_raw", family, kind, protocol, None).with_options(sqe_flags, personality)


@renamed(type="kind")
def socket_direct(
    family: int,
    kind: int,
    protocol: int = 0,
    *,
    file_index: int = _ALLOC,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Makes a socket in a slot of the registered files, without a descriptor.

    Args:
        family: ``AF_*``, 0 to 255.
        kind: ``SOCK_STREAM``, ``SOCK_DGRAM`` and the like, with ``SOCK_NONBLOCK``, 0 to 2**31 - 1. The
            keyword ``type`` works too.
        protocol: ``IPPROTO_*``, 0 to 2**31 - 1; 0 is the family's default.
        file_index: the slot, 0 to 2**20 - 1, whose file is replaced; ``IORING_FILE_INDEX_ALLOC``: a free one.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The slot.

    Errors:
        - ``EAFNOSUPPORT``, ``EPROTONOSUPPORT``: the kernel does not have the family or the protocol.
        - ``EINVAL``, ``ESOCKTNOSUPPORT``: an unknown kind, or one that the family does not have.
        - ``EACCES``, ``EPERM``: a raw socket needs privileges.
        - ``EINVAL``: the table of files ends before ``file_index``.
        - ``ENFILE``: no slot is free.
        - ``ENXIO``: ``file_index`` names a slot, and the ring has no table of files.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.19.

    Source:
        socket(2); io_uring_prep_socket_direct(3).
    """
    return _socket_op("socket_direct", family, kind, protocol, file_index).with_options(
        sqe_flags, personality
    )


def bind(
    fd: Fd,
    family: int | Address | None = None,
    address: Address | None = None,
    *,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Binds a socket to an address.

    Args:
        fd: the socket, a descriptor or an object with ``fileno()``.
        family: the address, of the family of the socket object; of the family that its form tells where
            ``fd`` is a number. Or ``AF_*``, before the address.
        address: (host, port), (host, port[, flowinfo[, scope_id]]), or a path; bytes with a leading NUL are
            of the abstract namespace. Hosts are numeric. (pid, groups) of ``AF_NETLINK``, (cid, port) of
            ``AF_VSOCK``, (family, bytes) of any other family.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0.

    Errors:
        - ``EBADF``, ``ENOTSOCK``: ``fd`` is not open, or no socket.
        - ``EADDRINUSE``: the address is taken.
        - ``EADDRNOTAVAIL``: no interface of this machine has the address.
        - ``EACCES``: a port or path that needs privileges.
        - ``EINVAL``: the socket has an address already, or is of another family.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError, OverflowError: an argument has the wrong type or is out of range, or the
            address is of another family.

    Since:
        Linux 6.11.

    Source:
        bind(2); io_uring_prep_bind(3).
    """
    raw = encoded(fd, family, address)
    return make(
        "bind",
        abi.IORING_OP_BIND,
        check_fd(fd),
        addr=raw.address,
        off=raw.length,
        fixed_file=fixed_file,
        pins=raw,
        address=raw.name,
    ).with_options(sqe_flags, personality)


def listen(
    fd: Fd, backlog: int = 128, *, fixed_file: bool = False, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Makes a socket accept connections.

    Args:
        fd: the socket, a descriptor or an object with ``fileno()``.
        backlog: how many connections may wait to be accepted, 0 to 2**31 - 1. The kernel lowers it to
            ``net.core.somaxconn``.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0.

    Errors:
        - ``EBADF``, ``ENOTSOCK``: ``fd`` is not open, or no socket.
        - ``EADDRINUSE``: another socket listens on the port.
        - ``EINVAL``: a Unix socket without an address.
        - ``EOPNOTSUPP``: the socket is of a kind that does not listen.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.11.

    Source:
        listen(2); io_uring_prep_listen(3).
    """
    length = check_int("backlog", backlog, 0, INT_MAX)
    return make(
        "listen", abi.IORING_OP_LISTEN, check_fd(fd), length=length, fixed_file=fixed_file
    ).with_options(sqe_flags, personality)


def connect(
    fd: Fd,
    family: int | Address | None = None,
    address: Address | None = None,
    *,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Connects a socket.

    It waits for the connection even with ``O_NONBLOCK``.

    Args:
        fd: the socket, a descriptor or an object with ``fileno()``.
        family: the address, of the family of the socket object; of the family that its form tells where
            ``fd`` is a number. Or ``AF_*``, before the address.
        address: (host, port), (host, port[, flowinfo[, scope_id]]), or a path; bytes with a leading NUL are
            of the abstract namespace. Hosts are numeric. (pid, groups) of ``AF_NETLINK``, (cid, port) of
            ``AF_VSOCK``, (family, bytes) of any other family.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0.

    Errors:
        - ``EBADF``, ``ENOTSOCK``: ``fd`` is not open, or no socket.
        - ``ECONNREFUSED``: no socket listens there.
        - ``EHOSTUNREACH``, ``ENETUNREACH``, ``ETIMEDOUT``: no way there, or no answer.
        - ``EISCONN``, ``EALREADY``: the socket is connected or connecting.
        - ``EADDRNOTAVAIL``: no local port is free.
        - ``EAGAIN``: the backlog of a Unix listener is full, and the socket has ``O_NONBLOCK``.
        - ``EINTR``: it was interrupted in a kernel worker, see below.

    Cancellation:
        `async_cancel` and `link_timeout` end it at once with ``ECANCELED``; the socket's state is then
        undefined: close it. A Unix socket that waits for room in a backlog may block in a kernel worker: it
        then ends with ``EINTR``.

    Raises:
        TypeError, ValueError, OverflowError: an argument has the wrong type or is out of range, or the
            address is of another family.

    Since:
        Linux 5.5.

    Source:
        connect(2); io_uring_prep_connect(3).
    """
    raw = encoded(fd, family, address)
    return make(
        "connect",
        abi.IORING_OP_CONNECT,
        check_fd(fd),
        addr=raw.address,
        off=raw.length,
        fixed_file=fixed_file,
        pins=raw,
        address=raw.name,
    ).with_options(sqe_flags, personality)


def shutdown(
    fd: Fd, how: int, *, fixed_file: bool = False, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Shuts a connection down in one direction or both.

    It ends waits on the socket: receives complete with 0, accepts with ``EINVAL``.

    Args:
        fd: the socket, a descriptor or an object with ``fileno()``.
        how: ``SHUT_RD``, ``SHUT_WR`` or ``SHUT_RDWR``, 0 to 2.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0.

    Errors:
        - ``EBADF``, ``ENOTSOCK``: ``fd`` is not open, or no socket.
        - ``ENOTCONN``: the socket is not connected.

    Cancellation:
        It runs in a kernel worker. `async_cancel` ends it with ``ECANCELED`` only while it is queued there;
        once it runs it goes on to its result. `link_timeout` does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.11.

    Source:
        shutdown(2); io_uring_prep_shutdown(3).
    """
    length = check_int("how", how, 0, 2)
    return make(
        "shutdown", abi.IORING_OP_SHUTDOWN, check_fd(fd), length=length, fixed_file=fixed_file
    ).with_options(sqe_flags, personality)


def _socket_op(name: str, family: int, kind: int, protocol: int, file_index: int | None) -> Op[int]:
    slot, decode, discard = new_file(file_index)
    return make(
        name,
        abi.IORING_OP_SOCKET,
        check_int("family", family, 0, _FAMILY_MAX),
        off=check_int("kind", kind, 0, INT_MAX),
        length=check_int("protocol", protocol, 0, INT_MAX),
        file_index=slot,
        decode=decode,
        discard=discard,
    )
