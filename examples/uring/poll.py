"""Readiness: what poll(2) and epoll(7) report, as completions of a ring.

Where the ring can do the operation itself, a read or a receive that waits is one request instead of two.
Poll is for what it cannot do: descriptors that a library reads.

Run: python examples/uring/poll.py
"""

import os
import select
import socket

from uring import Ring


def once(ring: Ring, source: int, sink: int) -> None:
    request = ring.poll_add(source, select.POLLIN)
    assert ring.wait() == [], "nothing is there yet"
    os.write(sink, b"x")
    assert request.wait() & select.POLLIN
    print(f"the pipe can be read: {os.read(source, 10)!r}")


def again_and_again(ring: Ring, source: int, sink: int) -> None:
    """A multishot says each time that something came, until it is cancelled."""
    request = ring.poll_add_multishot(source, select.POLLIN)
    seen = 0
    os.write(sink, b"one")
    for cqe in ring.completions():
        if cqe.request is request and cqe.has_more:
            os.read(source, 10)
            seen += 1
            if seen < 3:
                os.write(sink, b"another")
            else:
                request.cancel()
    assert request.done()
    print(f"one request said {seen} times that the pipe can be read")


def who_is_ready(ring: Ring) -> None:
    """Several at once, as an event loop has them."""
    pairs = [socket.socketpair() for _ in range(3)]
    requests = [ring.poll_add(near, select.POLLIN | select.POLLRDHUP) for near, _ in pairs]
    pairs[2][1].send(b"data")
    pairs[0][1].close()
    assert requests[2].wait() == select.POLLIN
    assert requests[0].wait() & select.POLLRDHUP
    assert not requests[1].done()
    print("of three sockets the third has data, and the first has lost its peer")
    requests[1].cancel()
    ring.drain()
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
