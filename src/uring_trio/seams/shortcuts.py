"""Shortcuts in the places of functions of Trio's classes: putting them there, taking them out again, and the
check that a class has the fields that they know.

It does not know what a shortcut does.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Places", "has_fields"]


class Places:
    """Where shortcuts were put; true while there are some."""

    def __init__(self) -> None:
        self._taken: list[tuple[Any, str, Any, Any]] = []

    def __bool__(self) -> bool:
        return bool(self._taken)

    def put(self, kind: Any, name: str, shortcut: Any) -> None:
        """Puts a shortcut into a class, in the place of its own function of that name."""
        self._taken.append((kind, name, vars(kind)[name], shortcut))
        setattr(kind, name, shortcut)

    def restore(self) -> None:
        """Puts the functions back, but where something else has taken a shortcut's place."""
        while self._taken:
            kind, name, function, shortcut = self._taken.pop()
            if vars(kind)[name] is shortcut:
                setattr(kind, name, function)


def has_fields(kind: Any, names: tuple[str, ...]) -> bool:
    """Whether these are the fields of an attrs class, in this order, all of them stored as they are given."""
    fields = kind.__attrs_attrs__
    plain = all(each.converter is None and each.validator is None for each in fields)
    return plain and tuple(each.name for each in fields) == names
