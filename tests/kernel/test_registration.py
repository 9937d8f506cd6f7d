"""Registrations, each against the running kernel."""

from __future__ import annotations

import errno
import mmap
import os
import socket
import tempfile
import threading
import time

import pytest

from tests.ringside import take
from uring import NotSupported, RegisterBufferPool, Ring, abi, query_opcodes, query_scq, query_zcrx


def one(ring):
    (cqe,) = take(ring, 1)
    return cqe.res


# ---- files -------------------------------------------------------------------------------------------


def test_files(ring, pipe):
    ring.register_files([pipe[0], -1, pipe[1]])
    assert ring.registered_file_count == 3
    with pytest.raises(FileExistsError):
        ring.register_files([pipe[0]])
    ring.write(1, 2, b"abc", fixed_file=True)
    assert one(ring) == 3
    data = bytearray(3)
    ring.read(2, 0, data, fixed_file=True)
    assert one(ring) == 3
    assert data == b"abc"
    ring.read(3, 1, data, fixed_file=True)
    assert one(ring) == -errno.EBADF
    assert ring.register_files_update(1, [pipe[0], -2]) == 2
    os.write(pipe[1], b"xyz")
    ring.read(4, 1, data, fixed_file=True)
    assert one(ring) == 3
    ring.unregister_files()
    assert ring.registered_file_count == 0
    with pytest.raises(OSError) as caught:
        ring.unregister_files()
    assert caught.value.errno == errno.ENXIO


def test_tagged_files_say_when_they_are_gone(ring, pipe):
    ring.register_files([pipe[0], pipe[1]], tags=[7, 0])
    ring.register_files_update(0, [-1])
    (cqe,) = take(ring, 1)
    assert cqe.context.message == 7
    assert cqe.res == 0
    assert ring.in_flight == 0
    with pytest.raises(ValueError, match="1 items and 2 tags"):
        ring.register_files_update(0, [-1], tags=[1, 2])


def test_sparse_files_and_allocation(ring):
    ring.register_files_sparse(8)
    ring.register_file_alloc_range(5, 2)
    found = []
    for _ in range(3):
        ring.tcp4_socket_direct(1)
        found.append(one(ring))
    assert found == [5, 6, -errno.ENFILE]
    ring.fixed_fd_install(1, 5)
    os.close(one(ring))
    for offset, count in ((7, 2), (9, 1)):
        with pytest.raises(ValueError, match="past the end"):
            ring.register_file_alloc_range(offset, count)
    with pytest.raises(ValueError, match="past the end"):
        ring.register_files_update(8, [-1])


@pytest.mark.parametrize("fds", [[], [-2], [1 << 31], ["x"], [None]])
def test_bad_files(ring, fds):
    with pytest.raises((ValueError, TypeError)):
        ring.register_files(fds)
    assert ring.registered_file_count == 0


def test_closed_file(ring):
    with pytest.raises(OSError) as caught:
        ring.register_files([1 << 20])
    assert caught.value.errno == errno.EBADF


# ---- buffers -----------------------------------------------------------------------------------------


def test_buffers(ring):
    memory = bytearray(8192)
    ring.register_buffers([memory, None])
    assert ring.registered_buffer_count == 2
    assert ring.registered_buffer(0).nbytes == 8192
    with pytest.raises(BufferError):
        memory.append(1)
    with pytest.raises(FileExistsError):
        ring.register_buffers([memory])
    with pytest.raises(IndexError):
        ring.registered_buffer(1)
    with tempfile.TemporaryFile() as file:
        file.write(b"data" * 10)
        file.flush()
        ring.read_fixed(1, file, ring.registered_buffer(0)[100:140], 0, offset=0)
        assert one(ring) == 40
        assert memory[100:140] == b"data" * 10
        ring.write_fixed(2, file, ring.registered_buffer(0)[100:104], 0, offset=0)
        assert one(ring) == 4
        other = bytearray(64)
        assert ring.register_buffers_update(1, [other]) == 1
        ring.read_fixed(3, file, ring.registered_buffer(1), 1, offset=0)
        assert one(ring) == 40
        assert other[:8] == b"datadata"
    assert ring.register_buffers_update(0, [None]) == 1
    memory.append(1)
    ring.unregister_buffers()
    other.append(1)
    assert ring.registered_buffer_count == 0
    with pytest.raises(OSError) as caught:
        ring.unregister_buffers()
    assert caught.value.errno == errno.ENXIO


def test_tagged_buffers(ring):
    ring.register_buffers([bytearray(64)], tags=[9])
    ring.register_buffers_update(0, [None])
    assert take(ring, 1)[0].context.message == 9


def test_sparse_buffers_and_their_pool(ring):
    ring.register_buffers_sparse(4)
    assert ring.registered_buffer_count == 4
    with pytest.raises(ValueError, match="past the end"):
        ring.register_buffers_update(4, [bytearray(1)])
    ring.unregister_buffers()
    pool = RegisterBufferPool(3)
    pool.fill(lambda: b"fill")
    ring.register_buffer_pool(pool)
    index, view = pool.get()
    assert bytes(ring.registered_buffer(index)[:4]) == b"fill"
    with tempfile.TemporaryFile() as file:
        ring.write_fixed(1, file, view[:4], index, offset=0)
        assert one(ring) == 4
    pool.put(index)
    with pytest.raises(ValueError, match="not borrowed"):
        pool.put(index)


@pytest.mark.parametrize("buffers", [[b"read-only"], ["text"], [bytearray(0)], [5]])
def test_bad_registered_buffers(ring, buffers):
    with pytest.raises((ValueError, TypeError)):
        ring.register_buffers(buffers)
    assert ring.registered_buffer_count == 0


def test_clones_share_the_memory(ring):
    memory = [bytearray(b"first" + bytes(59)), bytearray(b"other" + bytes(59))]
    ring.register_buffers(memory)
    with tempfile.TemporaryFile() as file, Ring(entries=8) as whole, Ring(entries=8) as part:
        whole.clone_buffers(ring)
        part.register_buffers_sparse(4)
        part.clone_buffers(ring.fileno(), 1, 2, 1, replace=True)
        assert whole.registered_buffer_count == 2
        part.write_fixed(1, file, part.registered_buffer(2)[:5], 2, offset=0)
        assert one(part) == 5
        ring.unregister_buffers()
        whole.write_fixed(1, file, whole.registered_buffer(0)[:5], 0, offset=5)
        assert one(whole) == 5
        assert os.pread(file.fileno(), 10, 0) == b"otherfirst"
        with pytest.raises(BufferError):
            memory[0].append(1)
    memory[0].append(1)
    with pytest.raises(ValueError, match="no open ring"):
        ring.clone_buffers(0)


def test_clone_from_a_registered_ring(ring):
    with Ring(entries=8) as source:
        source.register_buffers([bytearray(64)])
        index = ring.register_ring_fd(source)
        ring.clone_buffers_from_registered(index)
        assert ring.registered_buffer_count == 1
        ring.unregister_ring_fd(index)
        with pytest.raises(ValueError, match="no ring is registered"):
            ring.clone_buffers_from_registered(index)
        with pytest.raises(ValueError, match="no ring is registered"):
            ring.unregister_ring_fd(index)


# ---- rings, credentials, workers ---------------------------------------------------------------------


def test_entering_through_the_registered_index(ring):
    index = ring.register_ring_fd()
    ring.nop(1)
    assert one(ring) == 0
    ring.unregister_ring_fd(index)
    ring.nop(2)
    assert one(ring) == 0
    ring.register_ring_fd()


def test_personality(ring, tmp_path):
    number = ring.register_personality()
    ring.openat(1, tmp_path, os.O_RDONLY, personality=number)
    os.close(one(ring))
    ring.unregister_personality(number)
    ring.openat(1, tmp_path, os.O_RDONLY, personality=number)
    assert one(ring) == -errno.EINVAL
    with pytest.raises(OSError) as caught:
        ring.unregister_personality(number)
    assert caught.value.errno == errno.EINVAL


def test_workers(ring):
    ring.register_iowq_affinity([0])
    ring.unregister_iowq_affinity()
    before = ring.register_iowq_max_workers(3, 5)
    assert before[0] > 0
    assert ring.register_iowq_max_workers() == (3, 5)
    with pytest.raises(ValueError, match="at least one"):
        ring.register_iowq_affinity([])
    with pytest.raises(ValueError, match="processor"):
        ring.register_iowq_affinity([-1])


def test_eventfd(ring):
    fd = os.eventfd(0, os.EFD_NONBLOCK)
    ring.register_eventfd(fd)
    with pytest.raises(OSError) as caught:
        ring.register_eventfd(fd)
    assert caught.value.errno == errno.EBUSY
    ring.nop(1)
    assert one(ring) == 0
    assert os.eventfd_read(fd) >= 1
    ring.unregister_eventfd()
    ring.register_eventfd(fd, async_only=True)
    ring.nop(1)
    assert one(ring) == 0
    with pytest.raises(BlockingIOError):
        os.eventfd_read(fd)
    ring.unregister_eventfd()
    with pytest.raises(OSError) as caught:
        ring.unregister_eventfd()
    assert caught.value.errno == errno.ENXIO
    os.close(fd)


def test_napi(ring):
    ring.register_napi(50, True)
    ring.unregister_napi()
    ring.register_napi(50, False, abi.IO_URING_NAPI_TRACKING_STATIC)
    try:
        ring.napi_add_static_id(8192)
        ring.napi_del_static_id(8192)
    except OSError as error:
        assert error.errno == errno.EINVAL, "no such device queue here"
    ring.unregister_napi()


def test_clock(ring):
    ring.register_clock(time.CLOCK_BOOTTIME)
    assert ring.wait(timeout=0.01) == []
    ring.register_clock(time.CLOCK_MONOTONIC)
    with pytest.raises(OSError) as caught:
        ring.register_clock(time.CLOCK_REALTIME)
    assert caught.value.errno == errno.EINVAL


# ---- regions, size -----------------------------------------------------------------------------------


def test_registered_waits(pipe):
    ring = Ring(entries=8)
    region = ring.register_wait_region(4)
    region.set(1, 0.01)
    region.set(2, None)
    assert (region.timeout(1), region.timeout(2)) == (pytest.approx(0.01), None)
    with ring:
        assert ring.wait_registered(1) == []
        ring.nop(1)
        assert [c.user_data for c in ring.wait_registered(1)] == [1]
        data = bytearray(1)
        ring.read(2, pipe[0], data)
        writer = threading.Timer(0.02, os.write, (pipe[1], b"x"))
        writer.start()
        assert [c.user_data for c in ring.wait_registered(2)] == [2]
        writer.join()
        for index in (4, -1):
            with pytest.raises(IndexError, match=f"entry {index} of 4"):
                ring.wait_registered(index)
        with pytest.raises(TypeError, match="an int, not str"):
            ring.wait_registered("1")
    with Ring(entries=8) as plain, pytest.raises(IndexError, match="of 0 does not exist"):
        plain.wait_registered()
    with pytest.raises(IndexError):
        region.set(4, 1.0)
    with pytest.raises(ValueError, match="0 or more"):
        region.set(0, -1.0)


def test_memory_region(ring):
    region = ring.register_mem_region(5000)
    assert region.size == 2 * mmap.PAGESIZE
    region.view[:4] = b"data"
    with pytest.raises(OSError) as caught:
        ring.register_mem_region(1)
    assert caught.value.errno == errno.EBUSY


@pytest.mark.parametrize("array", [False, True])
def test_resize(array, pipe):
    with Ring(entries=8, indirect_submission_queue=array) as ring:
        data = bytearray(1)
        ring.read(1, pipe[0], data)
        ring.flush()
        ring.nop(2)
        ring.flush()
        for i in range(3):
            ring.nop(10 + i)
        ring.resize_rings(64, 256)
        assert (ring.features.sq_entries, ring.features.cq_entries) == (64, 256)
        for i in range(60):
            ring.nop(100 + i)
        os.write(pipe[1], b"x")
        found = take(ring, 65)
        assert sorted(c.user_data for c in found) == [1, 2, 10, 11, 12, *range(100, 160)]
        for i in range(600):
            ring.nop(i)
        assert len(take(ring, 600)) == 600
        ring.resize_rings(4)
        assert (ring.features.sq_entries, ring.features.cq_entries) == (4, 8)
        ring.nop(1)
        assert one(ring) == 0
        for sizes in ((3, 8), (8, 4), (65536, 0), (-1, 0)):
            with pytest.raises(ValueError, match="size"):
                ring.resize_rings(*sizes)


def test_only_rings_with_deferred_work_resize():
    with Ring(entries=8, multi_issuers=True) as ring, pytest.raises(NotSupported, match="deferred work"):
        ring.resize_rings(16)


# ---- cancelling, queries -----------------------------------------------------------------------------


def test_sync_cancel(ring, pipe):
    data = bytearray(1)
    for i in range(3):
        ring.read(5, pipe[0], data)
        ring.read(10 + i, pipe[0], data)
    with pytest.raises(ValueError, match="share"):
        ring.sync_cancel(5)
    assert ring.sync_cancel(5, every=True) == 3
    assert ring.sync_cancel(10) == 0
    # What was cancelled is found again until its completion is taken.
    assert [c.res for c in take(ring, 4)] == [-errno.ECANCELED] * 4
    assert ring.sync_cancel(fd=pipe[0], all=True) == 2
    assert [c.res for c in take(ring, 2)] == [-errno.ECANCELED] * 2
    with pytest.raises(FileNotFoundError):
        ring.sync_cancel(10)
    ring.timeout(1, 100.0)
    assert ring.sync_cancel(opcode=abi.IORING_OP_TIMEOUT) == 0
    ring.timeout(1, 100.0)
    assert ring.sync_cancel(any=True) == 1
    assert len(take(ring, 2)) == 2
    for bad in ({}, {"any": True, "fd": 0}, {"user_data": 1, "timeout": -1}):
        with pytest.raises(ValueError, match=r"cancel|excludes|timeout"):
            ring.sync_cancel(**bad)


def test_sync_cancel_has_a_limit(ring, tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with socket.create_server(("127.0.0.1", 0)) as server:
        ring.accept(1, server)
        assert ring.sync_cancel(1, timeout=2.0) == 0
    assert one(ring) == -errno.ECANCELED


def test_queries(ring):
    have = query_opcodes()
    assert have == ring.query_opcodes()
    assert have.nr_request_opcodes >= 63
    assert have.ring_setup_flags & abi.IORING_SETUP_CQE_MIXED
    for ask, own in ((query_zcrx, ring.query_zcrx), (query_scq, ring.query_scq)):
        try:
            answer = ask()
        except NotSupported as error:
            assert "6.19" in str(error)
            with pytest.raises(NotSupported):
                own()
        else:
            assert answer == own()
