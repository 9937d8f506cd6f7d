"""Copies a file by chains of linked requests: python examples/uring/linked_copy.py [SOURCE TARGET]

Each chain reads a piece and writes it: the kernel starts the write when the read has succeeded in full,
without a step of the program in between. Eight chains are in flight at a time. At the end the copy is put on
storage.
"""

import errno
import os
import sys
import tempfile

from uring import Request, Ring

PIECE = 64 * 1024
CHAINS = 8


def copy(source: int, target: int) -> int:
    """Copies what the file has now; returns the number of chains."""
    size = os.fstat(source).st_size
    buffers = [bytearray(PIECE) for _ in range(CHAINS)]
    chains = 0
    with Ring(entries=4 * CHAINS) as ring:
        for start in range(0, size, CHAINS * PIECE):
            pairs: list[tuple[Request[int], Request[int], int]] = []
            for i, offset in enumerate(range(start, min(size, start + CHAINS * PIECE), PIECE)):
                piece = memoryview(buffers[i])[: size - offset]
                with ring.chain():
                    read = ring.read(source, piece, offset=offset)
                    write = ring.write(target, piece, offset=offset)
                pairs.append((read, write, len(piece)))
                chains += 1
            for _ in ring.completions():
                pass  # until nothing is in flight
            for read, write, length in pairs:
                # A result raises the error of its request. Less than was asked for is none.
                if read.result() < length:
                    raise EOFError("the source has become shorter")
                if write.result() < length:
                    raise OSError(errno.ENOSPC, "the target has no room for all of it")
        ring.fsync(target).wait()
    return chains


def main(source: str, target: str) -> None:
    with open(source, "rb") as old, open(target, "wb") as new:
        chains = copy(old.fileno(), new.fileno())
        print(f"copied {os.fstat(new.fileno()).st_size} bytes by {chains} chains")


if __name__ == "__main__":
    if sys.argv[1:]:
        main(*sys.argv[1:3])
    else:
        with tempfile.TemporaryDirectory() as folder:
            name = os.path.join(folder, "source")
            with open(name, "wb") as file:
                file.write(os.urandom(1_000_000))
            main(name, os.path.join(folder, "target"))
            with open(name, "rb") as old, open(os.path.join(folder, "target"), "rb") as new:
                print("the same content:", old.read() == new.read())
