"""Subscriptions in C: completions are queued, waited for and taken as by Python, and one task at a time."""

from __future__ import annotations

import os
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.trio.bothways import CALL, compiled_here, connected, on_ring, parked, turns
from uring import abi, ops
from uring_trio import UringStream, subscribe, ticks
from uring_trio.multishot.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

MORE = int(abi.IORING_CQE_F_MORE)
FAILURES = 200


@asynccontextmanager
async def streams() -> AsyncIterator[tuple[UringStream, UringStream]]:
    async with connected() as (near, far):
        yield UringStream(near), UringStream(far)


def same(program: Callable[[UringStream, UringStream], Awaitable[Any]]) -> Any:
    """What a program with the ends of a connection returns, by coroutines and in C."""

    async def main() -> Any:
        async with streams() as (near, far):
            with trio.fail_after(60):
                return await program(near, far)

    return on_ring(main)


@asynccontextmanager
async def armed(near: UringStream, far: UringStream) -> AsyncIterator[Any]:
    """Chunks whose request is armed; before the first item the coroutine arms it."""
    async with far.chunks() as chunks:
        await near.send_all(b"armed")
        assert await anext(chunks) == b"armed"
        yield chunks


async def next_of(items: Any, found: list[Any]) -> None:
    try:
        found.append(await anext(items))
    except (Exception, trio.Cancelled) as exc:
        found.append(type(exc).__name__)
        if isinstance(exc, trio.Cancelled):
            raise


def test_items_come_in_order_and_end() -> None:
    async def program(near: UringStream, far: UringStream) -> list[Any]:
        found: list[Any] = []
        async with armed(near, far) as chunks, trio.open_nursery() as nursery:
            for text in (b"one", b"two", b"three"):
                await parked(nursery, next_of, chunks, found)
                await near.send_all(text)
                while not found or found[-1] != text:
                    await trio.lowlevel.checkpoint()
            await near.send_eof()
            await next_of(chunks, found)
            await next_of(chunks, found)
        await next_of(chunks, found)
        return found

    assert same(program) == [
        *(b"one", b"two", b"three"),
        *("StopAsyncIteration", "StopAsyncIteration", "ClosedResourceError"),
    ]


def test_a_cancel_loses_nothing() -> None:
    async def program(near: UringStream, far: UringStream) -> list[Any]:
        found: list[Any] = []
        async with armed(near, far) as chunks:
            async with trio.open_nursery() as nursery:
                await parked(nursery, next_of, chunks, found)
                nursery.cancel_scope.cancel()
            await near.send_all(b"kept")
            await turns()
            with trio.CancelScope() as scope:
                scope.cancel()
                await next_of(chunks, found)
            await next_of(chunks, found)
        return found

    assert same(program) == ["Cancelled", "Cancelled", b"kept"]


def test_one_task_at_a_time() -> None:
    async def program(near: UringStream, far: UringStream) -> list[Any]:
        found: list[Any] = []
        async with armed(near, far) as chunks, trio.open_nursery() as nursery:
            await parked(nursery, next_of, chunks, found)
            await next_of(chunks, found)
            await near.send_all(b"first")
        return found

    assert same(program) == ["BusyResourceError", b"first"]


def test_a_close_wakes_it() -> None:
    async def program(near: UringStream, far: UringStream) -> list[Any]:
        found: list[Any] = []
        async with armed(near, far) as chunks, trio.open_nursery() as nursery:
            await parked(nursery, next_of, chunks, found)
            await far.aclose()
            await turns()
        return found

    assert same(program) == ["ClosedResourceError"]


@pytest.mark.parametrize("of_chunks", [True, False])
def test_a_call_that_is_thrown_away_lets_others_in(of_chunks: bool) -> None:
    async def program(near: UringStream, far: UringStream) -> list[Any]:
        found: list[Any] = []
        async with far.chunks() as chunks:
            subscription: Any = chunks._subscription
            await near.send_all(b"first")
            await next_of(chunks, found)
            for end in ("close", "throw", "drop"):
                call: Any = chunks.__anext__() if of_chunks else subscription.get()
                assert (type(call) is CALL) is compiled_here()
                assert call.send(None) is subscription.park
                assert subscription._taking
                if end == "close":
                    call.close()
                elif end == "throw":
                    with pytest.raises(ZeroDivisionError):
                        call.throw(ZeroDivisionError())
                del call
                assert not subscription._taking
            subscription.task = None
            await near.send_all(b"second")
            await next_of(chunks, found)
        return found

    assert same(program) == [b"first", b"second"]


def test_a_consumer_that_falls_behind_is_told_everything() -> None:
    async def program(near: UringStream, far: UringStream) -> int:
        size, got = 300_000, 0

        async def send() -> None:
            for _ in range(20):
                await near.send_all(bytes(size // 20))
                await turns()
            await near.send_eof()

        async with far.chunks(chunk_size=1000, buffers=2) as chunks, trio.open_nursery() as nursery:
            nursery.start_soon(send)
            async for data in chunks:
                got += len(data)
                if got % 3 == 0:
                    await turns()
        return got

    assert same(program) == 300_000


def test_other_iterators() -> None:
    async def program(near: UringStream, far: UringStream) -> int:
        count = 0
        async with ticks(0.001) as clock:
            async for _ in clock:
                count += 1
                if count == 3:
                    return count
        return 0

    assert same(program) == 3


def test_an_end_that_woke_the_task_is_told_though_its_scope_is_cancelled_then() -> None:
    """Many times, because it is by chance that the task is cancelled in the batch in which it would run."""

    async def program(near: UringStream, far: UringStream) -> set[str]:
        found: list[Any] = []
        for _ in range(40):
            async with (
                streams() as (source, sink),
                armed(source, sink) as chunks,
                trio.open_nursery() as nursery,
            ):
                await parked(nursery, next_of, chunks, found)
                (task,) = nursery.child_tasks
                await source.send_eof()
                while task in nursery.child_tasks and task._next_send_fn is None:
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        return set(found)

    assert same(program) == {"StopAsyncIteration"}


def test_a_completion_that_is_not_the_last_is_queued_in_c(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    handle = Subscription.__call__

    def noted(self: Subscription, op: Any, res: int, flags: int) -> None:
        calls.append(flags & MORE)
        handle(self, op, res, flags)

    monkeypatch.setattr(Subscription, "__call__", noted)

    async def program(near: UringStream, far: UringStream) -> tuple[int, list[Any]]:
        found: list[Any] = []
        async with armed(near, far) as chunks, trio.open_nursery() as nursery:
            calls.clear()
            for i in range(5):
                await parked(nursery, next_of, chunks, found)
                await near.send_all(b"%d" % i)
                await turns()
            coalescing: Any = chunks._subscription.coalescing
            counted = coalescing._count
            assert calls == ([] if compiled_here() else [MORE] * 5)
        return counted, found

    assert same(program) == (len(b"armed") + 5, [b"%d" % i for i in range(5)])


@pytest.mark.parametrize("bundle", [True, False])
@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("ahead", [True, False])
def test_items_of_every_kind(bundle: bool, copy: bool, ahead: bool) -> None:
    """Many buffers, of which none is lost or counted twice. ``ahead``: completions are queued when they are
    taken, else a task waits for each."""
    data = random.Random(7).randbytes(20_000)

    async def program(near: UringStream, far: UringStream) -> bool:
        async def send() -> None:
            for at in range(0, len(data), 1000):
                await near.send_all(data[at : at + 1000])
                if not ahead:
                    await turns()

        received = bytearray()
        async with (
            far.chunks(copy=copy, bundle=bundle, chunk_size=300, buffers=16) as chunks,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(send)
            while len(received) < len(data):
                item = await anext(chunks)
                if ahead:
                    await turns()
                received += bytes(item)
                if not copy:
                    item.release()
            group: Any = chunks._group
            assert group.available == group.in_use
        return received == data

    assert same(program)


def test_data_that_a_block_left_comes_first() -> None:
    async def program(near: UringStream, far: UringStream) -> bytes:
        received = b""
        for round in range(3):
            async with far.chunks(chunk_size=4) as chunks:
                await near.send_all(b"%d, and the rest; " % round)
                for _ in range(2):
                    received += await anext(chunks)
                await turns()
        await near.send_eof()
        async with far.chunks() as chunks:
            async for data in chunks:
                received += data
        return received

    assert same(program) == b"".join(b"%d, and the rest; " % i for i in range(3))


def test_connections_that_nobody_takes_pause_the_request() -> None:
    """The queue has a bound, which completions meet in C too."""

    async def main() -> list[Any]:
        with trio.socket.socket() as listener:
            await listener.bind(("127.0.0.1", 0))
            listener.listen()
            states: list[Any] = []
            async with subscribe(ops.accept_multishot(listener.fileno())) as connections:
                subscription: Any = connections._subscription
                subscription._limit = 4
                for i in range(10):
                    with trio.socket.socket() as near:
                        await near.connect(listener.getsockname())
                        if not i:
                            os.close(await anext(connections))
                    await turns()
                    states.append((len(subscription.queue), subscription.state.name))
                for _ in range(9):
                    os.close(await anext(connections))
        return states

    queued = on_ring(main)
    assert queued[:4] == [(i, "ARMED") for i in range(4)]
    assert [state for _, state in queued[4:]] == ["RESTING"] * 6


def test_a_buffer_that_comes_home_arms_a_request_that_rests() -> None:
    async def program(near: UringStream, far: UringStream) -> list[str]:
        async with far.chunks(chunk_size=100, buffers=2) as chunks:
            subscription: Any = chunks._subscription
            await near.send_all(bytes(100))
            states = [str(len(await anext(chunks)))]
            await near.send_all(bytes(300))
            while subscription.state.name != "RESTING":
                await trio.lowlevel.checkpoint()
            for _ in range(2):
                await anext(chunks)
                states.append(subscription.state.name)
        return states

    assert same(program) == ["100", "ARMED", "ARMED"]


# ---- memory -----------------------------------------------------------------------------------------------


def test_no_chunk_is_lost_where_there_is_no_memory_for_it() -> None:
    """One allocation after the other fails while an item is made that has arrived."""
    memory = pytest.importorskip("_testcapi", reason="this Python has no means to let allocations fail")

    async def program(near: UringStream, far: UringStream) -> bool:
        found: list[bytes] = []
        item: list[bytes | None] = [None]
        failures = 0

        async def take(chunks: Any) -> None:
            item[0] = await chunks.__anext__()

        async with armed(near, far) as chunks:
            queue = chunks._subscription.queue
            for n in range(FAILURES):
                if not queue:
                    await near.send_all(b"%08d" % len(found))
                while not queue:
                    await trio.lowlevel.checkpoint()
                step, item[0] = take(chunks), None
                memory.set_nomemory(n, n + 1)
                try:
                    step.send(None)
                except StopIteration:
                    pass
                except MemoryError:
                    failures += 1
                finally:
                    memory.remove_mem_hooks()
                    step.close()
                if item[0] is not None:
                    found.append(item[0])
            assert failures
        return [b"%08d" % n for n in range(len(found))] == found

    assert same(program)
