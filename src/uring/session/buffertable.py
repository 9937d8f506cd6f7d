"""The table of registered buffers, which requests name by index.

Registered memory is kept until it is unregistered and all operations that were in flight at that time have
ended. Tags come back as completions in reserved mode (`uring.SQEContext.message`), which no completion of a
request has.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, cast

from .. import abi
from ..abi import layouts
from ..kernel.memory import zeroed
from ..ops.base import check_int
from ..options import REGISTER_BUFFERS_MOST
from .arrays import vectors
from .blocks import Registered
from .filetable import FileTable
from .pools import BufferPool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer


__all__ = ["BufferTable"]


_rings: weakref.WeakValueDictionary[int, BufferTable] = weakref.WeakValueDictionary()
"""Rings of this process by descriptor; a clone keeps the memory of its source."""


class BufferTable(FileTable):
    """Registered files and buffers. Only the ring's own thread may register, unless it has several."""

    def _prepare(self) -> None:
        super()._prepare()
        self._buffers: list[tuple[memoryview, object] | None] = []
        self._registered_rings: dict[int, BufferTable] = {}
        if not self.options.registered_fd:
            _rings[self._kernel.fd] = self

    @property
    def registered_buffer_count(self) -> int:
        """Slots of the buffer table; 0 without one."""
        return len(self._buffers)

    def registered_buffer(self, index: int) -> memoryview:
        """The memory of a registered buffer.

        Args:
            index: the buffer, from 0 on.

        Raises:
            IndexError: there is no such slot, or it is empty.
        """
        self._check_open()
        if not 0 <= index < len(self._buffers) or self._buffers[index] is None:
            raise IndexError(f"registered buffer {index} of {len(self._buffers)} does not exist")
        return cast("tuple[memoryview, object]", self._buffers[index])[0]

    def register_buffers(self, buffers: Sequence[Buffer | None], tags: Sequence[int] = ()) -> Registered:
        """Registers writable buffers, which the kernel then maps once and not for each operation.

        Args:
            buffers: 1 to 16384 buffers of 1 byte to 1 GiB, buffer i for slot i; None leaves a slot empty.
            tags: a number for each, 0 to 2**62 - 1. One other than 0 comes back as a completion
                (`uring.SQEContext.message`) once its buffer is gone from the table and unused (Linux 5.13).

        Raises:
            FileExistsError: there is a table already.
            TypeError: a buffer is read-only, or none.
            ValueError: no buffer, too many, one of another size, or another number of tags.
            OSError: ``ENOMEM`` past ``RLIMIT_MEMLOCK``, ``EFAULT`` for memory that cannot be pinned.

        Since:
            Linux 5.1.

        Source:
            io_uring_register(2), ``IORING_REGISTER_BUFFERS2``.
        """
        self._check_owner()
        check_int("the number of buffers", len(buffers), 1, REGISTER_BUFFERS_MOST)
        pinned, iovecs = vectors(buffers)
        self._register_table("register buffers", int(abi.IORING_REGISTER_BUFFERS2), "QQ", iovecs, tags)
        self._buffers = pinned
        return Registered(self, self.unregister_buffers)

    def register_buffer_pool(self, pool: BufferPool) -> Registered:
        """Registers every buffer of a pool: buffer i of the pool is registered buffer i.

        Args:
            pool: a `uring.BufferPool` or `uring.RegisterBufferPool`.

        Raises:
            TypeError: ``pool`` is no pool.
            FileExistsError, OSError: as `register_buffers`.

        Since:
            Linux 5.1.

        Source:
            io_uring_register(2), ``IORING_REGISTER_BUFFERS2``.
        """
        if not isinstance(pool, BufferPool):
            raise TypeError(f"a RegisterBufferPool is needed, not {type(pool).__name__}")
        return self.register_buffers(pool.views)

    def register_buffers_sparse(self, count: int) -> Registered:
        """Registers a buffer table of empty slots.

        Args:
            count: how many, 1 to 16384.

        Raises:
            FileExistsError: there is a table already.
            ValueError: ``count`` is out of range.

        Since:
            Linux 5.19.

        Source:
            io_uring_register(2), ``IORING_REGISTER_BUFFERS2``.
        """
        self._check_owner()
        check_int("count", count, 1, REGISTER_BUFFERS_MOST)
        self._register_sparse("register buffers", int(abi.IORING_REGISTER_BUFFERS2), count)
        self._buffers = [None] * count
        return Registered(self, self.unregister_buffers)

    def register_buffers_update(
        self, offset: int, buffers: Sequence[Buffer | None], tags: Sequence[int] = ()
    ) -> int:
        """Replaces slots of the buffer table. Operations in flight keep the memory that they have.

        Args:
            offset: the first slot, from 0 on.
            buffers: at least one; None empties a slot.
            tags: as for `register_buffers`.

        Returns:
            How many slots were updated.

        Raises:
            TypeError: a buffer is read-only, or none.
            ValueError: past the end of the table, or there is none.
            OSError: ``ENOMEM`` past ``RLIMIT_MEMLOCK``, ``EFAULT`` for memory that cannot be pinned.

        Since:
            Linux 5.13.

        Source:
            io_uring_register(2), ``IORING_REGISTER_BUFFERS_UPDATE``.
        """
        self._check_owner()
        self._check_range(offset, len(buffers), len(self._buffers), "buffer table")
        pinned, iovecs = vectors(buffers)
        done = self._update_table(
            "update buffers", int(abi.IORING_REGISTER_BUFFERS_UPDATE), offset, "QQ", iovecs, tags
        )
        for i in range(done):
            self._retire(self._buffers[offset + i])
            self._buffers[offset + i] = pinned[i]
        return done

    def unregister_buffers(self) -> None:
        """Removes the buffer table. Operations in flight keep their memory.

        Raises:
            OSError: ``ENXIO`` without a table.

        Since:
            Linux 5.1.

        Source:
            io_uring_register(2), ``IORING_UNREGISTER_BUFFERS``.
        """
        self._check_owner()
        self._kernel.register(int(abi.IORING_UNREGISTER_BUFFERS), None, 0, "unregister buffers")
        self._retire(*self._buffers)
        self._buffers = []

    def clone_buffers(
        self,
        source: BufferTable | int,
        src_off: int = 0,
        dst_off: int = 0,
        count: int = 0,
        replace: bool = False,
    ) -> None:
        """Shares registered buffers of another ring of this process, without pinning them again.

        Args:
            source: the ring, or its descriptor.
            src_off: the first slot of ``source``, from 0 on.
            dst_off: the first slot of this ring, from 0 on.
            count: how many slots; 0: all from ``src_off`` on.
            replace: slots in use are replaced.

        Raises:
            ValueError: the descriptor is no open ring of this process, or a range is past the end.
            OSError: ``EBUSY`` when a table exists and ``replace`` is false, ``ENXIO`` without a table at the
                source.

        Since:
            Linux 6.12; part of a table 6.13.

        Source:
            io_uring_register(2), ``IORING_REGISTER_CLONE_BUFFERS``.
        """
        self._check_owner()
        ring = source if isinstance(source, BufferTable) else _rings.get(source)
        if ring is None or ring.closed:
            raise ValueError(f"{source!r} is no open ring of this process")
        self._clone(ring, ring.fileno(), 0, src_off, dst_off, count, replace)

    def clone_buffers_from_registered(
        self, index: int, src_off: int = 0, dst_off: int = 0, count: int = 0, replace: bool = False
    ) -> None:
        """As `clone_buffers`, from a ring that this ring registered by `register_ring_fd`.

        Args:
            index: what `register_ring_fd` returned, 0 to 15.
            src_off: the first slot of that ring, from 0 on.
            dst_off: the first slot of this ring, from 0 on.
            count: how many slots; 0: all from ``src_off`` on.
            replace: slots in use are replaced.

        Raises:
            ValueError: no ring is registered under ``index``, or a range is past the end.
            OSError: as `clone_buffers`.

        Since:
            Linux 6.12; part of a table 6.13.

        Source:
            io_uring_register(2), ``IORING_REGISTER_CLONE_BUFFERS``.
        """
        self._check_owner()
        ring = self._registered_rings.get(index)
        if ring is None:
            raise ValueError(f"no ring is registered under index {index!r}")
        self._clone(ring, index, int(abi.IORING_REGISTER_SRC_REGISTERED), src_off, dst_off, count, replace)

    def _clone(
        self,
        ring: BufferTable,
        source: int,
        flags: int,
        src_off: int,
        dst_off: int,
        count: int,
        replace: bool,
    ) -> None:
        theirs = ring._buffers
        check_int("src_off", src_off, 0, len(theirs))
        check_int("count", count, 0, len(theirs) - src_off)
        check_int("dst_off", dst_off, 0, REGISTER_BUFFERS_MOST)
        memory = zeroed(layouts.CLONE_BUFFERS.size)
        flags |= int(abi.IORING_REGISTER_DST_REPLACE) if replace else 0
        layouts.CLONE_BUFFERS.pack_into(memory.view, 0, source, flags, src_off, dst_off, count)
        self._kernel.register(int(abi.IORING_REGISTER_CLONE_BUFFERS), memory.address, 1, "clone buffers")
        taken = theirs[src_off : src_off + count] if count else theirs[src_off:]
        end = dst_off + len(taken)
        # Without a range the kernel replaces the whole table; with one, slots outside it stay.
        self._buffers += [None] * (end - len(self._buffers))
        self._retire(*self._buffers[dst_off:end])
        self._buffers[dst_off:end] = taken

    def _release_resources(self, leak: bool) -> None:
        super()._release_resources(leak)
        if not leak:
            self._buffers = []
            self._retired.clear()
