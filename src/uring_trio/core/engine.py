"""The engine of a run: its ring, every operation in flight on it, their buffers and cancels.

Sockets, files and streams take their operations from here. `manager` enters the ring, hands out the
completions and closes it.

Invariants
  - The ring is touched by the thread that opened it alone.
  - An operation's slot, pins and buffers are released at its last completion.

It is independent of what is on either end of an operation, and of what Trio calls.
"""

from __future__ import annotations

import errno
import logging
import time
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

import trio

from uring import abi
from uring.errors import RingClosed, RingUnavailable
from uring.kernel.inflight import Table

from .. import seams
from . import buffers
from .buffers import RECEIVE_GROUP, ReceiveBuffers
from .cancels import Cancels
from .deadlines import reach
from .opening import open_ring, unavailable
from .operation import Operation, hold
from .restrictions import numbers
from .workers import Workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from uring.kernel.ringlike import RingLike

    from ..options import RingOptions

__all__ = ["Delayed", "Engine", "Owner", "current"]

_log = logging.getLogger("uring_trio.run")
_log.addHandler(logging.NullHandler())  # silent in a program that sets up no logging

_EINVAL = -errno.EINVAL
_RECV = int(abi.IORING_OP_RECV)
_SELECT = int(abi.IOSQE_BUFFER_SELECT)

FOREIGN = 3 << 62
"""Bits of ``user_data`` that mark a completion another ring posted for a slot of this one."""


class Delayed(Protocol):
    """Something that `Engine.delay` has delayed."""

    def on_timeout(self) -> None:
        """The delay expired."""


class Owner(Protocol):
    """The part of `fd.Fd` that the engine uses: the one owner of a descriptor in this run."""

    owned: bool
    others: list[Any]
    reader: Operation | None
    writer: Operation | None

    def wait_beside(self, op: Operation | None) -> None:
        """Refuses to wait for readiness where the operation of that direction is busy."""

    def forget_receive(self) -> None:
        """Ends a receive in the kernel; the next receive checks again whether one is possible."""

    def close(self) -> None:
        """Ends every operation on it."""


class Lending(Protocol):
    """The part of `multishot.leases.Groups` that the engine uses: the buffers of subscriptions."""

    open: set[Any]

    def borrow(self, count: int, size: int) -> Any:
        """Buffers for one consumer."""

    def trim(self) -> bool:
        """Gives idle memory back; whether there may be more."""

    def close(self) -> None:
        """Frees every buffer."""


class Engine:
    """The ring of a run and what is in flight on it.

    Attributes:
        options, ring, closed: of the run.
        allowed: the opcodes that its restrictions leave; None: it has none.
        runner: Trio's, once the first task did something; see `bind`.
        owners: the `Fd` of each descriptor in use.
        keeps_urgent: whether urgent data is wanted, which a receive in the kernel would skip.
        table, pool: the operations, and those that serve transfers and are free.
        cancels: requests to cancel operations.
        workers: the bound on the kernel's workers.
        reach: up to when the kernel holds a deadline; see `deadlines.reach`.
        clock_offset: seconds that Trio's clock is ahead of the monotonic clock.
        receive_buffers, buffers: of single-shot receives; their ring.
        provide, volley: what makes buffers and volleys.
        groups: buffers of subscriptions, made for the first one.
        queues: open queues of zero-copy receives.
        registered: free slots of the table of registered buffers, once there is one.
        slots: direct descriptors, made for the first one.
        foreign: Trio's own engine, where tasks wait for descriptors that others own.
        late: completions that belong to no operation.
        on_start: called when the run is known, if it is not None.
        on_close: called once nothing is in flight any more.
    """

    def _set_up(
        self,
        options: RingOptions,
        ring: RingLike | None,
        provide: Callable[..., Any],
        volley: Callable[[Any, int], Any],
    ) -> None:
        self.options = options
        self.ring: RingLike = open_ring(options) if ring is None else ring
        restrictions = options.restrictions
        self.allowed: frozenset[int] | None = None if restrictions is None else numbers(restrictions)
        self.runner: Any = None
        self.closed: bool = False
        self.owners: dict[int, Owner] = {}
        self.keeps_urgent: bool = False
        self.table: Table[Operation] = Table(self._make_operation)
        self.pool: list[Operation] = []
        self.cancels: Cancels = Cancels(self.ring, self.table)
        self.workers: Workers = Workers(self.ring)
        self._cycle = self.ring.cycle
        self._poll = self.ring.poll
        self.reach: float | None = None
        self.clock_offset: float = 0.0
        self._deadlines: Callable[[], object] = _nothing
        self._due: Callable[[], bool] = bool
        self._guest = False  # whether another thread may be waiting for events
        self.provide: Callable[..., Any] = provide
        self.volley: Callable[[Any, int], Any] = volley
        self.groups: Lending | None = None
        self.queues: set[Any] = set()
        self.registered: list[int] | None = None
        self.slots: Any = None
        self.foreign: Any = None
        self._trim_at: float = inf  # when to look for idle memory
        self._delayed: dict[Delayed, float] = {}  # until when; 0: the delay starts with the next tick
        self.delay_seconds: float = options.gather_us / 1e6
        self.late: int = 0
        self.on_start: Callable[[], None] | None = None
        self.on_close: dict[object, Callable[[], None]] = {}
        self._overflows_told = 0
        try:
            self._reserve(options)
        except BaseException as exc:
            self.ring.close()
            if isinstance(exc, (OSError, MemoryError)) and not isinstance(exc, RingUnavailable):
                raise unavailable(exc, "io_uring_register", options) from exc
            raise
        self.cancels.user_data = self._internal("async_cancel", self.cancels.answered).user_data
        self.deadline_data: int = self._internal("link_timeout", self._on_timer).user_data

    def _reserve(self, options: RingOptions) -> None:
        """Takes what a run needs besides its ring, so that a limit or a filter is met before it begins."""
        if options.workers:
            self.workers.limit(options.workers)
        self.receive_buffers: ReceiveBuffers = ReceiveBuffers(self.ring, options, self.provide)
        self.buffers: Any = self.receive_buffers.ring

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

    # ---- operations ----------------------------------------------------------------------------------

    def keep_urgent(self) -> None:
        """Ends receives in the kernel for the rest of the run: urgent data stays in the socket."""
        if not self.keeps_urgent:
            self.keeps_urgent = True
            for owner in list(self.owners.values()):
                owner.forget_receive()

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
        """Gives an operation back. One still in flight, whose task a crash has thrown away, stays as it is:
        the kernel may write to what it pins."""
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

    def receive_from(self, op: Operation, fd: int, size: int) -> Any:
        """Sets an operation up to receive ``size`` bytes into provided buffers. Returns the object that
        receives in C, None where the run has no ticks in C."""
        op.template = self.ring.template(op.user_data, _RECV, _SELECT, fd, 0, 0, size, 0, RECEIVE_GROUP)
        return None

    def wait_in_c(self, op: Operation, fd: int) -> Any:
        """As `receive_from`, for an operation that is only to wait for input."""
        return None

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
        """Finds Trio's runner, in the first task that does something, and returns it."""
        self.runner = seams.current_runner()
        offset = seams.clock_offset(self.runner)
        if offset is not None:
            self.clock_offset = offset
            self.reach = reach(self.options.deadlines, offset)
            if self.options.deadlines != "link":
                self._deadlines, self._due = seams.deadline_checks(self.runner, offset)
        for op in self.table.entries:
            op.runner = self.runner
            op.reach = self.reach
        _log.info("a run on io_uring begins, with %s", self.options)
        if self.on_start is not None:
            self.on_start()
        return self.runner

    def check_usable(self) -> None:
        """Raises what makes the ring refuse entries for good: the run is over, or this is a forked child."""
        closed_error = getattr(self.ring, "closed_error", None)
        if self.ring.idle() < 0 and closed_error is not None:
            raise closed_error()

    def wrap_enter(self, wrap: Callable[[Callable[..., int]], Callable[..., int]] | None) -> None:
        """Wraps the calls that enter the ring and hand out completions; None: unwraps them."""
        self._cycle = self.ring.cycle if wrap is None else wrap(self.ring.cycle)
        self._poll = self.ring.poll if wrap is None else wrap(self.ring.poll)

    def in_flight(self) -> dict[str, int]:
        """How many operations of each name have a task parked on them."""
        found: dict[str, int] = {}
        for op in self.table.taken():
            if op.task is not None:
                found[op.name] = found.get(op.name, 0) + 1
        return found

    def stray(self, user_data: int, res: int, flags: int) -> None:
        """A completion that another ring posted for a slot of this one, or one that is late or forged."""
        op = self.table.find(user_data & ~FOREIGN) if user_data & FOREIGN == FOREIGN else None
        if op is not None and op.task is None:
            op.handler(op, res, flags)
        else:
            self.late += 1

    # ---- handlers without a task ---------------------------------------------------------------------

    def submit(
        self, op: Operation, fields: tuple[int, ...], then: Callable[[], object] | None = None
    ) -> None:
        """Submits an entry whose completion goes to ``op.handler``, before this returns; while the kernel
        takes none it is tried again in each tick. ``then`` is called when it is submitted."""
        if not self._try_to_submit(op, fields, then):
            self.check_usable()
            self.run_soon(partial(self._submit_later, op, fields, then))

    def _submit_later(
        self, op: Operation, fields: tuple[int, ...], then: Callable[[], object] | None
    ) -> None:
        if not self.closed and not self._try_to_submit(op, fields, then):
            self.run_soon(partial(self._submit_later, op, fields, then))

    def _try_to_submit(
        self, op: Operation, fields: tuple[int, ...], then: Callable[[], object] | None
    ) -> bool:
        if op.put(op.user_data, *fields) < 0:
            self.ring.flush(1)
            if op.put(op.user_data, *fields) < 0:
                return False
        self.ring.flush(0)
        if then is not None:
            then()
        return True

    # ---- buffers and delays ----------------------------------------------------------------------------

    def more_buffers(self) -> None:
        """For a single-shot receive that found no buffer."""
        if self.receive_buffers.grow():
            self.schedule_trim()

    def tell_overflows(self, overflows: int) -> None:
        """Logs that the kernel had to keep completions, if it had to since this was called last."""
        if overflows > self._overflows_told:
            _log.warning(
                "%d completions found the completion queue of %d full; none is lost, but each costs the "
                "kernel memory and time, which a larger RingOptions(cq_entries=) spares",
                overflows - self._overflows_told,
                self.options.cq_entries,
            )
            self._overflows_told = overflows

    def schedule_trim(self) -> None:
        """Plans a `_trim`: something took memory that it may not need for long."""
        if self._trim_at == inf:
            self._trim_at = time.monotonic() + buffers.IDLE_SECONDS

    def delay(self, what: Delayed) -> bool:
        """Calls ``on_timeout`` once ``RingOptions.gather_us`` have passed from the next tick on. A call
        before that restarts the delay.

        False: nothing is delayed in this run, by its options or because another thread waits for a guest.
        """
        if not self.delay_seconds or self._guest:
            return False
        self._delayed[what] = 0.0
        return True

    def _on_timer(self, op: Operation, res: int, flags: int) -> None:
        """The end of a linked timer, or of an entry taken back. ``EINVAL``: the kernel had memory for an
        operation and none for its timer, so that it runs without a limit. It does not say which operation."""
        if res == _EINVAL:
            for each in self.table.taken():
                if each.task is not None and each.until != inf:
                    self._delayed[_Unlinked(each)] = each.until

    def end_delay(self, what: Delayed) -> None:
        """Forgets a delay: ``on_timeout`` is not called."""
        self._delayed.pop(what, None)

    def _expire_delays(self, now: float) -> float:
        """Calls ``on_timeout`` for each delay that expired; when to look again."""
        soonest = inf
        for what, until in list(self._delayed.items()):
            if not until:
                until = self._delayed[what] = now + self.delay_seconds
            elif until <= now:
                self._delayed.pop(what)
                what.on_timeout()
                continue
            soonest = min(soonest, until)
        return soonest

    def _trim(self, now: float, end: float) -> float:
        """Expires delays and gives idle memory back, if it is time to; seconds until it is time again, or
        until ``end``."""
        if self._delayed:
            end = min(end, self._expire_delays(now))
        if now >= self._trim_at:
            self.tell_overflows(self.ring.counters()["overflows"])
            more = self.groups is not None and self.groups.trim()
            more = self.receive_buffers.trim() or more
            self._trim_at = now + buffers.IDLE_SECONDS if more else inf
        return min(self._trim_at, end) - now


_nothing = ().__len__
"""Answers 0, at the price of one call into C."""


class _Unlinked:
    """The time limit of an operation whose linked timer the kernel may have refused."""

    __slots__ = ("_op", "_user_data", "until")

    def __init__(self, op: Operation) -> None:
        self._op, self._user_data, self.until = op, op.user_data, op.until

    def on_timeout(self) -> None:
        op = self._op
        if op.user_data == self._user_data and op.until == self.until and op.task is not None:
            op.engine.cancels.cancel(op)


def current() -> Engine:
    """The engine of the ring run that this task is in.

    Raises:
        RuntimeError: outside a Trio run, or in a run that is not on a ring.
    """
    engine = seams.current_manager()
    if not isinstance(engine, Engine):
        raise seams.NoRing
    return engine
