"""Sending: send, sendto, sendmsg, bundles from a buffer group, and the zero-copy forms.

They wait in the kernel whatever ``O_NONBLOCK`` says; ``MSG_DONTWAIT`` in ``flags`` makes them complete with
``EAGAIN`` instead. On a stream they complete with what the socket took, which may be fewer bytes than given
unless ``flags`` has ``MSG_WAITALL``; cancelled midway such a send completes with what went out. None of them
raises ``SIGPIPE``.

A zero-copy send completes twice: with the result, and (when that completion has ``F_MORE``) with ``F_NOTIF``
once the network no longer reads the memory, which stays pinned until then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import abi
from ..kernel.addresses import encode_address
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
from .socket import SocketAddress

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from typing_extensions import Buffer

    from ..kernel.op import Op

__all__ = ["send", "send_bundle", "send_zc", "sendmsg", "sendmsg_zc", "sendto", "sendto_zc", "sendv"]

_SELECT = int(abi.IOSQE_BUFFER_SELECT)
_POLL_FIRST = int(abi.IORING_RECVSEND_POLL_FIRST)
_BUNDLE = int(abi.IORING_RECVSEND_BUNDLE)
_FIXED_BUF = int(abi.IORING_RECVSEND_FIXED_BUF)
_REPORT_USAGE = int(abi.IORING_SEND_ZC_REPORT_USAGE)
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
    """Sends bytes (Linux 5.6); completes with the number taken. See send(2).

    ``n`` sends no more than that many. ``poll_first`` waits for room before it tries (5.19).
    """
    ioprio = _POLL_FIRST if poll_first else 0
    return _send("send", abi.IORING_OP_SEND, fd, data, n, flags, ioprio, fixed_file).with_options(
        sqe_flags, personality
    )


def sendto(
    fd: Fd,
    data: Buffer,
    family: int,
    address: Address,
    *,
    flags: int = 0,
    n: int | None = None,
    poll_first: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """`send` to an address (Linux 6.0). See sendto(2)."""
    ioprio = _POLL_FIRST if poll_first else 0
    to = (SocketAddress(encode_address(family, address)), address)
    return _send("sendto", abi.IORING_OP_SEND, fd, data, n, flags, ioprio, fixed_file, to=to).with_options(
        sqe_flags, personality
    )


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
    """Sends buffers one after the other (Linux 6.17); completes with the number of bytes taken."""
    address, count, held = vector(buffers, writable=False)
    return make(
        "sendv",
        abi.IORING_OP_SEND,
        check_fd(fd),
        addr=address,
        length=count,
        op_flags=check_flags("flags", flags),
        ioprio=_VECTORIZED | (_POLL_FIRST if poll_first else 0),
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
    """Sends the buffers that are in a group, in its order (Linux 6.10); completes with the number of bytes
    and the first buffer's number. ``ENOBUFS``: the group is empty.

    ``write_buffer_size`` bounds what is sent first: so many bytes, in whole buffers but for a single one. The
    kernel (6.18) then sends what the group still has, in a completion of its own; the first has ``F_MORE``.
    """
    return make(
        "send_bundle",
        abi.IORING_OP_SEND,
        check_fd(fd),
        length=check_int("write_buffer_size", write_buffer_size, 0, INT_MAX),
        op_flags=check_flags("flags", flags),
        flags=_SELECT,
        buf_index=check_group(buffer_group),
        ioprio=_BUNDLE | (_POLL_FIRST if poll_first else 0),
        fixed_file=fixed_file,
    ).with_options(sqe_flags, personality)


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
    """Sends bytes without copying them where the network can (Linux 6.0); completes with the number taken,
    and again when the memory is free.

    Args:
        buf_index: the data is inside this registered buffer.
        report_usage: the notification's result says whether it was copied after all
            (``IORING_NOTIF_USAGE_ZC_COPIED``); over loopback it always is.

    ``EOPNOTSUPP`` on sockets that cannot (Unix), ``ENOMEM`` when more memory than ``RLIMIT_MEMLOCK`` is under
    way.
    """
    ioprio = _zero_copy(poll_first, report_usage, buf_index)
    return _send(
        "send_zc", abi.IORING_OP_SEND_ZC, fd, data, n, flags, ioprio, fixed_file, buf_index
    ).with_options(sqe_flags, personality)


def sendto_zc(
    fd: Fd,
    data: Buffer,
    family: int,
    address: Address,
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
    """`send_zc` to an address (Linux 6.0)."""
    ioprio = _zero_copy(poll_first, report_usage, buf_index)
    to = (SocketAddress(encode_address(family, address)), address)
    return _send(
        "sendto_zc", abi.IORING_OP_SEND_ZC, fd, data, n, flags, ioprio, fixed_file, buf_index, to
    ).with_options(sqe_flags, personality)


def sendmsg(
    fd: Fd,
    buffers: Sequence[Buffer],
    ancillary: Iterable[tuple[int, int, Buffer]] = (),
    *,
    flags: int = 0,
    name: bytes = b"",
    poll_first: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Sends buffers with control messages, to ``name`` (a ``sockaddr``, see `kernel.addresses`) if given
    (Linux 5.3); completes with the number of bytes taken. See sendmsg(2)."""
    ioprio = _POLL_FIRST if poll_first else 0
    return _sendmsg(
        "sendmsg", abi.IORING_OP_SENDMSG, fd, buffers, ancillary, flags, name, ioprio, fixed_file
    ).with_options(sqe_flags, personality)


def sendmsg_zc(
    fd: Fd,
    buffers: Sequence[Buffer],
    ancillary: Iterable[tuple[int, int, Buffer]] = (),
    *,
    flags: int = 0,
    name: bytes = b"",
    buf_index: int | None = None,
    report_usage: bool = False,
    poll_first: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """`sendmsg` without copying the buffers (Linux 6.1); completes twice, as `send_zc`.

    ``buf_index`` (6.15): all buffers are inside this registered one.
    """
    ioprio = _zero_copy(poll_first, report_usage, buf_index)
    return _sendmsg(
        "sendmsg_zc",
        abi.IORING_OP_SENDMSG_ZC,
        fd,
        buffers,
        ancillary,
        flags,
        name,
        ioprio,
        fixed_file,
        buf_index,
    ).with_options(sqe_flags, personality)


def _zero_copy(poll_first: bool, report_usage: bool, buf_index: int | None) -> int:
    return (
        (_POLL_FIRST if poll_first else 0)
        | (_REPORT_USAGE if report_usage else 0)
        | (_FIXED_BUF if buf_index is not None else 0)
    )


def _buf_index(buf_index: int | None) -> int:
    return 0 if buf_index is None else check_int("buf_index", buf_index, 0, 0xFFFF)


def _send(
    name: str,
    opcode: int,
    fd: Fd,
    data: Buffer,
    n: int | None,
    flags: int,
    ioprio: int,
    fixed_file: bool,
    buf_index: int | None = None,
    to: tuple[SocketAddress, Address] | None = None,
) -> Op[int]:
    where, size, held = pin(data)
    raw, address = to or (None, None)
    return make(
        name,
        opcode,
        check_fd(fd),
        off=raw.address if raw else 0,
        addr=where,
        length=limit(n, size, INT_MAX),
        op_flags=check_flags("flags", flags),
        ioprio=ioprio,
        buf_index=_buf_index(buf_index),
        file_index=raw.length if raw else 0,
        fixed_file=fixed_file,
        pins=(held, data, raw),
        address=address,
    )


def _sendmsg(
    op_name: str,
    opcode: int,
    fd: Fd,
    buffers: Sequence[Buffer],
    ancillary: Iterable[tuple[int, int, Buffer]],
    flags: int,
    name: bytes,
    ioprio: int,
    fixed_file: bool,
    buf_index: int | None = None,
) -> Op[int]:
    if not isinstance(name, bytes):
        raise TypeError(f"name is a sockaddr as bytes, not {type(name).__name__}")
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
    )
