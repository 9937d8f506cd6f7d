"""Locks and memory channels in C: results, errors, frames, order and counts are those of Trio's methods."""

from __future__ import annotations

import collections.abc
import gc
import inspect
import signal
import subprocess
import sys
import traceback
import warnings
import weakref
from typing import TYPE_CHECKING, Any

import outcome
import pytest
import trio
from trio.lowlevel import current_task, reschedule

import uring_trio
from tests.trio.seams import exchanges
from tests.trio.seams.modes import same, turns
from tests.trio.seams.scoped import told, without_numbers
from uring_trio import RingOptions
from uring_trio.seams import checkpoints, methods, tasks
from uring_trio.seams.names import core_run, present

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

COMPILED = RingOptions(compiled=True)
LOCK_METHODS = ("acquire", "__aenter__", "__aexit__")
HAS_CHANNELS = present("trio._channel.MemoryChannelState.peak_buffer_used")
"""Whether this Trio's channels have the fields that are written in C."""
channels_alone = pytest.mark.skipif(not HAS_CHANNELS, reason="this Trio keeps its methods of channels")


@pytest.fixture(autouse=True)
def exchanged() -> Iterator[None]:
    """The test begins with Trio's methods; the first compiled run brings the others."""
    for each in (methods, tasks, checkpoints):
        each.restore()
    yield
    for each in (methods, tasks, checkpoints):
        each.restore()


def of_classes() -> list[Any]:
    lock = [getattr(trio.Lock, name) for name in LOCK_METHODS]
    return [*lock, trio.MemorySendChannel.send, *receiving()]


def receiving() -> list[Any]:
    return [trio.MemoryReceiveChannel.receive, trio.MemoryReceiveChannel.__anext__]


async def awaited(call: Callable[[], Awaitable[object]]) -> object:
    """The result of a call, or its error with the frames of the traceback."""
    try:
        return await call()
    except BaseException as exc:
        frames = [
            (each.name, each.lineno, each.end_lineno, each.colno, each.end_colno)
            for each in traceback.extract_tb(exc.__traceback__)
        ]
        return [type(exc).__name__, without_numbers(exc), frames[1:]]


@pytest.mark.parametrize("seed", range(90))
def test_random_programs(seed: int) -> None:
    same(exchanges.program(seed))


def test_a_compiled_run_exchanges_the_code() -> None:
    before = of_classes()
    code = [each.__code__ for each in before]
    release = vars(trio.Lock.__mro__[1])["release"]
    uring_trio.run(turns, ring=RingOptions(compiled=False))
    assert [each.__code__ for each in of_classes()] == code
    uring_trio.run(turns, ring=COMPILED)
    assert of_classes() == before
    changed = [each.__code__ is not old for each, old in zip(before, code, strict=True)]
    assert changed == [True] * 3 + [HAS_CHANNELS] * 3
    assert all(map(inspect.iscoroutinefunction, before))
    assert inspect.signature(trio.MemorySendChannel.send).parameters.keys() == {"self", "value"}
    assert inspect.signature(trio.Lock.release) == inspect.signature(release)
    uring_trio.uninstall()
    assert [each.__code__ for each in of_classes()] == code
    assert trio.Lock.release is release


@pytest.mark.parametrize("missing", ["_LOCK", "_LOT", "acquire_nowait", "release", "__aexit__"])
def test_a_trio_with_other_locks_keeps_them(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change(missing, monkeypatch)
    before = trio.Lock.release, trio.Lock.acquire.__code__
    uring_trio.run(turns, ring=COMPILED)
    assert (trio.Lock.release, trio.Lock.acquire.__code__) == before


@pytest.mark.parametrize("missing", ["_CHANNEL", "_STATE", "send_nowait", "receive_nowait", "__anext__"])
def test_a_trio_with_other_channels_keeps_them(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    change(missing, monkeypatch)
    before = [each.__code__ for each in receiving()]
    uring_trio.run(turns, ring=COMPILED)
    assert [each.__code__ for each in receiving()] == before


def change(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in methods._USED:
        monkeypatch.setitem(methods._USED, name, {"another"})
    else:
        monkeypatch.setattr(methods, name, (*getattr(methods, name), "another"))


async def calls_of_trios(program: Callable[[], Awaitable[object]]) -> set[str]:
    """The functions of Trio's modules of locks and channels that are called."""
    names = set()
    functions = trio.Lock.acquire, trio.MemorySendChannel.send, trio.lowlevel.add_parking_lot_breaker
    files = {function.__code__.co_filename for function in functions}

    def profile(frame: Any, event: str, arg: object) -> None:
        if event == "call" and frame.f_code.co_filename in files:
            names.add(frame.f_code.co_name)

    await turns()
    sys.setprofile(profile)
    await program()
    sys.setprofile(None)
    return names - {"open_memory_channel", "__new__", "__attrs_post_init__", "_create"}


async def locks_twice() -> None:
    locks = trio.Lock(), trio.StrictFIFOLock()
    async with locks[0], locks[1]:
        pass
    await locks[0].acquire()
    locks[0].release()


async def passes_values() -> None:
    for size in (0, 1, float("inf")):
        send, receive = trio.open_memory_channel[int](size)

        async def sends(number: int, send: Any = send) -> None:
            await send.send(number)

        async def receives(receive: Any = receive) -> None:
            await receive.receive()

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(sends, number)
            for _ in range(3):
                await receive.receive()
            async for _ in receive:
                break
            nursery.start_soon(receives)
            await turns(2)
            await send.send(5)


def test_usual_locks_are_in_c() -> None:
    calls = uring_trio.run(calls_of_trios, locks_twice, ring=COMPILED)
    assert calls == set(LOCK_METHODS)
    plain = uring_trio.run(calls_of_trios, locks_twice, ring=RingOptions(compiled=False))
    assert plain >= {"acquire_nowait", "release", "add_parking_lot_breaker"}


@channels_alone
def test_usual_channels_are_in_c() -> None:
    calls = uring_trio.run(calls_of_trios, passes_values, ring=COMPILED)
    assert calls <= {"send", "receive", "__anext__", "__aiter__"}
    plain = uring_trio.run(calls_of_trios, passes_values, ring=RingOptions(compiled=False))
    assert plain >= {"send_nowait", "receive_nowait"}


def test_errors_of_locks() -> None:
    async def program() -> list[object]:
        await turns()
        lock, found = trio.Lock(), []

        async def enter() -> None:
            async with lock:
                pass

        found.append(told(lock.release))
        found.append(await awaited(lambda: lock.__aexit__(None, None, None)))
        async with lock:
            found += [await awaited(lock.acquire), await awaited(enter), await awaited(lock.__aenter__)]
        core_run.GLOBAL_PARKING_LOT_BREAKER[current_task()] = []
        await lock.acquire()
        del core_run.GLOBAL_PARKING_LOT_BREAKER[current_task()]
        found.append(told(lock.release))
        return found

    same(program)


def test_a_lock_whose_owner_has_ended() -> None:
    async def program() -> list[object]:
        core_run._r.seed(1)
        await turns()
        lock = trio.Lock()
        found = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lock.acquire)
            await turns(2)
            found.append(await awaited(lock.acquire))
        return [*found, await awaited(lock.acquire), len(core_run.GLOBAL_PARKING_LOT_BREAKER)]

    same(program)


def test_errors_of_channels() -> None:
    async def program() -> list[object]:
        await turns()
        send, receive = trio.open_memory_channel[int](0)
        other, gone = trio.open_memory_channel[int](1)
        await other.send(1)
        other.close()
        found = [await awaited(gone.__anext__), await awaited(gone.receive), await awaited(gone.__anext__)]
        found.append(await awaited(lambda: other.send(2)))
        gone.close()
        found.append(await awaited(gone.receive))
        receive.close()
        return [*found, await awaited(lambda: send.send(1)), send.statistics()]

    same(program)


def ways(send: Any, receive: Any, lock: Any) -> list[Callable[[], Awaitable[object]]]:
    return [receive.receive, receive.__anext__, lambda: send.send("sent"), lock.acquire, lock.__aenter__]


def test_a_buffer_with_a_limit_of_many_digits() -> None:
    async def program() -> object:
        await turns()
        send, receive = trio.open_memory_channel[int](10**30)
        await send.send(1)
        return [send.statistics(), await receive.receive()]

    same(program)


@pytest.mark.parametrize("end", ["cancel", "close", "wake", "error", "odd"])
@pytest.mark.parametrize("way", range(3))
def test_tasks_that_wait(way: int, end: str) -> None:
    """The frames that are seen while one waits, and those of its error."""

    class Odd(outcome.Value):  # type: ignore[misc,type-arg]
        def unwrap(self) -> str:
            return "odd"

    async def program(look: bool) -> list[object]:
        core_run._r.seed(1)
        await turns()
        send, receive = trio.open_memory_channel[str](0)
        found: list[object] = []

        async def child() -> None:
            found.append(await awaited(ways(send, receive, trio.Lock())[way]))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            await turns(2)
            (task,) = nursery.child_tasks
            if look:
                found.append([(each.f_code.co_name, line) for each, line in task.iter_await_frames()])
            found.append([send.statistics(), task.custom_sleep_data in (send, receive)])
            if end == "cancel":
                nursery.cancel_scope.cancel()
            elif end == "close":
                (send if way < 2 else receive).close()
            elif end == "wake":
                found.append(await (send.send("woken") if way < 2 else receive.receive()))
            else:
                unhooked = task.custom_sleep_data, task._abort_func
                found.append(unhooked[1](None))
                value = outcome.Error(ValueError("an error")) if end == "error" else Odd(1)
                reschedule(task, value)
        return [*found, send.statistics()]

    same(lambda: program(False))
    same(lambda: program(True))


@pytest.mark.parametrize("scope", ["cancelled", "0"])
def test_nothing_is_done_in_a_cancelled_scope(scope: str) -> None:
    async def program() -> list[object]:
        await turns()
        send, receive = trio.open_memory_channel[Any](3)
        lock = trio.Lock()
        await send.send("kept")
        found: list[object] = []
        for way in ways(send, receive, lock):
            with exchanges.scoped(scope):
                found.append(await awaited(way))
            found += [lock.locked(), send.statistics(), len(core_run.GLOBAL_PARKING_LOT_BREAKER)]
        return found

    same(program)


def test_counts_of_checkpoints() -> None:
    async def program() -> list[object]:
        await turns()
        send, receive = trio.open_memory_channel[Any](3)
        task: Any = current_task()
        found: list[object] = []
        for way in (*ways(send, receive, trio.Lock())[2:4], receive.receive, trio.Lock().__aenter__):
            before = task._cancel_points, task._schedule_points
            await way()
            found += [task._cancel_points - before[0], task._schedule_points - before[1]]
        return found

    same(program)


def test_the_awaitables_look_like_coroutines() -> None:
    async def program() -> list[object]:
        await turns()
        found: list[object] = []
        for number in range(5):
            for look in (
                inspect.iscoroutine,
                inspect.getcoroutinestate,
                lambda coro: isinstance(coro, collections.abc.Coroutine),
                lambda coro: (coro.__name__, coro.__qualname__),
                lambda coro: (sorted(coro.cr_frame.f_locals), coro.cr_code.co_name, coro.cr_await),
                lambda coro: repr(coro).partition(" at 0x")[0],
                lambda coro: told(lambda: coro.throw(ValueError("thrown"))),
                lambda coro: told(lambda: [coro.send(None) and None, coro.throw(ValueError("thrown"))]),
                lambda coro: [coro.send(None) and None, inspect.getcoroutinestate(coro)],
                lambda coro: [coro.send(None) and None, coro.close(), told(lambda: coro.send(None))],
                lambda coro: [coro.close(), told(lambda: coro.send(None)), coro.cr_frame],
                lambda coro: told(lambda: coro.send(5)),
            ):
                for size in (0, 2):
                    lock = trio.Lock()
                    send, receive = trio.open_memory_channel[Any](size)
                    if size:
                        send.send_nowait(1)
                    coro: Any = ways(send, receive, lock)[number]()
                    found.append(look(coro))  # type: ignore[no-untyped-call]
                    coro.close()
                    found += [lock.locked(), send.statistics()]
                    core_run.GLOBAL_PARKING_LOT_BREAKER.pop(current_task(), None)
        return found

    same(program)


def test_wrong_arguments() -> None:
    async def program() -> list[object]:
        await turns()
        send, receive = trio.open_memory_channel[Any](1)
        lock: Any = trio.Lock()
        calls: list[Callable[[], object]] = [
            send.send,  # type: ignore[list-item]
            lambda: send.send(1, 2),  # type: ignore[call-arg]
            lambda: receive.receive(1),  # type: ignore[call-arg]
            lambda: lock.release(1),
            lambda: lock.__aexit__(),
            lambda: type(lock).acquire(),
        ]
        return [await send.send(value=3), *map(told, calls)]

    same(program)


def test_calls_that_are_never_awaited() -> None:
    async def program() -> list[str]:
        await turns()
        send, receive = trio.open_memory_channel[Any](1)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for way in ways(send, receive, trio.Lock()):
                way()
        return [str(each.message) for each in caught]

    same(program)


def test_other_classes_go_through_the_same_methods() -> None:
    class Numbers(trio.abc.ReceiveChannel[int]):
        left = 3

        async def receive(self) -> int:
            await trio.lowlevel.checkpoint()
            self.left -= 1
            if not self.left:
                raise trio.EndOfChannel
            return self.left

        async def aclose(self) -> None:
            await trio.lowlevel.checkpoint()

    async def program() -> list[object]:
        await turns()
        found: list[object] = [number async for number in Numbers()]
        for each in (trio.Semaphore(1), trio.CapacityLimiter(1), trio.Condition()):
            async with each:
                found.append(without_numbers(each))
            found.append(without_numbers(each))
        return found

    same(program)


@pytest.mark.parametrize("name", ["acquire", "acquire_nowait", "release"])
@pytest.mark.parametrize("kind", [trio.Lock, trio.Lock.__mro__[1]])
def test_a_patched_lock(name: str, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def program() -> list[str]:
        await turns()
        with monkeypatch.context() as patch:
            calls = spied(patch, kind, name)
            async with trio.Lock():
                pass
        return calls

    same(program)


@pytest.mark.parametrize("name", ["send_nowait", "receive_nowait", "receive"])
def test_a_patched_channel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def program() -> list[str]:
        await turns()
        kind: Any = trio.MemorySendChannel if name == "send_nowait" else trio.MemoryReceiveChannel
        with monkeypatch.context() as patch:
            calls = spied(patch, kind, name)
            send, receive = trio.open_memory_channel[int](1)
            for number in range(2):
                await send.send(number)
                await (receive.receive() if number else receive.__anext__())
        return calls

    same(program)


def spied(patch: pytest.MonkeyPatch, kind: Any, name: str) -> list[str]:
    calls: list[str] = []
    method = getattr(kind, name)

    def spy(*args: Any) -> Any:
        calls.append(name)
        return method(*args)

    patch.setattr(kind, name, spy)
    return calls


def test_objects_with_attributes_of_their_own() -> None:
    async def program() -> list[object]:
        await turns()
        found: list[object] = []
        lock: Any = trio.Lock()
        send, receive = trio.open_memory_channel[int](1)
        lock.release = lambda: found.append("release")
        send.send_nowait = found.append  # type: ignore[method-assign]
        receive.receive_nowait = lambda: 7  # type: ignore[method-assign]
        async with lock:
            pass
        await send.send(3)
        found += [lock.locked(), await receive.receive(), await receive.__anext__()]
        type(lock).release(lock)
        return found

    same(program)


def test_a_class_without_a_method(monkeypatch: pytest.MonkeyPatch) -> None:
    async def program() -> list[object]:
        await turns()
        lock = trio.Lock()
        send, _ = trio.open_memory_channel[int](1)
        with monkeypatch.context() as patch:
            patch.delattr(trio.Lock.__mro__[1], "acquire_nowait")
            patch.delattr(trio.MemorySendChannel, "send_nowait")
            found = [await awaited(lock.acquire), await awaited(lambda: send.send(1))]
        return [*found, lock.locked()]

    same(program)


def test_a_patched_reschedule(monkeypatch: pytest.MonkeyPatch) -> None:
    async def program() -> list[str]:
        await turns()
        send, receive = trio.open_memory_channel[int](0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive.receive)
            await turns(2)
            with monkeypatch.context() as patch:
                calls = spied(patch, core_run.Runner, "reschedule")
                await send.send(1)
                found = calls.copy()
        return found[:1]

    same(program)


def test_a_waiting_task_that_was_changed() -> None:
    """It cannot be woken in C: it stays where it was, and Trio's method says so."""

    async def program() -> list[object]:
        await turns()
        send, receive = trio.open_memory_channel[int](0)
        found: list[object] = []
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(receive.receive)
            await turns(2)
            state: Any = send._state  # type: ignore[attr-defined]
            task = next(iter(state.receive_tasks))
            task.custom_sleep_data = None
            found.append(await awaited(lambda: send.send(1)))
            found.append([len(state.receive_tasks), task in state.receive_tasks])
            state.receive_tasks[task] = None
            task.custom_sleep_data = receive
            nursery.cancel_scope.cancel()
        return found

    same(program)


def test_an_instrument_sees_the_task_that_is_woken() -> None:
    class Instrument(trio.abc.Instrument):
        def __init__(self) -> None:
            self.scheduled: list[str] = []

        def task_scheduled(self, task: trio.lowlevel.Task) -> None:
            if task is not current_task():
                self.scheduled.append(task.name)

    async def program() -> list[object]:
        await turns()
        send, receive = trio.open_memory_channel[int](0)
        instrument = Instrument()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive.receive)
            await turns(2)
            trio.lowlevel.add_instrument(instrument)
            await send.send(1)
            trio.lowlevel.remove_instrument(instrument)
        return instrument.scheduled

    same(program)


def test_a_call_that_goes_on_in_trios_loop() -> None:
    """It yields in a step in C, and an instrument that was added in that batch brings Trio's loop back."""

    async def program() -> list[object]:
        await turns()
        send, receive = trio.open_memory_channel[str](1)
        lock = trio.Lock()
        found: list[object] = []

        async def child(way: Callable[[], Awaitable[object]]) -> None:
            found.append(await awaited(way))

        for way in ways(send, receive, lock)[1:4]:
            instrument = trio.abc.Instrument()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child, way)
                await turns(1)
                trio.lowlevel.add_instrument(instrument)
                await turns(1)
                if way == receive.__anext__:
                    await send.send("sent")
            trio.lowlevel.remove_instrument(instrument)
            await turns(2)
        return [*found, lock.locked(), send.statistics()]

    same(program)


def test_ctrl_c_at_the_end_of_a_lock() -> None:
    """It comes when the lock is free again, also where it strikes as soon as the end is called."""

    async def program() -> list[object]:
        await turns()
        lock = trio.Lock()

        def profile(frame: Any, event: str, arg: object) -> None:
            if event == "call" and frame.f_code.co_name == "__aexit__":
                sys.setprofile(None)
                signal.raise_signal(signal.SIGINT)

        sys.setprofile(profile)
        found: list[object] = []
        try:
            async with lock:
                found.append("held")
            found.append("left")
            await turns()
        except KeyboardInterrupt:
            found.append("interrupted")
        return [*found, lock.locked()]

    same(program)


def test_nothing_stays_behind() -> None:
    class Held:
        pass

    async def program() -> list[bool]:
        await turns()
        found = []
        send, receive = trio.open_memory_channel[Any](1)
        held: Any = Held()
        gone = weakref.ref(held)
        call: Any = send.send(held)
        await call
        await receive.receive()
        del held
        found.append(gone() is None)
        held = Held()
        gone = weakref.ref(held)
        held.call = receive.receive()
        held.call.send(None)
        del held
        gc.collect()
        found.append(gone() is None)
        current_task().custom_sleep_data = None
        receive._state.receive_tasks.clear()  # type: ignore[attr-defined]
        receive._tasks.clear()  # type: ignore[attr-defined]
        return found

    same(program)


def test_references_stay_level() -> None:
    async def main() -> list[int]:
        levels = []
        task = current_task()
        for _ in range(3):
            for _ in range(300):
                await passes_values()
                await locks_twice()
            gc.collect()
            kinds = (core_run.Task, task, trio.Lock, trio.MemorySendChannel, trio.MemoryReceiveChannel)
            levels.append(sum(map(sys.getrefcount, (*kinds, trio.lowlevel.Abort.SUCCEEDED, None))) // 100)
        return levels

    levels = uring_trio.run(main, ring=COMPILED)
    assert levels[1] == levels[2]


def test_first_runs_in_three_threads_leave_trio_whole() -> None:
    """Each would copy what another one has exchanged; a thread is interrupted nearly at each instruction."""
    program = """
import sys, threading, trio, uring_trio
sys.setswitchinterval(1e-6)

async def main():
    async with trio.Lock():
        send, receive = trio.open_memory_channel(1)
        await send.send(1)
        await receive.receive()
    with trio.move_on_after(10):
        await trio.sleep(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep, 0)

def first(barrier):
    barrier.wait()
    uring_trio.run(main)

for _ in range(8):
    barrier = threading.Barrier(3)
    threads = [threading.Thread(target=first, args=(barrier,)) for _ in range(3)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    trio.run(main)
    uring_trio.uninstall()
    trio.run(main)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
