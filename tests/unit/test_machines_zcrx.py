"""Zero-copy receives, with scripted completions and a refill ring that no card reads."""

import errno
import pickle
import struct

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.machines import MORE, FakeRing
from uring import (
    IllegalEvent,
    NotSupported,
    PoolExhausted,
    ZCRXConfig,
    ZCRXHandler,
    ZCRXOffsets,
    ZCRXQueue,
    ZCRXReceiver,
    ZCRXState,
    dispatch,
    for_fd,
)

HEAD, TAIL, RQES = 0, 4, 64
TOKEN = 3 << 48
AREA = 4 * 4096


class Card:
    """A queue, and the kernel's side of its refill ring."""

    def __init__(self, entries=4, start=0):
        self.region = bytearray(RQES + 16 * entries)
        self.entries = entries
        struct.pack_into("=II", self.region, 0, start, start)
        self.area = bytearray(range(256)) * (AREA // 256)
        offsets = ZCRXOffsets(head=HEAD, tail=TAIL, rqes=RQES)
        self.queue = ZCRXQueue(7, self.area, self.region, entries, offsets, TOKEN)

    def taken(self):
        """The entries given back since the last call."""
        head, tail = struct.unpack_from("=II", self.region, 0)
        found = []
        while head != tail:
            place = RQES + head % self.entries * 16
            found.append(struct.unpack_from("=QI", self.region, place))
            head = head + 1 & 0xFFFF_FFFF
        struct.pack_into("=I", self.region, HEAD, head)
        return found


class Log(ZCRXHandler):
    def __init__(self, answer=True, keep=False):
        self.answer, self.keep = answer, keep
        self.data, self.errors, self.kept = [], [], []
        self.stopped = 0

    def on_data(self, buffer):
        self.data.append(bytes(buffer.bytes))
        if self.keep:
            self.kept.append(buffer)
        else:
            buffer.release()
        return self.answer

    def on_error(self, error):
        self.errors.append(error.errno)
        return self.answer

    def on_stopped(self):
        self.stopped += 1


@pytest.fixture
def ring():
    return FakeRing(slots=1)


@pytest.fixture
def card():
    return Card()


def started(ring, card, handler):
    receiver = ZCRXReceiver(ring, ring.pools, queue=card.queue)
    receiver.start(5, handler)
    return receiver, ring.queued[-1][1]


def test_a_life(ring, card):
    log = Log()
    receiver = ZCRXReceiver(ring, ring.pools, queue=card.queue)
    assert (receiver.state, receiver.active, receiver.stopped) == (ZCRXState.IDLE, False, False)
    receiver.start(5, log)
    ctx = ring.queued[-1][1]
    assert receiver.active
    assert ring.pools.find(ctx).fields[8] == 7  # the queue's number
    assert dispatch(ring.complete(ctx, 3, MORE, big=4096 + 5))
    assert log.data == [b"\5\6\7"]
    assert card.taken() == [(4096 + 5 | TOKEN, 3)]
    receiver.stop()
    receiver.stop()
    assert ring.names() == ["recv_zero_copy", "async_cancel"]
    assert (receiver.state, receiver.active) == (ZCRXState.STOPPING, False)
    assert dispatch(ring.complete(ctx, 2, MORE, big=TOKEN | 8))
    assert card.taken() == [(8 | TOKEN, 2)]
    with pytest.raises(BlockingIOError, match="STOPPING"):
        receiver.close()
    assert dispatch(ring.complete(ctx, -errno.ECANCELED))
    assert (receiver.stopped, log.stopped, log.errors) == (True, 1, [])
    assert ring.pools.extended_available == 1
    with pytest.raises(BlockingIOError, match="stop the ring first"):
        receiver.close()
    ring.closed = True
    receiver.close()
    receiver.close()
    assert receiver.queue is None
    with pytest.raises(IllegalEvent, match="starts once"):
        receiver.start(5, log)


def test_the_state_while_it_is_told(ring, card):
    states = []
    handler = ZCRXHandler.from_callbacks(on_stopped=lambda: (states.append(receiver.state), receiver.stop()))
    receiver, ctx = started(ring, card, handler)
    dispatch(ring.complete(ctx, -errno.ENOBUFS))
    assert states == [ZCRXState.RETIRING]
    assert receiver.stopped
    assert ring.names() == ["recv_zero_copy"]


def test_the_end_of_the_stream(ring, card):
    log = Log(keep=True)
    receiver, ctx = started(ring, card, log)
    assert dispatch(ring.complete(ctx, 0))
    assert log.data == [b""]
    assert len(log.kept[0]) == 0
    log.kept[0].release()
    assert card.taken() == []
    assert (receiver.stopped, log.stopped) == (True, 1)


def test_buffers_are_kept_until_released_in_any_order(ring, card):
    log = Log(keep=True)
    receiver, ctx = started(ring, card, log)
    for i in range(3):
        dispatch(ring.complete(ctx, 10 + i, MORE, big=i * 4096))
    first, second, third = log.kept
    assert card.taken() == []
    third.release()
    first.release()
    first.release()
    assert first.released
    assert not second.released
    assert card.taken() == [(2 * 4096 | TOKEN, 12), (TOKEN, 10)]
    with pytest.raises(ValueError, match="released"):
        _ = first.bytes
    dispatch(ring.complete(ctx, -errno.ECANCELED))
    second.release()  # also after the last completion
    assert card.taken() == [(4096 | TOKEN, 11)]
    assert receiver.stopped


def test_a_full_refill_ring_changes_nothing(ring):
    card = Card(entries=2, start=0xFFFF_FFFF)  # the counters wrap
    log = Log(keep=True)
    _, ctx = started(ring, card, log)
    for i in range(3):
        dispatch(ring.complete(ctx, 1, MORE, big=i))
    log.kept[0].release()
    log.kept[1].release()
    assert card.queue.room == 0
    with pytest.raises(BlockingIOError):
        log.kept[2].release()
    with pytest.raises(BlockingIOError):
        card.queue.refill(0, 1)
    assert bytes(log.kept[2].bytes) == b"\2"
    assert card.taken() == [(TOKEN, 1), (TOKEN | 1, 1)]
    log.kept[2].release()
    assert card.taken() == [(TOKEN | 2, 1)]


def test_a_buffer_that_is_held_is_not_released(ring, card):
    log = Log(keep=True)
    _, ctx = started(ring, card, log)
    dispatch(ring.complete(ctx, 4, MORE))
    holder = pickle.PickleBuffer(log.kept[0].bytes)
    with pytest.raises(BufferError):
        log.kept[0].release()
    assert (log.kept[0].released, card.taken()) == (False, [])
    holder.release()
    log.kept[0].release()
    assert card.taken() == [(TOKEN, 4)]


@pytest.mark.parametrize(("offset", "length"), [(AREA, 1), (AREA - 1, 2), (0, AREA + 1)])
def test_memory_outside_the_area_is_never_shown(ring, card, offset, length):
    log = Log(answer=False)
    receiver, ctx = started(ring, card, log)
    dispatch(ring.complete(ctx, length, MORE, big=offset))
    assert (log.data, log.errors) == ([], [errno.EFAULT])
    assert receiver.state is ZCRXState.STOPPING


def test_false_stops_and_is_tried_again(ring, card):
    log = Log(answer=False)
    receiver, ctx = started(ring, card, log)
    ring.refuse = True
    dispatch(ring.complete(ctx, 1, MORE))
    assert receiver.active
    ring.refuse, log.answer = False, True
    dispatch(ring.complete(ctx, 1, MORE))
    assert receiver.state is ZCRXState.STOPPING
    assert ring.names()[-1] == "async_cancel"


def test_only_false_stops(ring, card):
    """A handler without a `return` goes on."""
    log = Log(answer=None)
    receiver, ctx = started(ring, card, log)
    dispatch(ring.complete(ctx, 1, MORE))
    dispatch(ring.complete(ctx, -errno.EIO, MORE))
    assert (receiver.active, len(log.data), log.errors) == (True, 1, [errno.EIO])


def test_a_refused_stop_leaves_it_active(ring, card):
    receiver, _ = started(ring, card, Log())
    ring.refuse = True
    with pytest.raises(PoolExhausted):
        receiver.stop()
    assert receiver.active


def test_a_refused_start_may_be_repeated(ring, card):
    receiver = ZCRXReceiver(ring, ring.pools, queue=card.queue)
    ring.refuse = True
    with pytest.raises(PoolExhausted):
        receiver.start(5, Log())
    assert (receiver.state, ring.pools.extended_available) == (ZCRXState.IDLE, 1)
    ring.refuse = False
    held = ring.pools.extended()
    with pytest.raises(PoolExhausted):
        receiver.start(5, Log())
    ring.pools.put_extended(held)
    receiver.start(5, Log())
    with pytest.raises(IllegalEvent, match="starts once"):
        receiver.start(5, Log())
    assert receiver.active


@pytest.mark.parametrize("flags", [MORE, 0])
def test_a_raising_handler_leaves_the_state_right(ring, card, flags):
    told = []
    receiver, ctx = started(
        ring, card, ZCRXHandler.from_callbacks(lambda buffer: 1 / 0, None, lambda: told.append(1))
    )
    with pytest.raises(ZeroDivisionError):
        dispatch(ring.complete(ctx, 1, flags))
    assert receiver.stopped == (not flags)
    assert len(told) == (not flags)


def test_the_default_releases_and_stops_on_errors(ring, card):
    receiver, ctx = started(ring, card, ZCRXHandler())
    dispatch(ring.complete(ctx, 5, MORE))
    assert card.taken() == [(TOKEN, 5)]
    dispatch(ring.complete(ctx, -errno.EIO, MORE))
    assert receiver.state is ZCRXState.STOPPING
    dispatch(ring.complete(ctx, -errno.EIO))
    assert receiver.stopped


def test_callbacks(ring, card):
    errors = []
    handler = ZCRXHandler.from_callbacks(on_error=lambda error: errors.append(error.errno) or True)
    receiver, ctx = started(ring, card, handler)
    dispatch(ring.complete(ctx, 5, MORE))
    dispatch(ring.complete(ctx, -errno.EIO, MORE))
    assert (receiver.active, errors, card.taken()) == (True, [errno.EIO], [(TOKEN, 5)])
    dispatch(ring.complete(ctx, -errno.ECANCELED))  # nobody asked for it, so it is an error
    assert (receiver.stopped, errors) == (True, [errno.EIO, errno.ECANCELED])


def test_never_started(ring, card):
    receiver = ZCRXReceiver(ring, ring.pools, queue=card.queue)
    assert not receiver.handle_cqe(ring.complete(for_fd(5), 1))
    receiver.stop()
    assert receiver.stopped
    idle = ZCRXReceiver(ring, ring.pools, queue=card.queue)
    ring.closed = True
    idle.close()
    assert idle.stopped


def test_wrong_arguments(ring, card):
    with pytest.raises(TypeError, match="configuration or a queue"):
        ZCRXReceiver(ring, ring.pools)
    with pytest.raises(TypeError, match="ZCRXHandler"):
        ZCRXReceiver(ring, ring.pools, queue=card.queue).start(5, print)
    with pytest.raises(TypeError):
        ZCRXReceiver(ring, ring.pools, queue=card.queue).start("five", Log())
    ring.options.cqe32 = False
    with pytest.raises(NotSupported, match="cqe32=True"):
        ZCRXReceiver(ring, ring.pools, queue=card.queue)


@pytest.mark.parametrize(
    ("entries", "offsets"),
    [
        (4, (0, 4, 80)),
        (3, (0, 4, 64)),
        (0, (0, 4, 64)),
        (-4, (0, 4, 64)),
        (1 << 30, (0, 4, 64)),
        (4, (126, 4, 64)),
        (4, (128, 4, 64)),
        (4, (0, 1 << 31, 64)),
        (4, (-4, 4, 64)),
        (4, (0, 5, 64)),
    ],
)
def test_a_refill_ring_outside_its_region_is_refused(entries, offsets):
    with pytest.raises(ValueError):
        ZCRXQueue(1, bytearray(8), bytearray(128), entries, ZCRXOffsets(*offsets))
    with pytest.raises(TypeError, match="read-only"):
        ZCRXQueue(1, bytearray(8), bytes(128), 4, ZCRXOffsets(0, 4, 64))


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"if_name": ""}, ValueError),
        ({"if_name": 3}, TypeError),
        ({"rx_queue": -1}, ValueError),
        ({"rq_entries": 3}, ValueError),
        ({"rq_entries": 0}, ValueError),
        ({"chunk_size": 100}, ValueError),
        ({"chunk_size": 3 * 4096}, ValueError),
        ({"area_size": 0}, ValueError),
        ({"area_size": 4097}, ValueError),
        ({"area_size": 4096, "use_huge_pages": True}, ValueError),
    ],
)
def test_configurations_that_cannot_be(changes, error):
    with pytest.raises(error):
        ZCRXConfig(**{"if_name": "eth0", "rx_queue": 0, **changes})


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.sampled_from(["data", "error", "stop", "refused", "release", "take"]), max_size=25),
    st.sampled_from([0, -errno.ECANCELED, -errno.EIO]),
)
def test_any_life(events, end):
    """No memory is given back twice, or while it is the caller's; the end is told once."""
    ring, card = FakeRing(slots=1), Card(entries=2)
    log = Log(keep=True)
    receiver, ctx = started(ring, card, log)
    delivered, returned = 0, []
    for event in events:
        if event == "data":
            dispatch(ring.complete(ctx, 1 + delivered, MORE, big=delivered))
            delivered += 1
        elif event == "error":
            dispatch(ring.complete(ctx, -errno.EIO, MORE))
        elif event in ("stop", "refused"):
            ring.refuse = event == "refused"
            try:
                receiver.stop()
            except PoolExhausted:
                assert receiver.active
            ring.refuse = False
        elif event == "take":
            returned += card.taken()
        elif log.kept:
            try:
                log.kept[0].release()
                del log.kept[0]
            except BlockingIOError:
                assert card.queue.room == 0
        assert log.stopped == 0
    dispatch(ring.complete(ctx, end))
    assert (receiver.stopped, log.stopped) == (True, 1)
    while log.kept:
        returned += card.taken()
        log.kept.pop().release()
    returned += card.taken()
    assert sorted(returned) == [(i | TOKEN, 1 + i) for i in range(delivered)]
    assert ring.names().count("async_cancel") <= 1
    assert ring.pools.extended_available == 1


# ---- an area that is used up ---------------------------------------------------------------------------


def test_it_goes_on_when_memory_comes_back(ring, card):
    log = Log(keep=True)
    receiver, ctx = started(ring, card, log)
    dispatch(ring.complete(ctx, 10, MORE, big=0))
    dispatch(ring.complete(ctx, -errno.ENOMEM))
    assert (receiver.state, receiver.active, log.errors) == (ZCRXState.STARVED, True, [])
    assert ring.names() == ["recv_zero_copy"]
    with pytest.raises(BlockingIOError, match="STARVED"):
        receiver.close()
    log.kept[0].release()
    assert receiver.state is ZCRXState.ACTIVE
    assert ring.names() == ["recv_zero_copy"] * 2
    assert ring.queued[-1][1] == ctx
    dispatch(ring.complete(ctx, 0))
    assert (log.data[-1], receiver.stopped, log.stopped) == (b"", True, 1)


def test_memory_that_came_back_before_the_end(ring, card):
    """The kernel had used the area up when it ended, and the handler had released all of it since."""
    log = Log()
    receiver, ctx = started(ring, card, log)
    dispatch(ring.complete(ctx, 10, MORE, big=0))
    dispatch(ring.complete(ctx, -errno.ENOMEM))
    assert receiver.state is ZCRXState.ACTIVE
    assert ring.names() == ["recv_zero_copy"] * 2
    dispatch(ring.complete(ctx, -errno.ENOMEM))  # no progress, and nothing on loan: it is the kernel's memory
    assert (receiver.stopped, log.errors, log.stopped) == (True, [errno.ENOMEM], 1)


def test_a_full_completion_queue(ring, card):
    log = Log()
    receiver, ctx = started(ring, card, log)
    dispatch(ring.complete(ctx, -errno.ENOSPC))
    assert (receiver.state, log.errors, ring.names()) == (ZCRXState.ACTIVE, [], ["recv_zero_copy"] * 2)


def test_a_stop_while_it_waits_for_memory(ring, card):
    log = Log(keep=True)
    receiver, ctx = started(ring, card, log)
    dispatch(ring.complete(ctx, 10, MORE, big=0))
    dispatch(ring.complete(ctx, -errno.ENOMEM))
    receiver.stop()
    assert (receiver.stopped, log.stopped, ring.pools.extended_available) == (True, 1, 1)
    log.kept[0].release()
    assert ring.names() == ["recv_zero_copy"]


def test_an_area_used_up_while_it_stops(ring, card):
    log = Log(keep=True)
    receiver, ctx = started(ring, card, log)
    dispatch(ring.complete(ctx, 10, MORE, big=0))
    receiver.stop()
    dispatch(ring.complete(ctx, -errno.ENOMEM))
    assert (receiver.stopped, log.stopped, log.errors) == (True, 1, [])


def test_a_handler_that_wants_no_more_of_a_full_queue(ring, card):
    log = Log(answer=False)
    receiver, ctx = started(ring, card, log)
    ring.refuse = True
    dispatch(ring.complete(ctx, 10, MORE, big=0))
    assert receiver.active
    dispatch(ring.complete(ctx, -errno.ENOMEM))
    assert (receiver.stopped, log.stopped) == (True, 1)


def test_no_room_to_go_on(ring, card):
    log = Log(keep=True)
    receiver, ctx = started(ring, card, log)
    dispatch(ring.complete(ctx, 10, MORE, big=0))
    dispatch(ring.complete(ctx, -errno.ENOMEM))
    ring.refuse = True
    log.kept[0].release()
    assert (receiver.stopped, log.stopped, log.errors) == (True, 1, [errno.ENOBUFS])


def test_a_full_refill_ring_is_flushed(ring):
    card = Card(entries=2)
    flushes = []
    offsets = ZCRXOffsets(head=HEAD, tail=TAIL, rqes=RQES)
    card.queue = ZCRXQueue(
        7, card.area, card.region, 2, offsets, TOKEN, flush=lambda: flushes.append(card.taken())
    )
    card.queue.flush()
    assert flushes == []  # there is nothing to take
    for i in range(3):
        card.queue.refill(i, 1)
    assert flushes == [[(TOKEN, 1), (1 | TOKEN, 1)]]
    card.queue.flush()
    assert flushes[1] == [(2 | TOKEN, 1)]
    assert card.queue.room == 2


def test_a_queue_without_a_card_is_number_zero():
    assert ZCRXConfig(None).rx_queue == 0
    for bad in ({"rx_queue": 1}, {"chunk_size": 8192}):
        with pytest.raises(ValueError, match="without a card"):
            ZCRXConfig(None, **bad)
