"""The table of a subscription's states is whole, and nothing but a last completion takes it out of flight."""

from __future__ import annotations

import subprocess
import sys

import pytest

from uring_trio.multishot.states import TABLE, Action, Event, State

IN_FLIGHT = {State.ARMED, State.PAUSING, State.CLOSING}
COMPLETIONS = {Event.DATA, Event.FULL, Event.LAST, Event.FINAL}
LAST = {Event.LAST, Event.FINAL}


def test_every_state_meets_every_event() -> None:
    assert [*TABLE] == [(state, event) for state in State for event in Event]


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
        for before in State
        for event, after in TABLE[before].items()
        if after in IN_FLIGHT and before not in IN_FLIGHT
    }
    assert arming == {(State.IDLE, Event.GET), (State.RESTING, Event.ROOM)}


def test_what_is_done() -> None:
    done = {
        (state, event): TABLE.step(state, event)[1] for state, event in TABLE if TABLE.legal(state, event)
    }
    assert {pair: action for pair, action in done.items() if action is not Action.NOTHING} == {
        (State.IDLE, Event.GET): Action.ARM,
        (State.RESTING, Event.ROOM): Action.ARM,
        (State.ARMED, Event.FULL): Action.CANCEL,
    }


OPTIMISED = """
from uring import IllegalEvent
from uring_trio.multishot.states import Event, State
from uring_trio.multishot.subscription import Subscription

subscription = object.__new__(Subscription)
subscription.state = State.ENDED
try:
    subscription.step(Event.DATA)
except IllegalEvent as error:
    print(error, subscription.state.name)
"""


@pytest.mark.parametrize("flags", [[], ["-O"]])
def test_what_cannot_happen_is_refused_in_optimised_programs_too(flags: list[str]) -> None:
    ran = subprocess.run(
        [sys.executable, *flags, "-c", OPTIMISED], capture_output=True, text=True, check=True
    )
    assert ran.stdout == "subscription: DATA while ENDED: nothing is in flight ENDED\n"


def test_what_is_closed_stays_closed() -> None:
    reached = {State.CLOSING}
    while True:
        further = {after for state in reached for after in TABLE[state].values() if after} | reached
        if further == reached:
            break
        reached = further
    assert reached == {State.CLOSING, State.CLOSED}
    assert {TABLE[state][Event.CLOSE] for state in State} == {State.CLOSING, State.CLOSED}
