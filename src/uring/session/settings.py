"""Registrations that change how a ring works: credentials, restrictions, workers, notification, time."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from .. import abi
from ..abi import layouts
from ..errors import NotSupported
from ..kernel.memory import zeroed
from ..ops.base import check_fd, check_int
from .buffertable import BufferTable
from .queries import query_opcodes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..ops.base import Fd

__all__ = ["Settings"]

_UINT_MAX = (1 << 32) - 1
_PARTS = ("code", "jt", "jf", "k")
_MOST = (0xFFFF, 0xFF, 0xFF, _UINT_MAX)


class Settings(BufferTable):
    """io_uring_register(2) of one ring. Only the ring's own thread may register, unless it has several."""

    def register_personality(self) -> int:
        """Registers this thread's credentials.

        Returns:
            The number that operations take as ``personality``, from 1 on.

        Raises:
            RingClosed, RuntimeError: the ring is closed, or another thread's.

        Since:
            Linux 5.6.

        Source:
            io_uring_register(2), ``IORING_REGISTER_PERSONALITY``.
        """
        self._check_owner()
        return self._kernel.register(int(abi.IORING_REGISTER_PERSONALITY), None, 0, "register personality")

    def unregister_personality(self, personality: int) -> None:
        """Removes registered credentials.

        Args:
            personality: the number of `register_personality`, 1 to 65535.

        Raises:
            OSError: ``EINVAL`` for an unknown number.

        Since:
            Linux 5.6.

        Source:
            io_uring_register(2), ``IORING_UNREGISTER_PERSONALITY``.
        """
        self._check_owner()
        check_int("personality", personality, 1, 0xFFFF)
        self._kernel.register(
            int(abi.IORING_UNREGISTER_PERSONALITY), None, personality, "unregister personality"
        )

    def register_restrictions(self, restrictions: Iterable[tuple[int, int]]) -> None:
        """Sets what the ring may do when started; all else fails with ``EACCES``. Once, before `start`.

        Args:
            restrictions: 1 to 65536 pairs of ``IORING_RESTRICTION_*`` and a value, 0 to 255: an opcode of
                io_uring_register(2), an opcode of operations, or ``IOSQE_*`` bits.

        Raises:
            TypeError, ValueError: an item is no such pair.
            OSError: ``EBADFD`` for a ring that is started, ``EBUSY`` for one with restrictions.

        Since:
            Linux 5.10.

        Source:
            io_uring_register(2), ``IORING_REGISTER_RESTRICTIONS``.
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

    def register_bpf_filter(
        self,
        opcode: int,
        program: Iterable[tuple[int, int, int, int]],
        *,
        deny_rest: bool = False,
        pdu_size: int | None = None,
    ) -> None:
        """Registers a classic BPF program that sees each request of one kind before the kernel starts it, and
        denies it with ``EACCES`` by returning 0. Filters cannot be removed. A request passes if all
        filters of its kind allow it.

        The program reads ``struct io_uring_bpf_ctx`` in words of 32 bits: user_data at 0, opcode at 8, the
        entry's flags at 9, and from 16 on fields of the request: family, type and protocol of a ``SOCKET``;
        flags, mode and resolve, 64 bits each, of an ``OPENAT`` or ``OPENAT2``; family, port and address of a
        ``CONNECT``.

        Args:
            opcode: the kind of requests, ``IORING_OP_*``, 0 to 255.
            program: 1 to 4096 instructions as (code, jt, jf, k), see bpf(4) of BSD and linux/bpf_common.h.
            deny_rest: kinds of requests without a filter are denied.
            pdu_size: bytes that the program expects from 16 on; None: as many as the kernel has.

        Raises:
            NotSupported: the kernel is older.
            TypeError, ValueError: an instruction is no such tuple, or there is none or too many.
            OSError: ``EINVAL`` for a program or an opcode that the kernel does not take, ``EMSGSIZE`` for
                another ``pdu_size`` than the kernel's, ``EACCES`` without CAP_SYS_ADMIN and
                ``PR_SET_NO_NEW_PRIVS``.

        Since:
            Linux 7.0; ``pdu_size`` 7.1.

        Source:
            io_uring_register(2), ``IORING_REGISTER_BPF_FILTER``; linux/io_uring/bpf_filter.h.
        """
        self._check_owner()
        check_int("opcode", opcode, 0, 0xFF)
        instructions = list(program)
        check_int("the number of instructions", len(instructions), 1, 4096)
        size = 0 if pdu_size is None else check_int("pdu_size", pdu_size, 0, 0xFF)
        code = zeroed(len(instructions) * layouts.SOCK_FILTER.size)
        for i, instruction in enumerate(instructions):
            if not isinstance(instruction, tuple) or len(instruction) != 4:
                raise TypeError(f"an instruction is a tuple (code, jt, jf, k), not {instruction!r}")
            for name, value, most in zip(_PARTS, instruction, _MOST, strict=True):
                check_int(f"{name} of an instruction", value, 0, most)
            layouts.SOCK_FILTER.pack_into(code.view, i * layouts.SOCK_FILTER.size, *instruction)
        if query_opcodes().nr_register_opcodes <= int(abi.IORING_REGISTER_BPF_FILTER):
            raise NotSupported("IORING_REGISTER_BPF_FILTER", "Linux 7.0")
        flags = int(abi.IO_URING_BPF_FILTER_DENY_REST) if deny_rest else 0
        flags |= 0 if pdu_size is None else int(abi.IO_URING_BPF_FILTER_SZ_STRICT)
        memory = zeroed(layouts.BPF.size)
        command = int(abi.IO_URING_BPF_CMD_FILTER)
        layouts.BPF.pack_into(
            memory.view, 0, command, 0, opcode, flags, len(instructions), size, code.address
        )
        self._kernel.register(int(abi.IORING_REGISTER_BPF_FILTER), memory.address, 1, "register BPF filter")

    def register_iowq_affinity(self, cpus: Iterable[int]) -> None:
        """Binds the kernel workers to processors.

        Args:
            cpus: at least one number, 0 to 8191.

        Raises:
            ValueError: no processor, or a number out of range.

        Since:
            Linux 5.14.

        Source:
            io_uring_register(2), ``IORING_REGISTER_IOWQ_AFF``.
        """
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
        """Lets the kernel workers run anywhere again.

        Since:
            Linux 5.14.

        Source:
            io_uring_register(2), ``IORING_UNREGISTER_IOWQ_AFF``.
        """
        self._check_owner()
        self._kernel.register(int(abi.IORING_UNREGISTER_IOWQ_AFF), None, 0, "unbind workers")

    def register_iowq_max_workers(self, bounded: int = 0, unbounded: int = 0) -> tuple[int, int]:
        """Limits the kernel workers.

        Args:
            bounded: workers for regular files and block devices, 0 to 2**32 - 1; 0 leaves the limit as it is.
            unbounded: workers for all other requests, which may wait without end, likewise.

        Returns:
            The limits before, (bounded, unbounded).

        Since:
            Linux 5.15.

        Source:
            io_uring_register(2), ``IORING_REGISTER_IOWQ_MAX_WORKERS``.
        """
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

    def register_eventfd(self, fd: Fd, *, async_only: bool = False) -> None:
        """Signals an eventfd when completions are posted, or deferred work waits to be run by `wait`.

        Args:
            fd: the eventfd, a descriptor or an object with ``fileno()``.
            async_only: no signal for requests that complete while they are submitted (Linux 5.6).

        Raises:
            OSError: ``EBUSY`` when there is one already, ``EINVAL`` for a descriptor that is no eventfd.

        Since:
            Linux 5.2.

        Source:
            io_uring_register(2), ``IORING_REGISTER_EVENTFD``; eventfd(2).
        """
        self._check_owner()
        memory = zeroed(4)
        struct.pack_into("=i", memory.view, 0, check_fd(fd))
        opcode = abi.IORING_REGISTER_EVENTFD_ASYNC if async_only else abi.IORING_REGISTER_EVENTFD
        self._kernel.register(int(opcode), memory.address, 1, "register eventfd")

    def unregister_eventfd(self) -> None:
        """Stops the signalling.

        Raises:
            OSError: ``ENXIO`` without an eventfd.

        Since:
            Linux 5.2.

        Source:
            io_uring_register(2), ``IORING_UNREGISTER_EVENTFD``.
        """
        self._check_owner()
        self._kernel.register(int(abi.IORING_UNREGISTER_EVENTFD), None, 0, "unregister eventfd")

    def register_napi(
        self, busy_poll_timeout: int, prefer_busy_poll: bool = False, strategy: int = 0
    ) -> None:
        """Polls network devices before waits.

        Args:
            busy_poll_timeout: microseconds, 0 to 2**32 - 1.
            prefer_busy_poll: polls in place of interrupts, as ``SO_PREFER_BUSY_POLL``.
            strategy: ``IO_URING_NAPI_TRACKING_DYNAMIC``, ``_STATIC`` or ``_INACTIVE`` (Linux 6.13).

        Since:
            Linux 6.9.

        Source:
            io_uring_register(2), ``IORING_REGISTER_NAPI``; io_uring_register_napi(3).
        """
        timeout = check_int("busy_poll_timeout", busy_poll_timeout, 0, _UINT_MAX)
        self._napi(
            abi.IORING_REGISTER_NAPI, timeout, bool(prefer_busy_poll), abi.IO_URING_NAPI_REGISTER_OP, strategy
        )

    def unregister_napi(self) -> None:
        """Ends busy polling.

        Since:
            Linux 6.9.

        Source:
            io_uring_register(2), ``IORING_UNREGISTER_NAPI``.
        """
        self._napi(abi.IORING_UNREGISTER_NAPI, 0, False, 0, 0)

    def napi_add_static_id(self, napi_id: int) -> None:
        """Adds a device queue to poll, under static tracking.

        Args:
            napi_id: the queue's id (``SO_INCOMING_NAPI_ID``), 0 to 2**32 - 1.

        Since:
            Linux 6.13.

        Source:
            io_uring_register(2), ``IORING_REGISTER_NAPI``.
        """
        self._napi(abi.IORING_REGISTER_NAPI, 0, False, abi.IO_URING_NAPI_STATIC_ADD_ID, napi_id)

    def napi_del_static_id(self, napi_id: int) -> None:
        """Removes a device queue that `napi_add_static_id` added.

        Args:
            napi_id: the queue's id, 0 to 2**32 - 1.

        Since:
            Linux 6.13.

        Source:
            io_uring_register(2), ``IORING_REGISTER_NAPI``.
        """
        self._napi(abi.IORING_REGISTER_NAPI, 0, False, abi.IO_URING_NAPI_STATIC_DEL_ID, napi_id)

    def register_clock(self, clock_id: int) -> None:
        """Sets the clock of waits.

        Args:
            clock_id: ``time.CLOCK_MONOTONIC`` or ``time.CLOCK_BOOTTIME``.

        Raises:
            OSError: ``EINVAL`` for another clock.

        Since:
            Linux 6.12.

        Source:
            io_uring_register(2), ``IORING_REGISTER_CLOCK``.
        """
        self._check_owner()
        memory = zeroed(layouts.CLOCK_REGISTER.size)
        layouts.CLOCK_REGISTER.pack_into(memory.view, 0, check_int("clock_id", clock_id, 0, _UINT_MAX))
        self._kernel.register(int(abi.IORING_REGISTER_CLOCK), memory.address, 0, "register clock")

    def _napi(self, register: int, timeout: int, prefer: bool, opcode: int, parameter: int) -> None:
        self._check_owner()
        memory = zeroed(layouts.NAPI.size)
        parameter = check_int("the NAPI parameter", parameter, 0, _UINT_MAX)
        layouts.NAPI.pack_into(memory.view, 0, timeout, int(bool(prefer)), int(opcode), parameter)
        self._kernel.register(int(register), memory.address, 1, "NAPI")
