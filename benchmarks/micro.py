"""One operation against a bare checkpoint: what the scheduler's round trip costs.

Each sample is a process of its own, `python -m benchmarks.micro KIND TASKS`, because the interpreter
specialises the scheduler's code to what it meets: kinds that share a process slow each other down, unevenly.
The kinds take turns, and CPU time is measured, so that neighbours on the machine disturb all alike.
"""

from __future__ import annotations

import gc
import socket
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

import trio

from .figures import Comparison, Contender
from .processes import Process, cores

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    Operation = Callable[[], Awaitable[object]]

OPERATIONS = 30_000
RUNS = 3  # in each process; the median is its sample


def checkpoint(stack: ExitStack) -> Operation:
    return trio.lowlevel.checkpoint


def receive(stack: ExitStack) -> Operation:
    """A receive that finds its byte each time: the socket's own operation, and the kernel's work for it."""
    near, far = socket.socketpair()
    ours = stack.enter_context(trio.socket.from_stdlib_socket(near))
    stack.enter_context(far).sendall(bytes(OPERATIONS + 1))
    return lambda: ours.recv(1)


def perform(stack: ExitStack) -> Operation:
    import uring_trio
    from uring import ops

    return lambda: uring_trio.perform(ops.nop())


def reused(stack: ExitStack) -> Operation:
    """What a socket does with its operation for a direction, all checks included, with a NOP in the entry."""
    from uring import ops
    from uring_trio import seams
    from uring_trio.core import engine

    current = engine.current()
    operation = current.acquire("nop")
    stack.callback(current.release, operation)
    operation.template = current.ring.template(operation.user_data, *ops.nop().fields)
    return partial(seams.transact, operation)


@dataclass(frozen=True)
class Kind:
    """What the tasks of a run do; `aims` are ratios to the baseline by the number of tasks."""

    name: str
    make: Callable[[ExitStack], Operation]
    on_ring: bool
    baseline: str | None = None
    aims: Mapping[int, float] = field(default_factory=dict)


KINDS = [
    Kind("checkpoint", checkpoint, False),
    Kind("ring-checkpoint", checkpoint, True, "checkpoint", {50: 1.03, 1: 0.95}),
    Kind("ring-reused", reused, True, "checkpoint", {50: 1.2, 1: 1.5}),
    Kind("ring-perform", perform, True, "checkpoint", {50: 0.7, 1: 0.7}),
    Kind("receive", receive, False, "checkpoint"),
    Kind("ring-receive", receive, True, "receive"),
]


async def repeat(operation: Operation, count: int) -> None:
    for _ in range(count):
        await operation()


async def timed(make: Callable[[ExitStack], Operation], tasks: int) -> float:
    """CPU microseconds an operation, with so many tasks at it."""
    each = OPERATIONS // tasks
    with ExitStack() as stack:
        operations = [make(stack) for _ in range(tasks)]
        for operation in operations:
            await operation()
        gc.collect()
        before = time.process_time_ns()
        async with trio.open_nursery() as nursery:
            for operation in operations:
                nursery.start_soon(repeat, operation, each)
        return (time.process_time_ns() - before) / 1000 / (each * tasks)


def run_once(kind: Kind, tasks: int) -> float:
    if not kind.on_ring:
        return trio.run(timed, kind.make, tasks)
    import uring_trio

    return uring_trio.run(timed, kind.make, tasks)


def sample(kind: Kind, tasks: int) -> float:
    command = [sys.executable, "-m", "benchmarks.micro", kind.name, str(tasks)]
    with Process(kind.name, command, cores()[0]) as child:
        return float(child.line())


def compare(tasks: int, rounds: int, wanted: Callable[[str], bool]) -> Iterator[int | Comparison]:
    """Yield after each round its number, and at the end the comparison."""
    names = {kind.name for kind in KINDS if wanted(kind.name)}
    names |= {kind.baseline for kind in KINDS if kind.name in names and kind.baseline}
    kinds = [kind for kind in KINDS if kind.name in names]
    samples: dict[str, list[float]] = {kind.name: [] for kind in kinds}
    for done in range(1, rounds + 1):
        for kind in kinds:
            samples[kind.name].append(sample(kind, tasks))
        yield done
    contenders = [
        Contender(kind.name, {"cpu": samples[kind.name]}, kind.baseline, kind.aims.get(tasks))
        for kind in kinds
    ]
    text = f"one operation, {tasks} task{'s' * (tasks > 1)}"
    yield Comparison(f"operation-{tasks}", text, {"cpu": "µs/operation"}, contenders)


if __name__ == "__main__":
    chosen = next(kind for kind in KINDS if kind.name == sys.argv[1])
    print(median(run_once(chosen, int(sys.argv[2])) for _ in range(RUNS)), flush=True)
