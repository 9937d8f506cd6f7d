"""Buffers serve one consumer after the other, and none of them ever shows bytes of another."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING, Any

import pytest
import trio

import uring_trio
from uring_trio import RegisteredBuffers, RingOptions, UringStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

SMALL = RingOptions(buffers=4, buffer_size=4096)
CONSUMERS = 24


async def plain(stream: UringStream, rng: random.Random) -> AsyncIterator[bytes]:
    while data := await stream.receive_some(rng.choice((1, 100, 5000))):
        yield data


async def copies(stream: UringStream, rng: random.Random) -> AsyncIterator[bytes]:
    async with stream.chunks(chunk_size=4096, buffers=4) as chunks:
        async for data in chunks:
            yield data


async def leases(stream: UringStream, rng: random.Random) -> AsyncIterator[bytes]:
    async with stream.chunks(copy=False, chunk_size=4096, buffers=4, bundle=rng.random() < 0.5) as chunks:
        kept = []
        async for lease in chunks:
            kept.append(lease)
            if len(kept) == 3 or rng.random() < 0.5:
                for each in kept:
                    yield bytes(each)
                    each.release()
                kept.clear()
        for each in kept:
            yield bytes(each)
            each.release()


async def into(stream: UringStream, rng: random.Random) -> AsyncIterator[bytes]:
    memory = bytearray(3000)
    while n := await stream.receive_into(memory):
        yield bytes(memory[:n])


async def consumer(receive: Callable[..., AsyncIterator[bytes]], mark: int, seed: int) -> None:
    """Every byte that one of the consumers gets has its mark."""
    rng = random.Random(seed)
    near, far = trio.socket.socketpair()
    size = rng.choice((1, 300, 4096, 60_000))
    async with UringStream(near) as sender, UringStream(far) as stream, trio.open_nursery() as nursery:

        async def send() -> None:
            left = size
            while left:
                part = min(left, rng.choice((1, 100, 4096, 9000)))
                await sender.send_all(bytes((mark,)) * part)
                left -= part
                await trio.sleep(0)
            await sender.send_eof()

        nursery.start_soon(send)
        got = 0
        async for data in receive(stream, rng):
            assert data == bytes((mark,)) * len(data), "bytes of another connection"
            got += len(data)
        assert got == size


@pytest.mark.parametrize("receive", [plain, copies, leases, into])
def test_a_consumer_gets_its_own_bytes_alone(receive: Callable[..., AsyncIterator[bytes]]) -> None:
    async def main() -> None:
        for turn in range(4):
            async with trio.open_nursery() as nursery:
                for number in range(CONSUMERS):
                    mark = 1 + turn * CONSUMERS + number
                    nursery.start_soon(consumer, receive, mark, mark)

    uring_trio.run(main, ring=SMALL)


def test_a_pipe_shows_what_arrived_alone() -> None:
    async def main() -> None:
        for mark, size in ((b"s", 4096), (b"p", 3), (b"q", 100)):
            done: Any = await trio.run_process(
                ["head", "-c", str(size)], stdin=mark * size, capture_stdout=True
            )
            assert done.stdout == mark * size

    uring_trio.run(main, ring=SMALL)


def test_a_lease_is_as_long_as_what_arrived_and_ends_with_its_release() -> None:
    async def one(data: bytes) -> None:
        near, far = trio.socket.socketpair()
        async with UringStream(near) as sender, UringStream(far) as stream:
            await sender.send_all(data)
            async with stream.chunks(copy=False, chunk_size=4096, buffers=1) as chunks:
                lease = await chunks.__anext__()
                assert lease.data.nbytes == len(data)
                assert bytes(lease) == data
                lease.release()
                with pytest.raises(ValueError, match="given back"):
                    lease.data  # noqa: B018

    async def main() -> None:
        await one(b"secret" * 600)
        await one(b"public")  # in the same memory

    uring_trio.run(main)


@pytest.mark.parametrize("forgotten", [False, True])
def test_a_registered_buffer_comes_back_empty(tmp_path: Path, forgotten: bool) -> None:
    path = tmp_path / "secret"
    path.write_bytes(os.urandom(8192))

    async def main() -> None:
        with RegisteredBuffers(1, 8192) as pool:
            async with await uring_trio.open_file(path, "rb", buffering=0) as file:
                buffer: Any = await pool.borrow()
                assert await file.readinto_at(buffer, 0) == 8192
                assert bytes(buffer) == path.read_bytes()
                if forgotten:
                    with pytest.warns(ResourceWarning, match="was not released"):
                        del buffer
                    await trio.testing.wait_all_tasks_blocked()
                else:
                    buffer.release()
            with await pool.borrow() as again:
                assert bytes(again) == bytes(8192)

    uring_trio.run(main)


def test_clearing_may_be_left_out() -> None:
    async def main() -> None:
        with RegisteredBuffers(1, 4096, clear=False) as pool:
            with await pool.borrow() as buffer:
                buffer.data[:5] = b"known"
            with await pool.borrow() as buffer:
                assert bytes(buffer[:5]) == b"known"

    uring_trio.run(main)
