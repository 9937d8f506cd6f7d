"""Await one operation, or many at once: the primitives that need no class around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from trio.lowlevel import checkpoint, enable_ki_protection

from uring import abi
from uring.kernel.op import Multishot, Op, failure

from .. import seams
from .engine import current
from .operation import Operation
from .restrictions import explained

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from uring.kernel.volley import Volley

__all__ = ["check_alone", "check_timeout", "perform", "perform_many", "persist", "run_volley"]

T = TypeVar("T")

_BUFFER_SELECT = int(abi.IOSQE_BUFFER_SELECT)
_SKIP = int(abi.IOSQE_CQE_SKIP_SUCCESS)
_LINKED = int(abi.IOSQE_IO_LINK | abi.IOSQE_IO_HARDLINK)
_UNSUITABLE = _BUFFER_SELECT | _SKIP | _LINKED


@seams.compiled("perform", usual=0)
@enable_ki_protection
async def perform(op: Op[T], *, timeout: float | None = None) -> T:
    """Runs one operation of ``uring.ops`` on this run's ring and returns its decoded result.

    A checkpoint. In a scope that is cancelled already the operation never reaches the kernel; cancelled
    later it is cancelled in the kernel, and a result that arrives all the same is returned. The memory
    the operation names is held until its last completion.

    Closing the descriptor does not end it: it is submitted at once, and holds the file from then on. A
    kernel without memory for requests, which refuses that four times in a row, takes it in a later tick.
    Operations that the kernel leaves to a worker from the start look their descriptor up there, so keep it
    open until the call returns: fsync, fallocate, ftruncate, extended attributes, splice, tee, shutdown, and
    all with ``IOSQE_ASYNC`` or a ``dir_fd``.

    Args:
        op: the operation.
        timeout: seconds, held by the kernel from the operation's first attempt on. Operations in a kernel
            worker (path operations, fsync, splice) are not interrupted by it.

    Raises:
        trio.TooSlowError: ``timeout`` passed; the operation was cancelled.
        OSError: the kernel's errno, as Python's own class where there is one. InterruptedError: the
            process was stopped by a signal while a kernel worker waited; nothing was done.
        RuntimeError: outside a ring run.
        NoWorker: no thread could be made for a kernel worker; nothing was done.
        OperationRestricted: ``RingOptions(restrictions=)`` lacks it; nothing was done.
        TypeError: not an operation, or a multishot.
        ValueError: it is linked to the next entry, which may be another task's, or has no completion if it
            succeeds.
    """
    if op.__class__ is not Op:
        raise _unsuitable(op)
    name, fields, decode, address, paths = op.name, op.fields, op.decode, op.address, op.paths
    if fields[1] & _UNSUITABLE:
        raise _unsuitable_flags(op)
    if timeout is None and not op.command:
        running: Awaitable[int] = seams.perform_op(op)
    else:
        check_timeout(timeout)
        running = _perform_template(op, timeout)
    # A traceback keeps this frame too: see `seams.perform_op`.
    del op
    res = await running
    if res < 0:
        _fail(res, name, fields, address, paths)
    return res if decode is None else decode(res)  # type: ignore[return-value]


def _fail(res: int, name: str, fields: Any, address: object, paths: Any) -> None:
    raise explained(current(), fields[0], failure(res, name, fields, address, paths))


def _decoded(decode: Callable[[int], Any], res: int) -> Any:
    return decode(res)


seams.describe_requests(Op, Operation, _UNSUITABLE, _fail, _decoded)


async def persist(op: Op[T]) -> T:
    """`perform`, again for as long as a signal that stopped the process ends the operation.

    For those that have done nothing when they are interrupted: an open, a splice, a read.
    """
    while True:
        try:
            return await perform(op)
        except InterruptedError:
            continue


@enable_ki_protection
async def _perform_template(op: Op, timeout: float | None) -> int:
    """Runs an operation with a time limit, or with a command at the end of its entry."""
    engine = current()
    slot = engine.acquire(op.name, op.fields[2])
    try:
        slot.template = engine.ring.template(slot.user_data, *op.fields, command=op.command)
        slot.pins = op.pins
        slot.discard = op.discard
        slot.now = op.fields[2] >= 0
        del op
        return await seams.transact_within(slot, timeout)
    finally:
        engine.release(slot)


@enable_ki_protection
async def perform_many(ops: Iterable[Op[T]]) -> list[T | OSError]:
    """Runs single-shot operations side by side and returns their results in order, an ``OSError`` in the
    place of each that failed.

    They are submitted at once and wake the task once, after the last of them; the kernel may run them in any
    order. A checkpoint. In a scope that is cancelled already none reaches the kernel. Cancelled later, those
    the kernel has not seen are taken back and the others are cancelled or finish; when all finish their
    results are returned, else ``Cancelled`` is raised, and files that the finished ones opened are closed.

    Args:
        ops: operations of `uring.ops`, each of which completes once.

    Raises:
        RuntimeError: outside a ring run.
        TypeError: not operations, or one with a command of its own (those go through `perform`).
        ValueError: the last one is linked to what follows, or one has no completion if it succeeds.
    """
    ops = list(ops)
    for op in ops:
        if type(op) is not Op or op.command or op.fields[1] & _BUFFER_SELECT:
            raise TypeError(f"perform_many takes plain operations made by uring.ops, not {op!r}")
        if op.fields[1] & (_SKIP | (_LINKED if op is ops[-1] else 0)):
            raise _unsuitable_flags(op)
    if not ops:
        await checkpoint()
        return []
    engine = current()
    volley = engine.volley(engine.ring, len(ops))
    volley.set([op.fields for op in ops])
    results, interrupt = await run_volley(volley, "perform_many", [op.pins for op in ops], now=True)
    if interrupt is not None and not seams.CANCELLED.isdisjoint(results):
        for op, res in zip(ops, results):
            if op.discard is not None and res >= 0:
                op.discard(res)
        interrupt()
    linked = [False, *(op.fields[1] & _LINKED != 0 for op in ops)]
    return [_outcome(*member) for member in zip(ops, results, linked)]


async def run_volley(
    volley: Volley, name: str, pins: object, *, now: bool = False
) -> tuple[list[int], Callable[[], Any] | None]:
    """Runs a volley of this run's ring; returns its results, and what raises the cancellation that arrived
    meanwhile, if one did. ``pins`` live until all members have completed. ``now``: it is submitted before any
    other task runs, which may close its descriptors."""
    engine = current()
    slot = engine.acquire(name)
    slot.now = now
    slot.pins = (volley, pins)
    try:
        interrupt = await seams.transact_volley(slot, volley)
    finally:
        engine.release(slot)
    return volley.results(), interrupt


def check_timeout(timeout: float | None) -> None:
    """Refuses anything but a time limit: seconds, or None for none."""
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout is a number of seconds, not {type(timeout).__name__}")
    if not float(timeout) >= 0:  # OverflowError for what no float holds, as `trio.fail_after` raises it
        raise ValueError(f"timeout is 0 seconds or more, not {timeout}")


def _unsuitable(op: object) -> TypeError:
    if isinstance(op, Multishot):
        return TypeError(f"perform gives one result, and {op.name} completes many times: use subscribe")
    return TypeError(f"perform takes an operation made by uring.ops, not {type(op).__name__}")


def _unsuitable_flags(op: Op) -> Exception:
    flags = op.fields[1]
    if flags & _BUFFER_SELECT:
        return TypeError(
            f"perform cannot return the buffer that {op.name} would choose: use a stream's chunks"
        )
    return _silent_or_linked(op)


def _silent_or_linked(op: Op) -> ValueError:
    if op.fields[1] & _SKIP:
        return ValueError(f"{op.name} has IOSQE_CQE_SKIP_SUCCESS: nothing would tell that it is done")
    return ValueError(f"{op.name} is linked to the operation behind it, which would be some other task's")


def check_alone(op: Op) -> None:
    """Raises ValueError for an operation that is linked to the next one, or has no completion if it
    succeeds."""
    if op.fields[1] & (_SKIP | _LINKED):
        raise _silent_or_linked(op)


def _outcome(op: Op[T], res: int, linked: bool) -> T | OSError:
    if res < 0:
        shown = failure(res, op.name, op.fields, op.address, op.paths)
        # Behind one that failed a linked operation is cancelled.
        return shown if linked else explained(current(), op.fields[0], shown)
    return res if op.decode is None else op.decode(res)  # type: ignore[return-value]
