"""The tables of files and buffers that requests name by index.

Registered memory is kept until it is unregistered and all operations that were in flight at that time have
ended. Tags come back as completions in reserved mode (`uring.SQEContext.message`), so that they can
never be taken for the completion of a request.
"""

from __future__ import annotations

import errno
import weakref
from typing import TYPE_CHECKING, Any, cast

from .. import abi
from ..abi import layouts
from ..kernel.memory import zeroed
from ..ops.base import check_int
from ..options import REGISTER_BUFFERS_MOST
from .arrays import packed, vectors
from .life import RingCore
from .pools import BufferPool
from .registered import Registered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer, Unpack

    from ..options import OptionFields, Options

__all__ = ["Tables"]

_FILES_MOST = 1 << 20
_UINT_MAX = (1 << 32) - 1

_rings: weakref.WeakValueDictionary[int, Tables] = weakref.WeakValueDictionary()
"""Rings of this process by descriptor: whose memory a clone has to keep."""


class Tables(RingCore):
    """Registered files and buffers. Only the ring's own thread may register, unless it has several."""

    def __init__(self, options: Options | None = None, **changes: Unpack[OptionFields]) -> None:
        super().__init__(options, **changes)
        self._files = 0
        self._buffers: list[tuple[memoryview, object] | None] = []
        self._retired: list[object] = []
        self._registered_rings: dict[int, Tables] = {}
        if not self.options.registered_fd:
            _rings[self._kernel.fd] = self

    @property
    def registered_file_count(self) -> int:
        """Slots of the file table; 0 without one."""
        return self._files

    def register_files(self, fds: Sequence[int], tags: Sequence[int] = ()) -> Registered:
        """Registers descriptors, so that operations name them by slot.

        Args:
            fds: 1 to 1048576 descriptors, fd i for slot i; -1 leaves a slot empty.
            tags: a number for each, 0 to 2**62 - 1. One other than 0 comes back as a completion
                (`uring.SQEContext.message`) once its file is gone from the table and unused (Linux 5.13).

        Raises:
            FileExistsError: there is a table already.
            ValueError: no descriptor, too many, or another number of tags.
            OSError: ``EBADF`` for one that is not open, or a ring's; ``EMFILE`` past ``RLIMIT_NOFILE``.

        Since:
            Linux 5.1.

        Source:
            io_uring_register(2), ``IORING_REGISTER_FILES2``.
        """
        self._check_owner()
        numbers = [check_int("a descriptor", fd, -1, (1 << 31) - 1) for fd in fds]
        self._register_table("register files", int(abi.IORING_REGISTER_FILES2), "i", numbers, tags)
        self._files = len(numbers)
        return Registered(self, self.unregister_files)

    def register_files_sparse(self, count: int) -> Registered:
        """Registers a file table of empty slots.

        Args:
            count: how many, 1 to 1048576.

        Raises:
            FileExistsError: there is a table already.
            ValueError: ``count`` is out of range.
            OSError: ``EMFILE`` past ``RLIMIT_NOFILE``.

        Since:
            Linux 5.19.

        Source:
            io_uring_register(2), ``IORING_REGISTER_FILES2``.
        """
        self._check_owner()
        check_int("count", count, 1, _FILES_MOST)
        self._register_sparse("register files", int(abi.IORING_REGISTER_FILES2), count)
        self._files = count
        return Registered(self, self.unregister_files)

    def register_files_update(self, offset: int, fds: Sequence[int], tags: Sequence[int] = ()) -> int:
        """Replaces slots of the file table. Operations in flight keep the files that they have.

        Args:
            offset: the first slot, from 0 on.
            fds: at least one: a descriptor, -1 to empty a slot, -2 to leave it as it is.
            tags: as for `register_files`.

        Returns:
            How many slots were updated; fewer than given where a descriptor after the first is bad.

        Raises:
            ValueError: past the end of the table, or there is none.
            OSError: ``EBADF`` for a first descriptor that is not open.

        Since:
            Linux 5.5.

        Source:
            io_uring_register(2), ``IORING_REGISTER_FILES_UPDATE2``.
        """
        self._check_owner()
        numbers = [check_int("a descriptor", fd, -2, (1 << 31) - 1) for fd in fds]
        self._check_range(offset, len(numbers), self._files, "file table")
        return self._update_table(
            "update files", int(abi.IORING_REGISTER_FILES_UPDATE2), offset, "i", numbers, tags
        )

    def register_file_alloc_range(self, offset: int, count: int) -> None:
        """Sets the slots that ``IORING_FILE_INDEX_ALLOC`` chooses from.

        Args:
            offset: the first slot, from 0 on.
            count: how many, from 1 on.

        Raises:
            ValueError: past the end of the table, or there is none.

        Since:
            Linux 6.0.

        Source:
            io_uring_register(2), ``IORING_REGISTER_FILE_ALLOC_RANGE``.
        """
        self._check_owner()
        self._check_range(offset, count, self._files, "file table")
        memory = zeroed(layouts.FILE_INDEX_RANGE.size)
        layouts.FILE_INDEX_RANGE.pack_into(memory.view, 0, offset, count)
        self._kernel.register(int(abi.IORING_REGISTER_FILE_ALLOC_RANGE), memory.address, 0, "set file range")

    def unregister_files(self) -> None:
        """Removes the file table. Operations in flight keep their files.

        Raises:
            OSError: ``ENXIO`` without a table.

        Since:
            Linux 5.1.

        Source:
            io_uring_register(2), ``IORING_UNREGISTER_FILES``.
        """
        self._check_owner()
        self._kernel.register(int(abi.IORING_UNREGISTER_FILES), None, 0, "unregister files")
        self._files = 0

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
        """Registers writable buffers, so that the kernel maps them once.

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
        source: Tables | int,
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
        ring = source if isinstance(source, Tables) else _rings.get(source)
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

    def _register_table(
        self, what: str, opcode: int, kind: str, items: Sequence[Any], tags: Sequence[int]
    ) -> None:
        if not items:
            raise ValueError(f"{what}: at least one is needed")
        data, tagged = packed(kind, items, tags)
        memory = zeroed(layouts.RSRC_REGISTER.size)
        layouts.RSRC_REGISTER.pack_into(
            memory.view, 0, len(items), 0, data.address, tagged.address if tagged else 0
        )
        self._register_once(what, opcode, memory)

    def _register_sparse(self, what: str, opcode: int, count: int) -> None:
        memory = zeroed(layouts.RSRC_REGISTER.size)
        layouts.RSRC_REGISTER.pack_into(memory.view, 0, count, int(abi.IORING_RSRC_REGISTER_SPARSE), 0, 0)
        self._register_once(what, opcode, memory)

    def _register_once(self, what: str, opcode: int, memory: Any) -> None:
        try:
            self._kernel.register(opcode, memory.address, layouts.RSRC_REGISTER.size, what)
        except OSError as error:
            if error.errno == errno.ENOMEM:
                from ..advice import advice  # loaded with what fails

                raise OSError(
                    errno.ENOMEM, f"{error.strerror}: {what}: {advice(errno.ENOMEM, what, 0)}"
                ) from None
            if error.errno != errno.EBUSY:
                raise
            raise FileExistsError(
                errno.EEXIST, f"{what}: there is a table already, unregister it first"
            ) from None

    def _update_table(
        self, what: str, opcode: int, offset: int, kind: str, items: Sequence[Any], tags: Sequence[int]
    ) -> int:
        data, tagged = packed(kind, items, tags)
        memory = zeroed(layouts.RSRC_UPDATE2.size)
        layouts.RSRC_UPDATE2.pack_into(
            memory.view, 0, offset, data.address, tagged.address if tagged else 0, len(items)
        )
        return self._kernel.register(opcode, memory.address, layouts.RSRC_UPDATE2.size, what)

    def _check_range(self, offset: int, count: int, size: int, table: str) -> None:
        check_int("offset", offset, 0, _UINT_MAX)
        check_int("count", count, 1, _UINT_MAX)
        if offset + count > size:
            raise ValueError(f"{offset} to {offset + count} is past the end of the {table} ({size})")

    def _clone(
        self,
        ring: Tables,
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
        # Without a range the kernel replaces the table as a whole; with one, what lies outside it stays.
        self._buffers += [None] * (end - len(self._buffers))
        self._retire(*self._buffers[dst_off:end])
        self._buffers[dst_off:end] = taken

    def _retire(self, *pins: object) -> None:
        """Memory that the kernel has let go of, but for operations in flight on it."""
        if self._kernel.inflight == 0:
            self._retired.clear()
        else:
            self._retired += [each for each in pins if each is not None]

    def _release_resources(self, leak: bool) -> None:
        super()._release_resources(leak)
        if not leak:
            self._buffers = []
            self._retired.clear()
