"""Socket addresses in memory that the kernel reads and writes."""

from __future__ import annotations

import sys

from ..kernel.addresses import SOCKADDR_SIZE, Address, PeerName, decode_address, encode_address
from ..kernel.memory import zeroed

__all__ = ["PeerAddress", "SocketAddress", "encoded"]


def encoded(family: int, address: Address) -> SocketAddress:
    """An address as the kernel reads it. Raises what `uring.kernel.addresses.encode_address` does."""
    return SocketAddress(encode_address(family, address))


class SocketAddress:
    """A ``sockaddr`` in memory of its own."""

    __slots__ = ("_memory", "address", "length")

    def __init__(self, raw: bytes) -> None:
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
        """Before each use: the kernel reads the room there is, and writes the size it used."""
        self._memory.view[SOCKADDR_SIZE : SOCKADDR_SIZE + 4] = SOCKADDR_SIZE.to_bytes(4, sys.byteorder)

    def get(self) -> PeerName:
        """The address as the `socket` module gives it."""
        size = int.from_bytes(self._memory.view[SOCKADDR_SIZE : SOCKADDR_SIZE + 4], sys.byteorder)
        return decode_address(self._memory.view[: min(size, SOCKADDR_SIZE)])
