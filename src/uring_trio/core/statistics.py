"""What a ring run counts, and the totals over the runs of this process that have ended."""

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

    ``in_flight`` counts operations by name. ``cancels_won`` are requests after which the operation came
    back cancelled, ``cancels_lost`` found it finished, ``cancels_running`` found it in a kernel worker;
    ``cancels_unsent`` never reached the kernel because their operation had not either. ``workers`` is how
    many kernel workers may run at once for files and paths. ``restrictions`` are the operations of
    ``RingOptions(restrictions=)`` with those that a run needs; None: the ring may do any.
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
