"""One ring of the running kernel: set-up, the queues, registration, release.

This is the only Python object that holds the mapped queues. It does not interpret entries: ``put`` and
``queue`` write them, ``cycle`` submits, waits and hands completions out, and the layers above keep the pins.

Invariants
  - A ring belongs to the thread that opened it (``SINGLE_ISSUER`` makes the kernel enforce that).
  - After ``close``, and in a forked child, every call answers ``-EBADF`` without touching the mappings.
  - ``inflight`` counts entries whose last completion has not been handed out; release is safe at zero.

``uring.kernel.scripted.ScriptedRing`` has the same interface (`uring.kernel.ringlike`), and the same contract
tests.
"""

from __future__ import annotations

import errno
import struct
import warnings
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .. import abi
from ..errors import RingClosed, RingUnavailable, error_from_result
from .forking import open_rings
from .lib import NOT_BUILT, ffi, lib
from .opening import open_ring
from .registering import register

if TYPE_CHECKING:
    from collections.abc import Callable

    from .op import Op

__all__ = ["CQE", "CQE_BIG", "KernelRing"]

CQE = struct.Struct("=QiI")
"""One completion in ``out`` of a ring with 16-byte entries: user_data, res, flags."""

CQE_BIG = struct.Struct("=QiIQQ")
"""The same where entries may be 32 bytes (``CQE32``, ``CQE_MIXED``)."""

_op_type: Any = ffi.typeof("struct ur_op *") if ffi is not None else None
_uint64s: Any = ffi.typeof("uint64_t[]") if ffi is not None else None
_CQSIZE = int(abi.IORING_SETUP_CQSIZE)
_SQE128 = int(abi.IORING_SETUP_SQE128)
_REGISTERED_FD_ONLY = int(abi.IORING_SETUP_REGISTERED_FD_ONLY)
_OTHER_QUEUES = (abi.IORING_SETUP_SQE_MIXED, abi.IORING_SETUP_SQ_REWIND)
"""Set-up flags that give the submission queue a layout which the shim does not write."""
_BY_WAIT_REGION = int(abi.IORING_ENTER_GETEVENTS | abi.IORING_ENTER_EXT_ARG | abi.IORING_ENTER_EXT_ARG_REG)
_ENTER_REGISTERED_RING = int(abi.IORING_ENTER_REGISTERED_RING)


class KernelRing:
    """A mapped io_uring.

    Args:
        entries: submission queue size, 1 to 32768, rounded up by the kernel to a power of two.
        flags: ``IORING_SETUP_*`` bits; the kernel refuses bad combinations with ``EINVAL``.
        cq_entries: completion queue size; 0 leaves the kernel's default of twice ``entries``.
        sq_thread_cpu, sq_thread_idle: for ``SQPOLL``; the idle time is in milliseconds.
        wq_fd: a ring whose kernel workers are shared (``ATTACH_WQ``).
        enter_flags: ``IORING_ENTER_*`` bits given with every enter, e.g. ``NO_IOWAIT`` (6.15).

    Raises:
        RingUnavailable: this machine refuses io_uring, or one of its three system calls; the message names
            the setting to change.
        OSError: the kernel refused these arguments.
        ValueError: ``SQE_MIXED`` or ``SQ_REWIND``, which are not supported.

    See io_uring_setup(2).
    """

    __slots__ = (
        "__weakref__",
        "_forked",
        "_handle",
        "count",
        "cq_entries",
        "cycle",
        "end_unsent",
        "fd",
        "features",
        "flags",
        "flush",
        "idle",
        "out",
        "poll",
        "put",
        "put_now",
        "put_packed",
        "queue",
        "queue_at",
        "queue_pair",
        "reap",
        "seen",
        "space",
        "sq_entries",
        "unqueue",
    )

    def __init__(
        self,
        entries: int,
        flags: int,
        *,
        cq_entries: int = 0,
        sq_thread_cpu: int = 0,
        sq_thread_idle: int = 0,
        wq_fd: int = 0,
        enter_flags: int = 0,
    ) -> None:
        if lib is None:
            raise RingUnavailable(errno.ENOSYS, NOT_BUILT)
        for flag in _OTHER_QUEUES:
            if flags & flag:
                raise ValueError(f"{flag.name} is not supported: the queue is a ring of entries of one size")
        handle = ffi.new("struct ur_ring *")
        params = ffi.new("struct ur_params *")
        params.flags = flags
        params.cq_entries = cq_entries
        params.sq_thread_cpu = sq_thread_cpu
        params.sq_thread_idle = sq_thread_idle
        params.wq_fd = wq_fd
        open_ring(handle, entries, params)
        handle.enter_flags |= enter_flags
        self._handle = handle
        self._forked = False
        self.fd: int = handle.fd
        self.flags: int = flags
        self.features: int = params.features
        self.sq_entries: int = params.sq_entries
        self.cq_entries: int = params.cq_entries
        self.queue: Callable[[Any], int] = lib.ur_queue
        self.queue_pair: Callable[[Any, Any], int] = lib.ur_queue_pair
        self.queue_at: Callable[..., int] = lib.ur_queue_at
        self.put: Callable[..., int] = partial(lib.ur_put, handle)
        self.put_now: Callable[..., int] = partial(lib.ur_put_now, handle)
        self.put_packed: Callable[[int, int], int] = partial(lib.ur_put_packed, handle)
        self.space: Callable[[], int] = partial(lib.ur_space, handle)
        self.count: Callable[[int], int] = partial(lib.ur_count, handle)
        self.cycle: Callable[[float], int] = partial(lib.ur_cycle, handle)
        self.poll: Callable[[], int] = partial(lib.ur_poll, handle)
        self.reap: Callable[[float], int] = partial(lib.ur_reap, handle)
        self.seen: Callable[[int], int] = partial(lib.ur_seen, handle)
        self.idle: Callable[[], int] = partial(lib.ur_idle, handle)
        self.flush: Callable[[int], int] = partial(lib.ur_flush, handle)
        self.unqueue: Callable[[int], int] = partial(lib.ur_unqueue, handle)
        self.end_unsent: Callable[[int], int] = partial(lib.ur_end_unsent, handle)
        self.out: memoryview[int] = self._view_out()
        open_rings.add(self)

    @property
    def closed(self) -> bool:
        return bool(self._handle.fd < 0)

    @property
    def inflight(self) -> int:
        """Queued entries whose last completion has not been handed out by ``cycle``."""
        return int(self._handle.inflight)

    @property
    def pending(self) -> int:
        """Queued entries that the kernel has not consumed yet."""
        return max(0, int(lib.ur_pending(self._handle)))

    @property
    def eager(self) -> bool:
        """True: every queued entry is submitted at once, as guest mode needs while its thread waits."""
        return bool(self._handle.eager)

    @eager.setter
    def eager(self, value: bool) -> None:
        self._handle.eager = int(value)

    @property
    def spin_us(self) -> int:
        """Microseconds for which a wait of `cycle` looks for completions before it sleeps; 0: it sleeps at
        once. The wait's timeout includes them."""
        return int(self._handle.spin_us)

    @spin_us.setter
    def spin_us(self, value: int) -> None:
        self._handle.spin_us = value

    @staticmethod
    def now() -> float:
        """The monotonic clock, by which the kernel's timers go, in seconds."""
        return perf_counter()

    def counters(self) -> dict[str, int]:
        """Running totals since the ring was opened: enter calls, entries, completions, overflows."""
        handle = self._handle
        return {
            "enters": handle.enters,
            "submitted": handle.submitted,
            "completed": handle.reaped,
            "overflows": handle.overflows,
        }

    def template(
        self,
        user_data: int,
        opcode: int,
        flags: int,
        fd: int,
        off: int = 0,
        addr: int = 0,
        length: int = 0,
        op_flags: int = 0,
        buf_index: int = 0,
        file_index: int = 0,
        addr3: int = 0,
        *,
        command: bytes = b"",
    ) -> Any:
        """An entry kept in C that ``queue`` copies: queueing it again is one call with one argument.

        Fields are those of ``put``; bits 8 to 23 of ``flags`` are ioprio, bits 24 to 39 the personality.
        ``command`` fills the end of the entry, from addr3 on.

        Raises:
            ValueError: the command is longer than this ring's entries have room for.
        """
        if command:
            self.check_command(command)
        template = ffi.new(_op_type, {"tail": 64}) if self.flags & _SQE128 else ffi.new(_op_type)
        lib.ur_prepare(
            template,
            self._handle,
            user_data,
            opcode,
            flags,
            fd,
            off,
            addr,
            length,
            op_flags,
            buf_index,
            file_index,
            addr3,
        )
        if command:
            ffi.memmove(ffi.addressof(template.sqe, "addr3"), command, len(command))
        return template

    def check_command(self, command: bytes) -> None:
        """Raises ValueError for a command longer than the room for one in an entry of this ring."""
        room = 80 if self.flags & _SQE128 else 16
        if len(command) > room:
            raise ValueError(f"this ring's entries hold {room} bytes of a command, not {len(command)}")

    def put_op(self, user_data: int, op: Op) -> int:
        """Queues a request of ``uring.ops``: 0, or ``-EBUSY`` when the queue is full.

        The caller keeps its pins.
        """
        if not op.entry and not op.command:
            return self.put(user_data, *op.fields)
        self.check_command(op.command)
        return self.put_packed(user_data, op.pack().entry)

    def put_many(self, pairs: bytes, n: int) -> int:
        """Queues ``n`` packed entries, each as its address and its value; returns how many the queue took."""
        return int(lib.ur_put_many(self._handle, n, ffi.from_buffer(_uint64s, pairs)))

    def total(self, user_data: int) -> int:
        """How many were queued under a value since nothing was in flight under it."""
        return int(lib.ur_total(self._handle, user_data))

    def any_in_flight(self, pairs: bytes, n: int) -> bool:
        """Whether something is in flight under a value of these pairs, as `put_many` takes them."""
        return bool(lib.ur_any(self._handle, n, ffi.from_buffer(_uint64s, pairs)) > 0)

    def register(self, opcode: int, address: int | None = None, nr_args: int = 0, what: str = "") -> int:
        """io_uring_register(2) on this ring: the result, or the exception for its errno.

        ``address`` is that of the argument, which the caller keeps alive; ``what`` is said in the error.
        """
        if self._handle.fd < 0:
            raise self.closed_error()
        if self.flags & _REGISTERED_FD_ONLY:
            opcode |= abi.IORING_REGISTER_USE_REGISTERED_RING
        return register(self.fd, opcode, address, nr_args, what)

    def track(self) -> None:
        """Starts to count what is in flight by ``user_data``, for `count` and `ended`.

        Values with both top bits set are not counted: those completions come from another ring, or from
        entries that complete on failure only.
        """
        if lib.ur_track(self._handle) < 0:
            raise MemoryError("no memory to count what is in flight")

    def settle(self, user_data: int) -> bool:
        """Ends the count of an operation that has completed under another value; whether it was the last."""
        return bool(lib.ur_settle(self._handle, user_data) == 1)

    def ended(self) -> list[int]:
        """The values under which the last operation in flight was seen to complete, each once."""
        handle = self._handle
        n, handle.ended_count = handle.ended_count, 0
        return ffi.unpack(handle.ended, n) if n else []

    @property
    def unseen(self) -> memoryview[int]:
        """The completions that `reap` left, and that `seen` has not passed."""
        handle, size = self._handle, self._handle.out_size
        return (
            memoryview(b"") if handle.fd < 0 else self.out[handle.unseen_at * size : handle.unseen_end * size]
        )

    @property
    def ready(self) -> int:
        """Completions in the mapped queue; those that the kernel holds back are not counted."""
        return max(0, int(lib.ur_ready(self._handle)))

    def wait(self, timeout: float) -> int:
        """Waits until there is a completion to take, and takes none; negative: for ever. Any thread may."""
        return int(lib.ur_wait(self._handle, timeout))

    def wait_registered(self, offset: int) -> int:
        """Submits everything and waits by the entry ``offset`` bytes into the registered wait region."""
        handle = self._handle
        if handle.fd < 0:
            return -errno.EBADF
        return int(lib.ur_enter(handle, self.pending, 1, _BY_WAIT_REGION, ffi.cast("void *", offset), 64))

    def enter_through(self, index: int | None) -> None:
        """Enters through an index into the thread's registered rings, or the descriptor again (None)."""
        handle = self._handle
        if index is None:
            handle.enter_fd = self.fd
            handle.enter_flags &= ~_ENTER_REGISTERED_RING
        else:
            handle.enter_fd = index
            handle.enter_flags |= _ENTER_REGISTERED_RING

    def resize(self, entries: int, cq_entries: int) -> None:
        """Replaces the queues by smaller or larger ones; the kernel copies their entries (Linux 6.13).

        Raises:
            OSError: not a ring with deferred work (``EINVAL``), or too small for what is queued
                (``EOVERFLOW``). When the new queues cannot be mapped the ring is closed.
        """
        params = ffi.new("struct ur_params *")
        params.sq_entries = entries
        params.cq_entries = cq_entries
        params.flags = _CQSIZE
        lib.ur_show(self._handle)  # the kernel copies only the entries that it sees
        self.register(int(abi.IORING_REGISTER_RESIZE_RINGS), _number(params), 1, "resize rings")
        self.out.release()
        result = lib.ur_remap(self._handle, params)
        if result < 0:
            lib.ur_close(self._handle)
            raise error_from_result(result, "map the resized rings")
        self.out = self._view_out()
        self.sq_entries = params.sq_entries
        self.cq_entries = params.cq_entries

    def _view_out(self) -> memoryview:
        handle = self._handle
        return memoryview(ffi.buffer(handle.out, handle.out_cap * handle.out_size))

    def addresses(self) -> tuple[int, ...]:
        """For other C extensions, the addresses of the mapped ring, of its pointer to the completions of the
        last cycle, and of the functions ``ur_idle``, ``ur_cycle``, ``ur_space``, ``ur_put``, ``ur_flush``."""
        out = _number(ffi.addressof(self._handle, "out"))
        functions = map(_function, ("ur_idle", "ur_cycle", "ur_space", "ur_put", "ur_flush"))
        return _number(self._handle), out, *functions

    def queue_addresses(self) -> tuple[int, int, int, int]:
        """As `addresses`: the mapped ring, and the functions ``ur_space``, ``ur_queue`` and ``ur_aim``."""
        return _number(self._handle), _function("ur_space"), _function("ur_queue"), _function("ur_aim")

    def put_addresses(self) -> tuple[int, ...]:
        """As `addresses`: the mapped ring, the functions ``ur_put_packed``, ``ur_count``, ``ur_settle``."""
        functions = map(_function, ("ur_put_packed", "ur_count", "ur_settle"))
        return _number(self._handle), *functions

    @staticmethod
    def address_of(template: Any) -> int:
        """The address of an entry made by `template`, valid while that lives."""
        return _number(template)

    def register_eventfd(self, fd: int) -> None:
        """Makes the kernel signal this eventfd when completions are posted or deferred work waits. An
        ``eager`` ring signals it when the kernel did not take an entry."""
        arg = ffi.new("int32_t *", fd)
        self.register(int(abi.IORING_REGISTER_EVENTFD), _number(arg), 1, "register eventfd")
        self._handle.wake_fd = fd

    def unregister_eventfd(self) -> None:
        """Ends the signals of `register_eventfd`."""
        self._handle.wake_fd = -1
        self.register(int(abi.IORING_UNREGISTER_EVENTFD), None, 0, "unregister eventfd")

    def close(self) -> None:
        """Unmaps the queues and closes the descriptor. Idempotent.

        It does not wait for what is in flight: the owner drains first (``inflight``), because kernel workers
        still write to memory after the ring is gone.
        """
        if not self.closed or self._forked:
            lib.ur_close(self._handle)  # in a forked child it only frees the child's copies
        self.out.release()
        open_rings.discard(self)

    def closed_error(self) -> RingClosed:
        if self._forked:
            return RingClosed(
                "this ring was opened by the parent process; open a new one in the child (use spawn or exec)"
            )
        return RingClosed("the ring is closed")

    def _in_child(self) -> None:
        if not self.closed:
            self._forked = True
            lib.ur_forked(self._handle)

    def __del__(self) -> None:
        try:
            closed = self._handle.fd < 0
        except AttributeError:  # __init__ failed before there was a handle
            return
        if not closed:
            warnings.warn(f"unclosed ring (fd {self.fd})", ResourceWarning, stacklevel=1, source=self)
        if not closed or getattr(self, "_forked", False):
            self.close()


def _number(pointer: Any) -> int:
    """An address as a number."""
    return int(ffi.cast("uintptr_t", pointer))


def _function(name: str) -> int:
    """The address of a function of the shim."""
    return _number(ffi.addressof(lib, name))
