"""Chains, batches and waiting, against the running kernel."""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket

import pytest

from tests.ringside import take
from uring import PoolExhausted, Ring, abi, for_fd, ops

LINK = int(abi.IOSQE_IO_LINK)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        return near, listener.accept()[0]


# ---- chains -----------------------------------------------------------------------------------------------


def test_a_chain_is_never_split(ring, pipe):
    """The queue has room for less than the chain: it is flushed before, not inside."""
    for i in range(6):
        ring.nop(100 + i)
    ring.read(1, pipe[0], bytearray(1), sqe_flags=LINK)
    ring.link_timeout(2, 0.02, sqe_flags=LINK)
    ring.nop(3, sqe_flags=LINK)
    ring.nop(4)
    found = {c.user_data: c.res for c in take(ring, 10)}
    assert found[1] == -errno.ECANCELED
    assert found[2] == -errno.ETIME
    assert found[3] == found[4] == -errno.ECANCELED, "part of the chain, so cancelled with its head"


def test_chains_at_once(ring):
    for i in range(5):
        ring.nop(100 + i)
    contexts = ring.submit_linked([(ops.nop(result=-5 if i == 2 else 0), i) for i in range(8)])
    assert contexts == list(range(8))
    found = {c.user_data: c.res for c in take(ring, 13)}
    assert [found[i] for i in range(8)] == [0, 0, -5] + [-errno.ECANCELED] * 5
    ring.submit_linked([(ops.nop(result=-5), 1), (ops.nop(), 2)], hard=True)
    assert {c.user_data: c.res for c in take(ring, 2)} == {1: -5, 2: 0}
    for not_pairs in ([ops.nop(), ops.nop()], [(ops.nop(),)]):
        with pytest.raises(TypeError, match="pairs of a request and its context"):
            ring.submit_linked(not_pairs)
    for bad in ([], [(ops.nop(), i) for i in range(9)]):
        with pytest.raises(ValueError, match="1 to 8"):
            ring.submit_linked(bad)
    ext = ring.ext_sqe()
    with pytest.raises(ValueError, match="once"):
        ring.submit_linked([(ops.nop(), ext.context)] * 2)
    ring.put_ext_sqe(ext)
    assert ring.in_flight == 0


def test_a_chain_longer_than_the_queue_is_refused(ring):
    with pytest.raises(PoolExhausted, match="chain"):
        for i in range(9):
            ring.nop(i, sqe_flags=LINK)
    assert len(take(ring, 8)) == 8


# ---- waiting ----------------------------------------------------------------------------------------------


def test_more_than_the_queue_holds(ring):
    for i in range(8):
        assert (ring.sq_available, ring.cq_pending) == (8 - i, 0)
        ring.nop(i)
    ring.flush()
    assert (ring.sq_available, ring.cq_pending) == (8, 8)
    for i in range(8, 1000):
        ring.nop(i)
    assert sorted(c.user_data for c in take(ring, 1000)) == list(range(1000))
    assert ring.in_flight == 0


def test_submit_many(ring):
    ext = ring.ext_sqe()
    assert ring.submit_many((ops.nop(), ctx) for ctx in [*range(20), ext.context]) == 21
    assert {c.user_data for c in take(ring, 21)} == {*range(20), ext.context}
    ring.put_ext_sqe(ext)
    with pytest.raises(ValueError, match="64 bits"):
        ring.submit_many([(ops.nop(), 7), (ops.nop(), -1)])
    assert take(ring, 1)[0].user_data == 7
    for item in (ops.nop(), (ops.nop(),), (ops.nop(), 1, 2), 1):
        with pytest.raises(TypeError, match="submit_all requests"):
            ring.submit_many([item])


@pytest.mark.parametrize("options", [{}, {"multi_issuers": True}])
def test_batches(options, pipe):
    with Ring(entries=8, **options) as ring:
        data = [bytearray(1) for _ in range(100)]
        batch = ring.batch([*((ops.read(pipe[0], each), i) for i, each in enumerate(data)), (ops.nop(), 50)])
        assert len(batch) == 101
        for _ in range(3):
            assert ring.submit_batch(batch) == 101
            os.write(pipe[1], bytes(range(100)))
            found = take(ring, 101)
            assert sum(c.res for c in found) == 100
            assert sorted(c.user_data for c in found) == sorted([*range(100), 50])
            assert {each[0] for each in data} == set(range(100))
        # The ring keeps the memory while it is in flight, even if another request uses the same value.
        ring.submit_batch(batch)
        ring.read(3, pipe[0], data[3])
        del batch
        gc.collect()
        with pytest.raises(BufferError):
            data[0].append(1)
        os.write(pipe[1], bytes(101))
        take(ring, 102)
        for each in data:
            each.append(1)


def test_requests_of_a_batch_have_their_numbers_as_contexts(ring):
    batch = ring.batch([ops.nop(), ops.nop(result=5), (ops.nop(result=6), 40), ops.nop(result=7)])
    ring.submit_batch(batch)
    assert sorted((c.user_data, c.res) for c in take(ring, 4)) == [(0, 0), (1, 5), (3, 7), (40, 6)]


def test_bad_batches(ring):
    for requests, error in (
        ([(ops.nop(), 1 << 62)], "direct"),
        ([(ops.nop(), -1)], "direct"),
        ([(ops.nop().with_flags(LINK), 1)], "silent or draining"),
        ([(ops.async_cancel(1), 1)], "by itself"),
    ):
        with pytest.raises(ValueError, match=error):
            ring.batch(requests)
    for item in (1, (1,), (ops.nop(),), (ops.nop(), 1, 2), (1, ops.nop()), None):
        with pytest.raises(TypeError, match="a pair of one and its context"):
            ring.batch([ops.nop(), item])
    assert ring.sq_available == 8


@pytest.mark.parametrize("options", [{}, {"multi_issuers": True}, {"cqe32": True}, {"cqe_mixed": True}])
def test_a_batch_as_one_has_one_completion_and_a_list_of_results(options, pipe):
    with Ring(entries=8, **options) as ring:
        data = [bytearray(3) for _ in range(6)]
        reads = [(ops.read(pipe[0], each), 9) for each in data]
        batch = ring.batch([*reads, (ops.nop(result=-errno.EIO), 9), (ops.nop(), 9)])
        for turn in range(3):
            slot = ring.ext_sqe()
            ctx = (5, slot.context, 1 << 40)[turn]
            assert ring.submit_as_one(batch, ctx) == ctx
            assert ring.in_flight == 8
            with pytest.raises(RuntimeError, match="in flight as one"):
                ring.submit_as_one(batch, 6)
            ring.nop(7)
            assert [c.user_data for c in take(ring, 1)] == [7]
            assert slot.in_flight is (turn == 1)
            os.write(pipe[1], bytes(18))
            (cqe,) = take(ring, 1)
            assert (cqe.user_data, cqe.res, cqe.has_more) == (ctx, 0, False)
            assert ring.result(cqe) == [3] * 6 + [-errno.EIO, 0]
            assert (ring.in_flight, ring.cq_pending, ring.late) == (0, 0, 0)
            ring.put_ext_sqe(slot)


def test_a_batch_as_one_keeps_its_memory_until_its_last_request_is_through(ring, pipe):
    data = [bytearray(1) for _ in range(3)]
    ring.submit_as_one(ring.batch([(ops.read(pipe[0], each), 1) for each in data]), 1)
    ring.nop(2)
    assert [c.user_data for c in take(ring, 1)] == [2]
    gc.collect()
    for written in range(3):
        for each in data:
            with pytest.raises(BufferError):
                each.append(1)
        os.write(pipe[1], b"x")
        assert len(ring.wait(timeout=0.01 if written < 2 else None)) == (written == 2)
    ring.nop(2)
    take(ring, 1)
    gc.collect()
    for each in data:
        each.append(1)


def test_a_batch_as_one_is_cancelled_by_stopping(pipe):
    with Ring(entries=8) as ring:
        ring.submit_as_one(ring.batch([(ops.read(pipe[0], bytearray(1)), i) for i in range(8)]), 1)
        ring.wait()
        assert ring.in_flight == 8
    assert ring.closed


def test_a_batch_as_one_may_send_without_copies(ring):
    near, far = tcp_pair()
    with near, far:
        batch = ring.batch(
            [(ops.send_zc(near.fileno(), b"abc"), 1), (ops.send_zc(near.fileno(), b"defg"), 2)]
        )
        ring.submit_as_one(batch, 3)
        (cqe,) = take(ring, 1)
        assert ring.result(cqe) == [3, 4]
        assert ring.in_flight == 0
        assert far.recv(10) in (b"abcdefg", b"abc")


def test_what_cannot_be_a_batch_as_one(ring, pipe):
    nops = ring.batch([(ops.nop(), i) for i in range(9)])
    for batch, ctx, error in (
        (nops, 1, "8 entries, the batch 9"),
        (ring.batch([]), 1, "not 0"),
        (ring.batch([(ops.poll_add_multishot(pipe[0], 1), 1)]), 1, "many completions"),
        (ring.batch([(ops.nop(), 1)]), 3 << 62, "reserved"),
        (ring.batch([(ops.nop(), 1)]), -1, "range"),
        (ring.batch([(ops.nop(), 1)]), for_fd(1 << 28), r"2\*\*28"),
    ):
        with pytest.raises(ValueError, match=error):
            ring.submit_as_one(batch, ctx)
    with pytest.raises(LookupError):
        ring.submit_as_one(ring.batch([(ops.nop(), 1)]), 1 << 62)
    with pytest.raises(TypeError):
        ring.submit_as_one([(ops.nop(), 1)], 1)
    ring.submit(ops.nop().with_flags(LINK), 1)
    with pytest.raises(ValueError, match="linked to its successor"):
        ring.submit_as_one(ring.batch([(ops.nop(), 1)]), 1)
    assert ring.sq_available == 7
    take(ring, 1)


def test_values_like_those_of_members_are_refused_beside_a_batch_as_one(ring, pipe):
    batch = ring.batch([(ops.read(pipe[0], bytearray(1)), 1)])
    likeness = for_fd(1 << 28)
    ring.poll_add(likeness, pipe[0], 1)
    with pytest.raises(ValueError, match=r"2\*\*28"):
        ring.submit_as_one(batch, 2)
    assert ring.in_flight == 1
    os.write(pipe[1], b"x")
    take(ring, 1)
    os.read(pipe[0], 1)
    ring.submit_as_one(batch, 2)
    with pytest.raises(ValueError, match=r"2\*\*28"):
        ring.nop(likeness)
    os.write(pipe[1], b"x")
    (cqe,) = take(ring, 1)
    assert ring.result(cqe) == [1]
    ring.nop(likeness)
    assert [c.user_data & ~0xFF for c in take(ring, 1)] == [likeness]


def test_wait_takes_as_many_as_asked_for(ring):
    for i in range(7):
        ring.nop(i)
    assert [c.user_data for c in ring.wait(3)] == [0, 1, 2]
    assert ring.cq_pending == 4
    assert [c.user_data for c in ring.wait_direct(3)] == [3, 4, 5]
    ring.nop(7)
    assert [c.user_data for c in ring.wait(timeout=None)] == [6, 7]
    assert ring.wait() == []
    for bad in (0, -1, "1", 1.5, True):
        with pytest.raises(ValueError, match="max_cqes"):
            ring.wait(bad)
    for value, error in ((-1, ValueError), (float("nan"), ValueError), ("1", TypeError), (True, TypeError)):
        with pytest.raises(error, match="timeout"):
            ring.wait(timeout=value)


def test_a_signal_is_handled_while_waiting(ring):
    seen = []
    before = signal.signal(signal.SIGALRM, lambda *args: seen.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        ring.timeout(1, 0.1)
        (cqe,) = ring.wait(timeout=30.0)
        assert cqe.res == -errno.ETIME
        assert seen == [1]
    finally:
        signal.signal(signal.SIGALRM, before)


def test_overflow_loses_nothing():
    with Ring(entries=8, cq_entries=8) as ring:
        for i in range(100):
            ring.nop(i)
        assert ring.in_flight == 100
        found = take(ring, 100)
        assert [c.user_data for c in found] == list(range(100))
        assert ring.overflows > 0
        ring.nop(1)
        assert take(ring, 1)
