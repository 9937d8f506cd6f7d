"""One payload to many sockets: which sends copy and which do not, and that every byte arrives."""

from __future__ import annotations

import contextlib
import errno
import socket

import pytest

from tests.ringside import take
from uring import RegisterBufferPool, Ring, abi, for_fd, pack_extended
from uring.session.multicast import (
    MULTICAST_THRESHOLDS,
    MULTICAST_ZERO_COPY_THRESHOLDS,
    smallest_zero_copy,
)

KIB = abi.KIB


@pytest.fixture
def ring():
    with Ring(entries=64) as ring:
        yield ring


@pytest.fixture
def streams():
    """Makes so many connections: the ends to send to, and those to receive at."""
    with contextlib.ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as listener:

        def connect(n: int) -> tuple[list[socket.socket], list[socket.socket]]:
            senders, receivers = [], []
            for _ in range(n):
                senders.append(stack.enter_context(socket.create_connection(listener.getsockname())))
                receivers.append(stack.enter_context(listener.accept()[0]))
            return senders, receivers

        yield connect


def received(sock: socket.socket, n: int) -> bytes:
    data = b""
    while len(data) < n:
        data += sock.recv(n - len(data))
    return data


@pytest.mark.parametrize(
    ("targets", "smallest"),
    [
        (1, 8 * KIB),
        (7, 8 * KIB),
        (8, 4 * KIB),
        (63, 4 * KIB),
        (64, 3 * KIB),
        (511, 3 * KIB),
        (512, 2 * KIB),
        (4095, 2 * KIB),
        (4096, 1536),
        (1 << 20, 1536),
    ],
)
def test_sizes_from_which_multicast_does_not_copy(targets, smallest):
    assert smallest_zero_copy(targets, MULTICAST_THRESHOLDS) == smallest


@pytest.mark.parametrize(
    ("targets", "smallest"),
    [(1, 1536), (3, 1536), (4, KIB), (15, KIB), (16, 512), (63, 512), (64, 128), (255, 128), (256, 0)],
)
def test_sizes_from_which_multicast_zero_copy_does_not_copy(targets, smallest):
    assert smallest_zero_copy(targets, MULTICAST_ZERO_COPY_THRESHOLDS) == smallest


@pytest.mark.parametrize("size", [8 * KIB - 1, 8 * KIB])
def test_multicast(ring, streams, size):
    """At three targets 8 KiB are sent without a copy: each send completes twice."""
    senders, receivers = streams(3)
    data = bytes(i % 251 for i in range(size))
    contexts = ring.multicast(for_fd(0), targets=senders, data=data)
    assert [context.fd for context in contexts] == [sender.fileno() for sender in senders]
    zero_copy = size >= 8 * KIB
    opcode = abi.IORING_OP_SEND_ZC if zero_copy else abi.IORING_OP_SEND
    assert {context.op for context in contexts} == {opcode}
    cqes = take(ring, 6 if zero_copy else 3)
    assert sorted(c.user_data for c in cqes) == sorted(contexts * (2 if zero_copy else 1))
    assert all(c.res == size for c in cqes if not c.is_notification)
    assert sum(c.is_notification for c in cqes) == (3 if zero_copy else 0)
    for receiver in receivers:
        assert received(receiver, size) == data


def test_multicast_of_a_part_of_a_registered_buffer(ring, streams):
    senders, receivers = streams(2)
    memory = bytearray(i % 251 for i in range(16 * KIB))
    ring.register_buffers([memory])
    ring.multicast(None, senders, buf_index=0, offset=100, n=9000)
    assert sum(c.is_notification for c in take(ring, 4)) == 2
    for receiver in receivers:
        assert received(receiver, 9000) == memory[100:9100]


@pytest.mark.parametrize(("targets", "size"), [(3, 1535), (3, 1536), (5, 1023), (5, 1024)])
def test_multicast_zero_copy(ring, streams, targets, size):
    senders, receivers = streams(targets)
    memory = bytearray(i % 251 for i in range(4 * KIB))
    ring.register_buffers([memory])
    contexts = ring.multicast_zero_copy(None, senders, 0, offset=10, n=size)
    zero_copy = size >= (1536 if targets < 4 else 1024)
    cqes = take(ring, targets * (2 if zero_copy else 1))
    assert {c.user_data for c in cqes} == set(contexts)
    assert any(c.is_notification for c in cqes) == zero_copy
    for receiver in receivers:
        assert received(receiver, size) == memory[10 : 10 + size]


def test_multicast_to_anything_with_a_length_and_items(ring, streams):
    """The targets are a sequence of whatever has a descriptor."""
    senders, receivers = streams(2)

    class Subscribers:
        def __len__(self) -> int:
            return len(senders)

        def __getitem__(self, i: int) -> int:
            return senders[i].fileno()

    assert len(ring.multicast(None, Subscribers(), b"news")) == 2
    take(ring, 2)
    assert [received(receiver, 4) for receiver in receivers] == [b"news", b"news"]
    assert ring.multicast(None, [], b"to nobody") == []


def test_what_cannot_be_sent_queues_nothing(ring, streams):
    senders, _ = streams(1)
    memory = bytearray(100)
    ring.register_buffers([memory])
    ext = ring.ext_sqe()
    for refused, message, call in (
        (TypeError, "either data or", lambda: ring.multicast(None, senders)),
        (TypeError, "either data or", lambda: ring.multicast(None, senders, b"x", buf_index=0)),
        (IndexError, "buffer 7 of 1", lambda: ring.multicast(None, senders, buf_index=7)),
        (IndexError, "buffer 1 of 1", lambda: ring.multicast_zero_copy(None, senders, 1)),
        (TypeError, "either data or", lambda: ring.multicast_zero_copy(None, senders, -1)),
        (ValueError, "offset is 0 to 100", lambda: ring.multicast(None, senders, buf_index=0, offset=101)),
        (ValueError, "offset is 0 to 100", lambda: ring.multicast(None, senders, buf_index=0, offset=-1)),
        (ValueError, "n is 0 to 90", lambda: ring.multicast(None, senders, memory, offset=10, n=91)),
        (ValueError, "n is 0 to 90", lambda: ring.multicast(None, senders, memory, offset=10, n=-1)),
        (ValueError, "direct context", lambda: ring.multicast(pack_extended(ext), senders, b"x")),
        (TypeError, "descriptor", lambda: ring.multicast(None, [*senders, "a socket"], b"x")),
        (TypeError, "a sequence of sockets", lambda: ring.multicast(None, senders[0], b"x")),
        (TypeError, "a sequence of sockets", lambda: ring.multicast(None, b"\1\2", b"x")),
        (TypeError, "buf_index is an int", lambda: ring.multicast(None, senders, buf_index="0")),
        (ValueError, "buf_index is -1", lambda: ring.multicast(None, senders, buf_index=1 << 14)),
        (TypeError, "n is an int", lambda: ring.multicast(None, senders, b"x", n=1.0)),
        (ValueError, "descriptor", lambda: ring.multicast(None, [-1], b"x")),
    ):
        with pytest.raises(refused, match=message):
            call()
        assert ring.in_flight == 0
    ring.put_ext_sqe(ext)


def test_options_of_each_send(ring, streams):
    """An asynchronous send under credentials that do not exist fails for each target."""
    senders, receivers = streams(2)
    contexts = ring.multicast(None, senders, b"news", sqe_flags=int(abi.IOSQE_ASYNC))
    assert [context.flags for context in contexts] == [abi.IOSQE_ASYNC] * 2
    assert [cqe.res for cqe in take(ring, 2)] == [4, 4]
    assert [received(each, 4) for each in receivers] == [b"news"] * 2
    ring.multicast(None, senders, b"news", personality=77)
    assert [cqe.res for cqe in take(ring, 2)] == [-errno.EINVAL] * 2
    pool = RegisterBufferPool(1)
    ring.register_buffer_pool(pool)
    ring.multicast_zero_copy(None, senders, 0, n=8, personality=77)
    assert {cqe.res for cqe in take(ring, 2)} == {-errno.EINVAL}
