"""What the kernel answers at once out of its caches, by system calls in the calling thread.

A ring spares its caller the waiting, at the price of a way through the kernel's queues and back. For what is
in memory already there is nothing to wait for. These calls give up where there is, and the ring takes over.

Nothing here waits for a disk or a server: reads have ``RWF_NOWAIT``, names are looked up with
``RESOLVE_CACHED``. See preadv2(2) and openat2(2).
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any

from .kernel import ffi, lib

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable

__all__ = ["PART", "Room", "find_cached", "read_cached", "stat_is_local"]

_uint64s: Any = ffi.typeof("uint64_t[]") if ffi is not None else None

PART: int = getattr(lib, "UR_PART", 4096)
"""``read_cached`` that got ``n`` bytes and would have to wait for the next answers ``-PART - n``."""

read_cached: Callable[[int, int, int, int], int] = getattr(lib, "ur_read_cached", None)  # type: ignore[assignment]
"""Reads what is in the page cache: ``(fd, offset, address, length)``, with 2**64 - 1 for the file's own
position, which moves. The answer is how many bytes, fewer than asked for only at the end of the file; or
`PART`'s form of it; or an errno negated, of which none says more than that it cannot be read so now."""

find_cached: Callable[[bytes, int], int] = getattr(lib, "ur_find_cached", None)  # type: ignore[assignment]
"""``(path, follow)``: an ``O_PATH`` descriptor of what is there, to be asked by `os.fstat` and closed, if the
kernel has the way to it in memory and its file system answers from memory. ``follow`` 0: only if no part of
the path is a symbolic link. Otherwise an errno negated: ``-ENOENT`` is the truth, the others say no more than
that it cannot be answered so. The path has no NUL byte."""

stat_is_local: Callable[[int], int] = getattr(lib, "ur_stat_is_local", None)  # type: ignore[assignment]
"""1 if `os.fstat` of this descriptor is answered from memory, whatever the state of disks and servers."""


class Room:
    """Memory that reads go through on their way to ``bytes`` objects; kept, and as large as was needed.

    For small pieces the copy is cheaper than an object with room for what the kernel will write.
    """

    __slots__ = ("_held", "_shape", "_sizes", "address", "contents", "size")

    def __init__(self) -> None:
        self._sizes: array[int] | None = None
        self._shape: Struct = Struct("")
        self.size: int = 0
        self.address: int = 0
        self.contents: Any = b""

    def grow(self, size: int) -> None:
        """Makes it hold ``size`` bytes; what was in it is gone."""
        self._held: Any = ffi.new("char[]", size)
        self.size = size
        self.address = int(ffi.cast("uintptr_t", self._held))
        self.contents = ffi.buffer(self._held, size)

    def read_many(self, fd: int, offsets: array[int], sizes: array[int]) -> int:
        """Reads pieces of a file one behind the other, together no more than ``size``; the arrays are of type
        ``Q``. How many are whole, from the first one on."""
        where, lengths = ffi.from_buffer(_uint64s, offsets), ffi.from_buffer(_uint64s, sizes)
        return int(lib.ur_read_cached_many(fd, len(sizes), where, lengths, self.address))

    def split(self, sizes: array[int]) -> list[bytes]:
        """The pieces of these sizes that were read into it."""
        if sizes != self._sizes:
            self._sizes = sizes
            self._shape = Struct("".join([f"{n}s" for n in sizes]))
        return list(self._shape.unpack_from(self.contents))
