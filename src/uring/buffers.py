"""Provided buffer rings: memory that the kernel chooses from when data arrives.

A receive that names a group instead of memory holds none while it waits. The completion says which
buffer was taken (``IORING_CQE_F_BUFFER``, the id in the upper half of its flags); whoever consumes it
copies or leases the bytes, then gives the buffer back with ``put``.

Invariants
  - A buffer is either the kernel's (in the ring) or ours (between its completion and ``put``).
  - Memory outlives every view of it: it is freed when the last one is gone, not when the group is closed.
"""

from __future__ import annotations

import mmap
from functools import partial
from typing import TYPE_CHECKING, Any

from .errors import RingClosed, error_from_result
from .kernel import ffi, lib
from .memory import pin_writable

if TYPE_CHECKING:
    from collections.abc import Callable

    from .kernel import KernelRing

__all__ = ["BufferRing"]

_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


class BufferRing:
    """A registered ring of ``count`` buffers of ``size`` bytes each (Linux 5.19).

    ``views[bid]`` is the memory of buffer ``bid``; it is ours to read only between the completion that
    names it and ``put(bid)``. An ``empty`` ring starts without buffers, for the caller's own: `provide`.

    ``flags`` are ``IOU_PBUF_RING_MMAP`` (the kernel allocates the ring) and ``IOU_PBUF_RING_INC`` (a buffer
    is used up piece by piece, Linux 6.12).

    Raises:
        ValueError: count or size out of range.
        OSError: the group exists already (``EEXIST``), or memory cannot be had (``ENOMEM``).

    See io_uring_register(2), ``IORING_REGISTER_PBUF_RING``.
    """

    __slots__ = (
        "_handle",
        "_memory",
        "_pins",
        "_ring",
        "closed",
        "count",
        "entries",
        "flags",
        "group",
        "put",
        "size",
        "views",
    )

    def __init__(
        self, ring: KernelRing, group: int, count: int, size: int, flags: int = 0, *, empty: bool = False
    ) -> None:
        if not 0 <= group <= 0xFFFF:
            raise ValueError(f"a buffer group is 0 to 65535, not {group}")
        if not 1 <= count <= 32768:
            raise ValueError(f"a buffer ring has 1 to 32768 buffers, not {count}")
        if empty:
            size = 0
        elif not 1 <= size < 1 << 31:
            raise ValueError(f"a buffer has 1 byte to 2 GiB, not {size}")
        handle = ffi.new("struct ur_buffers *")
        self._memory = memoryview(mmap.mmap(-1, count * size, _PRIVATE) if size else b"")
        # Dropped at once, as `uring.memory` says why: the memoryview keeps the memory.
        memory = ffi.from_buffer(self._memory) if size else ffi.NULL
        result = lib.ur_buffers_open(handle, ring._handle, group, count, size, memory, flags)
        del memory
        if result < 0:
            raise error_from_result(result, f"register buffer ring {group}")
        self._ring = ring
        self._handle = handle
        self.group: int = group
        self.count: int = count
        self.size: int = size
        self.flags: int = flags
        self.entries: int = handle.mask + 1
        self.closed: bool = False
        self._pins: dict[tuple[int, int], Any] = {}
        self.put: Callable[[int], int] = partial(lib.ur_buffers_put, handle)
        self.views: list[memoryview] = [self._memory[i * size : (i + 1) * size] for i in range(count)]

    @property
    def backing(self) -> memoryview:
        """All buffers, one behind the other."""
        return self._memory

    def provide(self, bid: int, buffer: Any) -> None:
        """Puts memory of the caller's into the ring, as buffer ``bid``; it is kept until `close`.

        Raises:
            ValueError: bid is not 0 to 65535, or the ring has memory of its own. TypeError: read-only.
            RingClosed: the group was closed.
        """
        if isinstance(bid, bool) or not isinstance(bid, int) or not 0 <= bid <= 0xFFFF:
            raise ValueError(f"a buffer's number is 0 to 65535, not {bid!r}")
        if self.size:
            raise ValueError("this ring has memory of its own: give buffers back with put")
        if self.closed:
            raise RingClosed(f"buffer group {self.group} was closed")
        address, length, held = pin_writable(buffer)
        self._pins[address, length] = held
        lib.ur_buffers_publish(self._handle, bid, address, length)

    def run(self, bid: int, n: int) -> list[int]:
        """The buffer and those the kernel takes after it, ``n`` in all: in the order they were put."""
        after = lib.ur_buffers_after
        return [after(self._handle, bid, i) for i in range(n)]

    def close(self) -> None:
        """Unregisters the group; operations armed on it end with ``-ENOBUFS``. Idempotent.

        The memory goes when nobody holds a view of it; whoever closes with operations in flight keeps this
        object until they have ended.
        """
        if self.closed:
            return
        self.closed = True
        lib.ur_buffers_close(self._handle)

    def forget(self) -> None:
        """Lets go of the caller's memory: after `close`, once nothing that was in flight then still is."""
        self._pins.clear()
