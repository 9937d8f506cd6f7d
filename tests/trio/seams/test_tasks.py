"""Tasks that start and end in C: their objects, errors and ends are those of Trio's own functions."""

from __future__ import annotations

import contextvars
import functools
import gc
import inspect
import sys
import types
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

import uring_trio
from tests.trio.seams.modes import same, turns
from tests.trio.seams.scoped import in_task, status, told
from uring_trio import RingOptions
from uring_trio.seams import tasks
from uring_trio.seams.names import context, core_run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

COMPILED = RingOptions(compiled=True)
PLACES = [(getattr(core_run, kind), name) for kind, name in tasks._SHORTCUTS]
VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="none")


@pytest.fixture(autouse=True)
def exchanged() -> Iterator[None]:
    """The test begins with Trio's functions; the first compiled run brings the others."""
    tasks.restore()
    yield
    tasks.restore()


class Worker:
    async def work(self, *args: object) -> None:
        await turns(1)

    @classmethod
    async def of_class(cls, *args: object) -> None:
        await turns(1)

    @staticmethod
    async def static(*args: object) -> None:
        await turns(1)

    async def __call__(self, *args: object) -> None:
        await turns(1)

    def __repr__(self) -> str:
        return "a worker"


class Named(str):
    __slots__ = ()


async def work(*args: object, **keywords: object) -> None:
    await turns(1)


def of_lambda() -> Callable[..., Awaitable[object]]:
    return lambda *args: work(*args)


def without_names() -> Callable[..., Awaitable[object]]:
    async def fn(*args: object) -> None:
        await turns(1)

    fn.__module__ = None  # type: ignore[assignment]
    fn.__qualname__ = Named("n")
    return fn


def shown(task: Any) -> list[object]:
    """Every field of a task."""
    fields = {name: getattr(task, name) for name in tasks._TASK}
    return [
        fields.pop("_parent_nursery") is task.parent_nursery,
        fields.pop("coro").cr_code.co_name,
        fields.pop("_runner") is context.runner,
        fields.pop("context").get(VAR),
        type(fields.pop("_counter")),
        getattr(fields.pop("_next_send_fn"), "__name__", "resume") in ("send", "resume"),
        status(fields.pop("_cancel_status")),
        fields,
        type(fields["name"]),
        task in context.runner.tasks,
        repr(task).partition(" at 0x")[0],
    ]


def test_a_compiled_run_exchanges_the_functions() -> None:
    before = [vars(kind)[name] for kind, name in PLACES]
    uring_trio.run(turns, ring=RingOptions(compiled=False))
    assert [vars(kind)[name] for kind, name in PLACES] == before
    uring_trio.run(turns, ring=COMPILED)
    assert types.FunctionType not in {type(vars(kind)[name]) for kind, name in PLACES}
    assert inspect.signature(trio.Nursery.start_soon) == inspect.signature(before[0])
    uring_trio.uninstall()
    assert [vars(kind)[name] for kind, name in PLACES] == before


@pytest.mark.parametrize("missing", ["_TASK", "_NURSERY", "_ARGUMENTS"])
def test_a_trio_with_other_fields_keeps_its_functions(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    changed = {
        "_TASK": (*tasks._TASK, "another"),
        "_NURSERY": {*tasks._NURSERY, "another"},
        "_ARGUMENTS": dict.fromkeys(tasks._ARGUMENTS, 9),
    }
    monkeypatch.setattr(tasks, missing, changed[missing])
    before = trio.Nursery.start_soon
    uring_trio.run(turns, ring=COMPILED)
    assert trio.Nursery.start_soon is before


def test_nothing_of_trios_is_called_for_usual_tasks() -> None:
    async def called() -> set[str]:
        names = set()

        def profile(frame: Any, event: str, arg: object) -> None:
            if event == "call" and frame.f_code.co_filename == core_run.__file__:
                names.add(frame.f_code.co_name)

        await turns()
        async with trio.open_nursery() as nursery:
            sys.setprofile(profile)
            for fn in (work, Worker().work, Worker.of_class, functools.partial(work, key=1)):
                nursery.start_soon(fn, 1)
                nursery.start_soon(fn, name="given")
            await turns()
            sys.setprofile(None)
        return names

    functions = {"start_soon", "spawn_impl", "task_exited", "_child_finished", "_check_nursery_closed"}
    assert not uring_trio.run(called, ring=COMPILED) & functions
    assert functions <= uring_trio.run(called, ring=RingOptions(compiled=False))


@pytest.mark.parametrize(
    "keywords", [{}, {"name": None}, {"name": "x"}, {"name": Named("x")}, {"name": work}, {"name": 3}]
)
def test_new_tasks(keywords: dict[str, Any]) -> None:
    worker = Worker()
    functions: list[Any] = [
        work,
        worker.work,
        worker,
        Worker.of_class,
        Worker.static,
        of_lambda(),
        without_names(),
        functools.partial(work, 1, key=2),
        functools.partial(worker.work, 1),
        functools.partial(worker, 1),
        functools.partial(functools.partial(work, 1), 2),
        functools.partial(of_lambda(), 1),
        trio.lowlevel.checkpoint,
        trio.Event().wait,
    ]

    async def program() -> list[object]:
        await turns()
        found: list[object] = []
        for fn in functions:
            async with trio.open_nursery() as nursery:
                VAR.set(str(len(found)))
                numbers = []
                for args in ((), (1, 2)):
                    if args and fn in (functions[-2], functions[-1]):
                        continue
                    before = nursery.child_tasks
                    nursery.start_soon(fn, *args, **keywords)
                    (task,) = nursery.child_tasks - before
                    numbers.append(task._counter)
                    found.append(shown(task))
                VAR.set("later")
                found.append(numbers == sorted(numbers))
                await turns(1)
                found.append([status(nursery._cancel_status), len(nursery.child_tasks)])  # type: ignore[attr-defined]
                if fn is functions[-1]:
                    nursery.cancel_scope.cancel()
            found.append(len(context.runner.tasks))
        return found

    same(program)


async def generator() -> Any:
    yield 1


def not_async(*args: object) -> None:
    pass


@pytest.mark.parametrize(
    ("fn", "args"),
    [
        (not_async, ()),
        (generator, ()),
        (turns, (1, 2, 3)),
        (functools.partial(turns, 1, 2), ()),
        (3, ()),
        (trio.lowlevel.checkpoint, (1,)),
    ],
)
@pytest.mark.filterwarnings("ignore:coroutine method 'asend'")
def test_errors_at_the_start(fn: Any, args: tuple[object, ...]) -> None:
    async def program() -> list[object]:
        await turns()
        async with trio.open_nursery() as nursery:
            found = [told(lambda: nursery.start_soon(fn, *args))]
            found += [len(nursery.child_tasks), len(context.runner.tasks)]
        return [*found, told(lambda: nursery.start_soon(work)), told(lambda: nursery.start_soon())]

    same(program)


def test_a_start_in_a_cancelled_nursery_and_one_that_is_cancelled_before_it_ran() -> None:
    async def child(log: list[str]) -> None:
        log.append("runs")
        try:
            await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            log.append("cancelled")
            raise

    async def program() -> list[object]:
        await turns()
        log: list[str] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, log)
            nursery.cancel_scope.cancel()
            nursery.start_soon(child, log)
        with trio.CancelScope() as scope:
            scope.cancel()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child, log)
        return [log, scope.cancelled_caught]

    same(program)


async def raises() -> None:
    raise ValueError("an error")


async def leaves_a_nursery_open() -> None:
    await trio.open_nursery().__aenter__()


async def exits_with_a_lock(lock: trio.Lock) -> None:
    await lock.acquire()


async def waits_for(lock: trio.Lock) -> None:
    await turns(2)
    await lock.acquire()


def test_ends_that_are_not_usual() -> None:
    async def program() -> list[object]:
        await turns()
        lock = trio.Lock()

        async def broken() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(exits_with_a_lock, lock)
                nursery.start_soon(waits_for, lock)

        found = [await in_task(raises), await in_task(leaves_a_nursery_open), await in_task(broken)]
        return [*found, len(context.runner.tasks)]

    same(program)


def test_a_scope_that_ends_before_the_tasks_in_it() -> None:
    async def program() -> object:
        await turns()

        async def misnested() -> None:
            scope = trio.CancelScope()
            scope.__enter__()
            nursery = trio.open_nursery()
            inside = await nursery.__aenter__()
            inside.start_soon(work)
            scope.__exit__(None, None, None)
            await nursery.__aexit__(None, None, None)

        found = await in_task(misnested)
        await turns(5)  # the task that was left behind ends too
        return [found, len(context.runner.tasks)]

    same(program)


def test_the_end_of_a_nursery() -> None:
    """The last task wakes the one that waits, at once and with the same counts."""

    async def program() -> list[object]:
        await turns()
        found: list[object] = []
        task: Any = trio.lowlevel.current_task()

        async def watching(nursery: Any) -> None:
            await turns(3)
            found.append([nursery._closed, nursery._parent_waiting_in_aexit, len(nursery._children)])

        for count in (1, 2):
            before = task._cancel_points, task._schedule_points
            async with trio.open_nursery() as nursery:
                for _ in range(count):
                    nursery.start_soon(watching, nursery)
            found.append(
                [task._cancel_points - before[0], task._schedule_points - before[1], vars(nursery)["_closed"]]
            )
            found.append(told(lambda nursery=nursery: nursery.start_soon(work)))  # type: ignore[misc]
        return found

    same(program)


def test_nursery_start() -> None:
    async def service(outcome: str, *, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        await turns(1)
        if outcome == "error":
            raise ValueError
        if outcome == "started":
            task_status.started("value")
        await turns(2)

    async def program() -> list[object]:
        await turns()
        found: list[object] = []
        async with trio.open_nursery() as nursery:
            for outcome in ("started", "error", "nothing"):
                try:
                    found.append(await nursery.start(service, outcome, name=outcome))
                except (ValueError, RuntimeError) as exc:
                    found.append(repr(exc))
                found.append([task.name for task in nursery.child_tasks])
                found.append([task.eventual_parent_nursery for task in nursery.child_tasks])
        return found

    same(program)


class Log(trio.abc.Instrument):
    def __init__(self) -> None:
        self.seen: list[tuple[str, str]] = []

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.seen.append(("spawned", task.name))

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        self.seen.append(("scheduled", task.name))

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        self.seen.append(("exited", task.name))


def test_instruments_see_starts_and_ends() -> None:
    async def program() -> list[object]:
        await turns()
        log = Log()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work, name="before")
            trio.lowlevel.add_instrument(log)
            nursery.start_soon(work, name="meanwhile")
            await turns(4)
            trio.lowlevel.remove_instrument(log)
            nursery.start_soon(work, name="after")
        return sorted(entry for entry in log.seen if entry[1] in ("before", "meanwhile", "after"))

    same(program)


@pytest.mark.parametrize(
    "place",
    [
        (core_run.Runner, "spawn_impl"),
        (core_run.Runner, "reschedule"),
        (core_run.Runner, "task_exited"),
        (core_run.Nursery, "start_soon"),
        (core_run.Nursery, "_child_finished"),
        (core_run.Nursery, "_check_nursery_closed"),
        (core_run.Task, "_activate_cancel_status"),
    ],
    ids=lambda place: place[1],
)
@pytest.mark.parametrize("before", [True, False])
def test_functions_that_a_program_replaces_are_called(
    place: tuple[Any, str], before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, name = place
    calls = []

    def replace() -> None:
        stock = vars(kind)[name]

        def instead(*args: Any, **keywords: Any) -> Any:
            calls.append(args)
            return stock(*args, **keywords)

        monkeypatch.setattr(kind, name, instead)

    async def program() -> int:
        await turns()
        if not before:
            replace()
        calls.clear()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
        count = len(calls)
        if not before:
            monkeypatch.undo()
        return count

    if before:
        replace()
    stock: int = trio.run(program)
    assert stock > 0
    found = uring_trio.run(program, ring=COMPILED)
    # Checkpoints and scopes in C are no calls of these.
    assert found > 0 if name in ("reschedule", "_activate_cancel_status") else found == stock


def test_ctrl_c_protection_and_context_of_the_child() -> None:
    async def program() -> list[object]:
        await turns()
        found: list[object] = []

        async def child() -> None:
            found.append([trio.lowlevel.currently_ki_protected(), VAR.get()])
            VAR.set("child")

        VAR.set("parent")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            nursery.start_soon(trio.lowlevel.enable_ki_protection(child))
            VAR.set("later")
        trio.lowlevel.spawn_system_task(child)
        await turns(2)
        return [*found, VAR.get()]

    same(program)


def test_wait_all_tasks_blocked_sees_new_tasks() -> None:
    async def program() -> list[str]:
        await turns()
        log: list[str] = []

        async def child(name: str) -> None:
            await turns(3)
            log.append(name)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, "first")
            await trio.testing.wait_all_tasks_blocked()
            log.append("blocked")
        return log

    same(program)


def test_a_task_that_is_over_goes_at_once() -> None:
    async def program() -> int:
        await turns()
        gone = []

        async def child() -> None:
            weakref.finalize(trio.lowlevel.current_task(), gone.append, 1)
            await turns(1)

        gc.disable()
        try:
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(child)
                await turns(4)
                return len(gone)
        finally:
            gc.enable()

    assert same(program) == 10


def test_references_stay_level() -> None:
    async def main() -> list[int]:
        levels = []
        for _ in range(3):
            async with trio.open_nursery() as nursery:
                for _ in range(100):
                    nursery.start_soon(work, 1)
                    nursery.start_soon(functools.partial(Worker().work, 2), name="x")
            gc.collect()
            levels.append(sum(map(sys.getrefcount, (work, core_run.Task, core_run.Nursery))))
        return levels

    levels = uring_trio.run(main, ring=COMPILED)
    assert levels[1] == levels[2]
