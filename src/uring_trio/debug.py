"""A readable list of a ring run's operations in flight, with the task and the line that awaits each.

It reads what the run keeps anyway. Ages cost a Trio instrument, so that they are known only while
`track_ages` is on. An `Instrument` of a run is called for each operation that is submitted or completes.
While a run has none, and without `track_ages`, nothing here costs anything.
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING, TextIO
from weakref import WeakKeyDictionary

import trio

from uring import abi
from uring.kernel.ring import CQE

from .core.engine import Engine, current
from .core.inspection import Ages, InFlight, collect, flying

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "InFlight",
    "Instrument",
    "add_instrument",
    "dump",
    "dump_on_signal",
    "in_flight",
    "remove_instrument",
    "track_ages",
]

_MORE = int(abi.IORING_CQE_F_MORE)


def in_flight() -> list[InFlight]:
    """Every operation in flight in this run.

    Raises:
        RuntimeError: outside a ring run.
    """
    return list(collect(current(), _ages))


def dump(file: TextIO | None = None) -> None:
    """Prints `in_flight` as a table. Errors as for `in_flight`.

    Args:
        file: a text file to print to; None: standard error.
    """
    _print(current(), file or sys.stderr)


def dump_on_signal(signum: int = signal.SIGUSR1) -> None:
    """Makes a signal print what this run has in flight, until the run ends or the handler is replaced.

    Args:
        signum: the number of the signal.

    Raises:
        RuntimeError: outside a ring run, or not in the main thread's.
    """
    engine = current()

    def handler(signum: int, frame: object) -> None:
        if not engine.closed:
            _print(engine, sys.stderr)

    try:
        signal.signal(signum, handler)
    except ValueError:
        raise RuntimeError("only a run in the main thread can handle signals") from None


def track_ages() -> None:
    """Notes when each task parks, from this call on, by a Trio instrument. Each task step then costs two
    calls."""
    current()
    trio.lowlevel.add_instrument(_ages)


class Instrument:
    """Called for the operations of a run; override the methods of interest. An exception of one
    ends the run. A class that overrides `completed` alone costs less, and is called for the run's own
    operations too, such as cancels and wake-ups."""

    def submitted(self, name: str, fd: int) -> None:
        """An operation is about to be handed to the kernel (or was, within this tick).

        Args:
            name: the operation's name, as in the statistics.
            fd: its descriptor, -1 for none.
        """

    def completed(self, name: str, fd: int, res: int, more: bool) -> None:
        """An operation completed.

        Args:
            name: the operation's name, as in the statistics.
            fd: its descriptor, -1 for none.
            res: its result as the kernel gives it: a number, or a negative errno.
            more: whether it will complete again.
        """


def add_instrument(instrument: Instrument) -> None:
    """Calls an instrument for every operation of this run, until `remove_instrument`. Each tick then looks at
    all that is in flight.

    Args:
        instrument: an object of a class derived from `Instrument`.

    Raises:
        TypeError: not an `Instrument`.
        RuntimeError: outside a ring run.
    """
    if not isinstance(instrument, Instrument):
        raise TypeError(f"an Instrument is needed, not {type(instrument).__name__}")
    engine = current()
    watch = _watches.get(engine)
    if watch is None:
        watch = _watches[engine] = _Watch(engine)
        engine.wrap_enter(watch.around)
    watch.instruments.append(instrument)


def remove_instrument(instrument: Instrument) -> None:
    """Stops the calls of an instrument.

    Args:
        instrument: one that `add_instrument` was given.

    Raises:
        ValueError: it was not added to this run.
        RuntimeError: outside a ring run.
    """
    engine = current()
    watch = _watches.get(engine)
    if watch is None or instrument not in watch.instruments:
        raise ValueError("this instrument was not added to this run")
    watch.instruments.remove(instrument)
    if not watch.instruments:
        del _watches[engine]
        engine.wrap_enter(None)


class _Watch:
    """The instruments of a run, and the operations that they were called for and that are in flight. Where
    all of them override `completed` alone, nothing is searched for new operations."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._seen: set[int] = set()
        self.instruments: list[Instrument] = []

    @property
    def _searches(self) -> bool:
        return any(type(each).submitted is not Instrument.submitted for each in self.instruments)

    def around(self, enter: Callable[..., int]) -> Callable[..., int]:
        def watched(*args: float) -> int:
            searches = self._searches
            if searches:
                self._look()
            n = enter(*args)
            for user_data, res, flags in CQE.iter_unpack(self._engine.ring.out[: max(n, 0) * CQE.size]):
                self._complete(user_data, res, flags, searches)
            return n

        return watched

    def _look(self) -> None:
        for op, _, _ in flying(self._engine):
            if op.user_data not in self._seen:
                self._seen.add(op.user_data)
                for instrument in self.instruments:
                    instrument.submitted(op.name, op.fd)

    def _complete(self, user_data: int, res: int, flags: int, searches: bool) -> None:
        op = self._engine.table.find(user_data)
        if op is None or (searches and user_data not in self._seen):
            return
        more = bool(flags & _MORE)
        if not more:
            self._seen.discard(user_data)
        for instrument in [*self.instruments]:  # one may remove itself
            instrument.completed(op.name, op.fd, res, more)


_watches: WeakKeyDictionary[Engine, _Watch] = WeakKeyDictionary()


_ages = Ages()


def _print(engine: Engine, file: TextIO) -> None:
    rows: list[tuple[str, ...]] = [("operation", "fd", "peer", "state", "age", "task", "awaited at")]
    for op in collect(engine, _ages):
        age = "" if op.age is None else f"{op.age:.3f} s"
        rows.append((op.name, str(op.fd), op.peer, op.state, age, op.task, op.where))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip(), file=file)
