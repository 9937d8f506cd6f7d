"""Setting up a listener: socket, bind, listen, one completion after the other, then accepting.

The caller's loop drives it: `decode_listener_cqe` decodes a completion, ``prepare_listener_bind`` and
``prepare_listener_listen`` put the next request into the slot for `uring.Ring.submit_extended`, and
`set_listener_ready` ends the set-up. `ListenerManager` starts it, and can drive it too.

    INIT ─socket─▶ SOCKET ─bind─▶ BIND ─listen─▶ LISTEN ─ready─▶ READY
      any of them ─error─▶ FAILED;  any ─close─▶ CLOSED, or CLOSING while a completion is pending

Invariants
  - The slot is released once, and never while one of its completions is pending.
  - A descriptor is closed once, also one that arrives after the close.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum, Flag, IntEnum, auto
from typing import TYPE_CHECKING

from .. import abi, ops
from ..contexts.context import ExtSQE, find_slot
from ..kernel.addresses import encode_address
from ..ops.base import renamed
from .machine import Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..contexts.views import Completion
    from ..kernel.addresses import Address
    from ..kernel.op import Op

__all__ = [
    "OP_BIND",
    "OP_LISTEN",
    "OP_SOCKET",
    "TABLE",
    "Action",
    "Event",
    "ListenerHandler",
    "ListenerState",
    "ListenerStep",
    "Setup",
    "decode_listener_cqe",
    "prepare_listener_bind",
    "prepare_listener_listen",
    "prepare_listener_socket",
    "set_listener_ready",
    "setup_of",
    "state_of",
]

OP_SOCKET = int(abi.IORING_OP_SOCKET)
OP_BIND = int(abi.IORING_OP_BIND)
OP_LISTEN = int(abi.IORING_OP_LISTEN)


class ListenerState(IntEnum):
    """The state of a set-up."""

    INIT = 0
    SOCKET = 1
    """The socket exists."""
    BIND = 2
    """It is bound."""
    LISTEN = 3
    """It listens."""
    READY = 4
    """`set_listener_ready` was called: connections can be accepted."""
    FAILED = 5
    CLOSING = 6
    """Closed while a completion was pending: the slot waits for it."""
    CLOSED = 7


class ListenerHandler:
    """The callbacks of a set-up; by default each lets it continue."""

    def on_socket_created(self, fd: int) -> bool | None:
        """The socket exists, to set options on.

        Args:
            fd: its descriptor.

        Returns:
            False, and nothing else, stops the set-up there.
        """
        return True

    def on_bound(self) -> bool | None:
        """The socket is bound. False, and nothing else, stops the set-up there."""
        return True

    def on_listening(self) -> None:
        """The socket listens and is ready."""

    def on_error(self, op: int, error: OSError) -> None:
        """A request of the set-up failed.

        Args:
            op: its opcode, ``IORING_OP_*``.
            error: the reason.
        """

    @classmethod
    def from_callbacks(
        cls,
        on_socket_created: Callable[[int], bool | None] | None = None,
        on_bound: Callable[[], bool | None] | None = None,
        on_listening: Callable[[], None] | None = None,
        on_error: Callable[[int, OSError], None] | None = None,
    ) -> ListenerHandler:
        """Makes a handler of functions.

        Args:
            on_socket_created: as the method of this name; None does as this class.
            on_bound: as the method of this name; None does as this class.
            on_listening: as the method of this name; None does as this class.
            on_error: as the method of this name; None does as this class.

        Returns:
            The handler.
        """
        return _Callbacks(on_socket_created, on_bound, on_listening, on_error)


class _Callbacks(ListenerHandler):
    def __init__(
        self,
        on_socket_created: Callable[[int], bool | None] | None,
        on_bound: Callable[[], bool | None] | None,
        on_listening: Callable[[], None] | None,
        on_error: Callable[[int, OSError], None] | None,
    ) -> None:
        self._created = on_socket_created
        self._bound = on_bound
        self._listening = on_listening
        self._error = on_error

    def on_socket_created(self, fd: int) -> bool | None:
        return True if self._created is None else self._created(fd)

    def on_bound(self) -> bool | None:
        return True if self._bound is None else self._bound()

    def on_listening(self) -> None:
        if self._listening is not None:
            self._listening()

    def on_error(self, op: int, error: OSError) -> None:
        if self._error is not None:
            self._error(op, error)


@dataclass(frozen=True, slots=True)
class ListenerStep:
    """One completed step of a set-up.

    Attributes:
        op: the opcode that completed: ``IORING_OP_SOCKET``, ``IORING_OP_BIND`` or ``IORING_OP_LISTEN``.
        fd: the listener's descriptor; -1 before there is one, and after the close.
        state: after this completion.
        error: why the request failed, else None.
        ext: the slot, for the next request.
        handler: the handler that was given at the start.
    """

    op: int
    fd: int
    state: ListenerState
    error: OSError | None
    ext: ExtSQE
    handler: ListenerHandler


class Event(Enum):
    """An event of a set-up."""

    SOCKET_DONE = auto()
    BIND_DONE = auto()
    LISTEN_DONE = auto()
    ERROR = auto()
    PREPARE_BIND = auto()
    PREPARE_LISTEN = auto()
    SET_READY = auto()
    CLOSE_PENDING = auto()
    """Closed, and a completion is still to come or to be decoded."""
    CLOSE = auto()
    """Closed with nothing pending."""


class Action(Flag):
    """The action of a transition."""

    NOTHING = 0
    KEEP_FD = auto()
    DROP_FD = auto()
    CLOSE_FD = auto()
    RELEASE_SLOT = auto()


_INIT, _SOCKET, _BIND, _LISTEN, _READY, _FAILED, _CLOSING, _CLOSED = ListenerState
_NOTHING = Action.NOTHING
_CLOSE_NOW = (_CLOSED, Action.CLOSE_FD | Action.RELEASE_SLOT)
_CLOSE_LATER = (_CLOSING, Action.CLOSE_FD)
_FAIL, _WAIT = (_FAILED, _NOTHING), (_CLOSING, _NOTHING)
_NO_SOCKET, _HAS_SOCKET = "the socket does not exist yet", "the socket exists already"
_NOT_BOUND, _IS_BOUND = "the socket is not bound yet", "the socket is bound already"
_NOT_LISTENING, _LISTENS = "the socket does not listen yet", "the socket listens already"
_NONE_PENDING = "no completion is pending"
_HAS_FAILED, _IS_CLOSED = "the set-up has failed", "the listener is closed"

# fmt: off
TABLE: Table[ListenerState, Event, Action] = Table(
    "listener",
    ListenerState,
    Event,
    {
        #           SOCKET_DONE, BIND_DONE, LISTEN_DONE, ERROR,
        #           PREPARE_BIND, PREPARE_LISTEN, SET_READY, CLOSE_PENDING, CLOSE
        _INIT:     ((_SOCKET, Action.KEEP_FD), _NO_SOCKET, _NO_SOCKET, _FAIL,
                    _NO_SOCKET, _NO_SOCKET, _NO_SOCKET, _CLOSE_LATER, _CLOSE_NOW),
        _SOCKET:   (_HAS_SOCKET, (_BIND, _NOTHING), _NOT_BOUND, _FAIL,
                    (_SOCKET, _NOTHING), _NOT_BOUND, _NOT_BOUND, _CLOSE_LATER, _CLOSE_NOW),
        _BIND:     (_HAS_SOCKET, _IS_BOUND, (_LISTEN, _NOTHING), _FAIL,
                    _IS_BOUND, (_BIND, _NOTHING), _NOT_LISTENING, _CLOSE_LATER, _CLOSE_NOW),
        _LISTEN:   (_HAS_SOCKET, _IS_BOUND, _LISTENS, _LISTENS,
                    _IS_BOUND, _LISTENS, (_READY, _NOTHING), _NONE_PENDING, _CLOSE_NOW),
        _READY:    (_HAS_SOCKET, _IS_BOUND, _LISTENS, _LISTENS,
                    _IS_BOUND, _LISTENS, (_READY, _NOTHING), _NONE_PENDING, _CLOSE_NOW),
        _FAILED:   (_HAS_FAILED, _HAS_FAILED, _HAS_FAILED, _HAS_FAILED,
                    _HAS_FAILED, _HAS_FAILED, _HAS_FAILED, _NONE_PENDING, _CLOSE_NOW),
        _CLOSING:  ((_CLOSING, Action.DROP_FD), _WAIT, _WAIT, _WAIT,
                    _IS_CLOSED, _IS_CLOSED, _IS_CLOSED, _WAIT, (_CLOSED, Action.RELEASE_SLOT)),
        _CLOSED:   (_IS_CLOSED, _IS_CLOSED, _IS_CLOSED, _IS_CLOSED,
                    _IS_CLOSED, _IS_CLOSED, _IS_CLOSED, _NONE_PENDING, (_CLOSED, _NOTHING)),
    },
)
# fmt: on

_DONE = {OP_SOCKET: Event.SOCKET_DONE, OP_BIND: Event.BIND_DONE, OP_LISTEN: Event.LISTEN_DONE}


class Setup:
    """The data of a set-up, in the slot's first reference."""

    __slots__ = ("address", "awaited", "backlog", "family", "fd", "handler", "op", "state")

    def __init__(self, family: int, address: Address, backlog: int, handler: ListenerHandler) -> None:
        self.family: int = family
        self.address: Address = address
        self.backlog: int = backlog
        self.handler: ListenerHandler = handler
        self.state: ListenerState = ListenerState.INIT
        self.fd: int = -1
        self.op: Op | None = None
        self.awaited: bool = False  # a request was prepared whose completion was not decoded

    def advance(self, event: Event) -> Action:
        """Executes the table; returns the action."""
        self.state, action = TABLE.step(self.state, event)
        return action

    def prepare(self, ext: ExtSQE, op: Op) -> None:
        """Puts the next request into the slot."""
        ext.prepare(op)
        self.op = op
        self.awaited = True

    def settle(self, ext: ExtSQE) -> None:
        """Takes the socket of a completion that was taken from the ring and will not be decoded."""
        if self.awaited and not ext.in_flight and ext.res is not None:
            self.awaited = False
            if ext.fields[0] == OP_SOCKET and ext.res >= 0:
                self.fd = ext.res

    def close_fd(self) -> None:
        """Closes the descriptor, once."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


@renamed(type="kind")
def prepare_listener_socket(
    ext: ExtSQE,
    family: int,
    kind: int,
    protocol: int,
    address: Address,
    backlog: int,
    handler: ListenerHandler | None = None,
) -> None:
    """Puts the first request of a set-up into a slot, with the data of the others.

    Args:
        ext: the slot.
        family: ``AF_INET``, ``AF_INET6`` or ``AF_UNIX``.
        kind: ``SOCK_STREAM`` or the like. The keyword ``type`` works too.
        protocol: ``IPPROTO_*``; 0 is the family's default.
        address: the address to bind, as `uring.ops.bind` takes it.
        backlog: how many connections may wait to be accepted, 0 to 2**31 - 1.
        handler: is called at each step; None does nothing.

    Raises:
        TypeError, ValueError, OverflowError: the address is of another family, the backlog or another number
            is out of range.
        RuntimeError: the slot is in flight.
    """
    if not isinstance(ext, ExtSQE):
        raise TypeError(f"an ExtSQE is needed, not {ext.__class__.__name__}")
    encode_address(family, address)
    ops.listen(0, backlog)  # checks the backlog before anything is submitted
    setup = Setup(family, address, backlog, ListenerHandler() if handler is None else handler)
    setup.prepare(ext, ops.socket(family, kind, protocol))
    ext.sidecar[1] = setup


def prepare_listener_bind(ext: ExtSQE, fd: int) -> None:
    """Puts the bind of the socket, to the address given at the start, into the slot.

    Args:
        ext: the slot of the set-up.
        fd: the socket's descriptor.

    Raises:
        IllegalEvent: the socket does not exist, is bound already, or the listener is closed.
        LookupError: no set-up is in this slot.
    """
    setup = setup_of(ext)
    request = ops.bind(fd, setup.family, setup.address)
    setup.advance(Event.PREPARE_BIND)
    setup.prepare(ext, request)


def prepare_listener_listen(ext: ExtSQE, fd: int) -> None:
    """Puts the listen on the socket, with the backlog given at the start, into the slot.

    Args:
        ext: the slot of the set-up.
        fd: the socket's descriptor.

    Raises:
        IllegalEvent: the socket is not bound, listens already, or the listener is closed.
        LookupError: no set-up is in this slot.
    """
    setup = setup_of(ext)
    request = ops.listen(fd, setup.backlog)
    setup.advance(Event.PREPARE_LISTEN)
    setup.prepare(ext, request)


def set_listener_ready(ext: ExtSQE) -> None:
    """Ends the set-up: the listener may accept.

    Args:
        ext: the slot of the set-up.

    Raises:
        IllegalEvent: it does not listen yet, or is closed.
        LookupError: no set-up is in this slot.
    """
    setup_of(ext).advance(Event.SET_READY)


def decode_listener_cqe(cqe: Completion) -> ListenerStep | None:
    """The step of the set-up that a completion belongs to. To be called once for each.

    A socket that arrives after the close is closed here.

    Args:
        cqe: the completion, of any of the ring's ``wait`` functions.

    Returns:
        The step; None if it belongs to none.
    """
    slot = find_slot(cqe[0])
    if not isinstance(slot, ExtSQE) or not isinstance(slot.sidecar[1], Setup):
        return None
    setup, opcode = slot.sidecar[1], slot.fields[0]
    if not setup.awaited or setup.op is None or opcode not in _DONE:
        return None
    setup.awaited = False
    error = setup.op.error(cqe.res) if cqe.res < 0 else None
    action = setup.advance(_DONE[opcode] if error is None else Event.ERROR)
    if action is Action.KEEP_FD:
        setup.fd = cqe.res
    elif action is Action.DROP_FD:
        os.close(cqe.res)
    return ListenerStep(opcode, setup.fd, setup.state, error, slot, setup.handler)


def setup_of(ext: ExtSQE) -> Setup:
    """The data of a slot's set-up. Raises LookupError: the slot has none."""
    if not isinstance(ext, ExtSQE):
        raise TypeError(f"an ExtSQE is needed, not {type(ext).__name__}")
    setup = ext.sidecar[1]
    if not isinstance(setup, Setup):
        raise LookupError("the slot has no listener's set-up: call prepare_listener_socket first")
    return setup


def state_of(step: ListenerStep) -> ListenerState | None:
    """The state after a handler, which may have closed the listener."""
    setup = step.ext.sidecar[1]
    return setup.state if isinstance(setup, Setup) else None
