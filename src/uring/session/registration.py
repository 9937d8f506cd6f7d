"""Registrations besides the tables: rings, credentials, limits, notification, waiting, size, cancelling."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from .. import abi
from ..abi import layouts
from ..errors import NotSupported
from ..kernel.memory import zeroed
from ..ops.base import check_fd, check_int
from .queries import QueryOpcode, QuerySCQ, QueryZCRX, query_opcodes, query_scq, query_zcrx
from .regions import MemRegion, WaitRegion
from .tables import Tables

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Registrations"]

_UINT_MAX = (1 << 32) - 1


class Registrations(Tables):
    """io_uring_register(2) of one ring. Only the ring's own thread may register, unless it has several."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._own_regions: list[MemRegion] = []
        self._entered_through: int | None = None

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
        self._free_ring_index(index)
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
            abi.IORING_REGISTER_NAPI, timeout, bool(prefer_busy_poll), abi.IO_URING_NAPI_REGISTER_OP, strategy
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
        """The features of the kernel; see `uring.query_opcodes`."""
        return query_opcodes()

    def query_zcrx(self) -> QueryZCRX:
        """Zero-copy receive; see `uring.query_zcrx`."""
        return query_zcrx()

    def query_scq(self) -> QuerySCQ:
        """The queues' headers; see `uring.query_scq`."""
        return query_scq()

    # ---- inside --------------------------------------------------------------------------------------

    def _napi(self, register: int, timeout: int, prefer: bool, opcode: int, parameter: int) -> None:
        self._check_owner()
        memory = zeroed(layouts.NAPI.size)
        parameter = check_int("the NAPI parameter", parameter, 0, _UINT_MAX)
        layouts.NAPI.pack_into(memory.view, 0, timeout, int(bool(prefer)), int(opcode), parameter)
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
        if flags & int(abi.IORING_MEM_REGION_REG_WAIT_ARG):
            whole = region.size // layouts.REG_WAIT.size
            self._wait_entries = region.entries if isinstance(region, WaitRegion) else whole

    def _release_resources(self, leak: bool) -> None:
        super()._release_resources(leak)
        for index in list(self._registered_rings):
            if not self._kernel.closed and not leak:
                try:
                    self._free_ring_index(index)
                except OSError:
                    pass  # a restricted ring may not: the index goes with the thread
        self._registered_rings.clear()
        if not leak:
            self._own_regions.clear()

    def _free_ring_index(self, index: int) -> None:
        memory = zeroed(layouts.RSRC_UPDATE.size)
        layouts.RSRC_UPDATE.pack_into(memory.view, 0, index, 0, 0)
        self._kernel.register(int(abi.IORING_UNREGISTER_RING_FDS), memory.address, 1, "unregister ring fd")
