"""The tables: every pair of state and event is there, and only these transitions are legal."""

from enum import Enum

import pytest

from uring import IllegalEvent
from uring.machines import listener_setup, multishot, zcrx, zerocopy
from uring.machines.machine import Table

# Every legal transition, written down again: "STATE EVENT -> STATE does", the rest is illegal.
LEGAL = {
    multishot.TABLE: """
        ACTIVE CANCEL -> CANCELLING SUBMIT_CANCEL
        ACTIVE MORE -> ACTIVE STEP
        ACTIVE LAST -> STOPPED STEP STOP
        CANCELLING CANCEL -> CANCELLING
        CANCELLING CANCEL_REFUSED -> ACTIVE
        CANCELLING MORE -> CANCELLING STEP
        CANCELLING LAST -> STOPPED STEP STOP
        STOPPED CANCEL -> STOPPED
        STOPPED CANCEL_REFUSED -> STOPPED
    """,
    zerocopy.TABLE: """
        SENT RESULT -> NOTIFYING COMPLETED
        SENT LAST_RESULT -> DONE COMPLETED NOTIFIED
        NOTIFYING NOTIFICATION -> DONE NOTIFIED
    """,
    listener_setup.TABLE: """
        INIT SOCKET_DONE -> SOCKET KEEP_FD
        INIT ERROR -> FAILED
        INIT CLOSE_PENDING -> CLOSING CLOSE_FD
        INIT CLOSE -> CLOSED CLOSE_FD RELEASE_SLOT
        SOCKET PREPARE_BIND -> SOCKET
        SOCKET BIND_DONE -> BIND
        SOCKET ERROR -> FAILED
        SOCKET CLOSE_PENDING -> CLOSING CLOSE_FD
        SOCKET CLOSE -> CLOSED CLOSE_FD RELEASE_SLOT
        BIND PREPARE_LISTEN -> BIND
        BIND LISTEN_DONE -> LISTEN
        BIND ERROR -> FAILED
        BIND CLOSE_PENDING -> CLOSING CLOSE_FD
        BIND CLOSE -> CLOSED CLOSE_FD RELEASE_SLOT
        LISTEN SET_READY -> READY
        LISTEN CLOSE -> CLOSED CLOSE_FD RELEASE_SLOT
        READY SET_READY -> READY
        READY CLOSE -> CLOSED CLOSE_FD RELEASE_SLOT
        FAILED CLOSE -> CLOSED CLOSE_FD RELEASE_SLOT
        CLOSING SOCKET_DONE -> CLOSING DROP_FD
        CLOSING BIND_DONE -> CLOSING
        CLOSING LISTEN_DONE -> CLOSING
        CLOSING ERROR -> CLOSING
        CLOSING CLOSE_PENDING -> CLOSING
        CLOSING CLOSE -> CLOSED RELEASE_SLOT
        CLOSED CLOSE -> CLOSED
    """,
    zcrx.TABLE: """
        IDLE START -> ACTIVE SUBMIT
        IDLE STOP -> STOPPED
        IDLE CLOSE -> STOPPED FREE
        ACTIVE START_REFUSED -> IDLE
        ACTIVE MORE -> ACTIVE DELIVER
        ACTIVE LAST -> RETIRING DELIVER RETIRE
        ACTIVE USED_UP -> STARVED
        ACTIVE STOP -> STOPPING CANCEL
        STOPPING MORE -> STOPPING DELIVER
        STOPPING LAST -> RETIRING DELIVER RETIRE
        STOPPING USED_UP -> RETIRING RETIRE
        STOPPING STOP -> STOPPING
        STOPPING STOP_REFUSED -> ACTIVE
        RETIRING STOP -> RETIRING
        RETIRING RETIRED -> STOPPED
        STOPPED STOP -> STOPPED
        STOPPED CLOSE -> STOPPED FREE
        STARVED REFILLED -> ACTIVE SUBMIT
        STARVED STOP -> RETIRING RETIRE
    """,
}
SHAPES = {
    multishot.TABLE: (multishot.SubscriptionState, multishot.Event),
    zerocopy.TABLE: (zerocopy.State, zerocopy.Event),
    listener_setup.TABLE: (listener_setup.ListenerState, listener_setup.Event),
    zcrx.TABLE: (zcrx.ZCRXState, zcrx.Event),
}
tables = pytest.mark.parametrize("table", LEGAL, ids=lambda table: table.name)


def transitions(table):
    found = {}
    for line in filter(None, map(str.strip, LEGAL[table].splitlines())):
        left, right = line.split(" -> ")
        found[tuple(left.split())] = right.split()
    return found


@tables
def test_every_pair_is_there(table):
    states, events = SHAPES[table]
    assert set(table) == {(state, event) for state in states for event in events}
    assert len(table) == len(states) * len(events)


@tables
def test_every_pair_does_what_is_written(table):
    legal = transitions(table)
    seen = set()
    for state, event in table:
        key = (state.name, event.name)
        assert table.legal(state, event) == (key in legal), key
        if key not in legal:
            with pytest.raises(IllegalEvent, match=f"{event.name} while {state.name}: ."):
                table.step(state, event)
            continue
        seen.add(key)
        following, action = table.step(state, event)
        assert [following.name, *(part.name for part in action)] == legal[key], key
    assert seen == set(legal)


@tables
def test_every_state_can_be_reached(table):
    states, _ = SHAPES[table]
    reached = {next(iter(states))}
    while True:
        more = {table.step(s, e)[0] for s, e in table if s in reached and table.legal(s, e)} - reached
        if not more:
            break
        reached |= more
    assert reached == set(states)


@tables
def test_the_last_state_is_never_left(table):
    last = list(SHAPES[table][0])[-1]
    assert {table.step(s, e)[0] for s, e in table if s is last and table.legal(s, e)} <= {last}


class Light(Enum):
    RED = 1
    GREEN = 2


class Press(Enum):
    ONCE = 1


class Nothing(Enum):
    DONE = 1


def test_a_table_with_a_hole_is_refused():
    cell = (Light.RED, Nothing.DONE)
    Table("light", Light, Press, {Light.RED: (cell,), Light.GREEN: ("broken",)})
    with pytest.raises(ValueError, match="not the states"):
        Table("light", Light, Press, {Light.RED: (cell,)})
    with pytest.raises(ValueError, match="GREEN has 0 cells for 1 events"):
        Table("light", Light, Press, {Light.RED: (cell,), Light.GREEN: ()})
    with pytest.raises(ValueError, match="RED has 2 cells"):
        Table("light", Light, Press, {Light.RED: (cell, cell), Light.GREEN: (cell,)})
