"""Scopes as tests see them, with stock Trio and in C alike."""

from __future__ import annotations

import math
import re
import traceback
from typing import TYPE_CHECKING, Any

import trio

from uring_trio.seams import scopes
from uring_trio.seams.names import context

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def shown(scope: Any) -> dict[str, object]:
    """Every field of a scope, with its deadline as thousands of seconds from now."""
    fields = {name: getattr(scope, name) for name in scopes._SCOPE}
    fields["_cancel_status"] = status(scope._cancel_status)
    now = trio.current_time()
    for name in ("_deadline", "_registered_deadline"):
        at: float = fields[name]  # type: ignore[assignment]
        fields[name] = type(at).__name__, at if math.isinf(at) else max(round(at - now, -3), -9000)
    fields["_cancel_reason"] = without_numbers(fields["_cancel_reason"])
    return {**fields, "repr": repr(scope).partition(" at 0x")[0]}


def without_numbers(found: object) -> str:
    """Without addresses and the seconds that are left."""
    return re.sub(r" at 0x[0-9a-f]+|[0-9.]+ seconds", "", str(found))


def status(found: Any) -> object:
    if found is None:
        return None
    sizes = len(found._tasks), len(found._children)
    return [found.effectively_cancelled, found.abandoned_by_misnesting, found._parent is not None, *sizes]


def around() -> list[object]:
    """What the run keeps of scopes: the heap without its stale entries, and the task's own status."""
    deadlines = context.runner.deadlines
    valid = [scope for at, _, scope in deadlines._heap if scope._registered_deadline == at]
    task = trio.lowlevel.current_task()
    return [len(valid), deadlines._active, status(task._cancel_status), task in task._cancel_status._tasks]


def told(call: Callable[[], object]) -> object:
    """The result of a call, or its error with the frames of the traceback."""
    try:
        return call()
    except BaseException as exc:
        frames = [(each.name, each.lineno) for each in traceback.extract_tb(exc.__traceback__)]
        return [type(exc).__name__, without_numbers(exc), frames]


async def in_task(fn: Callable[..., Awaitable[object]], *args: object) -> object:
    """How a task ends."""
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fn, *args)
    except BaseException as exc:
        errors, found = [exc], []
        while errors:
            each = errors.pop()
            errors += getattr(each, "exceptions", ())
            found.append(without_numbers(each))
        return found
    return None
