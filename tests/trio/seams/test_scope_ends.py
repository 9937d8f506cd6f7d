"""Cancel scopes in C that end out of order, by chance, late or not at all, and what they leave behind."""

from __future__ import annotations

import gc
import itertools
import math
import random
import signal
import sys
import threading
import types
import weakref
from functools import partial
from typing import Any

import pytest
import trio

import uring_trio
from tests.trio.seams.modes import same, turns
from tests.trio.seams.scoped import around, in_task, shown, status, told
from uring_trio import RingOptions
from uring_trio.seams.names import context

pytestmark = pytest.mark.usefixtures("exchanged")

COMPILED = RingOptions(compiled=True)


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
        kinds: list[object] = [None, True, False, math.inf, task, task._cancel_status, trio.CancelScope]
        # From 3.12 on some objects are immortal: the interpreter counts few of their references.
        kinds = [each for each in kinds if sys.getrefcount(each) < 1 << 30]
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
