"""Time in the kernel: a timer, one that repeats, and a deadline linked to another request.

Run: python examples/uring/timeouts.py
"""

import errno
import os
import time

from uring import Ring


def one(ring: Ring) -> None:
    before = time.monotonic()
    timer = ring.timeout(0.05)
    try:
        timer.wait()
    except TimeoutError as error:
        assert time.monotonic() - before >= 0.05
        print(f"a timer of 50 ms completed with {errno.errorcode[error.errno or 0]}")


def counting(ring: Ring) -> None:
    """Or after so many other completions, if these come first."""
    timer = ring.timeout(60.0, count=2)
    others = [ring.nop(), ring.nop()]
    order = [cqe.request for cqe in ring.drain()]
    assert order == [*others, timer]
    print(f"a timer of a minute completed after {len(others)} others with {timer.result()}")


def repeating(ring: Ring) -> None:
    """One request, a completion each time, until it is removed."""
    timer = ring.timeout(0.01, multishot=True)
    ticks = 0
    for cqe in ring.completions():
        ticks += cqe.request is timer
        if ticks == 3:
            ring.timeout_remove(timer.context)
    assert timer.done()
    print("a timer of 10 ms ticked three times and was removed")


def deadline(ring: Ring) -> None:
    """The second request of the chain bounds the first: whichever ends first ends the other."""
    source, sink = os.pipe()
    with ring.chain():
        read = ring.read(source, bytearray(10))
        limit = ring.link_timeout(0.05)
    ring.drain()
    ends = [errno.errorcode[-request.res] for request in (read, limit)]
    print(f"nothing to read within 50 ms: the read {ends[0]}, its deadline {ends[1]}")

    os.write(sink, b"in time")
    with ring.chain():
        read = ring.read(source, bytearray(10))
        limit = ring.link_timeout(60.0)
    ring.drain()
    print(f"and in time: the read {read.result()} bytes, its deadline {errno.errorcode[-limit.res]}")
    os.close(source)
    os.close(sink)


def main() -> None:
    with Ring(entries=8) as ring:
        one(ring)
        counting(ring)
        repeating(ring)
        deadline(ring)


if __name__ == "__main__":
    main()
