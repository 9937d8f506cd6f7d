"""The end of a run's operations: all are cancelled, and counted until the last completion is there.

Operations that do not end within `DRAIN_SECONDS` are leaked on purpose, with a warning: the kernel may still
write to their memory.

It uses nothing of Trio: it also runs after a `trio.TrioInternalError`.
"""

from __future__ import annotations

import errno
import time
import warnings
from typing import TYPE_CHECKING

from uring import abi
from uring.kernel.refusals import PASSING, PAUSE
from uring.kernel.ring import CQE

if TYPE_CHECKING:
    from collections.abc import Callable

    from .engine import Engine

__all__ = ["DRAIN_SECONDS", "dispose", "drain", "leak"]

DRAIN_SECONDS = 5.0

_EINTR = -errno.EINTR
_ASYNC_CANCEL = int(abi.IORING_OP_ASYNC_CANCEL)
_CANCEL_ANY_ALL = int(abi.IORING_ASYNC_CANCEL_ANY | abi.IORING_ASYNC_CANCEL_ALL)

_leaked: list[object] = []


def drain(engine: Engine, cycle: Callable[[float], int]) -> int:
    """Ends everything in flight; returns how many operations did not end."""
    ring = engine.ring
    for owner in engine.owners.values():
        for subscription in owner.others:
            subscription.abandon()
    deadline = time.monotonic() + DRAIN_SECONDS
    while ring.inflight > 0:
        ring.put(engine.cancels.user_data, _ASYNC_CANCEL, 0, -1, 0, 0, 0, _CANCEL_ANY_ALL, 0, 0, 0)
        n = cycle(min(0.1, max(0.001, deadline - time.monotonic())))
        for user_data, res, flags in CQE.iter_unpack(ring.out[: max(n, 0) * CQE.size]):
            dispose(engine, user_data, res, flags)
        if n in PASSING:
            time.sleep(PAUSE)
        elif n < 0 and n != _EINTR:
            break
        if time.monotonic() > deadline:
            break
    return max(0, ring.inflight)


def leak(operations: int, *what: object) -> None:
    """Keeps what the kernel may still write to for as long as the process lives, and warns."""
    _leaked.append(what)
    _Leak(operations)


def dispose(engine: Engine, user_data: int, res: int, flags: int) -> None:
    """Takes the completion of an operation whose task is not resumed any more."""
    op = engine.table.find(user_data)
    if op is None:
        return
    if op.task is None:
        op.handler(op, res, flags)
        return
    if op.discard is not None and res >= 0:
        op.discard(res)
    if op.pooled:  # `fs.descriptor.Descriptor.landed` reads the result
        op.res = res
        op.task = None


class _Leak:
    """Warns from ``__del__``, which runs at once: where warnings are errors, the exception must not escape
    into Trio's clean-up, and one from ``__del__`` does not."""

    def __init__(self, operations: int) -> None:
        self._operations = operations

    def __del__(self) -> None:
        warnings.warn(
            f"{self._operations} operations did not end within {DRAIN_SECONDS:g} s; their memory and the "
            "ring are leaked because the kernel may still write there",
            ResourceWarning,
            stacklevel=3,
        )
