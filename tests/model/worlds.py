"""The worlds whose states are visited: small ones in each test, larger ones by ``python -m tests.model``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from .listening import Listening
from .run import Run

if TYPE_CHECKING:
    from collections.abc import Callable

    from .search import World

__all__ = ["LARGE", "SMALL"]

OWN, REUSED = False, True
"""A task's call has an operation of its own, or that of the descriptor."""

SMALL: dict[str, Callable[[], World]] = {
    "one call": partial(Run, [OWN], 1),
    "one call that completes twice, and a crash": partial(Run, [REUSED], 1, zero_copy=True, crash=True),
    "two calls on one operation": partial(Run, [REUSED, REUSED], 1),
    "a multishot": partial(Listening, 1, 1, 1),
}
LARGE: dict[str, Callable[[], World]] = {
    "two calls": partial(Run, [OWN, OWN], 2),
    "two calls on one operation, room for two": partial(Run, [REUSED, REUSED], 2),
    "two calls on one operation, and a crash": partial(Run, [REUSED, REUSED], 2, crash=True),
    "a call beside one on the descriptor": partial(Run, [OWN, REUSED], 2, zero_copy=True),
    "a multishot that pauses": partial(Listening, 2, 1, 2),
    "a multishot, and a crash": partial(Listening, 2, 1, 1, crash=True),
}
