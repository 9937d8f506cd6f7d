"""The variable ``URING_TRIO``: every Trio run of a process on the ring, without a change to its command.

An interpreter with the variable set applies it when the program imports Trio, or asks AnyIO for the backend
``uring``. The file ``uring_trio.pth`` of the distribution does that, so the package must be installed in that
interpreter's environment. Interpreters started with ``-E`` or ``-I`` ignore the variable, as they ignore
Python's. Processes inherit it, so workers that a server spawns are on the ring too; the launcher sets it for
the children of the program.

``URING_TRIO=1`` turns the ring on; unset, empty and ``0`` change nothing; settings follow as in
``URING_TRIO=unavailable=epoll,entries=512``. They are the fields of `RingOptions` and

    unavailable  ``raise`` (without a usable io_uring a run fails and says why, with a Trio that is not
                 supported its import does) or ``epoll`` (warn, go on)
    files        ``1`` (files are on the ring too) or ``0``
    stats        ``1``: print what the rings of the process did to stderr at its exit, and before SIGTERM
                 kills a process that does not handle it

An invalid setting is a ``ValueError`` from the program's import of Trio: a misconfigured service never falls
back to epoll silently.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from ..options import RingOptions
from ..seams import unsupported
from .run import install, switch_on

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping, Sequence

    from .run import Unavailable

__all__ = ["NAME", "Switch", "follow"]

NAME = "URING_TRIO"

_CHOICES = {"unavailable": ("raise", "epoll"), "files": ("0", "1"), "stats": ("0", "1")}
_stats_wanted = False


@dataclass(frozen=True, slots=True)
class Switch:
    """The settings of the variable, and of the launcher's options."""

    ring: RingOptions | None = None
    unavailable: Unavailable = "raise"
    files: bool = True
    stats: bool = False

    @classmethod
    def parse(cls, text: str) -> Switch | None:
        """The settings of the variable with this value; None: it is off.

        Raises:
            ValueError: it names no setting, or a value that the setting does not take.
        """
        first, _, rest = text.partition(",")
        first = first.strip()
        if first in ("", "0") and not rest.strip(" ,"):
            return None
        return cls.parse_settings(rest if first == "1" else text, NAME, ("1", "0"))

    @classmethod
    def parse_settings(cls, text: str, source: str, words: Sequence[str] = ()) -> Switch:
        """The settings in ``text``, without the variable's ``1`` and ``0``.

        Args:
            text: ``name=value`` and ``name=value``, with commas between them.
            source: what errors name: the variable, or the option that the text was given to.
            words: what ``source`` takes besides, to be named in errors.

        Raises:
            ValueError: as `parse`.
        """
        chosen: dict[str, str] = {}
        of_ring: list[str] = []
        for part in filter(None, map(str.strip, text.split(","))):
            name, equals, value = part.partition("=")
            if equals and name in _CHOICES:
                if value not in _CHOICES[name]:
                    raise ValueError(f"{source}: {name} is {' or '.join(_CHOICES[name])}, not {value!r}")
                chosen[name] = value
            elif equals and name in (field.name for field in fields(RingOptions)):
                of_ring.append(part)
            else:
                known = ", ".join(sorted([*_CHOICES, *(field.name for field in fields(RingOptions))]))
                forms = ", ".join([*words, f"{'or ' if words else ''}name=value with {known}"])
                raise ValueError(f"{source} is {forms}; not {part!r}")
        try:
            ring = RingOptions.parse(",".join(of_ring)) if of_ring else None
        except ValueError as exc:
            raise ValueError(f"{source}: {exc}") from None
        return cls(
            ring,
            "epoll" if chosen.get("unavailable") == "epoll" else "raise",
            chosen.get("files") != "0",
            chosen.get("stats") == "1",
        )

    def __str__(self) -> str:
        """The value of the variable that `parse` takes for this."""
        parts = ["1"]
        if self.ring is not None:
            standard = RingOptions()
            for field in fields(RingOptions):
                if (value := getattr(self.ring, field.name)) != getattr(standard, field.name):
                    if isinstance(value, tuple):
                        value = "+".join(value)
                    parts.append(f"{field.name}={int(value) if isinstance(value, bool) else value}")
        if self.unavailable != "raise":
            parts.append(f"unavailable={self.unavailable}")
        if not self.files:
            parts.append("files=0")
        if self.stats:
            parts.append("stats=1")
        return ",".join(parts)

    def install(self) -> None:
        """Applies the settings to this process.

        Raises:
            RingUnavailable: with ``unavailable="raise"``, if a ring cannot be opened now.
            UnsupportedTrio: with ``unavailable="raise"``, if this Trio's internals do not look as expected.
        """
        install(ring=self.ring, unavailable=self.unavailable, files=self.files)
        if self.stats:
            print_stats_at_exit()

    def export(self, environ: MutableMapping[str, str]) -> None:
        """Makes processes that are started with ``environ`` do the same."""
        environ[NAME] = str(self)


def follow(environ: Mapping[str, str]) -> None:
    """Applies the variable in ``environ`` to this process. No ring is opened before a run is.

    Raises:
        ValueError: the variable's value is invalid.
        UnsupportedTrio: this Trio's internals do not look as expected, and ``unavailable`` is not ``epoll``.
    """
    switch = Switch.parse(environ.get(NAME, ""))
    if switch is None:
        return
    switch_on(switch.ring, switch.unavailable, files=switch.files)
    if switch.stats:
        print_stats_at_exit()


def print_stats_at_exit() -> None:
    """Prints once, however often this is called, after exit functions that are registered later. Prints
    nothing where the installed Trio is not supported: there are no rings."""
    global _stats_wanted
    if _stats_wanted or unsupported() is not None:
        return
    from ..core.statistics import process_totals, totals_until_now

    _stats_wanted = True
    before, pid = process_totals(), os.getpid()
    atexit.register(_print_totals, process_totals, before, pid)

    def on_term(signum: int, frame: object) -> None:
        _print_totals(totals_until_now, before, pid)
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)

    # A program that handles the signal does so after this, and ends by itself.
    if threading.current_thread() is threading.main_thread() and _kills(signal.SIGTERM):
        signal.signal(signal.SIGTERM, on_term)


def _kills(signum: int) -> bool:
    return signal.getsignal(signum) is signal.SIG_DFL


def _print_totals(totals: Callable[[], dict[str, int]], before: dict[str, int], pid: int) -> None:
    """Prints what was counted since ``before``: a ring that was opened as a check counts as well. Written at
    once, because a signal may have come within a print."""
    if pid != os.getpid():
        return  # a forked child that exits like its parent
    counts = (f"{name} {count - before[name]}" for name, count in totals().items())
    os.write(2, f"uring_trio (process {pid}): {', '.join(counts)}\n".encode())
