"""The life of an operation as a table: every state against every event, the impossible ones too.

The manager does not execute this table, its hot path is straight code; the tests hold it to the table, and
the diagram in the documentation is printed from it (``python -m uring.machines.lifecycle``).

Rules that the table shows
  - An operation in the kernel ends by a last completion and by nothing else: neither a cancel nor a close
    makes it free.
  - What has not reached the kernel is taken back: it completes as cancelled and does nothing.
  - A cancel is a request. It may be repeated, it may come too late, and the result decides: a result that
    arrived is delivered.
  - A slot has one owner at a time, so that no `user_data` is in flight twice.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["TABLE", "Event", "IllegalTransition", "State", "diagram", "step"]


class State(Enum):
    """Where an operation is; the value is how the diagram explains it."""

    FREE = "in the table, no owner"
    READY = "owned, nothing in flight"
    WAITING = "its task waits for room in the queue"
    QUEUED = "entry written, not submitted"
    TAKEN_BACK = "entry turned into a no-op"
    IN_FLIGHT = "the kernel has it"
    CANCELLING = "the kernel has it and was asked to end it"
    FINISHING = "result is here, the kernel still holds the memory"
    DROPPED = "cancelled or closed while its task waited for room"


class Event(Enum):
    """What happens to an operation; the value is its label in the diagram."""

    ACQUIRE = "acquire"
    QUEUE = "queue"
    REFUSE = "queue is full"
    SUBMIT = "submit"
    CANCEL = "cancel"
    CLOSE = "close"
    MORE = "completion, more to come"
    LAST = "last completion"
    RESUME = "its task resumes"
    RELEASE = "release"


class IllegalTransition(ValueError):
    """This event cannot happen to an operation in this state."""


_ILLEGAL: Final = None

TABLE: Final[dict[State, dict[Event, State | None]]] = {
    State.FREE: {
        Event.ACQUIRE: State.READY,
        Event.QUEUE: _ILLEGAL,
        Event.REFUSE: _ILLEGAL,
        Event.SUBMIT: _ILLEGAL,
        Event.CANCEL: _ILLEGAL,
        Event.CLOSE: _ILLEGAL,
        # Late or forged: the generation does not match, it is counted and dropped.
        Event.MORE: State.FREE,
        Event.LAST: State.FREE,
        Event.RESUME: _ILLEGAL,
        Event.RELEASE: _ILLEGAL,
    },
    State.READY: {
        Event.ACQUIRE: _ILLEGAL,
        Event.QUEUE: State.QUEUED,
        Event.REFUSE: State.WAITING,
        Event.SUBMIT: _ILLEGAL,
        Event.CANCEL: _ILLEGAL,
        Event.CLOSE: State.FREE,
        Event.MORE: _ILLEGAL,
        Event.LAST: _ILLEGAL,
        Event.RESUME: _ILLEGAL,
        Event.RELEASE: State.FREE,
    },
    State.WAITING: {
        Event.ACQUIRE: _ILLEGAL,
        Event.QUEUE: State.QUEUED,
        Event.REFUSE: State.WAITING,
        Event.SUBMIT: _ILLEGAL,
        # Not queued any more: nobody wants the result, or the descriptor may be another file's.
        Event.CANCEL: State.DROPPED,
        Event.CLOSE: State.DROPPED,
        Event.MORE: _ILLEGAL,
        Event.LAST: _ILLEGAL,
        Event.RESUME: _ILLEGAL,
        Event.RELEASE: _ILLEGAL,
    },
    State.QUEUED: {
        Event.ACQUIRE: _ILLEGAL,
        Event.QUEUE: _ILLEGAL,
        Event.REFUSE: _ILLEGAL,
        Event.SUBMIT: State.IN_FLIGHT,
        Event.CANCEL: State.TAKEN_BACK,
        Event.CLOSE: State.TAKEN_BACK,
        Event.MORE: _ILLEGAL,
        Event.LAST: _ILLEGAL,
        Event.RESUME: _ILLEGAL,
        Event.RELEASE: _ILLEGAL,
    },
    State.TAKEN_BACK: {
        Event.ACQUIRE: _ILLEGAL,
        Event.QUEUE: _ILLEGAL,
        Event.REFUSE: _ILLEGAL,
        Event.SUBMIT: State.TAKEN_BACK,
        Event.CANCEL: State.TAKEN_BACK,
        Event.CLOSE: State.TAKEN_BACK,
        Event.MORE: _ILLEGAL,
        Event.LAST: State.READY,
        Event.RESUME: _ILLEGAL,
        Event.RELEASE: _ILLEGAL,
    },
    State.IN_FLIGHT: {
        Event.ACQUIRE: _ILLEGAL,
        Event.QUEUE: _ILLEGAL,
        Event.REFUSE: _ILLEGAL,
        Event.SUBMIT: _ILLEGAL,
        Event.CANCEL: State.CANCELLING,
        Event.CLOSE: State.CANCELLING,
        Event.MORE: State.FINISHING,
        Event.LAST: State.READY,
        Event.RESUME: _ILLEGAL,
        Event.RELEASE: _ILLEGAL,
    },
    State.CANCELLING: {
        Event.ACQUIRE: _ILLEGAL,
        Event.QUEUE: _ILLEGAL,
        Event.REFUSE: _ILLEGAL,
        Event.SUBMIT: _ILLEGAL,
        Event.CANCEL: State.CANCELLING,
        Event.CLOSE: State.CANCELLING,
        Event.MORE: State.FINISHING,
        Event.LAST: State.READY,
        Event.RESUME: _ILLEGAL,
        Event.RELEASE: _ILLEGAL,
    },
    State.FINISHING: {
        Event.ACQUIRE: _ILLEGAL,
        Event.QUEUE: _ILLEGAL,
        Event.REFUSE: _ILLEGAL,
        Event.SUBMIT: _ILLEGAL,
        Event.CANCEL: State.FINISHING,
        Event.CLOSE: State.FINISHING,
        Event.MORE: State.FINISHING,
        Event.LAST: State.READY,
        Event.RESUME: _ILLEGAL,
        Event.RELEASE: _ILLEGAL,
    },
    State.DROPPED: {
        Event.ACQUIRE: _ILLEGAL,
        Event.QUEUE: _ILLEGAL,
        Event.REFUSE: _ILLEGAL,
        Event.SUBMIT: _ILLEGAL,
        Event.CANCEL: State.DROPPED,
        Event.CLOSE: State.DROPPED,
        Event.MORE: _ILLEGAL,
        Event.LAST: _ILLEGAL,
        Event.RESUME: State.READY,
        Event.RELEASE: _ILLEGAL,
    },
}
"""The state after each event; None where the event cannot happen.

Closing a descriptor says CLOSE to each of its operations; one that was busy then is released with its last
completion (LAST, RELEASE). After LAST the task has yet to resume and take the result, but the operation may
be queued again already: the result is kept until the next completions are handed out.
"""


def step(state: State, event: Event) -> State:
    """The state after ``event``.

    Raises:
        IllegalTransition: it cannot happen in ``state``.
    """
    after = TABLE[state][event]
    if after is None:
        raise IllegalTransition(
            f"{event.name} cannot happen to an operation that is {state.name} ({state.value})"
        )
    return after


def diagram() -> str:
    """The table as a Mermaid state diagram; events that lead to the same state share an arrow, those that
    change nothing are left out."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.FREE.name}"]
    lines += [f"    {state.name} : {state.name}<br/>{state.value}" for state in State]
    for state, row in TABLE.items():
        arrows: dict[State, list[str]] = {}
        for event, after in row.items():
            if after is not None and after is not state:
                arrows.setdefault(after, []).append(event.value)
        lines += [
            f"    {state.name} --> {after.name} : {' / '.join(labels)}" for after, labels in arrows.items()
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(diagram())
