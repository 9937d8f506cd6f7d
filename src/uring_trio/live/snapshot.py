"""A ring run at one moment, as `top` shows it, in the types of JSON.

A look costs the run little, however busy it is: the first `COUNTED` completions after a look are counted by
kind, one by one in Python. Then ticks run in C again until the next look, which takes the shares of those for
the shares of all, whose number the ring counts in any case.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import trio

from .. import debug
from .parked_times import ParkedTimes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..core.engine import Engine

__all__ = ["COUNTED", "ROWS", "Watcher"]

COUNTED = 500
"""Completions after each look that are counted by kind."""

ROWS = 200
"""Operations in flight that a look describes at most, those that have waited longest."""


class Watcher(debug.Instrument):
    """Looks at the run of the task that makes it. Between `start` and `stop` ages and kinds are known.

    Args:
        task: the task that answers; its waits and those of its children are left out.
    """

    def __init__(self, engine: Engine, task: trio.lowlevel.Task) -> None:
        self._engine = engine
        self._task = task
        self._began = time.monotonic()
        self._watchers = 0
        self._parked = ParkedTimes()
        self._completed: dict[str, float] = {}
        self._sample: Counter[str] = Counter()
        self._left = 0  # completions that are still to be counted; above 0 this instrument is the run's
        self._total = 0  # completions of the run when the sample began

    def start(self) -> None:
        """A viewer connected."""
        self._watchers += 1
        if self._watchers == 1:
            self._parked = ParkedTimes()
            self._total = self._engine.ring.counters()["completed"]
            self._count()

    def stop(self) -> None:
        """A viewer disconnected."""
        self._watchers -= 1
        if not self._watchers:
            if self._left:
                debug.remove_instrument(self)
                self._left = 0
            self._parked = ParkedTimes()

    def completed(self, name: str, fd: int, res: int, more: bool) -> None:
        if self._left:
            self._sample[name] += 1
            self._left -= 1
            if not self._left:
                debug.remove_instrument(self)

    def _count(self) -> None:
        if not self._left:
            debug.add_instrument(self)
        self._left = COUNTED
        self._sample.clear()

    def _take_sample(self, total: int) -> float:
        """Adds what completed since the last look to the counts by kind, and begins the next sample. Returns
        the share of it that was counted."""
        done, self._total = total - self._total, total
        size = self._sample.total()
        counted = 1.0 if self._left or not done else min(1.0, size / done)
        for name, n in self._sample.items():
            self._completed[name] = self._completed.get(name, 0.0) + n / counted
        self._count()
        return counted

    def look(self) -> dict[str, Any]:
        """The run now. Counts grow from the start of the run; ``completed_by_kind`` only while watched."""
        engine = self._engine
        counts: Any = trio.lowlevel.current_statistics()
        statistics = asdict(counts.io_statistics)
        ring: Any = engine.ring
        groups = [] if engine.groups is None else engine.groups.open
        counted = self._take_sample(statistics["completed"])
        rows, names = self._parked.look(engine, {*_family(self._task)}, ROWS)
        return {
            "process": os.getpid(),
            "thread": threading.current_thread().name,
            "program": " ".join([os.path.basename(sys.argv[0]) or "python", *sys.argv[1:]])[:200],
            "up": time.monotonic() - self._began,
            "time": time.monotonic(),
            "cpu": time.thread_time(),
            "tasks": counts.tasks_living,
            "runnable": counts.tasks_runnable,
            "statistics": statistics,
            "completed_by_kind": {name: round(n) for name, n in self._completed.items()},
            "counted": counted,
            "ring": {
                "entries": ring.sq_entries,
                "queued": ring.pending,
                "cq_entries": ring.cq_entries,
                "in_flight": ring.inflight,
            },
            "buffers": {
                "in_use": engine.buffers.in_use,
                "most": engine.options.buffers,
                "size": engine.options.buffer_size,
                "groups": len(groups),
                "lent": sum(group.in_use - group.available for group in groups),
            },
            "in_flight": rows,
            "in_flight_by_kind": names,
        }


def _family(task: trio.lowlevel.Task) -> Iterator[trio.lowlevel.Task]:
    """A task and those below it."""
    yield task
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _family(child)
