"""Files: the ring next to threads, to asyncio's file packages and to plain synchronous calls.

    python -m benchmarks.files [--rounds 5] [--only NAME]

Every comparison runs both sides in turn, ``--rounds`` times: a machine that is busy with something else for a
while then disturbs both. It shows the medians, and the median of the rounds' ratios with the extremes. The
files are in the page cache. What cannot be imported (aiofile, aiofiles) is left out and said so.
"""

from __future__ import annotations

import argparse
import asyncio
import mmap
import os
import random
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

import uring_trio

from .figures import Summary

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SIZE = 64 << 20
PIECE = 4096
TASKS = 64
LARGE = 1 << 30
LINES = 1_000_000
PATHS = 10_000

Measure = "Callable[[], float]"
"""Runs one side once; returns the seconds for one unit of work."""


class Bench:
    """The files to measure on, and the comparisons."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.write_bytes(random.randbytes(SIZE))
        self.places = [random.randrange(SIZE // PIECE) * PIECE for _ in range(20_000)]
        self.threads = 0

    # ---- random reads --------------------------------------------------------------------------------

    def ring_reads(self, tasks: int, count: int) -> float:
        async def main() -> float:
            before = threading.active_count()
            async with await uring_trio.open_file(self.data, "rb") as file:

                async def reader(places: list[int]) -> None:
                    for place in places:
                        await file.pread(PIECE, place)

                seconds = await self._in_tasks(reader, tasks, count)
            self.threads = max(self.threads, threading.active_count() - before)
            return seconds

        return uring_trio.run(main)

    def ring_seek_reads(self, count: int) -> float:
        async def main() -> float:
            async with await uring_trio.open_file(self.data, "rb") as file:
                start = time.perf_counter()
                for place in self.places[:count]:
                    await file.seek(place)
                    await file.read(PIECE)
                return (time.perf_counter() - start) / count

        return uring_trio.run(main)

    def trio_reads(self, tasks: int, count: int) -> float:
        async def main() -> float:
            async def reader(places: list[int]) -> None:
                async with await trio.open_file(self.data, "rb") as file:
                    for place in places:
                        await file.seek(place)
                        await file.read(PIECE)

            return await self._in_tasks(reader, tasks, count)

        return trio.run(main)

    def thread_reads(self, tasks: int, count: int) -> float:
        async def main() -> float:
            fd = os.open(self.data, os.O_RDONLY)

            async def reader(places: list[int]) -> None:
                for place in places:
                    await trio.to_thread.run_sync(os.pread, fd, PIECE, place)

            try:
                return await self._in_tasks(reader, tasks, count)
            finally:
                os.close(fd)

        return trio.run(main)

    async def _in_tasks(
        self, reader: Callable[[list[int]], Awaitable[None]], tasks: int, count: int
    ) -> float:
        share = count // tasks
        start = time.perf_counter()
        async with trio.open_nursery() as nursery:
            for i in range(tasks):
                nursery.start_soon(reader, self.places[i * share : (i + 1) * share])
        return (time.perf_counter() - start) / (share * tasks)

    def aiofile_reads(self, count: int) -> float:
        from aiofile import AIOFile

        async def main() -> float:
            async with AIOFile(str(self.data), "rb") as file:

                async def reader(places: list[int]) -> None:
                    for place in places:
                        await file.read_bytes(PIECE, offset=place)

                return await self._gathered(reader, count)

        return asyncio.run(main())

    def aiofiles_reads(self, count: int) -> float:
        import aiofiles

        async def main() -> float:
            async def reader(places: list[int]) -> None:
                async with aiofiles.open(self.data, "rb") as file:
                    for place in places:
                        await file.seek(place)
                        await file.read(PIECE)

            return await self._gathered(reader, count)

        return asyncio.run(main())

    async def _gathered(self, reader: Callable[[list[int]], Any], count: int) -> float:
        share = count // TASKS
        start = time.perf_counter()
        await asyncio.gather(*(reader(self.places[i * share : (i + 1) * share]) for i in range(TASKS)))
        return (time.perf_counter() - start) / (share * TASKS)

    # ---- many at once --------------------------------------------------------------------------------

    def ring_many(self) -> float:
        async def main() -> float:
            async with await uring_trio.open_file(self.data, "rb") as file:
                places = [(place, PIECE) for place in self.places]
                groups = [places[i : i + 64] for i in range(0, len(places) - 63, 64)]
                start = time.perf_counter()
                for group in groups:
                    await file.read_many(group)
                return (time.perf_counter() - start) / (64 * len(groups))

        return uring_trio.run(main)

    def plain_preads(self) -> float:
        fd = os.open(self.data, os.O_RDONLY)
        try:
            start = time.perf_counter()
            for place in self.places:
                os.pread(fd, PIECE, place)
            return (time.perf_counter() - start) / len(self.places)
        finally:
            os.close(fd)

    def plain_kept_preads(self) -> float:
        """What `read_many` returns, made without it: the 64 pieces of a call in memory of their own."""
        fd = os.open(self.data, os.O_RDONLY)
        try:
            start = time.perf_counter()
            for i in range(0, len(self.places), 64):
                [os.pread(fd, PIECE, place) for place in self.places[i : i + 64]]
            return (time.perf_counter() - start) / len(self.places)
        finally:
            os.close(fd)

    # ---- the least that it can cost: the system call, and a checkpoint -------------------------------

    def least_reads(self, tasks: int, count: int) -> float:
        async def main() -> float:
            fd = os.open(self.data, os.O_RDONLY)

            async def reader(places: list[int]) -> None:
                for place in places:
                    os.pread(fd, PIECE, place)
                    await trio.lowlevel.checkpoint()

            try:
                return await self._in_tasks(reader, tasks, count)
            finally:
                os.close(fd)

        return uring_trio.run(main)

    def least_sequential(self) -> float:
        path = self.large()

        async def main() -> float:
            start = time.perf_counter()
            with path.open("rb", 0) as file:
                while file.read(1 << 20):
                    await trio.lowlevel.checkpoint()
            return time.perf_counter() - start

        return uring_trio.run(main)

    def least_stats(self, tasks: int, count: int) -> float:
        names = self.names()[:count]

        async def main() -> float:
            paths = [trio.Path(name) for name in names]
            share = count // tasks

            async def asker(mine: list[Any]) -> None:
                for one in mine:
                    os.stat(one)
                    await trio.lowlevel.checkpoint()

            start = time.perf_counter()
            async with trio.open_nursery() as nursery:
                for i in range(tasks):
                    nursery.start_soon(asker, paths[i * share : (i + 1) * share])
            return (time.perf_counter() - start) / (share * tasks)

        return uring_trio.run(main)

    # ---- in sequence ---------------------------------------------------------------------------------

    def large(self) -> Path:
        path = self.folder / "large"
        if not path.exists():
            block = random.randbytes(1 << 20)
            with path.open("wb") as file:
                for _ in range(LARGE >> 20):
                    file.write(block)
        return path

    def ring_sequential(self) -> float:
        path = self.large()

        async def main() -> float:
            start = time.perf_counter()
            async with await uring_trio.open_file(path, "rb", 0) as file:
                while await file.read(1 << 20):
                    pass
            return time.perf_counter() - start

        return uring_trio.run(main)

    def plain_sequential(self) -> float:
        path = self.large()
        start = time.perf_counter()
        with path.open("rb", 0) as file:
            while file.read(1 << 20):
                pass
        return time.perf_counter() - start

    # ---- into registered buffers ---------------------------------------------------------------------

    def into(self, size: int, count: int, *, registered: bool, direct: bool) -> float:
        """CPU time of a read into memory that is used again and again, 16 tasks."""

        async def main() -> float:
            tasks = 16
            places = [random.randrange(SIZE // size) * size for _ in range(count)]
            file: Any = await (
                uring_trio.open_direct(self.data) if direct else uring_trio.open_file(self.data, "rb")
            )

            async def reader(buffer: Any, mine: list[int]) -> None:
                for place in mine:
                    await file.readinto_at(buffer, place)

            with uring_trio.RegisteredBuffers(tasks, size) as pool:
                async with file:
                    start = time.process_time()
                    async with trio.open_nursery() as nursery:
                        for i in range(tasks):
                            buffer = pool.borrow_nowait() if registered else mmap.mmap(-1, size)
                            nursery.start_soon(reader, buffer, places[i::tasks])
                    return (time.process_time() - start) / count

        return uring_trio.run(main)

    # ---- stat ----------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        folder = self.folder / "names"
        if not folder.exists():
            folder.mkdir()
            for i in range(PATHS):
                (folder / str(i)).touch()
        return [str(folder / str(i)) for i in range(PATHS)]

    def stats(self, run: Any, path: Any, tasks: int, count: int) -> float:
        names = self.names()[:count]

        async def main() -> float:
            paths = [path(name) for name in names]
            share = count // tasks

            async def asker(mine: list[Any]) -> None:
                for one in mine:
                    await one.stat()

            start = time.perf_counter()
            async with trio.open_nursery() as nursery:
                for i in range(tasks):
                    nursery.start_soon(asker, paths[i * share : (i + 1) * share])
            return (time.perf_counter() - start) / (share * tasks)

        seconds: float = run(main)
        return seconds

    def ring_stats_batched(self) -> float:
        names = self.names()

        async def main() -> float:
            start = time.perf_counter()
            for i in range(0, PATHS, 64):
                await uring_trio.read_dir_stats(names[i : i + 64])
            return (time.perf_counter() - start) / PATHS

        return uring_trio.run(main)

    # ---- appending with group commit -----------------------------------------------------------------

    def appends(self, run: Any, open_file: Any, sync: Any, writers: int = 1000) -> float:
        path = self.folder / "log"

        async def main() -> float:
            path.write_bytes(b"")
            async with await open_file(path, "ab") as file:
                waiting: list[tuple[bytes, trio.Event]] = []
                wake = trio.Event()
                left = writers

                async def committer() -> None:
                    nonlocal wake, left
                    while left:
                        if not waiting:
                            await wake.wait()
                            wake = trio.Event()
                        batch, waiting[:] = waiting[:], []
                        await file.write(b"".join(data for data, _ in batch))
                        await sync(file)
                        left -= len(batch)
                        for _, done in batch:
                            done.set()

                async def writer() -> None:
                    done = trio.Event()
                    waiting.append((b"x" * 200, done))
                    wake.set()
                    await done.wait()

                start = time.perf_counter()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(committer)
                    for _ in range(writers):
                        nursery.start_soon(writer)
                return (time.perf_counter() - start) / writers

        seconds: float = run(main)
        return seconds

    def appends_each(self, writers: int = 1000) -> float:
        """Stock Trio without a committer: each writer appends and syncs on its own."""
        path = self.folder / "log"

        async def main() -> float:
            path.write_bytes(b"")
            async with await trio.open_file(path, "ab", buffering=0) as file:

                async def writer() -> None:
                    await file.write(b"x" * 200)
                    await trio.to_thread.run_sync(os.fsync, file.fileno())

                start = time.perf_counter()
                async with trio.open_nursery() as nursery:
                    for _ in range(writers):
                        nursery.start_soon(writer)
                return (time.perf_counter() - start) / writers

        return trio.run(main)

    # ---- lines ---------------------------------------------------------------------------------------

    def text(self) -> Path:
        path = self.folder / "text"
        if not path.exists():
            path.write_text("".join(f"line {i} of a text that has many\n" for i in range(LINES)))
        return path

    def lines(self, run: Any, open_file: Any, count: int) -> float:
        path = self.text()

        async def main() -> float:
            async with await open_file(path) as file:
                seen = 0
                start = time.perf_counter()
                async for _ in file:
                    seen += 1
                    if seen == count:
                        break
                return (time.perf_counter() - start) / seen

        seconds: float = run(main)
        return seconds


async def _sync_in_thread(file: Any) -> None:
    await file.flush()
    await trio.to_thread.run_sync(os.fsync, file.fileno())


def comparisons(bench: Bench) -> dict[str, tuple[str, Callable[[], float], Callable[[], float]]]:
    """Name, what it is, the ring's side, the other side."""
    ring, epoll = uring_trio.run, trio.run
    return {
        "reads-64": (
            "random 4 KiB reads, 64 tasks / trio.open_file seek and read",
            lambda: bench.ring_reads(TASKS, 19_200),
            lambda: bench.trio_reads(TASKS, 1_920),
        ),
        "reads-1": (
            "the same, 1 task",
            lambda: bench.ring_reads(1, 10_000),
            lambda: bench.trio_reads(1, 1_000),
        ),
        "seek-read": (
            "seek and read on both sides, 1 task",
            lambda: bench.ring_seek_reads(5_000),
            lambda: bench.trio_reads(1, 1_000),
        ),
        "threads-64": (
            "reads, 64 tasks / trio.to_thread.run_sync(os.pread)",
            lambda: bench.ring_reads(TASKS, 19_200),
            lambda: bench.thread_reads(TASKS, 1_920),
        ),
        "aiofile": (
            "reads, 64 tasks / aiofile",
            lambda: bench.ring_reads(TASKS, 19_200),
            lambda: bench.aiofile_reads(6_400),
        ),
        "aiofiles": (
            "reads, 64 tasks / aiofiles",
            lambda: bench.ring_reads(TASKS, 19_200),
            lambda: bench.aiofiles_reads(1_920),
        ),
        "many": ("read_many of 64, per read / os.pread in a loop", bench.ring_many, bench.plain_preads),
        "many-kept": (
            "the same / a list of 64 from os.pread",
            bench.ring_many,
            bench.plain_kept_preads,
        ),
        "reads-least": (
            "reads, 64 tasks / os.pread and a checkpoint, which blocks",
            lambda: bench.ring_reads(TASKS, 19_200),
            lambda: bench.least_reads(TASKS, 19_200),
        ),
        "sequential": (
            "1 GiB in reads of 1 MiB / plain read",
            bench.ring_sequential,
            bench.plain_sequential,
        ),
        "sequential-least": (
            "the same / plain read and a checkpoint, which blocks",
            bench.ring_sequential,
            bench.least_sequential,
        ),
        "registered": (
            "CPU of reads of 64 KiB into registered buffers / into others",
            lambda: bench.into(1 << 16, 8_000, registered=True, direct=False),
            lambda: bench.into(1 << 16, 8_000, registered=False, direct=False),
        ),
        "registered-direct": (
            "the same past the page cache",
            lambda: bench.into(1 << 16, 2_000, registered=True, direct=True),
            lambda: bench.into(1 << 16, 2_000, registered=False, direct=True),
        ),
        "registered-direct-1M": (
            "the same, 1 MiB each",
            lambda: bench.into(1 << 20, 200, registered=True, direct=True),
            lambda: bench.into(1 << 20, 200, registered=False, direct=True),
        ),
        "registered-4K": (
            "4 KiB each, in the page cache",
            lambda: bench.into(1 << 12, 20_000, registered=True, direct=False),
            lambda: bench.into(1 << 12, 20_000, registered=False, direct=False),
        ),
        "stat-64": (
            "stat of 10 000 paths, 64 in flight / trio.Path",
            lambda: bench.stats(ring, uring_trio.Path, TASKS, PATHS),
            lambda: bench.stats(epoll, trio.Path, TASKS, 2_000),
        ),
        "stat-least": (
            "the same / os.stat and a checkpoint, which blocks",
            lambda: bench.stats(ring, uring_trio.Path, TASKS, PATHS),
            lambda: bench.least_stats(TASKS, PATHS),
        ),
        "stat-batch": (
            "the same, read_dir_stats of 64 / trio.Path",
            bench.ring_stats_batched,
            lambda: bench.stats(epoll, trio.Path, TASKS, 2_000),
        ),
        "stat-1": (
            "one after the other / trio.Path",
            lambda: bench.stats(ring, uring_trio.Path, 1, 3_000),
            lambda: bench.stats(epoll, trio.Path, 1, 1_000),
        ),
        "commit": (
            "1 000 appends with group commit / the same on stock Trio",
            lambda: bench.appends(ring, uring_trio.open_file, lambda file: file.fsync()),
            lambda: bench.appends(epoll, trio.open_file, _sync_in_thread),
        ),
        "commit-each": (
            "the same / stock Trio, each writer syncs",
            lambda: bench.appends(ring, uring_trio.open_file, lambda file: file.fsync()),
            bench.appends_each,
        ),
        "lines": (
            "lines of a text file / trio.open_file",
            lambda: bench.lines(ring, uring_trio.open_file, LINES),
            lambda: bench.lines(epoll, trio.open_file, 5_000),
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.files")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", default=[])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder))
        for name, (what, ring, other) in comparisons(bench).items():
            if options.only and name not in options.only:
                continue
            try:
                rounds = [(ring(), other()) for _ in range(options.rounds)]
            except ImportError as exc:
                print(f"{name:20} left out: {exc}", flush=True)
                continue
            ours = statistics.median(mine for mine, _ in rounds)
            theirs = statistics.median(its for _, its in rounds)
            ratios = Summary.of([its / mine for mine, its in rounds])
            figures = f"{ours * 1e6:12.2f} {theirs * 1e6:12.2f} µs {f'{ratios} ×':>22}"
            print(f"{name:20} {figures}  {what}", flush=True)
        print(f"threads started by the ring's reads: {bench.threads}")


if __name__ == "__main__":
    main()
