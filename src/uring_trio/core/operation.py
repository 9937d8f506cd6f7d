"""An operation as the engine sees it: a slot of the in-flight table with a task parked on it.

One object serves many operations in turn. Sockets keep one per direction with its entry ready in C
(``template``) and its park message, so that nothing is allocated per call; `perform` borrows one from the
table for a single request.

Invariants
  - ``task`` is set from before the task parks until the last completion is delivered: it marks the
    operation as busy. Another task may queue it again before the first has resumed, so all that belongs
    to one use (pins, what to raise) is settled on delivery; ``res`` and ``flags`` last until the next tick.
  - ``interrupt`` is what to raise if the operation comes back interrupted; a cancel beats a close. ``acted``:
    it is a wait that brought its result, and is cancelled because of that: the result beats both. A close
    beats the result of any other wait, which is no data.
  - ``pooled`` operations serve one transfer after the other under the same ``user_data``. One that was
    cancelled does not go back to the pool: the cancel request may still be under way.
  - An operation without a task (subscriptions, cancels, wake-ups) has a ``handler``.
"""

from __future__ import annotations

from math import inf
from time import perf_counter
from typing import TYPE_CHECKING, Any

import outcome
import trio

from uring.kernel.inflight import Entry

from .. import seams
from .deadlines import KernelDeadline

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..seams.protocols import Run

__all__ = ["CLOSED_FD", "COPIED", "Operation", "hold"]

COPIED = 1 << 31
"""In an operation's ``flags``: the notification of a zero-copy send said that the kernel copied."""

_BUFFER = 1
_NOTIF = 1 << 3


class Operation(Entry):
    """A request in flight or ready to be."""

    __slots__ = (
        "acted",
        "deadline",
        "discard",
        "engine",
        "fd",
        "handler",
        "interrupt",
        "name",
        "now",
        "park",
        "pooled",
        "put",
        "put_now",
        "queue",
        "queue_at",
        "reach",
        "receive",
        "retired",
        "runner",
        "task",
        "template",
        "until",
    )

    def __init__(self, user_data: int, engine: Run) -> None:
        super().__init__(user_data)
        self.engine: Run = engine
        self.runner: Any = engine.runner
        self.queue: Callable[[Any], int] = engine.ring.queue
        self.put: Callable[..., int] = engine.ring.put
        self.put_now: Callable[..., int] = engine.ring.put_now
        self.park: Any = seams.park_message(self.abort)
        self.queue_at: Callable[..., int] = engine.ring.queue_at
        self.task: Any = None
        self.interrupt: Callable[[], Any] | None = None
        self.handler: Callable[[Operation, int, int], None] = hold
        self.discard: Callable[[int], None] | None = None
        self.template: Any = None
        self.reach: float | None = engine.reach
        self.until: float = inf  # when the timer that is linked to it fires, on the monotonic clock
        self.deadline: KernelDeadline | None = None
        self.receive: Any = None  # what receives by it in C, which is kept for the next socket
        self.retired: bool = False
        self.name: str = ""
        self.now: bool = False  # whether to submit it at once
        self.fd: int = -1
        self.pooled: bool = False
        self.acted: bool = False

    def abort(self, raise_cancel: Callable[[], Any]) -> seams.Abort:
        """Trio's abort function: asks the kernel to cancel; the task resumes at the operation's own end."""
        self.interrupt = raise_cancel
        self.retired |= self.pooled
        if self.until <= perf_counter() and not self.engine.ring.eager:
            # While a guest's worker is waiting, nothing would send a deferred request.
            self.engine.cancels.defer(self)
        else:
            self.engine.cancels.cancel(self)
        return seams.Abort.FAILED

    def close(self, waits: bool = False) -> bool:
        """Makes a task parked here wake with `trio.ClosedResourceError`; True if there is one. ``waits``: it
        does so even if what it waits for happens before the kernel has cancelled it.

        The caller cancels the operation in the kernel.
        """
        if self.task is None:
            return False
        if self.interrupt is None:
            self.interrupt = _raise_wait_closed if waits else _raise_closed
        return True

    def settle(self) -> Any:
        """The outcome for the task after the last completion, of an operation that was interrupted or whose
        owner went away. A result that arrived beats a cancel."""
        interrupt, self.interrupt = self.interrupt, None
        if self.retired:
            self.engine.release(self)
        if interrupt is None or self.acted:
            return seams.DONE
        if self.res in seams.CANCELLED or interrupt is _raise_wait_closed:
            return outcome.capture(interrupt)
        return seams.DONE

    def kernel_deadline(self, when: float) -> Any:
        """The entry of a linked timeout at this time of the monotonic clock."""
        if self.deadline is None:
            self.deadline = KernelDeadline(self.engine)
        self.deadline.set(when)
        return self.deadline.template

    def refuse(self, runner: Any) -> None:
        """Raises the reason why this operation cannot be used now."""
        if runner is not self.runner:
            raise seams.OtherRun("this object belongs to another Trio run")
        raise trio.BusyResourceError(BUSY)


BUSY = "another task is already reading / writing this fd"
CLOSED_FD = "another task closed this fd"
"""As Trio says it."""


def hold(op: Operation, res: int, flags: int) -> None:
    """The completion of a parked operation that is not usual.

    A zero-copy send completes twice: the first completion has the result, the notification wakes the task. A
    receive in a kernel worker, where the kernel puts it that took a part of a chain, has a buffer even if it
    brings no data."""
    if flags & _BUFFER:
        op.engine.buffers.put(flags >> 16)
        op.res = res
        op.flags = 0
        if op.task is not None:
            op.engine.wake(op)
    elif not flags & _NOTIF:
        op.res = res
        op.flags = flags
    elif op.task is not None:
        if res < 0:
            op.flags |= COPIED
        op.engine.wake(op)


def _raise_closed() -> None:
    raise trio.ClosedResourceError(CLOSED_FD)


def _raise_wait_closed() -> None:
    _raise_closed()
