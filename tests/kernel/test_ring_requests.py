"""The pins and the results of requests, and the requests that are refused, against the running kernel."""

from __future__ import annotations

import errno
import gc
import os
import socket
import sys

import pytest

import uring
from tests.ringside import take
from uring import NotSupported, Options, Ring, RingClosed, abi, ops, pack_direct

LINK = int(abi.IOSQE_IO_LINK)

SKIP = int(abi.IOSQE_CQE_SKIP_SUCCESS)


# ---- memory -----------------------------------------------------------------------------------------------


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
    assert ring.wait(timeout=30.0)[0].res == 4
    # Two requests share the value, and nothing tells which of them is done.
    for pinned in (data, other):
        with pytest.raises(BufferError):
            pinned.extend(b"x")
    os.write(pipe[1], b"efgh")
    assert ring.wait(timeout=30.0)[0].res == 4
    data.extend(b"x")
    other.extend(b"x")
    assert {bytes(data), bytes(other)} == {b"abcdx", b"efghx"}


def test_memory_lives_without_another_reference(ring, pipe):
    ring.read(5, pipe[0], memoryview(bytearray(1 << 16)))
    ring.flush()
    gc.collect()
    os.write(pipe[1], bytes(1 << 16))
    assert ring.wait(timeout=30.0)[0].res == 1 << 16


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


# ---- results ----------------------------------------------------------------------------------------------


def test_decoded_results(ring, tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"x" * 10)
    ring.statx(1, path)
    (cqe,) = ring.wait(timeout=30.0)
    assert ring.result(cqe).st_size == 10
    ext = ring.ext_sqe()
    ring.pipe(ext.context)
    (piped,) = ring.wait(timeout=30.0)
    ends = ring.result(piped)
    for fd in ends:
        os.close(fd)
    ring.put_ext_sqe(ext)
    ring.nop(3)
    (cqe,) = ring.wait(timeout=30.0)
    assert ring.result(cqe) == 0
    assert ring.result(piped) == ends, "a completion carries its result"
    ring.statx(1, tmp_path / "missing")
    (cqe,) = ring.wait(timeout=30.0)
    with pytest.raises(FileNotFoundError):
        ring.result(cqe)


# ---- identity and support ---------------------------------------------------------------------------------


def test_ambiguous_targets_are_refused(ring, pipe):
    ctx = pack_direct(abi.IORING_OP_READ, 0, 0, pipe[0])
    buffers = [bytearray(1), bytearray(1)]
    for data in buffers:
        ring.read(ctx, pipe[0], data)
    with pytest.raises(ValueError, match="2 operations in flight share"):
        ring.async_cancel(9, ctx)
    assert ring.in_flight == 2
    ring.async_cancel(9, ctx, every=True)
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
    assert ring.wait(timeout=30.0)[0].user_data == 77


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
    assert [c.user_data for c in ring.wait(timeout=30.0)] == [6]
    ring.close(7, 1 << 20, sqe_flags=SKIP)
    (failed,) = ring.wait(timeout=30.0)
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
    """Nothing would say when to drop it."""
    ring.register_files_sparse(2)
    for _ in range(3):
        ring.socket_direct(None, socket.AF_UNIX, socket.SOCK_STREAM, file_index=1, sqe_flags=SKIP)
    assert ring.wait() == []
    assert ring._held == {}


def test_every_success_is_told_when_asked_for():
    with Ring(entries=8, notify_succeed=True) as ring:
        ring.nop(5, sqe_flags=SKIP)
        assert [c.user_data for c in ring.wait(timeout=30.0)] == [5]


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
    with pytest.raises(TypeError, match=r"Options are needed, not int: Ring\(entries=4\)"):
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
