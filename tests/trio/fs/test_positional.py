"""Files at given offsets, many requests at once, and what they cost in memory."""

from __future__ import annotations

import errno
import os
import random
import resource
import stat
import sys
import threading
from pathlib import Path

import pytest
import trio

import uring_trio
from tests.trio.helpers import forget_contents, in_flight, statistics
from uring import ops
from uring_trio import open_direct, open_file, perform_many


async def test_positional(path: Path) -> None:
    data = path.read_bytes()
    async with await open_file(path, "r+b") as file:
        assert await file.pread(10, 250) == data[250:260]
        assert await file.pread(10, len(data) - 3) == data[-3:]
        assert await file.pread(10, len(data)) == b""
        assert await file.pread(1, 7) == b"\7"
        assert await file.pread(0, 7) == b""
        room = bytearray(6)
        assert await file.readinto_at(room, 1) == 6
        assert room == data[1:7]
        pair = [bytearray(2), bytearray(3)]
        assert await file.preadv(pair, 100) == 5
        assert b"".join(pair) == data[100:105]
        assert await file.pwrite(b"hello", 0) == 5
        assert await file.pwritev([b"a", memoryview(b"bc")], 5) == 3
        assert path.read_bytes()[:9] == b"helloabc\x08"
        assert await file.tell() == 0
        for wrong in (-1, 1 << 63):
            with pytest.raises(OSError, match="Invalid argument"):
                await file.pread(4, wrong)
        with pytest.raises(ValueError):
            await file.pread(-1, 0)
        with pytest.raises(TypeError):
            await file.pwrite("text", 0)


@pytest.mark.usefixtures("slow_disk")
async def test_read_many_is_one_wake_up(path: Path) -> None:
    data = path.read_bytes()
    async with await open_file(path, "rb") as file:
        places = [(random.randrange(len(data) - 500), random.randrange(500)) for _ in range(300)]
        for _ in range(100):  # a look at what is not there may be long enough for a fast disk
            forget_contents(path)
            before = statistics()
            found = await file.read_many(places)
            after = statistics()
            assert found == [data[offset : offset + n] for offset, n in places]
            if after.submitted - before.submitted >= 300:
                break
        else:
            raise AssertionError("what is not in memory was read without the ring")
        assert after.enters - before.enters < 100  # the disk answers bit by bit
        assert await file.read_many([]) == []
        assert await file.read_many([(0, 4), (len(data), 4)]) == [data[:4], b""]
        for wrong in ([(-1, 4)], [(0, -4)], [(0, 1 << 32)]):
            with pytest.raises((ValueError, OSError)):
                await file.read_many(wrong)


async def test_write_many(path: Path) -> None:
    async with await open_file(path, "r+b") as file:
        pieces = [(i * 50, bytes([i % 256]) * 50) for i in range(600)]
        random.shuffle(pieces)
        assert await file.write_many(pieces) == 600 * 50
        assert path.read_bytes() == b"".join(bytes([i % 256]) * 50 for i in range(600))
        assert await file.write_many([(0, b"")]) == 0
    async with await open_file(path, "rb") as file:
        with pytest.raises(OSError) as caught:
            await file.write_many([(0, b"x"), (1, b"y")])
        assert caught.value.errno == errno.EBADF


async def test_cancelled_batch(path: Path) -> None:
    async with await open_file(path, "r+b") as file:
        before = path.read_bytes()
        with trio.CancelScope() as scope:
            scope.cancel()
            await file.write_many([(i, b"X") for i in range(1000)])
        assert path.read_bytes() == before
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.write_many, [(i, b"X") for i in range(100)])
            # The batch is queued in the same tick that this task cancels it in: nothing reaches the kernel.
            await trio.sleep(0)
            nursery.cancel_scope.cancel()
        assert await file.pread(8, 0) in (before[:8], b"X" * 8)
    assert in_flight() == {}


async def test_perform_many(path: Path) -> None:
    names = [path, path.parent / "missing", path.parent]
    results = await perform_many([ops.statx(name) for name in names])
    assert results[0].st_size == path.stat().st_size
    assert isinstance(results[1], FileNotFoundError)
    assert stat.S_ISDIR(results[2].st_mode)
    assert await perform_many([]) == []
    with pytest.raises(TypeError):
        await perform_many(["no operation"])  # type: ignore[list-item]


async def test_perform_many_discards_what_nobody_gets(path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    for delay in range(30):
        with trio.move_on_after(delay * 10e-6):
            for fd in await perform_many([ops.openat(path) for _ in range(20)]):
                os.close(fd)
    assert os.listdir("/proc/self/fd") == before


async def test_the_rest_of_the_ring(path: Path) -> None:
    async with await open_file(path, "r+b") as file:
        await file.write(b"buffered")
        await file.fsync()
        assert path.read_bytes()[:8] == b"buffered"
        await file.fsync(datasync=True)
        await file.sync_range(0, 100)
        await file.allocate(0, 100_000)
        assert path.stat().st_size == 100_000
        await file.advise(os.POSIX_FADV_SEQUENTIAL)
        assert await file.stat() == os.fstat(file.fileno())


async def test_no_direct_reads_of_what_is_made_up() -> None:
    with pytest.raises(OSError, match="cannot be opened with O_DIRECT: '/proc/version'") as caught:
        await open_direct("/proc/version")
    assert caught.value.errno == errno.EINVAL


async def test_direct(path: Path) -> None:
    data = path.read_bytes()
    try:
        file = await open_direct(path, os.O_RDWR)
    except OSError as exc:
        pytest.skip(f"this file system knows no O_DIRECT: {exc}")
    async with file:
        for offset, n in ((0, 4096), (5, 10), (4090, 20), (len(data) - 7, 100), (len(data), 5), (0, 0)):
            assert await file.pread(n, offset) == data[offset : offset + n]
        block = b"d" * file.align
        assert await file.pwrite(block, file.align) == file.align
        assert path.read_bytes()[file.align : 2 * file.align] == block
        for wrong, offset in ((b"short", 0), (block, 5)):
            with pytest.raises(ValueError, match="whole blocks"):
                await file.pwrite(wrong, offset)
        await file.truncate(10)
        assert await file.pread(100, 0) == data[:10]
    with pytest.raises(ValueError, match="closed file"):
        await file.pread(1, 0)
    with open(path, "rb") as other:  # which the number of the descriptor may belong to now
        with pytest.raises(ValueError, match="closed file"):
            await file.truncate(0)
        assert other.read() == data[:10]
    with pytest.raises(FileNotFoundError):
        await open_direct(path.parent / "missing")


def test_workers_are_bounded(path: Path) -> None:
    """In a thread of its own: the kernel keeps the workers of a thread's earlier rings for some seconds."""

    async def main() -> None:
        assert statistics().workers == 3
        async with trio.open_nursery() as nursery:
            for _ in range(50):  # each is left to a worker
                nursery.start_soon(uring_trio.perform, ops.statx(path))
        mine = f"iou-wrk-{threading.get_native_id()}\n"
        names = [Path(f"/proc/self/task/{task}/comm").read_text() for task in os.listdir("/proc/self/task")]
        counts.append(names.count(mine))

    counts: list[int] = []
    thread = threading.Thread(target=lambda: uring_trio.run(main, ring=uring_trio.RingOptions(workers=3)))
    thread.start()
    thread.join()
    assert len(counts) == 1
    assert 1 <= counts[0] <= 3


async def test_asking_for_much_takes_no_memory(path: Path) -> None:
    path.write_bytes(b"a")
    before = resident()
    async with await open_file(path, "rb") as file:
        for n in (1 << 30, 1 << 32):
            assert await file.pread(n, 0) == await file.read(n) == b"a"
            assert await file.seek(0) == 0
        assert await file.read_many([(0, 1 << 30)]) == [b"a"]
    async with await open_file(path) as text:
        assert await text.read(sys.maxsize) == "a"
    assert resident() - before < 100 << 20


async def test_open_files_hold_no_memory_of_reads_past(path: Path) -> None:
    path.write_bytes(bytes(1 << 20))
    before = resident()
    files = [await open_file(path, "rb", 0) for _ in range(200)]
    for file in files:
        assert await file.read_many([(0, 1 << 19), (1 << 19, 1 << 19)]) == [bytes(1 << 19)] * 2
    assert resident() - before < 100 << 20
    for file in files:
        await file.aclose()


def resident() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
