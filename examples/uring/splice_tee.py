"""Data that never enters this process: a file spliced through a pipe into another, and a copy of a stream.

Run: python examples/uring/splice_tee.py
"""

import os
import tempfile

from uring import Ring, ops

SIZE = 65536


def copy(ring: Ring, source: int, target: int) -> None:
    """Two splices, linked: the second starts when the first has filled the pipe."""
    read_end, write_end = os.pipe()
    ring.submit_linked(
        [
            (ops.splice(source, write_end, SIZE, offset_in=0), 1),
            (ops.splice(read_end, target, SIZE, offset_out=0), 2),
        ]
    )
    moved = {}
    while len(moved) < 2:
        moved |= {cqe.user_data: cqe.res for cqe in ring.wait(timeout=None)}
    assert moved == {1: SIZE, 2: SIZE}
    print(f"spliced {moved[2]} bytes from file to file")
    os.close(read_end)
    os.close(write_end)


def duplicate(ring: Ring) -> None:
    """`tee` gives a second pipe what the first one holds, which still holds it."""
    (first_out, first_in), (second_out, second_in) = os.pipe(), os.pipe()
    os.write(first_in, b"for both of you")
    ring.tee(1, first_out, second_in, 100)
    (cqe,) = ring.wait(timeout=None)
    one, two = os.read(first_out, 100), os.read(second_out, 100)
    assert one == two
    print(f"tee copied {cqe.res} bytes: {one!r}")
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
