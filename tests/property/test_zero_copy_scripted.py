"""Zero-copy receives of streams on two scripted rings: the run's, and one with 32-byte completions."""

from __future__ import annotations

import errno
import os
import struct
from collections import deque
from contextlib import asynccontextmanager
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.property.support import MORE, Outcome, scripted_run, ticks, until
from uring import abi
from uring.kernel.ring import CQE_BIG
from uring.kernel.scripted import Request, ScriptedRing
from uring.machines.zcrx_queue import ZCRXOffsets, ZCRXQueue
from uring_trio import Lease, UringStream, ZeroCopyQueue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from uring_trio.core.manager import Manager
    from uring_trio.net.zerocopy_queue import ZeroCopyChunks

PAGE = 4096
RECV_ZC = int(abi.IORING_OP_RECV_ZC)


class WideRing(ScriptedRing):
    """A scripted ring whose completions have 32 bytes: an offset is above the kernel's 32 bits of ``flags``.
    It signals its eventfd when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.out = memoryview(bytearray(CQE_BIG.size * self.cq_entries))
        self.eventfd = -1

    def register_eventfd(self, fd: int) -> None:
        self.eventfd = fd

    def _hand_out(self, completion: Any, n: int) -> int:
        self.inflight -= not completion.flags & MORE
        flags, offset = completion.flags & 0xFFFF_FFFF, completion.flags >> 32
        CQE_BIG.pack_into(self.out, n * CQE_BIG.size, completion.user_data, completion.res, flags, offset, 0)
        return n + 1

    @property
    def receives(self) -> list[Request]:
        return [request for request in self.running if request.opcode == RECV_ZC]

    def receive(self, res: int, flags: int = 0, offset: int = 0) -> None:
        """A completion of the receive in flight, and the signal."""
        [request] = self.receives
        self.complete(request, res, flags | offset << 32)
        os.eventfd_write(self.eventfd, 1)


class World:
    """A stream with a zero-copy receive into some pages; ``taken()`` is what was given back."""

    def __init__(self, pages: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wide = WideRing()
        self.area = bytearray(b"".join(bytes([65 + i]) * PAGE for i in range(pages)))
        self.region = bytearray(64 + 16 * 8)
        zcrx = ZCRXQueue(3, self.area, self.region, 8, ZCRXOffsets(0, 4, 64))
        monkeypatch.setattr("uring_trio.net.zerocopy_queue._open", lambda config, entries: (self.wide, zcrx))

    def taken(self) -> list[int]:
        head, tail = struct.unpack_from("=II", self.region)
        struct.pack_into("=I", self.region, 0, tail)
        return [struct.unpack_from("=Q", self.region, 64 + i % 8 * 16)[0] for i in range(head, tail)]

    @asynccontextmanager
    async def stream(self) -> AsyncIterator[UringStream]:
        # Trio's sockets are not connected here; the receive is scripted, whatever the descriptor.
        with trio.socket.socket() as sock:
            yield UringStream(sock)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(4, monkeypatch)


@asynccontextmanager
async def receiving(
    stream: UringStream, wide: WideRing, queue: ZeroCopyQueue | None = None
) -> AsyncIterator[tuple[ZeroCopyChunks, Outcome]]:
    """The iteration over a stream, and the outcome of its first step, which waits in the kernel."""
    async with trio.open_nursery() as nursery, stream.zero_copy_chunks(queue) as chunks:
        outcome = Outcome()
        nursery.start_soon(outcome.run, chunks.__anext__)
        await until(lambda: bool(wide.receives))
        yield chunks, outcome


def test_pieces_come_as_leases_and_go_back(world: World) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        wide = world.wide
        async with world.stream() as stream:
            async with receiving(stream, wide) as (chunks, outcome):
                wide.receive(3, MORE, 2 * PAGE + 5)
                wide.receive(2, MORE, PAGE)
                await until(lambda: outcome.done)
                lease: Lease = outcome.value
                assert bytes(lease) == b"CCC"
                second = await chunks.__anext__()
                assert bytes(second) == b"BB"
                assert world.taken() == []
                second.release()
                lease.release()
                assert world.taken() == [PAGE, 2 * PAGE + 5]
                wide.receive(0)
                with pytest.raises(StopAsyncIteration):
                    await chunks.__anext__()
            assert wide.closed

    scripted_run(main)


@pytest.mark.parametrize("order", list(permutations(["used up", "release", "wait"])))
def test_it_goes_on_when_memory_comes_back(world: World, order: tuple[str, ...]) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        wide = world.wide
        async with world.stream() as stream, trio.open_nursery() as nursery:
            async with receiving(stream, wide) as (chunks, outcome):
                [before] = wide.receives
                wide.receive(PAGE, MORE, 0)
                await until(lambda: outcome.done)
                lease, outcome = outcome.value, Outcome()
                for event in order:
                    if event == "used up":
                        wide.receive(-errno.ENOMEM)
                    elif event == "release":
                        lease.release()
                    else:
                        nursery.start_soon(outcome.run, chunks.__anext__)
                    await ticks()
                await until(lambda: bool(wide.receives))
                assert wide.receives != [before]
                wide.receive(1, MORE, 0)
                await until(lambda: outcome.done)
                with outcome.value as again:
                    assert bytes(again) == b"A"

    scripted_run(main)


@pytest.mark.parametrize("res", [-errno.ENOMEM, -errno.ECONNRESET])
def test_an_error_is_raised_once(world: World, res: int) -> None:
    """No memory with nothing on loan is the kernel's own lack of it."""

    async def main(manager: Manager, ring: ScriptedRing) -> None:
        async with world.stream() as stream:
            async with receiving(stream, world.wide) as (_, outcome):
                world.wide.receive(res)
                await until(lambda: outcome.done)
                assert isinstance(outcome.error, trio.BrokenResourceError)

    scripted_run(main)


@pytest.mark.parametrize("res", [-errno.ENOSPC, -errno.ECANCELED])
def test_a_passing_end_is_armed_again(world: World, res: int) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        wide = world.wide
        async with world.stream() as stream:
            async with receiving(stream, wide) as (_, outcome):
                wide.receive(res)
                await until(lambda: bool(wide.receives))
                wide.receive(1, MORE, 0)
                await until(lambda: outcome.done)
                outcome.value.release()

    scripted_run(main)


@pytest.mark.parametrize("times", [1, 5])
def test_what_the_kernel_refuses_is_submitted_later(world: World, times: int) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        wide = world.wide
        wide.enter_results = deque([-errno.EAGAIN] * times)  # the receive
        async with world.stream() as stream:
            async with receiving(stream, wide) as (_, outcome):
                wide.receive(1, MORE, 0)
                await until(lambda: outcome.done)
                outcome.value.release()
                wide.enter_results = deque([-errno.ENOMEM] * times)  # its cancel, when the block is left
            assert not wide.running

    scripted_run(main)


def test_what_was_not_taken_is_kept_in_order(world: World) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        wide = world.wide
        async with world.stream() as stream:
            async with receiving(stream, wide) as (_, outcome):
                for i in range(3):
                    wide.receive(1, MORE, i * PAGE)
                await until(lambda: outcome.done)
                outcome.value.release()
            assert [await stream.receive_some() for _ in range(2)] == [b"B", b"C"]
            assert world.taken() == [0, PAGE, 2 * PAGE]

    scripted_run(main)


def test_data_that_meets_the_cancel_is_kept(world: World) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        wide = world.wide
        async with world.stream() as stream:
            async with receiving(stream, wide) as (_, outcome):
                outcome.scope.cancel()
                await until(lambda: outcome.done)
                wide.receive(1, MORE, 3 * PAGE)  # no signal was looked at yet when the block is left
            assert await stream.receive_some() == b"D"

    scripted_run(main)


@pytest.mark.parametrize("first", ["stream", "queue"])
def test_closing_wakes_the_consumer(world: World, first: str) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        outcome = Outcome()
        async with world.stream() as stream, trio.open_nursery() as nursery:

            async def consume(queue: ZeroCopyQueue) -> None:
                async with stream.zero_copy_chunks(queue) as chunks:
                    await chunks.__anext__()

            async with ZeroCopyQueue() as queue:
                nursery.start_soon(outcome.run, consume, queue)
                await until(lambda: bool(world.wide.receives))
                if first == "stream":
                    stream.socket.close()
                    assert not world.wide.running
                    await until(lambda: outcome.done)
            await until(lambda: outcome.done)
            assert isinstance(outcome.error, trio.ClosedResourceError)
            assert world.wide.closed

    scripted_run(main)


def test_a_run_that_ends_first(world: World) -> None:
    """A queue that nobody closes ends with the run; its leases stay readable."""
    kept: list[Lease] = []

    async def main(manager: Manager, ring: ScriptedRing) -> None:
        async with world.stream() as stream:
            queue = ZeroCopyQueue()
            queue.open()
            async with receiving(stream, world.wide, queue) as (_, outcome):
                world.wide.receive(1, MORE, 0)
                await until(lambda: outcome.done)
                kept.append(outcome.value)

    scripted_run(main)
    assert world.wide.closed
    assert bytes(kept[0]) == b"A"
    kept[0].release()
    assert world.taken() == []
