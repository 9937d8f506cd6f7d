"""Tests of programs on the ring: checks that a run was there and left nothing behind, and a ring without a
kernel, for rare results.

`assert_nothing_in_flight` looks at the current run, from a task of it; `no_leaks` goes around whole runs, in
plain code. Both raise ``AssertionError`` and name what is left.

`run_scripted` runs a program on a `ScriptedRing`, which completes what a test tells it to: a full disk, a
connection that breaks at a certain point, a cancel that comes too late.
"""

from __future__ import annotations

import gc
import os
from collections import Counter
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import trio

from uring.kernel.scripted import (
    FAKE_FD,
    RandomScheduler,
    Request,
    ScriptedBuffers,
    ScriptedRing,
    ScriptedVolley,
)

from . import seams
from .core.engine import current
from .core.manager import Manager
from .core.statistics import process_totals
from .launch.run import chosen_manager, prepare

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from .options import RingOptions

__all__ = [
    "FAKE_FD",
    "RandomScheduler",
    "Request",
    "ScriptedRing",
    "assert_no_leases",
    "assert_nothing_in_flight",
    "in_flight",
    "leased",
    "no_leaks",
    "run_scripted",
]

_T = TypeVar("_T")


def run_scripted(
    ring: ScriptedRing,
    async_fn: Callable[..., Awaitable[_T]],
    *args: Any,
    options: RingOptions | None = None,
    order: int | None = None,
    **trio_run_options: Any,
) -> _T:
    """`uring_trio.run` on a ring without a kernel: operations wait in ``ring.running`` until a task of the
    test completes them, or a function at ``ring.on_start``.

    Only operations of the ring are scripted. Sends that a socket takes at once never get there, and calls
    such as ``socket.close`` are the system's own; a wait for readiness of a real descriptor is answered
    truthfully. Received data needs a request with a buffer group, as those of Trio's sockets and streams
    have; a read into memory can be completed with a number or an errno, and moves no bytes.

    Args:
        ring: a new one; when the run ends it is closed, after what still ran there has been cancelled.
        async_fn, args: as for `trio.run`.
        options: sizes of the receive buffers; those of the queues are the ring's own.
        order: a number that decides the order of tasks which are ready together, so that a failed run can be
            repeated; None: Trio draws the order. It holds for every run of this process meanwhile.
        trio_run_options: as for `trio.run`; with an autojump clock, deadlines pass without waiting.

    Raises:
        RingClosed: the ring has been through a run before.
        Exception: whatever ``async_fn`` raises.
    """
    if ring.closed:
        raise ring.closed_error()
    prepare()
    as_ring: Any = ring  # its methods are what a kernel's ring has as attributes
    scheduling = nullcontext() if order is None else seams.scheduled_from(order)
    with (
        scheduling,
        chosen_manager(Manager.create(options, ring=as_ring, provide=ScriptedBuffers, volley=ScriptedVolley)),
    ):
        return trio.run(async_fn, *args, **trio_run_options)


def in_flight() -> dict[str, int]:
    """How many operations of each name this run has in flight, subscriptions included; those of the run
    itself are not counted.

    Raises:
        RuntimeError: not in a task of a ring run.
    """
    engine = current()
    statistics: Any = trio.lowlevel.current_statistics().io_statistics
    found: Counter[str] = Counter(statistics.in_flight)
    # A system task of Trio's waits in every run, to be woken from threads and signal handlers.
    found["wait_readable"] -= 1
    for owner in engine.owners.values():
        found.update(each.op.name for each in owner.others if each.op is not None)
    return dict(+found)


def assert_nothing_in_flight() -> None:
    """Asserts that no task of this run waits for the kernel and no subscription is armed.

    Raises:
        AssertionError: something is in flight; the message names it.
        RuntimeError: not in a task of a ring run.
    """
    left = in_flight()
    if left:
        raise AssertionError("in flight: " + ", ".join(f"{count} x {name}" for name, count in left.items()))


def leased() -> int:
    """How many receive buffers of this run's subscriptions are on loan: in a `uring_trio.Lease`, or in a
    queue and not taken yet.

    Raises:
        RuntimeError: not in a task of a ring run.
    """
    engine = current()
    groups = () if engine.groups is None else engine.groups.open
    on_loan: int = sum(queue.on_loan for queue in engine.queues)
    for group in groups:
        on_loan += group.in_use - group.available
    return on_loan


def assert_no_leases() -> None:
    """Asserts that every lease of this run has been given back.

    Raises:
        AssertionError: some have not.
        RuntimeError: not in a task of a ring run.
    """
    if left := leased():
        raise AssertionError(f"{left} receive buffers are on loan")


@contextmanager
def no_leaks() -> Iterator[None]:
    """Asserts that the block ran on a ring, that it left the same descriptors open as before it, and that
    every operation ended with its run. To be used around runs, outside of them.

    Raises:
        AssertionError: no ring run ended in the block, or something is left.
    """
    files, totals = _open_files(), process_totals()
    yield
    now = process_totals()
    if now["runs"] == totals["runs"]:
        raise AssertionError(
            "no ring run ended here: call uring_trio.run, or put trio.run on the ring by URING_TRIO=1 or "
            "pytest --uring"
        )
    if now["leaked"] > totals["leaked"]:
        raise AssertionError(f"{now['leaked'] - totals['leaked']} operations did not end with their run")
    if _open_files() != files:
        gc.collect()  # a descriptor that only a reference cycle holds is no leak
    left = {fd: name for fd, name in _open_files().items() if files.get(fd) != name}
    if left:
        raise AssertionError("left open: " + ", ".join(f"{fd} ({name})" for fd, name in left.items()))


def _open_files() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the descriptor that listed the directory
    return found
