"""Races of cancels with completions, on the scripted ring in every order they can take."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING

import pytest
import trio

from tests.property.support import (
    FD,
    INTERNAL,
    NOP,
    Busy,
    Outcome,
    both_orders,
    in_flight,
    receive,
    receives,
    running,
    scripted_run,
    ticks,
    until,
)
from uring import abi, ops
from uring.kernel.scripted import ScriptedRing
from uring_trio import perform
from uring_trio.core.fd import Fd
from uring_trio.multishot.subscription import Subscription

if TYPE_CHECKING:
    from uring_trio.core.manager import Manager

ECANCELED, EINTR = -errno.ECANCELED, -errno.EINTR


@both_orders
@pytest.mark.parametrize("late", [False, True])
def test_race_01_cancel_and_target_complete_in_either_order(target_first: bool, late: bool) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        ring.target_first = target_first
        async with trio.open_nursery() as nursery:
            busy = Busy(nursery, receive())
            [request] = await in_flight(ring)
            op = manager.table.find(request.user_data)
            assert op is not None
            request.on_cancel = "running" if late else "cancel"
            busy.outcome.scope.cancel()
            assert op.pins is not None
            assert len(manager.table) == INTERNAL + 1
            if late:
                await until(lambda: request.interrupted == 1)
                await ticks()
                # The cancel's completion has come, and freed nothing.
                assert manager.statistics().cancels_running == 1
                assert not busy.outcome.done
                assert op.pins is not None
                assert op not in manager.table.free
                ring.complete(request, EINTR)
            await until(lambda: busy.outcome.done)
            assert isinstance(busy.outcome.error, trio.Cancelled)
            assert op.pins is None
            assert op in manager.table.free

    scripted_run(main)


@pytest.mark.parametrize("result", [5, 0, -errno.ECONNRESET])
def test_race_02_what_succeeded_is_delivered_though_cancelled(result: int) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        async with trio.open_nursery() as nursery:
            busy = Busy(nursery, receive())
            [request] = await in_flight(ring)
            request.on_cancel = "uncancellable"
            busy.outcome.scope.cancel()
            await ticks()
            ring.complete(request, result)
            await until(lambda: busy.outcome.done)
            if result < 0:
                assert isinstance(busy.outcome.error, ConnectionResetError)
            else:
                assert busy.outcome.value == result

    scripted_run(main)


@pytest.mark.parametrize("misses", [1, 2, 10])
def test_a_cancel_that_found_nothing_is_made_again(misses: int) -> None:
    """The kernel finds no request that deferred work, which it has not run yet, is to try again."""

    async def main(manager: Manager, ring: ScriptedRing) -> None:
        async with trio.open_nursery() as nursery:
            busy = Busy(nursery, receive())
            [request] = await in_flight(ring)
            request.on_cancel = "uncancellable"
            busy.outcome.scope.cancel()
            await ticks(misses)
            assert not busy.outcome.done
            request.on_cancel = "cancel"
            await until(lambda: busy.outcome.done)
            assert isinstance(busy.outcome.error, trio.Cancelled)
            await ticks()
            found = manager.statistics()
            assert (found.cancels_requested, found.cancels_won, found.cancels_lost) == (1, 1, 0)

    scripted_run(main)


def test_a_cancel_that_finds_nothing_is_not_made_for_ever() -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        async with trio.open_nursery() as nursery:
            busy = Busy(nursery, receive())
            [request] = await in_flight(ring)
            request.on_cancel = "uncancellable"
            busy.outcome.scope.cancel()
            await ticks(100)
            submitted = manager.statistics().submitted
            await ticks(100)
            assert manager.statistics().submitted == submitted
            assert manager.statistics().cancels_lost == 1
            ring.complete(request, 5)
            await until(lambda: busy.outcome.done)
            assert busy.outcome.value == 5

    scripted_run(main)


@pytest.mark.parametrize("result", [ECANCELED, EINTR, -512])
@pytest.mark.parametrize("cancelled", [True, False])
def test_race_02_only_who_asked_is_cancelled(result: int, cancelled: bool) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        async with trio.open_nursery() as nursery:
            busy = Busy(nursery, receive())
            [request] = await in_flight(ring)
            request.on_cancel = "uncancellable"
            if cancelled:
                busy.outcome.scope.cancel()
            ring.complete(request, result)
            await until(lambda: busy.outcome.done)
            assert isinstance(busy.outcome.error, trio.Cancelled if cancelled else OSError)

    scripted_run(main)


def test_race_03_cancelled_accept_succeeded() -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        async with trio.open_nursery() as nursery:
            busy = Busy(nursery, ops.accept(FD))
            [request] = await in_flight(ring)
            request.on_cancel = "uncancellable"
            busy.outcome.scope.cancel()
            ring.complete(request, 1234)
            await until(lambda: busy.outcome.done)
            assert busy.outcome.value == 1234

    scripted_run(main)


def test_race_03_accept_that_succeeds_when_nobody_is_left() -> None:
    ours, theirs = os.pipe()
    os.close(theirs)

    async def main(manager: Manager, ring: ScriptedRing) -> None:
        accept = ops.accept(FD)
        op = manager.acquire("accept", FD)
        op.discard = accept.discard
        op.task = object()  # a task that a crash has thrown away
        ring.put(op.user_data, *accept.fields)
        [request] = await in_flight(ring)
        request.on_cancel = "running"

        def finish(ring: ScriptedRing) -> None:
            if request.interrupted and request in ring.running:
                ring.complete(request, ours)

        ring.scheduler = finish

    scripted_run(main, abandoned=True)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(ours)


@pytest.mark.parametrize("posted", [False, True])
@both_orders
def test_race_04_cancelled_receive_took_a_buffer(posted: bool, target_first: bool) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        ring.target_first = target_first
        left, right = trio.socket.socketpair()
        with left, right:
            async with trio.open_nursery() as nursery:
                outcome = Outcome()
                nursery.start_soon(outcome.run, left.recv, 10)
                await until(lambda: bool(receives(ring)))
                ring.complete(receives(ring)[0], data=b"data", posted=posted)
                outcome.scope.cancel()
                await until(lambda: outcome.done)
            if posted:
                assert outcome.value == b"data"
            else:
                assert isinstance(outcome.error, trio.Cancelled)
            assert len(manager.buffers.available) == manager.buffers.in_use

    scripted_run(main)


def test_a_close_ends_what_its_own_enter_retries() -> None:
    """Deferred work that a close's enter runs may retry a receive, after its cancel has found nothing."""

    async def main(manager: Manager, ring: ScriptedRing) -> None:
        left, right = socket.socketpair()
        with left, right:
            owner = Fd.open(manager, left.fileno())
            async with trio.open_nursery() as nursery:
                waits = Outcome()
                nursery.start_soon(waits.run, owner.wait_readable, "recv")
                busy = Busy(nursery, receive())
                [request] = await in_flight(ring, left.fileno())
                [other] = await in_flight(ring)
                request.on_cancel = "uncancellable"
                flush = ring.flush

                def retrying(run_work: int) -> int:
                    taken = flush(run_work)
                    request.on_cancel = "cancel"
                    return taken

                ring.flush = retrying  # type: ignore[method-assign]
                ring.complete(other, 5)
                owner.close()
                assert not running(ring, left.fileno())
                await until(lambda: waits.done and busy.outcome.done)
                assert isinstance(waits.error, trio.ClosedResourceError)
                await ticks()
                found = manager.statistics()
                assert (found.cancels_requested, found.cancels_won) == (1, 1)

    scripted_run(main)


@pytest.mark.parametrize("trouble", ["full", "enter"])
def test_race_05_cancel_on_a_full_queue_is_sent_later(trouble: str) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        async with trio.open_nursery() as nursery:
            busy = Busy(nursery, receive())
            [request] = await in_flight(ring)
            if trouble == "full":
                ring.full = True
            else:
                while len(ring.queued) < ring.sq_entries:
                    ring.put(manager.cancels.user_data, NOP, 0, -1)
                ring.enter_results.append(-errno.EBUSY)
            busy.outcome.scope.cancel()
            if trouble == "full":
                await ticks(5)
                assert request.interrupted == 0
                ring.full = False
            await until(lambda: busy.outcome.done)
            assert isinstance(busy.outcome.error, trio.Cancelled)
            assert request.interrupted == 1

    scripted_run(main, ScriptedRing(entries=8))


@pytest.mark.parametrize("trouble", ["full", -errno.EAGAIN, 0])
def test_race_05_close_on_a_full_queue_still_cancels(trouble: str | int) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        left, right = trio.socket.socketpair()
        async with trio.open_nursery() as nursery:
            outcome = Outcome()
            nursery.start_soon(outcome.run, left.recv, 10)
            await until(lambda: bool(receives(ring)))
            if trouble == "full":
                ring.full = True
            else:
                ring.enter_results.append(int(trouble))
            left.close()
            right.close()
            await ticks(2)
            ring.full = False
            await until(lambda: outcome.done)
            assert isinstance(outcome.error, trio.ClosedResourceError)

    scripted_run(main)


def test_race_06_main_exits_with_a_cancel_in_flight() -> None:
    ring = ScriptedRing()

    async def main(manager: Manager, ring: ScriptedRing) -> None:
        async with trio.open_nursery() as nursery:
            busy = Busy(nursery, receive())
            [request] = await in_flight(ring)
            ring.held = True
            busy.outcome.scope.cancel()
            ring.complete(request, 3, posted=True)
            await until(lambda: busy.outcome.done)
            assert busy.outcome.value == 3
            assert any(r.opcode == abi.IORING_OP_ASYNC_CANCEL for r in ring.queued)
        ring.held = False

    # That all that was submitted has completed is checked for every scripted run.
    scripted_run(main, ring)


def test_race_07_slot_reused_while_an_old_completion_is_on_its_way() -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        async with trio.open_nursery() as nursery:
            first = Busy(nursery, receive())
            [request] = await in_flight(ring)
            old = request.user_data
            ring.complete(request, 1)
            await until(lambda: first.outcome.done)
            second = Busy(nursery, receive())
            [request] = await in_flight(ring)
            assert request.user_data & 0xFFFFFF == old & 0xFFFFFF
            assert request.user_data != old
            ring.forge(old, 99)
            await ticks()
            assert not second.outcome.done
            assert manager.statistics().late == 1
            ring.complete(request, 2)
            await until(lambda: second.outcome.done)
            assert (first.outcome.value, second.outcome.value) == (1, 2)

    scripted_run(main)


@pytest.mark.parametrize("failure", [-errno.EAGAIN, -errno.EBUSY, -errno.EINTR])
def test_race_08_entry_written_and_enter_fails(failure: int) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        ring.enter_results.extend([failure] * 3)
        assert await perform(ops.nop()) == 0
        assert not ring.enter_results

    scripted_run(main)


def test_race_09_second_cancel_while_the_first_is_drained() -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        owner = Fd.open(manager, FD)
        fields = ops.accept_multishot(FD).fields
        subscription = Subscription(owner, "accept", fields, lambda res, flags: None)
        outcome = Outcome()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome.run, subscription.get)
            [request] = await in_flight(ring)
            request.on_cancel = "running"
            outcome.scope.cancel()
            await until(lambda: outcome.done)
            drained = Outcome()
            nursery.start_soon(drained.run, subscription.aclose)
            await until(lambda: request.interrupted == 1)
            drained.scope.cancel()
            nursery.cancel_scope.cancel()
            await ticks()
            assert not drained.done
            ring.complete(request, ECANCELED)
        assert drained.done
        assert subscription.op is None
        owner.close()

    scripted_run(main)
