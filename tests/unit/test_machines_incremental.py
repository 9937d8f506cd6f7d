"""Incremental receives, with scripted completions."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.machines import BUFFER, FakeRing
from uring import IncrementalHandler, IncrementalReceiver, PoolExhausted, abi, dispatch

MORE = BUFFER | int(abi.IORING_CQE_F_BUF_MORE)
SIZE = 8


class Group(SimpleNamespace):
    """Two incremental buffers, and those given back."""

    def __init__(self):
        super().__init__(group=3, size=SIZE, flags=int(abi.IOU_PBUF_RING_INC), given_back=[])
        self.views = [memoryview(bytearray(b"abcdefgh")), memoryview(bytearray(b"ABCDEFGH"))]
        self.put = self.given_back.append


class Record(IncrementalHandler):
    def __init__(self):
        self.events = []

    def on_data(self, data, has_more):
        self.events.append((bytes(data), has_more))

    def on_complete(self):
        self.events.append("complete")

    def on_error(self, error):
        self.events.append(error)


@pytest.fixture
def ring():
    return FakeRing(slots=2)


def receiving(ring):
    group, record = Group(), Record()
    receiver = IncrementalReceiver(ring, ring.pools, group)
    receiver.recv(5, record)
    return receiver, group, record, ring.queued[-1][1]


def test_a_buffer_piece_by_piece(ring):
    _, group, record, context = receiving(ring)
    assert dispatch(ring.complete(context, 3, MORE))
    assert dispatch(ring.complete(context, 2, MORE))
    assert group.given_back == []
    assert dispatch(ring.complete(context, 3, BUFFER))
    assert record.events == [(b"abc", True), (b"de", True), (b"fgh", False), "complete"]
    assert group.given_back == [0]
    assert ring.names() == ["recv"] * 3
    assert ring.pools.extended_available == 2


def test_the_end_of_the_stream_leaves_the_buffer_to_the_kernel(ring):
    _, group, record, context = receiving(ring)
    dispatch(ring.complete(context, 3, MORE))
    dispatch(ring.complete(context, 0))
    assert record.events == [(b"abc", True), "complete"]
    assert group.given_back == []
    receiver = IncrementalReceiver(ring, ring.pools, group)
    assert not receiver.handle_cqe(ring.complete(context, 0))


def test_another_receive_goes_on_where_the_buffer_stands(ring):
    receiver, group, record, context = receiving(ring)
    dispatch(ring.complete(context, 3, MORE))
    dispatch(ring.complete(context, 0))
    receiver.recv(6, record)
    dispatch(ring.complete(ring.queued[-1][1], 5, BUFFER))
    assert record.events[-2:] == [(b"defgh", False), "complete"]
    assert group.given_back == [0]


def test_an_error(ring):
    _, _, record, context = receiving(ring)
    dispatch(ring.complete(context, -errno.ECONNRESET))
    (error,) = record.events
    assert isinstance(error, ConnectionResetError)
    assert ring.pools.extended_available == 2


def test_a_full_queue_ends_it(ring):
    _, _, record, context = receiving(ring)
    ring.refuse = True
    dispatch(ring.complete(context, 3, MORE))
    data, error = record.events
    assert data == (b"abc", True)
    assert isinstance(error, PoolExhausted)
    assert ring.pools.extended_available == 2


def test_a_refused_receive_keeps_no_slot(ring):
    ring.refuse = True
    receiver = IncrementalReceiver(ring, ring.pools, Group())
    with pytest.raises(PoolExhausted):
        receiver.recv(5, Record())
    ring.refuse = False
    for _ in range(2):
        receiver.recv(5, Record())
    with pytest.raises(PoolExhausted):
        receiver.recv(5, Record())


@pytest.mark.parametrize("flags", [MORE, BUFFER])
def test_a_raising_handler_leaves_the_state_right(ring, flags):
    class Raises(Record):
        def on_data(self, data, has_more):
            super().on_data(data, has_more)
            raise RuntimeError("of the handler's own")

    group, handler = Group(), Raises()
    IncrementalReceiver(ring, ring.pools, group).recv(5, handler)
    context = ring.queued[-1][1]
    with pytest.raises(RuntimeError, match="of the handler's own"):
        dispatch(ring.complete(context, 3, flags))
    if flags == MORE:
        assert ring.names() == ["recv", "recv"]
        dispatch(ring.complete(context, 0))
    assert handler.events[-1] == "complete"
    assert group.given_back == ([] if flags == MORE else [0])
    assert ring.pools.extended_available == 2


def test_wrong_arguments(ring):
    for change in ({"flags": 0}, {"size": 0}):
        group = Group()
        vars(group).update(change)
        with pytest.raises(ValueError, match="incremental buffer ring"):
            IncrementalReceiver(ring, ring.pools, group)
    receiver = IncrementalReceiver(ring, ring.pools, Group())
    with pytest.raises(TypeError, match="IncrementalHandler"):
        receiver.recv(5, print)
    with pytest.raises(ValueError, match="descriptor"):
        receiver.recv(-1, Record())
    assert ring.queued == []
    assert ring.pools.extended_available == 2


@given(st.lists(st.integers(1, SIZE), max_size=30))
def test_any_pieces(sizes):
    """Whatever the pieces, each buffer's come in order and whole, and the buffer goes back once."""
    ring = FakeRing(slots=1)
    group, record = Group(), Record()
    receiver = IncrementalReceiver(ring, ring.pools, group)
    bid, at, given_back = 0, 0, []
    expected = []
    for size in sizes:
        if at == 0:
            receiver.recv(5, record)
        n = min(size, SIZE - at)
        last = at + n == SIZE
        expected.append((bytes(group.views[bid][at : at + n]), not last))
        dispatch(ring.complete(ring.queued[-1][1], n, bid << 16 | (BUFFER if last else MORE)))
        at += n
        if last:
            expected.append("complete")
            given_back.append(bid)
            bid, at = 1 - bid, 0
    assert record.events == expected
    assert group.given_back == given_back
