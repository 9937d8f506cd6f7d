"""Deadlines: what the loop missed while it was busy, and limits that the kernel holds.

A loop that is busy at the wrong moment is tried ``DEADLINE_ROUNDS`` times. The deadline is at 50 ms, data
comes at 20 or 100 ms, the loop is blocked for 200 ms; all of it times ``DEADLINE_SCALE``.
"""

import errno
import math
import os
import time

import pytest
import trio
import trio.testing

import uring_trio
from tests.trio.helpers import buffers_out, statistics, streams
from uring import ops
from uring.abi import IOSQE_ASYNC
from uring_trio.core import deadlines as core_deadlines

ROUNDS = int(os.environ.get("DEADLINE_ROUNDS", "25"))
SCALE = float(os.environ.get("DEADLINE_SCALE", "0.1"))
DEADLINE, EARLY, LATE, BLOCKED = (milliseconds / 1000 * SCALE for milliseconds in (50, 20, 100, 200))


def busy_loop(arrives, deadlines, slower=1.0):
    """A receive under a deadline, a byte that arrives before or after it, and the loop blocked throughout;
    ``slower`` multiplies all times.

    Returns (received, was the scope cancelled, what is still in the socket), or None if the machine was so
    busy that the byte was sent after the deadline though it should have come before.
    """

    async def main():
        near, far = trio.socket.socketpair()
        outcome = {"received": b""}

        def block_until(moment):
            while (left := moment - trio.current_time()) > 0:
                time.sleep(left)

        async def receive():
            with scope:
                outcome["received"] = await far.recv(100)

        with near, far:
            async with trio.open_nursery() as nursery:
                start = trio.current_time()
                scope = trio.CancelScope(deadline=start + DEADLINE * slower)
                nursery.start_soon(receive)
                await trio.testing.wait_all_tasks_blocked()
                block_until(start + (EARLY if arrives == "before" else LATE) * slower)
                in_time = trio.current_time() < scope.deadline
                near._sock.send(b"x")
                in_time = in_time and trio.current_time() < scope.deadline
                block_until(start + BLOCKED * slower)
            try:
                left = far._sock.recv(100)
            except BlockingIOError:
                left = b""
        if arrives == "before" and not in_time:
            return None
        return outcome["received"], scope.cancelled_caught, left

    return uring_trio.run(main, ring=uring_trio.RingOptions(deadlines=deadlines))


@pytest.mark.parametrize("deadlines", ["auto", "cancel", "link"])
def test_busy_loop_leaves_data_after_the_deadline_in_the_socket(deadlines):
    for _ in range(ROUNDS):
        assert busy_loop("after", deadlines) == (b"", True, b"x")


@pytest.mark.parametrize("deadlines", ["auto", "link"])
def test_busy_loop_delivers_data_before_a_deadline_of_the_kernels(deadlines):
    assert before_the_deadline(deadlines) == {(b"x", False, b"")}


def test_busy_loop_leaves_data_before_trios_own_deadline_in_the_socket():
    assert before_the_deadline("cancel") == {(b"", True, b"x")}


def before_the_deadline(deadlines):
    """What comes of many rounds in which the byte came in time, slower ones where this machine is busy."""
    outcomes, slower = [], 1.0
    while len(outcomes) < ROUNDS or set(outcomes) == {None}:
        outcomes.append(busy_loop("before", deadlines, slower))
        if outcomes[-1] is None:
            slower *= 1.2
    return set(outcomes) - {None}


@pytest.mark.parametrize(
    ("deadlines", "seconds", "linked"),
    [
        ("auto", 50, True),
        ("auto", 200, False),
        ("link", 200, True),
        ("link", math.inf, False),
        ("cancel", 50, False),
    ],
)
def test_which_deadlines_are_the_kernels(deadlines, seconds, linked, monkeypatch):
    monkeypatch.setattr(core_deadlines, "NEAR", 100)

    async def main():
        near, far = trio.socket.socketpair()
        with near, far:

            async def receive():
                with trio.move_on_after(seconds):
                    assert await far.recv(10) == b"x"

            async def other():
                with trio.move_on_after(25):
                    await trio.sleep_forever()

            async with trio.open_nursery() as nursery:
                # Another task's deadline, however near, is not this one's.
                nursery.start_soon(other)
                await trio.testing.wait_all_tasks_blocked()
                before = statistics().submitted
                nursery.start_soon(receive)
                await trio.testing.wait_all_tasks_blocked()
                submitted = statistics().submitted - before
                await near.send(b"x")
                nursery.cancel_scope.cancel()
        return submitted

    assert uring_trio.run(main, ring=uring_trio.RingOptions(deadlines=deadlines)) == 1 + linked


def test_a_worker_s_operation_is_cancelled_by_trio_s_timer_though_the_kernel_s_was_linked(tmp_path):
    """The kernel arms the timer of what it gives to a worker when that comes back, which is too late."""
    path = tmp_path / "fifo"
    os.mkfifo(path)

    async def main():
        with trio.move_on_after(0.05) as scope:
            # Opening a FIFO that nobody writes to waits in a worker.
            await uring_trio.perform(ops.openat(str(path), os.O_RDONLY).with_flags(IOSQE_ASYNC))
        assert scope.cancelled_caught

    uring_trio.run(main)


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
                with trio.fail_after(30):
                    for _ in range(20):
                        await near.send(b"x")
                        assert await far.recv(1) == b"x"
                nursery.cancel_scope.cancel()

    uring_trio.run(main)


@pytest.mark.parametrize("change", ["moved", "shielded"])
def test_an_operation_goes_on_when_its_deadline_is_moved_or_shielded(change):
    async def round(seconds):
        """Whether the deadline was changed before it passed."""
        near, far = trio.socket.socketpair()
        with near, far:
            received = []

            async def receive():
                with outer, inner:
                    received.append(await far.recv(10))

            async with trio.open_nursery() as nursery:
                fires = trio.current_time() + seconds
                outer, inner = trio.CancelScope(deadline=fires), trio.CancelScope()
                nursery.start_soon(receive)
                await trio.testing.wait_all_tasks_blocked()
                if change == "moved":
                    outer.deadline = math.inf
                else:
                    inner.shield = True
                in_time = trio.current_time() < fires and not received
                await trio.sleep_until(fires + 0.01)
                await near.send(b"late")
            assert not in_time or received == [b"late"]
            return in_time

    async def main():
        seconds = 0.02
        while not await round(seconds):
            seconds *= 2

    uring_trio.run(main, ring=uring_trio.RingOptions(deadlines="link"))


def test_an_operation_goes_on_as_it_was_queued():
    """Others set the socket's operation up for a receive of theirs, just when this one is to go on, and are
    cancelled before they queue it."""

    async def round():
        near, far = trio.socket.socketpair()
        memory = bytearray(10)
        received = []

        async def receive():
            with scope:
                received.append(await far.recv_into(memory))
            nursery.cancel_scope.cancel()

        async def interfere():
            while True:
                with trio.CancelScope() as own:
                    own.cancel()
                    try:
                        await far.recv(1)
                    except trio.BusyResourceError:
                        await trio.lowlevel.cancel_shielded_checkpoint()
                await trio.lowlevel.checkpoint()

        with near, far:
            async with trio.open_nursery() as nursery:
                scope = trio.CancelScope(deadline=trio.current_time() + 0.02)
                nursery.start_soon(receive)
                await trio.testing.wait_all_tasks_blocked()
                fires, scope.deadline = scope.deadline, math.inf
                for _ in range(4):  # one of them runs before the receive does, almost always
                    nursery.start_soon(interfere)
                await trio.sleep_until(fires + 0.01)
                await near.send(b"late")
            if not scope.cancelled_caught:  # else this machine was too slow to move the deadline
                assert received == [4]
                assert memory[:4] == b"late"

    async def main():
        for _ in range(10):
            await round()
        assert buffers_out() == 0

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
            assert await far.receive_some(timeout=30) == b"late"
            statistics = trio.lowlevel.current_statistics().io_statistics
            assert statistics.in_flight == {"wait_readable": 1}

    uring_trio.run(main)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
async def test_timeout_of_a_send_that_nobody_reads(kind):
    near, far = await streams(kind)
    async with near, far:
        with pytest.raises(trio.TooSlowError):
            await near.send_all(bytes(1 << 24), timeout=0.02)
        assert await far.receive_some() == bytes(65536)


async def test_timeouts_of_receives():
    near, far = await streams()
    async with near, far, await uring_trio.open_udp(("127.0.0.1", 0)) as udp:
        memory = bytearray(10)
        for receive in (
            lambda seconds: far.receive_some(10, timeout=seconds),
            lambda seconds: far.receive_into(memory, timeout=seconds),
        ):
            with pytest.raises(trio.TooSlowError):
                await receive(0.01)
            await near.send_all(b"late")
            assert await receive(5) in (b"late", 4)
        assert memory[:4] == b"late"
        with pytest.raises(trio.TooSlowError):
            await udp.receive(timeout=0.01)
        await udp.send_to(b"late", udp.address)
        assert (await udp.receive(timeout=30)).data == b"late"


def test_timeout_of_one_operation():
    async def main():
        near, far = trio.socket.socketpair()
        with near, far:
            with pytest.raises(trio.TooSlowError):
                await uring_trio.perform(ops.recv(far.fileno(), bytearray(1)), timeout=0.01)
            await near.send(b"x")
            buffer = bytearray(1)
            assert await uring_trio.perform(ops.recv(far.fileno(), buffer), timeout=30) == 1
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
                lambda: far.receive_into(bytearray(1), timeout=bad),
                lambda: near.send_all(b"x", timeout=bad),
                lambda: uring_trio.perform(ops.nop(), timeout=bad),
            ):
                before = trio.lowlevel.current_statistics().io_statistics.submitted
                with pytest.raises(ValueError, match="timeout"):
                    await call()
                assert trio.lowlevel.current_statistics().io_statistics.submitted == before

    uring_trio.run(main)


@pytest.mark.parametrize("deadlines", ["auto", "cancel", "link"])
@pytest.mark.parametrize("call", ["perform", "receive_into", "recv_into"])
@pytest.mark.parametrize("blocked", [False, True])
def test_a_deadline_that_passed_lets_go_of_the_buffer(call, deadlines, blocked):
    # Also while the exception, whose traceback has the frames of the call, is still there.
    async def main():
        near, far = await streams()
        memory = bytearray(10)
        calls = {
            "perform": lambda: uring_trio.perform(ops.recv(far.socket.fileno(), memory)),
            "receive_into": lambda: far.receive_into(memory),
            "recv_into": lambda: far.socket.recv_into(memory),
        }
        async with near, far:
            with trio.move_on_after(0.01) as scope:
                if blocked:
                    trio.lowlevel.current_trio_token().run_sync_soon(time.sleep, 0.02)
                with pytest.raises(trio.Cancelled) as caught:
                    await calls[call]()
                memory.clear()
                raise caught.value
            assert scope.cancelled_caught

    uring_trio.run(main, ring=uring_trio.RingOptions(deadlines=deadlines))
