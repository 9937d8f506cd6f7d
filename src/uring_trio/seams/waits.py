"""How tasks wait for operations: each wait queues what it is given, parks and returns a number.

The waits live here because they read a task's cancel status and yield Trio's own messages: the public
functions for that cost almost a microsecond more per operation. `deliver` is the other end, which resumes the
tasks; `attempts` has the checkpoints of calls that do not wait.

Nothing here depends on what an operation does. ``enable_ki_protection`` is the outermost decorator, because
``types.coroutine`` gives a function new code.
"""

from __future__ import annotations

import errno
import types
from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Any

import outcome
import trio
from trio.lowlevel import Abort, cancel_shielded_checkpoint, checkpoint_if_cancelled, enable_ki_protection

from uring import abi
from uring.kernel.inflight import GENERATION, INDEX_MASK, USER_DATA_MASK

from .attempts import cancelled
from .names import context, core_traps
from .runs import NoRing, current_task

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from uring.kernel.op import Op
    from uring.kernel.volley import Volley

    from .protocols import Request

__all__ = [
    "CANCELLED",
    "DONE",
    "INTERRUPTED",
    "Abort",
    "deliver",
    "park_message",
    "perform_fields",
    "perform_op",
    "transact",
    "transact_unlimited",
    "transact_volley",
    "transact_within",
    "transfer",
    "wait",
    "wait_for",
]

_Park: Any = getattr(core_traps, "WaitTaskRescheduled", None)

_SHIELDED: Any = None if _Park is None else _Park(lambda raise_cancel: Abort.FAILED)
"""Parks a task that nothing but its operation's end may wake."""

DONE: outcome.Value[None] = outcome.Value(None)
"""The outcome that every operation's task is rescheduled with; never unwrapped, so one object serves all."""

INTERRUPTED = frozenset((-errno.EINTR, -512, -513, -514, -516))
"""Results of an operation that a signal broke off in a kernel worker, and that did nothing; those below -511,
ERESTARTSYS and its like, leak from the kernel."""
CANCELLED = INTERRUPTED | {-errno.ECANCELED}
"""Results of an operation that was cancelled."""
_UNUSUAL = int(abi.IORING_CQE_F_MORE | abi.IORING_CQE_F_NOTIF)
_BUFFER = int(abi.IORING_CQE_F_BUFFER)


def park_message(abort: Callable[[Any], Abort]) -> Any:
    """The message that parks a task with this abort function; reusable."""
    return _Park(abort)


@enable_ki_protection
@types.coroutine
def transact(op: Request) -> Generator[Any, Any, int]:
    """Queues ``op.template``, parks until its last completion and returns the result.

    The result is the completion's number, negative for an errno. A task whose scope is cancelled already
    queues nothing. A result that arrived beats a cancel; an interrupted operation raises what interrupted
    it (``Cancelled``, ``KeyboardInterrupt``, ``ClosedResourceError``).
    """
    task = context.task
    runner = task._runner
    if task._cancel_status.effectively_cancelled or (runner.ki_pending and task is runner.main_task):
        yield from checkpoint_if_cancelled()
    if op.task is not None or runner is not op.runner:
        op.refuse(runner)
    if op.reach is not None:
        deadlines = runner.deadlines._heap
        if deadlines and deadlines[0][0] <= op.reach + perf_counter():
            return (yield from _transact_by_deadline(op, task))
    if op.queue(op.template) < 0:
        yield from _queue_later(op, task, op.queue, (op.template,))
    op.task = task
    got = yield op.park
    if got is not DONE:
        got.unwrap()
    return op.res


@enable_ki_protection
@types.coroutine
def transact_unlimited(op: Request) -> Generator[Any, Any, int]:
    """As `transact`, for a multishot, which no timer is linked to."""
    task = context.task
    runner = task._runner
    if task._cancel_status.effectively_cancelled or (runner.ki_pending and task is runner.main_task):
        yield from checkpoint_if_cancelled()
    if op.task is not None or runner is not op.runner:
        op.refuse(runner)
    return (yield from _transact_linked(op, op.template, task, inf))


@enable_ki_protection
@types.coroutine
def perform_fields(op: Request, fields: tuple[int, ...]) -> Generator[Any, Any, int]:
    """As `transact`, for an operation whose fields come as numbers."""
    task = context.task
    runner = task._runner
    if task._cancel_status.effectively_cancelled or (runner.ki_pending and task is runner.main_task):
        yield from checkpoint_if_cancelled()
    if op.reach is not None:
        deadlines = runner.deadlines._heap
        if deadlines and deadlines[0][0] <= op.reach + perf_counter():
            op.template = op.engine.ring.template(op.user_data, *fields)
            return (yield from _transact_by_deadline(op, task))
    if op.put(op.user_data, *fields) < 0:
        yield from _queue_later(op, task, op.put, (op.user_data, *fields))
    op.task = task
    got = yield op.park
    if got is not DONE:
        got.unwrap()
    return op.res


@enable_ki_protection
@types.coroutine
def perform_op(op: Op) -> Generator[Any, Any, int]:
    """As `transact`, for one request under an operation of its own: from an operation taken out of the run's
    table to its return, in one piece, since each call in between costs two per cent of the whole.

    From here on the operation alone holds what the request pins: a traceback keeps this frame, and must not
    keep a caller's buffer from being resized.

    Raises:
        NoRing: this run is not on a ring.
    """
    task = current_task()
    runner = task._runner
    manager = runner.io_manager
    try:
        free = manager.table.free
    except AttributeError:
        raise NoRing from None
    if task._cancel_status.effectively_cancelled or (runner.ki_pending and task is runner.main_task):
        yield from checkpoint_if_cancelled()
    fields = op.fields
    slot = free.pop() if free else manager.acquire(op.name)
    slot.name = op.name
    slot.fd = fields[2]
    slot.pins = op.pins
    slot.discard = op.discard
    del op
    try:
        near = False
        if slot.reach is not None:
            deadlines = runner.deadlines._heap
            near = bool(deadlines) and deadlines[0][0] <= slot.reach + perf_counter()
        if near:
            slot.template = manager.ring.template(slot.user_data, *fields)
            slot.now = fields[2] >= 0
            res = yield from _transact_by_deadline(slot, task)
            slot.now = False
        else:
            # Nothing but the kernel keeps the file of a descriptor that another task may close.
            put = slot.put if fields[2] < 0 else slot.put_now
            if put(slot.user_data, *fields) < 0:
                yield from _queue_later(slot, task, put, (slot.user_data, *fields))
            slot.task = task
            got = yield slot.park
            if got is not DONE:
                got.unwrap()
            res = slot.res
    except BaseException:
        manager.release(slot)
        raise
    slot.discard = slot.template = None
    slot.user_data = (slot.user_data + GENERATION) & USER_DATA_MASK
    free.append(slot)
    return res


@enable_ki_protection
@types.coroutine
def _queue_later(
    op: Request, task: Any, queue: Callable[..., int], entry: tuple[Any, ...], shielded: bool = False
) -> Generator[Any, Any, None]:
    """Queues an entry once the kernel takes some, unless the operation is closed or cancelled first.

    The operation counts as busy from now on, so that no other task sets it up and a close finds it. If it
    does not get into the queue, that use of it ends here as one in flight ends by its completion.
    """
    op.task = task
    try:
        while True:
            op.engine.check_usable()
            yield from cancel_shielded_checkpoint()
            if op.interrupt is not None:
                op.interrupt()
            if not shielded and cancelled():
                yield from checkpoint_if_cancelled()
            if queue(*entry) >= 0:
                return
    except BaseException:
        op.task = op.pins = op.interrupt = None
        if op.retired:
            op.engine.release(op)
        raise


@enable_ki_protection
@types.coroutine
def transact_within(op: Request, seconds: float | None) -> Generator[Any, Any, int]:
    """As `transact`, with a time limit that the kernel holds, if any.

    Raises:
        trio.TooSlowError: the limit passed and the operation was cancelled; nothing of it took effect.
    """
    if seconds is None and not op.now:
        return (yield from transact(op))
    task = context.task
    runner = task._runner
    if task._cancel_status.effectively_cancelled or (runner.ki_pending and task is runner.main_task):
        yield from checkpoint_if_cancelled()
    if op.task is not None or runner is not op.runner:
        op.refuse(runner)
    if seconds is None:
        return (yield from _transact_by_deadline(op, task))
    until = perf_counter() + seconds
    res = yield from _transact_linked(op, op.template, task, until)
    # Before its time the timer has interrupted nothing; see `_transact_by_deadline`.
    if res in CANCELLED and op.engine.ring.now() >= until:
        raise trio.TooSlowError
    return res


@enable_ki_protection
@types.coroutine
def _transact_by_deadline(op: Request, task: Any) -> Generator[Any, Any, int]:
    """Runs ``op`` with the deadline of its task linked to it, if that is within reach.

    When the kernel's timer wins, Trio expires the same deadline before the task runs again, and the
    cancellation is raised here. If the deadline has been moved meanwhile, or is shielded, the operation
    is armed again, unseen by the task, with the same template: another task may have set ``op`` up for
    something else meanwhile, and been cancelled before it queued that. An interruption before the time of the
    timer is the caller's: the process was stopped, or no thread could be made for a kernel worker.
    """
    offset, reach = op.engine.clock_offset, -inf if op.reach is None else op.reach
    user_data, pins, template = op.user_data, op.pins, op.template
    try:
        while True:
            when = task._cancel_status.effective_deadline()
            until = when - offset if when <= reach + perf_counter() else inf
            res = yield from _transact_linked(op, template, task, until)
            if res not in CANCELLED or op.engine.ring.now() < until:
                return res
            if task._cancel_status.effectively_cancelled:
                yield from checkpoint_if_cancelled()
            if op.user_data != user_data:
                raise trio.ClosedResourceError("another task closed this fd")
            if op.task is not None:
                op.refuse(op.runner)
            op.pins = pins
    finally:
        del pins  # a traceback keeps this frame, see `perform_op`


@enable_ki_protection
@types.coroutine
def _transact_linked(op: Request, template: Any, task: Any, when: float) -> Generator[Any, Any, int]:
    queue: Callable[..., int] = op.queue
    entry: tuple[Any, ...] = (template,)
    if when != inf:
        queue, entry = op.engine.ring.queue_pair, (template, op.kernel_deadline(when))
    if queue(*entry) < 0:
        yield from _queue_later(op, task, queue, entry)
    if op.now:
        op.engine.ring.flush(0)
    op.task = task
    op.until = when
    got = yield op.park
    op.until = inf
    if got is not DONE:
        got.unwrap()
    return op.res


@enable_ki_protection
@types.coroutine
def transfer(
    active: set[Any],
    name: str,
    opcode: int,
    fd: int,
    off: int,
    addr: int,
    length: int,
    pins: object,
    shielded: bool = False,
) -> Generator[Any, Any, int]:
    """As `transact`, for a read or write with an operation out of the run's pool.

    While it is in flight it is in ``active``. ``pins`` live until the kernel is done. ``shielded``: nothing
    cancels it.

    Raises:
        NoRing: this run is not on a ring.
    """
    task = context.task
    runner = task._runner
    if not shielded and (
        task._cancel_status.effectively_cancelled or (runner.ki_pending and task is runner.main_task)
    ):
        yield from checkpoint_if_cancelled()
    manager = runner.io_manager
    try:
        pool = manager.pool
    except AttributeError:
        raise NoRing from None
    op = pool.pop() if pool else manager.pooled()
    op.pins = pins
    op.name = name
    active.add(op)
    if op.queue_at(op.template, opcode, fd, off, addr, length) < 0:
        entry = (op.template, opcode, fd, off, addr, length)
        try:
            yield from _queue_later(op, task, op.queue_at, entry, shielded)
        except BaseException:
            active.remove(op)
            if op.pooled:
                pool.append(op)
            raise
    op.task = task
    got = yield _SHIELDED if shielded else op.park
    active.remove(op)
    if op.pooled:
        pool.append(op)
    if got is not DONE:
        got.unwrap()
    return op.res  # type: ignore[no-any-return]


@enable_ki_protection
@types.coroutine
def transact_volley(op: Request, volley: Volley) -> Generator[Any, Any, Callable[[], Any] | None]:
    """Queues a volley and parks until all its members have completed; returns what raises the cancellation,
    if there was one meanwhile. A task whose scope is cancelled already queues nothing."""
    task = context.task
    runner = task._runner
    if task._cancel_status.effectively_cancelled or (runner.ki_pending and task is runner.main_task):
        yield from checkpoint_if_cancelled()
    # Members may be in the kernel before all are queued: from here on the operation keeps what they pin.
    op.task = task
    while volley.queue(op.user_data) < 0:
        try:
            op.engine.check_usable()
            yield from cancel_shielded_checkpoint()
            if not volley.in_flight and cancelled():
                yield from checkpoint_if_cancelled()
        except BaseException:
            if not volley.in_flight:
                op.task = None
            raise
    if op.now:
        op.engine.ring.flush(0)
    interrupt = None

    def abort(raise_cancel: Callable[[], Any]) -> Abort:
        nonlocal interrupt
        interrupt = raise_cancel
        op.engine.cancels.cancel_volley(volley)
        return Abort.FAILED

    yield _Park(abort)
    return interrupt


@enable_ki_protection
@types.coroutine
def wait(park: Any) -> Generator[Any, Any, None]:
    """Parks the current task with a message of `park_message`'s; the caller keeps `current_task`."""
    got = yield park
    if got is not DONE:
        got.unwrap()


@enable_ki_protection
@types.coroutine
def wait_for(waiter: Any) -> Generator[Any, Any, None]:
    """Parks the current task, noted as ``waiter.task``, with the message ``waiter.park``."""
    waiter.task = context.task
    got = yield waiter.park
    if got is not DONE:
        got.unwrap()


def deliver(manager: Any, completions: Iterable[tuple[int, int, int]]) -> None:
    """Stores each completion's result in its operation and resumes the task that is parked on it.

    The steps of `trio.lowlevel.reschedule` are done here in place while no instrument is active: that call is
    a sixth of an operation's way through Python.
    """
    runner = manager.runner or manager.bind()
    entries = manager.table.entries
    runnable = runner.runq
    # A guest's host has to be woken for the first; instruments are called for each.
    reschedule = runner.reschedule if runner.is_guest or "task_scheduled" in runner.instruments else None
    for user_data, res, flags in completions:
        try:
            op = entries[user_data & INDEX_MASK]
        except IndexError:  # posted by another ring
            manager.stray(user_data, res, flags)
            continue
        if op.user_data != user_data:
            manager.stray(user_data, res, flags)
            continue
        task = op.task
        if task is None or flags & _UNUSUAL or (flags & _BUFFER and res <= 0):
            op.handler(op, res, flags)
            continue
        op.res = res
        op.flags = flags
        op.task = op.pins = None
        if reschedule is not None:
            reschedule(task, DONE if op.interrupt is None else op.settle())
            continue
        task._next_send = DONE if op.interrupt is None else op.settle()
        task._next_send_fn = task.coro.send
        task._abort_func = None
        task.custom_sleep_data = None
        runnable.append(task)
