"""An operation as the manager sees it: a slot of the in-flight table with a task parked on it.

One object serves many operations in turn. Sockets keep one per direction with its entry ready in C
(``template``) and its park message, so that nothing is allocated per call; `perform` borrows one from the
table for a single request.

Invariants
  - ``task`` is set from before the task parks until the last completion is delivered: it marks the
    operation as busy. Another task may queue it again before the first has resumed, so all that belongs
    to one use (pins, what to raise) is settled on delivery; ``res`` and ``flags`` last until the next tick.
  - ``interrupt`` is what to raise if the operation comes back interrupted; a cancel beats a close.
  - What completes without a task (subscriptions, cancels, wake-ups) has a ``handler``.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import outcome
import trio

from uring.inflight import Entry

from . import seams

if TYPE_CHECKING:
    from collections.abc import Callable

    from .manager import Manager

__all__ = ["Operation", "hold"]

_NOTIF = 1 << 3
_INTERRUPTED = frozenset((-errno.ECANCELED, -errno.EINTR, -512))
"""Results of an operation that was cancelled; -512 (ERESTARTSYS) leaks from kernel workers."""


class Operation(Entry):
    """A request in flight or ready to be."""

    __slots__ = (
        "discard",
        "fd",
        "handler",
        "interrupt",
        "manager",
        "name",
        "park",
        "put",
        "queue",
        "retired",
        "runner",
        "task",
        "template",
    )

    def __init__(self, user_data: int, manager: Manager) -> None:
        super().__init__(user_data)
        self.manager = manager
        self.runner: Any = manager.runner
        self.queue = manager.ring.queue
        self.put = manager.ring.put
        self.park = seams.park_message(self.abort)
        self.task: Any = None
        self.interrupt: Callable[[], Any] | None = None
        self.handler: Callable[[Operation, int, int], None] = hold
        self.discard: Callable[[int], None] | None = None
        self.template: Any = None
        self.retired = False
        self.name = ""
        self.fd = -1

    def abort(self, raise_cancel: Callable[[], Any]) -> seams.Abort:
        """Trio's abort function: asks the kernel to cancel; the task resumes at the operation's own end."""
        self.interrupt = raise_cancel
        self.manager.cancel(self)
        return seams.Abort.FAILED

    def close(self) -> bool:
        """Makes a task parked here wake with `trio.ClosedResourceError`; True if there is one.

        The caller cancels the operation in the kernel.
        """
        if self.task is None:
            return False
        if self.interrupt is None:
            self.interrupt = _raise_closed
        return True

    def settle(self) -> Any:
        """What the task resumes with after its last completion, for an operation that somebody
        interrupted or whose owner went away. A result that arrived beats a cancel."""
        interrupt, self.interrupt = self.interrupt, None
        if self.retired:
            self.manager.release(self)
        if interrupt is not None and self.res in _INTERRUPTED:
            return outcome.capture(interrupt)
        return seams.DONE

    def refuse(self, runner: Any) -> None:
        """Raises what is wrong with using this operation now."""
        if runner is not self.runner:
            raise seams.OtherRun("this object belongs to another Trio run")
        raise trio.BusyResourceError("another task is already using this socket in that direction")


def hold(op: Operation, res: int, flags: int) -> None:
    """A parked operation that completes twice (zero-copy send): the first completion has the result, the
    notification wakes the task."""
    if not flags & _NOTIF:
        op.res = res
        op.flags = flags
    elif op.task is not None:
        op.manager.wake(op)


def _raise_closed() -> None:
    raise trio.ClosedResourceError("another task closed this fd")
