"""Checksums of files, several at a time, with a bar that shows how far they are.

    python examples/checksum.py PATH...

Prints what ``sha256sum`` prints. Each file is read eight pieces at a time with one submission and one
wake-up; the hashing itself runs in threads, since it is work for the processor.
"""

import hashlib
import sys

import trio

import uring_trio

PIECE = 256 * 1024
PIECES = 8
AT_ONCE = 4


class Bar:
    """How much of all files was read, on one line of stderr."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0

    def add(self, n: int) -> None:
        self.done += n
        if sys.stderr.isatty():
            share = self.done / self.total if self.total else 1
            sys.stderr.write(f"\r[{'#' * int(40 * share):40}] {share:4.0%}")
            sys.stderr.flush()


async def main(paths: list[str]) -> None:
    stats = await uring_trio.read_dir_stats(paths)
    missing = [stat for stat in stats if isinstance(stat, OSError)]
    if missing:
        raise SystemExit(f"{missing[0].filename}: {missing[0].strerror}")
    bar = Bar(sum(stat.st_size for stat in stats if not isinstance(stat, OSError)))
    sums: dict[str, str] = {}
    limit = trio.CapacityLimiter(AT_ONCE)

    async def one(path: str) -> None:
        async with limit:
            sums[path] = await checksum(path, bar)

    async with trio.open_nursery() as nursery:
        for path in paths:
            nursery.start_soon(one, path)
    if sys.stderr.isatty():
        sys.stderr.write("\n")
    for path in paths:
        print(f"{sums[path]}  {path}")


async def checksum(path: str, bar: Bar) -> str:
    digest = hashlib.sha256()
    async with await uring_trio.open_file(path, "rb", buffering=0) as file:
        offset = 0
        while True:
            places = [(offset + i * PIECE, PIECE) for i in range(PIECES)]
            data = b"".join(await file.read_many(places))
            if not data:
                return digest.hexdigest()
            await trio.to_thread.run_sync(digest.update, data)
            bar.add(len(data))
            offset += len(data)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        raise SystemExit(__doc__)
    uring_trio.run(main, sys.argv[1:])
