"""Any multishot operation as an iterator: its completions, its end, and how it is armed again."""

from __future__ import annotations

import os
import random
import select
import socket
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import SMALL, arm, first, pipe, statistics, streams
from uring import abi, ops
from uring_trio.core.engine import current


async def test_subscribes_to_any_multishot() -> None:
    with pipe() as (source, sink):
        async with uring_trio.subscribe(ops.poll_add_multishot(source, select.POLLIN)) as completions:
            for _ in range(3):
                os.write(sink, b"x")
                assert await first(completions) == select.POLLIN
    async with uring_trio.subscribe(ops.timeout(0.001, multishot=True, count=3)) as completions:
        assert [item async for item in completions] == [0, 0, 0]


async def test_connections_that_nobody_took_are_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        async with uring_trio.subscribe(ops.accept_multishot(listener)) as accepted:
            await arm(accepted)
            clients = [socket.create_connection(address) for _ in range(3)]
            os.close(await first(accepted))
            await wait_all_tasks_blocked()
        for client in clients:
            with client:
                client.settimeout(30)
                assert client.recv(1) == b""


async def test_an_error_is_raised_and_names_the_operation() -> None:
    with socket.socket() as not_listening:
        async with uring_trio.subscribe(ops.accept_multishot(not_listening)) as accepted:
            for _ in range(2):
                with pytest.raises(OSError, match="accept_multishot"):
                    await first(accepted)


def test_what_completes_once_is_performed() -> None:
    for op in (ops.nop(), ops.poll_add(0, 1), ops.timeout(1), ops.accept(0), ops.recv(0, bytearray(1))):
        with pytest.raises(ValueError, match="completes once"):
            uring_trio.subscribe(op)
    with pytest.raises(ValueError, match="buffers of a group"):
        uring_trio.subscribe(ops.recv_multishot(0, 1))
    with pytest.raises(TypeError):
        uring_trio.subscribe("recv")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (abi.IOSQE_CQE_SKIP_SUCCESS, "nothing would tell"),
        (abi.IOSQE_IO_LINK, "linked to the operation behind it"),
        (abi.IOSQE_IO_HARDLINK, "linked to the operation behind it"),
    ],
    ids=["skip", "link", "hardlink"],
)
async def test_neither_silent_nor_linked_to_what_others_queue(flags: int, told: str) -> None:
    with pipe() as (source, _):
        with pytest.raises(ValueError, match=told):
            async with uring_trio.subscribe(ops.poll_add_multishot(source, select.POLLIN).with_flags(flags)):
                raise AssertionError("entered")
        assert source not in current().owners


def test_needs_a_ring_run() -> None:
    async def main() -> None:
        for items in (uring_trio.ticks(1), uring_trio.poll_events(0, 1), uring_trio.read_chunks(0)):
            with pytest.raises(RuntimeError, match="ring run"):
                async with items:
                    raise AssertionError("entered")

    trio.run(main)


def test_race_13_a_multishot_that_an_overflow_ended_goes_on() -> None:
    async def main() -> None:
        near, far = await streams("unix")
        async with near, far:
            data = random.Random(13).randbytes(20_000)
            received = bytearray()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(near.send_all, data)
                async with far.chunks(chunk_size=16, buffers=500) as chunks:
                    while len(received) < len(data):
                        received += await anext(chunks)
            assert received == data
            assert statistics().overflows > 0

    uring_trio.run(main, ring=SMALL)


async def test_race_17_rearmed_when_a_buffer_returns() -> None:
    near, far = await streams("unix")
    async with near, far, far.chunks(copy=False, chunk_size=16, buffers=1) as chunks:
        for number in range(50):
            await near.send_all(b"%02d" % number)
            lease = await anext(chunks)
            assert bytes(lease) == b"%02d" % number
            await near.send_all(b"next")
            with trio.CancelScope() as scope:
                trio.lowlevel.current_trio_token().run_sync_soon(scope.cancel)
                await anext(chunks)
            assert scope.cancelled_caught, "there was no buffer"
            submitted = statistics().submitted
            for _ in range(20):
                await trio.lowlevel.checkpoint()
            assert statistics().submitted == submitted, "armed again with no buffer for what it brings"
            lease.release()
            with await anext(chunks) as lease:
                assert bytes(lease) == b"next"


async def test_race_18_one_multishot_cannot_take_every_buffer() -> None:
    greedy, to_greedy = await streams("unix")
    other, to_other = await streams("tcp")
    async with greedy, to_greedy, other, to_other:
        async with greedy.chunks(copy=False, chunk_size=16, buffers=4) as chunks, other.chunks() as others:
            await to_greedy.send_all(bytes(1000))
            kept = [await anext(chunks) for _ in range(4)]
            for number in range(50):
                await to_other.send_all(b"%d" % number)
                assert await anext(others) == b"%d" % number
                await greedy.send_all(b"%d" % number)
                assert await to_greedy.receive_some() == b"%d" % number
            for lease in kept:
                lease.release()


@pytest.mark.parametrize("bundle", [False, True])
@pytest.mark.parametrize("seed", range(5))
async def test_race_19_buffers_that_come_home_out_of_turn(bundle: bool, seed: int) -> None:
    chance = random.Random(seed)
    data = chance.randbytes(30_000)
    near, far = await streams("unix")
    received = bytearray()
    kept: list[Any] = []
    async with near, far, trio.open_nursery() as nursery:

        async def send() -> None:
            at = 0
            while at < len(data):
                size = chance.randrange(1, 100)
                await near.send_all(data[at : at + size])
                at += size
                for _ in range(chance.randrange(3)):
                    await trio.lowlevel.checkpoint()

        nursery.start_soon(send)
        async with far.chunks(copy=False, bundle=bundle, chunk_size=16, buffers=7) as chunks:
            while len(received) < len(data):
                lease = await anext(chunks)
                received += lease.data
                kept.append((lease, bytes(lease)))
                while len(kept) == 7 or (kept and chance.random() < 0.7):
                    lease, content = kept.pop(chance.randrange(len(kept)))
                    assert bytes(lease) == content, "the kernel wrote into memory that is on loan"
                    lease.release()
        for lease, _ in kept:
            lease.release()
    assert received == data
