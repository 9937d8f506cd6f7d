"""Zero-copy receive from a network card, through a dedicated queue (Linux 6.15), or without a card (7.1).

    IDLE ─start─▶ ACTIVE ─stop─▶ STOPPING ─last completion─▶ RETIRING ─────▶ STOPPED
                   ▲ │  ◀─stop refused─┘                      ▲   ▲
          refilled │ ├──────────────── last completion ───────┘   │
                   │ └─area used up─▶ STARVED ─stop───────────────┘
                   └─────────────────────┘

Invariants
  - RETIRING is entered when nothing is in flight; the handler is called once, in that state.
  - The kernel ends a receive that finds no memory in the area, and the data stays in the socket. The receive
    is submitted again when memory was given back, without a call of the handler.
  - Memory of a buffer is the caller's from `ZCRXHandler.on_data` to `ZCRXBuffer.release`, else the kernel's.
    A release that finds no room changes nothing.
  - Area and refill ring are freed after the ring, which owns the card's queue: `ZCRXReceiver.close` is
    refused before.
"""

from __future__ import annotations

import errno
from enum import Enum, Flag, IntEnum, auto
from typing import TYPE_CHECKING

from .. import abi, ops
from ..errors import error_from_result
from ..ops.base import check_fd
from .dispatch import CompletionOwner
from .machine import Table
from .zcrx_methods import ZCRXMethods, check_zcrx_mode
from .zcrx_parts import ZCRXBuffer, ZCRXConfig, ZCRXHandler, open_queue

if TYPE_CHECKING:
    from ..contexts.context import ExtSQE
    from ..contexts.pools import ContextPools
    from ..contexts.views import Completion
    from ..ops.base import Fd
    from .zcrx_queue import ZCRXQueue

__all__ = ["ZCRXBuffer", "ZCRXConfig", "ZCRXHandler", "ZCRXReceiver", "ZCRXState"]

_SILENT = int(abi.IOSQE_CQE_SKIP_SUCCESS)


class ZCRXState(IntEnum):
    """The state of a receiver."""

    IDLE = 0
    ACTIVE = 1
    STARVED = 5
    """The handler has all of the area; the receive goes on when a buffer is released."""
    STOPPING = 2
    """A cancel is queued; data still comes."""
    RETIRING = 3
    """The handler is called for the last time."""
    STOPPED = 4


class Event(Enum):
    """An event of a receiver."""

    START = auto()
    START_REFUSED = auto()
    MORE = auto()
    LAST = auto()
    USED_UP = auto()
    REFILLED = auto()
    STOP = auto()
    STOP_REFUSED = auto()
    RETIRED = auto()
    CLOSE = auto()


class Action(Flag):
    """The action of a transition."""

    NOTHING = 0
    SUBMIT = auto()
    CANCEL = auto()
    DELIVER = auto()
    RETIRE = auto()
    FREE = auto()


_IDLE, _ACTIVE, _STARVED, _STOPPING, _RETIRING, _STOPPED = ZCRXState
_NOTHING = Action.NOTHING
_DELIVER = Action.DELIVER
_LAST = (_RETIRING, Action.DELIVER | Action.RETIRE)
_NOT_STARTED, _STARTED = "it was not started", "a receiver starts once"
_NOT_STARTING, _NOT_STOPPING = "no start is being queued", "no cancel is being queued"
_NOT_RETIRING, _ENDED = "the last completion was not seen", "the last completion was seen"
_NOT_STARVED = "it does not wait for memory"
_IN_FLIGHT = "the receive is in flight: stop it, and take completions until it is STOPPED"

# fmt: off
TABLE: Table[ZCRXState, Event, Action] = Table(
    "zero-copy receiver",
    ZCRXState,
    Event,
    {
        #           START, START_REFUSED, MORE, LAST, USED_UP, REFILLED,
        #           STOP, STOP_REFUSED, RETIRED, CLOSE
        _IDLE:     ((_ACTIVE, Action.SUBMIT), _NOT_STARTING, _NOT_STARTED, _NOT_STARTED,
                    _NOT_STARTED, _NOT_STARTED,
                    (_STOPPED, _NOTHING), _NOT_STOPPING, _NOT_RETIRING, (_STOPPED, Action.FREE)),
        _ACTIVE:   (_STARTED, (_IDLE, _NOTHING), (_ACTIVE, _DELIVER), _LAST,
                    (_STARVED, _NOTHING), _NOT_STARVED,
                    (_STOPPING, Action.CANCEL), _NOT_STOPPING, _NOT_RETIRING, _IN_FLIGHT),
        _STARVED:  (_STARTED, _NOT_STARTING, _ENDED, _ENDED,
                    _ENDED, (_ACTIVE, Action.SUBMIT),
                    (_RETIRING, Action.RETIRE), _NOT_STOPPING, _NOT_RETIRING, _IN_FLIGHT),
        _STOPPING: (_STARTED, _NOT_STARTING, (_STOPPING, _DELIVER), _LAST,
                    (_RETIRING, Action.RETIRE), _NOT_STARVED,
                    (_STOPPING, _NOTHING), (_ACTIVE, _NOTHING), _NOT_RETIRING, _IN_FLIGHT),
        _RETIRING: (_STARTED, _NOT_STARTING, _ENDED, _ENDED,
                    _ENDED, _NOT_STARVED,
                    (_RETIRING, _NOTHING), _NOT_STOPPING, (_STOPPED, _NOTHING), _IN_FLIGHT),
        _STOPPED:  (_STARTED, _NOT_STARTING, _ENDED, _ENDED,
                    _ENDED, _NOT_STARVED,
                    (_STOPPED, _NOTHING), _NOT_STOPPING, _ENDED, (_STOPPED, Action.FREE)),
    },
)
# fmt: on


class ZCRXReceiver(CompletionOwner):
    """One receive through a queue of a network card, which it takes over until the ring stops.

    Completions reach it through `uring.dispatch`, which calls the handler. It belongs to the ring's thread:
    `stop` and `ZCRXBuffer.release` must not run while another thread dispatches completions.

    Args:
        ring: the ring, with 32-byte completions.
        pool: the pool of its slot, such as the ring's ``pools``.
        config: the interface, its queue and the memory.
        queue: a queue of `uring.Ring.register_zcrx_ifq`, in place of ``config``.

    Raises:
        TypeError: neither or both of ``config`` and ``queue``.
        NotSupported: the ring's completions have 16 bytes, or the card or its driver cannot do it.
        OSError: no such interface, no CAP_NET_ADMIN, no memory, or the kernel refused; the message names the
            interface and the queue.
    """

    def __init__(
        self,
        ring: ZCRXMethods,
        pool: ContextPools,
        config: ZCRXConfig | None = None,
        *,
        queue: ZCRXQueue | None = None,
    ) -> None:
        if (config is None) == (queue is None):
            raise TypeError("either a configuration or a queue is needed")
        if config is not None and not isinstance(config, ZCRXConfig):
            raise TypeError(f"a ZCRXConfig is needed, not {type(config).__name__}")
        check_zcrx_mode(ring)
        self._ring = ring
        self._pool = pool
        self._queue = queue if config is None else open_queue(ring.register_zcrx_ifq, config)
        self._state = ZCRXState.IDLE
        self._ext: ExtSQE | None = None
        self._handler = ZCRXHandler()
        self._stop_wanted = False
        self._fd: Fd = -1
        self._refilled = 0  # the queue's count of pieces given back, at the last submission

    @property
    def queue(self) -> ZCRXQueue | None:
        """The receive queue; None after `close`."""
        return self._queue

    @property
    def state(self) -> ZCRXState:
        """The state of the receive."""
        return self._state

    @property
    def active(self) -> bool:
        """Whether it receives or waits for memory, and was not stopped."""
        return self._state in (ZCRXState.ACTIVE, ZCRXState.STARVED)

    @property
    def stopped(self) -> bool:
        """Whether the last completion was seen, and the handler called."""
        return self._state is ZCRXState.STOPPED

    def start(self, fd: Fd, handler: ZCRXHandler) -> None:
        """Queues the receive on a TCP connection, once. Its data arrives in the area if the card steers it to
        the queue, and is copied there if not.

        Args:
            fd: the connection, a descriptor or an object with ``fileno()``.
            handler: is called with each piece of data, and at the end.

        Raises:
            TypeError: ``handler`` is no `ZCRXHandler`.
            PoolExhausted: no slot, or no room in the queue; it may be started again.
            IllegalEvent: it was started, stopped or closed before.

        Since:
            Linux 6.15.

        Source:
            iou-zcrx.rst in the kernel's Documentation/networking.
        """
        if not isinstance(handler, ZCRXHandler):
            raise TypeError(f"a ZCRXHandler is needed, not {type(handler).__name__}")
        check_fd(fd)
        self._advance(Event.START)
        ext = None
        try:
            ext = self._pool.extended()
            ext.sidecar[0] = self
            self._ext, self._handler, self._fd = ext, handler, fd
            self._submit()
        except BaseException:
            self._advance(Event.START_REFUSED)
            self._ext = None
            if ext is not None:
                self._pool.put_extended(ext)
            raise

    def stop(self) -> None:
        """Queues a cancel; more stops do nothing. Take completions until it is `stopped`. A receiver that
        waits for memory is stopped at once.

        Raises:
            PoolExhausted: the queue is full. RingClosed: the ring was stopped. The receiver stays active.
        """
        action = self._advance(Event.STOP)
        if action is Action.RETIRE:
            self._retire()
        elif action is Action.CANCEL:
            assert self._ext is not None  # from the start to the last completion
            try:
                # Silent unless it comes too late.
                self._ring.submit(ops.async_cancel(self._ext.context).with_flags(_SILENT), None)
            except BaseException:
                self._advance(Event.STOP_REFUSED)
                raise

    def close(self) -> None:
        """Drops the area and the refill ring; more closes do nothing. The memory is freed once no view of it
        is left.

        Raises:
            BlockingIOError: the receive has not ended, or the ring, which owns the queue, is not stopped.
        """
        if self._queue is None:
            return
        if not TABLE.legal(self._state, Event.CLOSE):
            raise BlockingIOError(errno.EAGAIN, f"{self._state.name}: {_IN_FLIGHT}")
        if not self._ring.closed:
            raise BlockingIOError(errno.EAGAIN, "the ring owns the receive queue: stop the ring first")
        self._advance(Event.CLOSE)
        self._queue = None

    def handle_cqe(self, cqe: Completion) -> bool:
        """Handles a completion of this receive.

        Args:
            cqe: the completion, of any of the ring's ``wait`` functions.

        Returns:
            False for any other.
        """
        if self._ext is None or cqe[0] != self._ext.context:
            return False
        if not cqe.has_more and self._passes(cqe.res):
            self._used_up()
            return True
        expected = self._state is ZCRXState.STOPPING and cqe.res == -errno.ECANCELED
        action = self._advance(Event.MORE if cqe.has_more else Event.LAST)
        try:
            if not expected and self._deliver(cqe) is False:
                self._stop_wanted = True
        finally:
            if Action.RETIRE in action:
                self._retire()
            elif self._stop_wanted:
                self._try_stop()
        return True

    def _submit(self) -> None:
        """Queues the receive, for the first time or again."""
        queue, ext = self._queue, self._ext
        assert queue is not None  # close drops it, and makes the state STOPPED
        assert ext is not None  # from the start to the end
        self._refilled = queue.refilled
        self._ring.submit(ops.recv_zero_copy(self._fd, queue.zcrx_id), ext.context)

    def _passes(self, res: int) -> bool:
        """Whether a receive that ended with this result can go on: the area was used up, or the completion
        queue was full. Not if nothing is on loan and nothing came back: then the kernel has no memory."""
        queue = self._queue
        if res == -errno.ENOMEM and queue is not None:
            return queue.on_loan > 0 or queue.refilled != self._refilled
        return res == -errno.ENOSPC

    def _used_up(self) -> None:
        queue = self._queue
        assert queue is not None
        if Action.RETIRE in self._advance(Event.USED_UP):
            self._retire()
        elif self._stop_wanted:
            self.stop()
        elif queue.refilled != self._refilled or not queue.on_loan:
            self._go_on()
        else:
            queue.when_refilled(self._go_on)

    def _go_on(self) -> None:
        """Submits the receive again, if it still waits for memory."""
        if self._state is not ZCRXState.STARVED or self._queue is None:
            return
        self._advance(Event.REFILLED)
        try:
            self._queue.flush()
            self._submit()
        except OSError as error:
            self._advance(Event.LAST)
            try:
                self._handler.on_error(error)
            finally:
                self._retire()

    def _deliver(self, cqe: Completion) -> bool | None:
        """Calls the handler; False if it stops the receive."""
        if cqe.res < 0:
            return self._handler.on_error(error_from_result(cqe.res, "recv_zero_copy"))
        if cqe.res == 0:
            return self._handler.on_data(ZCRXBuffer(memoryview(b""), None, 0))
        assert self._queue is not None  # close is refused until the last completion
        offset = cqe.big_cqe[0]
        try:
            view = self._queue.locate(offset, cqe.res)
        except OSError as error:
            return self._handler.on_error(error)
        return self._handler.on_data(ZCRXBuffer(view, self._queue, offset))

    def _retire(self) -> None:
        ext, self._ext = self._ext, None
        assert ext is not None
        self._pool.put_extended(ext)
        try:
            self._handler.on_stopped()
        finally:
            self._advance(Event.RETIRED)

    def _try_stop(self) -> None:
        """Stops; where the queue is full the next completion tries again."""
        try:
            self.stop()
        except OSError:
            pass

    def _advance(self, event: Event) -> Action:
        self._state, action = TABLE.step(self._state, event)
        return action

    def __repr__(self) -> str:
        return f"<ZCRXReceiver {self._state.name}>"
