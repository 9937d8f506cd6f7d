"""The I/O manager: what Trio's run loop asks for events, and where every operation of a run is.

One tick of Trio's scheduler is one ``cycle`` of the ring: everything the tasks queued goes to the kernel
in the system call that also waits, and a tick with nothing to submit and nothing to reap makes none.

Invariants
  - The ring is touched by the thread that opened it alone. In guest mode ``get_events`` runs on a foreign
    thread: there it waits on an eventfd that the ring signals, and ``process_events`` enters.
  - An operation's slot, pins and buffers are released at its last completion.
  - ``close`` cancels everything, drains by count, then closes the ring; what will not drain is leaked on
    purpose, because the kernel may still write there.

It must not know what is on either end of an operation: sockets, files and streams build on it.
"""

from __future__ import annotations

import errno
import os
import select
import threading
import time
import warnings
from contextlib import suppress
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

import trio

from uring import abi
from uring.errors import RingClosed, RingUnavailable, error_from_result, unavailable_from_errno
from uring.kernel.buffers import BufferRing
from uring.kernel.inflight import Table
from uring.kernel.memory import zeroed
from uring.kernel.ring import CQE, KernelRing
from uring.kernel.volley import Volley

from .. import seams
from ..options import RingOptions
from .cancels import Cancels
from .operation import Operation, hold
from .statistics import RingStatistics, totals

if TYPE_CHECKING:
    from collections.abc import Callable

    from uring.kernel.ring import RingLike

    from ..multishot.leases import Groups
    from .fd import Channel

__all__ = ["Held", "Manager", "current"]

_MORE = int(abi.IORING_CQE_F_MORE)
_SPURIOUS = -1
_EINTR = -errno.EINTR
_DRAIN_SECONDS = 5.0
_SETUP = int(
    abi.IORING_SETUP_SINGLE_ISSUER
    | abi.IORING_SETUP_DEFER_TASKRUN
    | abi.IORING_SETUP_TASKRUN_FLAG
    | abi.IORING_SETUP_SUBMIT_ALL
    | abi.IORING_SETUP_NO_SQARRAY
    | abi.IORING_SETUP_CQSIZE
)
_ASYNC_CANCEL = int(abi.IORING_OP_ASYNC_CANCEL)
_POLL_ADD = int(abi.IORING_OP_POLL_ADD)
_CANCEL_ANY_ALL = int(abi.IORING_ASYNC_CANCEL_ANY | abi.IORING_ASYNC_CANCEL_ALL)
_IOWQ_MAX_WORKERS = int(abi.IORING_REGISTER_IOWQ_MAX_WORKERS)
_POLL_MULTI = int(abi.IORING_POLL_ADD_MULTI)

FOREIGN = 3 << 62
"""Bits of ``user_data`` that mark a completion another ring posted for a slot of this one."""

NEAR = 0.1
"""Seconds: with ``deadlines="auto"`` an operation that starts closer to its deadline has it in the kernel."""

FIRST_BUFFERS = 16
"""Buffers of single-shot receives to begin with; there are twice as many whenever a receive finds none."""

IDLE_SECONDS = 10.0
"""How long what buffers grew by must be idle before it is given back."""

SCARCE = 4096
"""Bytes of its own that a receive waits with which found no buffer: thousands may in one tick."""

RECEIVE_GROUP = 0
"""Buffer group of single-shot receives: a buffer goes back within the tick its data arrived in."""

_unpack_from = CQE.unpack_from
_iter_unpack = CQE.iter_unpack


class Held(Protocol):
    """Something that is put off, by `Manager.hold`."""

    def let_go(self) -> None:
        """It was put off for as long as it may be."""


_leaked: list[object] = []


def open_ring(options: RingOptions) -> KernelRing:
    """A ring as a Trio run wants it: single issuer, deferred work, not accounted as waiting for disk.

    Raises:
        RingUnavailable: the kernel opens none, for any reason: the options were checked when they were made.
    """
    try:
        return KernelRing(
            options.entries,
            _SETUP,
            cq_entries=options.cq_entries,
            enter_flags=int(abi.IORING_ENTER_NO_IOWAIT),
        )
    except RingUnavailable:
        raise
    except (OSError, MemoryError) as exc:
        raise _unavailable(exc, "io_uring_setup", options) from exc


def _unavailable(exc: OSError | MemoryError, call: str, options: RingOptions) -> RingUnavailable:
    number = errno.ENOMEM if isinstance(exc, MemoryError) else exc.errno or errno.EIO
    return unavailable_from_errno(number, call, options.buffers * options.buffer_size)


class _Leak:
    """Warns when it goes, which is at once: an exception that the warning is turned into must not come out of
    Trio's clean-up, and one out of ``__del__`` does not."""

    def __init__(self, operations: int) -> None:
        self._operations = operations

    def __del__(self) -> None:
        warnings.warn(
            f"{self._operations} operations did not end within {_DRAIN_SECONDS:g} s; their memory and the "
            "ring are leaked because the kernel may still write there",
            ResourceWarning,
            stacklevel=3,
        )


class Manager:
    """Trio's I/O manager on one ring.

    ``Manager()`` as Trio's set-up calls it answers with whatever manager was chosen for that run, which
    may be Trio's own; `Manager.create` makes one.
    """

    def __new__(cls) -> Any:
        return seams.choose_manager()

    @classmethod
    def create(
        cls,
        options: RingOptions | None = None,
        ring: RingLike | None = None,
        provide: Callable[..., Any] = BufferRing,
        volley: Callable[[Any, int], Any] = Volley,
    ) -> Manager:
        """A manager on a new ring, or on the one given (with what makes its buffers and volleys)."""
        self: Manager = object.__new__(cls)
        self.volley = volley
        self._set_up(options or RingOptions(), ring, provide)
        return self

    volley: Callable[[Any, int], Any]

    def _set_up(self, options: RingOptions, ring: RingLike | None, provide: Callable[..., Any]) -> None:
        self.options = options
        self.ring: RingLike = open_ring(options) if ring is None else ring
        self.runner: Any = None
        self.closed: bool = False
        self.channels: dict[int, Channel] = {}
        self.table: Table[Operation] = Table(self._make_operation)
        self.pool: list[Operation] = []
        self.cancels: Cancels = Cancels(self.ring, self.table)
        self._cycle = self.ring.cycle
        self._poll = self.ring.poll
        self._out = self.ring.out
        self._owner = threading.get_ident()
        self._gate = threading.RLock()  # a signal handler may wake while its thread closes
        self.reach: float | None = None  # see `_bind`: until the run is known to be on the monotonic clock
        self.clock_offset: float = 0.0
        self._deadlines: Callable[[], object] = _nothing
        self._due: Callable[[], bool] = bool
        self._expiring = False
        self._guest = False
        self._guest_fd_registered = False
        self._wakes = False  # whether the ring polls the eventfd
        self._armed = False  # whether it polls what may have to end a wait
        self._ticks: Callable[[int], bool] | None = self._first_ticks
        self.compiled: Any = None  # scheduler ticks in C, once the run has them
        self.provide: Callable[..., Any] = provide
        self.groups: Groups | None = None  # buffers of subscriptions, made for the first one
        self.registered: list[int] | None = None  # free slots of the table of registered buffers
        self.foreign: Any = None  # who waits for descriptors that others own, see `_readiness`
        self._watched = False  # whether the ring polls those
        self.slots: Any = None  # direct descriptors, made for the first one
        self._sweep_at: float = inf  # when to look for receive buffers that are idle
        self._exhausted = False  # whether receives found no buffer since then
        self._held: dict[Held, float] = {}  # what is put off, and until when; 0: since the loop comes round
        self.hold_seconds: float = options.gather_us / 1e6
        self.late: int = 0
        self.on_close: dict[object, Callable[[], None]] = {}  # called once nothing is in flight any more
        self._workers_beside = 0  # see `widen`
        self._eventfd = -1
        try:
            self._reserve(options)
        except BaseException as exc:
            if self._eventfd >= 0:
                os.close(self._eventfd)
            if self.foreign is not None:
                self.foreign.close()
            self.ring.close()
            if isinstance(exc, (OSError, MemoryError)) and not isinstance(exc, RingUnavailable):
                raise _unavailable(exc, "io_uring_register", options) from exc
            raise
        self.cancels.user_data = self._internal("async_cancel", self.cancels.answered).user_data
        self.deadline_data: int = self._internal("link_timeout", _ignore).user_data
        self._wake_data = self._internal("wake_up", self._on_wake).user_data
        self._foreign_data = self._internal("readiness", self._on_readiness).user_data

    def _reserve(self, options: RingOptions) -> None:
        """Takes what a run needs besides its ring, so that a limit or a filter is met before it begins."""
        self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.foreign = seams.stock_manager()
        if isinstance(self.ring, KernelRing):
            self.ring.register_eventfd(self._eventfd)  # as a guest run does, once it knows that it is one
            self.ring.unregister_eventfd()
        if options.workers:
            self._limit_workers(options.workers)
        first = min(options.buffers, FIRST_BUFFERS)
        self.buffers: Any = self.provide(
            self.ring, RECEIVE_GROUP, options.buffers, options.buffer_size, first=first
        )

    def _make_operation(self, user_data: int) -> Operation:
        return Operation(user_data, self)

    def _new_operation(self) -> Operation:
        if self.closed:
            raise RingClosed("the ring run is over")
        if self.runner is None:
            self.bind()
        return self.table.acquire()

    def _internal(self, name: str, handler: Callable[[Operation, int, int], None]) -> Operation:
        op = self.table.acquire()
        op.name = name
        op.handler = handler
        return op

    # ---- what Trio calls -----------------------------------------------------------------------------

    def get_events(self, timeout: float) -> int:
        """Submits what is queued and waits up to ``timeout`` seconds; 0 if and only if it expired."""
        cancels = self.cancels
        if (cancels.waiting or cancels.ripening) and threading.get_ident() == self._owner:
            if cancels.ripening:
                return self._let_timers_win()
            cancels.send()
        if timeout == 0:
            if self._deadlines() and not self._expiring and self._due():
                # Deferred work runs on entering. Trio expires the deadline first, once, and what arrived
                # after it stays where it is.
                self._expiring = True
                return 0
            self._expiring = False
            if self._held:
                self._mind_held(time.monotonic())
            n = self._poll()
            if n == 0:
                if self._guest:
                    # From here to process_events the worker may be waiting, and cannot submit for us.
                    self.ring.eager = True
                return 0
        elif threading.get_ident() != self._owner:
            return self._wait_on_foreign_thread(timeout)
        else:
            if not self._armed and not self._arm_wake_up():
                # No room in the queue: a wait now could not be woken, so look and come back.
                n = self._cycle(0.0)
                return n if n > 0 else self._trouble(n) if n < 0 else _SPURIOUS
            now = time.monotonic()
            end = now + timeout
            n = self._cycle(timeout if end <= self._sweep_at and not self._held else self._sweep(now, end))
            while n == 0 or n == _EINTR:
                # An interrupted wait comes back here so that signal handlers run; and the kernel does not
                # say why a wait ended that also submitted something.
                now = time.monotonic()
                if end <= now:
                    return 0
                idle = end <= self._sweep_at and not self._held
                n = self._cycle(end - now if idle else self._sweep(now, end))
        return n if n > 0 else self._trouble(n)

    def process_events(self, events: int | None) -> None:
        """Delivers the completions that `get_events` left in the ring's ``out``."""
        n = events or 0
        if self._guest or n < 0:
            n = self._enter_on_owner(n)
        if self._ticks is not None and self._ticks(n):
            return
        if n == 1:
            seams.deliver(self, (_unpack_from(self._out),))
        elif n:
            seams.deliver(self, _iter_unpack(self._out[: n * 16]))

    def _first_ticks(self, n: int) -> bool:
        """Learns with the first events whether this run has its ticks in C, which take the place of this."""
        self._ticks = None
        runner = self.runner or self.bind()
        if self.options.compiled and isinstance(self.ring, KernelRing) and self._cycle == self.ring.cycle:
            offset = seams.clock_offset(runner)
            if offset is not None:
                entries = self.table.entries
                self.compiled = seams.make_ticks(
                    Operation, entries, self.ring.addresses(), offset, self._quiet, self.stray
                )
                if self.compiled is not None:
                    self._ticks = self.compiled.run
        return self._ticks is not None and self._ticks(n)

    def _quiet(self) -> float:
        """How many seconds the ring may be waited for without anything else to look after; negative: there is
        something now."""
        if self._held or self.cancels.waiting or self.cancels.ripening:
            return -1.0
        if not self._armed:
            return 0.0  # nothing would end a wait
        return inf if self._sweep_at == inf else self._sweep_at - time.monotonic()

    def statistics(self) -> RingStatistics:
        """Figures of this run; see `RingStatistics`."""
        in_flight: dict[str, int] = {}
        for op in self.table.taken():
            if op.task is not None:
                in_flight[op.name] = in_flight.get(op.name, 0) + 1
        counters = self.ring.counters()
        foreign = self.foreign.statistics()
        for name, waiting in (
            ("wait_readable", foreign.tasks_waiting_read),
            ("wait_writable", foreign.tasks_waiting_write),
        ):
            if waiting:
                in_flight[name] = waiting
        return RingStatistics(
            tasks_waiting_read=foreign.tasks_waiting_read,
            tasks_waiting_write=foreign.tasks_waiting_write,
            in_flight=in_flight,
            submitted=counters["submitted"],
            completed=counters["completed"],
            enters=counters["enters"],
            overflows=counters["overflows"],
            late=self.late,
            cancels_requested=self.cancels.requested,
            cancels_won=self.cancels.won,
            cancels_lost=self.cancels.lost,
            cancels_running=self.cancels.running,
            cancels_unsent=self.cancels.unsent,
            compiled_ticks=0 if self.compiled is None else self.compiled.count,
            workers=self._workers(),
        )

    def _limit_workers(self, most: int) -> int:
        """Bounds the kernel workers for files and paths, 0 leaving them as they are; returns the bound that
        was in force."""
        if not isinstance(self.ring, KernelRing):
            return 0
        limits = zeroed(8)
        numbers = limits.view.cast("I")
        numbers[0] = most
        self.ring.register(_IOWQ_MAX_WORKERS, limits.address, 2, "limit workers")
        return int(numbers[0])

    def widen(self, workers: int) -> None:
        """Lets so many more kernel workers run, or fewer where it is negative.

        For an operation that may wait without end in a worker, while it is in flight: the workers that files
        and paths share are left to the others. Where a filter refuses that, they are shared.
        """
        if not self.closed and isinstance(self.ring, KernelRing):
            with suppress(OSError):
                self._limit_workers(self._limit_workers(0) + workers)
                self._workers_beside += workers

    def _workers(self) -> int:
        """The bound in force; 0 where it cannot be read."""
        if self.closed:
            return 0
        with suppress(OSError):
            return self._limit_workers(0) - self._workers_beside
        return 0

    def force_wakeup(self) -> None:
        """Ends a wait of `get_events` from any thread or signal handler."""
        with self._gate:
            if not self.closed:
                os.eventfd_write(self._eventfd, 1)

    def close(self) -> None:
        """Cancels everything, drains by count under a bound, closes the ring. Idempotent; needs no Trio."""
        if self.closed:
            return
        self.closed = True
        left = self._drain()
        for ended in list(self.on_close.values()):
            ended()
        totals.add(self.ring.counters(), left)
        with self._gate:
            os.close(self._eventfd)
        self.channels.clear()
        self.foreign.close()
        if left:
            _leaked.append((self.ring, self.table, self.buffers, self.groups))
            _Leak(left)
        else:
            if self._workers_beside:
                # The bound is the thread's: its next ring would find it so.
                self._limit_workers(self._limit_workers(0) - self._workers_beside)
            if self.groups is not None:
                self.groups.close()
            self.buffers.close()
            self.ring.close()

    async def wait_readable(self, fd: int | Any) -> None:
        """See `trio.lowlevel.wait_readable`."""
        number = _number(fd)
        channel = self.channels.get(number)
        if channel is not None:
            channel.wait_beside(channel.reader)
        await self._readiness().wait_readable(number)

    async def wait_writable(self, fd: int | Any) -> None:
        """See `trio.lowlevel.wait_writable`."""
        number = _number(fd)
        channel = self.channels.get(number)
        if channel is not None:
            channel.wait_beside(channel.writer)
        await self._readiness().wait_writable(number)

    def notify_closing(self, fd: int | Any) -> None:
        """Wakes every task that waits for this descriptor with `trio.ClosedResourceError`, and makes the
        kernel let go of the file before it returns. See `trio.lowlevel.notify_closing`."""
        if not isinstance(fd, int):
            fd = fd.fileno()
        if seams.waits_for(self.foreign, fd):
            self.foreign.notify_closing(fd)
        channel = self.channels.pop(fd, None)
        if channel is not None:
            channel.close()

    # ---- operations ----------------------------------------------------------------------------------

    def acquire(self, name: str, fd: int = -1) -> Operation:
        """A free operation of this run; give it back with `release`.

        Raises:
            RingClosed: the run is over.
        """
        op = self.table.free.pop() if self.table.free else self._new_operation()
        op.name = name
        op.fd = fd
        return op

    def release(self, op: Operation) -> None:
        """Gives an operation back. One that is in flight still, as when its task was thrown away by a crash,
        stays as it is: the kernel may write to what it pins."""
        if op.task is not None:
            return
        op.template = op.discard = None
        op.handler = hold
        op.retired = op.pooled = op.acted = op.now = False
        self.table.release(op)

    def pooled(self) -> Operation:
        """An operation for transfers, which goes into ``pool`` after each of them."""
        op = self.acquire("transfer")
        op.pooled = True
        op.template = self.ring.template(op.user_data, 0, 0, -1)
        return op

    def reschedule(self, task: Any) -> None:
        """Resumes a task that is parked with nothing in flight of its own."""
        seams.reschedule(self.runner or self.bind(), task, seams.DONE)

    def run_soon(self, fn: Callable[[], object]) -> None:
        """Calls ``fn`` in this run's thread, from any other."""
        try:
            seams.run_sync_soon(self.runner, fn)
        except trio.RunFinishedError:
            pass

    def wake(self, op: Operation) -> None:
        """Resumes the task that is parked on ``op``."""
        task, op.task = op.task, None
        op.pins = None
        result = seams.DONE if op.interrupt is None else op.settle()
        seams.reschedule(self.runner or self.bind(), task, result)

    def bind(self) -> Any:
        """Learns whose run this is, in the first task that does something; returns the runner."""
        self.runner = seams.current_runner()
        offset = seams.clock_offset(self.runner)
        if offset is not None:
            self.clock_offset = offset
            # A deadline is the kernel's if it is at most this, plus the monotonic clock, on Trio's clock.
            self.reach = {"auto": offset + NEAR, "link": inf, "cancel": None}[self.options.deadlines]
            if self.options.deadlines != "link":
                self._deadlines, self._due = seams.deadline_checks(self.runner, offset)
        for op in self.table.entries:
            op.runner = self.runner
            op.reach = self.reach
        return self.runner

    def check_usable(self) -> None:
        """Raises what makes the ring refuse entries for good: the run is over, or this is a forked child."""
        closed_error = getattr(self.ring, "closed_error", None)
        if self.ring.idle() < 0 and closed_error is not None:
            raise closed_error()

    def surround(self, wrap: Callable[[Callable[..., int]], Callable[..., int]] | None) -> None:
        """Puts something around each entering of the ring that hands out completions; None: nothing again."""
        self._cycle = self.ring.cycle if wrap is None else wrap(self.ring.cycle)
        self._poll = self.ring.poll if wrap is None else wrap(self.ring.poll)
        self._ticks = self._first_ticks if wrap is None else None

    def more_buffers(self) -> None:
        """For a single-shot receive that found no buffer."""
        self._exhausted = True
        if self.buffers.grow():
            self.sweep_later()

    def sweep_later(self) -> None:
        """Something has memory that it may not need for long."""
        if self._sweep_at == inf:
            self._sweep_at = time.monotonic() + IDLE_SECONDS

    def hold(self, held: Held) -> bool:
        """Puts something off: ``let_go`` is called once ``RingOptions.gather_us`` have passed since the loop
        next came round. Again for what is put off already: it starts anew.

        False: nothing is put off in this run, by its options or because another thread waits for a guest.
        """
        if not self.hold_seconds or self._guest:
            return False
        self._held[held] = 0.0
        return True

    def unhold(self, held: Held) -> None:
        """It is not put off any more."""
        self._held.pop(held, None)

    # ---- inside --------------------------------------------------------------------------------------

    def _mind_held(self, now: float) -> float:
        """Lets go of what was put off for long enough; when to look again."""
        soonest = inf
        for held, until in list(self._held.items()):
            if not until:
                until = self._held[held] = now + self.hold_seconds
            elif until <= now:
                self._held.pop(held)
                held.let_go()
                continue
            soonest = min(soonest, until)
        return soonest

    def _sweep(self, now: float, end: float) -> float:
        """Lets go of what is held and gives idle memory back, if it is time to; seconds until it is time
        again, or until ``end``."""
        if self._held:
            end = min(end, self._mind_held(now))
        if now >= self._sweep_at:
            more = self.groups is not None and self.groups.sweep()
            if not self._exhausted:
                self.buffers.shrink(max(FIRST_BUFFERS, self.buffers.in_use // 2))
            self._exhausted = False
            if self.buffers.in_use > FIRST_BUFFERS or more:
                self._sweep_at = now + IDLE_SECONDS
            else:
                self._sweep_at = inf
        return min(self._sweep_at, end) - now

    def _let_timers_win(self) -> int:
        """What is left of these operations after it (a kernel worker has it) is cancelled the next time."""
        ripe = self.cancels.ripen()
        n = self._cycle(0.0)
        self.cancels.insist(ripe)
        return n if n > 0 else self._trouble(n) if n < 0 else _SPURIOUS

    def stray(self, user_data: int, res: int, flags: int) -> None:
        """A completion that another ring posted for a slot of ours, or one that is late or forged."""
        op = self.table.find(user_data & ~FOREIGN) if user_data & FOREIGN == FOREIGN else None
        if op is not None and op.task is None:
            op.handler(op, res, flags)
        else:
            self.late += 1

    def _arm_wake_up(self) -> bool:
        fields = (_POLL_ADD, 0, self._eventfd, 0, 0, _POLL_MULTI, select.POLLIN, 0, 0, 0)
        if not self._wakes:
            self._wakes = self.ring.put(self._wake_data, *fields) == 0
        if not self._watched:
            self._watch()
        self._armed = self._wakes and self._watched
        return self._armed

    def _readiness(self) -> Any:
        """Where tasks wait for descriptors that others own: Trio's own epoll, which the ring polls.

        A poll of the ring's holds the file, so that closing the descriptor without notice would not end the
        connection, and it takes what epoll refuses. The price is a system call to begin a wait and one for
        each round of wake-ups, as on stock Trio.
        """
        if not self._watched:
            self._watch()
        return self.foreign

    def _watch(self) -> None:
        fd = seams.epoll_of(self.foreign)
        fields = (_POLL_ADD, 0, fd, 0, 0, _POLL_MULTI, select.POLLIN, 0, 0, 0)
        self._watched = self.ring.put(self._foreign_data, *fields) == 0
        if not self._watched:
            self._armed = False  # no room in the queue: `get_events` tries again

    def _on_readiness(self, op: Operation, res: int, flags: int) -> None:
        if self.closed:
            return
        if not flags & _MORE:
            self._watched = False
            self._watch()
        self.foreign.process_events(self.foreign.get_events(0))

    def _on_wake(self, op: Operation, res: int, flags: int) -> None:
        _read_eventfd(self._eventfd)
        if not flags & _MORE:
            self._wakes = self._armed = False

    def _wait_on_foreign_thread(self, timeout: float) -> int:
        if not self._guest_fd_registered:
            # Only the owner may register the eventfd: bounce through process_events once.
            self._guest = True
            return _SPURIOUS
        poll = select.poll()
        poll.register(self._eventfd, select.POLLIN)
        return _SPURIOUS if poll.poll(timeout * 1000) else 0

    def _enter_on_owner(self, n: int) -> int:
        self.ring.eager = False
        if self._guest and not self._guest_fd_registered:
            self._guest_fd_registered = True
            for held in list(self._held):
                held.let_go()  # the thread that waits from now on cannot
            assert isinstance(self.ring, KernelRing)
            self.ring.register_eventfd(self._eventfd)
        if n < 0:
            _read_eventfd(self._eventfd)
            n = max(0, self._cycle(0.0))
        return n

    def _trouble(self, n: int) -> int:
        """What to do about an enter that failed with nothing to hand out."""
        if n == _EINTR:
            return _SPURIOUS
        if n in (-errno.EAGAIN, -errno.EBUSY):
            # The kernel has no memory for requests now; the entries stay queued and are tried again.
            time.sleep(0.001)
            return _SPURIOUS
        self.check_usable()
        raise error_from_result(n, "io_uring_enter")

    def _drain(self) -> int:
        """Ends everything in flight; returns how many operations would not end."""
        ring = self.ring
        for channel in self.channels.values():
            for subscription in channel.others:
                subscription.abandon()
        deadline = time.monotonic() + _DRAIN_SECONDS
        while ring.inflight > 0:
            ring.put(self.cancels.user_data, _ASYNC_CANCEL, 0, -1, 0, 0, 0, _CANCEL_ANY_ALL, 0, 0, 0)
            n = self._cycle(min(0.1, max(0.001, deadline - time.monotonic())))
            for user_data, res, flags in _iter_unpack(self._out[: max(n, 0) * 16]):
                self._dispose(user_data, res, flags)
            if n < 0 and n not in (_EINTR, -errno.EAGAIN, -errno.EBUSY):
                break
            if time.monotonic() > deadline:
                break
        return max(0, ring.inflight)

    def _dispose(self, user_data: int, res: int, flags: int) -> None:
        op = self.table.find(user_data)
        if op is None:
            return
        if op.task is None:
            op.handler(op, res, flags)
            return
        if op.discard is not None and res >= 0:
            op.discard(res)
        if op.pooled:  # whose owner may look what became of it
            op.res = res
            op.task = None


_nothing = ().__len__
"""Answers 0, at the price of one call into C."""


def _number(fd: int | Any) -> int:
    number: int = fd if isinstance(fd, int) else fd.fileno()
    if number < 0:
        raise ValueError(f"file descriptor cannot be a negative integer ({number})")
    return number


def _ignore(op: Operation, res: int, flags: int) -> None:
    """A completion that says nothing new."""


def _read_eventfd(fd: int) -> None:
    try:
        os.eventfd_read(fd)
    except BlockingIOError:
        pass


def current() -> Manager:
    """The manager of the ring run that this task is in.

    Raises:
        RuntimeError: outside a Trio run, or in a run that is not on a ring.
    """
    manager = seams.current_manager()
    if type(manager) is not Manager:
        raise seams.NoRing
    return manager
