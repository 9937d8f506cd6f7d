"""Registrations besides tables and settings: rings, regions, size; cancelling at once; queries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .. import abi
from ..abi import layouts
from ..errors import NotSupported
from ..kernel.memory import zeroed
from ..ops.base import check_fd, check_int, renamed
from . import queries
from .regions import MemRegion, WaitRegion
from .settings import Settings

if TYPE_CHECKING:
    from ..ops.base import Fd

__all__ = ["Registrations"]

_UINT_MAX = (1 << 32) - 1


class Registrations(Settings):
    """io_uring_register(2) of one ring. Only the ring's own thread may register, unless it has several."""

    query_opcodes: Final = staticmethod(queries.query_opcodes)
    query_zcrx: Final = staticmethod(queries.query_zcrx)
    query_scq: Final = staticmethod(queries.query_scq)

    def _prepare(self) -> None:
        super()._prepare()
        self._own_regions: list[MemRegion] = []
        self._entered_through: int | None = None

    # ---- rings ---------------------------------------------------------------------------------------

    def register_ring_fd(self, ring: Registrations | None = None) -> int:
        """Registers a ring with this thread.

        This ring then enters the kernel through the index, which saves the look-up of its descriptor.

        Args:
            ring: the ring to register; None is this one.

        Returns:
            The index, 0 to 15.

        Raises:
            TypeError: ``ring`` is no ring.
            OSError: ``EBUSY`` when the thread's 16 places are taken.

        Since:
            Linux 5.18.

        Source:
            io_uring_register(2), ``IORING_REGISTER_RING_FDS``.
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
        """Frees an index of `register_ring_fd`.

        Args:
            index: the index, 0 to 15.

        Raises:
            ValueError: no ring is registered under it.

        Since:
            Linux 5.18.

        Source:
            io_uring_register(2), ``IORING_UNREGISTER_RING_FDS``.
        """
        self._check_owner()
        if index not in self._registered_rings:
            raise ValueError(f"no ring is registered under index {index!r}")
        if index == self._entered_through:
            self._kernel.enter_through(None)
            self._entered_through = None
        self._free_ring_index(index)
        del self._registered_rings[index]

    # ---- regions, size -------------------------------------------------------------------------------

    def register_mem_region(self, size: int, flags: int = 0) -> MemRegion:
        """Registers memory that this process and the kernel share. Once.

        Args:
            size: bytes, 1 to 2**40, rounded up to whole pages.
            flags: ``IORING_MEM_REGION_*`` bits, 0 to 2**64 - 1.

        Returns:
            The region.

        Raises:
            OSError: ``EBUSY`` when there is a region; ``EINVAL`` for ``IORING_MEM_REGION_REG_WAIT_ARG`` after
                `start`.

        Since:
            Linux 6.13.

        Source:
            io_uring_register(2), ``IORING_REGISTER_MEM_REGION``.
        """
        self._check_owner()
        region = MemRegion(check_int("size", size, 1, 1 << 40))
        self._register_region(region, check_int("flags", flags, 0, (1 << 64) - 1))
        return region

    def register_wait_region(self, entries: int) -> WaitRegion:
        """Registers room for wait arguments, for `wait_registered`. Once, before `start`.

        Args:
            entries: how many sets, 1 to 65536.

        Returns:
            The region.

        Raises:
            OSError: ``EBUSY`` when there is a region, ``EINVAL`` after `start`.

        Since:
            Linux 6.13.

        Source:
            io_uring_register(2), ``IORING_REGISTER_MEM_REGION``, ``IORING_MEM_REGION_REG_WAIT_ARG``.
        """
        self._check_owner()
        region = WaitRegion(check_int("entries", entries, 1, 1 << 16))
        self._register_region(region, int(abi.IORING_MEM_REGION_REG_WAIT_ARG))
        return region

    def resize_rings(self, new_sq_size: int = 0, new_cq_size: int = 0) -> None:
        """Replaces the queues by larger or smaller ones; the kernel copies their entries.

        Args:
            new_sq_size: entries for submission, a power of two up to 32768; 0 keeps the number.
            new_cq_size: completions, a power of two up to 65536; 0 is twice the entries.

        Raises:
            NotSupported: only rings with deferred work, the default, can be resized.
            ValueError: no powers of two, or fewer completions than entries.
            OSError: ``EOVERFLOW`` when the entries do not fit.

        Since:
            Linux 6.13.

        Source:
            io_uring_register(2), ``IORING_REGISTER_RESIZE_RINGS``.
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

    @renamed(all="every", any="anything")
    def sync_cancel(
        self,
        user_data: int | None = None,
        *,
        fd: Fd | None = None,
        opcode: int | None = None,
        every: bool = False,
        anything: bool = False,
        timeout: float = 1.0,
    ) -> int:
        """Cancels operations and waits until they have ended. Their completions still arrive.

        Args:
            user_data: the value under which they were submitted, 0 to 2**64 - 1.
            fd: a descriptor that they work on, or an object with ``fileno()``.
            opcode: their kind, ``IORING_OP_*``, 0 to 255.
            every: all that match, instead of the first that is found. The keyword ``all`` works too.
            anything: all that is in flight; it excludes other targets. The keyword ``any`` works too.
            timeout: seconds to wait, 0 to 2**31.

        Returns:
            How many were found, with ``every`` or ``anything``; else 0.

        Raises:
            FileNotFoundError: nothing matches.
            TimeoutError: they did not end within ``timeout`` seconds.
            ValueError: no target, or a value that several in flight share without ``every``.

        Since:
            Linux 6.0.

        Source:
            io_uring_register(2), ``IORING_REGISTER_SYNC_CANCEL``.
        """
        self._check_usable()
        if user_data is None and fd is None and opcode is None and not anything:
            raise ValueError("say what to cancel: user_data, fd, opcode or anything")
        if anything and not (user_data is fd is opcode is None):
            raise ValueError("anything excludes other targets")
        flags = 0
        for wanted, flag in (
            (every, abi.IORING_ASYNC_CANCEL_ALL),
            (anything, abi.IORING_ASYNC_CANCEL_ANY),
            (fd is not None, abi.IORING_ASYNC_CANCEL_FD),
            (opcode is not None, abi.IORING_ASYNC_CANCEL_OP),
            (user_data is not None and not (fd is opcode is None), abi.IORING_ASYNC_CANCEL_USERDATA),
        ):
            flags |= int(flag) if wanted else 0
        value = check_int("user_data", user_data or 0, 0, (1 << 64) - 1)
        if user_data is not None and not every and self._kernel.count(value) > 1:
            raise ValueError("several operations in flight share this value: give every=True, or use slots")
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 <= timeout < 1 << 31:
            raise ValueError(f"timeout is 0 or more seconds, not {timeout!r}")
        self._flush_all()
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

    # ---- inside --------------------------------------------------------------------------------------

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
                    pass  # a restricted ring may not: the kernel frees the index with the thread
        self._registered_rings.clear()
        if not leak:
            self._own_regions.clear()

    def _free_ring_index(self, index: int) -> None:
        memory = zeroed(layouts.RSRC_UPDATE.size)
        layouts.RSRC_UPDATE.pack_into(memory.view, 0, index, 0, 0)
        self._kernel.register(int(abi.IORING_UNREGISTER_RING_FDS), memory.address, 1, "unregister ring fd")
