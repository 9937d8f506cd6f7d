"""The check sum of a file, read past the page cache: python examples/direct_reads.py FILE

Some tasks read with ``O_DIRECT`` into registered memory while one hashes in the order of the file.
"""

import argparse
import hashlib
import sys

import trio

import uring_trio

PIECE = 1 << 20
AHEAD = 8


async def main(name: str) -> None:
    size = (await uring_trio.stat(name)).st_size
    digest = hashlib.sha256()
    async with await uring_trio.open_direct(name) as file:
        with uring_trio.RegisteredBuffers(AHEAD, PIECE) as pool:
            for start in range(0, size, AHEAD * PIECE):
                pieces = range(start, min(size, start + AHEAD * PIECE), PIECE)
                read: dict[int, bytes] = {}

                async def fetch(offset: int, into: dict[int, bytes] = read) -> None:
                    with await pool.borrow() as buffer:
                        n = await file.readinto_at(buffer, offset)
                        into[offset] = bytes(buffer.data[:n])

                async with trio.open_nursery() as nursery:
                    for offset in pieces:
                        nursery.start_soon(fetch, offset)
                for offset in pieces:
                    digest.update(read[offset])
    print(f"{digest.hexdigest()}  {name}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="SHA-256 of a file that stays out of the page cache.")
    parser.add_argument("file")
    try:
        uring_trio.run(main, parser.parse_args().file)
    except* OSError as errors:
        sys.exit("\n".join(map(str, errors.exceptions)))
