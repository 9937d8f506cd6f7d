"""Subscriptions on the running kernel."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from uring import (
    MultishotAction,
    MultishotHandler,
    PoolExhausted,
    Ring,
    RingClosed,
    SubscriptionState,
    abi,
    dispatch,
    for_fd,
    ops,
)

CONTINUE, STOP = MultishotAction
GROUP = 2


class Log(MultishotHandler):
    def __init__(self, stop_at=None):
        self.steps = []
        self.stops = []
        self.stop_at = stop_at

    def on_multishot_step(self, step):
        self.steps.append(step.cqe)
        return STOP if len(self.steps) == self.stop_at else CONTINUE

    def on_multishot_stop(self, error, cancelled):
        self.stops.append((error and error.errno, cancelled))


@pytest.fixture
def ring():
    with Ring(entries=8) as ring:
        yield ring
        run(ring)
        assert ring.in_flight == 0
        assert ring.pools.extended_available == ring.pools.capacity


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    with left, right:
        yield left, right


def run(ring, until=None):
    """Dispatches completions until the condition holds, or there are none; those of nobody."""
    others = []
    while until is None or not until():
        cqes = ring.wait(timeout=0.0 if until is None else 30.0)
        if until is None and not cqes:
            return others
        assert cqes, "the kernel did not answer"
        others += [cqe for cqe in cqes if not dispatch(cqe)]
    return others


def connect(listener, n):
    return [socket.create_connection(listener.getsockname()) for _ in range(n)]


def close_all(sockets, fds):
    for each in sockets:
        each.close()
    for fd in fds:
        os.close(fd)


def test_accept(ring, listener):
    log = Log()
    sub = ring.accept_multishot(for_fd(listener.fileno()), log)
    ring.flush()
    clients = connect(listener, 3)
    run(ring, lambda: len(log.steps) == 3)
    fds = [cqe.res for cqe in log.steps]
    assert all(os.get_inheritable(fd) is False for fd in fds)
    assert sub.state is SubscriptionState.ACTIVE
    sub.cancel()
    assert run(ring, lambda: log.stops) == []  # a cancel that succeeds says nothing
    assert log.stops == [(errno.ECANCELED, True)]
    assert sub.state is SubscriptionState.STOPPED
    close_all(clients, fds)


def test_a_handler_stops_it(ring, listener):
    log = Log(stop_at=1)
    sub = ring.accept_multishot(for_fd(listener.fileno()), log)
    ring.flush()
    clients = connect(listener, 1)
    run(ring, lambda: log.stops)
    assert not sub.active
    assert log.stops == [(errno.ECANCELED, True)]
    close_all(clients, [cqe.res for cqe in log.steps if cqe.res >= 0])


def test_unsubscribed_connections_are_closed(ring, listener):
    log = Log()
    sub = ring.accept_multishot(for_fd(listener.fileno()), log)
    ring.flush()
    clients = connect(listener, 2)
    sub.unsubscribe()
    run(ring, lambda: not sub.active)
    assert (log.steps, log.stops) == ([], [])
    for client in clients:  # accepted before the cancel and closed, or never accepted
        client.settimeout(30)
    listener.close()
    for client in clients:
        try:
            assert client.recv(1) == b""
        except ConnectionResetError:
            pass
    close_all(clients, [])


def test_recv(ring, pair):
    buffers = ring.register_buf_ring(4, GROUP, 64)
    got = []

    def on_step(step):
        if step.cqe.has_buffer:
            got.append(bytes(buffers.views[step.cqe.buf_id][: step.cqe.res]))
            buffers.put(step.cqe.buf_id)
        return CONTINUE if step.error is None else STOP

    stops = []
    handler = MultishotHandler.from_callbacks(on_step, lambda *what: stops.append(what))
    sub = ring.recv_multishot(for_fd(pair[0].fileno()).with_buf_group(GROUP), handler)
    ring.flush()
    for i in range(10):
        pair[1].send(b"%d" % i)
        run(ring, lambda: len(got) > i)
    pair[1].close()
    run(ring, lambda: stops)
    assert got == [b"%d" % i for i in range(10)]
    assert stops == [(None, False)]
    assert not sub.active


def test_recv_unsubscribed_gives_buffers_back(ring, pair):
    buffers = ring.register_buf_ring(1, GROUP, 64)
    sub = ring.recv_multishot(for_fd(pair[0].fileno()).with_buf_group(GROUP), Log())
    ring.flush()
    pair[1].send(b"unheard")
    sub.unsubscribe()
    run(ring, lambda: not sub.active)
    pair[1].send(b"!")
    ring.submit(ops.recv(pair[0].fileno(), buffer_group=GROUP), for_fd(pair[0].fileno()))
    (cqe,) = ring.wait(timeout=30.0)
    assert (cqe.has_buffer, cqe.buf_id) == (True, 0)
    buffers.put(0)


def test_it_ends_without_buffers_and_is_taken_up_again(ring, pair):
    buffers = ring.register_buf_ring(1, GROUP, 4)
    subs, ends, got = [], [], []

    def on_step(step):
        if step.cqe.has_buffer:
            got.append(bytes(buffers.views[step.cqe.buf_id][: step.cqe.res]))
        return CONTINUE

    def on_stop(error, cancelled):
        ends.append(error and error.errno)
        if error is not None and error.errno == errno.ENOBUFS:
            buffers.put(0)
            start()

    def start():
        handler = MultishotHandler.from_callbacks(on_step, on_stop)
        subs.append(ring.recv_multishot(for_fd(pair[0].fileno()).with_buf_group(GROUP), handler))

    start()
    ring.flush()
    pair[1].send(b"abcdefgh")
    run(ring, lambda: len(got) == 2)
    pair[1].close()
    run(ring, lambda: ends and ends[-1] is None)
    assert b"".join(got) == b"abcdefgh"
    assert errno.ENOBUFS in ends
    assert not any(sub.active for sub in subs)


def test_any_multishot(ring, pair):
    log = Log()
    sub = ring.subscribe(ops.poll_add_multishot(pair[0].fileno(), 1), log)
    ring.flush()
    for i in range(3):
        pair[1].send(b"x")
        run(ring, lambda: len(log.steps) > i)
    sub.cancel()
    run(ring, lambda: log.stops)
    assert log.stops == [(errno.ECANCELED, True)]


def test_a_late_cancel_does_no_harm(ring, pair):
    ring.register_buf_ring(1, GROUP, 4)
    log = Log()
    sub = ring.recv_multishot(for_fd(pair[0].fileno()).with_buf_group(GROUP), log)
    pair[1].close()
    ring.flush()
    sub.cancel()
    others = run(ring, lambda: log.stops) + run(ring)
    assert log.stops == [(None, False)]
    assert [cqe.res for cqe in others] in ([], [-errno.ENOENT])


def test_an_error_at_once(ring):
    log = Log()
    fd = os.open("/dev/null", os.O_RDONLY)
    ring.accept_multishot(for_fd(fd), log)
    run(ring, lambda: log.stops)
    os.close(fd)
    assert log.stops == [(errno.ENOTSOCK, False)]


def test_a_fixed_file(ring, listener):
    ring.register_files([listener.fileno()])
    log = Log()
    sub = ring.accept_multishot(for_fd(0).with_flags(int(abi.IOSQE_FIXED_FILE)), log)
    ring.flush()
    clients = connect(listener, 1)
    run(ring, lambda: log.steps)
    sub.cancel()
    run(ring, lambda: log.stops)
    close_all(clients, [log.steps[0].res])


def test_no_slot_left(pair):
    with Ring(entries=8, context_capacity=1) as ring:
        sub = ring.subscribe(ops.poll_add_multishot(pair[0].fileno(), 1), Log())
        with pytest.raises(PoolExhausted):
            ring.subscribe(ops.poll_add_multishot(pair[0].fileno(), 1), Log())
        sub.cancel()
        run(ring, lambda: not sub.active)


def test_cancel_from_another_thread(pair):
    import threading

    with Ring(entries=8, multi_issuers=True) as ring:
        log = Log()
        sub = ring.subscribe(ops.poll_add_multishot(pair[0].fileno(), 1), log)
        ring.flush()
        threads = [threading.Thread(target=lambda: (sub.cancel(), ring.flush())) for _ in range(4)]
        for thread in threads:
            thread.start()
        run(ring, lambda: log.stops)
        for thread in threads:
            thread.join()
        assert log.stops == [(errno.ECANCELED, True)]


@pytest.mark.parametrize("end", ["cancel", "unsubscribe"])
def test_another_thread_cancels_on_a_ring_that_sleeps(ring, pair, end):
    import threading

    log = Log()
    sub = ring.subscribe(ops.poll_add_multishot(pair[0].fileno(), 1), log)
    thread = threading.Thread(target=getattr(sub, end))
    ring.nop(5)
    assert [cqe.user_data for cqe in ring.wait(timeout=20)] == [5]
    thread.start()
    # The other thread wakes this one, which queues the cancel; nothing else is seen of it.
    (cqe,) = ring.wait(timeout=None)
    assert cqe.res == -errno.ECANCELED
    assert dispatch(cqe)
    thread.join()
    assert not sub.active
    assert log.stops == ([(errno.ECANCELED, True)] if end == "cancel" else [])
    assert ring.wait() == []
    assert ring.in_flight == 0


def test_another_thread_cancels_on_a_ring_that_has_stopped(pair):
    import threading

    failures = []
    with Ring(entries=8) as ring:
        sub = ring.subscribe(ops.poll_add_multishot(pair[0].fileno(), 1), Log())
        assert sub.active

    def cancel():
        try:
            sub.cancel()
        except RingClosed as error:
            failures.append(error)

    thread = threading.Thread(target=cancel)
    thread.start()
    thread.join()
    assert len(failures) == 1
    assert (sub.active, sub.state) == (False, SubscriptionState.STOPPED), "no completion comes any more"


def test_a_subscription_ends_with_its_block(ring, pair):
    """What arrived and was not seen is undone, and completions of others stay."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        before = set(os.listdir("/proc/self/fd"))
        log = Log()
        with ring.accept_multishot(for_fd(server.fileno()), log) as sub:
            other = ring.nop()
            ring.flush()
            with socket.create_connection(server.getsockname()):
                pass
        assert not sub.active
        assert (log.steps, log.stops) == ([], [])
        assert [cqe.request for cqe in ring.drain(20)] == [other]
        assert set(os.listdir("/proc/self/fd")) == before
