"""Races of multishots, zero-copy sends and buffers, on the scripted ring in every order they can take."""

from __future__ import annotations

import errno
from itertools import permutations
from typing import Any

import pytest
import trio

from tests.property.support import (
    FD,
    MORE,
    NOTIF,
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
from uring.kernel.op import Op
from uring.kernel.scripted import Request, ScriptedBuffers, ScriptedRing
from uring_trio import Lease, UringStream, perform
from uring_trio.core.fd import Fd
from uring_trio.core.manager import Manager
from uring_trio.multishot.leases import Group, Groups
from uring_trio.multishot.subscription import Subscription

ECANCELED, EINTR = -errno.ECANCELED, -errno.EINTR


# ---- multishot --------------------------------------------------------------------------------------------


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


# ---- buffers of subscriptions -----------------------------------------------------------------------------


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


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize("grows", [False, True])
def test_a_bundle_is_told_late(order: tuple[int, ...], grows: bool) -> None:
    """The kernel has taken its buffers before others came home, and before there were more."""
    ring: Any = ScriptedRing()
    manager = Manager.create(ring=ring, provide=ScriptedBuffers)
    buffers = ScriptedBuffers(ring, 1, 8, 8, first=4)
    group = Group(Groups(manager), buffers)
    buffer = int(abi.IORING_CQE_F_BUFFER)
    for _ in range(4):
        first, second = ([buffers.fetch(), buffers.fetch()] for _ in range(2))
        group.consume(16, first[0] << 16 | buffer)
        assert group.bundle(first[0], 16) == [(bid, 8) for bid in first]
        for place in order:
            group.recycle(first[place])
        if grows:
            group.grow()
        group.consume(16, second[0] << 16 | buffer)
        assert group.bundle(second[0], 16) == [(bid, 8) for bid in second]
        for place in order:
            group.recycle(second[place])
        assert group.available == group.in_use == (8 if grows else 4)
    buffers.close()
    manager.close()
