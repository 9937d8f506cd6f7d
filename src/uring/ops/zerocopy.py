"""Zero-copy sends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import abi
from .send import POLL_FIRST, send_from, sendmsg_from
from .sockaddrs import encoded

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from typing_extensions import Buffer

    from ..kernel.op import Op
    from .base import Address, Fd

__all__ = ["send_zc", "sendmsg_zc", "sendto_zc"]

_FIXED_BUF = int(abi.IORING_RECVSEND_FIXED_BUF)
_REPORT_USAGE = int(abi.IORING_SEND_ZC_REPORT_USAGE)


def send_zc(
    fd: Fd,
    data: Buffer,
    *,
    flags: int = 0,
    n: int | None = None,
    buf_index: int | None = None,
    report_usage: bool = False,
    poll_first: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Sends bytes without copying them where the network can.

    It completes twice. The first completion has the result; if it has ``F_MORE``, a second one with
    ``F_NOTIF`` says that the network has finished reading the memory, which stays pinned until then.

    Args:
        fd: the socket, a descriptor or an object with ``fileno()``.
        data: bytes, or any buffer. It has to stay as it is until the last completion.
        flags: ``MSG_*`` of send(2), 0 to 2**32 - 1.
        n: bytes to send at most, 0 to the size of ``data``; None is all of it.
        buf_index: ``data`` is inside this registered buffer, 0 to 65535.
        report_usage: the second completion's result tells whether the data was copied after all
            (``IORING_NOTIF_USAGE_ZC_COPIED``). Over loopback it always is.
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
        - ``EOPNOTSUPP``: the socket cannot do it; Unix sockets cannot.
        - ``ENOMEM``: more memory is under way than ``RLIMIT_MEMLOCK`` allows.
        - ``EFAULT``: the memory is not inside registered buffer ``buf_index``.

    Ends:
        With the completion without ``F_MORE``.

    Cancellation:
        `async_cancel` and `link_timeout` end it at once with ``ECANCELED``, or with the number of bytes that
        went out before. Closing the descriptor does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.0.

    Source:
        io_uring_prep_send_zc(3); send(2).
    """
    ioprio = _zero_copy(poll_first, report_usage, buf_index)
    return send_from(
        "send_zc", abi.IORING_OP_SEND_ZC, fd, data, n, flags, ioprio, fixed_file, buf_index
    ).with_options(sqe_flags, personality)


def sendto_zc(
    fd: Fd,
    data: Buffer,
    family: int | Address | None = None,
    address: Address | None = None,
    *,
    flags: int = 0,
    n: int | None = None,
    buf_index: int | None = None,
    report_usage: bool = False,
    poll_first: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Sends bytes to an address without copying them where the network can. It completes twice, as `send_zc`
    does.

    Args:
        fd: the socket, a descriptor or an object with ``fileno()``.
        data: bytes, or any buffer. It has to stay as it is until the last completion.
        family: the address, of the family of the socket object; of the family that its form tells where
            ``fd`` is a number. Or ``AF_*``, before the address.
        address: (host, port), (host, port[, flowinfo[, scope_id]]), or a path; bytes with a leading NUL are
            of the abstract namespace. Hosts are numeric. (pid, groups) of ``AF_NETLINK``, (cid, port) of
            ``AF_VSOCK``, (family, bytes) of any other family.
        flags: ``MSG_*`` of sendto(2), 0 to 2**32 - 1.
        n: bytes to send at most, 0 to the size of ``data``; None is all of it.
        buf_index: ``data`` is inside this registered buffer, 0 to 65535.
        report_usage: the second completion's result tells whether the data was copied after all
            (``IORING_NOTIF_USAGE_ZC_COPIED``).
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
        - ``EOPNOTSUPP``: the socket cannot do it; Unix sockets cannot.
        - ``ENOMEM``: more memory is under way than ``RLIMIT_MEMLOCK`` allows.
        - ``EFAULT``: the memory is not inside registered buffer ``buf_index``.

    Ends:
        With the completion without ``F_MORE``.

    Cancellation:
        `async_cancel` and `link_timeout` end it at once with ``ECANCELED``, or with the number of bytes that
        went out before. Closing the descriptor does not end it.

    Raises:
        TypeError, ValueError, OverflowError: an argument has the wrong type or is out of range, or the
            address is of another family.

    Since:
        Linux 6.0.

    Source:
        io_uring_prep_send_zc(3), io_uring_prep_send_set_addr(3); sendto(2).
    """
    ioprio = _zero_copy(poll_first, report_usage, buf_index)
    to = encoded(fd, family, address)
    return send_from(
        "sendto_zc", abi.IORING_OP_SEND_ZC, fd, data, n, flags, ioprio, fixed_file, buf_index, to
    ).with_options(sqe_flags, personality)


def sendmsg_zc(
    fd: Fd,
    buffers: Sequence[Buffer],
    ancillary: Iterable[tuple[int, int, Buffer]] = (),
    *,
    flags: int = 0,
    name: bytes = b"",
    address: Address | None = None,
    buf_index: int | None = None,
    report_usage: bool = False,
    poll_first: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Sends buffers with control messages, without copying where the network can. It completes twice, as
    `send_zc` does.

    Args:
        fd: the socket, a descriptor or an object with ``fileno()``.
        buffers: buffers, 1024 at most. They have to stay as they are until the last completion.
        ancillary: control messages as (level, type, data), as of `socket.socket.sendmsg`.
        flags: ``MSG_*`` of sendmsg(2), 0 to 2**32 - 1.
        name: the destination as the bytes of a ``sockaddr``.
        address: the destination instead, as of `sendto`: of the family of the socket object, or the one that
            its form tells where ``fd`` is a number.
        buf_index: all buffers are inside this registered buffer, 0 to 65535 (Linux 6.15).
        report_usage: the second completion's result tells whether the data was copied after all
            (``IORING_NOTIF_USAGE_ZC_COPIED``).
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
        - ``EOPNOTSUPP``: the socket cannot do it; Unix sockets cannot.
        - ``ENOMEM``: more memory is under way than ``RLIMIT_MEMLOCK`` allows.
        - ``EMSGSIZE``: the datagram is too large.

    Ends:
        With the completion without ``F_MORE``.

    Cancellation:
        `async_cancel` and `link_timeout` end it at once with ``ECANCELED``, or with the number of bytes that
        went out before. Closing the descriptor does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.1; ``buf_index`` 6.15.

    Source:
        io_uring_prep_sendmsg_zc(3); sendmsg(2).
    """
    ioprio = _zero_copy(poll_first, report_usage, buf_index)
    return sendmsg_from(
        "sendmsg_zc",
        abi.IORING_OP_SENDMSG_ZC,
        fd,
        buffers,
        ancillary,
        flags,
        name,
        address,
        ioprio,
        fixed_file,
        buf_index,
    ).with_options(sqe_flags, personality)


def _zero_copy(poll_first: bool, report_usage: bool, buf_index: int | None) -> int:
    return (
        (POLL_FIRST if poll_first else 0)
        | (_REPORT_USAGE if report_usage else 0)
        | (_FIXED_BUF if buf_index is not None else 0)
    )
