"""Socket addresses in memory that the kernel reads and writes."""

from __future__ import annotations

import sys
from typing import Any

from ..kernel.addresses import SOCKADDR_SIZE, Address, PeerName, decode_address, encode_address, family_of
from ..kernel.memory import zeroed

__all__ = ["PeerAddress", "SocketAddress", "encoded", "sockaddr"]


def sockaddr(fd: Any, address: Any, family: int | None = None) -> bytes:
    """The ``sockaddr`` of an address. Without ``family`` it is of the socket object's family, else of the one
    that its form tells. Raises what `uring.kernel.addresses.encode_address` does."""
    if family is None:
        family = getattr(fd, "family", None)
    return encode_address(family_of(address) if family is None else family, address)


def encoded(fd: Any, family: int | Address | None, address: Address | None) -> SocketAddress:
    """An address as the kernel reads it: ``address`` of ``family``, or ``family`` alone, which is the address
    then."""
    if address is not None:
        if family is not None and not isinstance(family, int):
            raise TypeError(f"a family is an int, AF_*, not {type(family).__name__}")
        return SocketAddress(sockaddr(fd, address, family), address)
    if family is None or isinstance(family, int):
        raise TypeError("the address is missing")
    return SocketAddress(sockaddr(fd, family), family)


class SocketAddress:
    """A ``sockaddr`` in memory of its own.

    Args:
        raw: its bytes.
        name: the address that the program gave, for error messages.
    """

    __slots__ = ("_memory", "address", "length", "name")

    def __init__(self, raw: bytes, name: object = None) -> None:
        self.name: object = name
        self._memory = zeroed(SOCKADDR_SIZE)
        self._memory.view[: len(raw)] = raw
        self.address: int = self._memory.address
        self.length: int = len(raw)


class PeerAddress:
    """Room for an address that the kernel writes, and its size behind it."""

    __slots__ = ("_memory", "address", "size_address")

    def __init__(self) -> None:
        self._memory = zeroed(SOCKADDR_SIZE + 8)
        self.address: int = self._memory.address
        self.size_address: int = self.address + SOCKADDR_SIZE
        self.reset()

    def reset(self) -> None:
        """Prepares the next use: the kernel reads the size of the room, and overwrites it."""
        self._memory.view[SOCKADDR_SIZE : SOCKADDR_SIZE + 4] = SOCKADDR_SIZE.to_bytes(4, sys.byteorder)

    def get(self) -> PeerName:
        """The address as the `socket` module gives it."""
        size = int.from_bytes(self._memory.view[SOCKADDR_SIZE : SOCKADDR_SIZE + 4], sys.byteorder)
        return decode_address(self._memory.view[: min(size, SOCKADDR_SIZE)])
