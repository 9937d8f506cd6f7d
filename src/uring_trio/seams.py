"""The one place that touches private names of Trio.

Every private name in use is listed in `NAMES`; `check` reports the ones that this Trio does not have, and
a ring run refuses to start without them. The traps below (`transact`, `inline`) live here because they
read a task's cancel status and yield Trio's own messages: the public functions for that cost almost a
microsecond more per operation.

Nothing here knows what an operation does: a trap queues what it is given and returns a number.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
import threading
import types
import warnings
from functools import partial
from math import inf
from operator import attrgetter
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

import outcome
import trio
from trio import socket as _public_socket
from trio.lowlevel import Abort, cancel_shielded_checkpoint, checkpoint_if_cancelled, enable_ki_protection

from uring import abi
from uring.inflight import GENERATION, INDEX_MASK, USER_DATA_MASK

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator, Iterable

    from uring.op import Op
    from uring.volley import Volley

    from .manager import Manager
    from .operation import Operation

__all__ = [
    "DEFAULT_RECEIVE_SIZE",
    "DONE",
    "INTERRUPTED",
    "NAMES",
    "TESTED",
    "Abort",
    "SocketType",
    "Subclassable",
    "UnsupportedTrio",
    "announce_backend",
    "check",
    "choose_manager",
    "current_manager",
    "deliver",
    "inline",
    "interrupted",
    "park_message",
    "patch_pipe_type",
    "patch_socket_type",
    "patch_stream_methods",
    "perform_fields",
    "perform_in",
    "reschedule",
    "sending",
    "set_default_manager",
    "transact",
    "use_manager_class",
]

TESTED = ("0.33", "0.34", "0.35")
"""Minor versions of Trio whose own test-suite has passed on the ring."""

NAMES = (
    "trio._core._run.CancelStatus.effective_deadline",
    "trio._core._run.Deadlines._heap",
    "trio._core._run.GLOBAL_RUN_CONTEXT",
    "trio._core._run.Runner.clock",
    "trio._core._run.Runner.deadlines",
    "trio._core._run.Runner.entry_queue",
    "trio._core._run.SystemClock.offset",
    "trio._core._run.Runner.instruments",
    "trio._core._run.Runner.reschedule",
    "trio._core._run.Runner.runq",
    "trio._core._run.TheIOManager",
    "trio._core._run.Task._abort_func",
    "trio._core._run.Task._cancel_points",
    "trio._core._run.Task._cancel_status",
    "trio._core._run.Task._next_send",
    "trio._core._run.Task._next_send_fn",
    "trio._core._run.Task._runner",
    "trio._core._run.CancelStatus.effectively_cancelled",
    "trio._core._run.Deadlines.next_deadline",
    "trio._core._run.Runner.ki_pending",
    "trio._core._run.Runner.main_task",
    "trio._core._run.Runner.is_guest",
    "trio._core._run.setup_runner",
    "trio._core._traps.CancelShieldedCheckpoint",
    "trio._core._traps.WaitTaskRescheduled",
    "trio._highlevel_socket.DEFAULT_RECEIVE_SIZE",
    "trio._highlevel_socket.SocketStream._send_conflict_detector",
    "trio._socket._SocketType",
    "trio._socket._SocketType._resolve_address_nocp",
    "trio._subprocess.create_pipe_from_child_output",
    "trio._subprocess.create_pipe_to_child_stdin",
)
"""Private names this module relies on, as dotted paths; fields of attrs classes, and attributes that a
constructor sets, count as present."""


class UnsupportedTrio(RuntimeError):
    """The installed Trio lacks internals that a ring run needs."""


class OtherRun(RuntimeError):
    """An operation of one run was used in another."""


class NoRing(RuntimeError):
    """The current run is not on a ring."""

    def __init__(self) -> None:
        super().__init__(
            "this needs a ring run: start it with uring_trio.run, or call uring_trio.install() "
            "before trio.run"
        )


_compared = False


def check() -> None:
    """Raises `UnsupportedTrio` unless every name in `NAMES` is there; warns, once, of a Trio never tested."""
    global _compared
    missing = [name for name in NAMES if not _present(name)]
    if missing:
        raise UnsupportedTrio(
            f"Trio {trio.__version__} lacks {', '.join(missing)}; "
            f"uring_trio is tested with Trio {', '.join(TESTED)}"
        )
    if not _compared:
        _compared = True
        if ".".join(trio.__version__.split(".")[:2]) not in TESTED:
            warnings.warn(
                f"Trio {trio.__version__} was never tested on the ring, only {', '.join(TESTED)}",
                RuntimeWarning,
                stacklevel=4,
            )


def _no_code() -> None: ...


def _present(dotted: str) -> bool:
    parts = dotted.split(".")
    found: Any = trio
    for depth, part in enumerate(parts[1:], 1):
        if hasattr(found, part):
            found = getattr(found, part)
            continue
        fields = {field.name for field in getattr(found, "__attrs_attrs__", ())}
        known = fields | set(getattr(found, "__slots__", ())) | set(getattr(found, "__annotations__", ()))
        known |= set(getattr(getattr(found, "__init__", None), "__code__", _no_code.__code__).co_names)
        return depth == len(parts) - 1 and part in known
    return True


if TYPE_CHECKING:
    _run: Any
    _traps: Any
    _socket: Any
    _subprocess: Any
    _stream_class: Any
    DEFAULT_RECEIVE_SIZE: int
    SocketType = trio.socket.SocketType
else:
    # A missing name must not make importing fail: ``check`` says what is wrong when a run starts.
    _run = getattr(trio._core, "_run", None)
    _traps = getattr(trio._core, "_traps", None)
    _socket = getattr(trio, "_socket", None)
    _subprocess = getattr(trio, "_subprocess", None)
    _stream_class = trio.SocketStream
    DEFAULT_RECEIVE_SIZE = getattr(getattr(trio, "_highlevel_socket", None), "DEFAULT_RECEIVE_SIZE", 65536)
    SocketType = getattr(_socket, "_SocketType", _public_socket.SocketType)

_context: Any = getattr(_run, "GLOBAL_RUN_CONTEXT", None)
_Park: Any = getattr(_traps, "WaitTaskRescheduled", None)
_Yield: Any = getattr(_traps, "CancelShieldedCheckpoint", None)

_SHIELDED: Any = None if _Park is None else _Park(lambda raise_cancel: Abort.FAILED)
"""Parks a task that nothing but its operation's end may wake."""

DONE: outcome.Value[None] = outcome.Value(None)
"""What every operation's task is rescheduled with; never unwrapped, so one object serves all."""

INTERRUPTED = frozenset((-errno.ECANCELED, -errno.EINTR, -512))
"""Results of an operation that was cancelled; -512 (ERESTARTSYS) leaks from kernel workers."""

_UNUSUAL = int(abi.IORING_CQE_F_MORE | abi.IORING_CQE_F_NOTIF)

_T = TypeVar("_T")


# ---- traps -------------------------------------------------------------------------------------------


# Marked as protected from Ctrl-C last: ``types.coroutine`` gives a function new code.


def park_message(abort: Callable[[Any], Abort]) -> Any:
    """The message that parks a task with this abort function; reusable."""
    return _Park(abort)


@enable_ki_protection
@types.coroutine
def transact(op: Operation) -> Generator[Any, Any, int]:
    """Queues ``op.template``, parks until its last completion and returns the result.

    The result is the completion's number, negative for an errno. A task whose scope is cancelled already
    queues nothing. A result that arrived beats a cancel; an interrupted operation raises what interrupted
    it (``Cancelled``, ``KeyboardInterrupt``, ``ClosedResourceError``).
    """
    task = _context.task
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
def perform_fields(op: Operation, fields: tuple[int, ...]) -> Generator[Any, Any, int]:
    """As `transact`, for an operation whose fields come as numbers."""
    task = _context.task
    runner = task._runner
    if task._cancel_status.effectively_cancelled or (runner.ki_pending and task is runner.main_task):
        yield from checkpoint_if_cancelled()
    if op.reach is not None:
        deadlines = runner.deadlines._heap
        if deadlines and deadlines[0][0] <= op.reach + perf_counter():
            op.template = op.manager.ring.template(op.user_data, *fields)
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
def perform_in(kind: type[Manager], op: Op) -> Generator[Any, Any, int]:
    """As `transact`, for one request under an operation of its own: from an operation taken out of the run's
    table to its return, in one piece, since each call in between costs two per cent of the whole.

    From here on the operation alone holds what the request pins: a traceback keeps this frame, and must not
    keep a caller's buffer from being resized.

    Args:
        kind: the class of the manager that a ring run has.

    Raises:
        NoRing: this run is not on a ring.
    """
    task = current_task()
    runner = task._runner
    manager: Manager = runner.io_manager
    if manager.__class__ is not kind:
        raise NoRing
    if task._cancel_status.effectively_cancelled or (runner.ki_pending and task is runner.main_task):
        yield from checkpoint_if_cancelled()
    fields = op.fields
    free = manager.table.free
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
            res = yield from _transact_by_deadline(slot, task)
        else:
            if slot.put(slot.user_data, *fields) < 0:
                yield from _queue_later(slot, task, slot.put, (slot.user_data, *fields))
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
    op: Operation, task: Any, queue: Callable[..., int], entry: tuple[Any, ...]
) -> Generator[Any, Any, None]:
    """Queues an entry once the kernel takes some, unless the operation is closed or cancelled first.

    The operation counts as busy from now on, so that nobody else sets it up and a close finds it.
    """
    op.task = task
    try:
        while True:
            op.manager.check_usable()
            yield from cancel_shielded_checkpoint()
            if op.interrupt is not None:
                op.task = None
                op.res = op.NEVER_QUEUED
                op.settle().unwrap()
            if task._cancel_status.effectively_cancelled:
                yield from checkpoint_if_cancelled()
            if queue(*entry) >= 0:
                return
    except BaseException:
        op.task = op.pins = None
        raise


@enable_ki_protection
@types.coroutine
def transact_within(op: Operation, seconds: float | None) -> Generator[Any, Any, int]:
    """As `transact`, with a time limit that the kernel holds, if any.

    Raises:
        trio.TooSlowError: the limit passed and the operation was cancelled; nothing of it took effect.
    """
    if seconds is None:
        return (yield from transact(op))
    task = _context.task
    runner = task._runner
    if task._cancel_status.effectively_cancelled or (runner.ki_pending and task is runner.main_task):
        yield from checkpoint_if_cancelled()
    if op.task is not None or runner is not op.runner:
        op.refuse(runner)
    res = yield from _transact_linked(op, task, perf_counter() + seconds)
    if res in INTERRUPTED:
        raise trio.TooSlowError
    return res


@enable_ki_protection
@types.coroutine
def _transact_by_deadline(op: Operation, task: Any) -> Generator[Any, Any, int]:
    """Runs ``op`` with the deadline of its task linked to it, if that is within reach.

    When the kernel's timer wins, Trio expires the same deadline before the task runs again, and the
    cancellation is raised here. If the deadline has been moved meanwhile, or is shielded, the operation
    is armed again unseen.
    """
    offset, reach = op.manager.clock_offset, op.reach
    user_data, pins = op.user_data, op.pins
    assert reach is not None
    while True:
        when = task._cancel_status.effective_deadline()
        res = yield from _transact_linked(op, task, when - offset if when <= reach + perf_counter() else inf)
        if res not in INTERRUPTED:
            return res
        if task._cancel_status.effectively_cancelled:
            yield from checkpoint_if_cancelled()
        if op.user_data != user_data:
            raise trio.ClosedResourceError("another task closed this fd")
        if op.task is not None:
            op.refuse(op.runner)
        op.pins = pins


@enable_ki_protection
@types.coroutine
def _transact_linked(op: Operation, task: Any, when: float) -> Generator[Any, Any, int]:
    queue: Callable[..., int] = op.queue
    entry: tuple[Any, ...] = (op.template,)
    if when != inf:
        queue, entry = op.manager.ring.queue_pair, (op.template, op.kernel_deadline(when))
    if queue(*entry) < 0:
        yield from _queue_later(op, task, queue, entry)
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
    task = _context.task
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
    while op.queue_at(op.template, opcode, fd, off, addr, length) < 0:
        try:
            manager.check_usable()
        except BaseException:
            manager.release(op)
            raise
        yield from cancel_shielded_checkpoint()
    op.task = task
    active.add(op)
    got = yield _SHIELDED if shielded else op.park
    active.remove(op)
    if op.pooled:
        pool.append(op)
    if got is not DONE:
        got.unwrap()
    return op.res  # type: ignore[no-any-return]


@enable_ki_protection
@types.coroutine
def transact_volley(op: Operation, volley: Volley) -> Generator[Any, Any, Callable[[], Any] | None]:
    """Queues a volley and parks until all its members are through; returns what raises the cancellation, if
    there was one meanwhile. A task whose scope is cancelled already queues nothing."""
    task = _context.task
    runner = task._runner
    if task._cancel_status.effectively_cancelled or (runner.ki_pending and task is runner.main_task):
        yield from checkpoint_if_cancelled()
    while volley.queue(op.user_data) < 0:
        op.manager.check_usable()
        yield from cancel_shielded_checkpoint()
    interrupt = None

    def abort(raise_cancel: Callable[[], Any]) -> Abort:
        nonlocal interrupt
        interrupt = raise_cancel
        op.manager.cancel_volley(volley)
        return Abort.FAILED

    op.task = task
    yield _Park(abort)
    return interrupt


@enable_ki_protection
@types.coroutine
def pause() -> Generator[Any, Any, None]:
    """A checkpoint for what needs no operation: cancelled tasks do not get past it, and others run."""
    task = _context.task
    runner = task._runner
    if task._cancel_status.effectively_cancelled or (runner.ki_pending and task is runner.main_task):
        yield from checkpoint_if_cancelled()
    task._cancel_points += 1
    yield _Yield


@enable_ki_protection
@types.coroutine
def attempt(manager: Any, fn: Callable[..., _T | None], *args: Any) -> Generator[Any, Any, _T | None]:
    """Calls a function that does not wait, as a checkpoint, in the run that ``manager`` is of.

    None, without a yield: the function gave up (its None), this is another run, or a checkpoint would raise
    now, which is left to the operation that is to follow.
    """
    task = _context.task
    runner = task._runner
    if (
        runner.io_manager is not manager
        or task._cancel_status.effectively_cancelled
        or (runner.ki_pending and task is runner.main_task)
    ):
        return None
    result = fn(*args)
    if result is not None:
        task._cancel_points += 1
        yield _Yield
    return result


def cancelled() -> bool:
    """Whether a checkpoint would raise now: the cheap look of an iterator between two yields."""
    task = _context.task
    if task._cancel_status.effectively_cancelled:
        return True
    runner = task._runner
    return bool(runner.ki_pending and task is runner.main_task)


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
    waiter.task = _context.task
    got = yield waiter.park
    if got is not DONE:
        got.unwrap()


@enable_ki_protection
@types.coroutine
def inline(fn: Callable[..., _T], *args: Any) -> Generator[Any, Any, _T]:
    """Calls a function that does not block, as a checkpoint: cancelled tasks do not get to call it, and
    other tasks run before it returns. ``BlockingIOError`` and all else come through without a yield.
    """
    task = _context.task
    runner = task._runner
    if task._cancel_status.effectively_cancelled or (runner.ki_pending and task is runner.main_task):
        yield from checkpoint_if_cancelled()
    task._cancel_points += 1
    result = fn(*args)
    yield _Yield
    return result


def interrupted() -> bool:
    """Whether a checkpoint would raise now. Otherwise this counts as having passed one, without a yield."""
    task = _context.task
    runner = task._runner
    if task._cancel_status.effectively_cancelled or (runner.ki_pending and task is runner.main_task):
        return True
    task._cancel_points += 1
    return False


def deliver(manager: Manager, completions: Iterable[tuple[int, int, int]]) -> None:
    """Stores each completion's result in its operation and resumes the task that is parked on it.

    What `trio.lowlevel.reschedule` does for each task is done here in place where nobody watches: it is a
    sixth of an operation's way through Python.
    """
    runner = manager.runner or manager.bind()
    entries = manager.table.entries
    runnable = runner.runq
    # A guest's host has to be told of the first; instruments want to know of each.
    reschedule = runner.reschedule if runner.is_guest or "task_scheduled" in runner.instruments else None
    for user_data, res, flags in completions:
        op = entries[user_data & INDEX_MASK]
        if op.user_data != user_data:
            manager.stray(user_data, res, flags)
            continue
        task = op.task
        if task is None or flags & _UNUSUAL:
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


# ---- the current run ---------------------------------------------------------------------------------


def current_manager() -> Any:
    """The I/O manager of the run in this thread, of whatever kind.

    Raises:
        RuntimeError: not inside a Trio run.
    """
    try:
        return _context.runner.io_manager
    except AttributeError:
        raise RuntimeError("must be called from async context") from None


def manager_here() -> Any:
    """The I/O manager of the run in this thread, or None outside of any."""
    runner = getattr(_context, "runner", None)
    return None if runner is None else runner.io_manager


def run_sync_soon(runner: Any, fn: Callable[[], object]) -> None:
    """Calls ``fn`` in a run's thread, from any other.

    Raises:
        trio.RunFinishedError: the run is over.
    """
    runner.entry_queue.run_sync_soon(fn)


def runs_on(kind: type) -> bool:
    """Whether this code is in a task of a Trio run whose I/O manager is of that class."""
    try:
        return _context.task._runner.io_manager.__class__ is kind
    except AttributeError:
        return False


def current_runner() -> Any:
    return _context.runner


def current_task() -> Any:
    """The task that this code is in.

    Raises:
        RuntimeError: not inside a Trio run.
    """
    try:
        return _context.task
    except AttributeError:
        raise RuntimeError("must be called from async context") from None


def clock_offset(runner: Any) -> float | None:
    """What Trio's clock is ahead of the monotonic clock; None for any other clock (a mock clock)."""
    clock = runner.clock
    return clock.offset if type(clock) is _run.SystemClock else None


def deadline_checks(runner: Any, offset: float) -> tuple[Callable[[], object], Callable[[], bool]]:
    """Two functions: whether there may be any deadline, at the price of one call into C, and whether Trio's
    next deadline is due."""
    deadlines = runner.deadlines

    def due() -> bool:
        # The first entry may be of a scope that has gone; only ``next_deadline`` knows.
        heap = deadlines._heap
        if not heap or heap[0][0] > (now := offset + perf_counter()):
            return False
        return bool(deadlines.next_deadline() <= now)

    return partial(attrgetter("_heap"), deadlines), due


def reschedule(runner: Any, task: Any, result: outcome.Outcome[Any]) -> None:
    """Resumes one parked task; see `deliver`."""
    if runner.is_guest or "task_scheduled" in runner.instruments:
        runner.reschedule(task, result)
        return
    task._next_send = result
    task._next_send_fn = task.coro.send
    task._abort_func = None
    task.custom_sleep_data = None
    runner.runq.append(task)


# ---- which manager a run gets ------------------------------------------------------------------------


class _Choice(threading.local):
    make: Callable[[], Any] | None = None


_choice = _Choice()
_default: Callable[[], Any] | None = None
_stock_manager: Any = getattr(_run, "TheIOManager", None)


def use_manager_class(cls: Any) -> None:
    """Makes ``setup_runner`` call ``cls``, whose ``__new__`` is expected to ask `choose_manager`."""
    _run.TheIOManager = cls


def choose_manager() -> Any:
    """The manager for the run being set up in this thread: the one chosen for it, else the process's
    default, else Trio's own."""
    make, _choice.make = _choice.make, None
    if make is None:
        make = _default
    return make() if make is not None else stock_manager()


def stock_manager() -> Any:
    """Trio's own I/O manager for this platform."""
    return _stock_manager()


def choose_for_next_run(make: Callable[[], Any] | None) -> None:
    """Chooses the manager of the next run set up in this thread, and of that one alone."""
    _choice.make = make


def set_default_manager(make: Callable[[], Any] | None) -> None:
    """Chooses the manager of every run in this process that nothing else was chosen for."""
    global _default
    _default = make


def patch_socket_type(cls: Any) -> None:
    """Makes every constructor of Trio's sockets build ``cls``.

    Never undone: sockets of a run that goes on elsewhere stay what they are, and outside a ring run ``cls``
    behaves as Trio's own class.
    """
    _socket._SocketType = cls


class Subclassable:
    """Before a class of Trio's that refuses to have subclasses, it keeps that class from being asked."""

    def __init_subclass__(cls) -> None:
        pass


def patch_pipe_type(cls: Any) -> None:
    """Makes Trio build ``cls``, a stream over a descriptor, for our ends of the pipes of child processes.

    Never undone, as for sockets.
    """

    def to_child() -> tuple[Any, int]:
        source, sink = os.pipe()
        return cls(sink), source

    def from_child() -> tuple[Any, int]:
        source, sink = os.pipe()
        return cls(source), sink

    _subprocess.create_pipe_to_child_stdin = to_child
    _subprocess.create_pipe_from_child_output = from_child


def patch_stream_methods(receive_some: Any, send_all: Any) -> None:
    """Makes every `trio.SocketStream` receive and send with these methods. Never undone, see above."""
    _stream_class.receive_some = receive_some
    _stream_class.send_all = send_all


def sending(stream: trio.SocketStream) -> Any:
    """The context manager that Trio's stream is in while a task sends; it raises for a second task."""
    return stream._send_conflict_detector


def resolve(sock: Any, address: Any, *, local: bool) -> Awaitable[Any]:
    """Trio's own address resolution, without its checkpoint."""
    answer: Awaitable[Any] = sock._resolve_address_nocp(address, local=local)
    return answer


def stdlib_socket(sock: Any) -> Any:
    """The non-blocking ``socket.socket`` inside a Trio socket."""
    return sock._sock


# ---- AnyIO, without importing it ---------------------------------------------------------------------


class _Announced(types.ModuleType):
    """Stands for a backend module among AnyIO's own; imports the real one when AnyIO asks for the class."""

    def __init__(self, name: str, module: str) -> None:
        super().__init__(name)
        self._module = module

    def __getattr__(self, name: str) -> Any:
        if name != "backend_class":
            raise AttributeError(name)
        return importlib.import_module(self._module).backend_class


def anyio_is_on_trio() -> bool:
    """Whether this process has come to use AnyIO on its backend ``trio``."""
    return "anyio._backends._trio" in sys.modules


def announce_backend(name: str, module: str) -> None:
    """Makes AnyIO find the backend ``name`` in ``module`` (as ``backend_class``), which need not be
    imported before AnyIO asks for it. Idempotent."""
    known_as = f"anyio._backends._{name}"
    sys.modules.setdefault(known_as, _Announced(known_as, module))
