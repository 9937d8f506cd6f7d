"""The states of a subscription: `TABLE` has every state against every event.

Rules that the table shows
  - Only a completion without ``F_MORE`` ends an arming, with an error or not.
  - A multishot that was cancelled because its queue is full, or that ended because no buffer is available,
    rests until there is room. Nothing arms it by a timer.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from uring.machines.machine import Table

__all__ = ["OVER", "TABLE", "Action", "Event", "State"]


class State(Enum):
    """The state of a subscription."""

    IDLE = "nothing armed; the next get arms"
    ARMED = "in flight"
    PAUSING = "in flight, asked to end because the queue is full"
    RESTING = "not in flight until there is room"
    ENDED = "over; the next get returns the end"
    CLOSING = "in flight, asked to end because it was closed"
    CLOSED = "over for good"


class Event(Enum):
    """An event of a subscription."""

    GET = "a consumer found the queue empty"
    ROOM = "half of the queue is free and a buffer is available"
    DATA = "completion, more to come"
    FULL = "completion that filled the queue, more to come; or the consumer wants no more for now"
    LAST = "last completion, for a passing reason"
    FINAL = "last completion: the end, or an error"
    CLOSE = "the block was left, or the descriptor closed"


class Action(Enum):
    """The action of a transition, besides the change of state."""

    NOTHING = auto()
    ARM = auto()
    """Queue the request; where the kernel takes no more now, the state stays as it was."""
    CANCEL = auto()
    """Ask the kernel to end it."""


_IDLE, _ARMED, _PAUSING, _RESTING, _ENDED, _CLOSING, _CLOSED = State
_ARM, _PAUSE, _QUIET = (_ARMED, Action.ARM), (_PAUSING, Action.CANCEL), "nothing is in flight"

# fmt: off
TABLE: Final[Table[State, Event, Action]] = Table("subscription", State, Event, {
    # state    GET       ROOM      DATA      FULL      LAST      FINAL    CLOSE
    _IDLE:    (_ARM,     _IDLE,    _QUIET,   _QUIET,   _QUIET,   _QUIET,  _CLOSED),
    _ARMED:   (_ARMED,   _ARMED,   _ARMED,   _PAUSE,   _RESTING, _ENDED,  _CLOSING),
    _PAUSING: (_PAUSING, _PAUSING, _PAUSING, _PAUSING, _RESTING, _ENDED,  _CLOSING),
    _RESTING: (_RESTING, _ARM,     _QUIET,   _QUIET,   _QUIET,   _QUIET,  _CLOSED),
    _ENDED:   (_IDLE,    _ENDED,   _QUIET,   _QUIET,   _QUIET,   _QUIET,  _CLOSED),
    _CLOSING: (_CLOSING, _CLOSING, _CLOSING, _CLOSING, _CLOSED,  _CLOSED, _CLOSING),
    _CLOSED:  (_CLOSED,  _CLOSED,  _QUIET,   _QUIET,   _QUIET,   _QUIET,  _CLOSED),
}, Action.NOTHING)
# fmt: on

OVER = frozenset((_CLOSING, _CLOSED))
"""States in which a subscription has been closed."""
