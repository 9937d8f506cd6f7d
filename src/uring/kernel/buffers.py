"""Provided buffer rings: buffers that the kernel selects from when data arrives.

A receive that names a group instead of memory holds no memory while it waits. The completion names the buffer
(``IORING_CQE_F_BUFFER``, the id in the upper half of its flags). The consumer copies or leases the bytes,
then gives the buffer back with ``put``.

Invariants
  - A buffer belongs to the kernel (in the ring) or to the consumer (between its completion and ``put``).
  - Memory outlives every view of it: it is freed when the last one is gone, not when the group is closed.
"""

from __future__ import annotations

import errno
import mmap
from functools import partial
from typing import TYPE_CHECKING, Any

from ..abi import IORING_REGISTER_PBUF_STATUS, IOU_PBUF_RING_INC
from ..abi.layouts import BUF_STATUS
from ..bounds import check_int
from ..errors import NotSupported, RingClosed, error_from_result
from .lib import ffi, lib
from .memory import pin_writable, zeroed

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from .ring import KernelRing

__all__ = ["BufferRing"]

_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS


class BufferRing:
    """A registered ring of provided buffers.

    ``views[bid]`` is the memory of buffer ``bid``, to be read only between the completion that names it and
    ``put(bid)``; there is one of each that was ever in use. ``in_use`` buffers are in use: `grow` adds more,
    `shrink` takes some back and frees their memory.

    Args:
        ring: the ring.
        group: the group's number, 0 to 65535.
        count: how many buffers, 1 to 32768.
        size: bytes of each, 1 to 2**31 - 1.
        flags: ``IOU_PBUF_RING_MMAP`` (the kernel allocates the ring), ``IOU_PBUF_RING_INC`` (a buffer is used
            up piece by piece, Linux 6.12).
        empty: the ring starts without buffers, for the caller's own: `provide`.
        first: how many are in use at first, 1 to ``count``; None: all.
        min_left: of incremental buffers: one with fewer bytes left counts as used up, 0 to 2**31 - 1.

    Raises:
        ValueError: an argument is out of range.
        NotSupported: the kernel has no ``min_left`` (Linux 6.19, and late 6.18).
        OSError: ``EEXIST`` when the group exists, ``ENOMEM`` when memory cannot be had.

    Since:
        Linux 5.19.

    Source:
        io_uring_register(2), ``IORING_REGISTER_PBUF_RING``.
    """

    __slots__ = (
        "_handle",
        "_head",
        "_map",
        "_memory",
        "_pins",
        "_ring",
        "_unused",
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
        self,
        ring: KernelRing,
        group: int,
        count: int,
        size: int,
        flags: int = 0,
        *,
        empty: bool = False,
        first: int | None = None,
        min_left: int = 0,
    ) -> None:
        if not 0 <= group <= 0xFFFF:
            raise ValueError(f"a buffer group is 0 to 65535, not {group}")
        if not 1 <= count <= 32768:
            raise ValueError(f"a buffer ring has 1 to 32768 buffers, not {count}")
        if empty:
            size = 0
        elif not 1 <= size < 1 << 31:
            raise ValueError(f"a buffer has 1 byte to 2 GiB, not {size}")
        if first is None:
            first = count
        elif not 1 <= first <= count:
            raise ValueError(f"of {count} buffers 1 to {count} are in use first, not {first}")
        if min_left and not (flags & IOU_PBUF_RING_INC and 0 < min_left < 1 << 31):
            raise ValueError(f"min_left is 0 to 2 GiB, of an incremental buffer ring, not {min_left}")
        handle = ffi.new("struct ur_buffers *")
        self._map = mmap.mmap(-1, count * size, _PRIVATE) if size else None
        self._memory = memoryview(b"" if self._map is None else self._map)
        # Dropped at once, for the reason in `uring.kernel.memory`; the memoryview keeps the memory.
        memory = ffi.from_buffer(self._memory) if size else ffi.NULL
        result = lib.ur_buffers_open(handle, ring._handle, group, count, size, memory, flags, first, min_left)
        del memory
        if result == -errno.EINVAL and min_left:
            raise NotSupported("min_left of buffer rings", "Linux 6.19, or a late 6.18")
        if result < 0:
            raise error_from_result(result, f"register buffer ring {group}")
        self._ring = ring
        self._handle = handle
        self._head = 0  # the kernel's place, when it was asked last
        self.group: int = group
        self.count: int = count
        self.size: int = size
        self.flags: int = flags
        self.entries: int = handle.mask + 1
        self.closed: bool = False
        self._pins: dict[tuple[int, int], Any] = {}
        self.put: Callable[[int], int] = partial(lib.ur_buffers_put, handle)
        self.views: list[memoryview] = [self._view(bid) for bid in range(first)]
        self._unused: list[int] = list(range(count - 1, first - 1, -1))  # taken from its end

    @property
    def in_use(self) -> int:
        """How many buffers belong to the kernel or a consumer: all that `shrink` has not taken out."""
        return self.count - len(self._unused)

    def grow(self) -> list[int]:
        """Doubles the number of buffers in use, up to ``count``; returns the new ones, in their order."""
        if self.closed:
            return []
        new = [self._unused.pop() for _ in range(min(self.in_use, len(self._unused)))]
        for bid in new:
            if bid == len(self.views):  # never in use before: their numbers come in order
                self.views.append(self._view(bid))
            self.put(bid)
        return new

    def _view(self, bid: int) -> memoryview:
        return self._memory[bid * self.size : (bid + 1) * self.size]

    def shrink(self, keep: int) -> list[int]:
        """Takes buffers out of use and frees their memory, until ``keep`` are in use or the kernel has none
        left.

        For rings with deferred work, where nothing receives between two enters. None is taken where a filter
        refuses ``IORING_REGISTER_PBUF_STATUS``, by which the kernel says how far it has come.

        Args:
            keep: how many stay in use, from 1 on.

        Returns:
            The buffers that were taken, which are the last that the kernel would have used.

        Raises:
            ValueError: ``keep`` is less than 1.
        """
        if keep < 1:
            raise ValueError(f"at least one buffer stays in use, not {keep}")
        surplus = self.in_use - keep
        if self.closed or surplus <= 0:
            return []
        n = max(0, lib.ur_buffers_withdraw(self._handle, surplus))
        gone = [lib.ur_buffers_withdrawn(self._handle, i) for i in range(n)]
        self._unused += reversed(gone)
        for bid in gone:
            self._free_memory(bid)
        return gone

    def take(self) -> int:
        """Takes the buffer that was put last out of the ring, until it is put again; negative: it has none.

        For rings with deferred work, as `shrink`.
        """
        n: int = lib.ur_buffers_withdraw(self._handle, 1)
        return int(lib.ur_buffers_withdrawn(self._handle, 0)) if n > 0 else -1

    def _free_memory(self, bid: int) -> None:
        """Gives the whole pages of a buffer back to the kernel; they read as zeros afterwards."""
        page = mmap.PAGESIZE
        start = -(-bid * self.size // page) * page
        length = (bid + 1) * self.size // page * page - start
        if length > 0 and self._map is not None:
            self._map.madvise(mmap.MADV_DONTNEED, start, length)

    @property
    def backing(self) -> memoryview:
        """All buffers, one behind the other."""
        return self._memory

    def provide(self, bid: int, buffer: Buffer) -> None:
        """Puts memory of the caller's into the ring, as a buffer; it is kept until `close`.

        Args:
            bid: the buffer's number, 0 to 65535.
            buffer: writable memory.

        Raises:
            ValueError: ``bid`` is out of range, or the ring has memory of its own.
            TypeError: ``bid`` is no int, or the memory is read-only.
            RingClosed: the group was closed.
        """
        check_int("a buffer's number", bid, 0, 0xFFFF)
        if self.size:
            raise ValueError("this ring has memory of its own: give buffers back with put")
        if self.closed:
            raise RingClosed(f"buffer group {self.group} was closed")
        address, length, held = pin_writable(buffer)
        self._pins[address, length] = held
        lib.ur_buffers_publish(self._handle, bid, address, length)

    def addresses(self) -> tuple[int, int, int, int, int]:
        """For C code beside this one, while this object lives: the ring of buffers, the function
        ``ur_buffers_put``, the memory, the bytes of a buffer, and how many there are."""
        pointers = self._handle, ffi.addressof(lib, "ur_buffers_put"), ffi.from_buffer(self._memory)
        handle, put, memory = (int(ffi.cast("uintptr_t", pointer)) for pointer in pointers)
        return handle, put, memory, self.size, self.count

    def queued(self, bid: int) -> bool:
        """Whether a buffer is in the ring, for the kernel to take.

        The kernel is asked for its place in the ring only where the place it gave last leaves a doubt. If it
        does not answer (a filter, another thread's ring) the result is False.

        Args:
            bid: the buffer's number.
        """
        return self._seems_queued(bid) and self._look() and self._seems_queued(bid)

    def full(self) -> bool:
        """Whether there is no room for another buffer."""
        return self._filled() >= self.entries and self._look() and self._filled() >= self.entries

    def _seems_queued(self, bid: int) -> bool:
        """Whether the buffer is among those that were in the ring when the kernel was asked last."""
        if lib.ur_buffers_after(self._handle, bid, 0) != bid:
            return False  # its entry has been used for another one
        return int(self._handle.places[bid]) - self._head & 0xFFFF < self._filled()

    def _filled(self) -> int:
        return int(self._handle.tail) - self._head & 0xFFFF

    def _look(self) -> bool:
        """Asks the kernel for its place; whether it answered."""
        status = zeroed(BUF_STATUS.size)
        BUF_STATUS.pack_into(status.view, 0, self.group, 0)
        try:
            self._ring.register(int(IORING_REGISTER_PBUF_STATUS), status.address, 1, "buffer status")
        except OSError:
            return False
        self._head = BUF_STATUS.unpack_from(status.view, 0)[1] & 0xFFFF
        return True

    def run(self, bid: int, n: int) -> list[int]:
        """A buffer and those the kernel takes after it, in the order in which they were put.

        Args:
            bid: the first buffer's number, 0 to 65535.
            n: how many, 0 to the group's count.

        Returns:
            Their numbers.

        Raises:
            TypeError, ValueError: no buffer's number, or more than the group has.
        """
        check_int("a buffer's number", bid, 0, 0xFFFF)
        check_int("n", n, 0, self.count)
        after = lib.ur_buffers_after
        return [after(self._handle, bid, i) for i in range(n)]

    def close(self) -> None:
        """Unregisters the group; operations armed on it end with ``-ENOBUFS``. Idempotent.

        The memory is freed once no view of it is left. A caller that closes with operations in flight keeps
        this object until they have ended.
        """
        if self.closed:
            return
        self.closed = True
        lib.ur_buffers_close(self._handle)

    def forget(self) -> None:
        """Drops the caller's memory: after `close`, once everything that was in flight then has ended."""
        self._pins.clear()
