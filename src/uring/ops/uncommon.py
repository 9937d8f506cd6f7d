"""Sockets of protocols that many kernels lack: UDP-Lite and SCTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..abi import (
    AF_INET,
    AF_INET6,
    IORING_FILE_INDEX_ALLOC,
    IPPROTO_SCTP,
    IPPROTO_UDPLITE,
    SOCK_DGRAM,
    SOCK_STREAM,
)
from .socket import socket, socket_direct

if TYPE_CHECKING:
    from ..kernel.op import Op

__all__ = [
    "sctp4_socket",
    "sctp4_socket_direct",
    "sctp6_socket",
    "sctp6_socket_direct",
    "udplite4_socket",
    "udplite4_socket_direct",
    "udplite6_socket",
    "udplite6_socket_direct",
]


def udplite4_socket(*, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Makes a UDP-Lite socket over IPv4.

    Args:
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The descriptor, which exec(2) closes.

    Errors:
        - ``EPROTONOSUPPORT``: the kernel has no UDP-Lite; from 7.2 on none has.
        - ``EMFILE``, ``ENFILE``: too many descriptors are open.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.19.

    Source:
        socket(2), udplite(7); io_uring_prep_socket(3).
    """
    return socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE).with_options(sqe_flags, personality)


def udplite4_socket_direct(
    *, file_index: int = IORING_FILE_INDEX_ALLOC, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Makes a UDP-Lite socket over IPv4, in a slot of the registered files.

    Args:
        file_index: the slot, 0 to 2**20 - 1, whose file is replaced; ``IORING_FILE_INDEX_ALLOC``: a free one.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The slot.

    Errors:
        - ``EPROTONOSUPPORT``: the kernel has no UDP-Lite; from 7.2 on none has.
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
        socket(2), udplite(7); io_uring_prep_socket_direct(3).
    """
    return socket_direct(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE, file_index=file_index).with_options(
        sqe_flags, personality
    )


def udplite6_socket(*, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Makes a UDP-Lite socket over IPv6.

    Args:
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The descriptor, which exec(2) closes.

    Errors:
        - ``EAFNOSUPPORT``: the kernel has no IPv6.
        - ``EPROTONOSUPPORT``: the kernel has no UDP-Lite; from 7.2 on none has.
        - ``EMFILE``, ``ENFILE``: too many descriptors are open.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.19.

    Source:
        socket(2), udplite(7); io_uring_prep_socket(3).
    """
    return socket(AF_INET6, SOCK_DGRAM, IPPROTO_UDPLITE).with_options(sqe_flags, personality)


def udplite6_socket_direct(
    *, file_index: int = IORING_FILE_INDEX_ALLOC, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Makes a UDP-Lite socket over IPv6, in a slot of the registered files.

    Args:
        file_index: the slot, 0 to 2**20 - 1, whose file is replaced; ``IORING_FILE_INDEX_ALLOC``: a free one.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The slot.

    Errors:
        - ``EAFNOSUPPORT``: the kernel has no IPv6.
        - ``EPROTONOSUPPORT``: the kernel has no UDP-Lite; from 7.2 on none has.
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
        socket(2), udplite(7); io_uring_prep_socket_direct(3).
    """
    return socket_direct(AF_INET6, SOCK_DGRAM, IPPROTO_UDPLITE, file_index=file_index).with_options(
        sqe_flags, personality
    )


def sctp4_socket(*, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Makes an SCTP socket for one connection over IPv4.

    Args:
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The descriptor, which exec(2) closes.

    Errors:
        - ``EPROTONOSUPPORT``: the kernel has no SCTP.
        - ``EMFILE``, ``ENFILE``: too many descriptors are open.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.19.

    Source:
        socket(2), sctp(7); io_uring_prep_socket(3).
    """
    return socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP).with_options(sqe_flags, personality)


def sctp4_socket_direct(
    *, file_index: int = IORING_FILE_INDEX_ALLOC, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Makes an SCTP socket for one connection over IPv4, in a slot of the registered files.

    Args:
        file_index: the slot, 0 to 2**20 - 1, whose file is replaced; ``IORING_FILE_INDEX_ALLOC``: a free one.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The slot.

    Errors:
        - ``EPROTONOSUPPORT``: the kernel has no SCTP.
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
        socket(2), sctp(7); io_uring_prep_socket_direct(3).
    """
    return socket_direct(AF_INET, SOCK_STREAM, IPPROTO_SCTP, file_index=file_index).with_options(
        sqe_flags, personality
    )


def sctp6_socket(*, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Makes an SCTP socket for one connection over IPv6.

    Args:
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The descriptor, which exec(2) closes.

    Errors:
        - ``EAFNOSUPPORT``: the kernel has no IPv6.
        - ``EPROTONOSUPPORT``: the kernel has no SCTP.
        - ``EMFILE``, ``ENFILE``: too many descriptors are open.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.19.

    Source:
        socket(2), sctp(7); io_uring_prep_socket(3).
    """
    return socket(AF_INET6, SOCK_STREAM, IPPROTO_SCTP).with_options(sqe_flags, personality)


def sctp6_socket_direct(
    *, file_index: int = IORING_FILE_INDEX_ALLOC, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Makes an SCTP socket for one connection over IPv6, in a slot of the registered files.

    Args:
        file_index: the slot, 0 to 2**20 - 1, whose file is replaced; ``IORING_FILE_INDEX_ALLOC``: a free one.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The slot.

    Errors:
        - ``EAFNOSUPPORT``: the kernel has no IPv6.
        - ``EPROTONOSUPPORT``: the kernel has no SCTP.
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
        socket(2), sctp(7); io_uring_prep_socket_direct(3).
    """
    return socket_direct(AF_INET6, SOCK_STREAM, IPPROTO_SCTP, file_index=file_index).with_options(
        sqe_flags, personality
    )
