"""Rings that a forked child inherits: it may not touch them, and their calls say so."""

from __future__ import annotations

import os
import sys
import weakref
from typing import Protocol

__all__ = ["OpenRing", "open_rings"]


class OpenRing(Protocol):
    """A ring, as far as a fork concerns it."""

    def _in_child(self) -> None: ...


open_rings: weakref.WeakSet[OpenRing] = weakref.WeakSet()
"""The rings of this process, each from its opening to its close."""


def _after_fork_in_child() -> None:
    for ring in list(open_rings):
        ring._in_child()
    open_rings.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_after_fork_in_child)
