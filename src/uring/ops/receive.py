"""Receiving: recv, recvmsg, and a bundle of buffers at once.

They wait in the kernel even with ``O_NONBLOCK``; ``MSG_DONTWAIT`` in ``flags`` makes them complete with
``EAGAIN`` instead.

With ``buffer_group`` the kernel picks memory when data arrives: the completion has ``F_BUFFER``, and the
buffer's number in the upper half of its flags. Multishot forms are in ``uring.ops.receive_multishot``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import abi
from ..kernel.memory import pin_writable
from ..kernel.messages import Message
from .base import INT_MAX, Fd, check_fd, check_flags, check_group, check_int, limit, make

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ..kernel.op import Op

__all__ = ["recv", "recv_bundle", "recvmsg"]

SELECT = int(abi.IOSQE_BUFFER_SELECT)
POLL_FIRST = int(abi.IORING_RECVSEND_POLL_FIRST)
BUNDLE = int(abi.IORING_RECVSEND_BUNDLE)


def recv(
    fd: Fd,
    buffer: Buffer | None = None,
    *,
    flags: int = 0,
    n: int | None = None,
    whole: bool = False,
    buffer_group: int | None = None,
    read_buffer_size: int = 0,
    poll_first: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Receives into a buffer.

    It waits for data even with ``O_NONBLOCK``. It may receive less than there is room for; ``whole`` waits
    until the buffer is full.

    Args:
        fd: the socket, a descriptor or an object with ``fileno()``.
        buffer: a writable buffer, not to be used otherwise until the completion.
        flags: ``MSG_*`` of recv(2), 0 to 2**32 - 1. ``MSG_DONTWAIT`` does not wait.
        n: bytes to receive at most, 0 to the buffer's size; None is its size.
        whole: waits until all of these bytes are there, or the stream ends (``MSG_WAITALL``).
        buffer_group: takes memory from this group of provided buffers instead of ``buffer``, 0 to 65535. The
            completion's flags tell which.
        read_buffer_size: with a group, bytes to receive at most, 0 to 2**31 - 1; 0 is the chosen buffer's
            size.
        poll_first: waits for data before the first attempt (Linux 5.19). It saves an attempt where none is
            expected.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        How many bytes were received; 0 at the end of the stream.

    Errors:
        - ``EBADF``, ``ENOTSOCK``: ``fd`` is not open, or no socket.
        - ``EAGAIN``: there is nothing, and ``flags`` has ``MSG_DONTWAIT``.
        - ``ENOBUFS``: the group is empty or unknown. It fails at once, even where nothing has arrived yet.
        - ``ENOTCONN``, ``ECONNRESET``, ``ECONNREFUSED``, ``ETIMEDOUT``: as recv(2).

    Cancellation:
        `async_cancel` and `link_timeout` end it at once with ``ECANCELED``; no data is lost. shutdown(2) of
        the socket ends it with 0. Closing the descriptor does not end it.

    Raises:
        TypeError: neither or both of ``buffer`` and ``buffer_group``, ``n`` with a group,
            ``read_buffer_size`` with a buffer, a read-only buffer, or a wrong type.
        ValueError: an argument is out of range.

    Since:
        Linux 5.6; ``buffer_group`` 5.7, ``poll_first`` 5.19.

    Source:
        recv(2); io_uring_prep_recv(3).
    """
    if whole:
        flags = check_flags("flags", flags) | int(abi.MSG_WAITALL)
    if (buffer is None) == (buffer_group is None):
        raise TypeError("recv takes either a buffer or a buffer_group")
    if buffer is None:
        if n is not None:
            raise TypeError("n is for a buffer: bound a receive into a group with read_buffer_size")
        return select(
            "recv", fd, buffer_group, flags, read_buffer_size, 0, poll_first, fixed_file
        ).with_options(sqe_flags, personality)
    if read_buffer_size:
        raise TypeError("read_buffer_size is for a buffer_group: bound a receive into a buffer with n")
    address, size, held = pin_writable(buffer)
    return make(
        "recv",
        abi.IORING_OP_RECV,
        check_fd(fd),
        addr=address,
        length=limit(n, size, INT_MAX),
        op_flags=check_flags("flags", flags),
        ioprio=POLL_FIRST if poll_first else 0,
        fixed_file=fixed_file,
        pins=held,
    ).with_options(sqe_flags, personality)


def recv_bundle(
    fd: Fd,
    buffer_group: int,
    *,
    flags: int = 0,
    read_buffer_size: int = 0,
    poll_first: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Receives into several provided buffers at once.

    The completion names the first buffer; the others follow it in the group's ring. Each is filled before the
    next.

    Args:
        fd: the socket, a descriptor or an object with ``fileno()``.
        buffer_group: the group that the kernel takes buffers from, 0 to 65535.
        flags: ``MSG_*`` of recv(2), 0 to 2**32 - 1.
        read_buffer_size: bytes to receive at most, 0 to 2**31 - 1; 0 is what the buffers hold.
        poll_first: waits for data before the first attempt (Linux 5.19). It saves an attempt where none is
            expected.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        How many bytes were received, over all buffers; 0 at the end of the stream.

    Errors:
        - ``EBADF``, ``ENOTSOCK``: ``fd`` is not open, or no socket.
        - ``EAGAIN``: there is nothing, and ``flags`` has ``MSG_DONTWAIT``.
        - ``ENOBUFS``: the group is empty or unknown.
        - ``ENOTCONN``, ``ECONNRESET``, ``ETIMEDOUT``: as recv(2).

    Cancellation:
        `async_cancel` and `link_timeout` end it at once with ``ECANCELED``; no data is lost. shutdown(2) of
        the socket ends it with 0. Closing the descriptor does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.10.

    Source:
        io_uring_prep_recv(3), ``IORING_RECVSEND_BUNDLE``.
    """
    return select(
        "recv_bundle", fd, buffer_group, flags, read_buffer_size, BUNDLE, poll_first, fixed_file
    ).with_options(sqe_flags, personality)


def recvmsg(
    fd: Fd,
    message: Message,
    *,
    flags: int = 0,
    buffer_group: int | None = None,
    poll_first: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Receives into the buffers of a message, with its sender and control messages.

    Args:
        fd: the socket, a descriptor or an object with ``fileno()``.
        message: a `uring.Message` made with writable buffers. Afterwards it has the sender's ``name``,
            ``control`` and ``flags``. With a group it is made with ``selected``.
        flags: ``MSG_*`` of recvmsg(2), 0 to 2**32 - 1. ``MSG_DONTWAIT`` does not wait.
        buffer_group: takes memory from this group of provided buffers, 0 to 65535.
        poll_first: waits for data before the first attempt (Linux 5.19). It saves an attempt where none is
            expected.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        How many bytes were received; 0 at the end of a stream, or of an empty datagram.

    Errors:
        - ``EBADF``, ``ENOTSOCK``: ``fd`` is not open, or no socket.
        - ``EAGAIN``: there is nothing, and ``flags`` has ``MSG_DONTWAIT``. With ``O_NONBLOCK`` also after 128
          wake-ups without data.
        - ``ENOBUFS``: the group is empty or unknown.
        - ``ENOTCONN``, ``ECONNRESET``, ``ECONNREFUSED``: as recvmsg(2).

    Cancellation:
        `async_cancel` and `link_timeout` end it at once with ``ECANCELED``; no data is lost. shutdown(2) of
        the socket ends it with 0. Closing the descriptor does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.3; ``poll_first`` 5.19.

    Source:
        recvmsg(2); io_uring_prep_recvmsg(3).
    """
    return make(
        "recvmsg",
        abi.IORING_OP_RECVMSG,
        check_fd(fd),
        addr=check_message(message).address,
        length=1,
        op_flags=check_flags("flags", flags),
        flags=0 if buffer_group is None else SELECT,
        buf_index=0 if buffer_group is None else check_group(buffer_group),
        ioprio=POLL_FIRST if poll_first else 0,
        fixed_file=fixed_file,
        pins=message,
    ).with_options(sqe_flags, personality)


def select(
    name: str,
    fd: Fd,
    buffer_group: Any,
    flags: int,
    size: int,
    kind: int,
    poll_first: bool,
    fixed_file: bool,
    total: int = 0,
) -> Op[int]:
    return make(
        name,
        abi.IORING_OP_RECV,
        check_fd(fd),
        length=check_int("read_buffer_size", size, 0, INT_MAX),
        op_flags=check_flags("flags", flags),
        flags=SELECT,
        buf_index=check_group(buffer_group),
        ioprio=kind | (POLL_FIRST if poll_first else 0),
        file_index=check_int("total", total, 0, INT_MAX),
        fixed_file=fixed_file,
    )


def check_message(message: Any) -> Message:
    if not isinstance(message, Message):
        raise TypeError(f"recvmsg takes a uring.kernel.messages.Message, not {type(message).__name__}")
    return message
