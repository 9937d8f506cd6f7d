"""One typed value in a `contextvars.Context`, passed down beside arguments."""

from __future__ import annotations

import contextvars
from typing import Any, TypeVar

__all__ = ["context_user_data", "context_with_user_data"]

T = TypeVar("T")

_values: contextvars.ContextVar[dict[type, Any]] = contextvars.ContextVar("uring.user_data")


def context_with_user_data(context: contextvars.Context, value: Any) -> contextvars.Context:
    """A copy of the context that holds ``value``, in place of one of the same type."""
    made = context.copy()
    made.run(lambda: _values.set({**_values.get({}), type(value): value}))
    return made


def context_user_data(context: contextvars.Context, kind: type[T]) -> T | None:
    """The context's value of this type, or None."""
    return context.get(_values, {}).get(kind)
