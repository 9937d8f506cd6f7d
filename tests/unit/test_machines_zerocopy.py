"""Zero-copy sends, with scripted completions."""

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.machines import MORE, NOTIF, FakeRing
from uring import IllegalEvent, PoolExhausted, ZCHandler, ZCTracker, abi, dispatch, for_fd, ops


class Log(ZCHandler):
    def __init__(self):
        self.told = []

    def on_completed(self, result):
        self.told.append(("completed", result))

    def on_notification(self, result):
        self.told.append(("notified", result))


@pytest.fixture
def ring():
    return FakeRing()


@pytest.fixture
def tracker(ring):
    return ZCTracker(ring, ring.pools)


def send(ring, tracker, handler):
    tracker.send_zc(5, b"data", handler)
    return ring.queued[-1][1]


@pytest.mark.parametrize("res", [4, 0, -errno.EPIPE])
def test_two_completions(ring, tracker, res):
    log = Log()
    ctx = send(ring, tracker, log)
    assert dispatch(ring.complete(ctx, res, MORE))
    assert log.told == [("completed", res)]
    assert (tracker.pending, ring.pools.extended_available) == (1, 3)
    # Its result says whether the kernel had to copy, which is not the send's.
    assert dispatch(ring.complete(ctx, -(1 << 31), NOTIF))
    assert log.told == [("completed", res), ("notified", res)]
    assert (tracker.pending, ring.pools.extended_available) == (0, 4)
    assert not tracker.handle_cqe(ring.complete(ctx, 0, NOTIF | MORE))


def test_an_error_that_owes_nothing(ring, tracker):
    log = Log()
    ctx = send(ring, tracker, log)
    assert dispatch(ring.complete(ctx, -errno.EINVAL))
    assert log.told == [("completed", -errno.EINVAL), ("notified", -errno.EINVAL)]
    assert ring.pools.extended_available == 4


def test_the_wrong_order_is_refused(ring, tracker):
    log = Log()
    ctx = send(ring, tracker, log)
    with pytest.raises(IllegalEvent, match="no result yet"):
        tracker.handle_cqe(ring.complete(ctx, 0, NOTIF | MORE))
    tracker.handle_cqe(ring.complete(ctx, 4, MORE))
    with pytest.raises(IllegalEvent, match="has a result"):
        tracker.handle_cqe(ring.complete(ctx, 4, MORE))
    tracker.handle_cqe(ring.complete(ctx, 0, NOTIF))
    assert log.told == [("completed", 4), ("notified", 4)]


@pytest.mark.parametrize("flags", [0, MORE])
def test_a_raising_handler_is_still_notified(ring, tracker, flags):
    told = []
    ctx = send(ring, tracker, ZCHandler.from_callbacks(lambda result: 1 / 0, told.append))
    with pytest.raises(ZeroDivisionError):
        dispatch(ring.complete(ctx, -5, flags))
    if flags:
        dispatch(ring.complete(ctx, 0, NOTIF))
    assert told == [-5]
    assert ring.pools.extended_available == 4


def test_handlers_do_nothing_by_default(ring, tracker):
    for handler in (ZCHandler(), ZCHandler.from_callbacks()):
        ctx = send(ring, tracker, handler)
        assert dispatch(ring.complete(ctx, 4, MORE))
        assert dispatch(ring.complete(ctx, 0, NOTIF))
    told = []
    ctx = send(ring, tracker, ZCHandler.from_callbacks(told.append))
    dispatch(ring.complete(ctx, 4, MORE))
    assert told == [4]


def test_what_is_submitted(ring, tracker):
    ring.buffers[2] = bytearray(64)
    tracker.send_zc_fixed(5, 2, 16, 8, Log(), sqe_flags=int(abi.IOSQE_ASYNC), personality=3)
    entry = ring.pools.find(ring.queued[-1][1])
    assert entry.fields[5] == 8
    assert entry.fields[7] == 2
    assert entry.fields[1] & abi.IOSQE_ASYNC
    assert entry.fields[1] >> 24 == 3
    for offset, length in ((65, 0), (0, 65), (60, 5), (-1, 4)):
        with pytest.raises(ValueError):
            tracker.send_zc_fixed(5, 2, offset, length, Log())
    assert len(ring.queued) == 1


def test_what_is_refused_keeps_no_slot(ring, tracker):
    with pytest.raises(TypeError, match="ZCHandler"):
        tracker.send_zc(5, b"data", print)
    ring.refuse = True
    with pytest.raises(PoolExhausted):
        tracker.send_zc(5, b"data", Log())
    assert (tracker.pending, ring.pools.extended_available) == (0, 4)
    ring.refuse = False
    for _ in range(4):
        tracker.send_zc(5, b"data", Log())
    with pytest.raises(PoolExhausted):
        tracker.send_zc(5, b"data", Log())
    assert tracker.pending == 4
    assert not tracker.handle_cqe(ring.complete(for_fd(5), 0))


def test_slots_of_the_callers_own_pass_by(ring, tracker):
    ext = ring.pools.extended()
    ring.submit(ops.nop(), ext.context)
    ext.ctx().fn = print
    assert not dispatch(ring.complete(ext.context, 0))
    ring.pools.put_extended(ext)
    assert not dispatch(ring.complete(for_fd(1), 0))


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(-5, 5)), max_size=30))
def test_any_interleaving(events):
    """Each handler gets its result once, then its notification once, whatever the other sends do."""
    ring = FakeRing()
    tracker = ZCTracker(ring, ring.pools)
    flying: dict[int, tuple[int, Log, int | None]] = {}
    ended = []
    for place, more, res in events:
        if place not in flying:
            log = Log()
            flying[place] = (send(ring, tracker, log), log, None)
            continue
        ctx, log, result = flying[place]
        if result is None:
            dispatch(ring.complete(ctx, res, MORE if more else 0))
            if more:
                flying[place] = (ctx, log, res)
                assert log.told == [("completed", res)]
                continue
            result = res
        else:
            dispatch(ring.complete(ctx, 0, NOTIF))
        del flying[place]
        ended.append((log, result))
        assert tracker.pending == len(flying)
        assert ring.pools.extended_available == 4 - len(flying)
    for log, result in ended:
        assert log.told == [("completed", result), ("notified", result)]
