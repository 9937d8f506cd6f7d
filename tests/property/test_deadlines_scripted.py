"""Races of linked deadlines with completions, on the scripted ring in every order they can take."""

from __future__ import annotations

import errno
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

import pytest
import trio

from tests.property.support import (
    FD,
    NOP,
    Outcome,
    both_orders,
    in_flight,
    receive,
    receives,
    running,
    scripted_run,
    until,
)
from uring import ops
from uring.kernel.scripted import ScriptedRing
from uring_trio import perform
from uring_trio.options import RingOptions
from uring_trio.seams import waits

if TYPE_CHECKING:
    from collections.abc import Callable

    from uring_trio.core.manager import Manager

ECANCELED, EINTR = -errno.ECANCELED, -errno.EINTR

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
                # The first of them gets it.
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
                    for seconds in (0.09, 0.093, 0.096, 0.099):  # on a busy machine the first may pass before
                        outcome = Outcome()
                        outcome.scope.deadline = trio.current_time() + seconds
                        nursery.start_soon(outcome.run, left.recv, 10)
                        await until(lambda: outcome.done or bool(running(ring, left.fileno())))
                        if not outcome.done:
                            break
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
            outcome.scope.deadline = trio.current_time() + 0.09
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
