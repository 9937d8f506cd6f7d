"""Provided buffer rings: memory that the kernel chooses from when data arrives.

A receive that names a group instead of memory holds none while it waits. The completion says which
buffer was taken (``IORING_CQE_F_BUFFER``, the id in the upper half of its flags); whoever consumes it
copies or leases the bytes, then gives the buffer back with ``put``.

Invariant: a buffer is either the kernel's (in the ring) or ours (between its completion and ``put``).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from .errors import error_from_result
from .kernel import ffi, lib

if TYPE_CHECKING:
    from collections.abc import Callable

    from .kernel import KernelRing

__all__ = ["BufferRing"]


class BufferRing:
    """A registered ring of ``count`` buffers of ``size`` bytes each (Linux 5.19).

    ``views[bid]`` is the memory of buffer ``bid``; it is ours to read only between the completion that
    names it and ``put(bid)``.

    Raises:
        ValueError: count or size out of range.
        OSError: the group exists already (``EEXIST``), or memory cannot be had (``ENOMEM``).

    See io_uring_register(2), ``IORING_REGISTER_PBUF_RING``.
    """

    __slots__ = ("_handle", "_memory", "_ring", "count", "group", "put", "size", "views")

    def __init__(self, ring: KernelRing, group: int, count: int, size: int, flags: int = 0) -> None:
        if not 0 <= group <= 0xFFFF:
            raise ValueError(f"a buffer group is 0 to 65535, not {group}")
        if not 1 <= count <= 32768:
            raise ValueError(f"a buffer ring has 1 to 32768 buffers, not {count}")
        if not 1 <= size < 1 << 31:
            raise ValueError(f"a buffer has 1 byte to 2 GiB, not {size}")
        handle = ffi.new("struct ur_buffers *")
        result = lib.ur_buffers_open(handle, ring._handle, group, count, size, flags)
        if result < 0:
            raise error_from_result(result, f"register buffer ring {group}")
        self._ring = ring
        self._handle = handle
        self.group: int = group
        self.count: int = count
        self.size: int = size
        self.put: Callable[[int], int] = partial(lib.ur_buffers_put, handle)
        self._memory = memoryview(ffi.buffer(handle.memory, count * size))
        self.views: list[memoryview] = [self._memory[i * size : (i + 1) * size] for i in range(count)]

    def close(self) -> None:
        """Unregisters the group and frees its memory; operations armed on it end with ``-ENOBUFS``."""
        handle: Any = self._handle
        if handle.entries == ffi.NULL:
            return
        for view in self.views:
            view.release()
        self._memory.release()
        lib.ur_buffers_close(handle)
