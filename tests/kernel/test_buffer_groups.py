"""Buffers that go back once: by ``put``, or at the end of the block that borrowed them."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import pytest

from tests.ringside import take
from uring import BufferGroup, BundleIterator, PoolExhausted, Ring, RingClosed, abi

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uring import CQEView


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = socket.socketpair()
    with near, far:
        yield near, far


Pair = tuple[socket.socket, socket.socket]


def received(ring: Ring, sockets: Pair, data: bytes, group: int = 1) -> CQEView:
    sockets[0].sendall(data)
    ring.recv(7, sockets[1], buffer_group=group)
    (cqe,) = take(ring)
    return cqe


def test_a_buffer_that_is_in_the_ring_is_refused(ring: Ring, sockets: Pair) -> None:
    group = ring.register_buf_ring(2, 1, 64)
    for bid in (0, 1):
        with pytest.raises(ValueError, match=f"buffer {bid} is in the ring already"):
            group.put(bid)
    first = received(ring, sockets, b"first")
    assert group.put(first.buf_id) == 0
    with pytest.raises(ValueError, match="in the ring already"):
        group.put(first.buf_id)
    # Nothing was queued: there are two buffers, and then none.
    second, third = received(ring, sockets, b"second"), received(ring, sockets, b"third")
    assert {second.buf_id, third.buf_id} == {0, 1}
    assert received(ring, sockets, b"more").res == -errno.ENOBUFS
    group.put(third.buf_id)
    assert received(ring, sockets, b"").buf_id == third.buf_id


def test_what_is_no_buffer_of_the_group(ring: Ring) -> None:
    group = ring.register_buf_ring(4, 1, 64)
    for bid in (4, 17, -1):
        with pytest.raises(ValueError, match="buffers 0 to 3"):
            group.put(bid)
    for bid in (True, "0", None):
        with pytest.raises(TypeError, match="is an int, not"):
            group.put(bid)  # type: ignore[arg-type]
    group.close()
    with pytest.raises(RingClosed):
        group.put(0)


def test_a_place_that_came_round_again_is_no_doubt(ring: Ring, sockets: Pair) -> None:
    """One buffer is kept while the other goes round more often than the ring's places have numbers."""
    group = ring.register_buf_ring(2, 1, 64)
    kept = received(ring, sockets, b"kept").buf_id
    other = 1 - kept
    for _ in range(300):
        with group.borrow(received(ring, sockets, b"x")):
            pass
    # An earlier place of the buffer does not matter, only the entry that is there.
    for distance in range(0, 1 << 16, 1 << 12):
        group._head = distance
        assert not group.queued(kept)
        assert group.queued(other)
    group.put(kept)


def test_memory_of_the_callers(ring: Ring, sockets: Pair) -> None:
    group = ring.register_buf_ring(2, 1)
    own = [bytearray(8) for _ in range(3)]
    group.provide(5, own[0])
    with pytest.raises(ValueError, match="buffer 5 is in the ring already"):
        group.provide(5, own[1])
    group.provide(6, own[1])
    with pytest.raises(PoolExhausted, match="room for 2"):
        group.provide(7, own[2])
    with pytest.raises(ValueError, match="provide"):
        group.put(5)
    assert received(ring, sockets, b"abc").buf_id == 5
    group.provide(7, own[2])
    assert [received(ring, sockets, each).buf_id for each in (b"d", b"e")] == [6, 7]
    assert [bytes(each[:1]) for each in own] == [b"a", b"d", b"e"]


def test_a_borrowed_buffer_goes_back_with_the_block(ring: Ring, sockets: Pair) -> None:
    with ring.register_buf_ring(1, 1, 64) as group:
        assert isinstance(group, BufferGroup)
        for data in (b"one", b"two"):
            with group.borrow(received(ring, sockets, data)) as view:
                assert view == data
            with pytest.raises(ValueError, match="released"):
                view.tobytes()
        with pytest.raises(KeyError), group.borrow(received(ring, sockets, b"three")):
            raise KeyError
        cqe = received(ring, sockets, b"", group=3)
        with pytest.raises(OSError, match="recv") as caught, group.borrow(cqe):
            pass
        assert caught.value.errno == errno.ENOBUFS
        sockets[0].shutdown(socket.SHUT_WR)
        ring.recv(7, sockets[1], buffer_group=1)
        with group.borrow(take(ring)[0]) as view:
            assert not view
    assert group.closed
    with pytest.raises(LookupError):
        ring.buf_ring(1)


def test_what_cannot_be_borrowed(ring: Ring, sockets: Pair) -> None:
    with ring.register_buf_ring(2, 1, 64) as group, ring.register_buf_ring(2, 2, 64) as other:
        sockets[0].send(b"of the group")
        ring.recv(sockets[1], buffer_group=1)
        (cqe,) = take(ring)
        with pytest.raises(ValueError, match="of group 1, and this is group 2"), other.borrow(cqe):
            pass
        with group.borrow(cqe) as view:
            assert view == b"of the group"
        for again in (cqe, received(ring, sockets, b"as a context")):
            if again is not cqe:
                group.put(again.buf_id)
            with pytest.raises(ValueError, match="is in the ring: what"), group.borrow(again):
                pass
        with pytest.raises(TypeError, match="a completion is needed"), group.borrow(5):  # type: ignore[arg-type]
            pass


def test_pieces_of_an_incremental_buffer(ring: Ring, sockets: Pair) -> None:
    with ring.register_buf_ring_incremental(1, 1, 8) as group:
        pieces = []
        for data in (b"abc", b"de", b"fgh", b"ijklmnop"):
            cqe = received(ring, sockets, data)
            with group.borrow(cqe) as view:
                pieces.append(bytes(view))
            if cqe.has_buffer_more:
                with pytest.raises(ValueError, match="in the ring already"):
                    group.put(cqe.buf_id)
        assert pieces == [b"abc", b"de", b"fgh", b"ijklmnop"]


def test_a_bundle_goes_back_with_its_block(ring: Ring, sockets: Pair) -> None:
    with ring.register_buf_ring(4, 1, 4) as group:
        sockets[0].sendall(b"0123456789" * 3)
        data, several = b"", 0
        while len(data) < 30:
            ring.recv_bundle(7, sockets[1], 1)
            (cqe,) = take(ring)
            if cqe.res > 4:
                several += 1
                with pytest.raises(ValueError, match="several buffers"), group.borrow(cqe):
                    pass
            with BundleIterator.of(cqe, group) as bundle:
                data += b"".join(bundle)
        assert data == b"0123456789" * 3
        assert several
        with pytest.raises(ValueError, match="nothing to give back"):
            bundle.recycle()


@pytest.mark.parametrize("flags", [0, int(abi.IOU_PBUF_RING_MMAP)])
def test_a_ring_that_stops_first(flags: int) -> None:
    with Ring(entries=8) as ring:
        group = ring.register_buf_ring_with_flags(2, 1, flags, 64)
    with group:  # closed already
        assert group.closed
    with pytest.raises(RingClosed):
        group.put(0)
