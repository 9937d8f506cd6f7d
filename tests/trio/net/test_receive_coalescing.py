"""A fast flow gathers in its socket: no byte is lost or late for long, and nobody else notices.

Where a test waits for the flow to gather, bytes may be held back for ten seconds, so that the speed of this
machine does not matter; where it waits for the end of that, for a millisecond.
"""

from __future__ import annotations

import random
import socket
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio

import uring_trio
from tests.trio.helpers import Host, receive_exactly, reset, settled, streams
from uring_trio import RingOptions, UringStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

LONG, SHORT, NEVER = 10_000_000, 1000, 0
ENOUGH = 12 << 20
"""More than comes before anything is held back."""

COPY = pytest.mark.parametrize("copy", [True, False], ids=["bytes", "leases"])


def on_ring(gather_us: int) -> Callable[[Callable[[], Awaitable[None]]], Callable[[], None]]:
    """Runs an async function on a ring whose flows gather for so long."""

    def decorate(function: Callable[[], Awaitable[None]]) -> Callable[[], None]:
        async def main() -> None:
            with trio.fail_after(60):
                await function()
                await settled()

        return lambda: uring_trio.run(main, ring=RingOptions(gather_us=gather_us))

    return decorate


def least(stream: UringStream) -> int:
    """How much must be in the socket before the kernel tells of it."""
    return int(stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT))


async def take(item: Any) -> bytes:
    if isinstance(item, bytes):
        return item
    with item as lease:
        return bytes(lease)


async def take_until(chunks: Any, size: int) -> bytes:
    """What comes, at least ``size`` bytes of it."""
    data = bytearray()
    while len(data) < size:
        data += await take(await anext(chunks))
    return bytes(data)


@asynccontextmanager
async def flow(
    kind: str = "tcp", size: int = ENOUGH, *, end: bool = False
) -> AsyncIterator[tuple[UringStream, UringStream, bytes]]:
    """A connection over which so many bytes are being sent, and perhaps the end of the stream."""
    near, far = await streams(kind)
    data = random.Random(size).randbytes(size)

    async def send() -> None:
        await near.send_all(data)
        if end:
            await near.send_eof()

    async with near, far, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        yield near, far, data
        nursery.cancel_scope.cancel()


@COPY
def test_every_byte_arrives_in_order(copy: bool) -> None:
    @on_ring(LONG)
    async def main() -> None:
        async with flow(size=4 * ENOUGH, end=True) as (_, far, data):
            assert least(far) == 1
            received, most = bytearray(), 0
            async with far.chunks(copy=copy) as chunks:
                async for item in chunks:
                    received += await take(item)
                    most = max(most, least(far))
            assert received == data
            assert most >= 65536, "nothing gathered"
            assert least(far) == 1

    main()


@COPY
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_what_is_held_back_comes_without_more(copy: bool, busy: bool) -> None:
    """Also where the loop never waits, because another task always has something to do."""

    @on_ring(SHORT)
    async def main() -> None:
        async with flow() as (near, far, data), trio.open_nursery() as nursery:

            async def work() -> None:
                while True:
                    await trio.lowlevel.checkpoint()

            if busy:
                nursery.start_soon(work)
            async with far.chunks(copy=copy) as chunks:
                assert await take_until(chunks, len(data)) == data
                for i in range(3):
                    await near.send_all(bytes([i]) * 10)
                    assert await take_until(chunks, 10) == bytes([i]) * 10
            nursery.cancel_scope.cancel()

    main()


@COPY
def test_coalescing_starts_anew_after_a_pause(copy: bool) -> None:
    @on_ring(SHORT)
    async def main() -> None:
        near, far = await streams()
        async with near, far, far.chunks(copy=copy, chunk_size=65536) as chunks:
            for turn in range(3):
                data = random.Random(turn).randbytes(ENOUGH)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(near.send_all, data)
                    assert await take_until(chunks, len(data)) == data

    main()


async def all_of_it(far: UringStream, expected: int, size: int) -> None:
    """Takes so many bytes; the option is never something else."""
    async with far.chunks() as chunks:
        received = 0
        async for item in chunks:
            received += len(item)
            assert least(far) == expected
    assert received == size
    assert least(far) == expected


def test_nothing_is_held_back_where_the_run_forbids_it() -> None:
    @on_ring(NEVER)
    async def main() -> None:
        async with flow(end=True) as (_, far, data):
            await all_of_it(far, 1, len(data))

    main()


def test_the_option_of_a_socket_whose_user_set_it_stays() -> None:
    @on_ring(LONG)
    async def main() -> None:
        async with flow(end=True) as (_, far, data):
            far.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 2)
            await all_of_it(far, 2, len(data))

    main()


def test_a_unix_socket_does_not_gather() -> None:
    @on_ring(LONG)
    async def main() -> None:
        async with flow("unix", end=True) as (_, far, data):
            await all_of_it(far, 1, len(data))

    main()


@COPY
def test_a_guest_does_not_gather(copy: bool) -> None:
    """Another thread waits for it, once it has waited for the first time."""

    async def main() -> None:
        with trio.fail_after(60):
            async with flow() as (near, far, data), far.chunks(copy=copy) as chunks:
                assert await take_until(chunks, len(data)) == data
                with trio.fail_after(8):
                    while least(far) != 1:  # it may find something to do each time
                        await trio.sleep(0.01)
                await near.send_all(b"more")
                assert await take_until(chunks, 4) == b"more"
            async with flow(end=True) as (_, far, data):
                await all_of_it(far, 1, len(data))

    Host().run(main, ring=RingOptions(gather_us=LONG))


async def until_it_gathers(chunks: Any, far: UringStream) -> bytes:
    data = bytearray()
    while least(far) == 1:
        data += await take(await anext(chunks))
    return bytes(data)


@COPY
@pytest.mark.parametrize("how", ["break", "exception", "cancel"])
def test_leaving_the_block_loses_nothing(copy: bool, how: str) -> None:
    @on_ring(LONG)
    async def main() -> None:
        async with flow(size=2 * ENOUGH, end=True) as (_, far, data):
            received = b""
            with trio.CancelScope() as scope:
                try:
                    async with far.chunks(copy=copy) as chunks:
                        received = await until_it_gathers(chunks, far)
                        received += await take(await anext(chunks))
                        if how == "exception":
                            raise KeyError
                        if how == "cancel":
                            scope.cancel()
                            await trio.lowlevel.checkpoint()
                except KeyError:
                    pass
            assert least(far) == 1
            received += await receive_exactly(far, len(data))
            assert received == data

    main()


@COPY
def test_a_cancelled_step_loses_nothing(copy: bool) -> None:
    @on_ring(LONG)
    async def main() -> None:
        async with flow(size=2 * ENOUGH, end=True) as (_, far, data), far.chunks(copy=copy) as chunks:
            received = bytearray(await until_it_gathers(chunks, far))
            while len(received) < len(data):
                with trio.CancelScope() as scope:
                    scope.cancel()
                    received += await take(await anext(chunks))
                assert scope.cancelled_caught
                with trio.move_on_after(0.0001):
                    received += await take(await anext(chunks))
            assert received == data
            with pytest.raises(StopAsyncIteration):
                await anext(chunks)
            with pytest.raises(StopAsyncIteration):
                await anext(chunks)

    main()


@asynccontextmanager
async def waiting(copy: bool) -> AsyncIterator[tuple[UringStream, UringStream, Any, list[Any]]]:
    """A task that waits for more of a flow that gathers, and how its wait ended."""
    ended: list[Any] = []
    async with flow() as (near, far, data), far.chunks(copy=copy) as chunks:
        assert await take_until(chunks, len(data)) == data
        assert least(far) > 1

        async def wait() -> None:
            try:
                ended.append(await take(await anext(chunks)))
            except (Exception, StopAsyncIteration) as exc:
                ended.append(type(exc))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            yield near, far, chunks, ended


@COPY
def test_the_end_of_the_stream_is_told_at_once(copy: bool) -> None:
    @on_ring(LONG)
    async def main() -> None:
        async with waiting(copy) as (near, far, chunks, ended):
            await near.send_all(b"the end")
            await near.send_eof()
            while not ended:
                await trio.lowlevel.checkpoint()
            assert ended == [b"the end"]
            assert least(far) > 1, "it was told late"
            with pytest.raises(StopAsyncIteration):
                await anext(chunks)

    main()


@COPY
def test_a_reset_is_told(copy: bool) -> None:
    @on_ring(LONG)
    async def main() -> None:
        async with waiting(copy) as (near, _, _, ended):
            reset(near.socket)
            while not ended:
                await trio.lowlevel.checkpoint()
            assert ended == [trio.BrokenResourceError]

    main()


@COPY
def test_closing_wakes_who_waits(copy: bool) -> None:
    @on_ring(LONG)
    async def main() -> None:
        async with waiting(copy) as (_, far, chunks, ended):
            await far.aclose()
            while not ended:
                await trio.lowlevel.checkpoint()
            assert ended == [trio.ClosedResourceError]
            with pytest.raises(trio.ClosedResourceError):
                await anext(chunks)

    main()


@COPY
def test_the_next_owner_gets_the_descriptor_as_it_was(copy: bool) -> None:
    @on_ring(LONG)
    async def main() -> None:
        async with waiting(copy) as (near, far, _, ended):
            with socket.socket(fileno=far.socket.detach()) as plain:
                assert plain.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1
                await near.send_all(b"yours")
                await trio.lowlevel.wait_readable(plain)
                assert plain.recv(10) == b"yours"
            assert ended == [trio.ClosedResourceError]

    main()


@COPY
def test_one_task_iterates_at_a_time(copy: bool) -> None:
    @on_ring(LONG)
    async def main() -> None:
        async with waiting(copy) as (near, far, chunks, ended):
            with pytest.raises(trio.BusyResourceError):
                await anext(chunks)
            with pytest.raises(trio.BusyResourceError):
                await far.receive_some(1)
            await near.send_all(b"x")
            await near.send_eof()
            while not ended:
                await trio.lowlevel.checkpoint()
            assert ended == [b"x"]

    main()


def test_plain_receives_leave_the_socket_to_who_waits_for_it() -> None:
    """Another task waits for the same socket to become readable: the multishot goes on."""

    @on_ring(SHORT)
    async def main() -> None:
        async with flow(size=3 * ENOUGH, end=True) as (_, far, data), trio.open_nursery() as nursery:
            async with far.chunks() as chunks:
                received = bytearray(await take_until(chunks, 1))

                async def watch() -> None:
                    while len(received) < len(data):
                        try:
                            await trio.lowlevel.wait_readable(far.socket)
                        except trio.BusyResourceError:
                            await trio.lowlevel.checkpoint()

                nursery.start_soon(watch)
                async for item in chunks:
                    received += item
            assert received == data

    main()


def test_a_consumer_that_keeps_all_leases_gets_no_more() -> None:
    """It goes on when a lease is released, with the bytes that came meanwhile."""

    @on_ring(LONG)
    async def main() -> None:
        async with flow(size=3 * ENOUGH, end=True) as (_, far, data):
            async with far.chunks(copy=False, chunk_size=65536, buffers=5) as chunks:
                received = bytearray(await until_it_gathers(chunks, far))
                for turn in range(20):
                    kept = [await anext(chunks) for _ in range(5)]
                    with trio.move_on_after(0.001) as scope:
                        kept.append(await anext(chunks))
                    assert scope.cancelled_caught
                    received += b"".join(map(bytes, kept))
                    for lease in kept if turn % 2 else reversed(kept):
                        lease.release()
                async for lease in chunks:
                    with lease:
                        received += lease.data
            assert received == data

    main()


def test_a_bundle_has_what_gathered() -> None:
    """Not a plain receive for each of its small buffers."""

    @on_ring(LONG)
    async def main() -> None:
        async with flow(size=3 * ENOUGH, end=True) as (_, far, data):
            received, gathered = bytearray(), []
            async with far.chunks(bundle=True, chunk_size=4096, buffers=64) as chunks:
                async for item in chunks:
                    received += item
                    if least(far) > 1:
                        gathered.append(len(item))
            assert received == data
            assert sum(gathered) / len(gathered) > 16384

    main()


def test_plain_receives_bring_no_more_than_is_cheap() -> None:
    """However large the buffers of the multishot are."""

    @on_ring(LONG)
    async def main() -> None:
        async with (
            flow(size=4 * ENOUGH, end=True) as (_, far, data),
            far.chunks(chunk_size=16 << 20) as chunks,
        ):
            received, longest, plain = bytearray(await until_it_gathers(chunks, far)), 0, False
            async for item in chunks:
                received += item
                longest = max(longest, len(item)) if plain else 0
                plain = chunks._subscription.paused  # type: ignore[attr-defined]
                await trio.sleep(0.005)
            assert received == data
            assert 0 < longest <= 1 << 20

    main()


def test_what_comes_out_of_a_closed_subscription_does_not_start_it() -> None:
    """Completions that nobody took before are delivered: nothing would let the socket go any more."""

    @on_ring(LONG)
    async def main() -> None:
        async with flow(size=ENOUGH) as (_, far, _), far.chunks(buffers=64) as chunks:
            subscription = chunks._subscription  # type: ignore[attr-defined]
            taken = len(await anext(chunks))
            while sum(res for res, _ in subscription.queue) < 9 << 20:
                await trio.sleep(0.001)
            assert least(far) == 1
            trio.lowlevel.notify_closing(far.socket)
            with pytest.raises(trio.ClosedResourceError):
                while True:
                    taken += len(await anext(chunks))
                    assert least(far) == 1
            assert taken > 9 << 20

    main()


def test_the_books_are_kept_without_assertions() -> None:
    """How many buffers the kernel has, in an interpreter that leaves assertions out."""
    program = """
import trio, uring_trio
from tests.trio.net.test_receive_coalescing import ENOUGH, LONG, flow, take

async def main():
    async with flow(size=2 * ENOUGH, end=True) as (_, far, data):
        received = bytearray()
        async with far.chunks(copy=False) as chunks:
            async for lease in chunks:
                received += await take(lease)
            group = chunks._group
            print(received == data, group.available == group.in_use)

uring_trio.run(main, ring=uring_trio.RingOptions(gather_us=LONG))
"""
    done = subprocess.run(
        [sys.executable, "-O", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "True True\n", done.stderr


def test_a_consumer_that_keeps_leases_gets_more_when_coalescing_ends() -> None:
    """Plain receives left no buffer to the multishot, and there may be more of them."""

    @on_ring(LONG)
    async def main() -> None:
        async with flow(size=3 * ENOUGH, end=True) as (_, far, data):
            async with far.chunks(copy=False) as chunks:
                received, kept = bytearray(await until_it_gathers(chunks, far)), []
                subscription = chunks._subscription  # type: ignore[attr-defined]
                while not subscription.paused:
                    received += await take(await anext(chunks))
                subscription.group.shrink()  # as where they were idle
                assert subscription.group.in_use == 2
                for _ in range(4):
                    kept.append(await anext(chunks))
                    if not subscription.group.available:
                        subscription.coalescing.stop()
                for lease in kept:
                    received += await take(lease)
                async for lease in chunks:
                    received += await take(lease)
            assert received == data

    main()


def test_others_have_their_turn() -> None:
    """However fast the flow is."""

    @on_ring(LONG)
    async def main() -> None:
        turns = 0
        async with flow(size=3 * ENOUGH, end=True) as (_, far, data), trio.open_nursery() as nursery:

            async def count() -> None:
                nonlocal turns
                while True:
                    turns += 1
                    await trio.lowlevel.checkpoint()

            nursery.start_soon(count)
            received, longest = 0, 0
            async with far.chunks(chunk_size=65536, buffers=4) as chunks:
                last, row = 0, 0
                async for item in chunks:
                    received += len(item)
                    row = row + 1 if turns == last else 0
                    last, longest = turns, max(longest, row)
            assert received == len(data)
            assert longest <= 4 * 4
            nursery.cancel_scope.cancel()

    main()
