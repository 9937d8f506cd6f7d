"""Trio's checkpoints and the function by which tasks park, in C, for runs whose scheduler ticks are in C.

A program may have imported the functions before, so the objects stay and their code is exchanged. The new
code calls C. There an awaitable is made if the caller is a task that is stepped in C; in any other run, and
in Trio's own loop, the call goes on to a function with the old code.

The new code is that of a plain function with the flag of coroutine functions: `inspect` and others see a
coroutine function, and the interpreter calls it without making a coroutine first.
"""

from __future__ import annotations

import inspect
import types
from typing import TYPE_CHECKING, Any

import outcome
import trio.lowlevel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["exchange", "restore"]

_PLACE = "the function in C"
_FUNCTIONS = {
    "checkpoint": (),
    "cancel_shielded_checkpoint": (),
    "checkpoint_if_cancelled": (),
    "wait_task_rescheduled": ("abort_func",),
}
"""Their names and those of their arguments, in the order in which the extension takes them."""
_before: dict[str, types.CodeType] = {}


def exchange(extension: Any, find_offsets: Callable[[Iterable[tuple[Any, str]]], Any]) -> None:
    """Puts the functions of the extension into Trio's. Idempotent."""
    if _before:
        return
    functions = [getattr(trio.lowlevel, name) for name in _FUNCTIONS]
    offsets = find_offsets([(outcome.Value, "value"), (outcome.Value, "_unwrapped")])
    if offsets is None or not all(map(_expected, functions, _FUNCTIONS.values())):
        return
    extension.use_checkpoints(*offsets, *map(_copy, functions))
    for function in functions:
        _before[function.__name__] = function.__code__
        function.__code__ = _calling(getattr(extension, function.__name__), function.__code__)


def restore() -> None:
    """Undoes `exchange`. Awaitables of the functions in C are not affected."""
    while _before:
        name, code = _before.popitem()
        getattr(trio.lowlevel, name).__code__ = code


def _expected(function: Any, arguments: tuple[str, ...]) -> bool:
    """Whether this is a coroutine function with these arguments that nothing has been put around."""
    if type(function) is not types.FunctionType or not inspect.iscoroutinefunction(function):
        return False
    code = function.__code__
    plain = not (code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS) or code.co_freevars)
    named = code.co_varnames[: code.co_argcount]
    return plain and named == arguments and not code.co_kwonlyargcount


def _copy(function: Any) -> Any:
    copy = types.FunctionType(function.__code__, function.__globals__, function.__name__)
    copy.__qualname__ = function.__qualname__
    copy.__module__ = function.__module__
    return copy


def _calls() -> Any:
    function: Any = "the function in C"
    return function()


def _calls_with(abort_func: Any) -> Any:
    function: Any = "the function in C"
    return function(abort_func)


def _calling(function: Callable[[], object], stock: types.CodeType) -> types.CodeType:
    """Code that calls ``function``, in the place of ``stock``."""
    code = (_calls_with if stock.co_argcount else _calls).__code__
    return code.replace(
        co_consts=tuple(function if each == _PLACE else each for each in code.co_consts),
        co_flags=code.co_flags | inspect.CO_COROUTINE,
        co_filename=stock.co_filename,
        co_firstlineno=stock.co_firstlineno,
        co_name=stock.co_name,
        co_qualname=stock.co_qualname,
    )
