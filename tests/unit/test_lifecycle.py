"""The life-cycle table: complete, sound, and the same as the diagram in the documentation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from uring.machines.lifecycle import TABLE, Event, IllegalTransition, State, diagram, step

DOCS = Path(__file__).parents[2] / "docs" / "explanation" / "life-of-an-operation.md"
IN_KERNEL = {State.IN_FLIGHT, State.CANCELLING, State.FINISHING}
PAIRS = [(state, event) for state in State for event in Event]


def test_every_pair_is_there() -> None:
    assert [*TABLE] == PAIRS
    for state in State:
        assert [*TABLE[state]] == [*Event]


@pytest.mark.parametrize(("state", "event"), PAIRS, ids=lambda x: x.name)
def test_step_is_the_table(state: State, event: Event) -> None:
    after = TABLE[state][event]
    if after is None:
        with pytest.raises(IllegalTransition, match=f"operation: {event.name} while {state.name}: ."):
            step(state, event)
    else:
        assert step(state, event) is after


def test_every_state_is_reached_from_free_and_leads_back() -> None:
    assert reachable(State.FREE) == set(State)
    for state in State:
        assert State.FREE in reachable(state)


def test_only_completions_take_an_operation_from_the_kernel() -> None:
    for state in IN_KERNEL:
        for event, after in TABLE[state].items():
            if after is not None and after not in IN_KERNEL:
                assert event is Event.LAST


def test_only_submitting_gives_it_to_the_kernel() -> None:
    for state in set(State) - IN_KERNEL:
        for event, after in TABLE[state].items():
            if after in IN_KERNEL:
                assert (state, event) == (State.QUEUED, Event.SUBMIT)


def test_cancel_and_close_are_idempotent() -> None:
    for state in State:
        for event in (Event.CANCEL, Event.CLOSE):
            once = TABLE[state][event]
            if once is not None and once is not State.FREE:
                assert TABLE[once][event] in (once, None)


def test_an_owner_queues_and_releases_only_when_nothing_is_in_flight() -> None:
    for state in State:
        assert (TABLE[state][Event.RELEASE] is not None) == (state is State.READY)
        assert (TABLE[state][Event.QUEUE] is not None) == (state in (State.READY, State.WAITING))
        assert (TABLE[state][Event.ACQUIRE] is not None) == (state is State.FREE)


def test_the_documentation_has_this_diagram() -> None:
    [shown] = [part.split("```")[0] for part in DOCS.read_text().split("```mermaid\n")[1:]]
    assert shown == diagram() + "\n"


def test_the_module_prints_the_diagram() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "uring.machines.lifecycle"], capture_output=True, text=True, check=True
    )
    assert done.stdout == diagram() + "\n"
    assert not done.stderr


def reachable(start: State) -> set[State]:
    seen, todo = {start}, [start]
    while todo:
        for after in TABLE[todo.pop()].values():
            if after is not None and after not in seen:
                seen.add(after)
                todo.append(after)
    return seen
