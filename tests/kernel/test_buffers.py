"""Provided buffers: rings of every kind, groups of many sizes, bundles, incremental receives."""

from __future__ import annotations

import errno
import os
import socket
import warnings

import pytest

from uring import (
    BufferGroupsConfig,
    BundleIterator,
    CQEView,
    IncrementalHandler,
    IncrementalReceiver,
    Ring,
    RingClosed,
    abi,
    dispatch,
)

MMAP = int(abi.IOU_PBUF_RING_MMAP)


@pytest.fixture
def ring():
    with Ring(entries=16) as ring:
        yield ring


@pytest.fixture
def pair():
    a, b = socket.socketpair()
    with a, b:
        yield a, b


def one(ring) -> CQEView:
    while True:
        found = ring.wait(1, timeout=30.0)
        if found:
            return found[0]


@pytest.mark.parametrize("flags", [0, MMAP])
def test_buffers_go_round(ring, pair, flags):
    group = ring.register_buf_ring_with_flags(4, 3, flags, 16)
    assert ring.buf_ring(3) is group
    for i in range(50):
        text = f"message {i}".encode()
        pair[1].send(text)
        ring.recv(1, pair[0], buffer_group=3)
        cqe = one(ring)
        assert cqe.has_buffer
        assert bytes(group.views[cqe.buf_id][: cqe.res]) == text
        assert group.put(cqe.buf_id) == 0
    held = []
    for _ in range(4):
        pair[1].send(b"x")
        ring.recv(1, pair[0], buffer_group=3)
        held.append(one(ring).buf_id)
    assert sorted(held) == [0, 1, 2, 3]
    pair[1].send(b"x")
    ring.recv(1, pair[0], buffer_group=3)
    assert one(ring).res == -errno.ENOBUFS
    ring.unregister_buf_ring(group)
    with pytest.raises(LookupError):
        ring.buf_ring(3)
    with pytest.raises(LookupError):
        ring.unregister_buf_ring(3)
    assert bytes(group.views[0][:1]) == b"x", "views outlive the group"
    with pytest.raises(RingClosed):
        group.put(0)


def test_memory_of_the_callers(ring, pair):
    group = ring.register_buf_ring_mmap(4, 5)
    memory = bytearray(64)
    group.provide(7, memory)
    with pytest.raises(BufferError):
        memory.append(1)
    pair[1].send(b"hello")
    ring.recv(1, pair[0], buffer_group=5)
    cqe = one(ring)
    assert cqe.buf_id == 7
    assert memory[:5] == b"hello"
    for bid in (-1, 65536, "x"):
        with pytest.raises((TypeError, ValueError), match="number"):
            group.provide(bid, memory)
    with pytest.raises(TypeError):
        group.provide(1, b"read-only")
    ring.unregister_buf_ring(group)
    memory.append(1)
    with pytest.raises(RingClosed):
        group.provide(1, memory)


def test_bad_buffer_rings(ring):
    group = ring.register_buf_ring(4, 1, 16)
    for bid in (-1, 4, 1 << 20):
        with pytest.raises(ValueError, match="buffers 0 to 3"):
            group.put(bid)
    with pytest.raises(FileExistsError):
        ring.register_buf_ring(4, 1, 16)
    for entries, number, size in (
        (0, 2, 16),
        (32769, 2, 16),
        (4, 65536, 16),
        (4, -1, 16),
        (4, 2, -1),
        (4, 2, 1 << 31),
    ):
        with pytest.raises(ValueError, match=r"buffer|entries"):
            ring.register_buf_ring(entries, number, size)
    with pytest.raises(ValueError, match="memory of its own"):
        group.provide(0, bytearray(1))


def test_buffers_in_a_forked_child(ring, pair):
    group = ring.register_buf_ring(4, 1, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            group.put(0)
        except RingClosed:
            ok = True
        else:
            ok = False
        ring.stop()
        os._exit(0 if ok and ring.closed else 1)
    assert os.waitpid(pid, 0)[1] == 0
    pair[1].send(b"still here")
    ring.recv(1, pair[0], buffer_group=1)
    assert one(ring).res == 10


def test_memory_stays_while_a_receive_may_use_it(ring, pair):
    ring.register_buf_ring(4, 1, 16)
    ring.recv(1, pair[0], buffer_group=1)
    ring.flush()
    ring.unregister_buf_ring(1)
    assert len(ring._retired) == 1
    pair[1].send(b"late")
    assert one(ring).res == -errno.ENOBUFS
    ring.register_buf_ring(4, 1, 16)
    ring.unregister_buf_ring(1)
    assert ring._retired == []


def test_buffers_of_the_options(pair):
    with Ring(
        entries=8,
        read_buffer_num=4,
        read_buffer_size=32,
        read_buffer_gid_offset=9,
        locked_buffer_mem=16384,
        write_buffer_num=2,
        write_buffer_size=10,
    ) as ring:
        pair[1].send(b"hello")
        ring.recv(1, pair[0], buffer_group=9)
        assert one(ring).res == 5
        assert ring.registered_buffer_count == 4
        number, view = ring.write_buffers.get()
        view[:] = b"0123456789"
        ring.send(2, pair[0], view)
        assert one(ring).res == 10
        ring.write_buffers.put(number)
        assert pair[1].recv(20) == b"0123456789"


def test_groups_of_many_sizes(pair):
    config = BufferGroupsConfig(pico_num=4, micro_num=2, medium_num=1)
    with Ring(entries=8, multi_size_buffer=2, buffer_groups=config, read_buffer_gid_offset=100) as ring:
        groups = ring.buffer_groups
        assert groups.sizes == [32, 512, 8192]
        assert [r.group for r in groups.rings] == list(range(100, 106))
        assert {groups.group_for(33).group for _ in range(4)} == {101, 104}, "scaled groups take turns"
        assert groups.group_for(0).size == 32
        with pytest.raises(ValueError, match="8192"):
            groups.group_for(8193)
        group = groups.group_for(500)
        pair[1].send(b"y" * 500)
        ring.recv(1, pair[0], buffer_group=group.group)
        cqe = one(ring)
        assert bytes(group.views[cqe.buf_id][: cqe.res]) == b"y" * 500
        assert cqe.buf_group == 0, "a plain integer says nothing of groups"


# ---- bundles -----------------------------------------------------------------------------------------


def test_bundles_wrap_around_and_recycle(ring, pair):
    ring.register_buf_ring(8, 2, 10)
    for round_ in range(20):
        text = bytes((round_ + i) % 256 for i in range(40))
        pair[1].send(text)
        ring.recv_bundle(1, pair[0], 2)
        cqe = one(ring)
        bundle = ring.bundle_iterator(cqe, 2)
        assert bundle.count == len(bundle) == 4
        assert bundle.total_bytes == 40
        assert b"".join(bundle.all()) == text
        assert b"".join(data for _, data in bundle.all_with_slot_id()) == text
        assert b"".join(bundle.collect()) == b"".join(bundle) == text
        assert len(bundle.buffer(3)) == 10
        assert [bundle.slot_id(i) for i in range(4)] == [(round_ * 4 + i) % 8 for i in range(4)]
        room = bytearray(20)
        assert bundle.copy_to(room) == 20
        assert room == text[:20]
        assert cqe.bundle_start_id == bundle.slot_id(0)
        assert cqe.bundle_buffers(10) == (bundle.slot_id(0), 4)
        bundle.recycle()
        with pytest.raises(ValueError, match="nothing to give back"):
            bundle.recycle()


def test_bundles_of_buffers_recycled_out_of_turn(ring, pair):
    group = ring.register_buf_ring(4, 2, 10)
    pair[1].send(b"a" * 40)
    ring.recv_bundle(1, pair[0], 2)
    assert one(ring).res == 40
    for bid in (2, 0, 3, 1):
        group.put(bid)
    pair[1].send(bytes(range(40)))
    ring.recv_bundle(1, pair[0], 2)
    bundle = ring.bundle_iterator(one(ring), 2)
    assert [bundle.slot_id(i) for i in range(4)] == [2, 0, 3, 1]
    assert b"".join(bundle) == bytes(range(40))


def test_bundle_over_bare_memory():
    backing = bytes(range(80))
    cqe = CQEView((0, 25, 6 << 16 | 1))
    bundle = BundleIterator(cqe, backing, 10, 8)
    assert [bundle.slot_id(i) for i in range(3)] == [6, 7, 0]
    assert b"".join(bundle) == backing[60:80] + backing[0:5]
    with pytest.raises(ValueError, match="no buffer ring"):
        bundle.recycle()
    for res, flags, size, entries in (
        (0, 1, 10, 8),
        (-5, 1, 10, 8),
        (5, 0, 10, 8),
        (5, 1, 0, 8),
        (5, 1, 10, 7),
        (5, 1, 10, 16),
        (81, 1, 10, 8),
    ):
        with pytest.raises(ValueError, match=r"\w"):
            BundleIterator(CQEView((0, res, flags)), backing, size, entries)
    for index in (-1, 3):
        with pytest.raises(IndexError):
            bundle.buffer(index)


def test_no_bundle(ring, pair):
    ring.register_buf_ring(4, 2, 10)
    assert ring.bundle_iterator(CQEView((0, 5, 1)), 77) is None
    assert ring.bundle_iterator(CQEView((0, 0, 0)), 2) is None
    with pytest.raises(ValueError, match="1 byte"):
        CQEView((0, 5, 1)).bundle_count(0)


# ---- incremental -------------------------------------------------------------------------------------


class Record(IncrementalHandler):
    def __init__(self):
        self.events = []

    def on_data(self, data, has_more):
        self.events.append((bytes(data), has_more))

    def on_complete(self):
        self.events.append("complete")

    def on_error(self, error):
        self.events.append(error.errno)


def test_incremental_receives(ring, pair):
    group = ring.register_buf_ring_incremental(2, 4, 10)
    receiver = IncrementalReceiver(ring, ring.pools, group)
    for _ in range(5):
        record = Record()
        receiver.recv(pair[0], record)
        for text in (b"abc", b"defg", b"hijklm"):
            pair[1].send(text)
            assert receiver.handle_cqe(one(ring))
            if record.events[-1] == "complete":
                break
        assert record.events == [(b"abc", True), (b"defg", True), (b"hij", False), "complete"]
        assert pair[0].recv(10) == b"klm"
    assert ring.pools.extended_available == ring.pools.capacity


def test_a_buffer_with_little_left_is_used_up(ring, pair):
    group = ring.register_buf_ring_incremental(2, 4, 10, min_left=5)
    receiver = IncrementalReceiver(ring, ring.pools, group)
    record = Record()
    receiver.recv(pair[0], record)
    for text in (b"abc", b"def"):
        pair[1].send(text)
        assert dispatch(one(ring)), "it is found like the other machines"
    assert record.events == [(b"abc", True), (b"def", False), "complete"], "4 bytes are too few"
    for bad in (-1, 1 << 31):
        with pytest.raises(ValueError, match="min_left"):
            ring.register_buf_ring_incremental(2, 5, 10, min_left=bad)
    with pytest.raises(ValueError, match="incremental"):
        ring.register_buf_ring(2, 5, 10, min_left=5)
    with pytest.raises(TypeError, match="IncrementalHandler"):
        receiver.recv(pair[0], record.on_data)
    assert ring.in_flight == 0


def test_incremental_handlers_do_nothing_by_default(ring, pair):
    receiver = IncrementalReceiver(ring, ring.pools, ring.register_buf_ring_incremental(2, 4, 4))
    for handler in (IncrementalHandler(), IncrementalHandler.from_callbacks()):
        receiver.recv(pair[0], handler)
        pair[1].send(b"full")
        assert dispatch(one(ring))
        receiver.recv(1 << 20, handler)
        assert dispatch(one(ring))
    assert ring.pools.extended_available == ring.pools.capacity


def test_incremental_end_and_error(ring, pair):
    group = ring.register_buf_ring_incremental(2, 4, 10)
    receiver = IncrementalReceiver(ring, ring.pools, group)
    record = Record()
    receiver.recv(pair[0], record)
    pair[1].send(b"ab")
    assert receiver.handle_cqe(one(ring))
    pair[1].close()
    assert receiver.handle_cqe(one(ring))
    assert record.events == [(b"ab", True), "complete"]
    seen = []
    receiver.recv(1 << 20, IncrementalHandler.from_callbacks(on_error=seen.append))
    assert receiver.handle_cqe(one(ring))
    assert seen[0].errno == errno.EBADF
    assert not receiver.handle_cqe(CQEView((5, 0, 0)))
    assert ring.pools.extended_available == ring.pools.capacity
    with pytest.raises(ValueError, match="incremental"):
        IncrementalReceiver(ring, ring.pools, ring.register_buf_ring(2, 5, 10))
    os.fstat(ring.fileno())
