"""Trio's pipes on the ring: they behave as on stock Trio, and what they do is done by operations."""

from __future__ import annotations

import errno
import fcntl
import os
import random
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.lowlevel import FdStream
from trio.testing import check_half_closeable_stream, check_one_way_stream, wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import fill_pipe, in_flight
from uring_trio.ipc.pipes import RingPipe

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


async def pipe() -> tuple[RingPipe, RingPipe]:
    """The end to send to and the end to receive from."""
    source, sink = os.pipe()
    return RingPipe(sink), RingPipe(source)


async def full_pipe() -> tuple[RingPipe, RingPipe]:
    sink, source = await pipe()
    fill_pipe(sink.fileno())
    return sink, source


# ---- streams ----------------------------------------------------------------------------------------------


async def test_keeps_what_trio_promises() -> None:
    await check_one_way_stream(pipe, full_pipe)


async def test_stapled() -> None:
    async def pair() -> tuple[Any, Any]:
        (sink, far_source), (far_sink, source) = await pipe(), await pipe()
        return trio.StapledStream(sink, source), trio.StapledStream(far_sink, far_source)

    await check_half_closeable_stream(pair, None)


async def test_a_cancelled_receive_after_much_data_has_no_context() -> None:
    sink, source = await pipe()
    async with sink, source:
        os.write(sink.fileno(), bytes(65536))
        assert len(await source.receive_some()) == 65536
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(later, scope.cancel)
                with pytest.raises(trio.Cancelled) as caught:
                    await source.receive_some()
                assert caught.value.__context__ is None
                raise caught.value


async def later(call: Any) -> None:
    await wait_all_tasks_blocked()
    call()


async def test_is_a_stream_of_trios() -> None:
    sink, source = await pipe()
    async with sink, source:
        assert isinstance(sink, FdStream)
        assert os.get_blocking(source.fileno()) is False
    assert sink.fileno() == -1


async def test_waits_by_operations() -> None:
    sink, source = await full_pipe()
    room = fcntl.fcntl(sink.fileno(), fcntl.F_GETPIPE_SZ)
    async with sink, source, trio.open_nursery() as nursery:
        nursery.start_soon(sink.send_all, b"x" * 10)
        await wait_all_tasks_blocked()
        assert in_flight() == {"write": 1}
        received = 0
        while received < room + 10:
            received += len(await source.receive_some())
        nursery.start_soon(source.receive_some, 5)
        await wait_all_tasks_blocked()
        assert in_flight() == {"read": 1}
        await sink.send_all(b"y")


async def test_a_waiting_read_holds_no_memory() -> None:
    sink, source = await pipe()
    async with sink, source, trio.open_nursery() as nursery:
        nursery.start_soon(source.receive_some)
        await wait_all_tasks_blocked()
        assert not any(op.pins for op in uring_trio.core.engine.current().table.taken())
        await sink.send_all(b"x")


@pytest.mark.parametrize("size", [1, 2, 4096, 4097, 65536, 65537, 3 * MIB + 1])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
async def test_all_sizes_arrive(size: int, kind: Any) -> None:
    data = random.randbytes(size)
    sink, source = await pipe()
    found = bytearray()
    async with source, trio.open_nursery() as nursery:
        nursery.start_soon(send_and_close, sink, kind(data))
        while part := await source.receive_some(random.choice([None, 1, 2, 1000, 100_000])):
            found += part
    assert found == data


async def send_and_close(sink: RingPipe, data: Any) -> None:
    async with sink:
        await sink.send_all(data)


async def test_more_pipes_than_buffers() -> None:
    pipes = [await pipe() for _ in range(300)]
    found = []

    async def receive(source: RingPipe) -> None:
        found.append(await source.receive_some())

    async with trio.open_nursery() as nursery:
        for _, source in pipes:
            nursery.start_soon(receive, source)
        await wait_all_tasks_blocked()
        for sink, _ in pipes:
            os.write(sink.fileno(), b"data")
    assert found == [b"data"] * 300
    for sink, source in pipes:
        await sink.aclose()
        await source.aclose()


async def test_a_reader_that_keeps_up_does_not_starve_other_tasks() -> None:
    sink, source = await pipe()
    os.set_blocking(source.fileno(), True)
    steps = 0

    def drain() -> None:
        while os.read(source.fileno(), 65536):
            pass

    async def count() -> None:
        nonlocal steps
        while True:
            steps += 1
            await trio.lowlevel.checkpoint()

    async with source, trio.open_nursery() as nursery:
        nursery.start_soon(count)
        async with trio.open_nursery() as inner:
            inner.start_soon(trio.to_thread.run_sync, drain)
            await send_and_close(sink, bytes(8 * MIB))
        nursery.cancel_scope.cancel()
    assert steps > 8


# ---- cancelling and closing -------------------------------------------------------------------------------


async def test_cancelled_receive_loses_nothing() -> None:
    data = random.randbytes(2 * MIB)
    sink, source = await pipe()
    found = bytearray()

    async def send() -> None:
        async with sink:
            at = 0
            while at < len(data):
                step = random.choice([10, 3000, 50_000])
                await sink.send_all(data[at : at + step])
                at += step

    async with source, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        while True:
            with trio.move_on_after(random.random() * 2e-4):
                part = await source.receive_some(random.choice([None, 7, 20_000]))
                found += part
                if not part:
                    break
    assert found == data


async def test_a_send_that_never_began_leaves_the_buffer_to_its_owner() -> None:
    sink, source = await pipe()
    async with sink, source:
        for data in (bytearray(b"data"), bytearray(MIB)):
            with trio.CancelScope() as scope:
                scope.cancel()
                await sink.send_all(data)
            assert scope.cancelled_caught
            data += b"more"  # refused while something points into it


async def test_cancelled_send_sends_nothing_twice() -> None:
    sink, source = await pipe()
    told = 0
    found = bytearray()

    async def receive() -> None:
        while part := await source.receive_some():
            found.extend(part)
            await trio.sleep(0)

    async with source, trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        async with sink:
            for i in range(2000):
                with trio.move_on_after(random.random() * 1e-4):
                    # A pipe takes a record of this size as a whole or not at all.
                    await sink.send_all(b"%06d" % i * 600)
                    told += 1
    records = [bytes(found[at : at + 3600]) for at in range(0, len(found), 3600)]
    assert all(record == record[:6] * 600 for record in records)
    assert len(records) == told


async def test_in_a_cancelled_scope_nothing_happens() -> None:
    sink, source = await pipe()
    async with sink, source:
        os.write(sink.fileno(), b"stays")
        for call in (
            partial(source.receive_some, 3),
            partial(sink.send_all, b"no"),
            partial(sink.send_all, b"no" * 10_000),
            partial(sink.send_all, b""),
        ):
            with trio.CancelScope() as scope:
                scope.cancel()
                await call()
            assert scope.cancelled_caught
        assert await source.receive_some() == b"stays"


@pytest.mark.parametrize("streaming", [False, True])
async def test_closing_wakes_and_lets_go(streaming: bool) -> None:
    sink, source = await pipe()
    if streaming:
        await sink.send_all(bytes(30_000))
        assert len(await source.receive_some()) == 30_000

    async def closed(call: Any) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await call()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(closed, source.receive_some)
        await wait_all_tasks_blocked()
        await source.aclose()
    with pytest.raises(trio.BrokenResourceError) as caught:
        await sink.send_all(b"x")
    assert isinstance(caught.value.__cause__, BrokenPipeError)
    with pytest.raises(trio.BrokenResourceError):
        await sink.send_all(bytes(100_000))
    await sink.aclose()
    for call in (source.receive_some, partial(sink.send_all, b"x"), partial(sink.send_all, b"")):
        with pytest.raises(trio.ClosedResourceError):
            await call()
    sink, source = await full_pipe()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(closed, partial(sink.send_all, bytes(100_000)))
        await wait_all_tasks_blocked()
        sink.close()
    assert in_flight() == {}
    await source.aclose()


async def test_closed_while_a_large_send_yields() -> None:
    sink, source = await pipe()

    async def send() -> None:
        with pytest.raises((trio.ClosedResourceError, trio.BrokenResourceError)):
            await sink.send_all(bytes(MIB))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await trio.lowlevel.checkpoint()
        sink.close()
        others = os.pipe()  # the number of what was closed is in use again
    await source.aclose()
    os.set_blocking(others[0], False)
    with pytest.raises(BlockingIOError):
        os.read(others[0], 1)
    for fd in others:
        os.close(fd)


async def test_one_task_for_each_direction() -> None:
    sink, source = await full_pipe()
    async with sink, trio.open_nursery() as nursery:
        nursery.start_soon(sink.send_all, b"x")
        await wait_all_tasks_blocked()
        for call in (partial(sink.send_all, b"y"), sink.wait_send_all_might_not_block):
            with pytest.raises(trio.BusyResourceError, match="for send"):
                await call()
        nursery.cancel_scope.cancel()
    sink, empty = await pipe()
    async with source, sink, empty, trio.open_nursery() as nursery:
        nursery.start_soon(empty.receive_some)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError, match="for receive"):
            await empty.receive_some()
        nursery.cancel_scope.cancel()


async def test_wrong_arguments() -> None:
    sink, source = await pipe()
    async with sink, source:
        for wrong in (0, -1):
            with pytest.raises(ValueError, match="max_bytes"):
                await source.receive_some(wrong)
        with pytest.raises(TypeError, match="max_bytes"):
            await source.receive_some("many")  # type: ignore[arg-type]
        for data in ("text", 5, None):
            with pytest.raises(TypeError):
                await sink.send_all(data)  # type: ignore[arg-type]
        for stream in (source, sink):  # the kernel says the same of the wrong end as of none
            with pytest.raises(trio.ClosedResourceError):
                await (stream.send_all(b"x") if stream is source else stream.receive_some())


async def test_a_number_used_again(tmp_path: Path) -> None:
    sink, source = await pipe()
    await sink.send_all(b"x")
    assert await source.receive_some() == b"x"
    number = source.fileno()
    del source  # closes the descriptor without telling anybody
    other_source, other_sink = os.pipe()
    assert other_source == number
    async with RingPipe(other_source) as again, RingPipe(other_sink) as feed, trio.open_nursery() as nursery:
        nursery.start_soon(again.receive_some)
        await wait_all_tasks_blocked()
        await feed.send_all(b"y")
    await sink.aclose()


async def test_terminal() -> None:
    near, far = os.openpty()
    async with RingPipe(near) as terminal, RingPipe(far) as program, trio.open_nursery() as nursery:
        nursery.start_soon(program.send_all, b"hello")
        assert await terminal.receive_some() == b"hello"

        async def hung_up() -> None:
            with pytest.raises(trio.BrokenResourceError) as caught:
                await terminal.receive_some()
            assert caught.value.__cause__.errno == errno.EIO  # type: ignore[union-attr]

        nursery.start_soon(hung_up)
        await wait_all_tasks_blocked()
        assert in_flight() == {"read": 1}
        await program.aclose()


async def test_regular_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    async with RingPipe(os.open(path, os.O_CREAT | os.O_RDWR)) as stream:
        await stream.send_all(b"one")
        await stream.send_all(b"two" * 10_000)
        os.lseek(stream.fileno(), 0, os.SEEK_SET)
        assert await stream.receive_some(5) == b"onetw"
    assert path.read_bytes() == b"one" + b"two" * 10_000


def test_as_before_on_epoll() -> None:
    async def main() -> None:
        assert type(trio.lowlevel.current_statistics().io_statistics).__name__ != "RingStatistics"
        await check_one_way_stream(pipe, full_pipe)

    trio.run(main)


def test_from_one_run_to_the_next() -> None:
    sink, source = trio.run(pipe)

    async def use() -> bytes:
        await sink.send_all(b"x")
        return await source.receive_some()

    async def end() -> None:
        await sink.aclose()
        assert await source.receive_some() == b""
        await source.aclose()

    assert uring_trio.run(use) == trio.run(use) == uring_trio.run(use) == b"x"
    uring_trio.run(end)
