"""The table of a subscription's states is whole, and nothing but a last completion takes it out of flight."""

from __future__ import annotations

import pytest

from uring_trio.multishot.subscription import TABLE, Event, State

IN_FLIGHT = {State.ARMED, State.PAUSING, State.CLOSING}
COMPLETIONS = {Event.DATA, Event.FULL, Event.LAST, Event.FINAL}
LAST = {Event.LAST, Event.FINAL}


def test_every_state_meets_every_event() -> None:
    assert set(TABLE) == set(State)
    for row in TABLE.values():
        assert set(row) == set(Event)


@pytest.mark.parametrize("state", State)
def test_only_what_is_in_flight_completes(state: State) -> None:
    for event in COMPLETIONS:
        assert (TABLE[state][event] is None) == (state not in IN_FLIGHT)
    for event in set(Event) - COMPLETIONS:
        assert TABLE[state][event] is not None


@pytest.mark.parametrize("state", IN_FLIGHT, ids=lambda state: state.name)
def test_only_a_last_completion_ends_an_arming(state: State) -> None:
    for event, after in TABLE[state].items():
        assert (after in IN_FLIGHT) == (event not in LAST)


def test_only_a_consumer_or_room_arms() -> None:
    arming = {
        (before, event)
        for before, row in TABLE.items()
        for event, after in row.items()
        if after in IN_FLIGHT and before not in IN_FLIGHT
    }
    assert arming == {(State.IDLE, Event.GET), (State.RESTING, Event.ROOM)}


def test_what_is_closed_stays_closed() -> None:
    reached = {State.CLOSING}
    while True:
        further = {after for state in reached for after in TABLE[state].values() if after} | reached
        if further == reached:
            break
        reached = further
    assert reached == {State.CLOSING, State.CLOSED}
    assert {row[Event.CLOSE] for row in TABLE.values()} == {State.CLOSING, State.CLOSED}
