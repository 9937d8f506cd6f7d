"""A file written and read by a ring: one request, many at once, and a batch that completes as one.

Run: python examples/uring/file_io.py
"""

import os
import tempfile

from uring import Ring, ops

PIECE = 4096
PIECES = 16


def one_request(ring: Ring, fd: int) -> None:
    """The whole of it: a method queues the request, `wait` submits it and brings its result."""
    request = ring.write(fd, b"hello from the ring", offset=0)
    print(f"one request wrote {request.wait()} bytes")


def many_at_once(ring: Ring, fd: int, contents: bytes) -> None:
    """Everything that is queued goes to the kernel in one system call; completions come in any order."""
    requests = [
        ring.write(fd, contents[i * PIECE : (i + 1) * PIECE], offset=i * PIECE) for i in range(PIECES)
    ]
    for cqe in ring.completions():
        assert cqe.request in requests
    done = [request.result() for request in requests]
    assert done == [PIECE] * PIECES
    ring.fsync(fd).wait()
    print(f"{PIECES} requests wrote {sum(done)} bytes, which are on the disk")


def as_one(ring: Ring, fd: int, contents: bytes) -> None:
    """Requests that are made once, submitted by one call, and answered by one completion."""
    buffers = [bytearray(PIECE) for _ in range(PIECES)]
    batch = ring.batch(ops.read(fd, each, offset=i * PIECE) for i, each in enumerate(buffers))
    results = ring.submit_as_one(batch).wait()
    assert results == [PIECE] * PIECES
    assert b"".join(buffers) == contents
    print(f"a batch of {len(results)} reads brought {sum(results)} bytes in one completion")


def an_error(ring: Ring, folder: str) -> None:
    """A request that fails completes as well: its result is an errno negated."""
    request = ring.openat(os.path.join(folder, "missing"))
    try:
        request.wait()
    except FileNotFoundError as error:
        print(f"an open came to {request.res}: {error.strerror}")


def main() -> None:
    contents = os.urandom(PIECE * PIECES)
    with tempfile.TemporaryDirectory() as folder, Ring(entries=32) as ring:
        fd = ring.openat(os.path.join(folder, "file"), os.O_RDWR | os.O_CREAT).wait()
        one_request(ring, fd)
        many_at_once(ring, fd, contents)
        as_one(ring, fd, contents)
        an_error(ring, folder)
        ring.close(fd).wait()


if __name__ == "__main__":
    main()
