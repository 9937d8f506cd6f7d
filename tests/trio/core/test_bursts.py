"""Many receives that wake in one tick, and find fewer buffers than they are."""

from __future__ import annotations

import os
import tracemalloc
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from uring_trio import RingOptions, UringStream
from uring_trio.core.buffers import SCARCE
from uring_trio.ipc.pipes import RingPipe

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.ring

MANY = 400
OPTIONS = RingOptions(buffers=4)
"""Four buffers of 64 KiB: nearly every receive of the burst finds none."""


async def peak(receives: list[Callable[[], Awaitable[bytes]]], feed: Callable[[int], Any]) -> int:
    """How much Python's memory grows by, at its peak, while all of these receive one byte at once."""
    got: list[bytes] = []

    async def receive(fn: Callable[[], Awaitable[bytes]]) -> None:
        got.append(await fn())

    async with trio.open_nursery() as nursery:
        for fn in receives:
            nursery.start_soon(receive, fn)
        await wait_all_tasks_blocked()
        tracemalloc.start()
        try:
            for number in range(len(receives)):
                feed(number)
            with trio.fail_after(60):
                while len(got) < len(receives):
                    await trio.lowlevel.checkpoint()
            found = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert got == [b"x"] * len(receives)
    return found


async def sockets(wrap: Callable[[Any], Any]) -> int:
    async with AsyncExitStack() as stack:
        pairs = [trio.socket.socketpair() for _ in range(MANY)]
        streams = [await stack.enter_async_context(wrap(near)) for near, _ in pairs]
        for _, far in pairs:
            stack.enter_context(far)
        return await peak(
            [partial(stream.receive_some, 65536) for stream in streams],
            lambda number: os.write(pairs[number][1].fileno(), b"x"),
        )


def test_a_burst_takes_what_it_takes_on_stock_trio() -> None:
    stock = trio.run(sockets, trio.SocketStream)
    for wrap in (trio.SocketStream, UringStream):
        ring = uring_trio.run(sockets, wrap, ring=OPTIONS)
        # The frames of a second wait are more; a buffer of its own for each would be 64 KiB.
        assert ring < stock + MANY * SCARCE, (wrap, ring, stock)


def test_a_burst_on_pipes() -> None:
    async def main() -> int:
        async with AsyncExitStack() as stack:
            ends = [os.pipe() for _ in range(MANY)]
            pipes = [await stack.enter_async_context(RingPipe(source)) for source, _ in ends]
            for _, sink in ends:
                stack.callback(os.close, sink)
            return await peak(
                [partial(pipe.receive_some, 65536) for pipe in pipes],
                lambda number: os.write(ends[number][1], b"x"),
            )

    assert uring_trio.run(main, ring=OPTIONS) < MANY * 2 * SCARCE


def test_a_burst_on_direct_descriptors() -> None:
    async def main() -> int:
        async with AsyncExitStack() as stack, trio.open_nursery() as nursery:
            listen = partial(uring_trio.listen_tcp, "127.0.0.1", 0, direct=True)
            listener = await nursery.start(listen)
            clients, streams = [], []
            for _ in range(MANY):
                clients.append(await trio.open_tcp_stream(*listener.address))
                streams.append(await stack.enter_async_context(await listener.accept()))
                await stack.enter_async_context(clients[-1])
            growth = await peak(
                [partial(stream.receive_some, 65536) for stream in streams],
                lambda number: os.write(clients[number].socket.fileno(), b"x"),
            )
            nursery.cancel_scope.cancel()
            return growth
        raise AssertionError

    assert uring_trio.run(main, ring=OPTIONS) < MANY * 2 * SCARCE
