"""Sending: send, sendto, sendmsg, and bundles from a buffer group.

They wait in the kernel even with ``O_NONBLOCK``; ``MSG_DONTWAIT`` in ``flags`` makes them complete with
``EAGAIN`` instead. On a stream they may send fewer bytes than given, unless ``flags`` has ``MSG_WAITALL``.
None raises ``SIGPIPE``. Zero-copy forms are in ``uring.ops.zerocopy``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import abi
from ..kernel.memory import pin
from ..kernel.messages import Message, encode_control
from .base import (
    INT_MAX,
    Address,
    Fd,
    check_fd,
    check_flags,
    check_group,
    check_int,
    check_sequence,
    limit,
    make,
    vector,
)
from .sockaddrs import encoded, sockaddr

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from typing_extensions import Buffer

    from ..kernel.op import Op
    from .sockaddrs import SocketAddress

__all__ = ["send", "send_bundle", "sendmsg", "sendto", "sendv"]

_SELECT = int(abi.IOSQE_BUFFER_SELECT)
POLL_FIRST = int(abi.IORING_RECVSEND_POLL_FIRST)
_BUNDLE = int(abi.IORING_RECVSEND_BUNDLE)
_VECTORIZED = int(abi.IORING_SEND_VECTORIZED)


def send(
    fd: Fd,
    data: Buffer,
    *,
    flags: int = 0,
    n: int | None = None,
    poll_first: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Sends bytes.

    It waits for room even with ``O_NONBLOCK``, and sends no ``SIGPIPE``.

    Args:
        fd: the socket, a descriptor or an object with ``fileno()``.
        data: bytes, or any buffer. It has to stay as it is until the completion.
        flags: ``MSG_*`` of send(2), 0 to 2**32 - 1. ``MSG_DONTWAIT`` does not wait, ``MSG_WAITALL`` goes on
            until all is sent.
        n: bytes to send at most, 0 to the size of ``data``; None is all of it.
        poll_first: waits for room before the first attempt (Linux 5.19).
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        How many bytes the socket took, which may be fewer than given.

    Errors:
        - ``EBADF``, ``ENOTSOCK``: ``fd`` is not open, or no socket.
        - ``EAGAIN``: there is no room, and ``flags`` has ``MSG_DONTWAIT``.
        - ``EPIPE``: the socket is not connected, or shut down for sending. No ``SIGPIPE`` is sent.
        - ``ECONNRESET``, ``ENOTCONN``, ``ENOBUFS`` and others as send(2).

    Cancellation:
        `async_cancel` and `link_timeout` end it at once with ``ECANCELED``, or with the number of bytes that
        went out before. Closing the descriptor does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.6; ``poll_first`` 5.19.

    Source:
        send(2); io_uring_prep_send(3).
    """
    ioprio = POLL_FIRST if poll_first else 0
    return send_from("send", abi.IORING_OP_SEND, fd, data, n, flags, ioprio, fixed_file).with_options(
        sqe_flags, personality
    )


def sendto(
    fd: Fd,
    data: Buffer,
    family: int | Address | None = None,
    address: Address | None = None,
    *,
    flags: int = 0,
    n: int | None = None,
    poll_first: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Sends bytes to an address.

    Args:
        fd: the socket, a descriptor or an object with ``fileno()``.
        data: bytes, or any buffer. It has to stay as it is until the completion.
        family: the address, of the family of the socket object; of the family that its form tells where
            ``fd`` is a number. Or ``AF_*``, before the address.
        address: (host, port), (host, port[, flowinfo[, scope_id]]), or a path; bytes with a leading NUL are
            of the abstract namespace. Hosts are numeric. (pid, groups) of ``AF_NETLINK``, (cid, port) of
            ``AF_VSOCK``, (family, bytes) of any other family.
        flags: ``MSG_*`` of sendto(2), 0 to 2**32 - 1. ``MSG_DONTWAIT`` does not wait.
        n: bytes to send at most, 0 to the size of ``data``; None is all of it.
        poll_first: waits for room before the first attempt (Linux 5.19).
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        How many bytes the socket took.

    Errors:
        - ``EBADF``, ``ENOTSOCK``: ``fd`` is not open, or no socket.
        - ``EAGAIN``: there is no room, and ``flags`` has ``MSG_DONTWAIT``.
        - ``EPIPE``: the socket is not connected, or shut down for sending. No ``SIGPIPE`` is sent.
        - ``ECONNRESET``, ``ENOTCONN``, ``ENOBUFS`` and others as send(2).
        - ``EMSGSIZE``: the datagram is too large.
        - ``EISCONN``: an address for a connected socket that takes none.

    Cancellation:
        `async_cancel` and `link_timeout` end it at once with ``ECANCELED``, or with the number of bytes that
        went out before. Closing the descriptor does not end it.

    Raises:
        TypeError, ValueError, OverflowError: an argument has the wrong type or is out of range, or the
            address is of another family.

    Since:
        Linux 6.0.

    Source:
        sendto(2); io_uring_prep_sendto(3).
    """
    ioprio = POLL_FIRST if poll_first else 0
    to = encoded(fd, family, address)
    return send_from(
        "sendto", abi.IORING_OP_SEND, fd, data, n, flags, ioprio, fixed_file, to=to
    ).with_options(sqe_flags, personality)


def sendv(
    fd: Fd,
    buffers: Sequence[Buffer],
    *,
    flags: int = 0,
    poll_first: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Sends several buffers, one after the other.

    Args:
        fd: the socket, a descriptor or an object with ``fileno()``.
        buffers: buffers, 1024 at most.
        flags: ``MSG_*`` of send(2), 0 to 2**32 - 1. ``MSG_DONTWAIT`` does not wait, ``MSG_WAITALL`` goes on
            until all is sent.
        poll_first: waits for room before the first attempt (Linux 5.19).
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        How many bytes the socket took, which may be fewer than given.

    Errors:
        - ``EBADF``, ``ENOTSOCK``: ``fd`` is not open, or no socket.
        - ``EAGAIN``: there is no room, and ``flags`` has ``MSG_DONTWAIT``.
        - ``EPIPE``: the socket is not connected, or shut down for sending. No ``SIGPIPE`` is sent.
        - ``ECONNRESET``, ``ENOTCONN``, ``ENOBUFS`` and others as send(2).

    Cancellation:
        `async_cancel` and `link_timeout` end it at once with ``ECANCELED``, or with the number of bytes that
        went out before. Closing the descriptor does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.17.

    Source:
        send(2); io_uring_prep_send(3), ``IORING_SEND_VECTORIZED``.
    """
    address, count, held = vector(buffers, writable=False)
    return make(
        "sendv",
        abi.IORING_OP_SEND,
        check_fd(fd),
        addr=address,
        length=count,
        op_flags=check_flags("flags", flags),
        ioprio=_VECTORIZED | (POLL_FIRST if poll_first else 0),
        fixed_file=fixed_file,
        pins=(held, buffers),
    ).with_options(sqe_flags, personality)


def send_bundle(
    fd: Fd,
    buffer_group: int,
    *,
    flags: int = 0,
    write_buffer_size: int = 0,
    poll_first: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Sends the buffers that are in a group, in its order.

    Args:
        fd: the socket, a descriptor or an object with ``fileno()``.
        buffer_group: the group, 0 to 65535.
        flags: ``MSG_*`` of send(2), 0 to 2**32 - 1.
        write_buffer_size: sends no more than this at first, 0 to 2**31 - 1 bytes, in whole buffers except for
            a single one; 0 is no bound. The kernel (6.18) then sends the rest of the group, with a further
            completion.
        poll_first: waits for room before the first attempt (Linux 5.19).
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        How many bytes the socket took. The completion's flags tell the first buffer; the others follow it.

    Errors:
        - ``EBADF``, ``ENOTSOCK``: ``fd`` is not open, or no socket.
        - ``EAGAIN``: there is no room, and ``flags`` has ``MSG_DONTWAIT``.
        - ``EPIPE``: the socket is not connected, or shut down for sending. No ``SIGPIPE`` is sent.
        - ``ECONNRESET``, ``ENOTCONN``, ``ENOBUFS`` and others as send(2).
        - ``ENOBUFS``: the group is empty.
        - ``ENOENT``: there is no such group.

    Ends:
        It may complete more than once; the completion without ``F_MORE`` is the last.

    Cancellation:
        `async_cancel` and `link_timeout` end it at once with ``ECANCELED``, or with the number of bytes that
        went out before. Closing the descriptor does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.10.

    Source:
        io_uring_prep_send_bundle(3); send(2).
    """
    return make(
        "send_bundle",
        abi.IORING_OP_SEND,
        check_fd(fd),
        length=check_int("write_buffer_size", write_buffer_size, 0, INT_MAX),
        op_flags=check_flags("flags", flags),
        flags=_SELECT,
        buf_index=check_group(buffer_group),
        ioprio=_BUNDLE | (POLL_FIRST if poll_first else 0),
        fixed_file=fixed_file,
    ).with_options(sqe_flags, personality)


def sendmsg(
    fd: Fd,
    buffers: Sequence[Buffer],
    ancillary: Iterable[tuple[int, int, Buffer]] = (),
    *,
    flags: int = 0,
    name: bytes = b"",
    address: Address | None = None,
    poll_first: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Sends buffers with control messages, to an address if one is given.

    Args:
        fd: the socket, a descriptor or an object with ``fileno()``.
        buffers: buffers, 1024 at most.
        ancillary: control messages as (level, type, data), as of `socket.socket.sendmsg`.
        flags: ``MSG_*`` of sendmsg(2), 0 to 2**32 - 1. ``MSG_DONTWAIT`` does not wait.
        name: the destination as the bytes of a ``sockaddr``.
        address: the destination instead, as of `sendto`: of the family of the socket object, or the one that
            its form tells where ``fd`` is a number.
        poll_first: waits for room before the first attempt (Linux 5.19).
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        How many bytes the socket took, which may be fewer than given.

    Errors:
        - ``EBADF``, ``ENOTSOCK``: ``fd`` is not open, or no socket.
        - ``EAGAIN``: there is no room, and ``flags`` has ``MSG_DONTWAIT``.
        - ``EPIPE``: the socket is not connected, or shut down for sending. No ``SIGPIPE`` is sent.
        - ``ECONNRESET``, ``ENOTCONN``, ``ENOBUFS`` and others as send(2).
        - ``EAGAIN``: also with ``O_NONBLOCK``, after 128 wake-ups without room.
        - ``EMSGSIZE``: the datagram is too large.
        - ``EINVAL``: a control message that the socket does not take.

    Cancellation:
        `async_cancel` and `link_timeout` end it at once with ``ECANCELED``, or with the number of bytes that
        went out before. Closing the descriptor does not end it.

    Raises:
        TypeError, ValueError, OverflowError: an argument has the wrong type or is out of range, or the
            address is of another family.

    Since:
        Linux 5.3; ``poll_first`` 5.19.

    Source:
        sendmsg(2); io_uring_prep_sendmsg(3).
    """
    ioprio = POLL_FIRST if poll_first else 0
    return sendmsg_from(
        "sendmsg", abi.IORING_OP_SENDMSG, fd, buffers, ancillary, flags, name, address, ioprio, fixed_file
    ).with_options(sqe_flags, personality)


def _buf_index(buf_index: int | None) -> int:
    return 0 if buf_index is None else check_int("buf_index", buf_index, 0, 0xFFFF)


def send_from(
    name: str,
    opcode: int,
    fd: Fd,
    data: Buffer,
    n: int | None,
    flags: int,
    ioprio: int,
    fixed_file: bool,
    buf_index: int | None = None,
    to: SocketAddress | None = None,
) -> Op[int]:
    where, size, held = pin(data)
    return make(
        name,
        opcode,
        check_fd(fd),
        off=to.address if to else 0,
        addr=where,
        length=limit(n, size, INT_MAX),
        op_flags=check_flags("flags", flags),
        ioprio=ioprio,
        buf_index=_buf_index(buf_index),
        file_index=to.length if to else 0,
        fixed_file=fixed_file,
        pins=(held, data, to),
        address=to.name if to else None,
    )


def sendmsg_from(
    op_name: str,
    opcode: int,
    fd: Fd,
    buffers: Sequence[Buffer],
    ancillary: Iterable[tuple[int, int, Buffer]],
    flags: int,
    name: bytes,
    address: Address | None,
    ioprio: int,
    fixed_file: bool,
    buf_index: int | None = None,
) -> Op[int]:
    if not isinstance(name, bytes):
        raise TypeError(f"name is a sockaddr as bytes, not {type(name).__name__}")
    if address is not None:
        if name:
            raise TypeError("give either name or address")
        name = sockaddr(fd, address)
    message = Message(check_sequence("buffers", buffers), name=name, control=encode_control(ancillary))
    return make(
        op_name,
        opcode,
        check_fd(fd),
        addr=message.address,
        length=1,
        op_flags=check_flags("flags", flags),
        ioprio=ioprio,
        buf_index=_buf_index(buf_index),
        fixed_file=fixed_file,
        pins=(message, buffers),
        address=address,
    )
