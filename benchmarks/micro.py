"""One operation against a bare checkpoint, in this process: what the scheduler's round trip costs.

Stock and ring runs alternate, and CPU time is measured, so that neighbours on the machine disturb both alike.
Each sample is one run in which every task awaits its operation many times.
"""

from __future__ import annotations

import gc
import socket
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import trio

from .figures import Comparison, Contender

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    Operation = Callable[[], Awaitable[object]]

OPERATIONS = 30_000
BASELINE = "checkpoint"


def checkpoint(stack: ExitStack) -> Operation:
    return trio.lowlevel.checkpoint


def receive(stack: ExitStack) -> Operation:
    """A receive that finds its byte each time: the socket's own operation, and the kernel's work for it."""
    near, far = socket.socketpair()
    ours = stack.enter_context(trio.socket.from_stdlib_socket(near))
    stack.enter_context(far).send(b"x")
    return lambda: ours.recv(1, socket.MSG_PEEK)


def nop(stack: ExitStack) -> Operation:
    import uring
    import uring_trio

    return lambda: uring_trio.perform(uring.ops.nop())


# name, on the ring, what makes a task's operation, aim against a stock checkpoint by number of tasks
CONTENDERS: list[tuple[str, bool, Callable[[ExitStack], Operation], dict[int, float]]] = [
    (BASELINE, False, checkpoint, {}),
    ("receive", False, receive, {}),
    ("ring-checkpoint", True, checkpoint, {50: 1.03, 1: 0.95}),
    ("ring-nop", True, nop, {50: 1.5, 1: 1.7}),
    ("ring-receive", True, receive, {50: 1.2, 1: 1.5}),
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


def run_once(on_ring: bool, make: Callable[[ExitStack], Operation], tasks: int) -> float:
    if not on_ring:
        return trio.run(timed, make, tasks)
    import uring_trio

    result: float = uring_trio.run(timed, make, tasks)
    return result


def compare(tasks: int, rounds: int, wanted: Callable[[str], bool]) -> Iterator[int | Comparison]:
    """Yield after each round its number, and at the end the comparison."""
    chosen = [c for c in CONTENDERS if c[0] == BASELINE or wanted(c[0])]
    samples: dict[str, list[float]] = {name: [] for name, *_ in chosen}
    for done in range(1, rounds + 1):
        for name, on_ring, make, _ in chosen:
            samples[name].append(run_once(on_ring, make, tasks))
        yield done
    contenders = [
        Contender(name, {"cpu": samples[name]}, None if name == BASELINE else BASELINE, aims.get(tasks))
        for name, _, _, aims in chosen
    ]
    text = f"one operation, {tasks} task{'s' * (tasks > 1)}"
    yield Comparison(f"operation-{tasks}", text, {"cpu": "µs/operation"}, contenders)
