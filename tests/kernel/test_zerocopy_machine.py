"""Zero-copy sends on the running kernel, and the refusals of zero-copy receives."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from uring import (
    NotSupported,
    Ring,
    ZCHandler,
    ZCRXConfig,
    ZCRXReceiver,
    ZCTracker,
    abi,
    dispatch,
    ops,
)
from uring.session.regions import aligned_mem_block


class Log(ZCHandler):
    def __init__(self):
        self.told = []

    def on_completed(self, result):
        self.told.append(("completed", result))

    def on_notification(self, result):
        self.told.append(("notified", result))


@pytest.fixture
def ring():
    with Ring(entries=8) as ring:
        yield ring
        assert ring.in_flight == 0
        assert ring.pools.extended_available == ring.pools.capacity


@pytest.fixture
def pair(tcp_pair):
    tcp_pair[1].settimeout(30)
    return tcp_pair


def run(ring, until):
    while not until():
        cqes = ring.wait(timeout=30.0)
        assert cqes, "the kernel did not answer"
        for cqe in cqes:
            assert dispatch(cqe)


def test_send(ring, pair):
    tracker, log = ZCTracker(ring, ring.pools), Log()
    data = bytearray(b"zero" * 4)
    tracker.send_zc(pair[0].fileno(), data, log)
    with pytest.raises(BufferError):
        data.append(0)  # the ring holds it
    run(ring, lambda: log.told)
    assert pair[1].recv(64) == b"zero" * 4
    run(ring, lambda: not tracker.pending)
    assert log.told == [("completed", 16), ("notified", 16)]
    data.append(0)


def test_send_fixed(ring, pair):
    tracker, log = ZCTracker(ring, ring.pools), Log()
    ring.register_buffers([bytearray(b"0123456789")])
    tracker.send_zc_fixed(pair[0].fileno(), 0, 3, 4, log)
    run(ring, lambda: not tracker.pending)
    assert pair[1].recv(64) == b"3456"
    assert log.told == [("completed", 4), ("notified", 4)]
    with pytest.raises(IndexError):
        tracker.send_zc_fixed(pair[0].fileno(), 1, 0, 1, log)


def test_many_at_once(ring, pair):
    tracker, log = ZCTracker(ring, ring.pools), Log()
    for i in range(6):
        tracker.send_zc(pair[0].fileno(), bytes([i]) * 10, log)
    assert tracker.pending == 6
    run(ring, lambda: not tracker.pending)
    assert sorted(log.told) == [("completed", 10)] * 6 + [("notified", 10)] * 6


def test_an_error_still_owes_its_notification(ring):
    tracker, log = ZCTracker(ring, ring.pools), Log()
    left, right = socket.socketpair()
    with left, right:
        tracker.send_zc(left.fileno(), b"x", log)
        run(ring, lambda: not tracker.pending)
    assert log.told == [("completed", -errno.EOPNOTSUPP), ("notified", -errno.EOPNOTSUPP)]


def test_a_bad_descriptor(ring):
    tracker, log = ZCTracker(ring, ring.pools), Log()
    fd = os.open("/dev/null", os.O_RDONLY)
    tracker.send_zc(fd, b"x", log)
    run(ring, lambda: not tracker.pending)
    os.close(fd)
    assert log.told == [("completed", -errno.ENOTSOCK), ("notified", -errno.ENOTSOCK)]


def test_other_completions_pass_by(ring):
    tracker = ZCTracker(ring, ring.pools)
    ring.submit(ops.nop())
    (cqe,) = ring.wait(timeout=30.0)
    assert not dispatch(cqe)
    assert not tracker.handle_cqe(cqe)


# ---- zero-copy receive: no card here can do it -------------------------------------------------------


def test_a_receiver_needs_wide_completions(ring):
    with pytest.raises(NotSupported, match=r"Options\(cqe32=True\)"):
        ZCRXReceiver(ring, ring.pools, ZCRXConfig("lo", 0))


def test_the_kernel_refuses_loopback():
    with Ring(entries=8, cqe32=True) as ring:
        with pytest.raises((NotSupported, PermissionError), match=r"interface 'lo', queue 0") as caught:
            ZCRXReceiver(ring, ring.pools, ZCRXConfig("lo", 0))
        assert caught.value.errno in (errno.EOPNOTSUPP, errno.EPERM)
        with pytest.raises(OSError, match="'nowhere0'") as missing:
            ZCRXReceiver(ring, ring.pools, ZCRXConfig("nowhere0", 0))
        assert missing.value.errno == errno.ENODEV
        with pytest.raises(OSError, match="interface 4294967295") as unknown:
            ring.register_zcrx_ifq((1 << 32) - 1, 0, 8, aligned_mem_block(8192), aligned_mem_block(8192))
        assert unknown.value.errno in (errno.ENODEV, errno.EINVAL, errno.EPERM)
        with pytest.raises(ValueError):
            ring.register_zcrx_ifq(0, 0, 8, bytearray(8), bytearray(8))
        for bad in (-1, (1 << 30) + 1):
            with pytest.raises(ValueError, match="rx_buf_len"):
                ring.register_zcrx_ifq(1, 0, 8, bytearray(8), bytearray(8), rx_buf_len=bad)
        with pytest.raises(TypeError, match="read-only"):
            ring.register_zcrx_ifq(1, 0, 8, bytes(8), bytearray(8))


def test_control_needs_a_newer_kernel_or_a_queue():
    with Ring(entries=8, cqe32=True) as ring:
        newer = ring.query_opcodes().nr_register_opcodes > abi.IORING_REGISTER_ZCRX_CTRL
        for control in (ring.zcrx_flush_rq, ring.zcrx_export):
            with pytest.raises(OSError if newer else NotSupported):
                control(0)
            with pytest.raises(ValueError):
                control(-1)
