"""Pipes of child processes: operations of the ring next to readiness, on the ring and on epoll.

    python -m benchmarks.pipes [--rounds 5] [--only NAME]

CPU time of this side, kernel workers included, the child not; for each unit, a MiB or a message there and
back. Each sample is a process of its own, and contenders take turns. ``readiness`` is a ring run in which
pipes are Trio's own streams, as it was before they had operations.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import trio

import uring_trio
from uring_trio import seams

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CONTENDERS = ("epoll", "readiness", "operations")
MIB = 1 << 20
LARGE = 100
MESSAGES = 20_000
CHILDREN = 20
MESSAGE = b"x" * 64
SLOW = """
import os, time
while data := os.read(0, 65536):
    time.sleep(0.002)
    os.write(1, data)
"""


async def through() -> int:
    """100 MiB through a child, there and back."""
    data = bytes(LARGE * MIB)
    done = await trio.run_process(["cat"], stdin=data, capture_stdout=True)
    assert len(done.stdout) == len(data)
    return LARGE


async def out() -> int:
    """100 MiB from a child."""
    done = await trio.run_process(["head", "-c", str(LARGE * MIB), "/dev/zero"], capture_stdout=True)
    assert len(done.stdout) == LARGE * MIB
    return LARGE


async def into() -> int:
    """100 MiB to a child."""
    await trio.run_process(["sh", "-c", "cat >/dev/null"], stdin=bytes(LARGE * MIB))
    return LARGE


async def talk_1() -> int:
    """64 bytes there and back, one child that answers at once."""
    return await _talk(["cat"], 1, MESSAGES)


async def talk_20() -> int:
    """The same with 20 children."""
    return await _talk(["cat"], CHILDREN, MESSAGES // CHILDREN)


async def slow_20() -> int:
    """The same, each takes 2 ms to answer."""
    return await _talk([sys.executable, "-c", SLOW], CHILDREN, 300)


WORKLOADS: dict[str, Callable[[], Awaitable[int]]] = {
    "through": through,
    "out": out,
    "into": into,
    "talk-1": talk_1,
    "talk-20": talk_20,
    "slow-20": slow_20,
}
_started = 0.0


async def _talk(command: list[str], children: int, messages: int) -> int:
    global _started
    processes: list[Any] = [
        await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(children)
    ]

    async def one(process: Any, count: int) -> None:
        for _ in range(count):
            await process.stdin.send_all(MESSAGE)
            await process.stdout.receive_some()

    for process in processes:
        await one(process, 10)  # it is up
    _started = time.process_time()
    async with trio.open_nursery() as nursery:
        for process in processes:
            nursery.start_soon(one, process, messages)
    for process in processes:
        await process.stdin.aclose()
        await process.wait()
        await process.stdout.aclose()
    return children * messages


def sample(contender: str, workload: str) -> None:
    """Runs one and prints its CPU seconds for each unit."""

    async def main() -> float:
        global _started
        if contender == "readiness":
            seams.patch_pipe_type(trio.lowlevel.FdStream)
        _started = time.process_time()
        units = await WORKLOADS[workload]()
        return (time.process_time() - _started) / units

    run: Callable[..., float] = trio.run if contender == "epoll" else uring_trio.run
    print(json.dumps(run(main)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.pipes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", choices=list(WORKLOADS))
    parser.add_argument("--sample", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sample:
        sample(*options.sample)
        return
    for name in options.only or WORKLOADS:
        rounds = []
        for number in range(options.rounds):
            turn = number % len(CONTENDERS)
            rounds.append(
                {
                    contender: _sample_apart(contender, name)
                    for contender in CONTENDERS[turn:] + CONTENDERS[:turn]
                }
            )
        print(f"{name:8} {WORKLOADS[name].__doc__}")
        for contender in CONTENDERS:
            unit = statistics.median(each[contender] for each in rounds)
            ratios = sorted(each["operations"] / each[contender] for each in rounds)
            ratio = f"{statistics.median(ratios):5.2f} × ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            against = "" if contender == "operations" else f"   operations: {ratio} of it"
            print(f"         {contender:10} {unit * 1e6:9.1f} µs{against}", flush=True)


def _sample_apart(contender: str, workload: str) -> float:
    command = [sys.executable, "-m", "benchmarks.pipes", "--sample", contender, workload]
    seconds: float = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=60).stdout)
    return seconds


if __name__ == "__main__":
    main()
