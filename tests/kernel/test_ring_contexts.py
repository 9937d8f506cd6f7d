"""User data of the ring's requests and of their completions, against the running kernel."""

from __future__ import annotations

import os

import pytest

from tests.ringside import take
from uring import (
    PoolExhausted,
    Ring,
    abi,
    for_fd,
    ops,
    pack_direct,
    pack_extended,
    pack_indirect,
    send_msg_ring,
)


def test_a_context_comes_back_as_given(ring):
    for ctx in (0, 12345, (1 << 62) - 1, pack_direct(0, 0, 7, -3)):
        assert ring.nop(ctx) == ctx
        (cqe,) = ring.wait(timeout=None)
        assert cqe.user_data == ctx
        assert cqe.res == 0


def test_a_direct_context_gets_the_opcode(ring, pipe):
    os.write(pipe[1], b"x")
    ctx = ring.read(for_fd(pipe[0]), pipe[0], bytearray(1))
    (cqe,) = ring.wait(timeout=30.0)
    assert cqe.context == ctx == for_fd(pipe[0]).with_op(abi.IORING_OP_READ)
    assert (cqe.op, cqe.fd) == (abi.IORING_OP_READ, pipe[0])


def test_without_a_context_the_request_names_itself(ring, pipe):
    os.write(pipe[1], b"x")
    ring.read(None, pipe[0], bytearray(1))
    (cqe,) = ring.wait_direct(timeout=30.0)
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
    (cqe,) = ring.wait_extended(timeout=30.0)
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
        assert sender.wait(timeout=30.0)[0].res == 0
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
        assert other.wait(timeout=30.0)[0].res == 0
    send_msg_ring(ring, 43, -5)
    found = take(ring, 2)
    assert sorted((c.context.message, c.res) for c in found) == [(42, 7), (43, -5)]
    assert ring.in_flight == 0
