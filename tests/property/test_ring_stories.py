"""The same random actions on the kernel's ring and on the scripted one have the same completions."""

from __future__ import annotations

import select

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.support import F_BUFFER, ORDERS, KernelStage, ScriptedStage, Stage
from uring import ops
from uring.kernel.ring import CQE

STREAMS = 3

_action = st.one_of(
    st.tuples(st.just("receive"), st.integers(0, STREAMS - 1)),
    st.tuples(st.just("poll"), st.integers(0, STREAMS - 1)),
    st.tuples(st.just("feed"), st.integers(0, STREAMS - 1)),
    st.tuples(st.just("nop"), st.just(0)),
    st.tuples(st.just("unqueue"), st.integers(0, 30)),
    st.tuples(st.just("cancel"), st.integers(0, 30)),
    st.tuples(st.just("cancel_fd"), st.integers(0, STREAMS - 1)),
    st.tuples(st.just("step"), st.just(0)),
)


def play(stage: Stage, actions: list[tuple[str, int]]) -> list[list[tuple[int, int, bool]]]:
    """What each cycle handed out, sorted: the order of requests that end together is the kernel's affair."""
    streams = [stage.stream() for _ in range(STREAMS)]
    history = []
    receiving: dict[int, int] = {}
    for number, (action, argument) in enumerate([*actions, ("step", 0)], 1):
        if action == "receive":
            # Which of several on one stream gets the data is the kernel's affair too.
            if argument not in receiving.values():
                receiving[number] = argument
                stage.receive(number, streams[argument].fd)
        elif action == "poll":
            stage.put(number, ops.poll_add(streams[argument].fd, select.POLLIN))
        elif action == "feed":
            streams[argument].feed(b"data")
        elif action == "nop":
            stage.put(number, ops.nop())
        elif action == "unqueue":
            stage.ring.unqueue(argument)
        elif action == "cancel":
            stage.put(number, ops.async_cancel(argument))
        elif action == "cancel_fd":
            stage.put(number, ops.async_cancel_fd(streams[argument].fd, every=True))
        else:
            n = stage.ring.cycle(0.0)
            out = list(CQE.iter_unpack(stage.ring.out[: n * CQE.size]))
            for user_data, _, flags in out:
                receiving.pop(user_data, None)
                if flags & F_BUFFER:
                    stage.buffers.put(flags >> 16)
            history.append(sorted((user_data, res, bool(flags & F_BUFFER)) for user_data, res, flags in out))
    history.append([(stage.ring.inflight, stage.ring.pending, False)])
    return history


@pytest.mark.ring
@settings(max_examples=ORDERS, deadline=None)
@given(st.lists(_action, max_size=25))
def test_both_rings_tell_the_same_story(actions: list[tuple[str, int]]) -> None:
    histories = []
    for make in (KernelStage, ScriptedStage):
        stage = make(buffers=32)
        try:
            histories.append(play(stage, actions))
        finally:
            stage.close()
    assert histories[0] == histories[1]
