"""Reads and stats out of the kernel's caches, by system calls in the calling thread.

A ring saves its caller the wait, at the price of a submission and a completion. Data in memory needs no wait.
These calls fail where they would have to wait; the caller then uses the ring.

Nothing here waits for a disk or a server: reads have ``RWF_NOWAIT``, names are looked up with
``RESOLVE_CACHED``. See preadv2(2) and openat2(2).

The functions are C (``_shim/cached.c``), in an extension beside the ring's. They create the objects that they
return too: a call takes a microsecond, and making them in Python would be most of the cost that it adds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    _cached: Any
else:
    try:
        from uring import _cached
    except ImportError:  # not Linux, or not built
        _cached = None


__all__ = ["PART", "find_stat", "read_cached", "read_piece", "read_pieces", "stat_is_local"]


def _missing(*_: object) -> Any:
    raise ImportError("the C extension uring._cached is missing")


PART: int = getattr(_cached, "PART", 4096)
"""``read_cached`` that got ``n`` bytes and would have to wait for the next answers ``-PART - n``."""

read_cached: Callable[[int, int, int, int], int] = getattr(_cached, "read_cached", _missing)
"""Reads what is in the page cache: ``(fd, offset, address, length)``, with 2**64 - 1 for the file's own
position, which moves. The answer is how many bytes, fewer than asked for only at the end of the file; or
`PART`'s form of it; or a negated errno, which says only that it cannot be read in this way."""

read_piece: Callable[[int, int, int], bytes | None] = getattr(_cached, "read_piece", _missing)
"""``(fd, n, offset)``: what `os.pread` returns, fewer bytes only at the end of the file; None if some of them
would have to be waited for, or cannot be read so now."""

read_pieces: Callable[[int, list[Any], int], list[bytes] | None] = getattr(_cached, "read_pieces", _missing)
"""``(fd, places, most)``: the pieces of a file at these places, each ``(offset, n)``, up to the first that is
not whole. None, and nothing was read: they have more than ``most`` bytes together, or a place is anything but
a tuple of two numbers from 0 to 2**63 - 1."""

find_stat: Callable[[Any, bool], os.stat_result | int | None]
find_stat = getattr(_cached, "find_stat", _missing)
"""``(path, follow)``: the answer of `os.stat`, or of `os.lstat`, if the kernel has the path in its cache and
the file system answers from memory; ENOENT where that raises `FileNotFoundError`. None: it cannot be answered
so, or ``path`` is not a path. With ``follow`` false it is answered only if no part of the path is a symbolic
link."""

stat_is_local: Callable[[int], bool] = getattr(_cached, "stat_is_local", _missing)
"""Whether `os.fstat` of this descriptor is answered from memory, whatever the state of disks and servers."""
