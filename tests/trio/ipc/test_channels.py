"""Channels between ring runs in different threads, and futexes between processes."""

import contextlib
import functools
import mmap
import os
import threading

import pytest
import trio
import trio.testing

import uring_trio

PATIENCE = 60


def two_runs(one, other):
    """Runs an async function on a ring in a thread of its own, beside another in this one."""
    failures = []

    def run_one():
        try:
            uring_trio.run(limited, one)
        except BaseException as exc:
            failures.append(exc)

    async def limited(fn):
        with trio.fail_after(PATIENCE):
            await fn()

    thread = threading.Thread(target=run_one)
    thread.start()
    try:
        uring_trio.run(limited, other)
    finally:
        thread.join(PATIENCE)
    assert not thread.is_alive()
    assert not failures, failures


@pytest.mark.parametrize("capacity", [1, 7, 100])
def test_every_value_arrives_in_order(capacity):
    sender, receiver = uring_trio.open_ring_channel(capacity)
    received = []

    async def send():
        for i in range(2000):
            await sender.send(i)
        await sender.aclose()

    async def receive():
        async for value in receiver:
            received.append(value)
        await receiver.aclose()

    two_runs(send, receive)
    assert received == list(range(2000))


def test_closing_the_receiver_wakes_a_waiting_sender():
    sender, receiver = uring_trio.open_ring_channel(1)
    full = threading.Event()

    async def send():
        await sender.send(1)
        full.set()
        with pytest.raises(trio.BrokenResourceError):
            await sender.send(2)
        sender.close()

    async def receive():
        await trio.to_thread.run_sync(full.wait, PATIENCE)
        receiver.close()
        with pytest.raises(trio.ClosedResourceError):
            await receiver.receive()

    two_runs(send, receive)


def test_closing_the_sender_wakes_a_waiting_receiver():
    sender, receiver = uring_trio.open_ring_channel(1)
    waiting = threading.Event()

    async def send():
        await trio.to_thread.run_sync(waiting.wait, PATIENCE)
        sender.close()
        with pytest.raises(trio.ClosedResourceError):
            await sender.send(1)

    async def receive():
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def _():
                with pytest.raises(trio.EndOfChannel):
                    await receiver.receive()

            await trio.testing.wait_all_tasks_blocked()
            waiting.set()
        receiver.close()

    two_runs(send, receive)


def test_a_cancelled_side_takes_and_passes_nothing():
    sender, receiver = uring_trio.open_ring_channel(1)

    async def main():
        with trio.move_on_after(0.01) as scope:
            await receiver.receive()
        assert scope.cancelled_caught
        await sender.send("first")
        with trio.move_on_after(0.01) as scope:
            await sender.send("second")
        assert scope.cancelled_caught
        assert await receiver.receive() == "first"
        await sender.send("third")
        assert await receiver.receive() == "third"
        with trio.CancelScope() as scope:
            scope.cancel()
            await sender.send("never")
        with trio.move_on_after(0.01) as scope:
            await receiver.receive()
        assert scope.cancelled_caught
        sender.close()
        receiver.close()

    uring_trio.run(main)


def test_one_task_on_each_side_of_one_run():
    sender, receiver = uring_trio.open_ring_channel(1)

    async def main():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receiver.receive)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await receiver.receive()
            await sender.send(1)

    uring_trio.run(main)

    async def later():
        with pytest.raises(RuntimeError, match="another run"):
            await receiver.receive()

    uring_trio.run(later)
    sender.close()
    receiver.close()


class Crash(Exception):
    """What a run ends with, and a thread with it."""


@pytest.mark.parametrize("waiting", [True, False])
@pytest.mark.parametrize("end", ["return", "crash"])
def test_a_run_that_is_over_breaks_the_sender(end, waiting):
    sender, receiver = uring_trio.open_ring_channel(1)
    over = threading.Event()

    async def receive():
        try:
            assert await receiver.receive() == 0
            if waiting:
                await trio.sleep(0)
            if end == "crash":
                raise Crash
        finally:
            over.set()

    async def crashing():
        with pytest.raises(Crash) if end == "crash" else contextlib.nullcontext():
            await receive()

    async def send():
        await sender.send(0)
        if not waiting:
            await trio.to_thread.run_sync(over.wait)
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await sender.send(1)
        with pytest.raises(trio.BrokenResourceError):
            await sender.send(2)

    two_runs(crashing, send)


@pytest.mark.parametrize("waiting", [True, False])
def test_a_run_that_is_over_ends_what_it_sent(waiting):
    sender, receiver = uring_trio.open_ring_channel(3)
    over = threading.Event()

    async def send():
        for i in range(3):
            await sender.send(i)
        if waiting:
            # The receiver has them all by then.
            await sender.send(3)
        over.set()

    async def receive():
        if not waiting:
            over.wait(PATIENCE)
        assert [value async for value in receiver] == list(range(4 if waiting else 3))
        with pytest.raises(trio.EndOfChannel):
            await receiver.receive()

    two_runs(send, receive)


def test_an_end_that_nobody_has_is_closed():
    async def main():
        for forget in ("sender", "receiver"):
            sender, receiver = uring_trio.open_ring_channel(1)
            await sender.send(1)
            async with trio.open_nursery() as nursery:
                if forget == "sender":
                    assert await receiver.receive() == 1
                    nursery.start_soon(ends, receiver.receive, trio.EndOfChannel)
                    await trio.testing.wait_all_tasks_blocked()
                    del sender
                else:
                    nursery.start_soon(ends, functools.partial(sender.send, 2), trio.BrokenResourceError)
                    await trio.testing.wait_all_tasks_blocked()
                    del receiver

    async def ends(call, error):
        with trio.fail_after(PATIENCE), pytest.raises(error):
            await call()

    uring_trio.run(main)


@pytest.mark.parametrize("bad", [0, -1])
def test_a_capacity_below_one_is_refused(bad):
    with pytest.raises(ValueError, match="capacity"):
        uring_trio.open_ring_channel(bad)


def test_a_futex_between_processes():
    async def in_child(shared):
        with trio.fail_after(PATIENCE):
            while not await uring_trio.futex_wake(shared, 1):
                await trio.sleep(0.005)

    async def in_parent(shared):
        with trio.fail_after(PATIENCE):
            assert await uring_trio.futex_wait(shared, 0)
        assert not await uring_trio.futex_wait(shared, 7)

    with mmap.mmap(-1, 4096) as shared:
        child = os.fork()
        if child == 0:
            status = 1
            try:
                uring_trio.run(in_child, shared)
                status = 0
            finally:
                os._exit(status)
        uring_trio.run(in_parent, shared)
        _, status = os.waitpid(child, 0)
        assert status == 0


def test_a_cancelled_futex_wait_ends():
    async def main():
        with mmap.mmap(-1, 4096) as shared:
            with trio.move_on_after(0.02) as scope:
                await uring_trio.futex_wait(shared, 0)
            assert scope.cancelled_caught
            assert await uring_trio.futex_wake(shared, 1) == 0

    uring_trio.run(main)
