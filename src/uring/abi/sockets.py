"""Socket numbers: families, types, protocols, message flags, and sizes of addresses.

They are not taken from the socket module, so that this package can be imported on any platform.
"""

from enum import IntEnum, IntFlag
from typing import Final

__all__ = [
    "AF_INET",
    "AF_INET6",
    "AF_LOCAL",
    "AF_UNIX",
    "IPPROTO_IP",
    "IPPROTO_IPV6",
    "IPPROTO_RAW",
    "IPPROTO_SCTP",
    "IPPROTO_TCP",
    "IPPROTO_UDP",
    "IPPROTO_UDPLITE",
    "MSG_CMSG_CLOEXEC",
    "MSG_CTRUNC",
    "MSG_DONTROUTE",
    "MSG_DONTWAIT",
    "MSG_EOR",
    "MSG_ERRQUEUE",
    "MSG_FASTOPEN",
    "MSG_MORE",
    "MSG_NOSIGNAL",
    "MSG_OOB",
    "MSG_PEEK",
    "MSG_TRUNC",
    "MSG_WAITALL",
    "MSG_ZEROCOPY",
    "NETWORK_IPV4",
    "NETWORK_IPV6",
    "NETWORK_UNIX",
    "SHUT_RD",
    "SHUT_RDWR",
    "SHUT_WR",
    "SIZEOF_SOCKADDR_ANY",
    "SIZEOF_SOCKADDR_INET4",
    "SIZEOF_SOCKADDR_INET6",
    "SIZEOF_SOCKADDR_UNIX",
    "SOCK_CLOEXEC",
    "SOCK_DGRAM",
    "SOCK_NONBLOCK",
    "SOCK_RAW",
    "SOCK_SEQPACKET",
    "SOCK_STREAM",
    "AddressFamily",
    "IpProto",
    "Msg",
    "Shut",
    "SocketFlag",
    "SocketType",
]


class AddressFamily(IntEnum):
    """SOCKET: fd."""

    AF_UNIX = 1
    AF_LOCAL = 1
    AF_INET = 2
    AF_INET6 = 10


AF_UNIX: Final = AddressFamily.AF_UNIX
AF_LOCAL: Final = AddressFamily.AF_LOCAL
AF_INET: Final = AddressFamily.AF_INET
AF_INET6: Final = AddressFamily.AF_INET6


class SocketType(IntEnum):
    """SOCKET: off, without the flags below."""

    SOCK_STREAM = 1
    SOCK_DGRAM = 2
    SOCK_RAW = 3
    SOCK_SEQPACKET = 5


SOCK_STREAM: Final = SocketType.SOCK_STREAM
SOCK_DGRAM: Final = SocketType.SOCK_DGRAM
SOCK_RAW: Final = SocketType.SOCK_RAW
SOCK_SEQPACKET: Final = SocketType.SOCK_SEQPACKET


class SocketFlag(IntFlag):
    """SOCKET: off, beside the type; ACCEPT: accept_flags."""

    SOCK_NONBLOCK = 0o4000
    SOCK_CLOEXEC = 0o2000000


SOCK_NONBLOCK: Final = SocketFlag.SOCK_NONBLOCK
SOCK_CLOEXEC: Final = SocketFlag.SOCK_CLOEXEC


class IpProto(IntEnum):
    """SOCKET: len."""

    IPPROTO_IP = 0
    IPPROTO_TCP = 6
    IPPROTO_UDP = 17
    IPPROTO_IPV6 = 41
    IPPROTO_SCTP = 132
    IPPROTO_UDPLITE = 136
    IPPROTO_RAW = 255


IPPROTO_IP: Final = IpProto.IPPROTO_IP
IPPROTO_TCP: Final = IpProto.IPPROTO_TCP
IPPROTO_UDP: Final = IpProto.IPPROTO_UDP
IPPROTO_IPV6: Final = IpProto.IPPROTO_IPV6
IPPROTO_SCTP: Final = IpProto.IPPROTO_SCTP
IPPROTO_UDPLITE: Final = IpProto.IPPROTO_UDPLITE
IPPROTO_RAW: Final = IpProto.IPPROTO_RAW


class Msg(IntFlag):
    """Sends and receives: msg_flags."""

    MSG_OOB = 0x1
    MSG_PEEK = 0x2
    MSG_DONTROUTE = 0x4
    MSG_CTRUNC = 0x8
    MSG_TRUNC = 0x20
    MSG_DONTWAIT = 0x40
    MSG_EOR = 0x80
    MSG_WAITALL = 0x100
    MSG_ERRQUEUE = 0x2000
    MSG_NOSIGNAL = 0x4000
    MSG_MORE = 0x8000
    MSG_ZEROCOPY = 0x4000000
    MSG_FASTOPEN = 0x20000000
    MSG_CMSG_CLOEXEC = 0x40000000


MSG_OOB: Final = Msg.MSG_OOB
MSG_PEEK: Final = Msg.MSG_PEEK
MSG_DONTROUTE: Final = Msg.MSG_DONTROUTE
MSG_CTRUNC: Final = Msg.MSG_CTRUNC
MSG_TRUNC: Final = Msg.MSG_TRUNC
MSG_DONTWAIT: Final = Msg.MSG_DONTWAIT
MSG_EOR: Final = Msg.MSG_EOR
MSG_WAITALL: Final = Msg.MSG_WAITALL
MSG_ERRQUEUE: Final = Msg.MSG_ERRQUEUE
MSG_NOSIGNAL: Final = Msg.MSG_NOSIGNAL
MSG_MORE: Final = Msg.MSG_MORE
MSG_ZEROCOPY: Final = Msg.MSG_ZEROCOPY
MSG_FASTOPEN: Final = Msg.MSG_FASTOPEN
MSG_CMSG_CLOEXEC: Final = Msg.MSG_CMSG_CLOEXEC


class Shut(IntEnum):
    """SHUTDOWN: len."""

    SHUT_RD = 0
    SHUT_WR = 1
    SHUT_RDWR = 2


SHUT_RD: Final = Shut.SHUT_RD
SHUT_WR: Final = Shut.SHUT_WR
SHUT_RDWR: Final = Shut.SHUT_RDWR


NETWORK_UNIX: Final = AF_UNIX
NETWORK_IPV4: Final = AF_INET
NETWORK_IPV6: Final = AF_INET6
SIZEOF_SOCKADDR_ANY: Final = 112
SIZEOF_SOCKADDR_INET4: Final = 16
SIZEOF_SOCKADDR_INET6: Final = 28
SIZEOF_SOCKADDR_UNIX: Final = 110
