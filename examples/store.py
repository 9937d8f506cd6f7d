"""A small append-only store with group commit: many writers, one fsync.

    python examples/store.py PATH [WRITERS]

Each writer waits until its record is on storage. While one group is being written and synced the next one
gathers, so that a thousand writers need a handful of syncs instead of a thousand. Opening the store again
finds all records, and cuts off one that a crash has torn.
"""

import os
import struct
import sys
import time
import zlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import trio

import uring_trio
from uring import ops

HEADER = struct.Struct("<II")
"""Length of a record, and the checksum of length and record: zeros are no header, not even of nothing."""


class Store:
    """Records in a file; made by `open_store`."""

    def __init__(self, file: uring_trio.RawFile, end: int, records: list[bytes]) -> None:
        self.records = records
        self.syncs = 0
        self._file = file
        self._end = end
        self._waiting: list[tuple[bytes, trio.Event]] = []
        self._wake = trio.Event()

    async def append(self, record: bytes) -> None:
        """Returns when the record is on storage."""
        done = trio.Event()
        self._waiting.append((record, done))
        self._wake.set()
        await done.wait()

    async def commit(self) -> None:
        """Writes and syncs what was appended, group by group."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            group, self._waiting = self._waiting, []
            data = b"".join(HEADER.pack(len(record), checksum(record)) + record for record, _ in group)
            await self._file.pwrite(data, self._end)
            await self._file.fsync(datasync=True)
            self._end += len(data)
            self.syncs += 1
            for record, done in group:
                self.records.append(record)
                done.set()


@asynccontextmanager
async def open_store(path: str) -> AsyncGenerator[Store]:
    try:
        file = await uring_trio.open_file(path, "r+b", buffering=0)
    except FileNotFoundError:
        file = await uring_trio.open_file(path, "x+b", buffering=0)
    # The data of a new file may be on storage without its name, which is its directory's.
    directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        await uring_trio.perform(ops.fsync(directory))
    finally:
        os.close(directory)
    async with file, trio.open_nursery() as nursery:
        records, end = parse(await file.readall())
        await file.truncate(end)
        store = Store(file, end, records)
        nursery.start_soon(store.commit)
        yield store
        nursery.cancel_scope.cancel()


def checksum(record: bytes) -> int:
    return zlib.crc32(record, zlib.crc32(struct.pack("<I", len(record))))


def parse(data: bytes) -> tuple[list[bytes], int]:
    """The records that are whole, and where they end."""
    records: list[bytes] = []
    end = 0
    while len(data) >= end + HEADER.size:
        length, expected = HEADER.unpack_from(data, end)
        record = data[end + HEADER.size : end + HEADER.size + length]
        if len(record) < length or checksum(record) != expected:
            break
        records.append(record)
        end += HEADER.size + length
    return records, end


async def main(path: str, writers: int) -> None:
    async with open_store(path) as store:
        print(f"{len(store.records)} records found")
        start = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for i in range(writers):
                nursery.start_soon(store.append, b"record %d" % i + bytes(180))
        seconds = time.perf_counter() - start
        print(f"{writers} records appended in {seconds * 1e3:.1f} ms with {store.syncs} syncs")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    uring_trio.run(main, sys.argv[1], int(sys.argv[2]) if len(sys.argv) == 3 else 1000)
