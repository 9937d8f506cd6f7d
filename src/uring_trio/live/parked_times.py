"""How long tasks have been parked, found by looks alone.

A Trio instrument that notes when each task parks would cost two calls for each step of each task, and would
keep the run out of ticks in C. Trio counts the steps of a task in any case. So a task whose count is the one
of the look before has been parked since then at least. Its age begins with the look that first found it so,
up to one interval between looks too late.

Each look goes over everything in flight once, and describes the oldest waits. System calls and a walk over
frames are made for a limited number of waits, and once for each.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from ..core import inspection

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..core.engine import Engine

__all__ = ["ParkedTimes"]


@dataclass(slots=True, eq=False)
class _Wait:
    name: str
    fd: int
    state: str
    task: Any
    steps: int
    since: float
    row: inspection.InFlight | None = None


class ParkedTimes:
    """The waits of a run, since the object was made."""

    def __init__(self) -> None:
        self._first = time.monotonic()
        self._known: dict[object, _Wait] | None = None

    def look(
        self, engine: Engine, own: Collection[Any], most: int
    ) -> tuple[list[dict[str, Any]], Counter[str]]:
        """Rows of at most ``most`` waits, the oldest first, and how many there are of each name.

        Args:
            own: tasks whose waits are left out.
        """
        now = time.monotonic()
        begins = self._first if self._known is None else now
        before = self._known or {}
        self._known = {}
        names: Counter[str] = Counter()
        for key, name, fd, state, task in inspection.waits(engine):
            if task in own:
                continue
            names[name] += 1
            steps = -1 if task is None else inspection.steps(task)
            wait = before.get(key)
            if wait is None or wait.task is not task or wait.steps != steps or task is None:
                wait = _Wait(name, fd, state, task, steps, begins)
            elif wait.state != state:
                wait.state, wait.row = state, None
            self._known[key] = wait
        oldest = heapq.nsmallest(most, self._known.values(), key=attrgetter("since"))
        return [self._row(wait, now) for wait in oldest], names

    def _row(self, wait: _Wait, now: float) -> dict[str, Any]:
        if wait.row is None:
            wait.row = inspection.describe(wait.name, wait.fd, wait.state, wait.task, None)
        parked = wait.task is not None
        age = now - wait.since if parked else None
        return {**asdict(wait.row), "age": age, "parked_before": parked and wait.since == self._first}
