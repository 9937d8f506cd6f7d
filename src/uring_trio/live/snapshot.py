"""What `top` shows: a ring run at one moment, as JSON can hold it."""

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
from ..core.inspection import Ages, collect

if TYPE_CHECKING:
    from ..core.engine import Engine

__all__ = ["Watcher"]


class Watcher(debug.Instrument):
    """Looks at the run of the task that makes it. Between `start` and `stop` ages and kinds are known.

    Args:
        task: the task that answers; what it and its children wait for is left out.
    """

    def __init__(self, engine: Engine, task: trio.lowlevel.Task) -> None:
        self._engine = engine
        self._task = task
        self._began = time.monotonic()
        self._watchers = 0
        self._watched_since = 0.0
        self._ages = Ages()
        self._completed: Counter[str] = Counter()

    def start(self) -> None:
        """Somebody wants to know."""
        self._watchers += 1
        if self._watchers == 1:
            self._watched_since = time.monotonic()
            debug.add_instrument(self)
            trio.lowlevel.add_instrument(self._ages)

    def stop(self) -> None:
        """Somebody does not any more."""
        self._watchers -= 1
        if not self._watchers:
            debug.remove_instrument(self)
            trio.lowlevel.remove_instrument(self._ages)
            self._ages.parked.clear()

    def completed(self, name: str, fd: int, res: int, more: bool) -> None:
        self._completed[name] += 1

    def look(self) -> dict[str, Any]:
        """The run now. Counts grow from the start of the run; ``completed_by_kind`` only while watched."""
        engine = self._engine
        counts: Any = trio.lowlevel.current_statistics()
        statistics = asdict(counts.io_statistics)
        ring: Any = engine.ring
        groups = [] if engine.groups is None else engine.groups.open
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
            "completed_by_kind": dict(self._completed),
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
            "in_flight": [self._row(asdict(row)) for row in collect(engine, self._ages, self._is_own)],
        }

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        """With a lower bound where the task has not run since somebody is watching."""
        row["parked_before"] = row["age"] is None and bool(row["task"])
        if row["parked_before"]:
            row["age"] = time.monotonic() - self._watched_since
        return row

    def _is_own(self, task: trio.lowlevel.Task | None) -> bool:
        while task is not None:
            if task is self._task:
                return True
            nursery = task.parent_nursery
            task = None if nursery is None else nursery.parent_task
        return False
