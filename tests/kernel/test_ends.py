"""Every request ends: those that a stopping ring finds in flight, and those that are refused because nothing
would say when they have ended.

Warnings are errors here, and a ring that leaks an operation warns.
"""

from __future__ import annotations

import errno
import gc
import math
import os
import socket
import weakref
from typing import TYPE_CHECKING

import pytest

from tests.ringside import take
from uring import Message, Op, Ring, abi, ops
from uring.machines.listener import prepare_listener_bind, prepare_listener_socket

if TYPE_CHECKING:
    from collections.abc import Iterator

DRAIN = int(abi.IOSQE_IO_DRAIN)
LINK = int(abi.IOSQE_IO_LINK)
SKIP = int(abi.IOSQE_CQE_SKIP_SUCCESS)


@pytest.fixture
def ring() -> Iterator[Ring]:
    with Ring(entries=16, drain_timeout=30.0) as ring:
        yield ring


@pytest.fixture
def streams() -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with near, far:
        yield near, far


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def descriptors() -> set[int]:
    return {fd for fd in map(int, os.listdir("/proc/self/fd")) if is_open(fd)}


@pytest.mark.parametrize("options", [{}, {"multi_issuers": True}, {"sqpoll": True}])
def test_a_stop_ends_what_a_draining_request_holds_back(options, pipe) -> None:
    # The cancel itself waits behind it: a ring has another way to ask.
    ring = Ring(entries=16, drain_timeout=30.0, **options)
    ring.start()
    ring.read(1, pipe[0], bytearray(1))
    for i in range(8):
        ring.read(2 + i, pipe[0], bytearray(1), sqe_flags=DRAIN if i % 3 == 0 else 0)
    ring.wait()
    ring.stop()
    assert ring.in_flight == 0
    assert ring._kernel.counters()["enters"] < 500


def test_a_chain_is_silent_as_a_whole_or_not_at_all(ring) -> None:
    # For requests behind a silent one that fails the kernel posts nothing, not even a cancel.
    silent = ops.nop(result=-errno.EIO).with_flags(SKIP)
    with pytest.raises(ValueError, match="as a whole"):
        ring.submit_linked([(silent, 1), (ops.nop(), 2)])
    ring.submit(silent.with_flags(LINK), 1)
    with pytest.raises(ValueError, match="as a whole"):
        ring.nop(2)
    ring.submit(ops.nop().with_flags(SKIP), 2)
    assert [cqe.res for cqe in take(ring)] == [-errno.EIO]
    assert ring.in_flight == 0
    ring.submit(ops.nop().with_flags(LINK), 1)
    with pytest.raises(ValueError, match="as a whole"):
        ring.submit(silent, 2)
    ring.wait()


@pytest.mark.parametrize("wait", ["wait", "wait_direct", "wait_extended"])
@pytest.mark.parametrize("timeout", [-1, math.nan, True, "soon"])
def test_a_wait_that_is_refused_does_not_end_a_chain(ring, wait, timeout) -> None:
    # Nothing was submitted: what is queued next is linked to the silent request, and would end unseen.
    ring.submit(ops.nop(result=-errno.EIO).with_flags(SKIP | LINK), 1)
    with pytest.raises((TypeError, ValueError)):
        getattr(ring, wait)(timeout=timeout)
    with pytest.raises(ValueError, match="as a whole"):
        ring.nop(2)
    ring.flush()
    ring.nop(2)
    results: list[int] = []
    while len(results) < 2 and (cqes := ring.wait(timeout=30.0)):
        results += [cqe.res for cqe in cqes]
    assert sorted(results) == [-errno.EIO, 0]
    assert ring.in_flight == 0


def test_a_slot_of_the_table_is_not_closed_as_a_descriptor() -> None:
    spare = os.dup(0)
    try:
        with Ring(entries=8) as ring:
            ring.register_files_sparse(2)
            # Under one value, of one opcode: this completes with 0, which is no descriptor; the other fails.
            ring.submit(ops.socket_direct(socket.AF_INET, socket.SOCK_STREAM, file_index=1), 5)
            ring.submit(ops.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_UDP), 5)
        assert is_open(0)
    finally:
        os.dup2(spare, 0)
        os.close(spare)


@pytest.mark.parametrize("flags", [LINK, LINK | SKIP])
def test_with_several_issuers_a_chain_takes_hold_of_nothing_behind_it(flags) -> None:
    first = ops.nop().with_flags(flags & SKIP)
    with Ring(entries=8, multi_issuers=True) as ring:
        with pytest.raises(ValueError, match="multi_issuers"):
            ring.submit_linked([(first, 1), (ops.nop().with_flags(flags), 2)])
        assert ring._kernel.pending == 0
        ring.nop(3)
        assert [cqe.context for cqe in ring.wait(timeout=30.0)] == [3]


@pytest.mark.parametrize("send", ["send_zc", "sendmsg_zc"])
def test_zero_copy_sends_keep_away_from_draining_requests(ring, streams, send) -> None:
    # Such a send would wait for itself for ever, and could not be cancelled.
    op = ops.send_zc(streams[0], b"x") if send == "send_zc" else ops.sendmsg_zc(streams[0], [b"x"])
    chain = [(op, 1), (ops.nop().with_flags(DRAIN), 2)]
    with pytest.raises(ValueError, match="IO_DRAIN"):
        ring.submit_linked(chain)
    with pytest.raises(ValueError, match="IO_DRAIN"):
        ring.submit(op.with_flags(DRAIN), 1)
    batch = ring.batch([(op, 1)])
    ring.submit_batch(batch)
    while ring.in_flight:
        ring.wait(timeout=1.0)
    ring.submit(ops.nop().with_flags(DRAIN), 1)
    take(ring)
    for call in (
        lambda: ring.submit(op, 1),
        lambda: ring.submit_batch(batch),
        lambda: ring.submit_as_one(batch, 1),
    ):
        with pytest.raises(ValueError, match="IO_DRAIN"):
            call()
    assert ring.in_flight == 0


def test_a_poll_is_given_another_value_while_the_ring_stops(pipe) -> None:
    with Ring(entries=16, drain_timeout=30.0) as ring:
        ring.poll_add(5, pipe[0], 1)
        ring.poll_update(6, 5, new_user_data=9)
    assert ring.closed


def test_a_stop_closes_what_arrives_and_nobody_takes(pipe) -> None:
    ring = Ring(entries=16)
    ring.start()
    before = descriptors()
    ring.tcp4_socket(1)
    ring.pipe(2)
    ring.flush()
    ring.stop()
    assert descriptors() < before


def test_a_stop_takes_no_number_for_a_descriptor(pipe) -> None:
    # The value is shared, so that a result of the one request could be taken for the other's.
    ring = Ring(entries=16)
    ring.start()
    before = descriptors()
    ring.tcp4_socket(1)
    ring.nop(1, result=pipe[0])
    ring.stop()
    assert is_open(pipe[0])
    for fd in descriptors() - before:
        os.close(fd)  # the socket, which nobody could know


def test_a_stop_takes_no_number_for_a_descriptor_that_came_before(pipe) -> None:
    with Ring(entries=16) as ring:
        ring.tcp4_socket(1)
        ring.timeout(1, 60.0, count=2)
        (cqe,) = ring.wait(timeout=None)
        os.close(cqe.res)
        ring.nop(1, result=pipe[0])
    assert is_open(pipe[0])


def test_a_silent_request_is_not_kept(ring, pipe) -> None:
    class Silent(Op):
        __slots__ = ("__weakref__",)

    op = ops.tcp4_socket_direct(file_index=0).with_flags(SKIP)
    ring.register_files_sparse(1)
    silent = Silent(op.name, op.fields, discard=os.close)
    ring.submit(silent, 5)
    ring.wait()
    gone = weakref.ref(silent)
    del silent, op
    gc.collect()
    assert gone() is None


def test_a_message_is_no_result_of_a_silent_request(pipe) -> None:
    ring = Ring(entries=16)
    ring.start()
    before = descriptors()
    ring.submit(ops.tcp4_socket().with_flags(SKIP), 5)
    ring.msg_ring(6, ring, 5, pipe[0])
    ring.stop()
    assert is_open(pipe[0])
    for fd in descriptors() - before:
        os.close(fd)  # the socket, of which the request was to say nothing


@pytest.mark.parametrize("options", [{"name_size": 17}, {"control_size": 33}, {"selected": 1}])
def test_a_message_takes_no_more_than_it_was_made_with(options) -> None:
    # The kernel would write past its memory.
    message = Message([bytearray(8)], writable=True, name_size=16, control_size=32)
    message.reset(16, 32)
    sizes = {"name_size": 0, **options}
    with pytest.raises(ValueError, match="room for a name of 16 bytes, 32 of control"):
        message.reset(**sizes)


@pytest.mark.parametrize("sizes", [(63, 100, ()), (1.5, 0), (0, 0, ""), (0, None)])
def test_a_message_is_reset_to_ints(sizes) -> None:
    message = Message([bytearray(8)], writable=True, name_size=64, control_size=100)
    with pytest.raises(TypeError, match="sizes of a message are ints"):
        message.reset(*sizes)
    assert message.header.view[8:12].tolist() == [64, 0, 0, 0]  # as it was


@pytest.mark.parametrize("name", ["name_size", "control_size", "selected"])
def test_a_message_has_sizes(name) -> None:
    for bad, error in ((-1, ValueError), (1 << 40, ValueError), (1.5, TypeError), (True, TypeError)):
        with pytest.raises(error, match=name):
            Message(**{name: bad})


def test_a_run_of_buffers_is_bounded(ring) -> None:
    buffers = ring.register_buf_ring(4, 1, 64)
    assert len(buffers.run(0, 4)) == 4
    for bid, n, error in (
        (0, 5, ValueError),
        (0, 1 << 62, ValueError),
        (-1, 1, ValueError),
        (1.5, 1, TypeError),
    ):
        with pytest.raises(error):
            buffers.run(bid, n)


def test_flags_are_whole_numbers() -> None:
    for change in (ops.nop().with_flags, ops.nop().with_ioprio, ops.nop().with_personality):
        for bad in (1.5, "1", None, True):
            with pytest.raises(TypeError, match="int"):
                change(bad)
        with pytest.raises(ValueError, match="0 to"):
            change(-1)


def test_contexts_are_whole_numbers(ring) -> None:
    for bad in (1.5, "1", [], object()):
        for op in (ops.nop(), ops.poll_add(0, 1)):
            with pytest.raises(TypeError, match="context"):
                ring.submit(op, bad)
        with pytest.raises(TypeError, match="context"):
            ring.submit_as_one(ring.batch([(ops.nop(), 1)]), bad)
    assert ring.sq_available == 16


def test_a_bind_that_cannot_be_made_leaves_the_set_up_as_it_was(ring) -> None:
    ext = ring.ext_sqe()
    prepare_listener_socket(ext, socket.AF_INET, socket.SOCK_STREAM, 0, ("127.0.0.1", 0), 4)
    before = ext.sidecar[1].state
    for bad in (-1, None, "x"):
        with pytest.raises((TypeError, ValueError)):
            prepare_listener_bind(ext, bad)
        with pytest.raises(TypeError, match="ExtSQE"):
            prepare_listener_bind(bad, 3)
    assert ext.sidecar[1].state is before
    ring.put_ext_sqe(ext)


def test_any_true_value_prefers_busy_polling(ring) -> None:
    ring.register_napi(0, -1)  # type: ignore[arg-type]
    ring.unregister_napi()


def test_how_many_were_queued_under_a_value(ring, pipe) -> None:
    total = ring._kernel.total
    ring.nop(1)
    ring.wait()
    assert total(1) == 0
    ring.read(1, pipe[0], bytearray(1))
    ring.nop(1)
    ring.wait()
    assert (total(1), ring._kernel.count(1)) == (2, 1)


def test_a_chain_that_was_begun_outlives_a_resize(ring) -> None:
    ring.submit(ops.nop().with_flags(LINK), 1)
    ring.resize_rings(32)
    ring.nop(2)
    assert sorted(cqe.user_data for cqe in take(ring, 2)) == [1, 2]
    assert ring.in_flight == 0


def test_a_ring_without_a_descriptor_gives_none(ring) -> None:
    # Its index among the registered rings of the thread, taken for a descriptor, would be another file.
    with Ring(entries=8, no_mmap=True, registered_fd=True) as bare:
        for call in (
            bare.fileno,
            lambda: bare.ring_fd,
            bare.register_ring_fd,
            lambda: ring.register_ring_fd(bare),
            lambda: ring.clone_buffers(bare),
            lambda: ring.msg_ring(1, bare, 2),
            lambda: Ring(attach_wq=bare),
        ):
            with pytest.raises(ValueError, match="no descriptor"):
                call()
        bare.nop(1)
        take(bare)
