"""Chunks of a stream: every byte in order, however the iteration ends, beside receives and in bundles."""

from __future__ import annotations

import errno
import random
import socket
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import arm, first, in_flight, receive_exactly, reset, statistics, streams
from uring_trio import Lease, RingOptions
from uring_trio.multishot.states import State
from uring_trio.net.chunks import bundles_work
from uring_trio.testing import assert_no_leases, leased

STREAMING = 16384
"""A receive of this size is taken for one of many."""

KINDS = pytest.mark.parametrize("kind", ["tcp", "unix"])


@KINDS
@pytest.mark.parametrize("copy", [True, False], ids=["bytes", "leases"])
@pytest.mark.parametrize("bundle", [False, True], ids=["single", "bundle"])
@pytest.mark.parametrize(("size", "count"), [(7, 3), (64, 2), (4096, 8), (65536, 1)])
async def test_chunks_bring_every_byte_in_order(
    kind: str, copy: bool, bundle: bool, size: int, count: int
) -> None:
    near, far = await streams(kind)
    data = random.Random(size).randbytes(20_000 if size < 1000 else 2_000_000)

    async def send() -> None:
        await near.send_all(data)
        await near.send_eof()

    received = bytearray()
    async with trio.open_nursery() as nursery, near, far:
        nursery.start_soon(send)
        async with far.chunks(copy=copy, bundle=bundle, chunk_size=size, buffers=count) as chunks:
            async for item in chunks:
                if copy:
                    assert bundle or len(item) <= size
                    received += item
                else:
                    with item as lease:
                        assert len(lease) <= size
                        received += lease.data
    assert received == data


async def test_one_request_brings_many_chunks() -> None:
    near, far = await streams()
    async with near, far, far.chunks() as chunks:
        await arm(chunks)
        before = statistics().submitted
        for i in range(20):
            await near.send_all(b"%d" % i)
            assert await first(chunks) == b"%d" % i
        assert statistics().submitted == before


async def test_bundles_fill_several_buffers_at_once() -> None:
    assert bundles_work()
    near, far = await streams()
    async with near, far, far.chunks(bundle=True, chunk_size=64, buffers=32) as chunks:
        await near.send_all(b"x" * 1000)
        sizes: list[int] = []
        while sum(sizes) < 1000:
            sizes.append(len(await first(chunks)))
        assert max(sizes) > 64


async def test_kernels_whose_bundles_fail_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uring_trio.net.receiver.bundles_work", lambda: False)
    near, far = await streams()
    async with near, far, far.chunks(bundle=True, chunk_size=64, buffers=32) as chunks:
        await near.send_all(b"x" * 128)
        assert [len(await first(chunks)), len(await first(chunks))] == [64, 64]


@pytest.mark.parametrize("copy", [True, False], ids=["bytes", "leases"])
async def test_single_receives_where_the_kernel_has_no_room(
    copy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOMEM, "locked memory")

    monkeypatch.setattr("uring_trio.net.chunks.borrow_group", refuse)
    near, far = await streams()
    async with near, far:
        await near.send_all(b"x" * 100)
        async with far.chunks(copy=copy, chunk_size=60) as chunks:
            assert bytes(await first(chunks)) == b"x" * 60
            with trio.CancelScope() as scope:
                scope.cancel()
                await first(chunks)
            assert scope.cancelled_caught
            assert bytes(await first(chunks)) == b"x" * 40
            await near.send_eof()
            assert [item async for item in chunks] == []
        with pytest.raises(trio.ClosedResourceError):
            await first(chunks)
        with pytest.raises(OSError, match="locked memory"):
            async with uring_trio.read_chunks(far.socket):
                raise AssertionError("entered")


@KINDS
async def test_the_end_of_the_stream_ends_the_iteration(kind: str) -> None:
    near, far = await streams(kind)
    async with near, far:
        async with far.chunks() as chunks:
            await near.send_all(b"last words")
            await near.send_eof()
            assert [data async for data in chunks] == [b"last words"]
            assert [data async for data in chunks] == []
        assert await far.receive_some() == b""


async def test_a_reset_is_a_broken_resource() -> None:
    near, far = await streams()
    async with far, far.chunks() as chunks:
        await arm(chunks)
        await near.send_all(b"data")
        assert await first(chunks) == b"data"
        reset(near.socket)
        with pytest.raises(trio.BrokenResourceError):
            await first(chunks)


async def test_a_reset_that_nobody_saw_is_told_to_the_next_receive() -> None:
    near, far = await streams()
    async with far:
        async with far.chunks() as chunks:
            await arm(chunks)
            await near.send_all(b"data")
            reset(near.socket)
            await wait_all_tasks_blocked()
        assert await far.receive_some() == b"data"
        with pytest.raises(trio.BrokenResourceError):
            await far.receive_some()


async def streaming(near: Any, far: Any) -> None:
    """Receives so much that the next receive waits for readiness."""
    for _ in range(2):  # the first receive of a socket tries without waiting anyway
        await near.send_all(bytes(STREAMING))
        assert len(await far.receive_some(STREAMING)) == STREAMING


@pytest.mark.parametrize("receive", ["receive_some", "receive_into", "chunks"])
async def test_a_receive_that_waits_for_readiness_is_the_only_one(receive: str) -> None:
    near, far = await streams()
    async with near, far, trio.open_nursery() as nursery:

        async def wait() -> None:
            assert await far.receive_some(STREAMING) == b"mine"

        await streaming(near, far)
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        assert in_flight() == {"recv": 1}
        with pytest.raises(trio.BusyResourceError):
            if receive == "chunks":
                async with far.chunks():
                    raise AssertionError("entered")
            elif receive == "receive_into":
                await far.receive_into(bytearray(10))
            else:
                await far.receive_some(10)
        await near.send_all(b"mine")
        await wait_all_tasks_blocked()
        await near.send_all(b"theirs")  # who comes after it finds the way free
        async with far.chunks() as chunks:
            assert await first(chunks) == b"theirs"


async def test_a_receive_that_waits_for_readiness_can_be_cancelled_and_closed() -> None:
    near, far = await streams()
    async with near, far:
        await streaming(near, far)
        with trio.move_on_after(0.01) as scope:
            await far.receive_some(STREAMING)
        assert scope.cancelled_caught
        async with far.chunks() as chunks:
            await near.send_all(b"data")
            assert await first(chunks) == b"data"
        await streaming(near, far)
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await far.receive_some(STREAMING)

            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            await far.aclose()


async def test_who_iterates_while_large_receives_go_on_is_the_only_one() -> None:
    near, far = await streams()
    async with near, far:
        await streaming(near, far)
        async with far.chunks() as chunks:
            await arm(chunks)
            far.socket._streaming = True  # as a receive leaves it that ended while the block was entered
            for _ in range(2):
                with pytest.raises(trio.BusyResourceError):
                    await far.receive_some(STREAMING)
            await near.send_all(b"data")
            with pytest.raises(trio.BusyResourceError):
                await far.receive_some(STREAMING)
            assert await first(chunks) == b"data"


async def test_closing_the_stream_wakes_the_iteration() -> None:
    near, far = await streams()
    async with near, trio.open_nursery() as nursery:

        async def iterate() -> None:
            async with far.chunks() as chunks:
                with pytest.raises(trio.ClosedResourceError):
                    await first(chunks)
                with pytest.raises(trio.ClosedResourceError):
                    await first(chunks)

        nursery.start_soon(iterate)
        await wait_all_tasks_blocked()
        await far.aclose()
        await wait_all_tasks_blocked()
        # The file was let go: the peer sees the end.
        assert await near.receive_some() == b""


@pytest.mark.parametrize("how", ["break", "exception", "cancel"])
@pytest.mark.parametrize("next_reader", ["receive_some", "receive_into", "chunks", "leases"])
@KINDS
async def test_leaving_the_block_loses_no_byte(how: str, next_reader: str, kind: str) -> None:
    near, far = await streams(kind)
    data = random.Random(1).randbytes(5000)
    received = bytearray()
    async with near, far:
        await near.send_all(data)
        await near.send_eof()
        with trio.CancelScope() as scope:
            try:
                async with far.chunks(chunk_size=100, buffers=16) as chunks:
                    async for item in chunks:
                        received += item
                        if len(received) >= 300:
                            await wait_all_tasks_blocked()
                            if how == "break":
                                break
                            if how == "exception":
                                raise KeyError
                            scope.cancel()
            except KeyError:
                assert how == "exception"
        assert scope.cancelled_caught == (how == "cancel")
        assert 300 <= len(received) < 400
        assert leased() == 0
        if next_reader == "receive_some":
            while part := await far.receive_some(7):
                assert len(part) <= 7
                received += part
        elif next_reader == "receive_into":
            memory = bytearray(64)
            while n := await far.receive_into(memory):
                received += memory[:n]
        else:
            async with far.chunks(copy=next_reader == "chunks", chunk_size=50) as chunks:
                async for item in chunks:
                    received += bytes(item)
                    if isinstance(item, Lease):
                        item.release()
    assert received == data


async def test_a_cancelled_iteration_goes_on() -> None:
    near, far = await streams()
    async with near, far, far.chunks() as chunks:
        for text in (b"one", b"two"):
            with trio.move_on_after(0.01) as scope:
                await first(chunks)
            assert scope.cancelled_caught
            await near.send_all(text)
            assert await first(chunks) == text


async def test_nothing_is_taken_in_a_cancelled_scope() -> None:
    near, far = await streams()
    async with near, far:
        await near.send_all(b"data")
        async with far.chunks() as chunks:
            with trio.CancelScope() as scope:
                scope.cancel()
                await first(chunks)
            assert scope.cancelled_caught
        assert far.socket._sock.recv(10, socket.MSG_PEEK) == b"data"
        assert await far.receive_some() == b"data"


async def test_a_slow_consumer_holds_the_sender_back() -> None:
    near, far = await streams()
    sent = 0

    async def send() -> None:
        nonlocal sent
        while sent < 100_000_000:
            await near.send_all(bytes(100_000))
            sent += 100_000

    async with near, far, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        async with far.chunks(chunk_size=1000, buffers=4) as chunks:
            await first(chunks)
            await wait_all_tasks_blocked()
            assert leased() <= 4
            assert sent < 100_000_000
            stopped = sent
            for _ in range(20):
                assert len(await first(chunks)) == 1000
            await wait_all_tasks_blocked()
            assert sent >= stopped
        nursery.cancel_scope.cancel()


async def test_two_iterators_on_one_stream() -> None:
    near, far = await streams()
    async with near, far, trio.open_nursery() as nursery:
        async with far.chunks() as chunks:
            with pytest.raises(trio.BusyResourceError):
                async with far.chunks():
                    raise AssertionError("entered")
            for _ in range(2):
                with pytest.raises(trio.BusyResourceError):
                    await far.receive_some(100)
                with pytest.raises(trio.BusyResourceError):
                    await far.receive_into(bytearray(10))
            nursery.start_soon(first, chunks)
            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await first(chunks)
            await near.send_all(b"for the first")
            await wait_all_tasks_blocked()
        await near.send_all(b"after")
        assert await far.receive_some() == b"after"


async def test_chunks_wait_for_no_receive_under_way() -> None:
    near, far = await streams()
    async with near, far, trio.open_nursery() as nursery:
        nursery.start_soon(far.receive_some)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            async with far.chunks():
                raise AssertionError("entered")
        await near.send_all(b"x")


async def test_iterating_outside_the_block() -> None:
    near, far = await streams()
    async with near, far:
        with pytest.raises(RuntimeError, match="enter it first"):
            await first(far.chunks())
        async with far.chunks() as chunks:
            pass
        with pytest.raises(trio.ClosedResourceError):
            await first(chunks)
        with pytest.raises(RuntimeError, match="entered before"):
            async with chunks:
                raise AssertionError("entered")


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"chunk_size": 0}, ValueError),
        ({"chunk_size": -1}, ValueError),
        ({"chunk_size": 1.5}, TypeError),
        ({"buffers": 0}, ValueError),
        ({"buffers": True}, TypeError),
        ({"buffers": 32769}, ValueError),
        ({"chunk_size": 1 << 20, "buffers": 65}, ValueError),
    ],
    ids=str,
)
async def test_sizes_that_are_none(arguments: dict[str, Any], kind: type[Exception]) -> None:
    near, far = await streams()
    async with near, far:
        await wait_all_tasks_blocked()
        before = statistics().submitted
        with pytest.raises(kind):
            async with far.chunks(**arguments):
                raise AssertionError("entered")
        assert statistics().submitted == before
        await near.send_all(b"x")
        assert await far.receive_some() == b"x"


def test_the_memory_limit_is_an_option() -> None:
    async def main() -> None:
        near, far = await streams()
        async with near, far:
            async with far.chunks(chunk_size=4096, buffers=1):
                pass
            with pytest.raises(ValueError, match="group_memory"):
                async with far.chunks(chunk_size=4096, buffers=2):
                    raise AssertionError("entered")

    uring_trio.run(main, ring=RingOptions(group_memory=4096))


async def test_a_block_that_is_being_left_brings_nothing_more() -> None:
    """What it had is kept for the stream; what came after that is not told before it."""
    for _ in range(20):  # the order in which the two tasks run is random
        near, far = await streams()
        async with near, far, trio.open_nursery() as nursery:
            chunks = far.chunks(copy=False, bundle=True, chunk_size=64, buffers=32)
            await chunks.__aenter__()
            await near.send_all(b"a" * 64 + b"b" * 64)
            with await anext(chunks) as lease:
                assert bytes(lease) == b"a" * 64
            await near.send_all(b"c" * 64)
            subscription = chunks._subscription
            while not subscription.queue:
                await trio.sleep(0.001)
            nursery.start_soon(chunks.__aexit__, None, None, None)
            while subscription.state not in (State.CLOSING, State.CLOSED):
                await trio.lowlevel.checkpoint()
            with pytest.raises((trio.ClosedResourceError, StopAsyncIteration)):
                await anext(chunks)
            await wait_all_tasks_blocked()
            assert await receive_exactly(far, 128) == b"b" * 64 + b"c" * 64


@pytest.mark.parametrize("copy", [True, False], ids=["bytes", "leases"])
@pytest.mark.parametrize("end", ["eof", "reset"])
async def test_closed_while_the_end_is_told(copy: bool, end: str) -> None:
    """What was told then was taken for data: of a buffer that the kernel has."""
    outcomes = []

    async def consume(chunks: Any) -> None:
        try:
            outcomes.append(await anext(chunks))
        except (StopAsyncIteration, trio.ClosedResourceError) as exc:
            outcomes.append(type(exc))

    for _ in range(20):  # the order in which the two tasks run is random
        near, far = await streams()
        async with near, far, far.chunks(copy=copy) as chunks, trio.open_nursery() as nursery:
            subscription = chunks._subscription
            nursery.start_soon(consume, chunks)
            await wait_all_tasks_blocked()
            if end == "reset":
                reset(near.socket)
            else:
                await near.send_eof()
            while subscription.state is not State.ENDED:
                await trio.lowlevel.checkpoint()
            await far.aclose()
        assert_no_leases()
    assert set(outcomes) == {trio.ClosedResourceError}


@pytest.mark.parametrize("seed", range(20))
async def test_bytes_are_conserved_whatever_happens(seed: int) -> None:
    """Random sizes, cancels, breaks, changes between single receives and chunks: every byte, in order."""
    choice = random.Random(seed)
    near, far = await streams(choice.choice(["tcp", "unix"]))
    data = choice.randbytes(200_000)
    received = bytearray()

    async def send() -> None:
        sent = 0
        while sent < len(data):
            n = choice.randint(1, 9000)
            await near.send_all(data[sent : sent + n])
            sent += n
            if choice.random() < 0.3:
                await trio.sleep(0)
        await near.send_eof()

    async with near, far, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        while len(received) < len(data):
            with trio.move_on_after(choice.choice([0, 0.0003, 0.01, 1])):
                if choice.random() < 0.3:
                    received += await far.receive_some(choice.randint(1, 70000))
                    continue
                async with far.chunks(
                    copy=choice.random() < 0.5,
                    bundle=choice.random() < 0.5,
                    chunk_size=choice.choice([10, 100, 5000]),
                    buffers=choice.randint(1, 9),
                ) as chunks:
                    left = choice.randint(0, 12)
                    async for item in chunks:
                        received += bytes(item)
                        if isinstance(item, Lease):
                            item.release()
                        left -= 1
                        if left < 0:
                            break
    assert received == data
