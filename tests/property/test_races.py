"""Races that have bitten users of io_uring, each played on the scripted ring in every order it can take."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
from functools import partial
from itertools import permutations
from time import perf_counter
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.property.support import (
    INTERNAL,
    MORE,
    NOTIF,
    RECV,
    Outcome,
    running,
    scripted_run,
    ticks,
    until,
)
from uring import abi, ops
from uring.kernel.op import Op
from uring.kernel.scripted import FAKE_FD, Request, ScriptedBuffers, ScriptedRing
from uring_trio import Lease, UringStream, perform, seams
from uring_trio.core.fd import Fd
from uring_trio.core.manager import Manager
from uring_trio.multishot.leases import Group, Groups
from uring_trio.multishot.subscription import Subscription
from uring_trio.options import RingOptions
from uring_trio.seams import waits

if TYPE_CHECKING:
    from collections.abc import Callable

FD = FAKE_FD + 1
ECANCELED, EINTR = -errno.ECANCELED, -errno.EINTR
ACCEPT = int(abi.IORING_OP_ACCEPT)
NOP = int(abi.IORING_OP_NOP)
both_orders = pytest.mark.parametrize("target_first", [False, True])


def receive() -> Op:
    return ops.recv(FD, bytearray(10))


async def in_flight(ring: ScriptedRing, fd: int = FD, number: int = 1) -> list[Request]:
    await until(lambda: len(running(ring, fd)) >= number)
    return running(ring, fd)


class Busy:
    """A run with one ``perform`` in flight."""

    def __init__(self, nursery: trio.Nursery, op: Op) -> None:
        self.outcome = Outcome()
        nursery.start_soon(self.outcome.run, perform, op)


# ---- cancelling ------------------------------------------------------------------------------------------


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


# ---- closing ---------------------------------------------------------------------------------------------


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


# ---- multishot -------------------------------------------------------------------------------------------


def listening(manager: Manager, limit: int = 256) -> Subscription:
    owner = Fd.open(manager, FD)
    return Subscription(owner, "accept", ops.accept_multishot(FD).fields, lambda res, flags: None, limit)


async def finish(subscription: Subscription) -> None:
    await subscription.aclose()
    subscription.owner.close()


@pytest.mark.parametrize("last", [7, 0, -errno.EMFILE, ECANCELED])
def test_race_13_multishot_ends_without_more(last: int) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        subscription = listening(manager)
        async with trio.open_nursery() as nursery:
            outcome = Outcome()
            nursery.start_soon(outcome.run, subscription.get)
            [first] = await in_flight(ring)
            ring.complete(first, 5, MORE)
            await until(lambda: outcome.done)
            assert outcome.value == (5, MORE)
            assert running(ring, FD) == [first]
            ring.complete(first, last)
            outcome = Outcome()
            nursery.start_soon(outcome.run, subscription.get)
            await ticks()
            if last != ECANCELED:
                assert outcome.value == (last, 0)
                outcome = Outcome()
                nursery.start_soon(outcome.run, subscription.get)
            [second] = await in_flight(ring)
            assert second is not first
            ring.complete(second, 8, MORE)
            await until(lambda: outcome.done)
            assert outcome.value == (8, MORE)
        await finish(subscription)

    scripted_run(main)


def test_race_14_rearmed_only_when_the_old_one_has_ended() -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        subscription = listening(manager, limit=2)
        async with trio.open_nursery() as nursery:
            outcome = Outcome()
            nursery.start_soon(outcome.run, subscription.get)
            [old] = await in_flight(ring)
            old.on_cancel = "running"
            for number in (1, 2, 3):
                ring.complete(old, number, MORE)
            # The queue is full: paused, but the old one has not ended yet.
            await until(lambda: old.interrupted == 1)
            assert outcome.value == (1, MORE)
            assert await subscription.get() == (2, MORE)
            assert running(ring, FD) == [old]
            ring.complete(old, ECANCELED)
            await ticks()
            assert await subscription.get() == (3, MORE)
            [new] = await in_flight(ring)
            assert new.user_data != old.user_data
            ring.complete(new, 4, MORE)
            assert await subscription.get() == (4, MORE)
        await finish(subscription)

    scripted_run(main)


def test_race_14_a_cancel_that_waited_does_not_hit_the_next_use() -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        left, right = trio.socket.socketpair()
        received = []
        scope = trio.CancelScope()

        async def receiver() -> None:
            with scope:
                received.append(await left.recv(10))
            # Room for this one comes before room for the cancel of the one before.
            ring.full = False
            received.append(await left.recv(10))

        with left, right:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receiver)
                await until(lambda: bool(receives(ring)))
                [old] = receives(ring)
                ring.full = True
                scope.cancel()
                ring.complete(old, data=b"first", posted=True)
                await until(lambda: bool(receives(ring)))
                [new] = receives(ring)
                assert new.user_data == old.user_data
                await ticks()
                assert new.interrupted == 0
                ring.complete(new, data=b"second")
            assert received == [b"first", b"second"]

    scripted_run(main)


@both_orders
def test_race_15_cancel_twice_and_cancel_after_completion(target_first: bool) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        ring.target_first = target_first
        async with trio.open_nursery() as nursery:
            busy = Busy(nursery, receive())
            [request] = await in_flight(ring)
            op = manager.table.find(request.user_data)
            assert op is not None
            busy.outcome.scope.cancel()
            manager.cancels.cancel(op)
            manager.cancels.cancel(op)
            await until(lambda: busy.outcome.done)
            assert isinstance(busy.outcome.error, trio.Cancelled)
            manager.cancels.cancel(op)
            await ticks()
            assert await perform(ops.nop()) == 0

    scripted_run(main)


@pytest.mark.parametrize("result", [5, -errno.EPIPE])
@pytest.mark.parametrize("cancelled", [False, True])
def test_race_16_zero_copy_owes_a_notification_whatever_its_result(result: int, cancelled: bool) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        send = Op("send_zero_copy", (int(abi.IORING_OP_SEND_ZC), 0, FD, 0, 0, 5, 0, 0, 0, 0), pins=object())
        async with trio.open_nursery() as nursery:
            busy = Busy(nursery, send)
            [request] = await in_flight(ring)
            request.on_cancel = "uncancellable"
            op = manager.table.find(request.user_data)
            assert op is not None
            ring.complete(request, result, MORE)
            await ticks()
            if cancelled:
                busy.outcome.scope.cancel()
                await ticks()
            assert not busy.outcome.done
            assert op.pins is send.pins
            ring.complete(request, 0, NOTIF)
            await until(lambda: busy.outcome.done)
            assert op.pins is None
            if result < 0:
                assert isinstance(busy.outcome.error, BrokenPipeError)
            else:
                assert busy.outcome.value == result

    scripted_run(main)


def test_race_16_zero_copy_that_failed_early_owes_none() -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        send = Op("send_zero_copy", (int(abi.IORING_OP_SEND_ZC), 0, FD, 0, 0, 5, 0, 0, 0, 0))
        async with trio.open_nursery() as nursery:
            busy = Busy(nursery, send)
            [request] = await in_flight(ring)
            ring.complete(request, -errno.EINVAL)
            await until(lambda: busy.outcome.done)
            assert isinstance(busy.outcome.error, OSError)

    scripted_run(main)


# ---- buffers of subscriptions ----------------------------------------------------------------------------


class Receiving:
    """A stream of a scripted run with leases of what its multishot receive brings."""

    def __init__(self, buffers: int, *, bundle: bool = False) -> None:
        self.near, far = trio.socket.socketpair()
        self.far = UringStream(far)
        self.chunks = self.far.chunks(copy=False, chunk_size=16, buffers=buffers)
        self.buffers = buffers

    async def __aenter__(self) -> Receiving:
        await self.chunks.__aenter__()
        self.group = self.chunks._subscription.group
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.chunks.__aexit__(*exc_info)
        for sock in (self.near, self.far.socket):
            sock.close()

    def armed(self, ring: ScriptedRing) -> list[Request]:
        return [request for request in running(ring, self.far.socket.fileno()) if request.multishot]

    async def get(self, ring: ScriptedRing, data: bytes) -> Lease:
        """The lease of data that arrives while the consumer waits."""
        async with trio.open_nursery() as nursery:
            outcome = Outcome()
            nursery.start_soon(outcome.run, self.chunks.__anext__)
            await until(lambda: bool(self.armed(ring)))
            ring.complete(self.armed(ring)[0], data=data, flags=MORE)
        assert isinstance(outcome.value, Lease)
        return outcome.value


@pytest.mark.parametrize("waiting", [False, True])
@pytest.mark.parametrize("buffers", [1, 2, 5])
def test_race_17_rearmed_when_a_buffer_returns(waiting: bool, buffers: int) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        async with Receiving(buffers) as stream, trio.open_nursery() as nursery:
            leases = [await stream.get(ring, b"%d" % number) for number in range(buffers)]
            outcome = Outcome()
            if waiting:
                nursery.start_soon(outcome.run, stream.chunks.__anext__)
                await ticks()
            # The kernel finds no buffer, though there may be no data either.
            ring.complete(stream.armed(ring)[0], -errno.ENOBUFS)
            await ticks(20)
            assert not stream.armed(ring), "armed again with no buffer for what it brings"
            assert not outcome.done
            leases.pop(0).release()
            if not waiting:
                nursery.start_soon(outcome.run, stream.chunks.__anext__)
            await until(lambda: bool(stream.armed(ring)))
            ring.complete(stream.armed(ring)[0], data=b"last", flags=MORE)
            await until(lambda: outcome.done)
            leases.append(outcome.value)
            assert bytes(leases[-1]) == b"last"
            for lease in leases:
                lease.release()

    scripted_run(main)


def test_race_18_one_multishot_cannot_take_every_buffer() -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        async with Receiving(3) as greedy, Receiving(2) as other:
            kept = [await greedy.get(ring, b"kept") for _ in range(3)]
            ring.complete(greedy.armed(ring)[0], data=b"no room for this")  # ENOBUFS
            await ticks()
            assert not greedy.armed(ring)
            assert greedy.group.available == 0
            # Neither the next consumer nor single receives are short of any.
            for _ in range(5):
                with await other.get(ring, b"data") as lease:
                    assert bytes(lease) == b"data"
            assert len(manager.buffers.available) == manager.buffers.in_use
            left, right = trio.socket.socketpair()
            with left, right:
                async with trio.open_nursery() as nursery:
                    outcome = Outcome()
                    nursery.start_soon(outcome.run, left.recv, 10)
                    await until(lambda: bool(running(ring, left.fileno())))
                    ring.complete(running(ring, left.fileno())[0], data=b"single")
                assert outcome.value == b"single"
            for lease in kept:
                lease.release()

    scripted_run(main)


def test_race_19_bundles_in_every_order_of_returns() -> None:
    """A bundle names its first buffer. The others are those that were given to the kernel after it, which are
    never the next numbers once buffers have come home out of turn."""
    ring: Any = ScriptedRing()
    manager = Manager.create(ring=ring, provide=ScriptedBuffers)
    explored = 0

    def explore(history: tuple[tuple[int, tuple[int, ...]], ...], rounds: int) -> None:
        nonlocal explored
        for size in range(1, 5):
            for order in permutations(range(size)):
                longer = (*history, (size, order))
                explored += 1
                play(longer)
                if rounds > 1:
                    explore(longer, rounds - 1)

    def play(history: tuple[tuple[int, tuple[int, ...]], ...]) -> None:
        buffers = ScriptedBuffers(ring, 1, 4, 8)
        group = Group(Groups(manager), buffers)
        for size, order in history:
            kernels = [buffers.fetch() for _ in range(size)]
            res = 8 * (size - 1) + 3
            flags = kernels[0] << 16 | int(abi.IORING_CQE_F_BUFFER)
            group.consume(res, flags)
            parts = group.bundle(kernels[0], res)
            assert parts == [(bid, 8) for bid in kernels[:-1]] + [(kernels[-1], 3)]
            assert group.available == 4 - size
            for place in order:
                group.recycle(parts[place][0])
            assert group.available == 4
        buffers.close()

    explore((), 3)
    assert explored > 10_000
    manager.close()


# ---- linked deadlines ------------------------------------------------------------------------------------

LINKED = RingOptions(buffers=4, buffer_size=64, deadlines="link")


def test_race_28_partial_progress_is_delivered_though_its_time_ran_out() -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        async with trio.open_nursery() as nursery:
            outcome = Outcome()
            nursery.start_soon(outcome.run, partial(perform, receive(), timeout=1000))
            [request] = await in_flight(ring)
            ring.expire(request, 5)
            await until(lambda: outcome.done)
            assert outcome.value == 5

    scripted_run(main)


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes it later than every deadline of a test, but for Trio's clock."""

    def pass_time() -> None:
        monkeypatch.setattr(waits, "perf_counter", lambda: perf_counter() + 2000)

    return pass_time


@pytest.mark.parametrize("result", [ECANCELED, EINTR, -512])
def test_time_limit_that_ran_out(result: int, late: Callable[[], None]) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        async with trio.open_nursery() as nursery:
            outcome = Outcome()
            nursery.start_soon(outcome.run, partial(perform, receive(), timeout=1000))
            [request] = await in_flight(ring)
            late()
            ring.expire(request, result)
            await until(lambda: outcome.done)
            assert isinstance(outcome.error, trio.TooSlowError)

    scripted_run(main)


@pytest.mark.parametrize("result", [ECANCELED, EINTR, -512])
def test_deadline_that_moved_after_it_was_linked(result: int, late: Callable[[], None]) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        async with trio.open_nursery() as nursery:
            outcome = Outcome()
            outcome.scope.deadline = trio.current_time() + 1000
            nursery.start_soon(outcome.run, perform, receive())
            await until(lambda: bool(receives(ring)))
            [first] = receives(ring)
            late()
            ring.expire(first, result)
            await until(lambda: bool(receives(ring)))
            [second] = receives(ring)
            assert second.timeout is not None
            op = manager.table.find(second.user_data)
            assert op is not None
            assert op.pins is not None
            ring.complete(second, 3)
            await until(lambda: outcome.done)
            assert outcome.value == 3

    scripted_run(main, options=LINKED)


@pytest.mark.parametrize("meanwhile", ["close", "recv"])
@pytest.mark.parametrize("attempt", range(6))  # tasks of one tick run in either order
def test_deadline_that_moved_and_the_operation_is_gone(
    meanwhile: str, attempt: int, late: Callable[[], None]
) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        left, right = trio.socket.socketpair()
        first, second = Outcome(), Outcome()

        async def other() -> None:
            await perform(receive())
            if meanwhile == "close":
                left.close()
            else:
                await left.recv(10)

        async with trio.open_nursery() as nursery:
            first.scope.deadline = trio.current_time() + 1000
            nursery.start_soon(first.run, left.recv, 10)
            nursery.start_soon(second.run, other)
            await until(lambda: bool(running(ring, left.fileno())) and bool(running(ring, FD)))
            late()
            ring.expire(running(ring, left.fileno())[0])
            ring.complete(running(ring, FD)[0], 1)
            if meanwhile == "close":
                await until(lambda: first.done and second.done)
                assert isinstance(first.error, trio.ClosedResourceError)
            else:
                # Whoever comes first has it.
                await until(lambda: first.done or second.done)
                loser, winner = (first, second) if first.done else (second, first)
                assert isinstance(loser.error, trio.BusyResourceError)
                await until(lambda: bool(receives(ring)))
                assert len(receives(ring)) == 1
                ring.complete(receives(ring)[0], data=b"x")
                await until(lambda: winner.done)
                assert winner.error is None
        left.close()
        right.close()

    scripted_run(main, options=LINKED)


@pytest.mark.parametrize("queued", range(4))
def test_race_27_a_pair_is_never_taken_apart(queued: int, late: Callable[[], None]) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        async with trio.open_nursery() as nursery:
            ring.held = True
            for _ in range(queued):
                ring.put(manager.cancels.user_data, NOP, 0, -1)
            ring.held = False
            outcomes = [Outcome() for _ in range(3)]
            for number, outcome in enumerate(outcomes):
                op = ops.recv(FD + number, bytearray(10))
                nursery.start_soon(outcome.run, partial(perform, op, timeout=1000))
            await until(lambda: all(running(ring, FD + number) for number in range(3)))
            for number, outcome in enumerate(outcomes):
                [request] = running(ring, FD + number)
                assert request.timeout is not None
                late()
                ring.expire(request)
                await until(lambda outcome=outcome: outcome.done)
                assert isinstance(outcome.error, trio.TooSlowError)

    scripted_run(main, ScriptedRing(entries=4))


@both_orders
def test_a_due_timer_has_the_word_before_the_cancel(target_first: bool) -> None:
    """The loop was busy until the deadline: what the kernel's timer found decides, and no cancel is sent."""

    async def main(manager: Manager, ring: ScriptedRing) -> None:
        for data, expected in ((b"in time", b"in time"), (None, None)):
            left, right = trio.socket.socketpair()
            ring.target_first = target_first
            with left, right:
                async with trio.open_nursery() as nursery:
                    outcome = Outcome()
                    outcome.scope.deadline = trio.current_time() + 0.01
                    nursery.start_soon(outcome.run, left.recv, 10)
                    await until(lambda left=left: bool(running(ring, left.fileno())))
                    [request] = running(ring, left.fileno())
                    while trio.current_time() < outcome.scope.deadline:
                        pass
                    if data is None:
                        ring.expire(request)
                    else:
                        ring.complete(request, data=data)
                    await until(lambda outcome=outcome: outcome.done)
                assert outcome.value == expected
                assert request.interrupted == 0
                assert outcome.scope.cancelled_caught == (data is None)

    scripted_run(main)


@pytest.mark.parametrize("result", [ECANCELED, EINTR, -512])
def test_what_a_due_timer_cannot_end_is_cancelled(result: int) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        async with trio.open_nursery() as nursery:
            outcome = Outcome()
            outcome.scope.deadline = trio.current_time() + 0.01
            nursery.start_soon(outcome.run, perform, receive())
            [request] = await in_flight(ring)
            assert request.timeout is not None
            request.on_cancel = "running"
            while trio.current_time() < outcome.scope.deadline:
                pass
            await until(lambda: request.interrupted == 1)
            ring.complete(request, result)
            await until(lambda: outcome.done)
            assert isinstance(outcome.error, trio.Cancelled)

    scripted_run(main)


# ---- entering --------------------------------------------------------------------------------------------


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


# ---- helpers ---------------------------------------------------------------------------------------------


def record_starts(main: Any) -> list[Request]:
    """What the kernel took during a scripted run of ``main``."""
    ring = ScriptedRing()
    seen: list[Request] = []
    ring.on_start = seen.append
    scripted_run(main, ring)
    return seen


def receives(ring: ScriptedRing) -> list[Request]:
    return [request for request in ring.running if request.opcode == RECV]


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
