"""Data that never enters this process: a file spliced through a pipe into another, and a copy of a stream.

Run: python examples/uring/splice_tee.py
"""

import os
import tempfile

from uring import Ring

SIZE = 65536


def copy(ring: Ring, source: int, target: int) -> None:
    """Two splices, linked: the second starts when the first has filled the pipe."""
    read_end, write_end = os.pipe()
    with ring.chain() as chain:
        ring.splice(source, write_end, SIZE, offset_in=0)
        ring.splice(read_end, target, SIZE, offset_out=0)
    ring.drain()
    moved = [request.result() for request in chain]
    assert moved == [SIZE, SIZE]
    print(f"spliced {moved[1]} bytes from file to file")
    os.close(read_end)
    os.close(write_end)


def duplicate(ring: Ring) -> None:
    """`tee` gives a second pipe what the first one holds, which still holds it."""
    (first_out, first_in), (second_out, second_in) = os.pipe(), os.pipe()
    os.write(first_in, b"for both of you")
    copied = ring.tee(first_out, second_in, 100).wait()
    one, two = os.read(first_out, 100), os.read(second_out, 100)
    assert one == two
    print(f"tee copied {copied} bytes: {one!r}")
    for fd in (first_in, first_out, second_in, second_out):
        os.close(fd)


def main() -> None:
    contents = os.urandom(SIZE)
    with tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as target, Ring(entries=8) as ring:
        source.write(contents)
        source.flush()
        copy(ring, source.fileno(), target.fileno())
        assert os.pread(target.fileno(), 2 * SIZE, 0) == contents
        duplicate(ring)


if __name__ == "__main__":
    main()
