"""Iterators over reads, poll events and ticks: what each brings, and how each ends."""

from __future__ import annotations

import os
import pty
import random
import select
import time
import tty
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import arm, first, pipe, streams
from uring import ops
from uring_trio import Lease

# ---- reads of other descriptors ---------------------------------------------------------------------------


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


# ---- events and ticks ----------------------------------------------------------------------------------


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
