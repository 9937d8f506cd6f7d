"""Receives in C of a socket to which much came: they try first, then wait for input without memory for it."""

from __future__ import annotations

import contextlib
import socket as stdlib
import struct
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.trio.bothways import pair, parked, same, turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MUCH = 20_000
SIZE = 65536
RESET = struct.pack("ii", 1, 0)


@contextlib.asynccontextmanager
async def flow() -> AsyncIterator[tuple[Any, Any]]:
    """Two connected sockets, the second of which has received much, three times after a wait."""
    async with pair() as (near, far):
        for _ in range(3):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(far.recv, SIZE)
                await turns()
                await near.send(bytes(MUCH))
        yield near, far


async def outcome_of(receive: Any, log: list[Any], *args: Any) -> None:
    try:
        log.append(await receive(*args))
    except (OSError, trio.ClosedResourceError, trio.BrokenResourceError) as exc:
        log.append((type(exc), str(exc)))


@pytest.mark.parametrize("sizes", [[MUCH] * 4, [MUCH, 1, MUCH, MUCH], [1, 1, MUCH]])
def test_what_arrives_is_received(sizes: list[int]) -> None:
    async def program() -> list[int]:
        log: list[Any] = []
        async with flow() as (near, far):
            for turn, size in enumerate(sizes):
                async with trio.open_nursery() as nursery:
                    if turn:
                        nursery.start_soon(outcome_of, far.recv, log, SIZE)
                        await turns()
                    else:
                        await parked(nursery, outcome_of, far.recv, log, SIZE)
                    await near.send(bytes(size))
        return [len(each) for each in log]

    assert same(program) == sizes


def test_a_stream_receives_so_too() -> None:
    async def program() -> list[Any]:
        log: list[Any] = []
        async with flow() as (near, far):
            stream = trio.SocketStream(far)
            for _ in range(4):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(outcome_of, stream.receive_some, log)
                    await turns()
                    await near.send(bytes(MUCH))
            async with trio.open_nursery() as nursery:
                await parked(nursery, outcome_of, stream.receive_some, log)
                near.close()
        return [len(each) for each in log]

    assert same(program) == [MUCH] * 4 + [0]


def test_a_cancel_leaves_what_comes_later() -> None:
    async def program() -> list[Any]:
        log: list[Any] = []
        async with flow() as (near, far):
            async with trio.open_nursery() as nursery:
                await parked(nursery, outcome_of, far.recv, log, SIZE)
                nursery.cancel_scope.cancel()
            log.append(nursery.cancel_scope.cancelled_caught)
            await near.send(b"later")
            log.append(await far.recv(SIZE))
        return log

    assert same(program) == [True, b"later"]


def test_a_close_ends_it() -> None:
    async def program() -> list[Any]:
        log: list[Any] = []
        async with flow() as (_, far), trio.open_nursery() as nursery:
            await parked(nursery, outcome_of, far.recv, log, SIZE)
            far.close()
        return log

    assert same(program) == [(trio.ClosedResourceError, "another task closed this fd")]


def test_a_close_between_the_report_and_the_receive() -> None:
    """The number may be another file's by then: nothing is received from it."""

    async def closes(waiter: stdlib.socket, far: Any) -> None:
        # It resumes in the batch in which the receive does, before or after it.
        await trio.lowlevel.wait_readable(waiter)
        far.close()

    async def program() -> set[str]:
        log: list[Any] = []
        for _ in range(20):
            async with flow() as (near, far):
                one, other = stdlib.socketpair()
                with one, other:
                    async with trio.open_nursery() as nursery:
                        await parked(nursery, outcome_of, far.recv, log, SIZE)
                        nursery.start_soon(closes, other, far)
                        await turns()
                        one.send(b"x")
                        await near.send(b"data")
        return {str(each) for each in log}

    assert same(program) == {"b'data'", "(<class 'OSError'>, '[Errno 9] Bad file descriptor')"}


def test_the_end_and_a_reset() -> None:
    async def program() -> list[Any]:
        log: list[Any] = []
        async with flow() as (near, far), trio.open_nursery() as nursery:
            await parked(nursery, outcome_of, far.recv, log, SIZE)
            near.shutdown(stdlib.SHUT_WR)
        async with flow() as (near, far), trio.open_nursery() as nursery:
            await parked(nursery, outcome_of, far.recv, log, SIZE)
            near.setsockopt(stdlib.SOL_SOCKET, stdlib.SO_LINGER, RESET)
            near.close()
        return log

    assert same(program) == [b"", (ConnectionResetError, "[Errno 104] Connection reset by peer")]


def test_another_waiter_is_refused() -> None:
    async def program() -> list[Any]:
        log: list[Any] = []
        async with flow() as (near, far), trio.open_nursery() as nursery:
            await parked(nursery, outcome_of, far.recv, log, SIZE)
            for wait in (far.recv(1), trio.lowlevel.wait_readable(far)):
                with pytest.raises(trio.BusyResourceError) as caught:
                    await wait
                log.append(str(caught.value))
            await near.send(b"data")
        return log

    busy = "another task is already reading / writing this fd"
    assert same(program) == [busy, busy, b"data"]


def test_behind_another_waiter_it_is_refused() -> None:
    async def program() -> list[Any]:
        log: list[Any] = []
        async with flow() as (near, far), trio.open_nursery() as nursery:
            nursery.start_soon(trio.lowlevel.wait_readable, far)
            await turns()
            with pytest.raises(trio.BusyResourceError) as caught:
                await far.recv(SIZE)
            log.append(str(caught.value))
            await near.send(b"data")
        return log

    assert same(program) == ["another task is already reading / writing this fd"]


def test_a_lone_urgent_byte_is_no_input() -> None:
    async def program() -> list[Any]:
        log: list[Any] = []
        async with flow() as (near, far), trio.open_nursery() as nursery:
            await parked(nursery, outcome_of, far.recv, log, SIZE)
            await near.send(b"!", stdlib.MSG_OOB)
            await turns()
            log.append(len(log))
            await near.send(b"data")
        return log

    assert same(program) == [0, b"data"]


def test_a_deadline_ends_it() -> None:
    async def program() -> list[Any]:
        log: list[Any] = []
        async with flow() as (near, far):
            with trio.move_on_after(0.05) as scope:
                await far.recv(SIZE)
            log.append(scope.cancelled_caught)
            await near.send(b"data")
            log.append(await far.recv(SIZE))
        return log

    assert same(program) == [True, b"data"]
