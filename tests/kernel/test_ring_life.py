"""Starting, threads and stopping of the ring, against the running kernel."""

from __future__ import annotations

import errno
import os
import socket
import stat
import threading
import time
import warnings

import pytest

import uring
from uring import Ring, RingClosed, abi, ops
from uring.kernel.ring import CQE

LINK = int(abi.IOSQE_IO_LINK)


# ---- threads ----------------------------------------------------------------------------------------------


def in_thread(function):
    caught = []

    def run():
        try:
            function()
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    return caught[0] if caught else None


def test_completions_that_the_kernel_dropped_are_told(ring):
    """It drops some only when it has no memory, which a test cannot arrange: its answer is scripted."""
    ring._reap = lambda timeout: -errno.EBADR
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
            assert ring.wait(timeout=30.0)[0].user_data == 3

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
        thread.join(30)
    assert len(errors) == 3


# ---- stopping ---------------------------------------------------------------------------------------------


def test_after_the_stop_there_is_one_answer(pipe):
    ring = Ring(entries=8)
    ring.start()
    ext = ring.ext_sqe()
    ring.nop(ext.context)
    (cqe,) = ring.wait(timeout=30.0)
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
            client.settimeout(30)
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
        # The connection is left open: its number could be another file's.
        (left,) = sockets() - before
        os.close(int(left))


def test_what_does_not_end_is_leaked_with_a_warning(tmp_path):
    """Opening a fifo blocks a kernel worker; a drain of no time at all cannot wait for it."""
    from uring.session import start_stop as core

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
    deadline = time.monotonic() + 30
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


def test_a_forked_child_frees_its_copy_of_the_tables(ring):
    handle = ring._kernel._handle
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        there = bool(handle.out)
        ring.stop()
        os._exit(0 if there and not handle.out else 1)
    assert os.waitpid(pid, 0)[1] == 0
    ring.nop(2)
    assert ring.wait(timeout=30.0)[0].user_data == 2


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
    assert ring.wait(timeout=30.0)[0].user_data == 2


def test_stop_outlasts_a_timer_that_fires_before_a_cancel_finds_it():
    with warnings.catch_warnings(record=True) as warned, Ring(uring.Options(entries=8)) as ring:
        ring.submit(ops.timeout(1e-6, multishot=True, count=1000), 1)
        ring.submit(ops.nop(sqe_flags=int(abi.IOSQE_IO_DRAIN)), 2)  # holds back a cancel that is queued
        ring.flush()
    assert not warned
