"""Deadlines: what the loop missed while it was busy, and limits that the kernel holds."""

import errno
import time

import pytest
import trio
import trio.testing

import uring_trio
from uring import ops

ROUNDS = 25


def busy_loop(arrives, **options):
    """A receive under a deadline, a byte that arrives before or after it, and the loop blocked throughout.

    Returns (received, was the scope cancelled, what is still in the socket), or None if the machine was so
    busy that the byte was sent after the deadline though it should have come before.
    """

    async def main():
        near, far = trio.socket.socketpair()
        outcome = {"received": b""}
        scope = trio.CancelScope(deadline=trio.current_time() + 0.05)

        async def receive():
            with scope:
                outcome["received"] = await far.recv(100)

        with near, far:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                await trio.testing.wait_all_tasks_blocked()
                if arrives == "before":
                    near._sock.send(b"x")
                    outcome["in_time"] = trio.current_time() < scope.deadline
                while trio.current_time() < scope.deadline + 0.005:
                    time.sleep(0.001)
                if arrives == "after":
                    near._sock.send(b"x")
            try:
                left = far._sock.recv(100)
            except BlockingIOError:
                left = b""
        if not outcome.get("in_time", True):
            return None
        return outcome["received"], scope.cancelled_caught, left

    return uring_trio.run(main, ring=uring_trio.RingOptions(**options))


@pytest.mark.parametrize("deadlines", ["auto", "cancel", "link"])
def test_data_after_the_deadline_stays_in_the_socket_though_the_loop_was_busy(deadlines):
    for _ in range(ROUNDS):
        assert busy_loop("after", deadlines=deadlines) == (b"", True, b"x")


def test_a_linked_deadline_delivers_what_came_before_it():
    outcomes = [busy_loop("before", deadlines="link") for _ in range(ROUNDS)]
    assert set(outcomes) - {None} == {(b"x", False, b"")}


def test_a_due_deadline_cannot_keep_the_ring_from_being_entered():
    async def main():
        near, far = trio.socket.socketpair()
        with near, far:

            async def restless():
                while True:
                    with trio.move_on_after(0):
                        await trio.sleep_forever()

            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(restless)
                with trio.fail_after(5):
                    for _ in range(20):
                        await near.send(b"x")
                        assert await far.recv(1) == b"x"
                nursery.cancel_scope.cancel()

    uring_trio.run(main)


@pytest.mark.parametrize("change", ["moved", "shielded"])
def test_an_operation_goes_on_when_its_deadline_is_moved_or_shielded(change):
    async def main():
        near, far = trio.socket.socketpair()
        with near, far:
            received = []

            async def receive():
                with (
                    trio.CancelScope(deadline=trio.current_time() + 0.02) as outer,
                    trio.CancelScope() as inner,
                ):
                    scopes.extend((outer, inner))
                    received.append(await far.recv(10))

            scopes = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive)
                await trio.testing.wait_all_tasks_blocked()
                if change == "moved":
                    scopes[0].deadline = trio.current_time() + 30
                else:
                    scopes[1].shield = True
                await trio.sleep(0.05)
                await near.send(b"late")
            assert received == [b"late"]

    uring_trio.run(main, ring=uring_trio.RingOptions(deadlines="link"))


def test_under_a_mock_clock_deadlines_are_trios_own():
    async def main():
        near, far = trio.socket.socketpair()
        with near, far:
            with trio.move_on_after(1000) as scope:
                await far.recv(1)
            assert scope.cancelled_caught

    uring_trio.run(
        main,
        ring=uring_trio.RingOptions(deadlines="link"),
        clock=trio.testing.MockClock(autojump_threshold=0),
    )


async def pair():
    near, far = trio.socket.socketpair()
    return uring_trio.UringStream(near), uring_trio.UringStream(far)


def test_timeout_of_a_receive_leaves_later_data_in_the_socket():
    async def main():
        near, far = await pair()
        async with near, far:
            with pytest.raises(trio.TooSlowError):
                await far.receive_some(timeout=0.01)
            await near.send_all(b"late")
            assert await far.receive_some(timeout=5) == b"late"
            statistics = trio.lowlevel.current_statistics().io_statistics
            assert statistics.in_flight == {"wait_readable": 1}

    uring_trio.run(main)


def test_timeout_of_a_send_that_nobody_reads():
    async def main():
        near, far = await pair()
        async with near, far:
            with pytest.raises(trio.TooSlowError):
                await near.send_all(bytes(1 << 22), timeout=0.02)

    uring_trio.run(main)


def test_timeout_of_one_operation():
    async def main():
        near, far = trio.socket.socketpair()
        with near, far:
            with pytest.raises(trio.TooSlowError):
                await uring_trio.perform(ops.recv(far.fileno(), bytearray(1)), timeout=0.01)
            await near.send(b"x")
            buffer = bytearray(1)
            assert await uring_trio.perform(ops.recv(far.fileno(), buffer), timeout=5) == 1
            assert buffer == b"x"
            with pytest.raises(OSError, match="Bad file descriptor") as caught:
                await uring_trio.perform(ops.close(1 << 20), timeout=1)
            assert caught.value.errno == errno.EBADF

    uring_trio.run(main)


def test_a_scopes_cancel_beats_the_timeout():
    async def main():
        near, far = await pair()
        async with near, far:
            with trio.move_on_after(0.01) as scope:
                await far.receive_some(timeout=30)
            assert scope.cancelled_caught

    uring_trio.run(main)


@pytest.mark.parametrize("bad", [-1, float("nan")])
def test_a_negative_timeout_is_refused_before_anything_is_queued(bad):
    async def main():
        near, far = await pair()
        async with near, far:
            for call in (
                lambda: far.receive_some(timeout=bad),
                lambda: near.send_all(b"x", timeout=bad),
                lambda: uring_trio.perform(ops.nop(), timeout=bad),
            ):
                before = trio.lowlevel.current_statistics().io_statistics.submitted
                with pytest.raises(ValueError, match="timeout"):
                    await call()
                assert trio.lowlevel.current_statistics().io_statistics.submitted == before

    uring_trio.run(main)
