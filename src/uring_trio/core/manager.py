"""The I/O manager: what Trio's run loop asks for events.

One tick of Trio's scheduler is one ``cycle`` of the ring: the system call that waits also submits everything
that the tasks queued. A tick with nothing to submit and nothing to reap makes no system call.

Invariants
  - In guest mode ``get_events`` runs on a foreign thread, which must not touch the ring: there it waits on an
    eventfd that the ring signals, and ``process_events`` enters.
  - ``close`` ends every operation before it closes the ring, see `draining`.

Everything about operations is in `engine`: nothing that builds on it names this class.
"""

from __future__ import annotations

import errno
import os
import select
import threading
import time
from math import inf
from typing import TYPE_CHECKING, Any

from uring import abi
from uring.kernel.buffers import BufferRing
from uring.kernel.refusals import PASSING
from uring.kernel.ring import CQE, KernelRing
from uring.kernel.volley import Volley

from .. import seams
from ..options import RingOptions
from .draining import drain, leak
from .engine import Engine, current
from .enter_refused import Refusals, failure
from .operation import Operation
from .restrictions import names
from .statistics import RingStatistics, totals

if TYPE_CHECKING:
    from collections.abc import Callable

    from uring.kernel.ringlike import RingLike

__all__ = ["Manager", "statistics"]

_MORE = int(abi.IORING_CQE_F_MORE)
_SPURIOUS = -1
_EINTR = -errno.EINTR
_POLL_ADD = int(abi.IORING_OP_POLL_ADD)
_POLL_MULTI = int(abi.IORING_POLL_ADD_MULTI)

_unpack_from = CQE.unpack_from
_iter_unpack = CQE.iter_unpack


class Manager(Engine):
    """Trio's I/O manager on one ring.

    ``Manager()``, as Trio's set-up calls it, returns the manager that was chosen for that run, which may be
    Trio's own; `Manager.create` makes one.
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
        self._set_up(options or RingOptions(), ring, provide, volley)
        return self

    def _set_up(
        self,
        options: RingOptions,
        ring: RingLike | None,
        provide: Callable[..., Any],
        volley: Callable[[Any, int], Any],
    ) -> None:
        self._owner = threading.get_ident()
        self._gate = threading.RLock()  # a signal handler may wake while its thread closes
        self._eventfd = -1
        self._expiring = False
        self._guest_fd_registered = False
        self._refusals = Refusals()
        self._failure: OSError | None = None  # the error that ends the run
        self._wakes = False  # whether the ring polls the eventfd
        self._armed = False  # both of `_wakes` and `_watched`
        self._watched = False  # whether the ring polls the epoll of `foreign`
        self._ticks: Callable[[int], int] | None = self._first_ticks
        self.compiled: Any = None  # scheduler ticks in C, once the run has them
        super()._set_up(options, ring, provide, volley)
        self._out = self.ring.out
        totals.running[id(self)] = self.ring.counters
        self._wake_data = self._internal("wake_up", self._on_wake).user_data
        self._foreign_data = self._internal("readiness", self._on_readiness).user_data

    def _reserve(self, options: RingOptions) -> None:
        try:
            self._eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self.foreign: Any = seams.stock_manager()
            if isinstance(self.ring, KernelRing):
                self.ring.register_eventfd(self._eventfd)  # tried now: a guest run registers it later
                self.ring.unregister_eventfd()
            super()._reserve(options)
        except BaseException:
            if self._eventfd >= 0:
                os.close(self._eventfd)
            if self.foreign is not None:
                self.foreign.close()
            raise

    # ---- what Trio calls -----------------------------------------------------------------------------

    def get_events(self, timeout: float) -> int:
        """Submits what is queued and waits up to ``timeout`` seconds; 0 if and only if it expired."""
        cancels = self.cancels
        if (cancels.waiting or cancels.deferred) and threading.get_ident() == self._owner:
            if cancels.deferred:
                return self._let_timers_win()
            cancels.send()
        if timeout == 0:
            if self._deadlines() and not self._expiring and self._due():
                # Deferred work runs on entering. Trio expires the deadline first, once, and data that
                # arrived after it stays where it is.
                self._expiring = True
                return 0
            self._expiring = False
            if self._delayed:
                self._expire_delays(time.monotonic())
            n = self._poll()
            if n == 0:
                if self._guest:
                    # From here to process_events the worker may be waiting, and it cannot submit.
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
            n = self._cycle(timeout if end <= self._trim_at and not self._delayed else self._trim(now, end))
            while n == 0 or n == _EINTR:
                # An interrupted wait comes back here so that signal handlers run; and the kernel does not
                # say why a wait ended that also submitted something.
                now = time.monotonic()
                if end <= now:
                    return 0
                idle = end <= self._trim_at and not self._delayed
                n = self._cycle(end - now if idle else self._trim(now, end))
        return n if n > 0 else self._trouble(n)

    def process_events(self, events: int | None) -> None:
        """Delivers the completions that `get_events` left in the ring's ``out``."""
        n = events or 0
        if self._guest or n < 0:
            n = self._enter_on_owner(n)
        if self._ticks is not None:
            ran = self._ticks(n)
            if ran == 1:
                return
            if ran:
                # Between two batches Trio's loop looks at what has come.
                n = self.get_events(0)
                if n < 0:
                    n = self._enter_on_owner(n)
        if n == 1:
            seams.deliver(self, (_unpack_from(self._out),))
        elif n:
            seams.deliver(self, _iter_unpack(self._out[: n * 16]))

    def statistics(self) -> RingStatistics:
        """Figures of this run; see `RingStatistics`."""
        in_flight = self.in_flight()
        counters = self.ring.counters()
        self.tell_overflows(counters["overflows"])
        foreign = self.foreign.statistics()
        for name, waiting in (
            ("wait_readable", foreign.tasks_waiting_read),
            ("wait_writable", foreign.tasks_waiting_write),
        ):
            if waiting:
                in_flight[name] = in_flight.get(name, 0) + waiting
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
            workers=0 if self.closed else self.workers.bound(),
            restrictions=None if self.allowed is None else names(self.allowed),
        )

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
        left = drain(self, self._cycle)
        for ended in list(self.on_close.values()):
            ended()
        counters = self.ring.counters()
        self.tell_overflows(counters["overflows"])
        totals.running.pop(id(self), None)
        totals.add(counters, left)
        with self._gate:
            os.close(self._eventfd)
        self.owners.clear()
        self.foreign.close()
        if left:
            leak(left, self.ring, self.table, self.buffers, self.groups)
        else:
            self.workers.narrow_all()
            if self.groups is not None:
                self.groups.close()
            self.buffers.close()
            self.ring.close()

    async def wait_readable(self, fd: int | Any) -> None:
        """See `trio.lowlevel.wait_readable`."""
        number = _number(fd)
        owner = self.owners.get(number)
        if owner is not None:
            owner.wait_beside(owner.reader)
        await self._readiness().wait_readable(number)

    async def wait_writable(self, fd: int | Any) -> None:
        """See `trio.lowlevel.wait_writable`."""
        number = _number(fd)
        owner = self.owners.get(number)
        if owner is not None:
            owner.wait_beside(owner.writer)
        await self._readiness().wait_writable(number)

    def notify_closing(self, fd: int | Any) -> None:
        """Wakes every task that waits for this descriptor with `trio.ClosedResourceError`, and makes the
        kernel drop its reference to the file before it returns. See `trio.lowlevel.notify_closing`."""
        if not isinstance(fd, int):
            fd = fd.fileno()
        if seams.waits_for(self.foreign, fd):
            self.foreign.notify_closing(fd)
        owner = self.owners.pop(fd, None)
        if owner is not None:
            owner.close()

    # ---- scheduler ticks in C ------------------------------------------------------------------------

    def _first_ticks(self, n: int) -> int:
        """Delivers the first events by ticks in C, which take the place of this, if this run has any."""
        self._ticks = None
        if self._cycle == self.ring.cycle and self._make_ticks() is not None:
            self._ticks = self.compiled.run
        return 0 if self._ticks is None else self._ticks(n)

    def _make_ticks(self) -> Any:
        """The scheduler ticks in C of this run, or None where Trio's own loop does all of them."""
        runner = self.runner or self.bind()
        if self.compiled is None and self.options.compiled and isinstance(self.ring, KernelRing):
            offset = seams.clock_offset(runner)
            if offset is not None:
                self.compiled = seams.make_ticks(
                    Operation,
                    (self.table.entries, self.table.free),
                    self.owners,
                    self.foreign,
                    self.ring.addresses(),
                    offset,
                    self._quiet,
                    self.stray,
                )
        return self.compiled

    def receive_from(self, op: Operation, fd: int, size: int) -> Any:
        receive = op.receive
        if receive is None:
            super().receive_from(op, fd, size)
            if self._make_ticks() is None:
                return None
            receive = seams.make_receive(self.compiled, op, op.template, self.ring, self.buffers)
            op.receive = receive
        receive.aim(op.user_data, fd, size)
        op.template = receive.template
        return receive

    def wait_in_c(self, op: Operation, fd: int) -> Any:
        return None if self._make_ticks() is None else self.receive_from(op, fd, 1)

    def _quiet(self) -> float:
        """For how many seconds the run may wait for the ring alone; negative: something else is due."""
        if self._ticks is None or self._delayed or self.cancels.waiting or self.cancels.deferred:
            return -1.0  # without `_ticks`: something was put around entering the ring, which C does not call
        if not self._armed:
            return 0.0  # nothing would end a wait
        return inf if self._trim_at == inf else self._trim_at - time.monotonic()

    def wrap_enter(self, wrap: Callable[[Callable[..., int]], Callable[..., int]] | None) -> None:
        super().wrap_enter(wrap)
        self._ticks = self._first_ticks if wrap is None else None

    # ---- waiting -------------------------------------------------------------------------------------

    def _let_timers_win(self) -> int:
        """Enters once, so that linked timers which are due end their operations. The operations that are
        left, in kernel workers, are cancelled the next time."""
        due = self.cancels.take_deferred()
        n = self._cycle(0.0)
        self.cancels.flush_deferred(due)
        return n if n > 0 else self._trouble(n) if n < 0 else _SPURIOUS

    def _arm_wake_up(self) -> bool:
        fields = (_POLL_ADD, 0, self._eventfd, 0, 0, _POLL_MULTI, select.POLLIN, 0, 0, 0)
        if not self._wakes:
            self._wakes = self.ring.put(self._wake_data, *fields) == 0
        if not self._watched:
            self._watch()
        self._armed = self._wakes and self._watched
        return self._armed

    def _on_wake(self, op: Operation, res: int, flags: int) -> None:
        _read_eventfd(self._eventfd)
        if not flags & _MORE:
            self._wakes = self._armed = False

    def _readiness(self) -> Any:
        """Where tasks wait for descriptors that others own: Trio's own epoll, which the ring polls.

        A poll in the ring would hold the file, so that closing the descriptor without notice would not end
        the connection, and it would accept files that epoll refuses. The price is a system call to begin a
        wait and one for each round of wake-ups, as on stock Trio.
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

    def _wait_on_foreign_thread(self, timeout: float) -> int:
        if not self._guest_fd_registered:
            # Only the owner may register the eventfd, which it does in process_events.
            self._guest = True
            return _SPURIOUS
        poll = select.poll()
        poll.register(self._eventfd, select.POLLIN)
        return _SPURIOUS if poll.poll(timeout * 1000) else 0

    def _enter_on_owner(self, n: int) -> int:
        self.ring.eager = False
        if self._failure is not None:
            raise self._failure
        if self._guest and not self._guest_fd_registered:
            self._guest_fd_registered = True
            for what in list(self._delayed):
                what.on_timeout()  # the thread that waits from now on cannot call it
            assert isinstance(self.ring, KernelRing)
            self.ring.register_eventfd(self._eventfd)
        if n < 0:
            _read_eventfd(self._eventfd)
            n = self._cycle(0.0)
            if n < 0:
                n = max(0, self._trouble(n))
        return n

    def _trouble(self, n: int) -> int:
        """The answer to an enter that failed with nothing to hand out: completions, or a number below 0.

        An error that ends the run is raised by `process_events`: raised by `get_events` it would end Trio's
        run without clean-up, which is right only in a forked child."""
        if n == _EINTR:
            return _SPURIOUS
        if n in PASSING:
            self.foreign.process_events(self.foreign.get_events(0))  # the ring's poll of it needs an enter
            ended = self._refusals.endure(self.ring, self.deadline_data)
            if ended is not None:
                return ended or _SPURIOUS
        failed = failure(self.ring, n)
        if n == -errno.EBADF:
            raise failed  # the ring is the parent process's: a child has nothing to clean up
        self._failure = failed
        return _SPURIOUS


def statistics() -> RingStatistics:
    """The figures of this run: ``trio.lowlevel.current_statistics().io_statistics``, by its type.

    Raises:
        RuntimeError: outside a ring run.
    """
    manager = current()
    assert isinstance(manager, Manager)
    return manager.statistics()


def _number(fd: int | Any) -> int:
    number: int = fd if isinstance(fd, int) else fd.fileno()
    if number < 0:
        raise ValueError(f"file descriptor cannot be a negative integer ({number})")
    return number


def _read_eventfd(fd: int) -> None:
    try:
        os.eventfd_read(fd)
    except BlockingIOError:
        pass
