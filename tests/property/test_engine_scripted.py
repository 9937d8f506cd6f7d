"""Races of entering, waking and submitting, on the scripted ring in every order they can take."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
from typing import Any

import pytest
import trio

from tests.property.support import (
    FD,
    NOP,
    RECV,
    Busy,
    Outcome,
    in_flight,
    receive,
    record_starts,
    scripted_run,
    ticks,
    until,
)
from uring import abi, ops
from uring.kernel.scripted import ScriptedBuffers, ScriptedRing
from uring_trio import perform
from uring_trio.core.manager import Manager

ACCEPT = int(abi.IORING_OP_ACCEPT)


def test_race_20_deferred_completions_are_entered_for() -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        async with trio.open_nursery() as nursery:
            busy = Busy(nursery, receive())
            [request] = await in_flight(ring)
            await ticks()
            enters = ring.counters()["enters"]
            await ticks()
            assert ring.counters()["enters"] == enters
            ring.complete(request, 1)
            await ticks(2)
            assert busy.outcome.value == 1
            assert ring.counters()["enters"] > enters

    scripted_run(main)


def test_race_21_a_foreign_thread_waits_and_never_enters() -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        manager._guest = manager._guest_fd_registered = True
        answers: list[int] = []
        await perform(ops.nop())
        ring.put(manager.cancels.user_data, NOP, 0, -1)
        before = ring.counters()["enters"]
        for seconds, wake in ((0.01, False), (1000, True)):
            thread = threading.Thread(
                target=lambda seconds=seconds: answers.append(manager.get_events(seconds))
            )
            thread.start()
            if wake:
                manager.force_wakeup()
            thread.join()
        assert answers == [0, -1]
        assert ring.counters()["enters"] == before
        assert len(ring.queued) == 1
        manager.process_events(answers[-1])  # where the owner enters
        assert not ring.queued
        manager._guest = False

    scripted_run(main)


@pytest.mark.parametrize("results", [[1, -errno.EINTR], [2, -errno.EINTR, 1]])
def test_race_22_signal_after_a_partial_submit(results: list[int]) -> None:
    submits_short(results)


@pytest.mark.parametrize("results", [[0], [1], [2, 0, 1], [0, 0, 0, 3]])
def test_race_23_short_submit(results: list[int]) -> None:
    submits_short(results)


def submits_short(results: list[int]) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        done = []

        async def one(number: int) -> None:
            await perform(ops.nop())
            done.append(number)

        ring.enter_results.extend(results)
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(one, number)
        assert sorted(done) == [0, 1, 2, 3, 4]

    ring = ScriptedRing()
    # That all that was submitted has completed is checked for every scripted run.
    scripted_run(main, ring)


def test_race_25_wake_up_after_the_ring_is_closed() -> None:
    manager = Manager.create(ring=ScriptedRing(), provide=ScriptedBuffers)
    number = manager._eventfd
    manager.force_wakeup()
    manager.close()
    # Its number goes to the next file, which must not be written to.
    reader, writer = os.pipe()
    try:
        assert number in (reader, writer)
        os.set_blocking(reader, False)
        manager.force_wakeup()
        with pytest.raises(BlockingIOError):
            os.read(reader, 8)
    finally:
        os.close(reader)
        os.close(writer)


def test_race_26_completions_posted_while_completions_are_processed() -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        async with trio.open_nursery() as nursery:
            busy = [Busy(nursery, receive()) for _ in range(3)]
            requests = await in_flight(ring, number=3)
            op = manager.acquire("poke", FD)

            def poke(op: Any, res: int, flags: int) -> None:
                ring.complete(requests[1], 11, posted=True)
                ring.complete(requests[2], 12)
                manager.release(op)

            op.handler = poke
            ring.put(op.user_data, *ops.nop().fields)
            ring.complete(requests[0], 10)
        assert sorted(one.outcome.value for one in busy) == [10, 11, 12]

    scripted_run(main)


def test_race_29_the_completion_queue_overflows() -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        done = []

        async def one(number: int) -> None:
            await perform(ops.nop())
            done.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(one, number)
        assert sorted(done) == list(range(100))
        assert manager.statistics().overflows > 0

    scripted_run(main, ScriptedRing(entries=64, cq_entries=8))


def test_race_31_a_multishot_accept_shares_no_address_memory() -> None:
    opcode, _, _, off, addr, *_ = ops.accept_multishot(FD).fields
    assert (opcode, off, addr) == (ACCEPT, 0, 0)


@pytest.mark.parametrize("how", ["force_wakeup", "run_sync_soon"])
def test_race_32_woken_between_nothing_to_do_and_the_wait(how: str) -> None:
    ring = ScriptedRing()
    woken = []

    async def main(manager: Manager, ring: ScriptedRing) -> None:
        event, token = trio.Event(), trio.lowlevel.current_trio_token()

        def wake(timeout: float) -> None:
            # The loop has found nothing to do and is about to sleep.
            if timeout > 1 and not woken:
                woken.append(timeout)
                if how == "run_sync_soon":
                    token.run_sync_soon(event.set)
                else:
                    manager.force_wakeup()
                    before.append(manager.get_events)
                    ring.on_wait = lambda timeout: token.run_sync_soon(event.set)

        before: list[Any] = []
        ring.on_wait = wake
        await event.wait()

    scripted_run(main, ring)
    assert woken


def test_race_32_no_wait_without_a_wake_up_armed() -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        waits = []
        ring.full = True
        manager._armed = False
        ring.on_wait = waits.append
        assert manager.get_events(1000.0)
        assert not waits
        ring.full = False
        ring.on_wait = None

    scripted_run(main)


def test_race_33_nothing_runs_in_a_scope_already_cancelled() -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        left, right = trio.socket.socketpair()
        with left, right:
            await ticks()
            before = ring.inflight
            calls: list[Any] = [
                lambda: perform(receive()),
                lambda: left.recv(10),
                lambda: left.recv_into(bytearray(10)),
                lambda: left.recvmsg(10),
                lambda: left.accept(),
                lambda: left.send(b"x"),
                lambda: left.sendmsg([b"x"]),
                lambda: trio.lowlevel.wait_readable(left),
            ]
            for call in calls:
                with trio.CancelScope() as scope:
                    scope.cancel()
                    await call()
                assert scope.cancelled_caught
                assert ring.inflight == before
            assert not select.select([right.fileno()], [], [], 0)[0]

    seen = record_starts(main)
    assert {request.opcode for request in seen} <= {int(abi.IORING_OP_POLL_ADD)}


def test_race_34_descriptor_closed_in_the_tick_its_operation_was_queued() -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        left, right = socket.socketpair()
        right.setblocking(False)
        sock = trio.socket.from_stdlib_socket(left)
        ring.held = True
        async with trio.open_nursery() as nursery:
            outcome = Outcome()
            nursery.start_soon(outcome.run, sock.recv, 10)
            await until(lambda: any(request.opcode == RECV for request in ring.queued))
            sock.close()
            assert right.recv(1) == b""
            ring.held = False
        assert isinstance(outcome.error, trio.ClosedResourceError)
        right.close()

    seen = record_starts(main)
    assert not [request for request in seen if request.opcode == RECV]


def test_race_35_what_the_host_cancels_while_the_guests_worker_waits_is_submitted_at_once() -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        async with trio.open_nursery() as nursery:
            busy = Busy(nursery, receive())
            [request] = await in_flight(ring)
            manager._guest = True
            assert manager.get_events(0) == 0  # and now the worker waits
            busy.outcome.scope.cancel()
            assert request.interrupted == 1, "in this very step"
            manager._guest = False
            ring.eager = False

    scripted_run(main)
