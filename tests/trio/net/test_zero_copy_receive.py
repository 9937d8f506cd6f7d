"""Zero-copy receives of streams, over loopback: as other chunks, however they begin and end.

Before Linux 7.1 each test ends with the refusal that names the feature and the kernel.
"""

from __future__ import annotations

import errno
import os
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from tests.newer import KERNEL, since
from tests.trio.helpers import arm, first, receive_exactly, reset, streams
from uring import NotSupported
from uring_trio import OperationRestricted, RingOptions, UringStream, ZeroCopyQueue
from uring_trio.testing import assert_no_leases, leased

PAGE = 4096
without_card = since(7, 1, r"ZCRX_REG_NODEV.*Linux 7\.1")


async def send(stream: UringStream, data: bytes) -> None:
    await stream.send_all(data)
    await stream.send_eof()


async def possible() -> None:
    """Raises the refusal before anything is open."""
    async with ZeroCopyQueue(size=PAGE):
        pass


async def collect(chunks: Any) -> bytes:
    received = bytearray()
    async for lease in chunks:
        with lease:
            assert len(lease) <= PAGE
            received += lease.data
    return bytes(received)


@without_card
@pytest.mark.parametrize("size", [0, 1, PAGE, 100_000, 3_000_000])
async def test_every_byte_in_order(size: int) -> None:
    near, far = await streams()
    data = os.urandom(size)
    async with near, far, far.zero_copy_chunks() as chunks, trio.open_nursery() as nursery:
        nursery.start_soon(send, near, data)
        assert await collect(chunks) == data
        with pytest.raises(StopAsyncIteration):
            await first(chunks)


@without_card
@pytest.mark.parametrize("pages", [1, 3, 16])
async def test_memory_is_used_again(pages: int) -> None:
    near, far = await streams()
    data = os.urandom(300_000)
    async with near, far, ZeroCopyQueue(size=pages * PAGE) as queue:
        async with far.zero_copy_chunks(queue) as chunks, trio.open_nursery() as nursery:
            nursery.start_soon(send, near, data)
            assert await collect(chunks) == data
        assert_no_leases()


@without_card
async def test_two_streams_share_a_queue() -> None:
    await possible()
    pairs = [await streams() for _ in range(2)]
    texts = os.urandom(200_000), os.urandom(100_000)
    received: dict[int, bytes] = {}

    async def receive(i: int, queue: ZeroCopyQueue) -> None:
        async with pairs[i][1].zero_copy_chunks(queue) as chunks:
            received[i] = await collect(chunks)

    async with ZeroCopyQueue(size=8 * PAGE) as queue, trio.open_nursery() as nursery:
        for i in range(2):
            nursery.start_soon(receive, i, queue)
            nursery.start_soon(send, pairs[i][0], texts[i])
    for near, far in pairs:
        await near.aclose()
        await far.aclose()
    assert received == dict(enumerate(texts))


@without_card
async def test_a_consumer_that_keeps_all_memory_waits() -> None:
    near, far = await streams()
    data = os.urandom(10 * PAGE)
    async with near, far, ZeroCopyQueue(size=2 * PAGE) as queue:
        async with far.zero_copy_chunks(queue) as chunks, trio.open_nursery() as nursery:
            nursery.start_soon(send, near, data)
            kept = [await first(chunks), await first(chunks)]
            received = b"".join(bytes(lease) for lease in kept)
            assert leased() == 2
            with trio.move_on_after(0.05) as scope:
                await first(chunks)
            assert scope.cancelled_caught
            assert b"".join(bytes(lease) for lease in kept) == received
            for lease in kept:
                lease.release()
            assert received + await collect(chunks) == data


@without_card
@pytest.mark.parametrize("how", ["break", "error", "cancel"])
async def test_no_byte_is_lost_when_the_block_is_left(how: str) -> None:
    near, far = await streams()
    data = os.urandom(6 * PAGE)
    async with near, far:
        await near.send_all(data)
        seen = b""
        with trio.CancelScope() as scope:
            try:
                async with far.zero_copy_chunks() as chunks:
                    with await first(chunks) as lease:
                        seen = bytes(lease)
                    await wait_all_tasks_blocked()
                    if how == "error":
                        raise LookupError
                    if how == "cancel":
                        scope.cancel()
                        await trio.lowlevel.checkpoint()
            except LookupError:
                pass
        assert scope.cancelled_caught is (how == "cancel")
        assert seen + await receive_exactly(far, len(data) - len(seen)) == data
        await near.send_all(b"more")
        assert await far.receive_some() == b"more"


@without_card
async def test_what_chunks_left_comes_first() -> None:
    near, far = await streams()
    async with near, far:
        async with far.chunks() as chunks:
            await arm(chunks)
            await near.send_all(b"first")
            await wait_all_tasks_blocked()
        await near.send_all(b"second")
        async with far.zero_copy_chunks() as zero_copy:
            assert bytes(await first(zero_copy)) == b"first"
            with await first(zero_copy) as lease:
                assert bytes(lease) == b"second"


@without_card
async def test_a_cancelled_wait_takes_nothing() -> None:
    near, far = await streams()
    async with near, far, far.zero_copy_chunks() as chunks:
        await arm(chunks)
        await near.send_all(b"later")
        with await first(chunks) as lease:
            assert bytes(lease) == b"later"


@without_card
async def test_a_reset() -> None:
    near, far = await streams()
    async with near, far, far.zero_copy_chunks() as chunks:
        await arm(chunks)
        reset(near.socket)
        with pytest.raises(trio.BrokenResourceError):
            await first(chunks)


@without_card
@pytest.mark.parametrize("what", ["stream", "queue"])
async def test_closing_ends_the_iteration(what: str) -> None:
    await possible()
    near, far = await streams()
    ended = []

    async def receive(queue: ZeroCopyQueue) -> None:
        async with far.zero_copy_chunks(queue) as chunks:
            with pytest.raises(trio.ClosedResourceError):
                await first(chunks)
            ended.append(1)

    async with near, far, trio.open_nursery() as nursery:
        async with ZeroCopyQueue(size=PAGE) as queue:
            nursery.start_soon(receive, queue)
            await wait_all_tasks_blocked()
            if what == "stream":
                await far.aclose()
                await wait_all_tasks_blocked()
                assert ended
        with pytest.raises(trio.ClosedResourceError):
            _ = queue.feed
    assert ended


@without_card
async def test_a_closed_socket_is_closed_at_once() -> None:
    """The receive on the second ring does not keep the connection open."""
    near, far = await streams()
    async with near, far, far.zero_copy_chunks() as chunks:
        await arm(chunks)
        await far.aclose()
        with trio.fail_after(30):
            assert await near.receive_some() == b""


@without_card
async def test_leases_outlive_the_block() -> None:
    near, far = await streams()
    async with near, far:
        await near.send_all(b"kept")
        async with far.zero_copy_chunks() as chunks:
            lease = await first(chunks)
            assert leased() == 1
        assert bytes(lease) == b"kept"
        assert_no_leases()
        lease.release()


@without_card
async def test_one_receiver_at_a_time() -> None:
    near, far = await streams()
    async with near, far, far.zero_copy_chunks() as chunks:
        await arm(chunks)
        with pytest.raises(trio.BusyResourceError):
            await far.receive_some()
        with pytest.raises(trio.BusyResourceError):
            async with far.chunks():
                pass


@without_card
async def test_a_queue_opens_once() -> None:
    queue = ZeroCopyQueue(size=PAGE)
    async with queue:
        assert repr(queue) == "<ZeroCopyQueue of no card, open>"
        with pytest.raises(RuntimeError, match="entered before"):
            await queue.__aenter__()
    with pytest.raises(RuntimeError, match="entered before"):
        await queue.__aenter__()


# ---- refusals, on every kernel -----------------------------------------------------------------------------


async def test_an_older_kernel_is_named() -> None:
    near, far = await streams()
    async with near, far:
        if KERNEL < (7, 1):
            with pytest.raises(NotSupported, match=r"without a network card.*Linux 7\.1") as caught:
                async with far.zero_copy_chunks():
                    pass
            assert caught.value.needs == "Linux 7.1"
        await near.send_all(b"as before")
        assert await far.receive_some() == b"as before"


async def test_interfaces_that_cannot_do_it() -> None:
    with pytest.raises(NotSupported, match="interface 'lo', queue 0"):
        async with ZeroCopyQueue("lo"):
            pass
    with pytest.raises(OSError, match="nowhere0") as caught:
        async with ZeroCopyQueue("nowhere0", 1):
            pass
    assert caught.value.errno == errno.ENODEV


async def test_a_stream_without_tcp() -> None:
    near, far = await streams("unix")
    async with near, far:
        with pytest.raises(ValueError, match="TCP"):
            far.zero_copy_chunks()


async def test_a_queue_that_is_not_open() -> None:
    near, far = await streams()
    async with near, far:
        with pytest.raises(trio.ClosedResourceError, match="not entered"):
            async with far.zero_copy_chunks(ZeroCopyQueue()):
                pass
        await near.send_all(b"x")
        assert await far.receive_some() == b"x"


@pytest.mark.parametrize("size", [0, PAGE + 1, (1 << 30) + PAGE, -PAGE])
def test_sizes_that_cannot_be(size: int) -> None:
    with pytest.raises(ValueError):
        ZeroCopyQueue(size=size)


@pytest.mark.parametrize("arguments", [("",), (None, 1), ("lo", -1)])
def test_queues_that_cannot_be(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError):
        ZeroCopyQueue(*arguments)


def test_types() -> None:
    with pytest.raises(TypeError):
        ZeroCopyQueue(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        ZeroCopyQueue(size="4096")  # type: ignore[arg-type]


def test_restrictions_hold_for_the_second_ring() -> None:
    async def main() -> None:
        with pytest.raises(OperationRestricted, match="recv_zc"):
            async with ZeroCopyQueue():
                pass

    uring_trio.run(main, ring=RingOptions(restrictions=("read",)))


def test_outside_of_a_ring_run() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError):
            async with ZeroCopyQueue():
                pass

    trio.run(main)


@since(7, 1, r"ZCRX_REG_NODEV.*Linux 7\.1")
def test_a_run_that_ends_by_a_crash_closes_the_ring() -> None:
    """What is in flight on the second ring ends with the run."""

    async def main() -> None:
        await possible()
        near, far = await streams()
        queue = ZeroCopyQueue(size=PAGE)
        queue.open()
        async with far.zero_copy_chunks(queue) as chunks:
            await arm(chunks)
            await near.send_all(b"x")
        await near.aclose()
        await far.aclose()

    uring_trio.run(main)
