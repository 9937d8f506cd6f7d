"""Time in the kernel: a timer, one that repeats, and a deadline linked to another request.

Run: python examples/uring/timeouts.py
"""

import errno
import os
import time

from uring import Ring, ops


def one(ring: Ring) -> None:
    before = time.monotonic()
    ring.timeout(1, 0.05)
    (cqe,) = ring.wait(timeout=None)
    assert time.monotonic() - before >= 0.05
    print(f"a timer of 50 ms completed with {errno.errorcode[-cqe.res]}")


def counting(ring: Ring) -> None:
    """Or after so many other completions, if these come first."""
    ring.timeout(1, 60.0, count=2)
    ring.nop(2)
    ring.nop(3)
    order = []
    while len(order) < 3:
        order += [cqe.user_data for cqe in ring.wait(timeout=None)]
    print(f"a timer of a minute completed after two others: {sorted(order)}")


def repeating(ring: Ring) -> None:
    """One request, a completion each time, until it is removed."""
    ring.timeout(1, 0.01, multishot=True)
    ticks = 0
    while ticks < 3:
        ticks += len(ring.wait(timeout=None))
    ring.timeout_remove(2, 1)
    ended = False
    while not ended:
        for cqe in ring.wait(timeout=None):
            ended |= cqe.user_data == 1 and not cqe.has_more
    print("a timer of 10 ms ticked three times and was removed")


def deadline(ring: Ring) -> None:
    """The second request of the chain bounds the first: whichever ends first ends the other."""
    source, sink = os.pipe()
    ring.submit_linked([(ops.read(source, bytearray(10)), 1), (ops.link_timeout(0.05), 2)])
    results = {}
    while len(results) < 2:
        results |= {cqe.user_data: errno.errorcode[-cqe.res] for cqe in ring.wait(timeout=None)}
    print(f"nothing to read within 50 ms: the read {results[1]}, its deadline {results[2]}")

    os.write(sink, b"in time")
    ring.submit_linked([(ops.read(source, bytearray(10)), 1), (ops.link_timeout(60.0), 2)])
    results = {}
    while len(results) < 2:
        results |= {cqe.user_data: cqe.res for cqe in ring.wait(timeout=None)}
    print(f"and in time: the read {results[1]} bytes, its deadline {errno.errorcode[-results[2]]}")
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
