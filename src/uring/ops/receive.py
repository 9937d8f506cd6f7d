"""Receiving: recv, recvmsg, their multishot and bundle forms, and zero-copy receive.

They wait in the kernel whatever ``O_NONBLOCK`` says; ``MSG_DONTWAIT`` in ``flags`` makes them complete with
``EAGAIN`` instead. ``poll_first`` waits before it tries: right when data is not expected yet (5.19).

With ``buffer_group`` the kernel picks memory when data arrives: the completion has ``F_BUFFER`` and the
buffer's number in the upper half of its flags, and ``ENOBUFS`` says that the group is empty, at once and
even where nothing has arrived. A multishot goes on until the end of the stream (0), an error, ``ENOBUFS``,
a cancel or an overflow of the completion queue: the completion without ``F_MORE`` is its last, and may
carry data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from .. import abi
from ..kernel.memory import pin_writable
from ..kernel.messages import Message
from .base import INT_MAX, UINT_MAX, Fd, check_fd, check_flags, check_group, check_int, limit, make

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ..kernel.op import Multishot, Op

__all__ = [
    "recv",
    "recv_bundle",
    "recv_bundle_multishot",
    "recv_multishot",
    "recv_zero_copy",
    "recvmsg",
    "recvmsg_multishot",
]

_SELECT = int(abi.IOSQE_BUFFER_SELECT)
_POLL_FIRST = int(abi.IORING_RECVSEND_POLL_FIRST)
_MULTISHOT = int(abi.IORING_RECV_MULTISHOT)
_BUNDLE = int(abi.IORING_RECVSEND_BUNDLE)


def recv(
    fd: Fd,
    buffer: Buffer | None = None,
    *,
    flags: int = 0,
    n: int | None = None,
    buffer_group: int | None = None,
    read_buffer_size: int = 0,
    poll_first: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Receives into a writable buffer, or into one that the kernel chooses from a buffer group
    (Linux 5.6); completes with the number of bytes, 0 at the end of the stream. See recv(2).

    ``n`` uses that much of the buffer; ``read_buffer_size`` bounds a receive into a buffer of a group.
    """
    if (buffer is None) == (buffer_group is None):
        raise TypeError("recv takes either a buffer or a buffer_group")
    if buffer is None:
        if n is not None:
            raise TypeError("n is for a buffer: bound a receive into a group with read_buffer_size")
        return _select(
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
        ioprio=_POLL_FIRST if poll_first else 0,
        fixed_file=fixed_file,
        pins=held,
    ).with_options(sqe_flags, personality)


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
    """Receives into buffers of a group until the stream ends (Linux 6.0): a completion each, with the number
    of bytes. ``MSG_WAITALL`` is ``EINVAL``.

    ``read_buffer_size`` bounds each receive, ``total`` all of them: it ends once that much has come (6.18).
    """
    kind = _MULTISHOT
    return cast(
        "Multishot[int]",
        _select(
            "recv_multishot", fd, buffer_group, flags, read_buffer_size, kind, poll_first, fixed_file, total
        ).with_options(sqe_flags, personality),
    )


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
    """Receives into several buffers of a group at once (Linux 6.10); completes with the number of bytes. The
    completion names the first buffer; the others follow it in the group's ring.

    ``read_buffer_size`` bounds the whole receive.
    """
    return _select(
        "recv_bundle", fd, buffer_group, flags, read_buffer_size, _BUNDLE, poll_first, fixed_file
    ).with_options(sqe_flags, personality)


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
    """`recv_bundle` until the stream ends (Linux 6.10): a completion each."""
    kind = _BUNDLE | _MULTISHOT
    return cast(
        "Multishot[int]",
        _select(
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
    """Receives where the network card put the data, until the stream ends (Linux 6.15): a 32-byte completion
    each, its second half saying where; ``n`` bounds the total.

    Needs a queue of a card that can do it, registered on this ring (``IORING_REGISTER_ZCRX_IFQ``), and a
    connection that arrives there; ``EINVAL`` without.
    """
    return cast(
        "Multishot[int]",
        make(
            "recv_zero_copy",
            abi.IORING_OP_RECV_ZC,
            check_fd(fd),
            length=check_int("n", n, 0, UINT_MAX),
            ioprio=_MULTISHOT | (_POLL_FIRST if poll_first else 0),
            file_index=check_int("zcrx_ifq_index", zcrx_ifq_index, 0, INT_MAX),
            fixed_file=fixed_file,
        ).with_options(sqe_flags, personality),
    )


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
    """Receives into a `Message` made with writable buffers (Linux 5.3); completes with the number of
    bytes. The message then has the peer's ``name``, ``control`` and ``flags``. See recvmsg(2).

    With ``buffer_group`` the data goes into a buffer of the group: the message is made with ``selected``.
    """
    return make(
        "recvmsg",
        abi.IORING_OP_RECVMSG,
        check_fd(fd),
        addr=_message(message).address,
        length=1,
        op_flags=check_flags("flags", flags),
        flags=0 if buffer_group is None else _SELECT,
        buf_index=0 if buffer_group is None else check_group(buffer_group),
        ioprio=_POLL_FIRST if poll_first else 0,
        fixed_file=fixed_file,
        pins=message,
    ).with_options(sqe_flags, personality)


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
    """Receives messages into buffers of a group until cancelled (Linux 6.0): a completion each, with the
    number of bytes it put into the buffer.

    Of ``message`` only the room it has for name and control counts: each buffer starts with that much
    (`uring.kernel.messages.ReceivedMessage` takes it apart). ``EFAULT`` ends it when a buffer is smaller.
    """
    return cast(
        "Multishot[int]",
        make(
            "recvmsg_multishot",
            abi.IORING_OP_RECVMSG,
            check_fd(fd),
            addr=_message(message).address,
            length=1,
            op_flags=check_flags("flags", flags),
            flags=_SELECT,
            buf_index=check_group(buffer_group),
            ioprio=_MULTISHOT | (_POLL_FIRST if poll_first else 0),
            fixed_file=fixed_file,
            pins=message,
        ).with_options(sqe_flags, personality),
    )


def _select(
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
        flags=_SELECT,
        buf_index=check_group(buffer_group),
        ioprio=kind | (_POLL_FIRST if poll_first else 0),
        file_index=check_int("total", total, 0, INT_MAX),
        fixed_file=fixed_file,
    )


def _message(message: Any) -> Message:
    if not isinstance(message, Message):
        raise TypeError(f"recvmsg takes a uring.kernel.messages.Message, not {type(message).__name__}")
    return message
