"""The check sum of a file, read past the page cache: python examples/direct_reads.py FILE

Eight pieces are read ahead with ``O_DIRECT`` into registered memory, and hashed there in the order of the
file: no piece is copied.
"""

import argparse
import hashlib
import sys

import trio

import uring_trio

PIECE = 1 << 20
AHEAD = 8


class Piece:
    """A part of the file, in memory that it has borrowed."""

    def __init__(self, buffer: uring_trio.RegisteredBuffer) -> None:
        self.buffer = buffer
        self.size = 0
        self.read = trio.Event()

    async def fetch(self, file: uring_trio.DirectFile, offset: int) -> None:
        self.size = await file.readinto_at(self.buffer, offset)
        self.read.set()


async def main(name: str) -> None:
    size = (await uring_trio.stat(name)).st_size
    digest = hashlib.sha256()
    send, pieces = trio.open_memory_channel[Piece](AHEAD)

    async def read_ahead(file: uring_trio.DirectFile, pool: uring_trio.RegisteredBuffers) -> None:
        async with send, trio.open_nursery() as nursery:
            for offset in range(0, size, PIECE):
                piece = Piece(await pool.borrow())  # when one of the buffers is free
                nursery.start_soon(piece.fetch, file, offset)
                await send.send(piece)

    async with await uring_trio.open_direct(name) as file:
        with uring_trio.RegisteredBuffers(AHEAD, PIECE) as pool:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(read_ahead, file, pool)
                async for piece in pieces:
                    with piece.buffer:
                        await piece.read.wait()
                        digest.update(piece.buffer.data[: piece.size])
    print(f"{digest.hexdigest()}  {name}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="SHA-256 of a file that stays out of the page cache.")
    parser.add_argument("file")
    try:
        uring_trio.run(main, parser.parse_args().file)
    except* OSError as errors:
        sys.exit("\n".join(map(str, errors.exceptions)))
