"""Cancel scopes in C, for runs whose scheduler ticks are in C.

Shortcuts stand in Trio's class `CancelScope` for its constructor and for what ``with`` calls. In a step in C
they do the usual scope: one that is left, by the task that entered it, before it is cancelled. Everything
else is Trio's own method's, as is every scope of other runs. The objects are Trio's in either case, field by
field, so the methods may take turns on one scope.

The shortcuts know every field of a scope. A Trio whose classes have other fields keeps its methods.

From CPython 3.14 on ``__enter__`` stays Trio's. The interpreter there looks for signals after each call of
``with`` that leads into C: Ctrl-C would come when the scope is entered and nothing leaves it yet.
"""

from __future__ import annotations

import sys
import types
from heapq import heappush
from typing import TYPE_CHECKING, Any

from .names import NAMES_OF_SCOPES, core_run, present

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["exchange", "restore"]

_SCOPE = (
    "_cancel_status",
    "_has_been_entered",
    "_registered_deadline",
    "_cancel_called",
    "cancelled_caught",
    "_cancel_reason",
    "_relative_deadline",
    "_deadline",
    "_shield",
)
_STATUS = ("_scope", "effectively_cancelled", "_parent", "_children", "_tasks", "abandoned_by_misnesting")
_METHODS = ("__init__", "__enter__", "__exit__", "_close")
_STAYING = {"__enter__"} if sys.version_info >= (3, 14) else set[str]()
_before: dict[str, tuple[Any, Any]] = {}


def exchange(extension: Any, find_offsets: Callable[[Iterable[tuple[Any, str]]], Any]) -> None:
    """Puts the shortcuts into Trio's class. Idempotent."""
    if _before or not all(map(present, NAMES_OF_SCOPES)):
        return
    scopes, statuses = core_run.CancelScope, core_run.CancelStatus
    methods = [vars(scopes).get(name) for name in _METHODS]
    if not _has_fields(scopes, _SCOPE) or not _has_fields(statuses, _STATUS):
        return
    wanted = [*((scopes, name) for name in _SCOPE), *((statuses, name) for name in _STATUS)]
    offsets = find_offsets(wanted)
    if offsets is None or any(type(method) is not types.FunctionType for method in methods):
        return
    initial = tuple(each.default for each in scopes.__attrs_attrs__)
    shortcuts = extension.use_scopes(scopes, statuses, heappush, initial, offsets, tuple(methods))
    for name, method, shortcut in zip(_METHODS, methods, shortcuts):
        if name not in _STAYING:
            _before[name] = method, shortcut
            setattr(scopes, name, shortcut)


def restore() -> None:
    """Undoes `exchange`. What something else was put in the place of stays."""
    while _before:
        name, (method, shortcut) = _before.popitem()
        if vars(core_run.CancelScope)[name] is shortcut:
            setattr(core_run.CancelScope, name, method)


def _has_fields(kind: Any, names: tuple[str, ...]) -> bool:
    """Whether these are the fields of a class, in this order, all of them stored as they are given."""
    fields = kind.__attrs_attrs__
    plain = all(each.converter is None and each.validator is None for each in fields)
    return plain and tuple(each.name for each in fields) == names
