"""Zero-copy sends with two callbacks: the data is sent, and its memory is free.

               result, F_MORE                  notification
    SENT ─────────────────────▶ NOTIFYING ─────────────────────▶ DONE
      └───────────── result without F_MORE (nothing owed) ─────────▲

Invariants
  - A handler gets the result once, then the notification once, whether the send failed or not. After a result
    without ``F_MORE`` no notification comes from the kernel, and the handler gets it at once.
  - The slot is released at the last completion, before the handler is called.
"""

from __future__ import annotations

from enum import Enum, Flag, auto
from typing import TYPE_CHECKING

from .. import ops
from ..ops.base import check_int
from .dispatch import CompletionOwner
from .machine import Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from ..contexts.context import ExtSQE
    from ..contexts.pools import ContextPools
    from ..contexts.views import Completion
    from ..kernel.op import Op
    from ..ops.base import Fd
    from ..session.registration import Registrations

__all__ = ["ZCHandler", "ZCTracker"]

_SIZE_MOST = (1 << 31) - 1


class ZCHandler:
    """The callbacks of a zero-copy send; by default each does nothing."""

    def on_completed(self, result: int) -> None:
        """The data was sent, or the send failed. The memory must not change yet.

        Args:
            result: the number of bytes, or a negated errno.
        """

    def on_notification(self, result: int) -> None:
        """The memory is free.

        Args:
            result: the result of the send.
        """

    @classmethod
    def from_callbacks(
        cls,
        on_completed: Callable[[int], None] | None = None,
        on_notification: Callable[[int], None] | None = None,
    ) -> ZCHandler:
        """Makes a handler of functions.

        Args:
            on_completed: as the method of this name; None does nothing.
            on_notification: as the method of this name; None does nothing.

        Returns:
            The handler.
        """
        return _Callbacks(on_completed, on_notification)


class _Callbacks(ZCHandler):
    def __init__(
        self, on_completed: Callable[[int], None] | None, on_notification: Callable[[int], None] | None
    ) -> None:
        self._completed = on_completed
        self._notification = on_notification

    def on_completed(self, result: int) -> None:
        if self._completed is not None:
            self._completed(result)

    def on_notification(self, result: int) -> None:
        if self._notification is not None:
            self._notification(result)


class State(Enum):
    """The state of a zero-copy send."""

    SENT = auto()
    NOTIFYING = auto()
    DONE = auto()


class Event(Enum):
    """The completions of a zero-copy send."""

    RESULT = auto()
    """With ``F_MORE``: a notification follows."""
    LAST_RESULT = auto()
    NOTIFICATION = auto()


class Action(Flag):
    """The callbacks of a transition."""

    COMPLETED = auto()
    NOTIFIED = auto()


_SENT, _NOTIFYING, _DONE = State
_TWICE, _TOO_EARLY, _OVER = "it has a result", "it has no result yet", "the memory is free already"

TABLE: Table[State, Event, Action] = Table(
    "zero-copy send",
    State,
    Event,
    {
        _SENT: ((_NOTIFYING, Action.COMPLETED), (_DONE, Action.COMPLETED | Action.NOTIFIED), _TOO_EARLY),
        _NOTIFYING: (_TWICE, _TWICE, (_DONE, Action.NOTIFIED)),
        _DONE: (_OVER, _OVER, _OVER),
    },
)


class _Send:
    """One send: its slot, handler, state and result."""

    __slots__ = ("ext", "handler", "result", "state")

    def __init__(self, ext: ExtSQE, handler: ZCHandler) -> None:
        self.ext = ext
        self.handler = handler
        self.state = State.SENT
        self.result = 0


class ZCTracker(CompletionOwner):
    """Zero-copy sends on a ring, each under a slot of a pool. Its completions come through `uring.dispatch`.

    Args:
        ring: the ring.
        pool: the pool of its slots, such as the ring's ``pools``.
    """

    def __init__(self, ring: Registrations, pool: ContextPools) -> None:
        self._ring = ring
        self._pool = pool
        self._sends: dict[int, _Send] = {}

    @property
    def pending(self) -> int:
        """Sends whose memory is not free yet."""
        return len(self._sends)

    def send_zc(
        self,
        fd: Fd,
        data: Buffer,
        handler: ZCHandler,
        *,
        flags: int = 0,
        poll_first: bool = False,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> None:
        """Queues a send of bytes, without a copy where the network card can.

        The ring keeps the memory until it is free; the caller must not change it before
        `ZCHandler.on_notification`.

        Args:
            fd: the socket, a descriptor or an object with ``fileno()``.
            data: bytes, or any buffer.
            handler: is called twice: with the result, and when the memory is free.
            flags: ``MSG_*`` of send(2), 0 to 2**32 - 1.
            poll_first: waits for room before the first attempt.
            fixed_file: ``fd`` is an index into the registered files.
            sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
            personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

        Raises:
            PoolExhausted: no slot, or no room in the queue.
            TypeError, ValueError: as `uring.ops.send_zc`; ``handler`` is no `ZCHandler`.

        Since:
            Linux 6.0.

        Source:
            io_uring_prep_send_zc(3).
        """
        op = ops.send_zc(fd, data, flags=flags, poll_first=poll_first, fixed_file=fixed_file)
        self._submit(op, handler, sqe_flags, personality)

    def send_zc_fixed(
        self,
        fd: Fd,
        buf_index: int,
        offset: int,
        length: int,
        handler: ZCHandler,
        *,
        flags: int = 0,
        poll_first: bool = False,
        fixed_file: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> None:
        """As `send_zc`, of part of a registered buffer.

        Args:
            fd: the socket, a descriptor or an object with ``fileno()``.
            buf_index: the registered buffer, from 0 on.
            offset: the first byte in it, from 0 on.
            length: how many bytes, from 0 on.
            handler: is called twice: with the result, and when the memory is free.
            flags: ``MSG_*`` of send(2), 0 to 2**32 - 1.
            poll_first: waits for room before the first attempt.
            fixed_file: ``fd`` is an index into the registered files.
            sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
            personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

        Raises:
            IndexError: there is no such buffer.
            PoolExhausted: no slot, or no room in the queue.
            TypeError, ValueError: the range is past the buffer's end, or as `send_zc`.

        Since:
            Linux 6.0.

        Source:
            io_uring_prep_send_zc(3).
        """
        whole = self._ring.registered_buffer(buf_index)
        check_int("offset", offset, 0, whole.nbytes)
        check_int("length", length, 0, min(whole.nbytes - offset, _SIZE_MOST))
        op = ops.send_zc(
            fd,
            whole[offset : offset + length],
            flags=flags,
            buf_index=buf_index,
            poll_first=poll_first,
            fixed_file=fixed_file,
        )
        self._submit(op, handler, sqe_flags, personality)

    def handle_cqe(self, cqe: Completion) -> bool:
        """Handles a completion of one of these sends.

        Args:
            cqe: the completion, of any of the ring's ``wait`` functions.

        Returns:
            False for any other.

        Raises:
            IllegalEvent: a completion that the kernel does not send in this order.
            Exception: what the handler raises.
        """
        send = self._sends.get(cqe[0])
        if send is None:
            return False
        if cqe.is_notification:
            event = Event.NOTIFICATION
        else:
            event = Event.RESULT if cqe.has_more else Event.LAST_RESULT
        send.state, action = TABLE.step(send.state, event)
        if Action.COMPLETED in action:
            send.result = cqe.res
        if send.state is State.DONE:
            del self._sends[cqe[0]]
            self._pool.put_extended(send.ext)
        try:
            if Action.COMPLETED in action:
                send.handler.on_completed(send.result)
        finally:
            if Action.NOTIFIED in action:
                send.handler.on_notification(send.result)
        return True

    def _submit(self, op: Op, handler: ZCHandler, sqe_flags: int, personality: int) -> None:
        if not isinstance(handler, ZCHandler):
            raise TypeError(f"a ZCHandler is needed, not {type(handler).__name__}")
        op = op.with_options(sqe_flags, personality)
        ext = self._pool.extended()
        ext.sidecar[0] = self
        self._sends[ext.context] = _Send(ext, handler)
        try:
            self._ring.submit(op, ext.context)
        except BaseException:
            del self._sends[ext.context]
            self._pool.put_extended(ext)
            raise
