"""Await one operation: the primitive that needs no class around it."""

from __future__ import annotations

from typing import Any

from trio.lowlevel import enable_ki_protection

from uring import abi
from uring.op import Multishot, Op, failure

from . import seams
from .manager import current

_BUFFER_SELECT = int(abi.IOSQE_BUFFER_SELECT)

__all__ = ["check_timeout", "perform"]


@enable_ki_protection
async def perform(op: Op, *, timeout: float | None = None) -> Any:
    """Runs one operation of ``uring.ops`` on this run's ring and returns its decoded result.

    A checkpoint. In a scope that is cancelled already the operation never reaches the kernel; cancelled
    later it is cancelled in the kernel, and a result that arrives all the same is returned. The memory
    the operation names is held until its last completion. Closing the descriptor does not end it: it holds
    the file.

    Args:
        op: the operation.
        timeout: seconds, held by the kernel from the operation's first attempt on. What a kernel worker
            runs (path operations, fsync, splice) is not interrupted by it.

    Raises:
        trio.TooSlowError: ``timeout`` passed; the operation was cancelled.
        OSError: the kernel's errno, as Python's own class where there is one.
        RuntimeError: outside a ring run.
        TypeError: not an operation, or a multishot.
    """
    manager = current()
    if type(op) is not Op:
        raise _unsuitable(op)
    if timeout is not None:
        check_timeout(timeout)
    if op.fields[1] & _BUFFER_SELECT:
        raise TypeError(
            f"perform cannot return the buffer that {op.name} would choose: use a stream's chunks"
        )
    name, fields, command, decode = op.name, op.fields, op.command, op.decode
    address, paths = op.address, op.paths
    slot = manager.acquire(name, fields[2])
    slot.pins = op.pins
    slot.discard = op.discard
    # The slot alone holds the memory from here on: a traceback keeps this frame, and must not keep a
    # caller's buffer from being resized.
    del op
    try:
        if timeout is None and not command:
            res = await seams.perform_fields(slot, fields)
        else:
            slot.template = manager.ring.template(slot.user_data, *fields, command=command)
            res = await seams.transact_within(slot, timeout)
    finally:
        manager.release(slot)
    if res < 0:
        raise failure(res, name, fields, address, paths)
    return res if decode is None else decode(res)


def _unsuitable(op: object) -> TypeError:
    if isinstance(op, Multishot):
        return TypeError(f"perform gives one result, and {op.name} completes many times: use subscribe")
    return TypeError(f"perform takes an operation made by uring.ops, not {type(op).__name__}")


def check_timeout(timeout: float | None) -> None:
    """Raises what is wrong with a time limit in seconds, or None for none."""
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"timeout is a number of seconds, not {type(timeout).__name__}")
    if not timeout >= 0:
        raise ValueError(f"timeout is 0 seconds or more, not {timeout}")
