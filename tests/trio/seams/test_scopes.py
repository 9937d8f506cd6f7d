"""Cancel scopes in C: the objects, the errors and the cancels are those of Trio's own methods."""

from __future__ import annotations

import copy
import inspect
import math
import pickle
import pydoc
import sys
import time
import traceback
import types
import weakref
from functools import partial
from typing import Any

import pytest
import trio

import uring_trio
from tests.trio.seams.modes import same, turns
from tests.trio.seams.scoped import around, shown, told
from uring_trio import RingOptions
from uring_trio.seams import scopes

pytestmark = pytest.mark.usefixtures("exchanged")

COMPILED = RingOptions(compiled=True)
METHODS = ("__init__", "__exit__", "_close", *["__enter__"] * (sys.version_info < (3, 14)))


def test_a_compiled_run_exchanges_the_methods() -> None:
    before = {name: vars(trio.CancelScope)[name] for name in METHODS}
    uring_trio.run(turns, ring=RingOptions(compiled=False))
    assert {name: vars(trio.CancelScope)[name] for name in METHODS} == before
    uring_trio.run(turns, ring=COMPILED)
    for name in METHODS:
        assert type(vars(trio.CancelScope)[name]) is not types.FunctionType
    uring_trio.uninstall()
    assert {name: vars(trio.CancelScope)[name] for name in METHODS} == before


def test_what_was_put_in_their_place_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(scope: trio.CancelScope, *exc_info: object) -> bool:
        return False

    before, leaves = trio.CancelScope._close, trio.CancelScope.__exit__
    uring_trio.run(turns, ring=COMPILED)
    with monkeypatch.context() as patched:
        patched.setattr(trio.CancelScope, "__exit__", other)
        uring_trio.uninstall()
        assert trio.CancelScope.__exit__ is other
        assert trio.CancelScope._close is before
    trio.CancelScope.__exit__ = leaves  # type: ignore[method-assign]


def test_a_class_with_another_field_keeps_its_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scopes, "_SCOPE", (*scopes._SCOPE, "another"))
    before = trio.CancelScope.__exit__
    uring_trio.run(turns, ring=COMPILED)
    assert trio.CancelScope.__exit__ is before


@pytest.mark.parametrize("name", METHODS)
def test_the_methods_look_as_before(name: str) -> None:
    def seen() -> list[object]:
        method: Any = getattr(trio.CancelScope, name)
        scope = trio.CancelScope()
        return [
            inspect.signature(method),
            inspect.signature(trio.CancelScope),
            inspect.signature(getattr(scope, name)),
            method.__name__,
            method.__qualname__,
            method.__module__,
            method.__doc__,
            method.__code__,
            inspect.isfunction(method),
            inspect.ismethoddescriptor(method),
            inspect.getsource(method) if name != "__init__" else None,
            method.__class__,
            type(method).__name__,
            dir(method),
            weakref.ref(method)() is method,
            copy.copy(method) is copy.deepcopy(method) is method,
            pickle.loads(pickle.dumps(method)) is method,
            pydoc.render_doc(trio.CancelScope),
            repr(method),
            type(getattr(scope, name)),
            getattr(scope, name).__self__ is scope,
        ]

    before = seen()
    uring_trio.run(turns, ring=COMPILED)
    assert seen() == before


async def program_of_every_kind() -> list[object]:
    """Enters and leaves scopes in every usual way; what can be seen of them meanwhile."""
    await turns()
    found: list[object] = [around()]
    for make in (
        trio.CancelScope,
        partial(trio.CancelScope, shield=True),
        partial(trio.CancelScope, deadline=trio.current_time() + 50000),
        partial(trio.CancelScope, relative_deadline=50000),
        partial(trio.CancelScope, relative_deadline=50000.0, shield=True),
        partial(trio.CancelScope, deadline=math.inf),
        partial(trio.move_on_after, 40000),
        partial(trio.move_on_after, 40000, shield=True),
        partial(trio.move_on_after, math.inf),
        partial(trio.move_on_at, trio.current_time() + 50000),
        partial(trio.fail_after, 40000),
        partial(trio.fail_at, trio.current_time() + 50000),
    ):
        manager: Any = make()
        with manager as scope:
            found += [shown(scope), around(), round(min(trio.current_effective_deadline(), 1e9)) > 0]
            await turns(2)
            with trio.move_on_after(30000) as inner:
                found += [shown(scope), shown(inner), around()]
                await turns(1)
            found += [shown(inner), around()]
        found += [shown(scope), around()]
    return found


def test_usual_scopes() -> None:
    same(program_of_every_kind)


@pytest.mark.parametrize(
    "keywords",
    [
        {"deadline": "x"},
        {"relative_deadline": "x"},
        {"relative_deadline": None},
        {"deadline": None},
        {"deadline": math.nan},
        {"relative_deadline": math.nan},
        {"relative_deadline": -1},
        {"relative_deadline": -0.0},
        {"relative_deadline": True},
        {"relative_deadline": 10**400},
        {"deadline": 10**400},
        {"deadline": 1, "relative_deadline": 2},
        {"deadline": math.inf, "relative_deadline": 2},
        {"shield": 1},
        {"shield": "yes"},
        {"another": 1},
        {"deadline": -math.inf},
        {"deadline": -3},
        {"relative_deadline": 0},
        {"relative_deadline": 1e-9},
    ],
    ids=str,
)
def test_uncommon_arguments(keywords: dict[str, Any]) -> None:
    async def program() -> list[object]:
        await turns()

        def use() -> object:
            scope = trio.CancelScope(**keywords)
            found = [shown(scope)]
            with scope:
                found.append(shown(scope))
            return [*found, shown(scope)]

        def positional() -> object:
            return trio.CancelScope(1)  # type: ignore[call-arg]

        return [told(use), told(positional), around()]

    same(program)


def test_calls_by_hand() -> None:
    """Of the methods themselves, with results and errors."""

    async def program() -> list[object]:
        await turns()
        scope, error = trio.CancelScope(), ValueError("ours")
        found = [
            told(lambda: scope.__exit__(None, None, None)),
            told(scope.__enter__) is scope,
            told(scope.__enter__),
            told(lambda: scope.__exit__(None, None)),  # type: ignore[call-arg]
            told(lambda: scope.__exit__(ValueError, error, None)),
            told(lambda: scope.__exit__(None, None, None)),
            told(scope.__enter__),
            told(lambda: trio.CancelScope.__enter__(3)),  # type: ignore[arg-type]
            told(lambda: trio.CancelScope.__init__(3)),  # type: ignore[misc,arg-type]
            told(lambda: trio.CancelScope.__enter__()),  # type: ignore[call-arg]
        ]
        other: Any = trio.CancelScope()
        with other:
            pass
        other.__init__()
        found.append(shown(other))
        closed: Any = trio.CancelScope()
        closed.__enter__()
        found.append(closed._close(error) is error)
        return [*found, shown(closed), around()]

    same(program)


def test_exceptions_pass() -> None:
    async def program() -> list[object]:
        await turns()

        async def leave(error: BaseException, scope: trio.CancelScope) -> None:
            with trio.move_on_after(9000):
                try:
                    raise KeyError("earlier")
                except KeyError:
                    with scope:
                        await turns(1)
                        raise error from None

        found: list[object] = []
        for error in (ValueError("ours"), BaseExceptionGroup("", [KeyboardInterrupt()]), GeneratorExit()):
            for scope in (trio.CancelScope(), trio.CancelScope(shield=True)):
                try:
                    await leave(error, scope)
                except BaseException as exc:
                    frames = [each.name for each in traceback.extract_tb(exc.__traceback__)]
                    found += [repr(exc), repr(exc.__context__), frames, shown(scope), around()]
        return found

    same(program)


@pytest.mark.parametrize("seconds", [0, 0.003])
def test_deadlines_that_come(seconds: float) -> None:
    async def program() -> list[object]:
        await turns()
        found = []
        for shield in (False, True):
            with trio.move_on_after(seconds, shield=shield) as scope:
                while True:
                    await turns(1)
            found += [shown(scope)["cancelled_caught"], scope.cancel_called, around()]
            with pytest.raises(trio.TooSlowError), trio.fail_after(seconds):
                await trio.sleep(10)
        with trio.move_on_after(seconds) as scope:
            time.sleep(seconds)
        return [*found, scope.cancel_called, scope.cancelled_caught, around()]

    same(program)


def test_cancels() -> None:
    """Of the scope by itself, of one around it, and by another task, with and without a shield."""

    async def program() -> list[object]:
        await turns()
        found: list[object] = []
        for shield in (False, True):
            for cancelled in (0, 1, 2):
                scopes = [
                    trio.CancelScope(),
                    trio.move_on_after(20000),
                    trio.move_on_after(10000, shield=shield),
                ]

                async def enters(scopes: Any = scopes) -> None:
                    with scopes[0], scopes[1], scopes[2]:
                        await turns(8)
                        with trio.move_on_after(5000):
                            await turns(1)

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(enters)
                    await turns(3)
                    scopes[cancelled].cancel("because")
                found += [shown(scope) for scope in scopes]
                with trio.CancelScope() as own:
                    own.cancel()
                    with trio.move_on_after(3000, shield=shield) as inner:
                        await turns(2)
                    found.append(shown(inner))
                found += [shown(own), around()]
        return found

    same(program)


def test_changes_within_a_scope() -> None:
    async def program() -> list[object]:
        await turns()
        found: list[object] = []
        with trio.move_on_after(20000) as scope:
            for seconds in (10000, 30000, math.inf, 40000):
                scope.deadline = trio.current_time() + seconds
                found += [shown(scope), around()]
            scope.shield = True
            await turns(1)
            scope.shield = False
        found += [shown(scope), around()]
        scope.deadline = 3
        found += [shown(scope)["_registered_deadline"], around()]
        late = trio.CancelScope()
        late.relative_deadline = 5000
        with late:
            found += [shown(late), told(lambda: round(late.relative_deadline, -3))]
        called = trio.CancelScope()
        called.cancel()
        with called:
            found.append(shown(called))
        return [*found, shown(called), around()]

    same(program)
