"""Trials with several processes or threads: forks in the middle of a run, kills, a ring in each thread.

As in `parts`: a part ends when its time is over, and raises if a promise is broken.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import trio

import uring
import uring_trio
from examples import store
from uring import ops

from .parts import BOUND, asks, files_open, part, serving

if TYPE_CHECKING:
    import random

__all__: list[str] = []

Counts = dict[str, Any]
ROOT = Path(__file__).parents[2]


# ---- forks -----------------------------------------------------------------------------------------------


def own_run_in_a_thread() -> bool:
    """Whether a process that was forked in the middle of a run has rings of its own."""
    held: list[bool] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            port = await serving(nursery)
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await asks(stream, bytes(10_000))
            held.append(True)
            nursery.cancel_scope.cancel()

    thread = threading.Thread(target=uring_trio.run, args=(main,), daemon=True)
    thread.start()
    thread.join(BOUND)
    return held == [True]


def life_of_a_child() -> int:
    """0 if the parent's ring is refused here, with an error that says so, and one of its own works."""
    try:
        waiting = uring_trio.perform(ops.nop()).__await__()
        next(waiting)
    except uring.RingClosed:
        return 0 if own_run_in_a_thread() else 2
    except BaseException:
        return 3
    return 4


@part
def forks(chance: random.Random, seconds: float) -> Counts:
    """Forks at any moment of a busy run: the child may not touch the ring, and may have its own; no byte of
    the parent's is lost."""
    counts = Counter[str]()

    async def main() -> None:
        until = monotonic() + seconds
        async with trio.open_nursery() as nursery:
            port = await serving(nursery)
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                while monotonic() < until:
                    async with trio.open_nursery() as busy:
                        busy.start_soon(asks, stream, chance.randbytes(chance.choice((10, 100_000))))
                        for _ in range(chance.randrange(6)):
                            await trio.lowlevel.checkpoint()
                        child = os.fork()
                        if not child:
                            signal.alarm(int(2 * BOUND))
                            os._exit(life_of_a_child())
                    _, status = await trio.to_thread.run_sync(os.waitpid, child, 0)
                    assert status == 0, f"a forked child ends with {os.waitstatus_to_exitcode(status)}"
                    counts["forks"] += 1
            nursery.cancel_scope.cancel()

    before = files_open()
    uring_trio.run(main)
    assert files_open() == before
    return dict(counts)


# ---- kills -----------------------------------------------------------------------------------------------


async def append_for_ever(path: str, first: int) -> None:
    """Writes the number of each record to standard output once it is on storage."""
    numbers = iter(range(first, 1 << 60))

    async def writer(kept: store.Store) -> None:
        for number in numbers:
            await kept.append(b"%d" % number)
            os.write(1, b"%d\n" % number)

    async with store.open_store(path) as kept:
        os.write(1, b"open\n")
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(writer, kept)


@part
def kills(chance: random.Random, seconds: float) -> Counts:
    """SIGKILL at any moment to a store with fifty writers: what it had acknowledged is there afterwards."""
    counts = Counter[str]()
    acknowledged: set[int] = set()
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/store"
        until = monotonic() + seconds
        while monotonic() < until or not counts["kills"]:
            command = [
                sys.executable,
                "-m",
                "tests.stress.processes",
                path,
                str(max(acknowledged, default=-1) + 100),
            ]
            with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as child:
                assert child.stdout is not None
                assert child.stdout.readline() == b"open\n"
                threading.Event().wait(chance.random() / 3)
                child.kill()
                told = child.stdout.read()
            acknowledged.update(map(int, told[: told.rfind(b"\n") + 1].split()))
            records, _ = store.parse(Path(path).read_bytes())
            missing = acknowledged - {int(record) for record in records}
            assert not missing, f"{len(missing)} acknowledged records are gone: {sorted(missing)[:5]}"
            counts["kills"] += 1
    return {**counts, "records acknowledged": len(acknowledged), "lost": 0}


# ---- threads ---------------------------------------------------------------------------------------------


@part
def threads(chance: random.Random, seconds: float) -> Counts:
    """A ring in each of eight threads at once, with sockets, files and cancels; each ends as it began."""
    counts = Counter[str]()
    failed: list[BaseException] = []
    until = monotonic() + seconds

    async def life(folder: str, rng: random.Random) -> None:
        async with trio.open_nursery() as nursery:
            port = await serving(nursery)
            while monotonic() < until:
                async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                    await asks(stream, rng.randbytes(rng.choice((1, 1000, 50_000))))
                    with trio.move_on_after(rng.choice((0, 0.0005))):
                        await stream.receive_some()
                path = uring_trio.Path(folder) / str(threading.get_ident())
                data = rng.randbytes(2000)
                await path.write_bytes(data)
                assert await path.read_bytes() == data
                counts["rounds"] += 1
                if rng.random() < 0.01:
                    break
            nursery.cancel_scope.cancel()

    def run(folder: str, seed: int) -> None:
        rng = type(chance)(seed)
        try:
            while monotonic() < until:
                uring_trio.run(life, folder, rng)
                counts["runs"] += 1
        except BaseException as exc:
            failed.append(exc)

    before = files_open()
    with tempfile.TemporaryDirectory() as folder:
        started = [threading.Thread(target=run, args=(folder, chance.randrange(1 << 32))) for _ in range(8)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()
    if failed:
        raise failed[0]
    assert files_open() == before
    return {"threads": 8, **counts}


if __name__ == "__main__":
    uring_trio.run(append_for_ever, sys.argv[1], int(sys.argv[2]))
