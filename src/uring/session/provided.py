"""Provided buffers of a ring: groups that the kernel selects from.

Invariant: a group's memory stays until all operations that were in flight at its close have ended.
"""

from __future__ import annotations

from .. import abi
from ..contexts.views import Completion
from ..errors import PoolExhausted
from ..ops.base import check_int
from ..options import locked_buffer_layout
from .bundles import BundleIterator
from .groups import BufferGroup
from .pools import BufferPool, RegisterBufferPool
from .registration import Registrations

__all__ = ["BufferGroups", "ProvidedBuffers"]

_MMAP = int(abi.IOU_PBUF_RING_MMAP)
_INC = int(abi.IOU_PBUF_RING_INC)


class BufferGroups:
    """Groups of several sizes, each size in one or more groups.

    Attributes:
        rings: every group, in the order of their numbers.
    """

    def __init__(self, rings: list[BufferGroup]) -> None:
        self.rings: list[BufferGroup] = rings
        self._by_size: dict[int, list[BufferGroup]] = {}
        for ring in rings:
            self._by_size.setdefault(ring.size, []).append(ring)
        self._turn = 0

    @property
    def sizes(self) -> list[int]:
        """The sizes of the buffers in bytes, the smallest first."""
        return sorted(self._by_size)

    def group_for(self, size: int) -> BufferGroup:
        """A group with the smallest buffers that are large enough; groups of one size take turns.

        Args:
            size: the least number of bytes of a buffer.

        Returns:
            The group.

        Raises:
            ValueError: no buffers are that large.
        """
        fitting = next((have for have in self.sizes if have >= size), None)
        if fitting is None:
            raise ValueError(f"the largest buffers have {max(self._by_size, default=0)} bytes, not {size}")
        rings = self._by_size[fitting]
        self._turn += 1
        return rings[self._turn % len(rings)]


class ProvidedBuffers(Registrations):
    """Buffer rings of a ring, and the memory that `Options` asks for."""

    def _prepare(self) -> None:
        super()._prepare()
        self._groups: dict[int, BufferGroup] = {}
        self.buffer_groups: BufferGroups = BufferGroups([])
        self.register_pool: RegisterBufferPool | None = None
        self.write_buffers: BufferPool | None = None

    def register_buf_ring(
        self, entries: int, group: int, size: int = 0, flags: int = 0, *, min_left: int = 0
    ) -> BufferGroup:
        """Registers a group of provided buffers, or an empty one for memory given by
        `uring.BufferGroup.provide`.

        It is closed by `unregister_buf_ring`, by a ``with`` block, and when the ring stops.

        Args:
            entries: how many buffers, 1 to 32768.
            group: the group's number, 0 to 65535.
            size: bytes of each buffer, 1 to 2**31 - 1; 0 makes an empty group.
            flags: ``IOU_PBUF_RING_*`` bits, 0 to 65535.
            min_left: of an incremental group: a buffer with fewer bytes left counts as used up, 0 to 2**31 -
                1 (Linux 6.19, and late 6.18).

        Returns:
            The group.

        Raises:
            TypeError, ValueError: an argument has the wrong type or is out of range.
            NotSupported: the kernel has no ``min_left``.
            OSError: ``EEXIST`` when the group exists, ``ENOMEM`` past ``RLIMIT_MEMLOCK``.

        Since:
            Linux 5.19.

        Source:
            io_uring_register(2), ``IORING_REGISTER_PBUF_RING``; io_uring_setup_buf_ring(3).
        """
        self._check_owner()
        check_int("entries", entries, 1, 32768)
        check_int("a buffer group", group, 0, 0xFFFF)
        check_int("a buffer's size", size, 0, (1 << 31) - 1)
        check_int("flags", flags, 0, 0xFFFF)
        check_int("min_left", min_left, 0, (1 << 31) - 1)
        made = BufferGroup(
            self._kernel,
            self.unregister_buf_ring,
            group,
            entries,
            size,
            flags,
            empty=not size,
            min_left=min_left,
        )
        self._groups[group] = made
        return made

    def register_buf_ring_with_flags(
        self, entries: int, group: int, flags: int, size: int = 0
    ) -> BufferGroup:
        """As `register_buf_ring`, with flags.

        Args:
            entries: how many buffers, 1 to 32768.
            group: the group's number, 0 to 65535.
            flags: ``IOU_PBUF_RING_*`` bits, 0 to 65535.
            size: bytes of each buffer, 1 to 2**31 - 1; 0 makes an empty group.

        Returns:
            The group.

        Since:
            Linux 5.19.

        Source:
            io_uring_register(2), ``IORING_REGISTER_PBUF_RING``.
        """
        return self.register_buf_ring(entries, group, size, flags)

    def register_buf_ring_mmap(self, entries: int, group: int, size: int = 0) -> BufferGroup:
        """As `register_buf_ring`; the kernel allocates the entries.

        Args:
            entries: how many buffers, 1 to 32768.
            group: the group's number, 0 to 65535.
            size: bytes of each buffer, 1 to 2**31 - 1; 0 makes an empty group.

        Returns:
            The group.

        Since:
            Linux 6.4.

        Source:
            io_uring_register(2), ``IORING_REGISTER_PBUF_RING``, ``IOU_PBUF_RING_MMAP``.
        """
        return self.register_buf_ring(entries, group, size, _MMAP)

    def register_buf_ring_incremental(
        self, entries: int, group: int, size: int = 0, *, min_left: int = 0
    ) -> BufferGroup:
        """As `register_buf_ring`, with buffers that are used up piece by piece.

        Args:
            entries: how many buffers, 1 to 32768.
            group: the group's number, 0 to 65535.
            size: bytes of each buffer, 1 to 2**31 - 1; 0 makes an empty group.
            min_left: a buffer with fewer bytes left counts as used up, 0 to 2**31 - 1 (Linux 6.19, and late
                6.18).

        Returns:
            The group.

        Since:
            Linux 6.12.

        Source:
            io_uring_register(2), ``IORING_REGISTER_PBUF_RING``, ``IOU_PBUF_RING_INC``.
        """
        return self.register_buf_ring(entries, group, size, _INC, min_left=min_left)

    def unregister_buf_ring(self, group: BufferGroup | int) -> None:
        """Closes a group. Operations armed on it end with ``ENOBUFS``.

        Args:
            group: the group, or its number.

        Raises:
            LookupError: there is no such group.

        Since:
            Linux 5.19.

        Source:
            io_uring_register(2), ``IORING_UNREGISTER_PBUF_RING``.
        """
        self._check_owner()
        number = group.group if isinstance(group, BufferGroup) else group
        if number not in self._groups:
            raise LookupError(f"there is no buffer group {number!r}")
        gone = self._groups.pop(number)
        gone.close()
        if self._kernel.inflight:
            self._retire(gone)
        else:
            self._retired.clear()
            gone.forget()

    def buf_ring(self, group: int) -> BufferGroup:
        """The group of a number.

        Args:
            group: the number, 0 to 65535.

        Returns:
            The group.

        Raises:
            LookupError: there is no such group.
        """
        self._check_open()
        try:
            return self._groups[group]
        except KeyError:
            raise LookupError(f"there is no buffer group {group!r}") from None

    def bundle_iterator(self, cqe: Completion, group: int) -> BundleIterator | None:
        """The buffers of a bundle.

        Args:
            cqe: the completion.
            group: the group's number.

        Returns:
            The buffers; None when the completion brought no data, or there is no such group.

        Raises:
            TypeError: ``cqe`` is no completion.
        """
        if not isinstance(cqe, Completion):
            raise TypeError(f"a completion is needed, not {type(cqe).__name__}")
        self._check_open()
        ring = self._groups.get(group)
        if ring is None or not cqe.has_buffer or cqe.res <= 0 or not ring.size:
            return None
        return BundleIterator.of(cqe, ring)

    def _make_resources(self) -> None:
        super()._make_resources()
        options = self.options
        if options.locked_buffer_mem:
            size, count = locked_buffer_layout(options.locked_buffer_mem)
            if not count:
                raise ValueError(
                    f"locked_buffer_mem is {size} bytes or more, not {options.locked_buffer_mem}"
                )
            self.register_pool = RegisterBufferPool(count, size)
            self.register_buffer_pool(self.register_pool)
        if options.write_buffer_num:
            self.write_buffers = BufferPool(options.write_buffer_num, options.write_buffer_size)
        group = options.read_buffer_gid_offset
        if options.read_buffer_num:
            self.register_buf_ring(options.read_buffer_num, group, options.read_buffer_size)
        if options.multi_size_buffer:
            tiers = options.buffer_groups.tiers * options.multi_size_buffer
            if group + len(tiers) > 1 << 16:
                raise PoolExhausted(f"{len(tiers)} buffer groups from {group} on are past 65535")
            rings = [self.register_buf_ring(n, group + i, size) for i, (size, n) in enumerate(tiers)]
            self.buffer_groups = BufferGroups(rings)

    def _release_resources(self, leak: bool) -> None:
        super()._release_resources(leak)
        if not leak:
            for ring in self._groups.values():
                ring.close()
                ring.forget()
            self._groups.clear()
