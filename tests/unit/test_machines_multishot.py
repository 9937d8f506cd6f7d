"""Subscriptions, with scripted completions."""

import errno
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.machines import BUFFER, MORE, FakeRing
from uring import (
    MultishotAction,
    MultishotHandler,
    PoolExhausted,
    SubscriptionState,
    dispatch,
    for_fd,
    ops,
    pack_extended,
)

CONTINUE, STOP = MultishotAction


class Log(MultishotHandler):
    def __init__(self, answer=CONTINUE):
        self.steps = []
        self.stops = []
        self.answer = answer

    def on_multishot_step(self, step):
        self.steps.append((step.cqe.res, step.final, step.cancelled))
        assert step.has_more is not step.final
        assert step.cqe.fd == 5  # the entry is there until the step returns
        return self.answer

    def on_multishot_stop(self, error, cancelled):
        self.stops.append((error and error.errno, cancelled))


@pytest.fixture
def ring():
    return FakeRing()


def subscribe(ring, handler):
    return ring.recv_multishot(for_fd(5).with_buf_group(3), handler)


def test_a_life(ring):
    log = Log()
    sub = subscribe(ring, log)
    assert (sub.state, sub.active) == (SubscriptionState.ACTIVE, True)
    assert dispatch(ring.complete(sub.context, 7, MORE))
    assert dispatch(ring.complete(sub.context, 0))
    assert log.steps == [(7, False, False), (0, True, False)]
    assert log.stops == [(None, False)]
    assert (sub.state, sub.active) == (SubscriptionState.STOPPED, False)
    assert ring.pools.extended_available == 4
    sub.cancel()
    assert ring.names() == ["recv_multishot"]


def test_cancel_is_queued_once(ring):
    log = Log()
    sub = subscribe(ring, log)
    sub.cancel()
    sub.cancel()
    assert ring.queued == [("recv_multishot", sub.context), ("async_cancel", sub.context)]
    assert (sub.state, sub.active) == (SubscriptionState.CANCELLING, True)
    dispatch(ring.complete(sub.context, 3, MORE))
    dispatch(ring.complete(sub.context, -errno.ECANCELED))
    assert log.steps[-1] == (-errno.ECANCELED, True, True)
    assert log.stops == [(errno.ECANCELED, True)]


def test_a_refused_cancel_leaves_it_active(ring):
    sub = subscribe(ring, Log())
    ring.refuse = True
    with pytest.raises(PoolExhausted):
        sub.cancel()
    assert sub.state is SubscriptionState.ACTIVE
    ring.refuse = False
    sub.cancel()
    assert sub.state is SubscriptionState.CANCELLING


def test_a_stop_that_finds_no_room_is_tried_again(ring):
    log = Log(STOP)
    sub = subscribe(ring, log)
    ring.refuse = True
    dispatch(ring.complete(sub.context, 1, MORE))
    assert sub.state is SubscriptionState.ACTIVE
    ring.refuse, log.answer = False, CONTINUE
    dispatch(ring.complete(sub.context, 1, MORE))
    assert sub.state is SubscriptionState.CANCELLING


def test_a_stop_after_the_last_step_means_nothing(ring):
    sub = subscribe(ring, Log(STOP))
    dispatch(ring.complete(sub.context, -errno.ENOBUFS))
    assert ring.names() == ["recv_multishot"]


def test_the_default_stops_on_errors(ring):
    sub = subscribe(ring, MultishotHandler())
    dispatch(ring.complete(sub.context, 1, MORE))
    assert sub.state is SubscriptionState.ACTIVE
    dispatch(ring.complete(sub.context, -errno.EIO, MORE))
    assert sub.state is SubscriptionState.CANCELLING
    dispatch(ring.complete(sub.context, -errno.ECANCELED))
    assert sub.state is SubscriptionState.STOPPED


def test_callbacks_default_to_the_class(ring):
    stops = []
    sub = subscribe(ring, MultishotHandler.from_callbacks(on_stop=lambda *what: stops.append(what)))
    dispatch(ring.complete(sub.context, -errno.EIO, MORE))
    assert sub.state is SubscriptionState.CANCELLING
    dispatch(ring.complete(sub.context, 0))
    assert stops == [(None, False)]
    steps = []
    sub = subscribe(ring, MultishotHandler.from_callbacks(on_step=lambda step: steps.append(step) or STOP))
    dispatch(ring.complete(sub.context, 1, MORE))
    dispatch(ring.complete(sub.context, 0))
    assert [step.cqe.res for step in steps] == [1, 0]


def test_a_stop_can_subscribe_anew():
    ring = FakeRing(slots=1)
    subs = []
    handler = MultishotHandler.from_callbacks(on_stop=lambda *_: subs.append(subscribe(ring, Log())))
    first = subscribe(ring, handler)
    dispatch(ring.complete(first.context, 0))
    assert subs[0].context != first.context
    assert not first.handle_cqe(ring.complete(subs[0].context, 1, MORE))


def test_unsubscribed_buffers_go_back(ring):
    log = Log()
    sub = subscribe(ring, log)
    sub.unsubscribe()
    assert sub.state is SubscriptionState.CANCELLING
    dispatch(ring.complete(sub.context, 4, MORE | BUFFER | 9 << 16))
    dispatch(ring.complete(sub.context, -errno.ECANCELED))
    assert (log.steps, log.stops) == ([], [])
    assert ring.given_back == [(3, 9)]
    assert ring.pools.extended_available == 4


def test_unsubscribed_connections_are_closed(ring):
    sub = ring.accept_multishot(for_fd(5), MultishotHandler())
    ring.refuse = True
    sub.unsubscribe()
    assert sub.state is SubscriptionState.ACTIVE
    fd = os.open("/dev/null", os.O_RDONLY)
    ring.refuse = False
    dispatch(ring.complete(sub.context, fd, MORE))
    with pytest.raises(OSError):
        os.fstat(fd)
    assert sub.state is SubscriptionState.CANCELLING
    dispatch(ring.complete(sub.context, -errno.ECANCELED))


@pytest.mark.parametrize("flags", [MORE, 0])
def test_a_raising_step_leaves_the_state_right(ring, flags):
    stops = []
    sub = subscribe(
        ring, MultishotHandler.from_callbacks(lambda step: 1 / 0, lambda *what: stops.append(what))
    )
    with pytest.raises(ZeroDivisionError):
        dispatch(ring.complete(sub.context, 1, flags))
    assert sub.active == bool(flags)
    assert len(stops) == (not flags)
    assert ring.pools.extended_available == (3 if flags else 4)


def test_a_refused_submission_keeps_no_slot(ring):
    ring.refuse = True
    with pytest.raises(PoolExhausted):
        subscribe(ring, Log())
    assert ring.pools.extended_available == 4


def test_wrong_arguments(ring):
    with pytest.raises(ValueError, match="direct context"):
        ring.accept_multishot(pack_extended(ring.pools.extended()), Log())
    with pytest.raises(TypeError, match="MultishotHandler"):
        ring.accept_multishot(for_fd(5), lambda step: None)
    with pytest.raises(TypeError, match=r"multishot of uring\.ops.*Op recv "):
        ring.subscribe(ops.recv(5, bytearray(1)), Log())
    assert not dispatch(ring.complete(for_fd(5), 1))


@given(
    st.lists(
        st.sampled_from(["cancel", "refused", "more", "error", "unsubscribe", "stop", "full", "room"]),
        max_size=12,
    ),
    st.sampled_from([0, -errno.ECANCELED, -errno.EIO]),
)
def test_any_life(events, end):
    ring, log = FakeRing(slots=1), Log()
    sub = subscribe(ring, log)
    told = True
    steps = 0
    for event in events:
        if event == "cancel" or event == "refused":
            before = ring.refuse, sub.state
            ring.refuse = event == "refused"
            try:
                sub.cancel()
                assert sub.state is SubscriptionState.CANCELLING
            except PoolExhausted:
                assert sub.state is before[1] is SubscriptionState.ACTIVE
            ring.refuse = before[0]
        elif event in ("full", "room"):
            ring.refuse = event == "full"
        elif event == "unsubscribe":
            told = False
            sub.unsubscribe()
        else:
            log.answer = STOP if event == "stop" else CONTINUE
            assert dispatch(ring.complete(sub.context, -errno.EIO if event == "error" else 1, MORE))
            steps += told
        assert sub.active
        assert ring.names().count("async_cancel") == (sub.state is SubscriptionState.CANCELLING)
        assert len(log.steps) == steps
        assert log.stops == []
    assert dispatch(ring.complete(sub.context, end))
    assert sub.state is SubscriptionState.STOPPED
    assert len(log.steps) == steps + told
    assert len(log.stops) == told
    assert ring.pools.extended_available == 1
