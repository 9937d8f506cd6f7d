"""A socket of each protocol: `socket` and `socket_direct` with the numbers filled in.

A plain one completes with a descriptor, a ``_direct`` one with a slot of the registered files: the given
one, or a free one. A protocol that the kernel was built without is ``EPROTONOSUPPORT``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..abi import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    IORING_FILE_INDEX_ALLOC,
    IPPROTO_TCP,
    IPPROTO_UDP,
    SOCK_DGRAM,
    SOCK_STREAM,
)
from .socket import socket, socket_direct

if TYPE_CHECKING:
    from ..kernel.op import Op

__all__ = [
    "tcp4_socket",
    "tcp4_socket_direct",
    "tcp6_socket",
    "tcp6_socket_direct",
    "udp4_socket",
    "udp4_socket_direct",
    "udp6_socket",
    "udp6_socket_direct",
    "unix_socket",
    "unix_socket_direct",
]


def tcp4_socket(*, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Makes a TCP socket over IPv4.

    Args:
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The descriptor, which exec(2) closes.

    Errors:
        - ``EMFILE``, ``ENFILE``: too many descriptors are open.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.19.

    Source:
        socket(2), tcp(7); io_uring_prep_socket(3).
    """
    return socket(AF_INET, SOCK_STREAM, IPPROTO_TCP).with_options(sqe_flags, personality)


def tcp4_socket_direct(
    *, file_index: int = IORING_FILE_INDEX_ALLOC, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Makes a TCP socket over IPv4, in a slot of the registered files.

    Args:
        file_index: the slot, 0 to 2**20 - 1, whose file is replaced; ``IORING_FILE_INDEX_ALLOC``: a free one.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The slot.

    Errors:
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
        socket(2), tcp(7); io_uring_prep_socket_direct(3).
    """
    return socket_direct(AF_INET, SOCK_STREAM, IPPROTO_TCP, file_index=file_index).with_options(
        sqe_flags, personality
    )


def tcp6_socket(*, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Makes a TCP socket over IPv6.

    Args:
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The descriptor, which exec(2) closes.

    Errors:
        - ``EAFNOSUPPORT``: the kernel has no IPv6.
        - ``EMFILE``, ``ENFILE``: too many descriptors are open.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.19.

    Source:
        socket(2), tcp(7); io_uring_prep_socket(3).
    """
    return socket(AF_INET6, SOCK_STREAM, IPPROTO_TCP).with_options(sqe_flags, personality)


def tcp6_socket_direct(
    *, file_index: int = IORING_FILE_INDEX_ALLOC, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Makes a TCP socket over IPv6, in a slot of the registered files.

    Args:
        file_index: the slot, 0 to 2**20 - 1, whose file is replaced; ``IORING_FILE_INDEX_ALLOC``: a free one.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The slot.

    Errors:
        - ``EAFNOSUPPORT``: the kernel has no IPv6.
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
        socket(2), tcp(7); io_uring_prep_socket_direct(3).
    """
    return socket_direct(AF_INET6, SOCK_STREAM, IPPROTO_TCP, file_index=file_index).with_options(
        sqe_flags, personality
    )


def udp4_socket(*, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Makes a UDP socket over IPv4.

    Args:
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The descriptor, which exec(2) closes.

    Errors:
        - ``EMFILE``, ``ENFILE``: too many descriptors are open.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.19.

    Source:
        socket(2), udp(7); io_uring_prep_socket(3).
    """
    return socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP).with_options(sqe_flags, personality)


def udp4_socket_direct(
    *, file_index: int = IORING_FILE_INDEX_ALLOC, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Makes a UDP socket over IPv4, in a slot of the registered files.

    Args:
        file_index: the slot, 0 to 2**20 - 1, whose file is replaced; ``IORING_FILE_INDEX_ALLOC``: a free one.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The slot.

    Errors:
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
        socket(2), udp(7); io_uring_prep_socket_direct(3).
    """
    return socket_direct(AF_INET, SOCK_DGRAM, IPPROTO_UDP, file_index=file_index).with_options(
        sqe_flags, personality
    )


def udp6_socket(*, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Makes a UDP socket over IPv6.

    Args:
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The descriptor, which exec(2) closes.

    Errors:
        - ``EAFNOSUPPORT``: the kernel has no IPv6.
        - ``EMFILE``, ``ENFILE``: too many descriptors are open.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.19.

    Source:
        socket(2), udp(7); io_uring_prep_socket(3).
    """
    return socket(AF_INET6, SOCK_DGRAM, IPPROTO_UDP).with_options(sqe_flags, personality)


def udp6_socket_direct(
    *, file_index: int = IORING_FILE_INDEX_ALLOC, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Makes a UDP socket over IPv6, in a slot of the registered files.

    Args:
        file_index: the slot, 0 to 2**20 - 1, whose file is replaced; ``IORING_FILE_INDEX_ALLOC``: a free one.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The slot.

    Errors:
        - ``EAFNOSUPPORT``: the kernel has no IPv6.
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
        socket(2), udp(7); io_uring_prep_socket_direct(3).
    """
    return socket_direct(AF_INET6, SOCK_DGRAM, IPPROTO_UDP, file_index=file_index).with_options(
        sqe_flags, personality
    )


def unix_socket(*, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Makes a Unix stream socket.

    Args:
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The descriptor, which exec(2) closes.

    Errors:
        - ``EMFILE``, ``ENFILE``: too many descriptors are open.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.19.

    Source:
        socket(2), unix(7); io_uring_prep_socket(3).
    """
    return socket(AF_UNIX, SOCK_STREAM).with_options(sqe_flags, personality)


def unix_socket_direct(
    *, file_index: int = IORING_FILE_INDEX_ALLOC, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Makes a Unix stream socket, in a slot of the registered files.

    Args:
        file_index: the slot, 0 to 2**20 - 1, whose file is replaced; ``IORING_FILE_INDEX_ALLOC``: a free one.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The slot.

    Errors:
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
        socket(2), unix(7); io_uring_prep_socket_direct(3).
    """
    return socket_direct(AF_UNIX, SOCK_STREAM, file_index=file_index).with_options(sqe_flags, personality)
