"""Await one operation: the primitive that needs no class around it."""

from __future__ import annotations

from typing import Any

from trio.lowlevel import enable_ki_protection

from uring.errors import error_from_result
from uring.op import Op

from . import seams
from .manager import current

__all__ = ["perform"]


@enable_ki_protection
async def perform(op: Op) -> Any:
    """Runs one operation of ``uring.ops`` on this run's ring and returns its decoded result.

    A checkpoint. In a scope that is cancelled already the operation never reaches the kernel; cancelled
    later it is cancelled in the kernel, and a result that arrives all the same is returned. The memory
    the operation names is held until its last completion.

    Raises:
        OSError: the kernel's errno, as Python's own class where there is one.
        RuntimeError: outside a ring run.
        TypeError: not an operation.
    """
    manager = current()
    if type(op) is not Op:
        raise TypeError(f"perform takes an operation made by uring.ops, not {type(op).__name__}")
    slot = manager.acquire(op.name, op.fields[2])
    slot.pins = op.pins
    slot.discard = op.discard
    try:
        if op.command:
            slot.template = manager.ring.template(slot.user_data, *op.fields, command=op.command)
            res = await seams.transact(slot)
        else:
            res = await seams.perform_fields(slot, op.fields)
    finally:
        manager.release(slot)
    if res < 0:
        raise error_from_result(res, op.name, op.fields[2])
    return res if op.decode is None else op.decode(res)
