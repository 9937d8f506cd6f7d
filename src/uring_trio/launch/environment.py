"""The variable ``URING_TRIO``: every Trio run of a process on the ring, without a change to its command.

An interpreter that finds the variable set does `follow` it as soon as the program imports Trio; the file
``uring_trio.pth`` in the distribution sees to that, so the package has to be installed where that
interpreter looks. Processes inherit it, so workers that a server spawns are on the ring too; the launcher
sets it for the children of what it launches.

``URING_TRIO=1`` switches on, unset, empty and ``0`` leave all as it is, and settings say more:
``URING_TRIO=unavailable=epoll,entries=512``. They are the fields of `RingOptions` and

    unavailable  ``raise`` (without a usable io_uring a run fails and says why) or ``epoll`` (warn, go on)
    files        ``1`` (files are on the ring too) or ``0``
    stats        ``1``: print what the rings of the process did to stderr at its exit

A setting that is none is a ``ValueError`` from the program's import of Trio: a service that was to be on the
ring does not run without it unseen.
"""

from __future__ import annotations

import atexit
import os
import sys
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from ..core.statistics import process_totals
from ..options import RingOptions
from .run import switch_on

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from .run import Unavailable

__all__ = ["NAME", "Switch", "follow"]

NAME = "URING_TRIO"

_CHOICES = {"unavailable": ("raise", "epoll"), "files": ("0", "1"), "stats": ("0", "1")}
_stats_wanted = False


@dataclass(frozen=True, slots=True)
class Switch:
    """What the variable says, and the launcher's options."""

    ring: RingOptions | None = None
    unavailable: Unavailable = "raise"
    files: bool = True
    stats: bool = False

    @classmethod
    def parse(cls, text: str) -> Switch | None:
        """What ``text`` asks for; None: nothing.

        Raises:
            ValueError: it names no setting, or a value that the setting does not take.
        """
        parts = [part.strip() for part in text.split(",") if part.strip()]
        if parts in ([], ["0"]):
            return None
        if parts[0] == "1":
            del parts[0]
        chosen: dict[str, str] = {}
        of_ring: list[str] = []
        for part in parts:
            name, equals, value = part.partition("=")
            if equals and name in _CHOICES:
                if value not in _CHOICES[name]:
                    raise ValueError(f"{NAME}: {name} is {' or '.join(_CHOICES[name])}, not {value!r}")
                chosen[name] = value
            elif equals and name in (field.name for field in fields(RingOptions)):
                of_ring.append(part)
            else:
                known = sorted([*_CHOICES, *(field.name for field in fields(RingOptions))])
                raise ValueError(f"{NAME} is 1, 0, or name=value with {', '.join(known)}; not {part!r}")
        try:
            ring = RingOptions.parse(",".join(of_ring)) if of_ring else None
        except ValueError as exc:
            raise ValueError(f"{NAME}: {exc}") from None
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
                    parts.append(f"{field.name}={value}")
        if self.unavailable != "raise":
            parts.append(f"unavailable={self.unavailable}")
        if not self.files:
            parts.append("files=0")
        if self.stats:
            parts.append("stats=1")
        return ",".join(parts)

    def export(self, environ: MutableMapping[str, str]) -> None:
        """Makes processes that are started with ``environ`` do the same."""
        environ[NAME] = str(self)


def follow(environ: Mapping[str, str]) -> None:
    """Does what the variable in ``environ`` asks for, in this process. No ring is opened before a run is.

    Raises:
        ValueError: it is none of what it may be.
        UnsupportedTrio: this Trio's internals do not look as expected.
    """
    switch = Switch.parse(environ.get(NAME, ""))
    if switch is None:
        return
    switch_on(switch.ring, switch.unavailable, files=switch.files)
    if switch.stats:
        print_stats_at_exit()


def print_stats_at_exit() -> None:
    """Once, however often it is asked for; after exit functions that are registered later."""
    global _stats_wanted
    if not _stats_wanted:
        _stats_wanted = True
        atexit.register(_print_totals, process_totals(), os.getpid())


def _print_totals(before: dict[str, int], pid: int) -> None:
    """What was counted since ``before``: making sure that a ring can be opened counts as well."""
    if pid != os.getpid():
        return  # a forked child that ends as its parent does
    counts = (f"{name} {count - before[name]}" for name, count in process_totals().items())
    print(f"uring_trio (process {pid}): {', '.join(counts)}", file=sys.stderr)
