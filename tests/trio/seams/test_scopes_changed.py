"""Changes by a program or a test to cancel scopes and to the time, beside scopes in C."""

from __future__ import annotations

import fractions
import math
import subprocess
import sys
import time
from typing import Any

import pytest
import trio

from tests.trio.seams.modes import same, turns
from uring_trio import seams
from uring_trio.seams import scopes

pytestmark = pytest.mark.usefixtures("exchanged")


def deadlines_in_force() -> int:
    return trio.lowlevel.current_task()._runner.deadlines._active  # type: ignore[attr-defined,no-any-return]


def test_a_deadline_before_all_time_is_counted_once() -> None:
    async def program() -> int:
        await turns()
        for _ in range(5):
            with trio.CancelScope() as scope:
                scope.deadline = -math.inf
        return deadlines_in_force()

    assert same(program) == 0


class Seconds(float):
    """As the numbers of NumPy: sums are of the same type."""

    def __add__(self, other: float) -> Seconds:
        return Seconds(float(self) + other)

    __radd__ = __add__


@pytest.mark.parametrize("kind", [Seconds, fractions.Fraction])
def test_deadlines_of_other_numbers_keep_their_order(kind: Any) -> None:
    """A scope that is left takes its entry out of Trio's heap only where it can compare the others."""

    async def program() -> list[bool]:
        await turns()
        heap = trio.lowlevel.current_task()._runner.deadlines._heap  # type: ignore[attr-defined]
        ordered = []
        now = trio.current_time()
        with trio.CancelScope(deadline=now + 10), trio.CancelScope(deadline=kind(now + 50)):
            with trio.CancelScope(deadline=now + 200), trio.move_on_after(5):
                pass
            ends = [entry[0] for entry in heap]
            ordered.append(all(ends[i] >= ends[(i - 1) // 2] for i in range(1, len(ends))))
        return ordered

    same(program)


def test_scopes_that_a_program_has_patched_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    entered = []
    stock = trio.CancelScope.__enter__

    def enter(scope: trio.CancelScope) -> trio.CancelScope:
        entered.append(scope)
        return stock(scope)

    async def program() -> int:
        await turns()
        entered.clear()
        with trio.CancelScope():
            pass
        return len(entered)

    scopes.restore()
    monkeypatch.setattr(trio.CancelScope, "__enter__", enter)
    assert same(program) == 1


COLLECTED = """
import contextlib, gc, trio, uring_trio

def holds(box):
    with trio.CancelScope() as scope:
        try:
            yield
        finally:
            scope.cancel()
        box.clear()

async def main():
    for _ in range(3):
        await trio.lowlevel.checkpoint()
    with contextlib.ExitStack() as stack:
        for _ in range(70):  # nothing is left over to be used again
            stack.enter_context(trio.CancelScope())
        for turn in range(400):
            gc.collect()
            box = []
            generator = holds(box)
            box.append(generator)
            next(generator)
            inner = trio.CancelScope()
            gc.set_threshold(1 + turn % 12, 1000, 1000)
            del generator, box
            with contextlib.suppress(BaseException), inner:
                gc.set_threshold(700, 10, 10)
                gc.collect()
            gc.set_threshold(700, 10, 10)
    print("over")

with contextlib.suppress(BaseException):
    uring_trio.run(main)
"""


def test_a_generator_is_collected_while_a_scope_is_entered() -> None:
    """Its own scope goes away meanwhile, and with it what the new one was to be under. What Trio says of
    scopes that end out of order depends on when the collector runs; that the process survives does not."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", COLLECTED], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "over\n"), done.stderr


@pytest.mark.parametrize("frozen", [False, True])
def test_a_time_that_a_test_has_replaced(frozen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def program() -> tuple[float, bool]:
        await turns()
        with trio.move_on_after(5) as scope:
            left = scope.deadline - trio.current_time()
            clock[0] += 10
            await trio.lowlevel.checkpoint()
        return round(left), scope.cancelled_caught

    clock = [time.perf_counter()]
    if frozen:
        monkeypatch.setattr(seams.names.core_run, "perf_counter", lambda: clock[0])
    assert same(program, ticks=not frozen) == (5, frozen)
