"""The states of an operation as a table: every pair of state and event, the impossible ones included.

The engine does not execute this table, because its hot path is straight code. Tests compare the engine with
the table, and the diagram in the documentation is printed from it (``python -m uring.machines.lifecycle``).

Rules that the table shows
  - An operation in the kernel ends only with its last completion: neither a cancel nor a close makes it free.
  - An entry that has not reached the kernel is taken back: it completes as cancelled and does nothing.
  - A cancel may be repeated, and may be too late: a result that arrived is delivered.
  - A slot has one owner at a time, so that no `user_data` is in flight twice.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, TypeAlias

from .machine import IllegalEvent, Table

__all__ = ["TABLE", "Event", "IllegalTransition", "State", "diagram", "step"]


class State(Enum):
    """The state of an operation; the value is its explanation in the diagram."""

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
    """An event of an operation; the value is its label in the diagram."""

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


IllegalTransition: TypeAlias = IllegalEvent
"""Its earlier name."""

_FREE, _READY, _WAITING, _QUEUED, _TAKEN_BACK, _IN_FLIGHT, _CANCELLING, _FINISHING, _DROPPED = State
# Why an event cannot happen.
_ALONE, _OWNED, _QUIET = "nobody owns it", "it has an owner", "nothing of it is queued"
_EARLY, _DOUBLE, _GONE = "the kernel has not seen it", "it is queued already", "the kernel has it already"
_BUSY, _LATER, _ENDED = "it is in flight", "only its last completion wakes its task", "it was dropped"

# fmt: off
_ROWS: Final[dict[State, tuple[State | str, ...]]] = {
    # ACQUIRE, QUEUE, REFUSE, SUBMIT; then CANCEL, CLOSE; then MORE, LAST; then RESUME, RELEASE
    _FREE: (
        _READY, _ALONE, _ALONE, _ALONE,  _ALONE, _ALONE,
        _FREE, _FREE,  # late or forged: the generation does not match, it is counted and dropped
        _ALONE, _ALONE,
    ),
    _READY: (_OWNED, _QUEUED, _WAITING, _QUIET,  _QUIET, _FREE,  _QUIET, _QUIET,  _QUIET, _FREE),
    _WAITING: (
        _OWNED, _QUEUED, _WAITING, _QUIET,
        _DROPPED, _DROPPED,  # never queued: the descriptor may be another file's by then
        _QUIET, _QUIET,  _QUIET, _QUIET,
    ),
    _QUEUED: (
        _OWNED, _DOUBLE, _DOUBLE, _IN_FLIGHT,  _TAKEN_BACK, _TAKEN_BACK,  _EARLY, _EARLY,  _LATER, _DOUBLE,
    ),
    _TAKEN_BACK: (
        _OWNED, _DOUBLE, _DOUBLE, _TAKEN_BACK,  _TAKEN_BACK, _TAKEN_BACK,  _EARLY, _READY,  _LATER, _DOUBLE,
    ),
    _IN_FLIGHT: (
        _OWNED, _BUSY, _BUSY, _GONE,  _CANCELLING, _CANCELLING,  _FINISHING, _READY,  _LATER, _BUSY,
    ),
    _CANCELLING: (
        _OWNED, _BUSY, _BUSY, _GONE,  _CANCELLING, _CANCELLING,  _FINISHING, _READY,  _LATER, _BUSY,
    ),
    _FINISHING: (
        _OWNED, _BUSY, _BUSY, _GONE,  _FINISHING, _FINISHING,  _FINISHING, _READY,  _LATER, _BUSY,
    ),
    _DROPPED: (_OWNED, _ENDED, _ENDED, _QUIET,  _DROPPED, _DROPPED,  _QUIET, _QUIET,  _READY, _ENDED),
}
# fmt: on

TABLE: Final[Table[State, Event, None]] = Table("operation", State, Event, _ROWS)
"""The state after each event.

The close of a descriptor is CLOSE for each of its operations; one that is busy is released with its last
completion (LAST, RELEASE). After LAST the task has yet to resume and take the result, but the operation may
already be queued again: the result is kept until the next completions are handed out.
"""


def step(state: State, event: Event) -> State:
    """The state after ``event``.

    Raises:
        IllegalEvent: it cannot happen in ``state``.
    """
    return TABLE.step(state, event)[0]


def diagram() -> str:
    """The table as a Mermaid state diagram; events that lead to the same state share an arrow, those that
    change nothing are left out."""
    lines = ["stateDiagram-v2", f"    [*] --> {State.FREE.name}"]
    lines += [f"    {state.name} : {state.name}<br/>{state.value}" for state in State]
    for state in State:
        arrows: dict[State, list[str]] = {}
        for event, after in TABLE[state].items():
            if after is not None and after is not state:
                arrows.setdefault(after, []).append(event.value)
        lines += [
            f"    {state.name} --> {after.name} : {' / '.join(labels)}" for after, labels in arrows.items()
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(diagram())
