"""Requests without a context in C, where the extension `uring._requests` is built.

The functions of `uring` are the reference, and do everything where the extension is missing. With it a
`usual` one tries its usual case in C first. The objects that such a case needs are C types of the same names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    C: Any

    class Queue:
        """The part of a ring that its usual cases use."""

        def _attach(self, kernel: object, *addresses: int) -> None: ...

    Table = dict[int, Any]
else:
    try:
        from .. import _requests as C
    except ImportError:  # not Linux, or not built
        C = None
    Queue = object if C is None else C.Queue
    Table = dict if C is None else C.Table

__all__ = ["C", "Queue", "Table", "usual"]

F = TypeVar("F", bound="Callable[..., Any]")


def usual(name: str) -> Callable[[F], F]:
    """Decorates a function whose usual case the extension has under this name."""

    def decorate(function: F) -> F:
        found: F = function if C is None else C.shortcut(name, function)
        return found

    return decorate
