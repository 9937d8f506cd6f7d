"""Registrations of a ring: files, buffers, credentials, limits, notification, waiting, size, cancelling.

Memory that is registered stays where it is until it is unregistered and everything that was in flight then
has ended. Tags come back as completions in reserved mode (`uring.SQEContext.message`), so that they can
never be taken for the completion of a request.
"""

from __future__ import annotations

import errno
import struct
import weakref
from typing import TYPE_CHECKING, Any, cast

from . import abi
from .abi import layouts
from .core import RingCore
from .errors import NotSupported
from .memory import pin_writable, zeroed
from .ops.base import check_fd, check_int
from .options import REGISTER_BUFFERS_MOST
from .pools import BufferPool
from .queries import QueryOpcode, QuerySCQ, QueryZCRX, query_opcodes, query_scq, query_zcrx
from .regions import MemRegion, WaitRegion

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Registrations"]

_FILES_MOST = 1 << 20
_UINT_MAX = (1 << 32) - 1
_MESSAGE_MAX = (1 << 62) - 1
_RESERVED = 3 << 62
_RINGS_MOST = 16

_rings: weakref.WeakValueDictionary[int, Registrations] = weakref.WeakValueDictionary()
"""Rings of this process by descriptor: whose memory a clone has to keep."""


class Registrations(RingCore):
    """io_uring_register(2) of one ring. Only the ring's own thread may register, unless it has several."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._files = 0
        self._buffers: list[tuple[memoryview, object] | None] = []
        self._retired: list[object] = []
        self._own_regions: list[MemRegion] = []
        self._registered_rings: dict[int, Registrations] = {}
        self._entered_through: int | None = None
        if not self.options.registered_fd:
            _rings[self._kernel.fd] = self

    # ---- files ---------------------------------------------------------------------------------------

    @property
    def registered_file_count(self) -> int:
        """Slots of the file table; 0 without one."""
        return self._files

    def register_files(self, fds: Sequence[int], tags: Sequence[int] = ()) -> None:
        """Registers descriptors, -1 for a slot left empty (Linux 5.1; tags 5.13).

        A tag other than 0 comes back as a completion once its file is gone from the table and unused.

        Raises:
            FileExistsError: there is a table already. ValueError: none, too many, or no descriptor.
        """
        self._check_owner()
        numbers = [check_int("a descriptor", fd, -1, (1 << 31) - 1) for fd in fds]
        self._register_table("register files", int(abi.IORING_REGISTER_FILES2), "i", numbers, tags)
        self._files = len(numbers)

    def register_files_sparse(self, count: int) -> None:
        """A file table of ``count`` empty slots (Linux 5.19).

        Raises:
            FileExistsError: there is a table already. ValueError: not 1 to 1048576.
        """
        self._check_owner()
        check_int("count", count, 1, _FILES_MOST)
        self._register_sparse("register files", int(abi.IORING_REGISTER_FILES2), count)
        self._files = count

    def register_files_update(self, offset: int, fds: Sequence[int], tags: Sequence[int] = ()) -> int:
        """Replaces slots from ``offset`` on: a descriptor, -1 to empty a slot, -2 to leave it as it is
        (Linux 5.5). Returns how many were updated.

        Raises:
            ValueError: past the end of the table, or there is none. OSError: a bad descriptor (``EBADF``).
        """
        self._check_owner()
        numbers = [check_int("a descriptor", fd, -2, (1 << 31) - 1) for fd in fds]
        self._check_range(offset, len(numbers), self._files, "file table")
        return self._update_table(
            "update files", int(abi.IORING_REGISTER_FILES_UPDATE2), offset, "i", numbers, tags
        )

    def register_file_alloc_range(self, offset: int, count: int) -> None:
        """Slots that ``IORING_FILE_INDEX_ALLOC`` chooses from (Linux 6.0)."""
        self._check_owner()
        self._check_range(offset, count, self._files, "file table")
        memory = zeroed(layouts.FILE_INDEX_RANGE.size)
        layouts.FILE_INDEX_RANGE.pack_into(memory.view, 0, offset, count)
        self._kernel.register(int(abi.IORING_REGISTER_FILE_ALLOC_RANGE), memory.address, 0, "set file range")

    def unregister_files(self) -> None:
        """Removes the file table; operations in flight keep their files. Raises OSError ENXIO without one."""
        self._check_owner()
        self._kernel.register(int(abi.IORING_UNREGISTER_FILES), None, 0, "unregister files")
        self._files = 0

    # ---- buffers -------------------------------------------------------------------------------------

    @property
    def registered_buffer_count(self) -> int:
        """Slots of the buffer table; 0 without one."""
        return len(self._buffers)

    def registered_buffer(self, index: int) -> memoryview:
        """The memory of a registered buffer.

        Raises:
            IndexError: no such slot, or empty, or cloned from a ring whose memory is not this process's.
        """
        self._check_open()
        if not 0 <= index < len(self._buffers) or self._buffers[index] is None:
            raise IndexError(f"registered buffer {index} of {len(self._buffers)} does not exist")
        return cast("tuple[memoryview, object]", self._buffers[index])[0]

    def register_buffers(self, buffers: Sequence[Any], tags: Sequence[int] = ()) -> None:
        """Registers writable buffers, None for an empty slot: up to 16384 of up to 1 GiB (Linux 5.1).

        Raises:
            FileExistsError: buffers are registered already. TypeError: a read-only buffer.
            OSError: ``ENOMEM`` past RLIMIT_MEMLOCK, ``EFAULT`` for memory that cannot be pinned.
        """
        self._check_owner()
        check_int("the number of buffers", len(buffers), 1, REGISTER_BUFFERS_MOST)
        pinned, vectors = _vectors(buffers)
        self._register_table("register buffers", int(abi.IORING_REGISTER_BUFFERS2), "QQ", vectors, tags)
        self._buffers = pinned

    def register_buffer_pool(self, pool: BufferPool) -> None:
        """Registers every buffer of a pool; buffer i of the pool is registered buffer i."""
        if not isinstance(pool, BufferPool):
            raise TypeError(f"a RegisterBufferPool is needed, not {type(pool).__name__}")
        self.register_buffers(pool.views)

    def register_buffers_sparse(self, count: int) -> None:
        """A buffer table of ``count`` empty slots (Linux 5.19)."""
        self._check_owner()
        check_int("count", count, 1, REGISTER_BUFFERS_MOST)
        self._register_sparse("register buffers", int(abi.IORING_REGISTER_BUFFERS2), count)
        self._buffers = [None] * count

    def register_buffers_update(self, offset: int, buffers: Sequence[Any], tags: Sequence[int] = ()) -> int:
        """Replaces slots from ``offset`` on, None empties one (Linux 5.13). Returns how many."""
        self._check_owner()
        self._check_range(offset, len(buffers), len(self._buffers), "buffer table")
        pinned, vectors = _vectors(buffers)
        done = self._update_table(
            "update buffers", int(abi.IORING_REGISTER_BUFFERS_UPDATE), offset, "QQ", vectors, tags
        )
        for i in range(done):
            self._retire(self._buffers[offset + i])
            self._buffers[offset + i] = pinned[i]
        return done

    def unregister_buffers(self) -> None:
        """Removes the buffer table. Raises OSError ``ENXIO`` without one."""
        self._check_owner()
        self._kernel.register(int(abi.IORING_UNREGISTER_BUFFERS), None, 0, "unregister buffers")
        self._retire(*self._buffers)
        self._buffers = []

    def clone_buffers(
        self,
        source: Registrations | int,
        src_off: int = 0,
        dst_off: int = 0,
        count: int = 0,
        replace: bool = False,
    ) -> None:
        """Shares registered buffers of another ring of this process, without pinning them again (Linux
        6.12; part of a table 6.13).

        Args:
            source: the ring, or its descriptor.
            count: how many; 0: all from ``src_off`` on.
            replace: slots in use are replaced.

        Raises:
            OSError: ``EBUSY`` when a table exists and ``replace`` is false, ``ENXIO`` without a source.
            ValueError: the descriptor is no ring of this process.
        """
        self._check_owner()
        ring = source if isinstance(source, Registrations) else _rings.get(source)
        if ring is None or ring.closed:
            raise ValueError(f"{source!r} is no open ring of this process")
        self._clone(ring, ring.fileno(), 0, src_off, dst_off, count, replace)

    def clone_buffers_from_registered(
        self, index: int, src_off: int = 0, dst_off: int = 0, count: int = 0, replace: bool = False
    ) -> None:
        """As `clone_buffers`, from a ring that this ring registered by `register_ring_fd`."""
        self._check_owner()
        ring = self._registered_rings.get(index)
        if ring is None:
            raise ValueError(f"no ring is registered under index {index!r}")
        self._clone(ring, index, int(abi.IORING_REGISTER_SRC_REGISTERED), src_off, dst_off, count, replace)

    # ---- rings, credentials, restrictions ------------------------------------------------------------

    def register_ring_fd(self, ring: Registrations | None = None) -> int:
        """Registers a ring with this thread, itself when None, and returns its index (Linux 5.18). This
        ring then enters through the index, which saves the kernel looking the descriptor up.

        Raises:
            OSError: ``EBUSY`` when the thread's 16 places are taken.
        """
        self._check_owner()
        target = self if ring is None else ring
        if not isinstance(target, Registrations):
            raise TypeError(f"a Ring is needed, not {type(ring).__name__}")
        memory = zeroed(layouts.RSRC_UPDATE.size)
        layouts.RSRC_UPDATE.pack_into(memory.view, 0, _UINT_MAX, 0, target.fileno())
        self._kernel.register(int(abi.IORING_REGISTER_RING_FDS), memory.address, 1, "register ring fd")
        index: int = layouts.RSRC_UPDATE.unpack_from(memory.view, 0)[0]
        self._registered_rings[index] = target
        if target is self and not self.options.multi_issuers:
            self._entered_through = index
            self._kernel.enter_through(index)
        return index

    def unregister_ring_fd(self, index: int) -> None:
        """Frees an index of `register_ring_fd`."""
        self._check_owner()
        if index not in self._registered_rings:
            raise ValueError(f"no ring is registered under index {index!r}")
        if index == self._entered_through:
            self._kernel.enter_through(None)
            self._entered_through = None
        memory = zeroed(layouts.RSRC_UPDATE.size)
        layouts.RSRC_UPDATE.pack_into(memory.view, 0, index, 0, 0)
        self._kernel.register(int(abi.IORING_UNREGISTER_RING_FDS), memory.address, 1, "unregister ring fd")
        del self._registered_rings[index]

    def register_personality(self) -> int:
        """Registers this thread's credentials; the number is an operation's ``personality`` (Linux 5.6)."""
        self._check_owner()
        return self._kernel.register(int(abi.IORING_REGISTER_PERSONALITY), None, 0, "register personality")

    def unregister_personality(self, personality: int) -> None:
        """Forgets credentials. Raises OSError ``EINVAL`` for an unknown number."""
        self._check_owner()
        check_int("personality", personality, 1, 0xFFFF)
        self._kernel.register(
            int(abi.IORING_UNREGISTER_PERSONALITY), None, personality, "unregister personality"
        )

    def register_restrictions(self, restrictions: Iterable[tuple[int, int]]) -> None:
        """What the ring may do once it is started, as (``IORING_RESTRICTION_*``, value) pairs (Linux 5.10):
        all that is not listed fails with ``EACCES``. Once, before `start`.

        Raises:
            OSError: the ring is started (``EBADFD``), or restricted already (``EBUSY``).
        """
        self._check_owner()
        pairs = list(restrictions)
        check_int("the number of restrictions", len(pairs), 1, 1 << 16)
        memory = zeroed(len(pairs) * layouts.RESTRICTION.size)
        for i, (kind, value) in enumerate(pairs):
            check_int("a restriction", kind, 0, 3)
            check_int("a restriction's value", value, 0, 0xFF)
            layouts.RESTRICTION.pack_into(memory.view, i * layouts.RESTRICTION.size, int(kind), int(value))
        self._kernel.register(
            int(abi.IORING_REGISTER_RESTRICTIONS), memory.address, len(pairs), "register restrictions"
        )

    # ---- workers, notification, time -----------------------------------------------------------------

    def register_iowq_affinity(self, cpus: Iterable[int]) -> None:
        """Binds the kernel workers to these processors (Linux 5.14)."""
        self._check_owner()
        numbers = [check_int("a processor", cpu, 0, 8191) for cpu in cpus]
        if not numbers:
            raise ValueError("at least one processor is needed")
        size = max(numbers) // 8 + 1
        memory = zeroed(size)
        for cpu in numbers:
            memory.view[cpu // 8] |= 1 << cpu % 8
        self._kernel.register(int(abi.IORING_REGISTER_IOWQ_AFF), memory.address, size, "bind workers")

    def unregister_iowq_affinity(self) -> None:
        """Lets the kernel workers run anywhere again."""
        self._check_owner()
        self._kernel.register(int(abi.IORING_UNREGISTER_IOWQ_AFF), None, 0, "unbind workers")

    def register_iowq_max_workers(self, bounded: int = 0, unbounded: int = 0) -> tuple[int, int]:
        """Limits the kernel workers for files, and for what may wait without end; 0 leaves a limit as it
        is (Linux 5.15). Returns the limits before."""
        self._check_owner()
        memory = zeroed(8)
        struct.pack_into(
            "=II",
            memory.view,
            0,
            check_int("bounded", bounded, 0, _UINT_MAX),
            check_int("unbounded", unbounded, 0, _UINT_MAX),
        )
        self._kernel.register(int(abi.IORING_REGISTER_IOWQ_MAX_WORKERS), memory.address, 2, "limit workers")
        before: tuple[int, int] = struct.unpack_from("=II", memory.view, 0)
        return before

    def register_eventfd(self, fd: Any, *, async_only: bool = False) -> None:
        """Signals an eventfd when completions are posted, or deferred work waits to be run by `wait`
        (Linux 5.2). ``async_only``: not for what completes while it is submitted (5.6).

        Raises:
            OSError: there is one already (``EBUSY``), or the descriptor is no eventfd (``EINVAL``).
        """
        self._check_owner()
        memory = zeroed(4)
        struct.pack_into("=i", memory.view, 0, check_fd(fd))
        opcode = abi.IORING_REGISTER_EVENTFD_ASYNC if async_only else abi.IORING_REGISTER_EVENTFD
        self._kernel.register(int(opcode), memory.address, 1, "register eventfd")

    def unregister_eventfd(self) -> None:
        """Stops the signalling. Raises OSError ``ENXIO`` without one."""
        self._check_owner()
        self._kernel.register(int(abi.IORING_UNREGISTER_EVENTFD), None, 0, "unregister eventfd")

    def register_napi(
        self, busy_poll_timeout: int, prefer_busy_poll: bool = False, strategy: int = 0
    ) -> None:
        """Polls network devices for so many microseconds before waits (Linux 6.9; strategies 6.13).

        ``strategy`` is ``IO_URING_NAPI_TRACKING_DYNAMIC``, ``_STATIC`` or ``_INACTIVE``.
        """
        timeout = check_int("busy_poll_timeout", busy_poll_timeout, 0, _UINT_MAX)
        self._napi(
            abi.IORING_REGISTER_NAPI, timeout, prefer_busy_poll, abi.IO_URING_NAPI_REGISTER_OP, strategy
        )

    def unregister_napi(self) -> None:
        """Ends busy polling."""
        self._napi(abi.IORING_UNREGISTER_NAPI, 0, False, 0, 0)

    def napi_add_static_id(self, napi_id: int) -> None:
        """Adds a device queue to poll, under static tracking (Linux 6.13)."""
        self._napi(abi.IORING_REGISTER_NAPI, 0, False, abi.IO_URING_NAPI_STATIC_ADD_ID, napi_id)

    def napi_del_static_id(self, napi_id: int) -> None:
        """Removes a device queue (Linux 6.13)."""
        self._napi(abi.IORING_REGISTER_NAPI, 0, False, abi.IO_URING_NAPI_STATIC_DEL_ID, napi_id)

    def register_clock(self, clock_id: int) -> None:
        """The clock of waits: ``time.CLOCK_MONOTONIC`` or ``time.CLOCK_BOOTTIME`` (Linux 6.12)."""
        self._check_owner()
        memory = zeroed(layouts.CLOCK_REGISTER.size)
        layouts.CLOCK_REGISTER.pack_into(memory.view, 0, check_int("clock_id", clock_id, 0, _UINT_MAX))
        self._kernel.register(int(abi.IORING_REGISTER_CLOCK), memory.address, 0, "register clock")

    # ---- regions, size -------------------------------------------------------------------------------

    def register_mem_region(self, size: int, flags: int = 0) -> MemRegion:
        """Memory that this process and the kernel share (Linux 6.13): ``size`` bytes, whole pages.

        Raises:
            OSError: a region exists already (``EBUSY``); ``IORING_MEM_REGION_REG_WAIT_ARG`` after the start
                (``EINVAL``).
        """
        self._check_owner()
        region = MemRegion(check_int("size", size, 1, 1 << 40))
        self._register_region(region, check_int("flags", flags, 0, (1 << 64) - 1))
        return region

    def register_wait_region(self, entries: int) -> WaitRegion:
        """Room for ``entries`` sets of wait arguments, for `wait_registered`. Once, before `start`."""
        self._check_owner()
        region = WaitRegion(check_int("entries", entries, 1, 1 << 16))
        self._register_region(region, int(abi.IORING_MEM_REGION_REG_WAIT_ARG))
        return region

    def resize_rings(self, new_sq_size: int = 0, new_cq_size: int = 0) -> None:
        """Replaces the queues by larger or smaller ones; what is queued moves over (Linux 6.13).

        Args:
            new_sq_size: 0 keeps it. new_cq_size: 0 makes it twice the submission queue. Powers of two.

        Raises:
            NotSupported: only rings with deferred work, the default, can be resized.
            OSError: ``EOVERFLOW`` when what is queued does not fit.
        """
        self._check_usable()
        if not self._kernel.flags & abi.IORING_SETUP_DEFER_TASKRUN:
            raise NotSupported("resizing this ring", "deferred work: neither multi_issuers nor sqpoll")
        sq = check_int("new_sq_size", new_sq_size, 0, 32768) or self._kernel.sq_entries
        cq = check_int("new_cq_size", new_cq_size, 0, 65536) or 2 * sq
        if sq & (sq - 1) or cq & (cq - 1) or cq < sq:
            raise ValueError(
                f"sizes are powers of two, completions not fewer than submissions: not {sq} and {cq}"
            )
        if self._chain:
            self.flush()
        self._kernel.resize(sq, cq)

    # ---- cancelling, messages, queries ---------------------------------------------------------------

    def sync_cancel(
        self,
        user_data: int | None = None,
        *,
        fd: Any = None,
        opcode: int | None = None,
        all: bool = False,
        any: bool = False,
        timeout: float = 1.0,
    ) -> int:
        """Cancels and waits until the targets are done (Linux 6.0): by value, descriptor, opcode, or any.
        Their completions come as always. Returns the number found with ``all`` or ``any``, else 0.

        Raises:
            FileNotFoundError: nothing matches. TimeoutError: not done within ``timeout`` seconds.
            ValueError: no target, or a value that several in flight share without ``all``.
        """
        self._check_usable()
        if user_data is None and fd is None and opcode is None and not any:
            raise ValueError("say what to cancel: user_data, fd, opcode or any")
        if any and not (user_data is fd is opcode is None):
            raise ValueError("any excludes other targets")
        flags = 0
        for wanted, flag in (
            (all, abi.IORING_ASYNC_CANCEL_ALL),
            (any, abi.IORING_ASYNC_CANCEL_ANY),
            (fd is not None, abi.IORING_ASYNC_CANCEL_FD),
            (opcode is not None, abi.IORING_ASYNC_CANCEL_OP),
            (user_data is not None and not (fd is opcode is None), abi.IORING_ASYNC_CANCEL_USERDATA),
        ):
            flags |= int(flag) if wanted else 0
        value = check_int("user_data", user_data or 0, 0, (1 << 64) - 1)
        if user_data is not None and not all and self._kernel.count(value) > 1:
            raise ValueError("several operations in flight share this value: give all=True, or use slots")
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 <= timeout < 1 << 31:
            raise ValueError(f"timeout is 0 or more seconds, not {timeout!r}")
        self.flush()
        memory = zeroed(layouts.SYNC_CANCEL_REG.size)
        layouts.SYNC_CANCEL_REG.pack_into(
            memory.view,
            0,
            value,
            -1 if fd is None else check_fd(fd),
            flags,
            int(timeout),
            int(timeout % 1 * 1e9),
            0 if opcode is None else check_int("opcode", opcode, 0, 0xFF),
        )
        return self._kernel.register(int(abi.IORING_REGISTER_SYNC_CANCEL), memory.address, 1, "cancel")

    def query_opcodes(self) -> QueryOpcode:
        """What the kernel has; see `uring.query_opcodes`."""
        return query_opcodes()

    def query_zcrx(self) -> QueryZCRX:
        """Zero-copy receive; see `uring.query_zcrx`."""
        return query_zcrx()

    def query_scq(self) -> QuerySCQ:
        """The queues' headers; see `uring.query_scq`."""
        return query_scq()

    # ---- inside --------------------------------------------------------------------------------------

    def _register_table(
        self, what: str, opcode: int, kind: str, items: Sequence[Any], tags: Sequence[int]
    ) -> None:
        if not items:
            raise ValueError(f"{what}: at least one is needed")
        data, tagged = _packed(kind, items, tags)
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
            if error.errno != errno.EBUSY:
                raise
            raise FileExistsError(
                errno.EEXIST, f"{what}: there is a table already, unregister it first"
            ) from None

    def _update_table(
        self, what: str, opcode: int, offset: int, kind: str, items: Sequence[Any], tags: Sequence[int]
    ) -> int:
        data, tagged = _packed(kind, items, tags)
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
        ring: Registrations,
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

    def _napi(self, register: int, timeout: int, prefer: bool, opcode: int, parameter: int) -> None:
        self._check_owner()
        memory = zeroed(layouts.NAPI.size)
        parameter = check_int("the NAPI parameter", parameter, 0, _UINT_MAX)
        layouts.NAPI.pack_into(memory.view, 0, timeout, int(prefer), int(opcode), parameter)
        self._kernel.register(int(register), memory.address, 1, "NAPI")

    def _register_region(self, region: MemRegion, flags: int) -> None:
        descriptor = zeroed(layouts.REGION_DESC.size)
        user = int(abi.IORING_MEM_REGION_TYPE_USER)
        layouts.REGION_DESC.pack_into(descriptor.view, 0, region.address, region.size, user, 0, 0)
        memory = zeroed(layouts.MEM_REGION_REG.size)
        layouts.MEM_REGION_REG.pack_into(memory.view, 0, descriptor.address, flags)
        self._kernel.register(
            int(abi.IORING_REGISTER_MEM_REGION), memory.address, 1, "register memory region"
        )
        self._own_regions.append(region)

    def _retire(self, *pins: object) -> None:
        """Memory that the kernel has let go of, but for operations in flight on it."""
        if self._kernel.inflight == 0:
            self._retired.clear()
        else:
            self._retired += [each for each in pins if each is not None]

    def _release_resources(self, leak: bool) -> None:
        super()._release_resources(leak)
        for index in list(self._registered_rings):
            if not self._kernel.closed and not leak:
                self._owner_is_here_unregister(index)
        if not leak:
            self._buffers = []
            self._retired.clear()
            self._own_regions.clear()

    def _owner_is_here_unregister(self, index: int) -> None:
        memory = zeroed(layouts.RSRC_UPDATE.size)
        layouts.RSRC_UPDATE.pack_into(memory.view, 0, index, 0, 0)
        try:
            self._kernel.register(
                int(abi.IORING_UNREGISTER_RING_FDS), memory.address, 1, "unregister ring fd"
            )
        except OSError:
            pass  # a restricted ring may not: the index goes with the thread
        self._registered_rings.pop(index, None)


def _vectors(
    buffers: Sequence[Any],
) -> tuple[list[tuple[memoryview, object] | None], list[tuple[int, int]]]:
    """Pinned views of the buffers, and their iovecs; None is an empty slot."""
    pinned: list[tuple[memoryview, object] | None] = []
    vectors = []
    for buffer in buffers:
        if buffer is None:
            pinned.append(None)
            vectors.append((0, 0))
            continue
        address, length, held = pin_writable(buffer)
        if not 1 <= length <= 1 << 30:
            raise ValueError(f"a registered buffer has 1 byte to 1 GiB, not {length}")
        pinned.append((memoryview(buffer).cast("B"), held))
        vectors.append((address, length))
    return pinned, vectors


def _packed(kind: str, items: Sequence[Any], tags: Sequence[int]) -> tuple[Any, Any]:
    """Items and tags as arrays in memory of their own."""
    packer = struct.Struct("=" + kind)
    data = zeroed(packer.size * len(items))
    for i, item in enumerate(items):
        packer.pack_into(data.view, i * packer.size, *(item if isinstance(item, tuple) else (item,)))
    if not tags:
        return data, None
    if len(tags) != len(items):
        raise ValueError(f"there are {len(items)} items and {len(tags)} tags")
    tagged = zeroed(8 * len(tags))
    for i, tag in enumerate(tags):
        tag = check_int("a tag", tag, 0, _MESSAGE_MAX)
        struct.pack_into("=Q", tagged.view, 8 * i, tag and tag | _RESERVED)
    return data, tagged
