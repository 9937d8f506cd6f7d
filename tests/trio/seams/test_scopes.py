"""Cancel scopes in C: the objects, the errors and the cancels are those of Trio's own methods."""

from __future__ import annotations

import gc
import inspect
import itertools
import math
import random
import re
import signal
import sys
import threading
import time
import traceback
import types
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

import uring_trio
from tests.trio.seams.modes import same, turns
from uring_trio import RingOptions
from uring_trio.seams import scopes
from uring_trio.seams.names import context

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

COMPILED = RingOptions(compiled=True)
METHODS = ("__init__", "__enter__", "__exit__", "_close")


@pytest.fixture(autouse=True)
def exchanged() -> Iterator[None]:
    """Every test begins with Trio's methods; the first compiled run brings the others."""
    scopes.restore()
    yield
    scopes.restore()


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


def test_a_compiled_run_exchanges_the_methods() -> None:
    before = {name: vars(trio.CancelScope)[name] for name in METHODS}
    uring_trio.run(turns, ring=RingOptions(compiled=False))
    assert {name: vars(trio.CancelScope)[name] for name in METHODS} == before
    uring_trio.run(turns, ring=COMPILED)
    for name in METHODS:
        assert type(vars(trio.CancelScope)[name]).__name__ == "Shortcut"
    uring_trio.uninstall()
    assert {name: vars(trio.CancelScope)[name] for name in METHODS} == before


def test_what_was_put_in_their_place_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(scope: trio.CancelScope) -> trio.CancelScope:
        return scope

    before = trio.CancelScope._close
    uring_trio.run(turns, ring=COMPILED)
    with monkeypatch.context() as patched:
        patched.setattr(trio.CancelScope, "__enter__", other)
        uring_trio.uninstall()
        assert trio.CancelScope.__enter__ is other
        assert trio.CancelScope._close is before
    trio.CancelScope.__enter__ = vars(trio.CancelScope)["__enter__"].__wrapped__  # type: ignore[method-assign]


def test_a_class_with_another_field_keeps_its_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scopes, "_SCOPE", (*scopes._SCOPE, "another"))
    before = trio.CancelScope.__enter__
    uring_trio.run(turns, ring=COMPILED)
    assert trio.CancelScope.__enter__ is before


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
            inspect.unwrap(method).__code__,
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


def test_misnesting() -> None:
    async def program() -> list[object]:
        await turns()
        found: list[object] = []

        async def leaves(order: tuple[int, ...]) -> None:
            await turns()
            scopes: list[Any] = [trio.CancelScope(), trio.move_on_after(20000), trio.CancelScope(shield=True)]
            for scope in scopes:
                scope.__enter__()
            for n in order:
                found.extend([told(partial(scopes[n].__exit__, None, None, None)), around()])
                found.extend(map(shown, scopes))

        for order in itertools.permutations(range(3)):
            for length in range(4):
                found += [await in_task(leaves, order[:length]), around()]

        async def leaves_of_another() -> None:
            scope = trio.CancelScope()
            scope.__enter__()
            await in_task(turns)

            async def child() -> None:
                found.append(told(lambda: scope.__exit__(None, None, None)))

            found.append(await in_task(child))
            found.append(told(lambda: scope.__exit__(None, None, None)))

        return [*found, await in_task(leaves_of_another), around()]

    same(program)


def test_a_scope_that_another_task_is_below_when_it_is_left() -> None:
    async def program() -> list[object]:
        await turns()
        found: list[object] = []

        async def leaves() -> None:
            scope = trio.move_on_after(30000)
            scope.__enter__()
            manager = trio.open_nursery()
            nursery = await manager.__aenter__()
            nursery.start_soon(turns, 3)
            found.append(told(lambda: scope.__exit__(None, None, None)))
            try:
                await manager.__aexit__(None, None, None)
            finally:
                found.append(shown(scope))

        return [await in_task(leaves), *found, around()]

    same(program)


def test_scopes_that_begin_in_c_and_end_in_trio() -> None:
    """And the other way round."""

    class Nothing(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            pass

    async def program() -> list[object]:
        await turns()
        found: list[object] = []
        nothing = Nothing()
        for seconds in (20000, math.inf):
            with trio.move_on_after(seconds) as scope:
                trio.lowlevel.add_instrument(nothing)
                await turns(3)
                found += [shown(scope), around()]
            found += [shown(scope), around()]
            with trio.move_on_after(seconds) as scope:
                trio.lowlevel.remove_instrument(nothing)
                await turns(3)
                found += [shown(scope), around()]
            found += [shown(scope), around()]
        return found

    same(program)


def test_tasks_below_scopes() -> None:
    """Nurseries, generators that are closed later, threads that call back."""

    async def program() -> list[object]:
        await turns()
        found: list[object] = []

        async def numbers() -> Any:
            with trio.move_on_after(10000) as scope:
                for n in range(3):
                    found.append(shown(scope))
                    yield n

        async for n in numbers():
            found.append(n)

        async def child() -> None:
            with trio.move_on_after(5000):
                await turns(2)
                found.append(around())

        with trio.move_on_after(60000):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child)
                found.append(status(nursery.cancel_scope._cancel_status))

            def call() -> None:
                with trio.move_on_after(7000):
                    found.append("in thread's call")

            await trio.to_thread.run_sync(lambda: trio.from_thread.run_sync(call))
        return [*found, around()]

    same(program)


def test_random_scopes() -> None:
    """Tasks enter, leave, cancel and change scopes by draws; Trio's own methods make the same of it."""

    async def program(seed: int) -> list[object]:
        await turns()
        draw = random.Random(seed)
        found: list[object] = []
        alive: list[trio.CancelScope] = []

        async def act(name: int, draw: random.Random, depth: int = 0) -> None:
            for _ in range(4):
                await turns(draw.randrange(3))
                choice = draw.randrange(6)
                if choice == 0 and alive:
                    draw.choice(alive).cancel()
                elif choice == 1 and alive:
                    draw.choice(alive).deadline = trio.current_time() + draw.choice((30000, math.inf))
                elif choice == 2 and alive:
                    draw.choice(alive).shield = draw.random() < 0.5
                elif depth < 4:
                    scope = draw.choice((trio.CancelScope, partial(trio.move_on_after, 40000)))()
                    alive.append(scope)
                    try:
                        with scope:
                            await act(name, draw, depth + 1)
                    finally:
                        alive.remove(scope)
                        found.append([name, depth, shown(scope)])

        for turn in range(10):
            try:
                await act(turn, draw)
            except trio.Cancelled:
                found.append("cancelled")
        return [*found, around()]

    for seed in range(40):
        same(partial(program, seed))


def test_the_heap_stays_small() -> None:
    """Scopes that end before their deadline leave entries behind. They go while all ticks are in C."""

    async def main() -> int:
        most = 0

        async def enters() -> None:
            nonlocal most
            for _ in range(1500):
                with trio.move_on_after(1000):
                    await trio.lowlevel.checkpoint()
                most = max(most, len(context.runner.deadlines._heap))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(enters)
        return most

    assert uring_trio.run(main, ring=COMPILED) < 1200


def test_one_task_leaves_no_entry_behind() -> None:
    async def main() -> int:
        await turns()
        for _ in range(500):
            with trio.move_on_after(1000), trio.move_on_after(2000):
                pass
        return len(context.runner.deadlines._heap)

    assert uring_trio.run(main, ring=COMPILED) == 0


def test_scopes_are_freed() -> None:
    async def program() -> list[object]:
        await turns()
        scope = trio.CancelScope()
        gone = weakref.ref(scope)
        gc.disable()
        try:
            with scope:
                await turns(1)
            del scope
            return [gone() is None]
        finally:
            gc.enable()

    same(program)


def test_the_end_of_a_scope_may_enter_one() -> None:
    """A callback of a weak reference runs in the middle of a scope's end."""

    async def program() -> list[object]:
        await turns()
        found: list[object] = []

        def callback(_: object) -> None:
            with trio.move_on_after(5000) as scope:
                found.append(shown(scope))

        for _ in range(100):
            scope = trio.CancelScope()
            watched = weakref.ref(scope, callback)
            scope.__enter__()
            leave = scope.__exit__
            del scope
            leave(None, None, None)
            del leave, watched
        return [*found, around()]

    same(program)


def test_references_stay_level() -> None:
    async def main() -> bool:
        await turns()
        task = trio.lowlevel.current_task()
        kinds = (None, True, False, math.inf, task, task._cancel_status, trio.CancelScope)
        error = ValueError()

        def enter(count: int) -> None:
            for _ in range(count):
                with trio.move_on_after(30000), trio.CancelScope(shield=True) as scope:
                    pass
                scope.__init__()  # type: ignore[misc]
                scope.__enter__()
                scope.__exit__(ValueError, error, None)

        def counts() -> list[int]:
            gc.collect()
            return [*map(sys.getrefcount, kinds), sys.getrefcount(error), len(gc.get_objects())]

        enter(500)
        before = counts()
        enter(5000)
        return all(abs(after - earlier) < 200 for earlier, after in zip(before, counts()))

    assert uring_trio.run(main, ring=COMPILED)


def test_ctrl_c_in_a_loop_of_scopes() -> None:
    """Whenever the signal comes, scopes that were entered are left."""

    async def main(turn: int) -> None:
        await turns()

        def interrupt(thread: int) -> None:
            started.wait()
            for _ in range(turn * 10):
                pass
            signal.pthread_kill(thread, signal.SIGINT)

        before = trio.lowlevel.current_task()._cancel_status  # type: ignore[attr-defined]
        started = threading.Event()
        thread = threading.Thread(target=interrupt, args=[threading.get_ident()])
        thread.start()
        try:
            started.set()
            while True:
                for _ in range(20):
                    with trio.move_on_after(1000), trio.CancelScope():
                        pass
                await trio.lowlevel.checkpoint()
        finally:
            thread.join()
            assert trio.lowlevel.current_task()._cancel_status is before  # type: ignore[attr-defined]

    for turn in range(40):
        with pytest.raises(KeyboardInterrupt):
            uring_trio.run(main, turn, ring=COMPILED)


def test_a_type_that_is_none_of_trios() -> None:
    """Shortcuts called with something else are Trio's function."""

    async def program() -> object:
        await turns()
        return told(lambda: trio.CancelScope.__exit__(types.SimpleNamespace(), None, None, None))  # type: ignore[arg-type]

    same(program)
