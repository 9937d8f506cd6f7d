"""Receiving until the stream ends: one request, many completions.

The kernel picks memory of the group when data arrives: a completion has ``F_BUFFER``, and the buffer's number
in the upper half of its flags.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from .. import abi
from .base import INT_MAX, UINT_MAX, Fd, check_fd, check_flags, check_group, check_int, make
from .receive import BUNDLE, POLL_FIRST, SELECT, check_message, select

if TYPE_CHECKING:
    from ..kernel.messages import Message
    from ..kernel.op import Multishot

__all__ = ["recv_bundle_multishot", "recv_multishot", "recv_zero_copy", "recvmsg_multishot"]

_MULTISHOT = int(abi.IORING_RECV_MULTISHOT)


def recv_multishot(
    fd: Fd,
    buffer_group: int,
    *,
    flags: int = 0,
    read_buffer_size: int = 0,
    total: int = 0,
    poll_first: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Multishot[int]:
    """Receives into provided buffers until the stream ends.

    Args:
        fd: the socket, a descriptor or an object with ``fileno()``.
        buffer_group: the group that the kernel takes buffers from, 0 to 65535. A completion's flags tell
            which.
        flags: ``MSG_*`` of recv(2), 0 to 2**32 - 1, without ``MSG_WAITALL``.
        read_buffer_size: bytes of each completion at most, 0 to 2**31 - 1; 0 is the chosen buffer's size.
        total: ends once this many bytes have come, 0 to 2**31 - 1; 0 is no bound (Linux 6.18).
        poll_first: waits for data before the first attempt (Linux 5.19). It saves an attempt where none is
            expected.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        Of each completion: how many bytes were received; 0 at the end of the stream.

    Errors:
        - ``EBADF``, ``ENOTSOCK``: ``fd`` is not open, or no socket.
        - ``EINVAL``: ``flags`` has ``MSG_WAITALL``.
        - ``ENOBUFS``: the group is empty or unknown. Unread data stays in the socket.
        - ``ENOTCONN``, ``ECONNRESET``, ``ETIMEDOUT``: as recv(2).

    Ends:
        At the end of the stream, after ``total`` bytes, on an error, on ``ENOBUFS``, on a cancel and when the
        completion queue overflows: the completion without ``F_MORE`` is the last, and may carry data.

    Cancellation:
        `async_cancel` and `link_timeout` end it at once with ``ECANCELED``; no data is lost. shutdown(2) of
        the socket ends it with 0. Closing the descriptor does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.0; ``total`` 6.18.

    Source:
        io_uring_prep_recv_multishot(3); recv(2).
    """
    kind = _MULTISHOT
    return cast(
        "Multishot[int]",
        select(
            "recv_multishot", fd, buffer_group, flags, read_buffer_size, kind, poll_first, fixed_file, total
        ).with_options(sqe_flags, personality),
    )


def recv_bundle_multishot(
    fd: Fd,
    buffer_group: int,
    *,
    flags: int = 0,
    poll_first: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Multishot[int]:
    """Receives into provided buffers, several at once, until the stream ends.

    Args:
        fd: the socket, a descriptor or an object with ``fileno()``.
        buffer_group: the group that the kernel takes buffers from, 0 to 65535.
        flags: ``MSG_*`` of recv(2), 0 to 2**32 - 1, without ``MSG_WAITALL``.
        poll_first: waits for data before the first attempt (Linux 5.19). It saves an attempt where none is
            expected.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        Of each completion: how many bytes were received, over the buffers from the named one on; 0 at the end
        of the stream.

    Errors:
        - ``EBADF``, ``ENOTSOCK``: ``fd`` is not open, or no socket.
        - ``EINVAL``: ``flags`` has ``MSG_WAITALL``.
        - ``ENOBUFS``: the group is empty or unknown. Unread data stays in the socket.
        - ``ENOTCONN``, ``ECONNRESET``, ``ETIMEDOUT``: as recv(2).

    Ends:
        At the end of the stream, on an error, on ``ENOBUFS``, on a cancel and when the completion queue
        overflows: the completion without ``F_MORE`` is the last, and may carry data.

    Cancellation:
        `async_cancel` and `link_timeout` end it at once with ``ECANCELED``; no data is lost. shutdown(2) of
        the socket ends it with 0. Closing the descriptor does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.10.

    Source:
        io_uring_prep_recv(3), ``IORING_RECVSEND_BUNDLE``; io_uring_prep_recv_multishot(3).
    """
    kind = BUNDLE | _MULTISHOT
    return cast(
        "Multishot[int]",
        select(
            "recv_bundle_multishot", fd, buffer_group, flags, 0, kind, poll_first, fixed_file
        ).with_options(sqe_flags, personality),
    )


def recv_zero_copy(
    fd: Fd,
    zcrx_ifq_index: int,
    n: int = 0,
    *,
    poll_first: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Multishot[int]:
    """Receives into the memory of a zero-copy receive queue, until the stream ends.

    The queue is registered on this ring. The second half of each 32-byte completion says where the data is.

    Args:
        fd: a TCP socket, or an object with ``fileno()``.
        zcrx_ifq_index: the id of the registered queue, 0 to 2**31 - 1.
        n: ends once this many bytes have come, 0 to 2**32 - 1; 0 is no bound.
        poll_first: waits for data before the first attempt (Linux 5.19). It saves an attempt where none is
            expected.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        Of each completion: how many bytes were received; 0 at the end of the stream.

    Errors:
        - ``EINVAL``: no such queue is registered on this ring.
        - ``ENOTSOCK``: ``fd`` is no socket.
        - Others as `recv`.

    Ends:
        At the end of the stream, after ``n`` bytes, on an error, on a cancel and when the completion queue
        overflows: the completion without ``F_MORE`` is the last.

    Cancellation:
        `async_cancel` and `link_timeout` end it at once with ``ECANCELED``; no data is lost. shutdown(2) of
        the socket ends it with 0. Closing the descriptor does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.15.

    Source:
        io_uring_register(2), ``IORING_REGISTER_ZCRX_IFQ``; iou-zcrx.rst in the kernel's
        Documentation/networking.
    """
    return cast(
        "Multishot[int]",
        make(
            "recv_zero_copy",
            abi.IORING_OP_RECV_ZC,
            check_fd(fd),
            length=check_int("n", n, 0, UINT_MAX),
            ioprio=_MULTISHOT | (POLL_FIRST if poll_first else 0),
            file_index=check_int("zcrx_ifq_index", zcrx_ifq_index, 0, INT_MAX),
            fixed_file=fixed_file,
        ).with_options(sqe_flags, personality),
    )


def recvmsg_multishot(
    fd: Fd,
    message: Message,
    buffer_group: int,
    *,
    flags: int = 0,
    poll_first: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Multishot[int]:
    """Receives messages into provided buffers until it is cancelled.

    Each buffer starts with a header and the room for name and control that ``message`` has;
    `uring.kernel.messages.ReceivedMessage` takes it apart.

    Args:
        fd: the socket, a descriptor or an object with ``fileno()``.
        message: a `uring.Message`, of which only the room for name and control is used.
        buffer_group: the group that the kernel takes buffers from, 0 to 65535. A completion's flags tell
            which.
        flags: ``MSG_*`` of recvmsg(2), 0 to 2**32 - 1, without ``MSG_WAITALL``.
        poll_first: waits for data before the first attempt (Linux 5.19). It saves an attempt where none is
            expected.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        Of each completion: how many bytes were put into the buffer, with the header and both rooms.

    Errors:
        - ``EBADF``, ``ENOTSOCK``: ``fd`` is not open, or no socket.
        - ``EFAULT``: a buffer is smaller than the header and both rooms.
        - ``EINVAL``: ``flags`` has ``MSG_WAITALL``.
        - ``ENOBUFS``: the group is empty or unknown. Messages stay in the socket.

    Ends:
        On an error, on ``ENOBUFS``, on a cancel, at the end of a stream and when the completion queue
        overflows: the completion without ``F_MORE`` is the last, and may carry a message.

    Cancellation:
        `async_cancel` and `link_timeout` end it at once with ``ECANCELED``; no data is lost. shutdown(2) of
        the socket ends it with 0. Closing the descriptor does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.0.

    Source:
        io_uring_prep_recvmsg_multishot(3); recvmsg(2).
    """
    return cast(
        "Multishot[int]",
        make(
            "recvmsg_multishot",
            abi.IORING_OP_RECVMSG,
            check_fd(fd),
            addr=check_message(message).address,
            length=1,
            op_flags=check_flags("flags", flags),
            flags=SELECT,
            buf_index=check_group(buffer_group),
            ioprio=_MULTISHOT | (POLL_FIRST if poll_first else 0),
            fixed_file=fixed_file,
            pins=message,
        ).with_options(sqe_flags, personality),
    )
