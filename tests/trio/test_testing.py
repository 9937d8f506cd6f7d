"""``uring_trio.testing`` finds what a test of a ring program may leave behind, and nothing else."""

import os

import pytest
import trio

import uring_trio
from uring_trio.testing import assert_nothing_in_flight, in_flight, no_leaks


async def test_names_what_is_in_flight() -> None:
    assert in_flight() == {}
    near, far = trio.socket.socketpair()
    with near, far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.recv, 10)
            nursery.start_soon(far.recv, 10)
            nursery.start_soon(trio.lowlevel.wait_writable, far)
            await trio.testing.wait_all_tasks_blocked()
            assert in_flight() == {"recv": 2}
            with pytest.raises(AssertionError, match="in flight: 2 x recv"):
                assert_nothing_in_flight()
            nursery.cancel_scope.cancel()
    assert_nothing_in_flight()


async def test_counts_subscriptions() -> None:
    async with trio.open_nursery() as nursery:
        listener = await nursery.start(uring_trio.listen_tcp, "127.0.0.1", 0)
        async with listener.connections() as connections:
            nursery.start_soon(connections.__anext__)
            await trio.testing.wait_all_tasks_blocked()
            assert sum(in_flight().values()) == 1
            nursery.cancel_scope.cancel()


def test_is_for_ring_runs() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="needs a ring run"):
            assert_nothing_in_flight()

    trio.run(main)


def test_no_leaks_wants_a_ring_run() -> None:
    with pytest.raises(AssertionError, match="did not run on a ring"), no_leaks():
        trio.run(trio.sleep, 0)


def test_no_leaks_names_descriptors() -> None:
    ends: list[int] = []

    async def main() -> None:
        ends.extend(os.pipe())

    try:
        with pytest.raises(AssertionError, match=r"left open: \d+ \(pipe:.*, \d+ \(pipe:"), no_leaks():
            uring_trio.run(main)
    finally:
        for fd in ends:
            os.close(fd)


def test_no_leaks_accepts_what_is_clean() -> None:
    async def main() -> None:
        near, far = trio.socket.socketpair()
        with near, far:
            await near.send(b"x")
            assert await far.recv(1) == b"x"

    with no_leaks():
        uring_trio.run(main)
