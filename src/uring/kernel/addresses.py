"""Socket addresses, from the forms of Python's `socket` module to the kernel's bytes and back.

``AF_INET``, ``AF_INET6``, ``AF_UNIX``, ``AF_NETLINK`` and ``AF_VSOCK`` have the forms of the `socket` module.
An address of any other family is (family, bytes), the bytes of the ``sockaddr`` behind its family. Host names
are not resolved: an address that is not numeric is refused.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["SOCKADDR_SIZE", "Address", "PeerName", "decode_address", "encode_address", "family_of"]

InetAddress: TypeAlias = "tuple[str, int] | tuple[str, int, int] | tuple[str, int, int, int]"

Address: TypeAlias = "InetAddress | tuple[int, int] | tuple[int, bytes] | str | os.PathLike[str] | Buffer"
"""A destination: (host, port) of ``AF_INET``, (host, port[, flowinfo[, scope_id]]) of ``AF_INET6``, a path of
``AF_UNIX``, or bytes with a leading NUL for its abstract namespace, (pid, groups) of ``AF_NETLINK``, (cid,
port) of ``AF_VSOCK``; (family, bytes) of any other. Hosts are numeric."""

PeerName: TypeAlias = (
    "tuple[str, int] | tuple[str, int, int, int] | tuple[int, int] | tuple[int, bytes] | str | bytes | None"
)
"""A socket's address as the `socket` module gives it; None where the kernel gave none."""

SOCKADDR_SIZE = 128
"""``sizeof(struct sockaddr_storage)``: room for an address of any family."""

_AF_INET, _AF_INET6, _AF_UNIX = int(socket.AF_INET), int(socket.AF_INET6), int(socket.AF_UNIX)
_AF_NETLINK, _AF_VSOCK = 16, 40
_UNIX_PATH_SIZE = 108
_FAMILY = struct.Struct("=H")
_INET = struct.Struct("!H4s8x")
_INET6 = struct.Struct("=I16sI")
_SIZES = {_AF_INET: 16, _AF_INET6: 28, _AF_NETLINK: 12, _AF_VSOCK: 16}
_PAIRS = {_AF_NETLINK: (struct.Struct("=2xII"), 1), _AF_VSOCK: (struct.Struct("=2xII4x"), -1)}
"""Families whose addresses are two numbers: (pid, groups); (cid, port), in the other order in memory."""
_DATA_MAX = SOCKADDR_SIZE - 2
_FLOWINFO_MAX = 0xFFFFF
_SCOPE_MAX = 0xFFFF_FFFF


def encode_address(family: int, address: Address) -> bytes:
    """The ``sockaddr`` of an address as the `socket` module writes it.

    Args:
        family: ``AF_INET`` (host, port), ``AF_INET6`` (host, port[, flowinfo[, scope_id]]), ``AF_UNIX``
            (a path, or bytes starting with NUL for the abstract namespace), ``AF_NETLINK`` (pid, groups),
            ``AF_VSOCK`` (cid, port); any other (family, bytes).

    Raises:
        TypeError, ValueError, OverflowError: the address does not fit the family; the message says how.
    """
    if family == socket.AF_UNIX:
        return _encode_unix(address)
    if family not in (socket.AF_INET, socket.AF_INET6):
        return _encode_other(int(family), address)
    sizes = (2,) if family == socket.AF_INET else (2, 3, 4)
    if not isinstance(address, tuple) or len(address) not in sizes:
        raise TypeError(f"an address of this family is (host, port), not {address!r}")
    host, port, *rest = address
    if not isinstance(host, str) or not isinstance(port, int):
        raise TypeError(f"a host is a str and a port an int, not {address!r}")
    if not 0 <= port <= 65535:
        raise OverflowError(f"a port is 0 to 65535, not {port}")
    try:
        packed = socket.inet_pton(family, host.partition("%")[0])
    except OSError:
        raise ValueError(f"{host!r} is not a numeric address of this family") from None
    if family == socket.AF_INET:
        return _FAMILY.pack(family) + _INET.pack(port, packed)
    flowinfo, scope_id = (*rest, 0, 0)[:2]
    for name, value, most in (("flowinfo", flowinfo, _FLOWINFO_MAX), ("a scope id", scope_id, _SCOPE_MAX)):
        if not isinstance(value, int):
            raise TypeError(f"{name} is an int, not {type(value).__name__}")
        if not 0 <= value <= most:
            raise OverflowError(f"{name} is 0 to {most}, not {value}")
    if not rest and "%" in host:
        try:
            scope_id = socket.if_nametoindex(host.partition("%")[2])
        except OSError:
            raise ValueError(f"{host!r} names no interface of this machine") from None
    return (
        _FAMILY.pack(family) + port.to_bytes(2, "big") + _INET6.pack(socket.htonl(flowinfo), packed, scope_id)
    )


def decode_address(raw: bytes | bytearray | memoryview) -> PeerName:
    """The address of a ``sockaddr`` as the `socket` module would give it; None for an empty one.

    Raises:
        ValueError: fewer bytes than an address of its family has.
    """
    raw = bytes(raw)
    if len(raw) < 2:
        return None
    (family,) = _FAMILY.unpack_from(raw)
    least = _SIZES.get(family, 2)
    if len(raw) < least:
        raise ValueError(f"an address of family {family} has {least} bytes, not {len(raw)}")
    if family == _AF_INET:
        port, packed = _INET.unpack_from(raw, 2)
        return socket.inet_ntoa(packed), port
    if family == _AF_INET6:
        flowinfo, packed, scope_id = _INET6.unpack_from(raw, 4)
        host = socket.inet_ntop(family, packed)
        if scope_id:
            host = _with_scope(host, scope_id)
        return host, int.from_bytes(raw[2:4], "big"), socket.ntohl(flowinfo), scope_id
    if family == _AF_UNIX:
        return _decode_unix(raw[2:])
    if family in _PAIRS:
        layout, order = _PAIRS[family]
        first, second = layout.unpack_from(raw, 2)[::order]
        return first, second
    return family, raw[2:]


def family_of(address: Any) -> int:
    """The family that the form of an address tells, for a socket of which only the descriptor is known.

    Raises:
        TypeError: it is no address, or two numbers, a form of several families.
    """
    if isinstance(address, (str, os.PathLike, bytes, bytearray, memoryview)):
        return _AF_UNIX
    if not isinstance(address, tuple) or len(address) < 2:
        raise TypeError(f"an address is a tuple, a path or bytes, not {address!r}")
    if isinstance(address[0], str):
        return _AF_INET6 if len(address) > 2 or ":" in address[0] else _AF_INET
    if isinstance(address[0], int) and isinstance(address[1], bytes):
        return int(address[0])
    raise TypeError(f"of what family is {address!r}? Give the socket as an object, or the family")


def _encode_other(family: int, address: Any) -> bytes:
    pair = isinstance(address, tuple) and len(address) == 2
    if family not in _PAIRS:
        if not pair or address[0] != family or not isinstance(address[1], bytes):
            raise ValueError(f"an address of family {family} is ({family}, bytes), not {address!r}")
        if len(address[1]) > _DATA_MAX:
            raise ValueError(f"an address has at most {_DATA_MAX} bytes, not {len(address[1])}")
        return _FAMILY.pack(family) + address[1]
    layout, order = _PAIRS[family]
    try:
        return _FAMILY.pack(family) + layout.pack(*address[::order])
    except (struct.error, TypeError):
        raise ValueError(
            f"an address of family {family} is two numbers of 32 bits, not {address!r}"
        ) from None


def _with_scope(host: str, scope_id: int) -> str:
    # getnameinfo writes the scope of a link-local address as a name, as socket.getpeername() does.
    try:
        return f"{host}%{socket.if_indextoname(scope_id)}"
    except OSError:
        return f"{host}%{scope_id}"


def _encode_unix(address: Any) -> bytes:
    if isinstance(address, (str, os.PathLike)):
        path = os.fsencode(address)
    elif isinstance(address, (bytes, bytearray, memoryview)):
        path = bytes(address)
    else:
        raise TypeError(f"a Unix address is a path or bytes, not {type(address).__name__}")
    if path.startswith(b"\0"):
        if len(path) > _UNIX_PATH_SIZE:
            raise ValueError(f"an abstract Unix address has at most {_UNIX_PATH_SIZE} bytes, not {len(path)}")
        return _FAMILY.pack(socket.AF_UNIX) + path
    if len(path) >= _UNIX_PATH_SIZE:
        raise ValueError(
            f"a Unix socket path has at most {_UNIX_PATH_SIZE - 1} bytes, not {len(path)}: {address!r}"
        )
    if b"\0" in path:
        raise ValueError("a Unix socket path has no NUL byte")
    return _FAMILY.pack(socket.AF_UNIX) + path + b"\0"


def _decode_unix(path: bytes) -> str | bytes:
    if path.startswith(b"\0"):
        return path
    return os.fsdecode(path.split(b"\0", 1)[0])
