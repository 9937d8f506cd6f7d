"""Trio's checkpoints and the function by which tasks park, in C, for runs whose scheduler ticks are in C.

The new code of the functions calls C. There an awaitable is made if the caller is a task that is stepped in
C; in any other run, and in Trio's own loop, the call goes on to a function with the old code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import outcome
import trio.lowlevel

from .shortcuts import Codes, copy, has_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["exchange", "restore"]

_FUNCTIONS = {
    "checkpoint": (),
    "cancel_shielded_checkpoint": (),
    "checkpoint_if_cancelled": (),
    "wait_task_rescheduled": ("abort_func",),
}
"""Their names and those of their arguments, in the order in which the extension takes them."""
_codes = Codes()


def exchange(extension: Any, find_offsets: Callable[[Iterable[tuple[Any, str]]], Any]) -> None:
    """Puts the functions of the extension into Trio's. Idempotent."""
    if _codes:
        return
    functions = [getattr(trio.lowlevel, name) for name in _FUNCTIONS]
    offsets = find_offsets([(outcome.Value, "value"), (outcome.Value, "_unwrapped")])
    if offsets is None or not all(map(has_arguments, functions, _FUNCTIONS.values())):
        return
    extension.use_checkpoints(*offsets, *map(copy, functions))
    for function in functions:
        _codes.put(function, getattr(extension, function.__name__))


def restore() -> None:
    """Undoes `exchange`. Awaitables of the functions in C are not affected."""
    _codes.restore()
