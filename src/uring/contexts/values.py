"""Values in a `contextvars.Context`, one of each type."""

from __future__ import annotations

import contextvars
from typing import Any, TypeVar

__all__ = ["context_user_data", "context_with_user_data"]

T = TypeVar("T")

_values: contextvars.ContextVar[dict[type, Any]] = contextvars.ContextVar("uring.user_data")


def context_with_user_data(context: contextvars.Context, value: object) -> contextvars.Context:
    """Puts a value into a copy of a context, in place of one of the same type.

    Args:
        context: the context to copy.
        value: any object; its type is its key.

    Returns:
        The copy.
    """
    made = context.copy()
    made.run(lambda: _values.set({**_values.get({}), type(value): value}))
    return made


def context_user_data(context: contextvars.Context, kind: type[T]) -> T | None:
    """The value of a type that `context_with_user_data` put into a context.

    Args:
        context: the context.
        kind: the value's type.

    Returns:
        The value, or None.
    """
    return context.get(_values, {}).get(kind)
