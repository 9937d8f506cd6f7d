"""Races of closing with operations in flight, on the scripted ring in every order they can take."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.property.support import (
    FD,
    RECV,
    Outcome,
    both_orders,
    in_flight,
    receive,
    receives,
    record_starts,
    running,
    scripted_run,
    ticks,
    until,
)
from uring import abi
from uring.kernel.scripted import Request, ScriptedRing
from uring_trio import seams

if TYPE_CHECKING:
    from uring_trio.core.manager import Manager


@pytest.mark.parametrize("patience", range(4))
@both_orders
def test_race_10_the_ring_is_closed_when_no_worker_writes_any_more(patience: int, target_first: bool) -> None:
    ring, written = ScriptedRing(), []

    async def main(manager: Manager, ring: ScriptedRing) -> None:
        ring.target_first = target_first
        memory = bytearray(10)
        slot = manager.acquire("read", FD)
        slot.task = object()  # a task that a crash has thrown away
        slot.pins = memoryview(memory)
        ring.put(slot.user_data, *receive().fields)
        [request] = await in_flight(ring)
        request.on_cancel = "running"

        def write_on(ring: ScriptedRing) -> None:
            if request.interrupted > patience and request in ring.running:
                assert not ring.closed
                assert slot.pins is not None
                written.append(request.interrupted)
                ring.complete(request, 10)

        ring.scheduler = write_on

    scripted_run(main, ring, abandoned=True)
    assert written == [patience + 1]


def test_race_11_close_ends_pending_operations_first() -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        left, right = trio.socket.socketpair()
        fd = left.fileno()
        open_at_cancel = []
        flush = ring.flush

        def watched(run_work: int) -> int:
            open_at_cancel.append(is_open(fd))
            return flush(run_work)

        async with trio.open_nursery() as nursery:
            outcomes = [Outcome(), Outcome()]
            nursery.start_soon(outcomes[0].run, left.recv, 10)
            fill(left)
            nursery.start_soon(outcomes[1].run, left.send, b"x")
            await until(lambda: len(running(ring, fd)) == 2)
            requests = running(ring, fd)
            ring.flush = watched  # type: ignore[method-assign]
            left.close()
            # In this very step: cancelled, ended and closed, in this order.
            assert not running(ring, fd)
            assert [request.interrupted for request in requests] == [1, 1]
            assert all(open_at_cancel)
            assert not is_open(fd)
        assert [type(outcome.error) for outcome in outcomes] == [trio.ClosedResourceError] * 2
        right.close()

    scripted_run(main)


def test_race_11_a_socket_used_again_after_notify_closing() -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        left, right = trio.socket.socketpair()
        fd = left.fileno()
        async with trio.open_nursery() as nursery:
            for end in (trio.lowlevel.notify_closing, lambda sock: sock.close()):
                outcome = Outcome()
                nursery.start_soon(outcome.run, left.recv, 10)
                await until(lambda: bool(running(ring, fd)))
                end(left)
                await until(lambda outcome=outcome: outcome.done)
                assert isinstance(outcome.error, trio.ClosedResourceError)
        right.close()

    scripted_run(main)


def test_race_12_entry_queued_then_descriptor_closed_and_its_number_reused() -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        left, right = socket.socketpair()
        fd = left.fileno()
        sock = trio.socket.from_stdlib_socket(left)
        async with trio.open_nursery() as nursery:
            outcome = Outcome()
            ring.held = True
            nursery.start_soon(outcome.run, sock.recv, 10)
            await until(lambda: any(request.fd == fd for request in ring.queued))
            sock.close()
            reused = os.dup(right.fileno())
            assert reused == fd
            assert not any(request.fd == fd for request in ring.queued)
            ring.held = False
            await until(lambda: outcome.done)
            assert isinstance(outcome.error, trio.ClosedResourceError)
            os.close(reused)
        right.close()

    seen = record_starts(main)
    assert not [request for request in seen if request.opcode == RECV]


@pytest.mark.parametrize("how", ["recv", "send"])
def test_race_12_descriptor_closed_while_its_operation_waits_for_room(how: str) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        left, right = trio.socket.socketpair()
        async with trio.open_nursery() as nursery:
            outcome = Outcome()
            ring.full = True
            fill(left)
            nursery.start_soon(outcome.run, *((left.recv, 10) if how == "recv" else (left.send, b"x")))
            await ticks()
            left.close()
            ring.full = False
            await until(lambda: outcome.done)
            assert isinstance(outcome.error, trio.ClosedResourceError)
        right.close()
        await ticks()

    seen = record_starts(main)
    assert not [request for request in seen if request.opcode == RECV]


def test_race_12_no_second_task_takes_an_operation_that_waits_for_room() -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        left, right = trio.socket.socketpair()
        with left, right:
            async with trio.open_nursery() as nursery:
                outcome = Outcome()
                ring.full = True
                nursery.start_soon(outcome.run, left.recv, 10)
                await ticks()
                with pytest.raises(trio.BusyResourceError):
                    await left.recv(10)
                ring.full = False
                await until(lambda: bool(receives(ring)))
                ring.complete(receives(ring)[0], data=b"x")
                await until(lambda: outcome.done)
                assert outcome.value == b"x"

    scripted_run(main)


@pytest.mark.parametrize("what", ["recv", "recvmsg", "recvfrom"])
def test_race_12_descriptor_closed_as_a_receive_is_about_to_try_again(what: str) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        left, right = trio.socket.socketpair()
        async with trio.open_nursery() as nursery:
            outcome = Outcome()
            nursery.start_soon(outcome.run, getattr(left, what), 10)
            await until(lambda: any(request.fd == left.fileno() for request in ring.running))
            # No buffer was left; the task has yet to resume and ask for other memory.
            ring.complete(running(ring, left.fileno())[0], -errno.ENOBUFS, posted=True)
            manager.process_events(manager.get_events(0))
            fd = left.fileno()
            left.close()
            seen.clear()
            await until(lambda: outcome.done)
            assert isinstance(outcome.error, (trio.ClosedResourceError, OSError))
            assert not [request for request in seen if request.fd in (fd, -1)]
        right.close()

    seen: list[Request] = []
    ring = ScriptedRing()
    ring.on_start = seen.append
    scripted_run(main, ring)


@pytest.mark.parametrize("res", [0, -errno.ECANCELED, -errno.ECONNRESET])
def test_a_buffer_without_data_goes_back(res: int) -> None:
    """In a kernel worker, where the kernel puts a receive whose chain it cut, it takes its buffer first."""

    async def main(manager: Manager, ring: ScriptedRing) -> None:
        near, far = trio.socket.socketpair()
        with near, far:
            there, got = list(manager.buffers.available), Outcome()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(got.run, near.recv, 4)
                await until(lambda: bool(running(ring, near.fileno())))
                bid = manager.buffers.available.popleft()
                ring.complete(ring.find(fd=near.fileno()), res, int(abi.IORING_CQE_F_BUFFER) | bid << 16)
                await until(lambda: len(manager.buffers.available) == len(there))
                await ticks()
                nursery.cancel_scope.cancel()
            assert sorted(manager.buffers.available) == there
            assert got.value == (b"" if res == 0 else None)

    scripted_run(main)


def fill(sock: Any) -> None:
    """Sends until nothing more goes without waiting."""
    plain = seams.stdlib_socket(sock)
    with pytest.raises(BlockingIOError):
        while True:
            plain.send(bytes(65536))


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
