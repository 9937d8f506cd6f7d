"""Pipes on the scripted ring: what arrives though it was cancelled, no buffers left, writes in parts."""

from __future__ import annotations

import ctypes
import errno
import os
import select
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.property.support import Outcome, running, scripted_run, ticks, until
from uring import abi
from uring_trio.ipc.pipes import RingPipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from uring.kernel.scripted import Request, ScriptedRing
    from uring_trio.core.manager import Manager

READ, WRITE, SELECT = int(abi.IORING_OP_READ), int(abi.IORING_OP_WRITE), int(abi.IOSQE_BUFFER_SELECT)
POLL = int(abi.IORING_OP_POLL_ADD)


@contextmanager
def ends() -> Iterator[tuple[RingPipe, RingPipe]]:
    """A full pipe and an empty one: the end to send to, and the end to receive from."""
    source, full = os.pipe()
    empty, sink = os.pipe()
    os.set_blocking(full, False)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(full, bytes(65536))
    try:
        yield RingPipe(full), RingPipe(empty)
    finally:
        os.close(source)
        os.close(sink)


async def started(ring: ScriptedRing, stream: RingPipe) -> Request:
    await until(lambda: len(running(ring, stream.fileno())) == 1)
    return running(ring, stream.fileno())[0]


def play(part: Any) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        with ends() as (sink, source):
            async with sink, source, trio.open_nursery() as nursery:
                await part(manager, ring, nursery, sink, source)

    scripted_run(main)


@pytest.mark.parametrize("policy", ["uncancellable", "running"])
def test_what_arrived_is_delivered_though_cancelled(policy: Any) -> None:
    async def part(
        manager: Manager, ring: ScriptedRing, nursery: Any, sink: RingPipe, source: RingPipe
    ) -> None:
        outcome = Outcome()
        nursery.start_soon(outcome.run, source.receive_some)
        request = await started(ring, source)
        assert (request.opcode, bool(request.flags & SELECT)) == (READ, True)
        request.on_cancel = policy
        outcome.scope.cancel()
        await ticks()
        assert not outcome.done
        ring.complete(request, data=b"arrived")
        await until(lambda: outcome.done)
        assert outcome.value == b"arrived"
        assert len(manager.buffers.available) == manager.buffers.count

    play(part)


@pytest.mark.parametrize("res", [-errno.ECANCELED, -errno.EINTR])
def test_an_interrupted_read_has_taken_nothing(res: int) -> None:
    async def part(
        manager: Manager, ring: ScriptedRing, nursery: Any, sink: RingPipe, source: RingPipe
    ) -> None:
        outcome = Outcome()
        nursery.start_soon(outcome.run, source.receive_some)
        request = await started(ring, source)
        request.on_cancel = "running"
        outcome.scope.cancel()
        await until(lambda: request.interrupted == 1)
        ring.complete(request, res)
        await until(lambda: outcome.done)
        assert isinstance(outcome.error, trio.Cancelled)
        again = Outcome()
        nursery.start_soon(again.run, source.receive_some)
        ring.complete(await started(ring, source), data=b"next")
        await until(lambda: again.done)
        assert again.value == b"next"

    play(part)


@pytest.mark.parametrize("size", [1, 50])
def test_waits_for_readiness_without_buffers(size: int) -> None:
    async def part(
        manager: Manager, ring: ScriptedRing, nursery: Any, sink: RingPipe, source: RingPipe
    ) -> None:
        outcome = Outcome()
        nursery.start_soon(outcome.run, source.receive_some, size)
        ring.complete(await started(ring, source), -errno.ENOBUFS)
        await until(lambda: bool(running(ring, source.fileno())))
        request = await started(ring, source)
        assert request.opcode == POLL
        data = b"in the pipe"[:size]
        with open(f"/proc/self/fd/{source.fileno()}", "wb", buffering=0) as other_end:
            other_end.write(data)
        ring.complete(request, select.POLLIN)
        await until(lambda: outcome.done)
        assert outcome.value == data

    play(part)


def test_the_end_and_errors() -> None:
    async def part(
        manager: Manager, ring: ScriptedRing, nursery: Any, sink: RingPipe, source: RingPipe
    ) -> None:
        for stream, call in ((source, source.receive_some), (sink, partial(sink.send_all, b"x"))):
            for res, kind in (
                (-errno.EIO, trio.BrokenResourceError),
                (-errno.EBADF, trio.ClosedResourceError),
            ):
                outcome = Outcome()
                nursery.start_soon(outcome.run, call)
                ring.complete(await started(ring, stream), res)
                await until(lambda outcome=outcome: outcome.done)
                assert type(outcome.error) is kind
        outcome = Outcome()
        nursery.start_soon(outcome.run, source.receive_some)
        ring.complete(await started(ring, source), 0)
        await until(lambda: outcome.done)
        assert outcome.value == b""

    play(part)


@pytest.mark.parametrize("kind", [bytes, bytearray])
@pytest.mark.parametrize("cancel", [False, True])
def test_writes_go_on_in_parts(kind: Any, cancel: bool) -> None:
    data = kind(bytes(range(250)) * 100)

    async def part(
        manager: Manager, ring: ScriptedRing, nursery: Any, sink: RingPipe, source: RingPipe
    ) -> None:
        outcome = Outcome()
        nursery.start_soon(outcome.run, sink.send_all, data)
        found = b""
        while len(found) < len(data):
            request = await started(ring, sink)
            assert (request.opcode, request.length) == (WRITE, len(data) - len(found))
            if cancel and found:
                outcome.scope.cancel()
                break
            piece = ctypes.string_at(request.addr, min(9000, request.length))
            found += piece
            ring.complete(request, len(piece))
        await until(lambda: outcome.done)
        if cancel:
            assert isinstance(outcome.error, trio.Cancelled)
            assert found == data[:9000]
        else:
            assert outcome.error is None
            assert found == data
        if kind is bytearray:
            data.append(0)  # nothing keeps it from being resized

    play(part)
