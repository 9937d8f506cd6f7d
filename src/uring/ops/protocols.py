"""A socket of each protocol: `socket` and `socket_direct` with the numbers filled in.

A plain one completes with a descriptor, a ``_direct`` one with a slot of the registered files.

The functions differ only in numbers and words, and are made from these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from .. import abi
from ..abi import AF_INET, AF_INET6, AF_UNIX, IORING_FILE_INDEX_ALLOC, SOCK_DGRAM, SOCK_STREAM
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

_DOC = """Makes {what}.

Args:{slot}
    sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
    personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

Result:
    {result}

Errors:
    {errors}

Cancellation:
    It completes while it is submitted: there is nothing to cancel.

Raises:
    TypeError, ValueError: an argument has the wrong type or is out of range.

Since:
    Linux 5.19.

Source:
    socket(2), {page}(7); {source}(3).
"""
_SLOT = """
    file_index: the slot, 0 to 2**20 - 1, whose file is replaced; ``IORING_FILE_INDEX_ALLOC``: a free one."""
_FULL = ("``EMFILE``, ``ENFILE``: too many descriptors are open.",)
_NO_SLOT = (
    "``EINVAL``: the table of files ends before ``file_index``.",
    "``ENFILE``: no slot is free.",
    "``ENXIO``: ``file_index`` names a slot, and the ring has no table of files.",
)
_NO_UDPLITE = "``EPROTONOSUPPORT``: the kernel has no UDP-Lite; from 7.2 on none has."
_NO_SCTP = "``EPROTONOSUPPORT``: the kernel has no SCTP."


class Maker(Protocol):
    """Makes a socket's request."""

    def __call__(self, *, sqe_flags: int = 0, personality: int = 0) -> Op[int]: ...


class DirectMaker(Protocol):
    """Makes the request of a socket in a slot."""

    def __call__(
        self, *, file_index: int = IORING_FILE_INDEX_ALLOC, sqe_flags: int = 0, personality: int = 0
    ) -> Op[int]: ...


def _makers(
    name: str, what: str, family: int, kind: int, protocol: int, page: str, missing: str = ""
) -> tuple[Maker, DirectMaker]:
    """The plain function of a protocol and the direct one.

    Args:
        name: the name of the plain function.
        what: the socket, for the docstring.
        family, kind, protocol: the numbers.
        page: the protocol's manual page.
        missing: the error of a kernel that lacks the protocol.
    """

    def plain(*, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
        return socket(family, kind, protocol).with_options(sqe_flags, personality)

    def direct(
        *, file_index: int = IORING_FILE_INDEX_ALLOC, sqe_flags: int = 0, personality: int = 0
    ) -> Op[int]:
        return socket_direct(family, kind, protocol, file_index=file_index).with_options(
            sqe_flags, personality
        )

    lacking = ["``EAFNOSUPPORT``: the kernel has no IPv6."] * (family == AF_INET6) + [missing] * bool(missing)
    for made, words, end in (
        (plain, (what, "", "The descriptor, which exec(2) closes.", _FULL, "io_uring_prep_socket"), ""),
        (
            direct,
            (
                f"{what}, in a slot of the registered files",
                _SLOT,
                "The slot.",
                _NO_SLOT,
                "io_uring_prep_socket_direct",
            ),
            "_direct",
        ),
    ):
        said, slot, result, errors, source = words
        listed = "\n    ".join(f"- {error}" for error in (*lacking, *errors))
        made.__doc__ = _DOC.format(
            what=said, slot=slot, result=result, errors=listed, page=page, source=source
        )
        _name(made, name + end)
    return plain, direct


def _name(function: Any, name: str) -> None:
    function.__name__ = function.__qualname__ = name
    # Tracebacks and profiles take the name from the code.
    function.__code__ = function.__code__.replace(co_name=name, co_qualname=name)


_TCP, _UDP = int(abi.IPPROTO_TCP), int(abi.IPPROTO_UDP)
_LITE, _SCTP = int(abi.IPPROTO_UDPLITE), int(abi.IPPROTO_SCTP)
_ONE = "an SCTP socket for one connection over"

tcp4_socket: Maker
tcp4_socket_direct: DirectMaker
tcp4_socket, tcp4_socket_direct = _makers(
    "tcp4_socket", "a TCP socket over IPv4", AF_INET, SOCK_STREAM, _TCP, "tcp"
)
tcp6_socket: Maker
tcp6_socket_direct: DirectMaker
tcp6_socket, tcp6_socket_direct = _makers(
    "tcp6_socket", "a TCP socket over IPv6", AF_INET6, SOCK_STREAM, _TCP, "tcp"
)
udp4_socket: Maker
udp4_socket_direct: DirectMaker
udp4_socket, udp4_socket_direct = _makers(
    "udp4_socket", "a UDP socket over IPv4", AF_INET, SOCK_DGRAM, _UDP, "udp"
)
udp6_socket: Maker
udp6_socket_direct: DirectMaker
udp6_socket, udp6_socket_direct = _makers(
    "udp6_socket", "a UDP socket over IPv6", AF_INET6, SOCK_DGRAM, _UDP, "udp"
)
udplite4_socket: Maker
udplite4_socket_direct: DirectMaker
udplite4_socket, udplite4_socket_direct = _makers(
    "udplite4_socket", "a UDP-Lite socket over IPv4", AF_INET, SOCK_DGRAM, _LITE, "udplite", _NO_UDPLITE
)
udplite6_socket: Maker
udplite6_socket_direct: DirectMaker
udplite6_socket, udplite6_socket_direct = _makers(
    "udplite6_socket", "a UDP-Lite socket over IPv6", AF_INET6, SOCK_DGRAM, _LITE, "udplite", _NO_UDPLITE
)
sctp4_socket: Maker
sctp4_socket_direct: DirectMaker
sctp4_socket, sctp4_socket_direct = _makers(
    "sctp4_socket", f"{_ONE} IPv4", AF_INET, SOCK_STREAM, _SCTP, "sctp", _NO_SCTP
)
sctp6_socket: Maker
sctp6_socket_direct: DirectMaker
sctp6_socket, sctp6_socket_direct = _makers(
    "sctp6_socket", f"{_ONE} IPv6", AF_INET6, SOCK_STREAM, _SCTP, "sctp", _NO_SCTP
)
unix_socket: Maker
unix_socket_direct: DirectMaker
unix_socket, unix_socket_direct = _makers(
    "unix_socket", "a Unix stream socket", AF_UNIX, SOCK_STREAM, 0, "unix"
)
