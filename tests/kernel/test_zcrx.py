"""Zero-copy receive without a network card, over loopback: every byte in order, however it begins and ends.

It needs Linux 7.1 or 7.2; on older kernels each test ends with NotSupported.
"""

from __future__ import annotations

import errno
import mmap
import os
import socket
import struct
import threading

import pytest

from tests.newer import since
from uring import Ring, ZCRXConfig, ZCRXHandler, ZCRXReceiver, ZCRXState, abi, dispatch, ops, query_zcrx
from uring.abi.layouts import QUERY_HDR, QUERY_ZCRX_EVENT
from uring.kernel.memory import zeroed
from uring.kernel.registering import register_blind

PAGE = mmap.PAGESIZE
NODEV = int(abi.ZCRX_REG_NODEV)
ALL_EVENTS = 1 << abi.ZCRX_EVENT_ALLOC_FAIL | 1 << abi.ZCRX_EVENT_COPY
without_card = since(7, 1, r"ZCRX_REG_NODEV.*Linux 7\.1")
with_events = since(7, 2, r"ZCRX_(REG_NODEV.*Linux 7\.1|FEATURE_EVENT.*Linux 7\.2)")


class Log(ZCRXHandler):
    """Keeps what arrives; ``keep`` says how many buffers it does not release."""

    def __init__(self, keep=0):
        self.received, self.sizes, self.errors, self.kept = bytearray(), [], [], []
        self.keep, self.stopped, self.ended = keep, 0, False

    def on_data(self, buffer):
        if not len(buffer):
            self.ended = True
            return
        self.received += buffer.bytes
        self.sizes.append(len(buffer))
        if len(self.kept) < self.keep:
            self.kept.append(buffer)
        else:
            buffer.release()

    def on_error(self, error):
        self.errors.append(error.errno)

    def on_stopped(self):
        self.stopped += 1


@pytest.fixture(params=["cqe32", "cqe_mixed"])
def ring(request):
    with Ring(entries=16, cq_entries=256, **{request.param: True}) as ring:
        yield ring
        assert ring.in_flight == 0
        assert ring.pools.extended_available == ring.pools.capacity


@pytest.fixture
def sent():
    """Sends in a thread, so that the test can receive meanwhile."""
    threads = []

    def start(sock, data, shut=False):
        def send():
            sock.sendall(data)
            if shut:
                sock.shutdown(socket.SHUT_WR)

        threads.append(threading.Thread(target=send))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def receiver_of(ring, pages=16, entries=16):
    return ZCRXReceiver(ring, ring.pools, ZCRXConfig(None, area_size=pages * PAGE, rq_entries=entries))


def run(ring, until):
    while not until():
        cqes = ring.wait(timeout=60.0)
        assert cqes, "the kernel did not answer"
        for cqe in cqes:
            assert dispatch(cqe)


@without_card
@pytest.mark.parametrize("size", [1, 100, PAGE, PAGE + 1, 3 * PAGE, 100_000, 3 << 20])
def test_every_byte_in_order(ring, tcp_pair, sent, size):
    receiver, log = receiver_of(ring), Log()
    receiver.start(tcp_pair[1], log)
    data = os.urandom(size)
    sent(tcp_pair[0], data, shut=True)
    run(ring, lambda: log.stopped)
    assert log.received == data
    assert (log.ended, log.errors, receiver.state) == (True, [], ZCRXState.STOPPED)
    assert max(log.sizes) <= PAGE
    assert receiver.queue.on_loan == 0


@without_card
@pytest.mark.parametrize(("pages", "entries"), [(2, 1), (1, 4), (8, 2), (3, 64)])
def test_small_areas_and_refill_rings(ring, tcp_pair, sent, pages, entries):
    """Memory is used again and again, also where the refill ring holds less than the area."""
    receiver, log = receiver_of(ring, pages, entries), Log()
    receiver.start(tcp_pair[1], log)
    data = os.urandom(300_000)
    sent(tcp_pair[0], data, shut=True)
    run(ring, lambda: log.stopped)
    assert log.received == data
    assert receiver.queue.refilled == len(log.sizes) > pages


@without_card
def test_a_handler_that_keeps_everything_waits(ring, tcp_pair, sent):
    receiver, log = receiver_of(ring, pages=4), Log(keep=4)
    receiver.start(tcp_pair[1], log)
    data = os.urandom(20 * PAGE)
    sent(tcp_pair[0], data, shut=True)
    run(ring, lambda: receiver.state is ZCRXState.STARVED)
    assert receiver.active
    assert receiver.queue.on_loan == len(log.kept) == 4
    seen = bytes(log.received)
    assert seen == data[: len(seen)]
    assert b"".join(bytes(buffer.bytes) for buffer in log.kept) == seen
    log.keep = 0
    for buffer in reversed(log.kept):
        buffer.release()
    assert receiver.state is ZCRXState.ACTIVE
    run(ring, lambda: log.stopped)
    assert (log.received, log.errors) == (data, [])


@without_card
def test_a_reset(ring, tcp_pair):
    receiver, log = receiver_of(ring), Log()
    receiver.start(tcp_pair[1], log)
    tcp_pair[0].sendall(b"before")
    run(ring, lambda: log.received == b"before")
    tcp_pair[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    tcp_pair[0].close()
    run(ring, lambda: log.stopped)
    assert log.errors == [errno.ECONNRESET]


@without_card
@pytest.mark.parametrize("starved", [False, True])
def test_stop_with_buffers_outstanding(ring, tcp_pair, starved):
    """Buffers that the handler has stay readable; data that was not received stays in the socket."""
    receiver, log = receiver_of(ring, pages=2), Log(keep=2)
    receiver.start(tcp_pair[1], log)
    data = os.urandom(5 * PAGE if starved else 100)
    tcp_pair[0].sendall(data)
    run(ring, lambda: receiver.state is ZCRXState.STARVED if starved else log.received)
    receiver.stop()
    run(ring, lambda: receiver.stopped)
    receiver.stop()
    assert (log.stopped, log.errors) == (1, [])
    tcp_pair[0].shutdown(socket.SHUT_WR)
    rest = b""
    while piece := tcp_pair[1].recv(1 << 16):
        rest += piece
    kept = b"".join(bytes(buffer.bytes) for buffer in log.kept)
    assert kept + rest == data
    ring.stop()
    receiver.close()
    assert b"".join(bytes(buffer.bytes) for buffer in log.kept) == kept
    for buffer in log.kept:
        buffer.release()


@without_card
def test_a_full_completion_queue_ends_nothing(tcp_pair, sent):
    with Ring(entries=4, cq_entries=4, cqe32=True) as ring:
        receiver, log = receiver_of(ring, pages=64, entries=64), Log()
        receiver.start(tcp_pair[1], log)
        data = os.urandom(1 << 20)
        sent(tcp_pair[0], data, shut=True)
        run(ring, lambda: log.stopped)
        assert (log.received, log.errors) == (data, [])


@without_card
def test_two_connections_share_a_queue(ring, tcp_pair, sent):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        left = socket.create_connection(listener.getsockname())
        right, _ = listener.accept()
    with left, right:
        first = receiver_of(ring, pages=4)
        second = ZCRXReceiver(ring, ring.pools, queue=first.queue)
        logs = Log(), Log()
        texts = os.urandom(200_000), os.urandom(150_000)
        for receiver, log, (near, far), text in zip(
            (first, second), logs, (tcp_pair, (left, right)), texts, strict=True
        ):
            receiver.start(far, log)
            sent(near, text, shut=True)
        run(ring, lambda: all(log.stopped for log in logs))
        assert tuple(bytes(log.received) for log in logs) == texts


@without_card
def test_what_is_refused(ring, tcp_pair):
    area, region = mmap.mmap(-1, 2 * PAGE), mmap.mmap(-1, PAGE)
    queue = ring.register_zcrx_ifq(0, 0, 3, area, region, flags=NODEV)
    assert queue.entries == 4
    with pytest.raises(OSError, match="without a card"):
        ring.register_zcrx_ifq(0, 0, 4, area, region, 2 * PAGE, flags=NODEV)
    left, right = socket.socketpair()
    with left, right, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        for fd, number, wanted in (
            (left, queue.zcrx_id, errno.EPROTONOSUPPORT),
            (udp, queue.zcrx_id, errno.EPROTONOSUPPORT),
            (tcp_pair[0], queue.zcrx_id + 1, errno.EINVAL),
        ):
            ring.submit(ops.recv_zero_copy(fd, number))
            (cqe,) = ring.wait(timeout=60.0)
            assert cqe.res == -wanted


def test_arguments_of_a_queue_without_a_card():
    with Ring(entries=8, cqe32=True) as ring:
        area, region = bytearray(8), bytearray(8)
        for if_index, rx_queue in ((1, 0), (0, 1)):
            with pytest.raises(ValueError, match="is 0 to 0"):
                ring.register_zcrx_ifq(if_index, rx_queue, 8, area, region, flags=NODEV)
        with pytest.raises(ValueError, match="flags are ZCRX_REG_NODEV or 0, not 0x1"):
            ring.register_zcrx_ifq(1, 0, 8, area, region, flags=int(abi.ZCRX_REG_IMPORT))
        with pytest.raises(ValueError, match="events is 0 to 3"):
            ring.register_zcrx_ifq(1, 0, 8, area, region, events=4)
        with pytest.raises(ValueError, match="event_message"):
            ring.register_zcrx_ifq(1, 0, 8, area, region, events=1, event_message=1 << 62)
        with pytest.raises(ValueError, match="event is 0 to 1"):
            ring.zcrx_arm_event(0, 2)


# ---- control and events ------------------------------------------------------------------------------


@without_card
def test_export_and_flush(ring):
    queue = ring.register_zcrx_ifq(0, 0, 4, mmap.mmap(-1, 4 * PAGE), mmap.mmap(-1, PAGE), flags=NODEV)
    fd = ring.zcrx_export(queue.zcrx_id)
    try:
        assert os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[zcrx]"
    finally:
        os.close(fd)
    for _ in range(4):
        queue.refill(0, PAGE)
    ring.zcrx_flush_rq(queue.zcrx_id)
    assert queue.room == 4
    for control in (ring.zcrx_flush_rq, ring.zcrx_export):
        with pytest.raises(OSError, match=os.strerror(errno.ENXIO)):
            control(queue.zcrx_id + 1)


@with_events
def test_copies_are_told_once_and_counted(ring, tcp_pair):
    """Without a card everything is copied. An event completes again after it was armed."""
    queue = ring.register_zcrx_ifq(
        0,
        0,
        8,
        mmap.mmap(-1, 8 * PAGE),
        mmap.mmap(-1, PAGE),
        flags=NODEV,
        events=ALL_EVENTS,
        event_message=77,
        count_copies=True,
    )
    assert queue.copies == (0, 0)
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        ring.zcrx_arm_event(queue.zcrx_id, abi.ZCRX_EVENT_COPY)  # it was not told
    ring.submit(ops.recv_zero_copy(tcp_pair[1], queue.zcrx_id), 5)

    def told(size):
        """Receives so much; the events that were told meanwhile."""
        tcp_pair[0].sendall(bytes(size))
        events = []
        while size:
            for cqe in ring.wait(timeout=60.0):
                if cqe[0] == 5:
                    size -= cqe.res
                else:
                    events.append((cqe.context.message, cqe.res))
        while more := ring.wait(timeout=0.2):
            events += [(cqe.context.message, cqe.res) for cqe in more]
        return events

    assert told(100) == [(77, abi.ZCRX_EVENT_COPY)]
    assert told(200) == []
    pieces, size = queue.copies
    assert pieces >= 2
    assert size == 300
    ring.zcrx_arm_event(queue.zcrx_id, abi.ZCRX_EVENT_COPY)
    assert told(50) == [(77, abi.ZCRX_EVENT_COPY)]
    assert queue.copies.size == 350
    tcp_pair[0].close()
    (last,) = ring.wait(timeout=60.0)
    assert last.res == 0


@with_events
def test_counts_need_room_in_the_region(ring):
    area, region = mmap.mmap(-1, PAGE), mmap.mmap(-1, PAGE)
    try:
        ring.register_zcrx_ifq(0, 0, 256, area, region, flags=NODEV, count_copies=True)
    except ValueError as error:
        assert "no room for counts behind 256 entries: 4176 are needed" in str(error)
    else:
        pytest.fail("the counts are outside of the region")


@without_card
def test_copies_are_counted_on_request(ring):
    queue = ring.register_zcrx_ifq(0, 0, 4, mmap.mmap(-1, PAGE), mmap.mmap(-1, PAGE), flags=NODEV)
    with pytest.raises(ValueError, match="count_copies"):
        _ = queue.copies


@since(7, 2, r"ZCRX_CTRL_ARM_EVENT.*Linux 7\.2")
def test_an_event_of_no_queue(ring):
    try:
        ring.zcrx_arm_event(9, abi.ZCRX_EVENT_COPY)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
    else:
        pytest.fail("there is no queue 9")


@since(7, 2, r"QUERY_ZCRX.*Linux 6\.19")
def test_the_kernel_knows_the_numbers_of_events():
    known = query_zcrx()
    assert known.register_flags == int(abi.ZCRX_REG_IMPORT | abi.ZCRX_REG_NODEV)
    assert known.nr_ctrl_opcodes >= abi.ZCRX_CTRL_ARM_EVENT + 1
    answer, request = zeroed(QUERY_ZCRX_EVENT.size), zeroed(QUERY_HDR.size)
    QUERY_HDR.pack_into(
        request.view, 0, 0, answer.address, abi.IO_URING_QUERY_ZCRX_EVENT, QUERY_ZCRX_EVENT.size, 0
    )
    register_blind(int(abi.IORING_REGISTER_QUERY), request.address, 0)
    assert QUERY_ZCRX_EVENT.unpack(answer.view) == (ALL_EVENTS, 16, 8)
