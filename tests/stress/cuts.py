"""The trial of power cuts: programs that promise what is on storage, and the power that may go at any moment.

A program is played once on the real ring and disk, with `disk.Recorder` before the ring. Then the power is
cut after each step of the record: with everything lost that was not synced, with all of it kept, and between.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import monotonic
from typing import Any

import trio

import uring_trio
from examples import store
from uring import ops
from uring_trio import RingOptions
from uring_trio.core import engine

from .disk import Disk, Event, Recorder
from .parts import part

__all__ = ["PROGRAMS", "Unsafe", "examine", "play"]

Files = dict[str, bytes]
Check = Callable[[Files, Files, set[bytes], set[bytes]], None]
"""Raises `Unsafe` for what a cut left, of what there was before, was asked for and was acknowledged."""

Program = Callable[[Path, Recorder, random.Random], Awaitable[None]]


class Unsafe(AssertionError):
    """Something that was acknowledged is not there after a cut."""


async def appends(folder: Path, record: Recorder, rng: random.Random) -> None:
    """`examples/store.py`, with writers that come together or alone."""

    async def writer(kept: store.Store, number: int) -> None:
        data = b"%d " % number + rng.randbytes(rng.choice((0, 3, 100, 700)))
        record.tell("asked", data)
        await kept.append(data)
        record.tell("acknowledged", data)

    async with store.open_store(str(folder / "store")) as kept:
        numbers = iter(range(len(kept.records), 1 << 30))
        for _ in range(rng.randrange(1, 4)):
            async with trio.open_nursery() as nursery:
                for _ in range(rng.choice((1, 2, 5))):
                    nursery.start_soon(writer, kept, next(numbers))


def check_store(files: Files, before: Files, asked: set[bytes], told: set[bytes]) -> None:
    records, _ = store.parse(files.get("store", b""))
    earlier, _ = store.parse(before.get("store", b""))
    if not told.union(earlier).issubset(records):
        raise Unsafe("records that were acknowledged are gone")
    if not asked.union(earlier).issuperset(records):
        raise Unsafe("there are records that nobody has written")


async def replaces(folder: Path, record: Recorder, rng: random.Random) -> None:
    """A file that is replaced: written beside it, synced, renamed, and the folder synced."""
    for number in range(rng.randrange(1, 4)):
        beside = folder / f"new-{number}"
        async with await uring_trio.open_file(beside, "xb", buffering=0) as file:
            data = b"%d " % number + rng.randbytes(rng.choice((10, 3000)))
            record.tell("asked", data)
            await file.pwrite(data, 0)
            await file.fsync()
        await uring_trio.rename(beside, folder / "file")
        await sync_folder(folder)
        record.tell("acknowledged", data)


def check_replaced(files: Files, before: Files, asked: set[bytes], told: set[bytes]) -> None:
    content = files.get("file")
    if content is None:
        if told:
            raise Unsafe("the file is gone")
    elif content not in asked:
        raise Unsafe("the file holds what nobody has written")
    elif version(content) < max(map(version, told), default=0):
        raise Unsafe("the file is older than what was acknowledged")


def version(content: bytes) -> int:
    return int(content.split(b" ")[0])


async def sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        await uring_trio.perform(ops.fsync(fd))
    finally:
        os.close(fd)


PROGRAMS: dict[str, tuple[Program, Check]] = {
    "store": (appends, check_store),
    "replaced file": (replaces, check_replaced),
}


def play(program: Program, folder: Path, rng: random.Random) -> Recorder:
    """Plays a program on the real ring and disk; what it asked of both."""
    record, stock = Recorder(folder), engine.open_ring
    engine.open_ring = lambda options: record.watch(stock(options))
    try:
        uring_trio.run(program, folder, record, rng, ring=RingOptions(compiled=False))
    finally:
        engine.open_ring = stock
    return record


def everything(event: Event) -> int:
    return 1


def nothing(event: Event) -> int:
    return 0


def examine(
    record: Recorder, before: Files, check: Check, rng: random.Random, states: int
) -> tuple[int, list[Files]]:
    """Cuts the power after each step; how many states were looked at, and what the last cut may have left."""
    folder, looked, last = record.folder.stat().st_ino, 0, list[Files]()
    asked, told = set[bytes](), set[bytes]()
    said = {event.begun: event for event in record.events if event.kind in ("asked", "acknowledged")}
    for cut in range(record.clock + 1):
        if cut in said:
            (asked if said[cut].kind == "asked" else told).add(said[cut].result)
        disk = Disk(record.events, cut, folder, before)
        last = []
        for pick in (nothing, everything, *[lambda event: rng.randrange(3)] * states):
            files = disk.state(pick, rng)
            check(files, before, asked, told)
            last.append(files)
            looked += 1
    real = {path.name: path.read_bytes() for path in record.folder.iterdir()}
    if last[1] != real:
        raise AssertionError(f"the record is not what the disk has: {sorted(last[1])}, {sorted(real)}")
    return looked, last


@part
def power_cuts(chance: random.Random, seconds: float) -> dict[str, Any]:
    """The power goes after any step of programs that sync: what they acknowledged is there afterwards."""
    counts = Counter[str]()
    until = monotonic() + seconds
    while monotonic() < until or not counts["states"]:
        for program, check in PROGRAMS.values():
            before: Files = {}
            for _ in range(3):
                with tempfile.TemporaryDirectory() as name:
                    folder = Path(name)
                    for file, content in before.items():
                        (folder / file).write_bytes(content)
                    record = play(program, folder, chance)
                    states, last = examine(record, before, check, chance, 10)
                counts["programs"] += 1
                counts["steps"] += record.clock
                counts["states"] += states
                if program is not appends:
                    break
                before = chance.choice(last)  # and begins again from what a cut has left
    return {**counts, "lost": 0}
