"""Multishot operations as subscriptions: a handler is called for each completion, and once at the end.

                cancel              last completion
    ACTIVE ───────────────▶ CANCELLING ───────────▶ STOPPED
       │  ◀───────────────      │                      ▲
       │    cancel refused                             │
       └───────────────────────────────────────────────┘

Invariants
  - Only the completion without ``F_MORE`` enters STOPPED, which is final.
  - CANCELLING means that the cancel is queued: a cancel that could not be queued leaves the state ACTIVE.
  - The slot is released after the last step and before the stop, so that the stop's callback can subscribe.
  - Results that are not passed to a handler are undone: descriptors are closed, buffers recycled.
"""

from __future__ import annotations

import errno
import threading
from enum import Enum, Flag, IntEnum, auto
from socket import SOCK_CLOEXEC
from typing import TYPE_CHECKING, Any

from .. import abi, ops
from ..contexts.context import SQEContext
from ..kernel.op import Multishot
from ..session.provided import ProvidedBuffers
from ..session.state import WrongThread
from .dispatch import CompletionOwner
from .machine import Table
from .steps import MultishotAction, MultishotHandler, MultishotStep

if TYPE_CHECKING:
    from types import TracebackType

    from ..contexts.context import ExtSQE
    from ..contexts.views import Completion
    from ..kernel.op import Op

__all__ = ["MultishotMethods", "MultishotSubscription", "SubscriptionState"]

_SILENT = int(abi.IOSQE_CQE_SKIP_SUCCESS)
_FIXED_FILE = int(abi.IOSQE_FIXED_FILE)


class SubscriptionState(IntEnum):
    """The state of a subscription."""

    ACTIVE = 0
    """It receives completions, and can be cancelled."""
    CANCELLING = 1
    """A cancel is queued; completions come until the last one."""
    STOPPED = 2
    """The last completion was seen; no callback follows."""


class Event(Enum):
    """An event of a subscription."""

    CANCEL = auto()
    CANCEL_REFUSED = auto()
    MORE = auto()
    LAST = auto()


class Action(Flag):
    """The action of a transition."""

    NOTHING = 0
    SUBMIT_CANCEL = auto()
    STEP = auto()
    STOP = auto()


_ACTIVE, _CANCELLING, _STOPPED = SubscriptionState
_NEVER_QUEUED = "no cancel is being queued"
_ENDED = "the last completion was seen"

TABLE: Table[SubscriptionState, Event, Action] = Table(
    "multishot subscription",
    SubscriptionState,
    Event,
    {
        _ACTIVE: (
            (_CANCELLING, Action.SUBMIT_CANCEL),
            _NEVER_QUEUED,
            (_ACTIVE, Action.STEP),
            (_STOPPED, Action.STEP | Action.STOP),
        ),
        _CANCELLING: (
            (_CANCELLING, Action.NOTHING),
            (_ACTIVE, Action.NOTHING),
            (_CANCELLING, Action.STEP),
            (_STOPPED, Action.STEP | Action.STOP),
        ),
        _STOPPED: (
            (_STOPPED, Action.NOTHING),
            (_STOPPED, Action.NOTHING),  # the last completion came while a cancel was refused
            _ENDED,
            _ENDED,
        ),
    },
)


class MultishotSubscription(CompletionOwner):
    """One multishot operation in flight, made by `uring.Ring.accept_multishot` or `recv_multishot`.

    Completions reach it through `uring.dispatch`, which calls the handler and raises what it raises; the
    subscription nevertheless goes on, or has ended. A ring that is stopped calls no handler.

    Args:
        ring: the ring.
        ext: its slot.
        op: the request.
        handler: is called with each completion, and at the end.
    """

    def __init__(self, ring: MultishotMethods, ext: ExtSQE, op: Op, handler: MultishotHandler) -> None:
        self._ring = ring
        self._ext = ext
        self._op = op
        self._handler: MultishotHandler | None = handler
        self._state = SubscriptionState.ACTIVE
        self._stop_wanted = False
        self._lock = threading.Lock()
        ext.sidecar[0] = self

    @property
    def context(self) -> SQEContext:
        """The context that its completions carry."""
        return self._ext.context

    @property
    def state(self) -> SubscriptionState:
        """The state; STOPPED too once the ring is stopped."""
        return SubscriptionState.STOPPED if self._ring.closed else self._state

    @property
    def active(self) -> bool:
        """Whether the last completion is still to come."""
        return self.state is not SubscriptionState.STOPPED

    def cancel(self) -> None:
        """Queues a cancel. Steps may still come, and the stop does. More cancels do nothing.

        Any thread may call it: the ring's own thread queues it in its next wait, and is woken for that.

        Raises:
            PoolExhausted: the queue is full. RingClosed: the ring was stopped. The subscription stays active,
                and may be cancelled again.
        """
        if self._advance(Event.CANCEL) is Action.SUBMIT_CANCEL:
            try:
                # Silent unless it comes too late.
                cancel = ops.async_cancel(self.context).with_flags(_SILENT)
                try:
                    self._ring.submit(cancel, None)
                except WrongThread:
                    self._ring._post(cancel)
            except BaseException:
                self._advance(Event.CANCEL_REFUSED)
                raise

    def unsubscribe(self) -> None:
        """Ends all callbacks, the stop too, and cancels if that can be queued.

        Results that still arrive are undone: descriptors are closed, buffers given back. A callback that runs
        on another thread may end after this returns.
        """
        self._handler = None
        self._stop_wanted = True
        self._try_cancel()

    def handle_cqe(self, cqe: Completion) -> bool:
        """Handles a completion of this subscription.

        Args:
            cqe: the completion, of any of the ring's ``wait`` functions.

        Returns:
            False for any other.
        """
        if cqe[0] != self.context:
            return False
        action = self._advance(Event.MORE if cqe.has_more else Event.LAST)
        error = self._op.error(cqe.res) if cqe.res < 0 else None
        cancelled = cqe.res == -errno.ECANCELED
        try:
            self._tell(MultishotStep(cqe, error, cancelled))
        finally:
            if Action.STOP in action:
                self._ext.pool.put_extended(self._ext)
                handler, self._handler = self._handler, None
                if handler is not None:
                    handler.on_multishot_stop(error, cancelled)
            elif self._stop_wanted:
                self._try_cancel()
        return True

    def _tell(self, step: MultishotStep) -> None:
        handler = self._handler
        if handler is None:
            self._undo(step.cqe)
        elif handler.on_multishot_step(step) == MultishotAction.STOP:
            self._stop_wanted = True

    def _advance(self, event: Event) -> Action:
        with self._lock:
            self._state, action = TABLE.step(self._state, event)
        return action

    def _try_cancel(self) -> None:
        """Cancels; where the queue is full the next completion tries again."""
        try:
            self.cancel()
        except (OSError, RuntimeError):
            pass  # full, or another thread's: the next completion tries again; or stopped: it has ended

    def _undo(self, cqe: Completion) -> None:
        if cqe.has_buffer:
            if not cqe.has_buffer_more:
                self._ring.buf_ring(self._op.fields[7]).put(cqe.buf_id)
        elif cqe.res >= 0 and self._op.discard is not None:
            self._op.discard(cqe.res)

    def __enter__(self) -> MultishotSubscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Unsubscribes, and waits for the last completion; results that arrive are undone."""
        self.unsubscribe()
        while self.active:
            self._try_cancel()
            for cqe in self._ring._finish(self.context):
                self.handle_cqe(cqe)

    def __repr__(self) -> str:
        return f"<MultishotSubscription {self._op.name} {self._state.name}>"


class MultishotMethods(ProvidedBuffers):
    """Multishot operations with a handler."""

    def accept_multishot(
        self,
        ctx: SQEContext,
        handler: MultishotHandler,
        *,
        flags: int = SOCK_CLOEXEC,
        poll_first: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> MultishotSubscription:
        """Accepts connections on the context's descriptor. The result of each step is a descriptor, which the
        handler owns.

        Args:
            ctx: a direct context: `for_fd`; with ``IOSQE_FIXED_FILE`` among its flags a registered file.
            handler: is called with each connection, and at the end.
            flags: ``SOCK_CLOEXEC`` and ``SOCK_NONBLOCK`` for the new sockets.
            poll_first: waits for readiness before the first attempt (Linux 6.10).
            sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
            personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

        Returns:
            The subscription.

        Raises:
            ValueError: the context is not direct.
            PoolExhausted: no extended slot, or no room in the queue.

        Since:
            Linux 5.19.

        Source:
            io_uring_prep_multishot_accept(3).
        """
        fd, fixed = self._target(ctx)
        op = ops.accept_multishot(fd, flags=flags, poll_first=poll_first, fixed_file=fixed)
        return self.subscribe(op.with_options(sqe_flags, personality), handler)

    def recv_multishot(
        self,
        ctx: SQEContext,
        handler: MultishotHandler,
        *,
        flags: int = 0,
        poll_first: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> MultishotSubscription:
        """Receives on the context's descriptor, into buffers of its group. The handler gives the buffer of
        each step back.

        Args:
            ctx: a direct context: ``for_fd(fd).with_buf_group(group)``.
            handler: is called with each piece of data, and at the end.
            flags: ``MSG_*`` of recv(2), 0 to 2**32 - 1, without ``MSG_WAITALL``.
            poll_first: waits for data before the first attempt.
            sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
            personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

        Returns:
            The subscription.

        Raises:
            ValueError: the context is not direct.
            PoolExhausted: no extended slot, or no room in the queue.

        Since:
            Linux 6.0.

        Source:
            io_uring_prep_recv_multishot(3).
        """
        fd, fixed = self._target(ctx)
        op = ops.recv_multishot(fd, ctx.buf_group, flags=flags, poll_first=poll_first, fixed_file=fixed)
        return self.subscribe(op.with_options(sqe_flags, personality), handler)

    def subscribe(self, op: Op, handler: MultishotHandler) -> MultishotSubscription:
        """Submits any multishot request of ``uring.ops`` with a handler, under a slot of the ring.

        Args:
            op: the request.
            handler: is called with each completion, and at the end.

        Returns:
            The subscription.

        Raises:
            TypeError: the request completes once, or ``handler`` is no `MultishotHandler`.
            PoolExhausted: no extended slot, or no room in the queue.
        """
        if not isinstance(op, Multishot):
            raise TypeError(f"a multishot of uring.ops is needed, not {op!r}")
        if not isinstance(handler, MultishotHandler):
            raise TypeError(f"a MultishotHandler is needed, not {type(handler).__name__}")
        ext = self.pools.extended()
        subscription = MultishotSubscription(self, ext, op, handler)
        try:
            self.submit(op, ext.context)
        except BaseException:
            self.pools.put_extended(ext)
            raise
        return subscription

    @staticmethod
    def _target(ctx: Any) -> tuple[int, bool]:
        """The descriptor that a direct context names, and whether it is a registered file."""
        if not isinstance(ctx, SQEContext) or not ctx.is_direct:
            raise ValueError("a subscription takes a slot of its own: give a direct context, as for_fd makes")
        return ctx.fd, bool(ctx.flags & _FIXED_FILE)
