"""Multishot operations as iterators: what each brings, and how each ends, whatever the reason."""

from __future__ import annotations

import errno
import gc
import os
import pickle
import pty
import random
import select
import socket
import subprocess
import sys
import threading
import time
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import in_flight, receive_exactly, reset, statistics, streams
from uring import abi, ops
from uring_trio import Lease, RingOptions
from uring_trio.core import engine
from uring_trio.core.engine import current
from uring_trio.multishot.states import State
from uring_trio.net.chunks import bundles_work
from uring_trio.testing import assert_no_leases, leased

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STREAMING = 16384
"""A receive of this size is taken for one of many."""

KINDS = pytest.mark.parametrize("kind", ["tcp", "unix"])


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    source, sink = os.pipe()
    try:
        yield source, sink
    finally:
        for fd in (source, sink):
            try:
                os.close(fd)
            except OSError:
                pass


async def first(items: Any) -> Any:
    return await items.__anext__()


async def arm(items: Any) -> None:
    """Puts the multishot in flight, with nobody waiting for it."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first, items)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


# ---- chunks of a stream ------------------------------------------------------------------------------


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


# ---- leases ------------------------------------------------------------------------------------------


async def test_a_lease_holds_its_memory_until_it_is_given_back() -> None:
    near, far = await streams()
    async with near, far, far.chunks(copy=False, chunk_size=16, buffers=2) as chunks:
        await near.send_all(b"a" * 16 + b"b" * 16 + b"c" * 16)
        one, two = await first(chunks), await first(chunks)
        assert (bytes(one), bytes(two)) == (b"a" * 16, b"b" * 16)
        with trio.move_on_after(0.02) as scope:
            await first(chunks)
        assert scope.cancelled_caught
        assert (bytes(one), bytes(two)) == (b"a" * 16, b"b" * 16)
        async with trio.open_nursery() as nursery:

            async def take() -> None:
                with await first(chunks) as three:
                    assert bytes(three) == b"c" * 16

            nursery.start_soon(take)
            await wait_all_tasks_blocked()
            two.release()  # whichever comes back: that one is used next
        one.release()


async def test_a_lease_that_was_given_back() -> None:
    near, far = await streams()
    async with near, far, far.chunks(copy=False) as chunks:
        await near.send_all(b"data")
        lease = await first(chunks)
        view = lease.data
        assert repr(lease) == "<Lease of 4 bytes>"
        with lease:
            assert len(lease) == 4
        lease.release()
        assert repr(lease) == "<Lease, given back>"
        for use in (lambda: lease.data, lambda: bytes(lease), lambda: len(lease), lease.__enter__):
            with pytest.raises(ValueError, match="given back"):
                use()
        with pytest.raises(ValueError):
            bytes(view)


async def test_memory_that_is_shared_cannot_be_given_back() -> None:
    near, far = await streams()
    async with near, far, far.chunks(copy=False) as chunks:
        await near.send_all(b"data")
        lease = await first(chunks)
        other = pickle.PickleBuffer(lease.data)
        with pytest.raises(BufferError):
            lease.release()
        assert bytes(lease) == b"data"
        other.release()
        lease.release()


@pytest.mark.parametrize("way", ["release", "block"])
async def test_another_thread_cannot_give_a_lease_back(way: str) -> None:
    def give_back(lease: Lease) -> None:
        if way == "release":
            lease.release()
        else:
            with lease:
                pass

    near, far = await streams()
    async with near, far, far.chunks(copy=False, buffers=1, chunk_size=16) as chunks:
        await near.send_all(b"data")
        lease = await first(chunks)
        with pytest.raises(RuntimeError, match="thread of its run"):
            await trio.to_thread.run_sync(give_back, lease)
        assert bytes(lease) == b"data"  # it is still out
        assert leased() == 1
        await trio.to_thread.run_sync(trio.from_thread.run_sync, give_back, lease)
        assert leased() == 0
        await near.send_all(b"more")
        with await first(chunks) as lease:
            assert bytes(lease) == b"more"


async def test_who_keeps_leases_starves_nobody_else() -> None:
    near, far = await streams()
    others = [await streams() for _ in range(3)]
    kept = []
    async with near, far, far.chunks(copy=False, chunk_size=64, buffers=4) as chunks:
        await near.send_all(bytes(1000))
        kept = [await first(chunks) for _ in range(4)]
        for one, other in others:
            async with one, other:
                await one.send_all(b"y" * 200)
                assert await receive_exactly(other, 100) == b"y" * 100
                async with other.chunks(chunk_size=64, buffers=4) as mine:
                    assert len(await first(mine)) == 64
        for lease in kept:
            lease.release()


async def test_leases_outlive_block_stream_and_run() -> None:
    near, far = await streams()
    async with near, far:
        async with far.chunks(copy=False, chunk_size=64, buffers=4) as chunks:
            await near.send_all(b"kept")
            lease = await first(chunks)
        assert leased() == 1
        # A group with a lease out is nobody else's.
        async with far.chunks(copy=False, chunk_size=64, buffers=4) as chunks:
            await near.send_all(b"z" * 1000)
            for _ in range(8):
                (await first(chunks)).release()
        assert bytes(lease) == b"kept"
    lease.release()


def drop(lease: list[Lease]) -> None:
    lease.clear()


def drop_in_a_cycle(lease: list[Lease]) -> None:
    cycle: list[Any] = [lease.pop()]
    cycle.append(cycle)
    del cycle
    gc.collect()


def drop_in_a_thread(lease: list[Lease]) -> None:
    thread = threading.Thread(target=lease.clear)
    thread.start()
    thread.join()


@pytest.mark.parametrize("forget", [drop, drop_in_a_cycle, drop_in_a_thread])
@pytest.mark.parametrize("bundle", [False, True])
async def test_a_forgotten_lease_goes_home_and_says_where_it_was_received(
    forget: Callable[[list[Lease]], None], bundle: bool
) -> None:
    near, far = await streams("tcp")
    received = b""
    async with near, far, far.chunks(copy=False, bundle=bundle, chunk_size=16, buffers=2) as chunks:
        await near.send_all(bytes(range(160)))
        while len(received) < 160:
            lease = [await anext(chunks)]
            line = sys._getframe().f_lineno - 1
            received += bytes(lease[0])
            with pytest.warns(ResourceWarning) as caught:
                forget(lease)
            (warning,) = caught
            assert (warning.filename, warning.lineno) == (__file__, line)
            assert f"not released: received at {__file__}:{line}, in {ME}" in str(warning.message)
        await wait_all_tasks_blocked()
        assert leased() == 0
    assert received == bytes(range(160))


ME = test_a_forgotten_lease_goes_home_and_says_where_it_was_received.__name__


async def test_a_forgotten_lease_stays_out_while_its_data_is_used() -> None:
    near, far = await streams()
    async with near, far, far.chunks(copy=False, chunk_size=16, buffers=1) as chunks:
        for use in (lambda data: data, pickle.PickleBuffer):
            await near.send_all(b"kept" + b"n" * 12)
            with pytest.warns(ResourceWarning, match="16 bytes"):
                used: Any = use((await first(chunks)).data)
            await near.send_all(b"next")
            await wait_all_tasks_blocked()
            assert leased() == 1
            assert bytes(used)[:4] == b"kept"
            del used
            with await first(chunks) as lease:
                assert bytes(lease) == b"next"
            del lease
        assert leased() == 0


async def test_a_lease_that_was_released_is_not_missed() -> None:
    near, far = await streams()
    async with near, far, far.chunks(copy=False, chunk_size=16, buffers=2) as chunks:
        for _ in range(10):
            await near.send_all(b"data")
            lease = await first(chunks)
            lease.release()
            lease.release()
            del lease
        assert leased() == 0


def test_a_lease_may_be_forgotten_after_its_run() -> None:
    """There is nobody left who could lack its buffer: no warning, which would be an error here."""
    program = """
import sys, trio, uring_trio
kept = []
async def main():
    near, far = trio.socket.socketpair()
    async with uring_trio.UringStream(near) as a, uring_trio.UringStream(far) as b:
        async with b.chunks(copy=False) as chunks:
            for _ in range(2):
                await a.send_all(b"data")
                kept.append(await anext(chunks))
uring_trio.run(main)
kept.pop()
print(bytes(kept[0]))
sys.unraisablehook = lambda *args: print(args)
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("b'data'\n", "", 0)


def test_any_thread_gives_a_lease_back_after_the_run() -> None:
    kept: list[Lease] = []

    async def main() -> None:
        near, far = await streams()
        async with near, far, far.chunks(copy=False) as chunks:
            await near.send_all(b"data")
            kept.append(await first(chunks))

    uring_trio.run(main)
    thread = threading.Thread(target=kept[0].release)
    thread.start()
    thread.join()
    assert repr(kept[0]) == "<Lease, given back>"


def test_leases_outlive_the_run() -> None:
    kept: list[Any] = []

    async def main() -> None:
        near, far = await streams()
        async with near, far, far.chunks(copy=False) as chunks:
            await near.send_all(b"still here")
            kept.append(await first(chunks))

    uring_trio.run(main)
    assert bytes(kept[0]) == b"still here"
    kept[0].release()


async def test_groups_are_used_again_and_given_up() -> None:
    near, far = await streams()
    async with near, far:
        for size in range(1, 60):
            for _ in range(2):
                async with far.chunks(chunk_size=size) as chunks:
                    await near.send_all(b"x")
                    assert await first(chunks) == b"x"
        groups = current().groups
        assert groups is not None
        assert len(groups.open) == 16
        assert max(group.number for group in groups.open) <= 18


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


@pytest.mark.parametrize("bundle", [False, True], ids=["single", "bundle"])
async def test_groups_grow_when_exhausted_and_shrink_when_idle(
    monkeypatch: pytest.MonkeyPatch, bundle: bool
) -> None:
    monkeypatch.setattr(engine, "IDLE_SECONDS", 0.02)
    near, far = await streams("unix")
    async with near, far:
        async with far.chunks(copy=False, bundle=bundle, chunk_size=1 << 18, buffers=20) as chunks:
            [group] = current().groups.open
            assert group.in_use == 2
            leases = []
            for number in range(20):
                await near.send_all(bytes([number]))
                leases.append(await first(chunks))
            assert [bytes(lease) for lease in leases] == [bytes([number]) for number in range(20)]
            # That is its bound.
            await near.send_all(b"more")
            with trio.move_on_after(0.05):
                await first(chunks)
                pytest.fail("there is no buffer for it")
            assert group.in_use == 20
            leases.pop().release()
            with await first(chunks) as lease:
                assert bytes(lease) == b"more"
            for lease in leases:
                lease.release()
            while group.in_use > 2:
                await trio.sleep(0.01)
            await near.send_all(b"still open")
            with await first(chunks) as lease:
                assert bytes(lease) == b"still open"
        assert current().groups.open == {group}
        while current().groups.open:
            await trio.sleep(0.01)
        assert group.closed
        async with far.chunks() as chunks:
            await near.send_all(b"again")
            assert await first(chunks) == b"again"


# ---- reads of other descriptors ----------------------------------------------------------------------


@pytest.mark.parametrize("copy", [True, False], ids=["bytes", "leases"])
async def test_reads_a_pipe_to_its_end(copy: bool) -> None:
    data = random.Random(3).randbytes(300_000)
    received = bytearray()
    with pipe() as (source, sink):

        async def write() -> None:
            view = memoryview(data)
            while view:
                view = view[await uring_trio.perform(ops.write(sink, view)) :]
            os.close(sink)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            async with uring_trio.read_chunks(source, copy=copy, chunk_size=1000) as chunks:
                async for item in chunks:
                    received += bytes(item)
                    if isinstance(item, Lease):
                        item.release()
    assert received == data


async def test_reads_a_terminal() -> None:
    controller, terminal = pty.openpty()
    try:
        tty.setraw(terminal)
        with open(terminal, "rb", buffering=0, closefd=False) as file:
            async with uring_trio.read_chunks(file) as chunks:
                for text in (b"hello", b"again"):
                    os.write(controller, text)
                    assert await first(chunks) == text
    finally:
        os.close(controller)
        os.close(terminal)


async def test_what_cannot_be_polled_cannot_be_subscribed_to(tmp_path: Any) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"data")
    with open(path, "rb") as file:
        async with uring_trio.read_chunks(file) as chunks:
            with pytest.raises(OSError, match="read_multishot"):
                await first(chunks)
    with pytest.raises(ValueError, match="negative"):
        uring_trio.read_chunks(-1)


async def test_notify_closing_ends_the_reads() -> None:
    with pipe() as (source, _):
        async with uring_trio.read_chunks(source) as chunks, trio.open_nursery() as nursery:

            async def read() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await first(chunks)

            nursery.start_soon(read)
            await wait_all_tasks_blocked()
            trio.lowlevel.notify_closing(source)


# ---- events, ticks, anything -------------------------------------------------------------------------


async def test_events_come_as_they_happen() -> None:
    with pipe() as (source, sink):
        async with uring_trio.poll_events(source, select.POLLIN) as events:
            for _ in range(3):
                os.write(sink, b"x")
                assert await first(events) == select.POLLIN
                with trio.move_on_after(0.01) as scope:
                    await first(events)
                assert scope.cancelled_caught
                os.read(source, 1)
            os.close(sink)
            assert await first(events) & select.POLLHUP


async def test_events_that_nobody_looked_at_are_joined() -> None:
    near, far = await streams()
    async with near, far, uring_trio.poll_events(far.socket, select.POLLIN | select.POLLRDHUP) as events:
        await arm(events)
        await near.send_all(b"x")
        await wait_all_tasks_blocked()
        await near.send_eof()
        await wait_all_tasks_blocked()
        assert await first(events) == select.POLLIN | select.POLLRDHUP
        with trio.move_on_after(0.01) as scope:
            await first(events)
        assert scope.cancelled_caught


async def test_closing_the_socket_ends_its_events() -> None:
    near, far = await streams()
    async with near, uring_trio.poll_events(far.socket, select.POLLIN) as events:
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await first(events)

            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            await far.aclose()


async def test_polling_what_is_not_open() -> None:
    with pipe() as (source, sink):
        os.close(source)
        async with uring_trio.poll_events(source, select.POLLIN) as events:
            with pytest.raises(OSError, match="poll_multishot"):
                await first(events)
        os.dup2(sink, source)


@pytest.mark.parametrize(
    ("fd", "mask", "kind"),
    [
        (-1, 1, ValueError),
        (0, 0, ValueError),
        (0, 1 << 32, ValueError),
        (0, "in", TypeError),
        (0, True, TypeError),
    ],
)
def test_masks_that_are_none(fd: int, mask: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        uring_trio.poll_events(fd, mask)


async def test_ticks_count_what_was_missed() -> None:
    start = time.monotonic()
    passed = 0
    async with uring_trio.ticks(0.005) as clock:
        async for count in clock:
            assert count >= 1
            passed += count
            # Never ahead of the clock, however late the loop is.
            assert passed * 0.005 <= time.monotonic() - start
            if passed > 40:
                break
            if passed == 3:
                time.sleep(0.05)
                missed = await first(clock)
                assert missed >= 9
                passed += missed


async def test_ticks_do_not_bunch() -> None:
    async with uring_trio.ticks(0.002) as clock:
        await arm(clock)
        time.sleep(0.02)
        await trio.sleep(0.02)
        await first(clock)
        subscription = clock._subscription
        assert not subscription.queue


async def test_ticks_can_be_left_at_any_moment() -> None:
    for i in range(300):
        async with uring_trio.ticks(0.0005) as clock:
            await arm(clock)
            time.sleep(0.0005 + i % 10 * 0.0001)


async def test_the_shortest_ticks_can_be_left() -> None:
    for _ in range(20):
        async with uring_trio.ticks(0.0001) as clock:
            await first(clock)


@pytest.mark.parametrize(
    ("period", "kind"),
    [
        (0, ValueError),
        (0.00005, ValueError),
        (-1, ValueError),
        (float("nan"), ValueError),
        (1e12, ValueError),
        ("1", TypeError),
    ],
)
def test_periods_that_are_none(period: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        uring_trio.ticks(period)


async def test_subscribes_to_any_multishot() -> None:
    with pipe() as (source, sink):
        async with uring_trio.subscribe(ops.poll_add_multishot(source, select.POLLIN)) as completions:
            for _ in range(3):
                os.write(sink, b"x")
                assert await first(completions) == select.POLLIN
    async with uring_trio.subscribe(ops.timeout(0.001, multishot=True, count=3)) as completions:
        assert [item async for item in completions] == [0, 0, 0]


async def test_connections_that_nobody_took_are_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        async with uring_trio.subscribe(ops.accept_multishot(listener)) as accepted:
            await arm(accepted)
            clients = [socket.create_connection(address) for _ in range(3)]
            os.close(await first(accepted))
            await wait_all_tasks_blocked()
        for client in clients:
            with client:
                client.settimeout(5)
                assert client.recv(1) == b""


async def test_an_error_is_raised_and_names_the_operation() -> None:
    with socket.socket() as not_listening:
        async with uring_trio.subscribe(ops.accept_multishot(not_listening)) as accepted:
            for _ in range(2):
                with pytest.raises(OSError, match="accept_multishot"):
                    await first(accepted)


def test_what_completes_once_is_performed() -> None:
    for op in (ops.nop(), ops.poll_add(0, 1), ops.timeout(1), ops.accept(0), ops.recv(0, bytearray(1))):
        with pytest.raises(ValueError, match="completes once"):
            uring_trio.subscribe(op)
    with pytest.raises(ValueError, match="buffers of a group"):
        uring_trio.subscribe(ops.recv_multishot(0, 1))
    with pytest.raises(TypeError):
        uring_trio.subscribe("recv")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (abi.IOSQE_CQE_SKIP_SUCCESS, "nothing would tell"),
        (abi.IOSQE_IO_LINK, "linked to the operation behind it"),
        (abi.IOSQE_IO_HARDLINK, "linked to the operation behind it"),
    ],
    ids=["skip", "link", "hardlink"],
)
async def test_neither_silent_nor_linked_to_what_others_queue(flags: int, told: str) -> None:
    with pipe() as (source, _):
        with pytest.raises(ValueError, match=told):
            async with uring_trio.subscribe(ops.poll_add_multishot(source, select.POLLIN).with_flags(flags)):
                raise AssertionError("entered")
        assert source not in current().owners


def test_needs_a_ring_run() -> None:
    async def main() -> None:
        for items in (uring_trio.ticks(1), uring_trio.poll_events(0, 1), uring_trio.read_chunks(0)):
            with pytest.raises(RuntimeError, match="ring run"):
                async with items:
                    raise AssertionError("entered")

    trio.run(main)


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
