"""Replacements of functions of Trio's: shortcuts in classes, and code that calls C in coroutine functions.
They are put there and taken out again, after a check that Trio's functions have the expected form.

A shortcut takes the place of a function in its class. A coroutine function stays what it is, because a
program may have imported it before, and the code inside of it is exchanged. The new code calls C, which
returns an awaitable or goes on to a function with the old code. It is that of a plain function with the
flag of coroutine functions: `inspect` and others see a coroutine function, and the interpreter calls it
without making a coroutine first.

This module is independent of what is called.
"""

from __future__ import annotations

import inspect
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Codes", "Places", "copy", "has_arguments", "has_fields"]


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


class Codes:
    """Functions whose code was exchanged; true while there are some."""

    def __init__(self) -> None:
        self._before: list[tuple[Any, types.CodeType]] = []

    def __bool__(self) -> bool:
        return bool(self._before)

    def put(self, function: Any, called: Callable[..., object]) -> None:
        """Lets a coroutine function return what ``called`` returns for the same arguments."""
        self._before.append((function, function.__code__))
        function.__code__ = _calling(called, function.__code__)

    def restore(self) -> None:
        """Puts the code back."""
        while self._before:
            function, code = self._before.pop()
            function.__code__ = code


def has_arguments(function: Any, arguments: tuple[str, ...]) -> bool:
    """Whether this is a coroutine function with these arguments that nothing has been put around."""
    if type(function) is not types.FunctionType or not inspect.iscoroutinefunction(function):
        return False
    code = function.__code__
    plain = not (code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS) or code.co_freevars)
    named = code.co_varnames[: code.co_argcount]
    return plain and named == arguments and not code.co_kwonlyargcount


def copy(function: Any) -> Any:
    """A function with the same code."""
    copied = types.FunctionType(function.__code__, function.__globals__, function.__name__)
    copied.__qualname__ = function.__qualname__
    copied.__module__ = function.__module__
    return copied


_PLACE = "the function in C"


def _calls() -> Any:
    function: Any = "the function in C"
    return function()


def _calls_with(a: Any) -> Any:
    function: Any = "the function in C"
    return function(a)


def _calls_with_two(a: Any, b: Any) -> Any:
    function: Any = "the function in C"
    return function(a, b)


def _calls_with_four(a: Any, b: Any, c: Any, d: Any) -> Any:
    function: Any = "the function in C"
    return function(a, b, c, d)


_CALLS = {
    each.__code__.co_argcount: each for each in (_calls, _calls_with, _calls_with_two, _calls_with_four)
}


def _calling(function: Callable[..., object], stock: types.CodeType) -> types.CodeType:
    """Code that calls ``function``, in the place of ``stock``."""
    code = _CALLS[stock.co_argcount].__code__
    arguments = stock.co_varnames[: stock.co_argcount]
    return code.replace(
        co_consts=tuple(function if each == _PLACE else each for each in code.co_consts),
        co_varnames=(*arguments, *code.co_varnames[len(arguments) :]),
        co_flags=code.co_flags | inspect.CO_COROUTINE,
        co_filename=stock.co_filename,
        co_firstlineno=stock.co_firstlineno,
        co_name=stock.co_name,
        co_qualname=stock.co_qualname,
    )
