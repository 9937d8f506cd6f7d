"""Accepting connections.

``O_NONBLOCK`` makes no difference: they wait in the kernel either way. ``dontwait`` makes them complete with
``EAGAIN`` instead.
"""

from __future__ import annotations

import socket as _socket
from typing import TYPE_CHECKING, Literal, cast, overload

from .. import abi
from .base import Fd, PeerName, check_fd, check_flags, close_fd, make, new_file
from .sockaddrs import PeerAddress

if TYPE_CHECKING:
    from ..kernel.op import Multishot, Op

__all__ = ["accept", "accept_direct", "accept_direct_multishot", "accept_multishot"]

_ALLOC = abi.IORING_FILE_INDEX_ALLOC
_POLL_FIRST = int(abi.IORING_ACCEPT_POLL_FIRST)
_DONTWAIT = int(abi.IORING_ACCEPT_DONTWAIT)
_MULTISHOT = int(abi.IORING_ACCEPT_MULTISHOT)


@overload
def accept(
    fd: Fd,
    *,
    flags: int = ...,
    with_address: Literal[False] = ...,
    dontwait: bool = ...,
    poll_first: bool = ...,
    fixed_file: bool = ...,
    sqe_flags: int = ...,
    personality: int = ...,
) -> Op[int]: ...
@overload
def accept(
    fd: Fd,
    *,
    flags: int = ...,
    with_address: Literal[True],
    dontwait: bool = ...,
    poll_first: bool = ...,
    fixed_file: bool = ...,
    sqe_flags: int = ...,
    personality: int = ...,
) -> Op[tuple[int, PeerName]]: ...
@overload
def accept(
    fd: Fd,
    *,
    flags: int = ...,
    with_address: bool = ...,
    dontwait: bool = ...,
    poll_first: bool = ...,
    fixed_file: bool = ...,
    sqe_flags: int = ...,
    personality: int = ...,
) -> Op[int | tuple[int, PeerName]]: ...
def accept(
    fd: Fd,
    *,
    flags: int = _socket.SOCK_CLOEXEC,
    with_address: bool = False,
    dontwait: bool = False,
    poll_first: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int | tuple[int, PeerName]]:
    """Accepts one connection.

    It waits even with ``O_NONBLOCK``, and exclusively: of several rings that wait on a listener one is woken,
    even if its loop is busy.

    Args:
        fd: the listening socket, a descriptor or an object with ``fileno()``.
        flags: ``SOCK_CLOEXEC`` and ``SOCK_NONBLOCK`` for the new socket.
        with_address: the result tells the peer's address.
        dontwait: does not wait (Linux 6.10).
        poll_first: waits for readiness before the first attempt (Linux 6.10).
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The descriptor; with ``with_address`` a pair of descriptor and address, as `socket.socket.accept`
        gives it.

    Errors:
        - ``EBADF``, ``ENOTSOCK``: ``fd`` is not open, or no socket.
        - ``EINVAL``: the socket does not listen, or was shut down, or ``flags`` has others.
        - ``ECONNABORTED`` and others as accept(2).
        - ``EAGAIN``: no connection waits, and ``dontwait`` is given.
        - ``EMFILE``, ``ENFILE``: too many descriptors are open. The connection stays in the backlog.

    Cancellation:
        `async_cancel` and `link_timeout` end it at once with ``ECANCELED``; a connection that arrived stays
        in the backlog. shutdown(2) of the listener ends it with ``EINVAL``; closing it does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.5.

    Source:
        accept4(2); io_uring_prep_accept(3).
    """
    room = PeerAddress() if with_address else None
    return make(
        "accept",
        abi.IORING_OP_ACCEPT,
        check_fd(fd),
        addr=room.address if room else 0,
        off=room.size_address if room else 0,
        op_flags=check_flags("flags", flags),
        ioprio=_accept_flags(dontwait, poll_first),
        fixed_file=fixed_file,
        pins=room,
        decode=(lambda res: (res, room.get())) if room else None,
        discard=close_fd,
    ).with_options(sqe_flags, personality)


def accept_direct(
    fd: Fd,
    *,
    file_index: int = _ALLOC,
    flags: int = 0,
    dontwait: bool = False,
    poll_first: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Accepts one connection into a slot of the registered files, without a descriptor.

    Args:
        fd: the listening socket, a descriptor or an object with ``fileno()``.
        file_index: the slot, 0 to 2**20 - 1, whose file is replaced; ``IORING_FILE_INDEX_ALLOC``: a free one.
        flags: ``SOCK_NONBLOCK`` for the new socket. The kernel refuses ``SOCK_CLOEXEC`` here.
        dontwait: does not wait (Linux 6.10).
        poll_first: waits for readiness before the first attempt (Linux 6.10).
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The slot.

    Errors:
        - ``EBADF``, ``ENOTSOCK``: ``fd`` is not open, or no socket.
        - ``EINVAL``: the socket does not listen, or was shut down, or ``flags`` has others.
        - ``ECONNABORTED`` and others as accept(2).
        - ``EAGAIN``: no connection waits, and ``dontwait`` is given.
        - ``EINVAL``: the table of files ends before ``file_index``.
        - ``ENFILE``: no slot is free.
        - ``ENXIO``: ``file_index`` names a slot, and the ring has no table of files.

    Cancellation:
        `async_cancel` and `link_timeout` end it at once with ``ECANCELED``; a connection that arrived stays
        in the backlog. shutdown(2) of the listener ends it with ``EINVAL``; closing it does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.15.

    Source:
        accept4(2); io_uring_prep_accept_direct(3).
    """
    slot, decode, _ = new_file(file_index)
    return make(
        "accept_direct",
        abi.IORING_OP_ACCEPT,
        check_fd(fd),
        op_flags=check_flags("flags", flags),
        ioprio=_accept_flags(dontwait, poll_first),
        file_index=slot,
        fixed_file=fixed_file,
        decode=decode,
    ).with_options(sqe_flags, personality)


def accept_multishot(
    fd: Fd,
    *,
    flags: int = _socket.SOCK_CLOEXEC,
    poll_first: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Multishot[int]:
    """Accepts connections until it is cancelled.

    It gives no peer addresses: ask getpeername(2). It waits exclusively, as `accept` does.

    Args:
        fd: the listening socket, a descriptor or an object with ``fileno()``.
        flags: ``SOCK_CLOEXEC`` and ``SOCK_NONBLOCK`` for the new sockets.
        poll_first: waits for readiness before the first attempt (Linux 6.10).
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        Of each completion: the descriptor of a connection.

    Errors:
        - ``EBADF``, ``ENOTSOCK``: ``fd`` is not open, or no socket.
        - ``EINVAL``: the socket does not listen, or was shut down, or ``flags`` has others.
        - ``ECONNABORTED`` and others as accept(2).
        - ``EMFILE``, ``ENFILE``: too many descriptors are open. The connection stays in the backlog. The
          limit is that of the time of the submission.

    Ends:
        On an error, on a cancel and when the completion queue overflows: the completion without ``F_MORE`` is
        the last, and may carry a connection.

    Cancellation:
        `async_cancel` and `link_timeout` end it at once with ``ECANCELED``; a connection that arrived stays
        in the backlog. shutdown(2) of the listener ends it with ``EINVAL``; closing it does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.19.

    Source:
        io_uring_prep_multishot_accept(3); accept4(2).
    """
    return cast(
        "Multishot[int]",
        make(
            "accept_multishot",
            abi.IORING_OP_ACCEPT,
            check_fd(fd),
            op_flags=check_flags("flags", flags),
            ioprio=_MULTISHOT | _accept_flags(False, poll_first),
            fixed_file=fixed_file,
            discard=close_fd,
        ).with_options(sqe_flags, personality),
    )


def accept_direct_multishot(
    fd: Fd,
    *,
    file_index: int = _ALLOC,
    flags: int = 0,
    poll_first: bool = False,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Multishot[int]:
    """Accepts connections into free slots of the registered files until it is cancelled.

    Args:
        fd: the listening socket, a descriptor or an object with ``fileno()``.
        file_index: ``IORING_FILE_INDEX_ALLOC``, the only value: each connection takes a free slot.
        flags: ``SOCK_NONBLOCK`` for the new sockets. The kernel refuses ``SOCK_CLOEXEC`` here.
        poll_first: waits for readiness before the first attempt (Linux 6.10).
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        Of each completion: the slot of a connection.

    Errors:
        - ``EBADF``, ``ENOTSOCK``: ``fd`` is not open, or no socket.
        - ``EINVAL``: the socket does not listen, or was shut down, or ``flags`` has others.
        - ``ECONNABORTED`` and others as accept(2).
        - ``ENFILE``: no slot is free, or the ring has no table of files.

    Ends:
        On an error, on a cancel and when the completion queue overflows: the completion without ``F_MORE`` is
        the last, and may carry a connection.

    Cancellation:
        `async_cancel` and `link_timeout` end it at once with ``ECANCELED``; a connection that arrived stays
        in the backlog. shutdown(2) of the listener ends it with ``EINVAL``; closing it does not end it.

    Raises:
        ValueError: ``file_index`` names a slot, or an argument is out of range.
        TypeError: an argument has the wrong type.

    Since:
        Linux 5.19.

    Source:
        io_uring_prep_multishot_accept_direct(3); accept4(2).
    """
    if file_index != _ALLOC:
        raise ValueError(f"a multishot accept takes free slots (IORING_FILE_INDEX_ALLOC), not {file_index}")
    return cast(
        "Multishot[int]",
        make(
            "accept_direct_multishot",
            abi.IORING_OP_ACCEPT,
            check_fd(fd),
            op_flags=check_flags("flags", flags),
            ioprio=_MULTISHOT | _accept_flags(False, poll_first),
            file_index=-1,
            fixed_file=fixed_file,
        ).with_options(sqe_flags, personality),
    )


def _accept_flags(dontwait: bool, poll_first: bool) -> int:
    return (_DONTWAIT if dontwait else 0) | (_POLL_FIRST if poll_first else 0)
