"""The ring's life, submission and completion, against the running kernel."""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket
import stat
import sys
import threading
import time
import warnings

import pytest

import uring
from tests.ringside import take
from uring import (
    NotSupported,
    Options,
    PoolExhausted,
    Ring,
    RingClosed,
    abi,
    for_fd,
    ops,
    pack_direct,
    pack_extended,
    pack_indirect,
    send_msg_ring,
)
from uring.kernel.ring import CQE

LINK = int(abi.IOSQE_IO_LINK)
SKIP = int(abi.IOSQE_CQE_SKIP_SUCCESS)


@pytest.fixture
def ring():
    with Ring(entries=8) as ring:
        yield ring


@pytest.fixture
def pipe():
    ends = os.pipe()
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            pass


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        return near, listener.accept()[0]


# ---- contexts through the kernel ---------------------------------------------------------------------


def test_a_context_comes_back_as_given(ring):
    for ctx in (0, 12345, (1 << 62) - 1, pack_direct(0, 0, 7, -3)):
        assert ring.nop(ctx) == ctx
        (cqe,) = ring.wait(timeout=None)
        assert cqe.user_data == ctx
        assert cqe.res == 0


def test_a_direct_context_gets_the_opcode(ring, pipe):
    os.write(pipe[1], b"x")
    ctx = ring.read(for_fd(pipe[0]), pipe[0], bytearray(1))
    (cqe,) = ring.wait(timeout=5.0)
    assert cqe.context == ctx == for_fd(pipe[0]).with_op(abi.IORING_OP_READ)
    assert (cqe.op, cqe.fd) == (abi.IORING_OP_READ, pipe[0])


def test_without_a_context_the_request_names_itself(ring, pipe):
    os.write(pipe[1], b"x")
    ring.read(None, pipe[0], bytearray(1))
    (cqe,) = ring.wait_direct(timeout=5.0)
    assert (cqe.op, cqe.fd, cqe.res) == (abi.IORING_OP_READ, pipe[0], 1)


def test_indirect_and_extended(ring, pipe):
    os.write(pipe[1], b"abcdef")
    indirect, ext = ring.indirect_sqe(), ring.ext_sqe()
    ext.ctx(1, 1).ref1 = "kept"
    ext.ctx(1, 1).val1 = -9
    buffers = [bytearray(3), bytearray(3)]
    ring.submit_linked(
        [
            (ops.read(pipe[0], buffers[0]), pack_indirect(indirect)),
            (ops.read(pipe[0], buffers[1]), pack_extended(ext)),
        ]
    )
    assert indirect.in_flight
    assert ext.in_flight
    with pytest.raises(RuntimeError, match="in flight"):
        ring.put_ext_sqe(ext)
    with pytest.raises(RuntimeError, match="in flight under this slot"):
        ring.nop(ext.context)
    first, second = take(ring, 2)
    assert first.full_sqe
    assert not first.extended
    assert first.sqe.opcode == abi.IORING_OP_READ
    assert first.sqe.fd == pipe[0]
    assert second.extended
    assert second.ext_sqe is ext
    assert second.ext_sqe.ctx(1, 1).ref1 == "kept"
    assert second.ext_sqe.ctx(1, 1).val1 == -9
    assert bytes(buffers[0] + buffers[1]) == b"abcdef"
    assert not ext.in_flight
    ring.put_ext_sqe(ext)
    ring.put_indirect_sqe(indirect)
    with pytest.raises(LookupError):
        _ = second.ext_sqe
    with pytest.raises(LookupError, match="not borrowed"):
        ring.nop(ext.context)


def test_prepared_requests_of_a_slot(ring, pipe):
    os.write(pipe[1], b"xy")
    data = bytearray(2)

    def start(ext):
        return ring.submit_extended(ext.prepare(ops.read(pipe[0], data)))

    ctx = ring.with_ext_sqe(start)
    (cqe,) = ring.wait_extended(timeout=5.0)
    assert cqe.ext.context == ctx
    assert data == b"xy"
    assert (cqe.op, cqe.fd) == (abi.IORING_OP_READ, pipe[0])
    ring.put_ext_sqe(cqe.ext)
    with ring.new_scoped_ext_sqe() as scope, pytest.raises(ValueError, match="prepared request"):
        ring.submit_extended(scope.ext.context)
    with ring.new_scoped_ext_sqe() as scope:
        scope.ext.prepare(ops.read(pipe[0], data))
        scope.ext.context.with_op(abi.IORING_OP_STATX)
        with pytest.raises(ValueError, match="prepare it again"):
            ring.submit_extended(scope.ext.context)
    with pytest.raises(ZeroDivisionError):
        ring.with_ext_sqe(lambda ext: 1 / 0)
    assert ring.pools.extended_available == ring.pools.capacity


def test_slots_run_out():
    with Ring(entries=8, context_capacity=1) as ring:
        ext = ring.ext_sqe()
        with pytest.raises(PoolExhausted):
            ring.ext_sqe()
        with pytest.raises(RuntimeError):
            ring.must_ext_sqe()
        ring.put_ext_sqe(ext)


def test_late_and_forged_completions_are_counted(ring):
    ext = ring.ext_sqe()
    dead = ext.context
    ring.put_ext_sqe(ext)
    sender = Ring(entries=8)
    with sender:
        # Past the marking of messages: what a foreign library could send.
        op = ops.msg_ring(ring.fileno(), 0)
        op.fields = (*op.fields[:3], int(dead), *op.fields[4:])
        sender._kernel.put(1, *op.fields)
        assert sender.wait(timeout=5.0)[0].res == 0
    assert ring.wait(timeout=0.5) == []
    assert ring.late == 1
    assert ring.in_flight == 0


def test_messages_have_62_bits(ring):
    with Ring(entries=4) as other:
        for value in (1 << 62, 2 << 62):
            with pytest.raises(ValueError, match="62 bits"):
                ring.msg_ring(None, other, value)
        ring.msg_ring(None, other, (1 << 62) - 1)
        take(ring, 1)
        assert take(other, 1)[0].context.message == (1 << 62) - 1


def test_messages_arrive_in_reserved_mode(ring):
    with Ring(entries=8) as other:
        other.msg_ring(None, ring, 42, 7)
        assert other.wait(timeout=5.0)[0].res == 0
    send_msg_ring(ring, 43, -5)
    found = take(ring, 2)
    assert sorted((c.context.message, c.res) for c in found) == [(42, 7), (43, -5)]
    assert ring.in_flight == 0


# ---- memory ------------------------------------------------------------------------------------------


def test_memory_is_pinned_until_the_last_completion(ring, pipe):
    data = bytearray(4)
    ctx = pack_direct(abi.IORING_OP_READ, 0, 0, pipe[0])
    ring.read(ctx, pipe[0], data)
    other = bytearray(4)
    ring.read(ctx, pipe[0], other)
    for pinned in (data, other):
        with pytest.raises(BufferError):
            pinned.extend(b"x")
    os.write(pipe[1], b"abcd")
    assert ring.wait(timeout=5.0)[0].res == 4
    # Two requests share the value: which of them is done nobody can know.
    for pinned in (data, other):
        with pytest.raises(BufferError):
            pinned.extend(b"x")
    os.write(pipe[1], b"efgh")
    assert ring.wait(timeout=5.0)[0].res == 4
    data.extend(b"x")
    other.extend(b"x")
    assert {bytes(data), bytes(other)} == {b"abcdx", b"efghx"}


def test_memory_lives_without_another_reference(ring, pipe):
    ring.read(5, pipe[0], memoryview(bytearray(1 << 16)))
    ring.flush()
    gc.collect()
    os.write(pipe[1], bytes(1 << 16))
    assert ring.wait(timeout=5.0)[0].res == 1 << 16


def test_a_refused_request_pins_nothing():
    data = bytearray(4)
    ring = Ring(entries=8)
    with pytest.raises(RuntimeError, match="not started"):
        ring.read(1, 0, data)
    data.extend(b"x")
    ring.stop()
    with pytest.raises(RingClosed):
        ring.read(1, 0, data)
    data.extend(b"x")


@pytest.mark.parametrize("buffer", [b"read-only", "text", 5, memoryview(bytearray(9))[::2]])
def test_bad_buffers(ring, buffer):
    with pytest.raises(TypeError):
        ring.read(1, 0, buffer)
    assert ring.in_flight == 0
    assert ring.sq_available == 8


# ---- results -----------------------------------------------------------------------------------------


def test_decoded_results(ring, tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"x" * 10)
    ring.statx(1, path)
    (cqe,) = ring.wait(timeout=5.0)
    assert ring.result(cqe).st_size == 10
    ext = ring.ext_sqe()
    ring.pipe(ext.context)
    (piped,) = ring.wait(timeout=5.0)
    for fd in ring.result(piped):
        os.close(fd)
    ring.put_ext_sqe(ext)
    ring.nop(3)
    (cqe,) = ring.wait(timeout=5.0)
    assert ring.result(cqe) == 0
    assert ring.result(piped) == 0, "too late: only the bare number is left"
    ring.statx(1, tmp_path / "missing")
    (cqe,) = ring.wait(timeout=5.0)
    with pytest.raises(FileNotFoundError):
        ring.result(cqe)


# ---- identity and support ----------------------------------------------------------------------------


def test_ambiguous_targets_are_refused(ring, pipe):
    ctx = pack_direct(abi.IORING_OP_READ, 0, 0, pipe[0])
    buffers = [bytearray(1), bytearray(1)]
    for data in buffers:
        ring.read(ctx, pipe[0], data)
    with pytest.raises(ValueError, match="2 operations in flight share"):
        ring.async_cancel(9, ctx)
    assert ring.in_flight == 2
    ring.async_cancel(9, ctx, all=True)
    results = {}
    for cqe in take(ring, 3):
        results.setdefault(cqe.user_data, []).append(cqe.res)
    assert results == {9: [2], ctx: [-errno.ECANCELED] * 2}


def test_link_timeout_needs_a_value_of_its_own(ring, pipe):
    ctx = pack_direct(abi.IORING_OP_READ, 0, 0, pipe[0])
    ring.read(ctx, pipe[0], bytearray(1))
    with pytest.raises(ValueError, match="share"):
        ring.submit_linked([(ops.read(pipe[0], bytearray(1)), ctx), (ops.link_timeout(0.01), 2)])
    ring.read(ctx, pipe[0], bytearray(1), sqe_flags=LINK)
    with pytest.raises(ValueError, match="share"):
        ring.link_timeout(2, 0.01)
    with pytest.raises(ValueError, match="nothing is linked"):
        ring.flush()
        ring.link_timeout(2, 0.01)
    with pytest.raises(ValueError, match="bounds"):
        ring.submit_linked([(ops.link_timeout(0.01), 2)])
    # By itself it works, and its target's value stays its own while the timeout is armed.
    ring.read(77, pipe[0], bytearray(1), sqe_flags=LINK)
    ring.link_timeout(78, 0.05)
    with pytest.raises(ValueError, match="timeout is linked"):
        ring.read(77, pipe[0], bytearray(1))
    found = {c.user_data: c.res for c in take(ring, 2)}
    assert found == {77: -errno.ECANCELED, 78: -errno.ETIME}
    ring.nop(77)
    assert ring.wait(timeout=5.0)[0].user_data == 77


def test_reserved_and_invalid_contexts(ring):
    for ctx, error in ((3 << 62, "reserved"), (1 << 64, "64 bits"), (-1, "64 bits")):
        with pytest.raises(ValueError, match=error):
            ring.nop(ctx)
    with pytest.raises(LookupError, match="not borrowed"):
        ring.nop(1 << 62)
    packed, room = ops.nop().pack(), bytearray(4)
    for ctx in ("x", 1.5, True, b""):
        for op in (packed, ops.nop(task_work=True), ops.recv(0, room)):
            with pytest.raises(TypeError, match="a context is an SQEContext or an int of 64 bits, not"):
                ring.submit(op, ctx)
        with pytest.raises(TypeError, match="not"):
            ring.batch([(packed, ctx)])
    assert ring.sq_available == 8
    del op
    room.append(0)  # and nothing holds it


def test_operations_that_are_missing_are_refused(ring):
    if ring.supports(abi.IORING_OP_NOP128):
        pytest.skip("this kernel has NOP128")
    with pytest.raises(NotSupported, match=r"NOP128.*6\.19"):
        ring.nop128(1)
    with pytest.raises(NotSupported, match="URING_CMD128"):
        ring.uring_cmd128(1, 0, 0)
    with pytest.raises(NotSupported, match="16-byte completions"):
        ring.recv_zero_copy(1, 0, 0)
    assert ring.sq_available == 8
    assert ring.supports(abi.IORING_OP_PIPE)
    assert not ring.supports(255)


def test_a_chain_with_a_request_that_cannot_be_sent_queues_nothing(ring, pipe):
    poll, other = ring.poll_add(51, pipe[0], 1), ring.poll_add(52, pipe[0], 1)
    for value in (61, 61):
        ring.read(value, pipe[0], bytearray(1))
    ring.poll_update(None, poll, new_user_data=53)
    ring.flush()
    in_flight = ring.in_flight
    for bad, ctx, message in (
        (ops.async_cancel(61), None, "share"),
        (ops.poll_update(51, new_user_data=int(other)), None, "in flight"),
        (ops.nop(), 53, "a poll was renamed to it"),
        (ops.msg_ring(0, 1 << 62), None, "62 bits"),
        (ops.uring_cmd(0, 0, bytes(17)), None, "16 bytes of a command"),
        (ops.link_timeout(1.0), None, "share"),
        (ops.nop(), "x", "a context is"),
    ):
        first = ops.read(pipe[0], bytearray(1)) if bad.name == "link_timeout" else ops.nop()
        with pytest.raises((ValueError, TypeError), match=message):
            ring.submit_linked([(first, 61), (bad, ctx)])
        assert ring.in_flight == in_flight
        assert ring.sq_available == 8


def test_silent_requests(ring):
    assert ring.nop(5, sqe_flags=SKIP) == 5 | 3 << 62
    ring.nop(6)
    assert [c.user_data for c in ring.wait(timeout=5.0)] == [6]
    ring.close(7, 1 << 20, sqe_flags=SKIP)
    (failed,) = ring.wait(timeout=5.0)
    assert failed.context.message == 7
    assert failed.res == -errno.EBADF
    assert ring.in_flight == 0
    with pytest.raises(ValueError, match="memory is free"):
        ring.read(1, 0, bytearray(1), sqe_flags=SKIP)
    ext = ring.ext_sqe()
    with pytest.raises(ValueError, match="slot for ever"):
        ring.nop(ext.context, sqe_flags=SKIP)
    ring.put_ext_sqe(ext)


def test_what_is_silent_on_success_is_not_kept(ring):
    """Nothing would say when to let it go."""
    ring.register_files_sparse(2)
    for _ in range(3):
        ring.socket_direct(None, socket.AF_UNIX, socket.SOCK_STREAM, file_index=1, sqe_flags=SKIP)
    assert ring.wait() == []
    assert ring._held == {}


def test_every_success_is_told_when_asked_for():
    with Ring(entries=8, notify_succeed=True) as ring:
        ring.nop(5, sqe_flags=SKIP)
        assert [c.user_data for c in ring.wait(timeout=5.0)] == [5]


# ---- chains ------------------------------------------------------------------------------------------


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


# ---- waiting -----------------------------------------------------------------------------------------


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
        # While in flight the ring keeps the memory by itself, whatever else uses the same value.
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


def test_bad_batches(ring):
    for requests, error in (
        ([(ops.nop(), 1 << 62)], "direct"),
        ([(ops.nop(), -1)], "direct"),
        ([(ops.nop().with_flags(LINK), 1)], "silent or draining"),
        ([(ops.async_cancel(1), 1)], "by itself"),
    ):
        with pytest.raises(ValueError, match=error):
            ring.batch(requests)
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
        (cqe,) = ring.wait(timeout=5.0)
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


# ---- threads -----------------------------------------------------------------------------------------


def in_thread(function):
    caught = []

    def run():
        try:
            function()
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    return caught[0] if caught else None


def test_completions_that_the_kernel_dropped_are_told(ring):
    """It drops some only when it has no memory for them, which a test cannot have: its answer is scripted."""
    ring._cycle = lambda timeout: -errno.EBADR
    with pytest.raises(uring.CQOverflow, match="dropped"):
        ring.wait()


def test_only_the_starting_thread(ring):
    calls = [
        lambda: ring.nop(1),
        lambda: ring.wait(),
        lambda: ring.flush(),
        lambda: ring.stop(),
        lambda: ring.submit_linked([(ops.nop(), 1)]),
        lambda: ring.register_files([0]),
    ]
    for call in calls:
        error = in_thread(call)
        assert isinstance(error, RuntimeError)
        assert "thread that started it" in str(error)
    assert ring.sq_available == 8


def test_started_in_another_thread_than_made():
    ring = Ring(entries=8)

    def life():
        with ring:
            ring.nop(3)
            assert ring.wait(timeout=5.0)[0].user_data == 3

    assert in_thread(life) is None
    assert ring.closed


def test_many_issuers():
    threads, each = 8, 400
    taken: list[int] = []
    errors: list[BaseException] = []
    lock = threading.Lock()
    with Ring(entries=16, multi_issuers=True) as ring:
        left = [threads * each]
        data = [bytearray(8) for _ in range(threads)]

        def work(number):
            try:
                with open("/dev/zero", "rb") as zero:
                    for i in range(each):
                        value = number * each + i
                        if i % 3:
                            ring.nop(value)
                        elif i % 2:
                            ring.read(value, zero.fileno(), data[number])
                        else:
                            ring.submit_linked([(ops.nop(), value)])
                        if i % 7 == 0:
                            take(ring.wait(16))
                    while True:
                        with lock:
                            if left[0] <= 0:
                                return
                        take(ring.wait(16, timeout=0.05))
            except BaseException as error:
                errors.append(error)

        def take(cqes):
            with lock:
                taken.extend(c.user_data for c in cqes)
                left[0] -= len(cqes)

        workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
        assert errors == []
        assert sorted(taken) == list(range(threads * each))
        assert ring.in_flight == 0
        with pytest.raises(ValueError, match="submit_linked"):
            ring.nop(1, sqe_flags=LINK)
        for each_data in data:
            each_data.append(1)


def test_what_another_thread_queues_is_sent_while_one_waits():
    """A thread that sleeps in a wait cannot send it."""
    with Ring(entries=8, multi_issuers=True) as ring:
        taken: list[int] = []
        turn = threading.Semaphore(0)

        def reap():
            for _ in range(50):
                turn.release()
                taken.extend(c.user_data for c in ring.wait(timeout=None))

        reaper = threading.Thread(target=reap)
        reaper.start()
        for value in range(50):
            turn.acquire()
            if value % 2:
                while not ring._waiters:
                    time.sleep(0)
            ring.nop(value)
        reaper.join()
        assert taken == list(range(50))


def test_stop_wakes_waiting_threads():
    ring = Ring(entries=8, multi_issuers=True)
    ring.start()
    errors = []

    def waits():
        try:
            ring.wait(timeout=None)
        except RingClosed as error:
            errors.append(error)

    threads = [threading.Thread(target=waits) for _ in range(3)]
    for thread in threads:
        thread.start()
    while ring._waiters < 3:
        time.sleep(0.001)
    ring.stop()
    for thread in threads:
        thread.join(10)
    assert len(errors) == 3


# ---- stopping ----------------------------------------------------------------------------------------


def test_after_the_stop_there_is_one_answer(pipe):
    ring = Ring(entries=8)
    ring.start()
    ext = ring.ext_sqe()
    ring.nop(ext.context)
    (cqe,) = ring.wait(timeout=5.0)
    ring.stop()
    ring.stop()
    for call in (
        lambda: ring.nop(None),
        lambda: ring.recv(None, pipe[0], bytearray(1)),
        lambda: ring.submit(ops.nop()),
        lambda: ring.submit_many([(ops.nop(), 1)]),
        lambda: ring.submit_linked([(ops.nop(), 1)]),
        lambda: ring.batch([(ops.nop(), 1)]),
        lambda: ring.multicast_zero_copy(None, [pipe[1]], 0),
        ring.wait,
        ring.wait_direct,
        ring.wait_extended,
        ring.wait_registered,
        ring.flush,
        ring.ext_sqe,
        ring.must_ext_sqe,
        ring.indirect_sqe,
        ring.new_scoped_ext_sqe,
        lambda: ring.with_ext_sqe(lambda ext: None),
        lambda: ring.register_files([0]),
        lambda: ring.register_buffers([bytearray(1)]),
        lambda: ring.registered_buffer(0),
        lambda: ring.register_buf_ring(2, 1, 16),
        lambda: ring.buf_ring(1),
        lambda: ring.bundle_iterator(cqe, 1),
        lambda: ring.clone_buffers(ring),
        lambda: ring.clone_buffers_from_registered(0),
        lambda: ring.resize_rings(16),
        lambda: ring.sync_cancel(1),
        ring.register_personality,
        ring.fileno,
        lambda: ring.ring_fd,
        lambda: ring.sq_available,
        lambda: ring.cq_pending,
        ring.start,
    ):
        with pytest.raises(RingClosed, match="the ring was stopped"):
            call()
    # What was taken and borrowed before can still be looked at and given back.
    assert ring.result(cqe) == 0
    ring.put_ext_sqe(ext)


def test_stop_with_work_in_flight(pipe):
    data = bytearray(4)
    ring = Ring(entries=8)
    ring.start()
    ext = ring.ext_sqe()
    for i in range(20):
        ring.read(i, pipe[0], data)
    ring.read(ext.context, pipe[0], data)
    ring.timeout(99, 1000.0)
    ring.stop()
    data.extend(b"free again")
    assert ring.closed
    assert ring.in_flight == 0
    assert not ext.in_flight
    ring.stop()
    with pytest.raises(RingClosed):
        ring.nop(1)
    with pytest.raises(RingClosed):
        ring.wait()
    with pytest.raises(RingClosed):
        ring.start()
    with pytest.raises(RingClosed):
        ring.fileno()
    assert repr(ring) == "<Ring stopped>"


def test_stop_closes_descriptors_nobody_took():
    before = len(os.listdir("/proc/self/fd"))
    with socket.create_server(("127.0.0.1", 0)) as server:
        ring = Ring(entries=8)
        ring.start()
        clients = []
        for i in range(3):
            ring.accept(i, server.fileno())
            clients.append(socket.create_connection(server.getsockname()))
        ring.flush()
        ring.stop()
        for client in clients:
            client.settimeout(5)
            try:
                assert client.recv(1) == b""
            except ConnectionResetError:
                pass
            client.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_stop_closes_the_ends_of_pipes_that_share_a_context():
    before = set(os.listdir("/proc/self/fd"))
    ring = Ring(entries=8)
    ring.start()
    for _ in range(3):
        ring.pipe(None)
    ring.pipe(None, 0xFFFF)  # refused by the kernel: it made nothing to close
    ring.flush()
    ring.stop()
    assert set(os.listdir("/proc/self/fd")) == before


def sockets() -> set[int]:
    """The descriptors of this process that are sockets."""
    found = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            if stat.S_ISSOCK(os.stat(f"/proc/self/fd/{fd}").st_mode):
                found.add(int(fd))
        except FileNotFoundError:
            continue  # the descriptor that listed the directory
    return found


@pytest.mark.parametrize("first", ["accept", "nop"])
def test_stop_closes_no_descriptor_that_may_be_anothers(first):
    """Two kinds of requests under one number: a result of one is no descriptor of the other's."""
    with socket.create_server(("127.0.0.1", 0)) as server, open("/dev/null", "rb") as stranger:
        with socket.create_connection(server.getsockname()):
            ring = Ring(entries=8)
            ring.start()
            before = sockets()
            for name in (first, "nop" if first == "accept" else "accept"):
                if name == "nop":
                    ring.nop(7, result=stranger.fileno())
                else:
                    ring.accept(7, server.fileno())
            ring.flush()
            ring.stop()
        os.fstat(stranger.fileno())
        # The connection is left open rather than a stranger's file closed.
        (left,) = sockets() - before
        os.close(int(left))


def test_what_does_not_end_is_leaked_with_a_warning(tmp_path):
    """Opening a fifo blocks a kernel worker; a drain of no time at all cannot wait for it."""
    from uring.session import life as core

    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    ring = Ring(entries=8, drain_timeout=0.0)
    ring.start()
    leaked = len(core._leaked)
    ring.openat(1, fifo, os.O_WRONLY, sqe_flags=int(abi.IOSQE_ASYNC))
    ring.flush()
    with pytest.warns(ResourceWarning, match="leaked"):
        ring.stop()
    assert len(core._leaked) == leaked + 1
    kernel = core._leaked.pop()[0]
    os.close(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK))
    deadline = time.monotonic() + 10
    while kernel.inflight and time.monotonic() < deadline:
        kernel.put(3 << 62, abi.IORING_OP_ASYNC_CANCEL, 0, -1, 0, 0, 0, 5, 0, 0, 0)
        n = kernel.cycle(0.05)
        for value, res, _ in CQE.iter_unpack(kernel.out[: max(n, 0) * CQE.size]):
            if value == 1 and res >= 0:
                os.close(res)
    assert kernel.inflight == 0
    kernel.close()


def test_forgotten_rings_warn():
    ring = Ring(entries=8)
    ring.start()
    rings = [ring]
    del ring
    with pytest.warns(ResourceWarning, match="unstopped"):
        rings.clear()


def test_a_ring_that_was_never_started_stops(recwarn):
    ring = Ring(entries=8)
    ring.stop()
    assert ring.closed


def test_start_twice(ring):
    with pytest.raises(RuntimeError, match="started before"):
        ring.start()


def test_in_a_forked_child(ring):
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        answer = b"no error"
        try:
            ring.nop(1)
        except RingClosed as error:
            answer = str(error).encode()
        finally:
            os.write(write, answer)
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(write)
    with os.fdopen(read, "rb") as answer:
        assert b"opened by the parent" in answer.read()
    ring.nop(2)
    assert ring.wait(timeout=5.0)[0].user_data == 2


@pytest.mark.parametrize(
    "request_", [None, 5, "nop", ops.nop, object(), [ops.nop()]], ids=lambda what: type(what).__name__
)
def test_what_is_no_request(ring, request_):
    for call in (
        lambda: ring.submit(request_, 1),
        lambda: ring.submit_many([(request_, 1)]),
        lambda: ring.submit_linked([(request_, 1)]),
        lambda: ring.batch([(request_, 1)]),
        lambda: ring.submit_batch(request_),
    ):
        with pytest.raises(TypeError, match="is needed, not"):
            call()
    assert ring.sq_available == 8


def test_options_and_keywords():
    with pytest.raises(TypeError, match="either Options"):
        Ring(Options(), entries=4)
    with pytest.raises(TypeError, match="Options are needed"):
        Ring(4)
    with pytest.raises(TypeError):
        Ring(no_such_option=1)
    features = None
    with Ring(Options(entries=5, cq_entries=20)) as ring:
        features = ring.features
    assert (features.sq_entries, features.cq_entries) == (8, 32)
    assert (features.sqe_bytes, features.cqe_bytes) == (64, 16)
    assert features.user_data_byte_order == sys.byteorder
    assert isinstance(features, uring.Features)
    assert features.flags & abi.IORING_FEAT_NODROP
