"""For tests of programs on the ring: that a test ran on one, and that it left nothing behind.

`assert_nothing_in_flight` looks at the current run, from a task of it; `no_leaks` goes around whole runs, in
plain code. Both raise ``AssertionError`` with the names of what is left.
"""

from __future__ import annotations

import gc
import os
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING

from .manager import current, process_totals

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["assert_nothing_in_flight", "in_flight", "no_leaks"]


def in_flight() -> dict[str, int]:
    """How many operations of each name this run has in flight, subscriptions included; what a run does for
    itself is not counted.

    Raises:
        RuntimeError: not in a task of a ring run.
    """
    manager = current()
    found = Counter(manager.statistics().in_flight)
    # A system task of Trio's waits in every run, to be woken from threads and signal handlers.
    found["wait_readable"] -= 1
    for channel in manager.channels.values():
        found.update(each.op.name for each in channel.others if each.op is not None)
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
        raise AssertionError("no ring run ended here: it did not run on a ring")
    if now["leaked"] > totals["leaked"]:
        raise AssertionError(f"{now['leaked'] - totals['leaked']} operations did not end with their run")
    if _open_files() != files:
        gc.collect()  # what only a reference cycle holds is no leak
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
