"""The counts of a ring run, and the totals over the runs of this process that have ended."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ProcessTotals", "RingStatistics", "process_totals", "totals", "totals_until_now"]


@dataclass(frozen=True, slots=True)
class RingStatistics:
    """``trio.lowlevel.current_statistics().io_statistics`` of a ring run.

    Counts grow from the beginning of the run.

    Attributes:
        tasks_waiting_read: tasks in ``trio.lowlevel.wait_readable``, as on stock Trio.
        tasks_waiting_write: tasks in ``trio.lowlevel.wait_writable``.
        in_flight: operations with a task parked on them, by name; the two above are among them.
        submitted: entries that the kernel has taken.
        completed: completions taken from the kernel. A multishot operation has many.
        enters: calls of io_uring_enter.
        overflows: completions that found the completion queue full. The kernel keeps them.
        late: completions that belonged to no operation any more.
        cancels_requested: cancels of operations, sent to the kernel.
        cancels_won: cancels after which the operation came back cancelled.
        cancels_lost: cancels that found the operation finished.
        cancels_running: cancels that found the operation in a kernel worker.
        cancels_unsent: cancels that never reached the kernel because their operation had not either.
        workers: how many kernel workers may run at once for files and paths.
        compiled_ticks: scheduler ticks that ran in C.
        backend: ``"io_uring"``.
        restrictions: the operations of ``RingOptions(restrictions=)`` with those that a run needs; None: the
            ring may do any.
    """

    tasks_waiting_read: int
    tasks_waiting_write: int
    in_flight: dict[str, int]
    submitted: int
    completed: int
    enters: int
    overflows: int
    late: int
    cancels_requested: int
    cancels_won: int
    cancels_lost: int
    cancels_running: int
    cancels_unsent: int
    workers: int
    compiled_ticks: int = 0
    backend: str = "io_uring"
    restrictions: tuple[str, ...] | None = None


class ProcessTotals:
    """Counts over all ring runs of this process that have ended; any thread may add to them, and a signal
    handler may read them. ``running`` has the counters of those that have not."""

    def __init__(self) -> None:
        self.lock: Any = threading.RLock()
        self.running: dict[int, Callable[[], dict[str, int]]] = {}
        self.runs: int = 0
        self.submitted: int = 0
        self.completed: int = 0
        self.enters: int = 0
        self.leaked: int = 0

    def add(self, counters: dict[str, int], leaked: int) -> None:
        """Adds a run that has ended, with its ring's counters."""
        with self.lock:
            self.runs += 1
            self.submitted += counters["submitted"]
            self.completed += counters["completed"]
            self.enters += counters["enters"]
            self.leaked += leaked


totals: ProcessTotals = ProcessTotals()


def totals_until_now() -> dict[str, int]:
    """As `process_totals`, with the runs that have not ended."""
    found = process_totals()
    for counters in list(totals.running.values()):
        found["runs"] += 1
        for name, count in counters().items():
            if name in found:
                found[name] += count
    return found


def process_totals() -> dict[str, int]:
    """Totals over the ring runs of this process that have ended: runs, submitted, completed, enters, and
    operations that had to be leaked."""
    with totals.lock:
        return {
            name: getattr(totals, name) for name in ("runs", "submitted", "completed", "enters", "leaked")
        }
