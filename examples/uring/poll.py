"""Readiness: what poll(2) and epoll(7) tell, as completions of a ring.

Where the ring can do the operation itself, a read or a receive that waits is one request instead of two.
Poll is for what it cannot do: descriptors that a library reads.

Run: python examples/uring/poll.py
"""

import os
import select
import socket

from uring import Ring


def once(ring: Ring, source: int, sink: int) -> None:
    ring.poll_add(1, source, select.POLLIN)
    assert ring.wait() == [], "nothing is there yet"
    os.write(sink, b"x")
    (cqe,) = ring.wait(timeout=None)
    assert cqe.res & select.POLLIN
    print(f"the pipe can be read: {os.read(source, 10)!r}")


def again_and_again(ring: Ring, source: int, sink: int) -> None:
    """A multishot says each time that something came, until it is cancelled."""
    ring.poll_add_multishot(1, source, select.POLLIN)
    seen = 0
    for word in (b"one", b"two", b"three"):
        os.write(sink, word)
        (cqe,) = ring.wait(timeout=None)
        assert cqe.has_more
        os.read(source, 10)
        seen += 1
    ring.poll_remove(2, 1)
    ended = False
    while not ended:
        for cqe in ring.wait(timeout=None):
            ended |= cqe.user_data == 1 and not cqe.has_more
    print(f"one request said {seen} times that the pipe can be read")


def who_is_ready(ring: Ring) -> None:
    """Several at once, each known by its context, as an event loop has them."""
    pairs = [socket.socketpair() for _ in range(3)]
    for i, (near, _) in enumerate(pairs):
        ring.poll_add(i, near, select.POLLIN | select.POLLRDHUP)
    pairs[2][1].send(b"data")
    pairs[0][1].close()
    events = {}
    while len(events) < 2:
        events |= {cqe.user_data: cqe.res for cqe in ring.wait(timeout=None)}
    assert events[2] == select.POLLIN
    assert events[0] & select.POLLRDHUP
    print("of three sockets the third has data, and the first has lost its peer")
    ring.async_cancel(9, 1)
    while ring.in_flight:
        ring.wait(timeout=None)
    for pair in pairs:
        for each in pair:
            each.close()


def main() -> None:
    source, sink = os.pipe()
    with Ring(entries=8) as ring:
        once(ring, source, sink)
        again_and_again(ring, source, sink)
        who_is_ready(ring)
    os.close(source)
    os.close(sink)


if __name__ == "__main__":
    main()
