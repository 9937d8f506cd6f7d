"""A file written and read by a ring: one request, many at once, and a batch that completes as one.

Run: python examples/uring/file_io.py
"""

import os
import tempfile

from uring import Ring, ops

PIECE = 4096
PIECES = 16


def one_request(ring: Ring, fd: int) -> None:
    """The whole of it: a method queues the request, `wait` submits it and brings its completion."""
    ring.write(1, fd, b"hello from the ring", offset=0)
    (cqe,) = ring.wait(timeout=None)
    print(f"request {cqe.user_data} wrote {cqe.res} bytes")


def many_at_once(ring: Ring, fd: int, contents: bytes) -> None:
    """Everything that is queued goes to the kernel in one system call; completions come in any order."""
    for i in range(PIECES):
        ring.write(i, fd, contents[i * PIECE : (i + 1) * PIECE], offset=i * PIECE)
    done: dict[int, int] = {}
    while len(done) < PIECES:
        done |= {cqe.user_data: cqe.res for cqe in ring.wait(timeout=None)}
    assert done == dict.fromkeys(range(PIECES), PIECE)
    ring.fsync(PIECES, fd)
    (cqe,) = ring.wait(timeout=None)
    assert cqe.is_success
    print(f"{PIECES} requests wrote {sum(done.values())} bytes, which are on the disk")


def as_one(ring: Ring, fd: int, contents: bytes) -> None:
    """Requests that are made once, submitted by one call, and answered by one completion."""
    buffers = [bytearray(PIECE) for _ in range(PIECES)]
    batch = ring.batch((ops.read(fd, each, offset=i * PIECE), i) for i, each in enumerate(buffers))
    ring.submit_as_one(batch, 7)
    completions = []
    while not completions:
        completions = ring.wait(timeout=None)
    results = ring.result(completions[0])
    assert results == [PIECE] * PIECES
    assert b"".join(buffers) == contents
    print(f"a batch of {len(results)} reads brought {sum(results)} bytes in one completion")


def an_error(ring: Ring, folder: str) -> None:
    """A request that fails completes as well: its result is an errno negated."""
    ring.openat(1, os.path.join(folder, "missing"), os.O_RDONLY)
    (cqe,) = ring.wait(timeout=None)
    try:
        ring.result(cqe)
    except FileNotFoundError as error:
        print(f"an open came to {cqe.res}: {error.strerror}")


def main() -> None:
    contents = os.urandom(PIECE * PIECES)
    with tempfile.TemporaryDirectory() as folder, Ring(entries=32) as ring:
        ring.openat(1, os.path.join(folder, "file"), os.O_RDWR | os.O_CREAT)
        (cqe,) = ring.wait(timeout=None)
        fd = ring.result(cqe)
        one_request(ring, fd)
        many_at_once(ring, fd, contents)
        as_one(ring, fd, contents)
        an_error(ring, folder)
        ring.close(1, fd)
        (cqe,) = ring.wait(timeout=None)
        assert cqe.is_success


if __name__ == "__main__":
    main()
