"""Scheduler ticks in C: each program runs in Trio's own loop too, on both backends, and comes out alike.

What a tick in C leaves to Trio's loop is told from what it does itself by `compiled_ticks` of the statistics.
"""

from __future__ import annotations

import contextvars
import gc
import os
import signal
import subprocess
import sys
import traceback
import types
from collections import Counter
from typing import TYPE_CHECKING, Any

import outcome
import pytest
import trio
import trio.testing

import uring_trio
from tests.trio.seams.modes import same, statistics, turns
from uring_trio import RingOptions, seams

if TYPE_CHECKING:
    from types import FrameType

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="none")


def test_points_are_counted() -> None:
    async def program() -> tuple[int, int]:
        await turns(20)
        task = trio.lowlevel.current_task()
        return task._cancel_points, task._schedule_points

    same(program)


def test_a_batch_is_what_was_runnable_at_its_start() -> None:
    """A task that another one wakes does not run in the same batch; a batch is in one of two orders."""

    async def program() -> set[tuple[str, ...]]:
        seen = set()
        for _ in range(60):
            log: list[str] = []
            event = trio.Event()

            async def first(log: list[str] = log, event: trio.Event = event) -> None:
                log.append("1")
                event.set()
                await trio.lowlevel.checkpoint()
                log.append("1")

            async def second(log: list[str] = log) -> None:
                log.append("2")
                await trio.lowlevel.checkpoint()
                log.append("2")

            async def woken(log: list[str] = log, event: trio.Event = event) -> None:
                await event.wait()
                log.append("w")

            async with trio.open_nursery() as nursery:
                nursery.start_soon(woken)
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(first)
                nursery.start_soon(second)
            assert log.index("w") > max(log.index("1"), log.index("2"))
            seen.add(tuple(log[:2]))
        return seen

    assert same(program) == {("1", "2"), ("2", "1")}


def test_what_came_is_seen_before_the_next_batch() -> None:
    """Also where Trio's own loop runs that: here because a task waits for all others to be blocked."""

    async def program() -> list[int]:
        near, far = trio.socket.socketpair()
        waiting: list[int] = []

        async def look() -> None:
            waiting.append(statistics().tasks_waiting_read)

        with near, far:
            await trio.testing.wait_all_tasks_blocked()  # Trio's own task waits
            await look()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.lowlevel.wait_readable, far)
                await trio.testing.wait_all_tasks_blocked()
                await look()
                await turns()
                seams.stdlib_socket(near).send(b"x")
                nursery.start_soon(look)
                await trio.testing.wait_all_tasks_blocked()
        return [count - waiting[0] for count in waiting]

    assert same(program) == [0, 1, 0]


def test_the_order_comes_from_trios_generator() -> None:
    async def program() -> list[int]:
        seams.names.core_run._r.seed(7)
        log: list[int] = []

        async def task(n: int) -> None:
            for _ in range(10):
                await trio.lowlevel.checkpoint()
                log.append(n)

        async with trio.open_nursery() as nursery:
            for n in range(4):
                nursery.start_soon(task, n)
        return log

    same(program)


def test_context_variables() -> None:
    async def program() -> list[str]:
        log = []

        async def task(name: str) -> None:
            VAR.set(name)
            await turns()
            log.append(f"{name}={VAR.get()}")

        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(task, name)
        return [*sorted(log), VAR.get()]

    same(program)


def test_a_context_that_is_replaced_during_the_step() -> None:
    """`trio.from_thread.run` lends the task of a thread that calls back the thread's context."""

    async def program() -> list[str]:
        async def back() -> str:
            await turns()
            return VAR.get()

        def thread() -> str:
            VAR.set("thread")
            return trio.from_thread.run(back)

        VAR.set("task")
        found = [await trio.to_thread.run_sync(thread) for _ in range(3)]
        gc.collect()
        return [*found, VAR.get()]

    same(program)


def frames(exc: BaseException) -> list[str]:
    return [frame.name for frame in traceback.extract_tb(exc.__traceback__)]


def test_tracebacks_have_no_frame_of_the_loop() -> None:
    async def program() -> list[str]:
        async def inner() -> None:
            await turns(1)
            raise ValueError("inner")

        found: list[str] = []
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(inner)
        except ExceptionGroup as group:
            found = frames(group.exceptions[0])
        return found

    assert same(program) == ["inner"]


def test_a_foreign_message_is_answered_by_an_error() -> None:
    @types.coroutine
    def foreign() -> Any:
        yield "asyncio"

    async def program() -> list[str]:
        await turns()
        try:
            await foreign()
        except TypeError as exc:
            return [str(exc), *frames(exc)]
        return []

    result = same(program)
    assert "unrecognized yield message 'asyncio'" in result[0]


def test_a_task_that_is_detached_for_good() -> None:
    async def program() -> list[str]:
        log = []

        async def leaves() -> None:
            await turns(2)
            log.append("out")
            await trio.lowlevel.permanently_detach_coroutine_object(outcome.Value(None))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(leaves)
            await turns()
        return log

    same(program)


def test_an_instrument_added_in_the_middle_of_a_batch_gets_the_rest_of_it() -> None:
    class Counts(trio.abc.Instrument):
        def __init__(self) -> None:
            self.steps: list[str] = []

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            self.steps.append(f"before {task.name}")

        def task_scheduled(self, task: trio.lowlevel.Task) -> None:
            self.steps.append(f"scheduled {task.name}")

        def after_task_step(self, task: trio.lowlevel.Task) -> None:
            self.steps.append(f"after {task.name}")

    async def program() -> set[tuple[str, ...]]:
        seen = set()
        for _ in range(40):
            counts = Counts()

            async def adds(counts: Counts = counts) -> None:
                await turns(3)
                trio.lowlevel.add_instrument(counts)
                await trio.lowlevel.checkpoint()
                trio.lowlevel.remove_instrument(counts)

            async def other() -> None:
                await turns(8)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(adds, name="adds")
                nursery.start_soon(other, name="other")
            mine = [step for step in counts.steps if step.split()[1] in ("adds", "other")]
            seen.add(tuple(mine[:5]))
        return seen

    result = same(program)
    rest = ("scheduled adds", "after adds", "before other", "scheduled other", "after other")
    assert rest in result


def test_wait_all_tasks_blocked_and_deadlines_go_on() -> None:
    async def program() -> list[str]:
        log = []

        async def busy() -> None:
            with trio.move_on_after(0.05):
                while True:
                    await trio.lowlevel.checkpoint()
            log.append("deadline")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(busy)
            await trio.testing.wait_all_tasks_blocked()
            log.append("blocked")
        return log

    same(program)


def test_an_answer_to_a_shielded_checkpoint_can_be_unwrapped_each_time() -> None:
    async def program() -> list[Any]:
        found = []
        for _ in range(3):
            answer = await _yielded()
            found += [answer.unwrap(), answer.unwrap() if isinstance(answer, seams.ticks._Again) else None]
        await trio.lowlevel.cancel_shielded_checkpoint()
        return found

    @types.coroutine
    def _yielded() -> Any:
        return (yield seams.names.core_traps.CancelShieldedCheckpoint)

    same(program)


def test_ctrl_c_ends_a_busy_run() -> None:
    async def main() -> None:
        old = statistics().compiled_ticks
        await turns(50)
        assert statistics().compiled_ticks > old
        signal.raise_signal(signal.SIGINT)
        await turns(50)
        raise AssertionError("it went on")

    with pytest.raises(KeyboardInterrupt):
        uring_trio.run(main, ring=RingOptions(compiled=True))


def test_ctrl_c_waits_for_protected_code() -> None:
    @trio.lowlevel.enable_ki_protection
    async def protected(log: list[str]) -> None:
        await turns()
        signal.raise_signal(signal.SIGINT)
        log.append("after the signal")

    log: list[str] = []

    async def main() -> None:
        await turns()
        await protected(log)
        await turns()
        log.append("never")

    with pytest.raises(KeyboardInterrupt):
        uring_trio.run(main, ring=RingOptions(compiled=True))
    assert log == ["after the signal"]


def test_an_end_leaves_nothing_behind() -> None:
    """Tasks that have ended are not kept by the batch that they were in, nor by the run."""

    async def program() -> int:
        class Thing:
            pass

        async def holds() -> None:
            thing = Thing()
            await turns(2)
            del thing

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(holds)
        await turns(2)
        gc.collect()
        return sum(isinstance(each, Thing) for each in gc.get_objects())

    assert same(program) == 0


def test_references_stay_level() -> None:
    # From 3.12 on the interpreter does not count references to immortal objects. The stable ABI of 3.11 does.
    counted = (seams.DONE,) if sys.version_info >= (3, 12) else (None, seams.DONE, True, False)

    async def program() -> bool:
        await turns(1000)
        before = [sys.getrefcount(each) for each in counted]
        await turns(20000)
        after = [sys.getrefcount(each) for each in counted]
        return all(abs(b - a) < 1000 for a, b in zip(before, after))

    assert same(program)


def test_where_ticks_in_c_step_aside() -> None:
    """With an instrument from the start and under a mock clock Trio's own loop runs everything."""

    class Nothing(trio.abc.Instrument):
        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            pass

    async def main() -> int:
        await turns(20)
        return int(statistics().compiled_ticks)

    for given in ({"instruments": [Nothing()]}, {"clock": trio.testing.MockClock()}):
        assert uring_trio.run(main, ring=RingOptions(compiled=True), **given) == 0
    assert uring_trio.run(main, ring=RingOptions(compiled=True)) > 0


@pytest.mark.parametrize("name", ["_r", "_ALLOW_DETERMINISTIC_SCHEDULING"])
def test_a_trio_without_what_they_need_has_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seams.ticks, "_offsets", {})
    monkeypatch.setattr(seams.ticks, "NAMES_OF_TICKS", (f"trio._core._run.{name}_of_the_future",))

    async def main() -> int:
        await turns(20)
        return int(statistics().compiled_ticks)

    assert uring_trio.run(main, ring=RingOptions(compiled=True)) == 0


def test_the_environment_switches_them_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("URING_TRIO_COMPILED", "0")
    assert RingOptions().compiled is False
    monkeypatch.delenv("URING_TRIO_COMPILED")
    assert RingOptions().compiled is True
    assert RingOptions.parse("compiled=0").compiled is False
    with pytest.raises(TypeError, match="compiled is True or False"):
        RingOptions(compiled=1)  # type: ignore[arg-type]


def test_a_signal_that_comes_between_steps_is_handled_in_no_task() -> None:
    """In a task's frame Ctrl-C could strike where Trio never lets it: in the middle of ``async with``."""
    places, enough = Counter[str](), []

    async def turn() -> None:
        near, far = trio.socket.socketpair()
        with near, far:
            while not enough:  # most of the time goes into system calls, made in C
                await near.send(b"x")
                await far.recv(1)

    async def main() -> int:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(turn)
        sender.kill()  # a run that ends closes what signals are written to
        sender.wait()
        return statistics().compiled_ticks

    def handle(_: int, frame: FrameType | None) -> None:
        names = {each.f_code.co_name for each, _ in traceback.walk_stack(frame)}
        places["a task" if "turn" in names else "none"] += 1
        enough.extend([True] * (sum(places.values()) == 200))

    # From another process: a thread of this one could run only where the run lets it.
    sends = f"for _ in range(5000): os.kill({os.getpid()}, signal.SIGUSR1); time.sleep(0.001)"
    command = [sys.executable, "-c", f"import os, signal, time\n{sends}"]
    before = signal.signal(signal.SIGUSR1, handle)
    try:
        with subprocess.Popen(command) as sender:
            try:
                assert uring_trio.run(main, ring=RingOptions(compiled=True))
            finally:
                sender.kill()
    finally:
        signal.signal(signal.SIGUSR1, before)
    # Some come while a step runs. Handled at the next instruction of any task, half of them would be in one.
    assert 3 * places["none"] > 4 * places["a task"], places
