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
    IPPROTO_SCTP,
    IPPROTO_TCP,
    IPPROTO_UDP,
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
    "tcp4_socket",
    "tcp4_socket_direct",
    "tcp6_socket",
    "tcp6_socket_direct",
    "udp4_socket",
    "udp4_socket_direct",
    "udp6_socket",
    "udp6_socket_direct",
    "udplite4_socket",
    "udplite4_socket_direct",
    "udplite6_socket",
    "udplite6_socket_direct",
    "unix_socket",
    "unix_socket_direct",
]


def tcp4_socket(*, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """A TCP socket over IPv4 (Linux 5.19)."""
    return socket(AF_INET, SOCK_STREAM, IPPROTO_TCP).with_options(sqe_flags, personality)


def tcp4_socket_direct(
    *, file_index: int = IORING_FILE_INDEX_ALLOC, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """A TCP socket over IPv4, among the registered files (Linux 5.19)."""
    return socket_direct(AF_INET, SOCK_STREAM, IPPROTO_TCP, file_index=file_index).with_options(
        sqe_flags, personality
    )


def tcp6_socket(*, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """A TCP socket over IPv6 (Linux 5.19)."""
    return socket(AF_INET6, SOCK_STREAM, IPPROTO_TCP).with_options(sqe_flags, personality)


def tcp6_socket_direct(
    *, file_index: int = IORING_FILE_INDEX_ALLOC, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """A TCP socket over IPv6, among the registered files (Linux 5.19)."""
    return socket_direct(AF_INET6, SOCK_STREAM, IPPROTO_TCP, file_index=file_index).with_options(
        sqe_flags, personality
    )


def udp4_socket(*, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """A UDP socket over IPv4 (Linux 5.19)."""
    return socket(AF_INET, SOCK_DGRAM, IPPROTO_UDP).with_options(sqe_flags, personality)


def udp4_socket_direct(
    *, file_index: int = IORING_FILE_INDEX_ALLOC, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """A UDP socket over IPv4, among the registered files (Linux 5.19)."""
    return socket_direct(AF_INET, SOCK_DGRAM, IPPROTO_UDP, file_index=file_index).with_options(
        sqe_flags, personality
    )


def udp6_socket(*, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """A UDP socket over IPv6 (Linux 5.19)."""
    return socket(AF_INET6, SOCK_DGRAM, IPPROTO_UDP).with_options(sqe_flags, personality)


def udp6_socket_direct(
    *, file_index: int = IORING_FILE_INDEX_ALLOC, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """A UDP socket over IPv6, among the registered files (Linux 5.19)."""
    return socket_direct(AF_INET6, SOCK_DGRAM, IPPROTO_UDP, file_index=file_index).with_options(
        sqe_flags, personality
    )


def udplite4_socket(*, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """A UDP-Lite socket over IPv4 (Linux 5.19)."""
    return socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE).with_options(sqe_flags, personality)


def udplite4_socket_direct(
    *, file_index: int = IORING_FILE_INDEX_ALLOC, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """A UDP-Lite socket over IPv4, among the registered files (Linux 5.19)."""
    return socket_direct(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE, file_index=file_index).with_options(
        sqe_flags, personality
    )


def udplite6_socket(*, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """A UDP-Lite socket over IPv6 (Linux 5.19)."""
    return socket(AF_INET6, SOCK_DGRAM, IPPROTO_UDPLITE).with_options(sqe_flags, personality)


def udplite6_socket_direct(
    *, file_index: int = IORING_FILE_INDEX_ALLOC, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """A UDP-Lite socket over IPv6, among the registered files (Linux 5.19)."""
    return socket_direct(AF_INET6, SOCK_DGRAM, IPPROTO_UDPLITE, file_index=file_index).with_options(
        sqe_flags, personality
    )


def sctp4_socket(*, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """An SCTP socket over IPv4, one connection each (Linux 5.19)."""
    return socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP).with_options(sqe_flags, personality)


def sctp4_socket_direct(
    *, file_index: int = IORING_FILE_INDEX_ALLOC, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """An SCTP socket over IPv4, one connection each, among the registered files (Linux 5.19)."""
    return socket_direct(AF_INET, SOCK_STREAM, IPPROTO_SCTP, file_index=file_index).with_options(
        sqe_flags, personality
    )


def sctp6_socket(*, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """An SCTP socket over IPv6, one connection each (Linux 5.19)."""
    return socket(AF_INET6, SOCK_STREAM, IPPROTO_SCTP).with_options(sqe_flags, personality)


def sctp6_socket_direct(
    *, file_index: int = IORING_FILE_INDEX_ALLOC, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """An SCTP socket over IPv6, one connection each, among the registered files (Linux 5.19)."""
    return socket_direct(AF_INET6, SOCK_STREAM, IPPROTO_SCTP, file_index=file_index).with_options(
        sqe_flags, personality
    )


def unix_socket(*, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """A Unix stream socket (Linux 5.19)."""
    return socket(AF_UNIX, SOCK_STREAM).with_options(sqe_flags, personality)


def unix_socket_direct(
    *, file_index: int = IORING_FILE_INDEX_ALLOC, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """A Unix stream socket, among the registered files (Linux 5.19)."""
    return socket_direct(AF_UNIX, SOCK_STREAM, file_index=file_index).with_options(sqe_flags, personality)
