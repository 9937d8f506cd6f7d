"""UringStream: Trio's own checkers, and the promises of its docstrings."""

from __future__ import annotations

import array
import hashlib
import random
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import assert_checkpoints, check_half_closeable_stream, wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import (
    PAIRS,
    buffers_out,
    fill,
    in_flight,
    receive_exactly,
    reset,
    statistics,
    streams,
)
from uring_trio import UringStream

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = pytest.mark.parametrize("kind", PAIRS)
MIB = 1 << 20


# ---- Trio's contract ---------------------------------------------------------------------------------


@KINDS
async def test_is_a_half_closeable_stream(kind: str) -> None:
    async def maker() -> tuple[UringStream, UringStream]:
        return await streams(kind)

    async def clogged_maker() -> tuple[UringStream, UringStream]:
        near, far = await streams(kind)
        # What one side sends acknowledges what it got, which makes room on the other.
        while await fill(near.socket) + await fill(far.socket):
            pass
        return near, far

    await check_half_closeable_stream(maker, clogged_maker)


# ---- sending -----------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("size", [1, 65536, 3 * MIB + 7])
async def test_every_byte_arrives_in_order(kind: str, size: int) -> None:
    near, far = await streams(kind)
    there = random.Random(20260).randbytes(size)
    back = hashlib.sha256(there).digest() * (size // 32 + 1)

    async def exchange(stream: UringStream, data: bytes, expected: bytes) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, data)
            assert await receive_exactly(stream, len(expected)) == expected

    async with near, far, trio.open_nursery() as nursery:
        nursery.start_soon(exchange, near, there, back)
        nursery.start_soon(exchange, far, back, there)


@KINDS
@pytest.mark.parametrize(
    "make",
    [
        bytes,
        bytearray,
        memoryview,
        lambda data: memoryview(bytearray(b"<" + data + b">"))[1:-1],
        lambda data: memoryview(data).cast("B", (2, len(data) // 2)),
        lambda data: array.array("Q", data),
        lambda data: memoryview(array.array("i", data)),
    ],
    ids=["bytes", "bytearray", "memoryview", "slice", "matrix", "array", "integers"],
)
async def test_sends_every_kind_of_buffer(kind: str, make: Callable[[bytes], Any]) -> None:
    """Also what does not fit into the socket at once, whose rest the ring sends."""
    near, far = await streams(kind)
    data = bytes(range(256)) * (8 * MIB // 256)
    async with near, far, trio.open_nursery() as nursery:
        nursery.start_soon(near.send_all, make(data))
        await wait_all_tasks_blocked()
        assert in_flight() == {"send": 1}
        assert await receive_exactly(far, len(data)) == data


async def test_refuses_what_is_no_buffer() -> None:
    near, far = await streams()
    async with near, far:
        for wrong in ("text", 5, None, memoryview(b"abcdef")[::2]):
            with pytest.raises((TypeError, BufferError)):
                await near.send_all(wrong)  # type: ignore[arg-type]
        await near.send_all(b"fine")
        assert await far.receive_some() == b"fine"


async def test_sending_nothing_is_a_checkpoint() -> None:
    near, far = await streams()
    async with near, far:
        with assert_checkpoints():
            await near.send_all(b"")
        with trio.CancelScope() as scope:
            scope.cancel()
            await near.send_all(b"unsent")
        assert scope.cancelled_caught
        await near.send_all(b"sent")
        assert await far.receive_some() == b"sent"


async def test_a_payload_cannot_be_resized_while_it_is_sent() -> None:
    near, far = await streams()
    data = bytearray(8 * MIB)
    async with near, far, trio.open_nursery() as nursery:
        nursery.start_soon(near.send_all, data)
        await wait_all_tasks_blocked()
        with pytest.raises(BufferError):
            data.append(0)
        await receive_exactly(far, len(data))
        await wait_all_tasks_blocked()
        data.append(0)


@KINDS
async def test_what_was_sent_before_a_cancel_is_a_prefix(kind: str) -> None:
    near, far = await streams(kind)
    data = random.Random(20260).randbytes(32 * MIB)
    async with near, far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.send_all, data)
            await wait_all_tasks_blocked()
            start = await receive_exactly(far, MIB)
            nursery.cancel_scope.cancel()
        await near.send_eof()
        received = start + await receive_exactly(far, len(data))
        assert MIB <= len(received) < len(data)
        assert data.startswith(received)


async def test_wait_send_all_might_not_block() -> None:
    near, far = await streams()
    async with near, far:
        await near.wait_send_all_might_not_block()
        size = await fill(near.socket)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.wait_send_all_might_not_block)
            await wait_all_tasks_blocked()
            assert in_flight() == {"wait_writable": 1}
            await receive_exactly(far, size)


# ---- receiving ---------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize(
    "make",
    [
        bytearray,
        lambda size: memoryview(bytearray(size + 9))[4:-5],
        lambda size: array.array("B", bytes(size)),
    ],
    ids=["bytearray", "slice", "array"],
)
async def test_receives_into_memory(kind: str, make: Callable[[int], Any]) -> None:
    near, far = await streams(kind)
    memory = make(10)
    async with near, far:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def receive() -> None:
                assert await far.receive_into(memory) == 3

            await wait_all_tasks_blocked()
            await near.send_all(b"abc")
        assert bytes(memory) == b"abc" + bytes(7)
        await near.send_all(b"0123456789more")
        assert await far.receive_into(memory) == 10
        assert bytes(memory) == b"0123456789"
        assert await far.receive_some() == b"more"
        await near.send_eof()
        assert await far.receive_into(memory) == 0


async def test_a_receive_that_waits_holds_no_memory() -> None:
    near, far = await streams()
    memory = bytearray(100)
    async with near, far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(far.receive_into, memory)
            await wait_all_tasks_blocked()
            memory.extend(bytes(100))
            await near.send_all(b"x")
        assert memory == b"x" + bytes(199)


@pytest.mark.parametrize("call", ["receive_into", "send_all"])
async def test_a_cancelled_call_lets_go_of_its_buffer(call: str) -> None:
    """Also while the exception, whose traceback has the frames of the call, is still there."""
    near, far = await streams()
    memory = bytearray(8 * MIB)
    async with near, far, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def use() -> None:
            with pytest.raises(trio.Cancelled):
                await getattr(near, call)(memory)
            memory.clear()

        await wait_all_tasks_blocked()
        assert len(in_flight()) == 1
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("wrong", [b"constant", "text", 10, memoryview(bytearray(10))[::2]])
async def test_refuses_to_receive_into(wrong: Any) -> None:
    near, far = await streams()
    async with near, far:
        await near.send_all(b"still there")
        with pytest.raises((TypeError, BufferError)):
            await far.receive_into(wrong)
        assert await far.receive_some() == b"still there"


@pytest.mark.parametrize(
    ("size", "error"), [(0, ValueError), (-1, ValueError), ("4", TypeError), (1.5, TypeError)]
)
async def test_refuses_a_wrong_size(size: Any, error: type[Exception]) -> None:
    near, far = await streams()
    async with near, far:
        await near.send_all(b"still there")
        with pytest.raises(error):
            await far.receive_some(size)
        assert await far.receive_some() == b"still there"


async def test_receives_no_more_than_asked_for() -> None:
    near, far = await streams()
    async with near, far:
        await near.send_all(bytes(range(200)) * 1000)
        assert await far.receive_some(1) == b"\0"
        assert await far.receive_some(5) == bytes([1, 2, 3, 4, 5])
        assert len(await far.receive_some(100_000)) <= 100_000
        assert len(await far.receive_some(7)) == 7


async def test_a_waiting_receive_holds_no_buffer() -> None:
    pairs = [await streams("unix") for _ in range(20)]
    async with trio.open_nursery() as nursery:
        for _, far in pairs:
            nursery.start_soon(far.receive_some)
        await wait_all_tasks_blocked()
        assert in_flight() == {"recv": 20}
        assert buffers_out() == 0
        for near, _ in pairs:
            await near.send_all(b"x")
    for stream in sum(pairs, ()):
        await stream.aclose()


# ---- conflicts ---------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("second", ["receive_some", "receive_into"])
async def test_a_second_receiver_is_refused(kind: str, second: str) -> None:
    near, far = await streams(kind)
    got = []
    async with near, far:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def first() -> None:
                got.append(await far.receive_some())

            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await (far.receive_some() if second == "receive_some" else far.receive_into(bytearray(10)))
            assert in_flight() == {"recv": 1}
            await near.send_all(b"for the first")
        assert got == [b"for the first"]


@KINDS
async def test_a_second_sender_is_refused(kind: str) -> None:
    near, far = await streams(kind)
    data = bytes(8 * MIB)
    async with near, far, trio.open_nursery() as nursery:
        nursery.start_soon(near.send_all, data)
        await wait_all_tasks_blocked()
        for second in (lambda: near.send_all(b"x"), near.wait_send_all_might_not_block, near.send_eof):
            with pytest.raises(trio.BusyResourceError):
                await second()
        assert await receive_exactly(far, len(data)) == data


# ---- ends --------------------------------------------------------------------------------------------


@KINDS
async def test_after_the_end_of_this_side_the_other_goes_on(kind: str) -> None:
    near, far = await streams(kind)
    async with near, far:
        await near.send_all(b"last words")
        await near.send_eof()
        await near.send_eof()
        with pytest.raises(trio.ClosedResourceError):
            await near.send_all(b"more")
        assert await receive_exactly(far, 100) == b"last words"
        assert await far.receive_some() == b""
        await far.send_all(b"answer")
        assert await near.receive_some() == b"answer"


@KINDS
async def test_a_closed_stream_says_so(kind: str) -> None:
    near, far = await streams(kind)
    await near.aclose()
    await near.aclose()
    for use in (
        lambda: near.send_all(b"x"),
        near.receive_some,
        lambda: near.receive_into(bytearray(1)),
        near.send_eof,
        near.wait_send_all_might_not_block,
    ):
        with pytest.raises(trio.ClosedResourceError):
            await use()
    assert await far.receive_some() == b""
    await far.aclose()


@KINDS
@pytest.mark.parametrize(
    "what", ["receive_some", "receive_into", "send_all", "wait_send_all_might_not_block"]
)
async def test_closing_wakes_who_waits(kind: str, what: str) -> None:
    near, far = await streams(kind)
    await fill(near.socket)
    arguments = {"receive_into": [bytearray(1)], "send_all": [b"x"]}
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await getattr(near, what)(*arguments.get(what, []))

        await wait_all_tasks_blocked()
        assert sum(in_flight().values()) == 1
        await near.aclose()
    await far.aclose()


async def test_a_reset_breaks_the_stream() -> None:
    near, far = await streams()
    async with near:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def receive() -> None:
                with pytest.raises(trio.BrokenResourceError) as caught:
                    await near.receive_some()
                assert isinstance(caught.value.__cause__, ConnectionResetError)

            await wait_all_tasks_blocked()
            reset(far.socket)
        with pytest.raises(trio.BrokenResourceError):
            await near.send_all(b"x")


@KINDS
async def test_a_peer_that_goes_away_breaks_a_send(kind: str) -> None:
    near, far = await streams(kind)
    async with near, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def send() -> None:
            with pytest.raises(trio.BrokenResourceError):
                await near.send_all(bytes(8 * MIB))

        await wait_all_tasks_blocked()
        assert in_flight() == {"send": 1}
        await far.aclose()


# ---- cancelling --------------------------------------------------------------------------------------


async def cancel_before(scope: trio.CancelScope, near: UringStream) -> None:
    """In the tick of the call, before anything reaches the kernel."""
    scope.cancel()
    await near.send_all(b"data")


async def cancel_waiting(scope: trio.CancelScope, near: UringStream) -> None:
    await wait_all_tasks_blocked()
    scope.cancel()
    await near.send_all(b"data")


async def cancel_after_data(scope: trio.CancelScope, near: UringStream) -> None:
    """The data is there when the cancel is asked for; nobody has looked at it yet."""
    await wait_all_tasks_blocked()
    near.socket._sock.send(b"data")
    scope.cancel()


async def cancel_then_data(scope: trio.CancelScope, near: UringStream) -> None:
    """The data arrives while the cancel is queued and not submitted."""
    await wait_all_tasks_blocked()
    scope.cancel()
    near.socket._sock.send(b"data")


@KINDS
@pytest.mark.parametrize("how", [cancel_before, cancel_waiting, cancel_after_data, cancel_then_data])
@pytest.mark.parametrize("call", ["receive_some", "receive_into"])
async def test_a_cancelled_receive_loses_nothing(kind: str, how: Any, call: str) -> None:
    near, far = await streams(kind)
    got = b""
    async with near, far, trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(how, scope, near)
            if call == "receive_some":
                got = await far.receive_some()
            else:
                memory = bytearray(10)
                got = bytes(memory[: await far.receive_into(memory)])
        assert bool(got) != scope.cancelled_caught
        with trio.fail_after(30):
            while len(got) < 4:
                got += await far.receive_some()
        assert got == b"data"


@KINDS
async def test_cancels_at_random_lose_nothing(kind: str) -> None:
    near, far = await streams(kind)
    chance = random.Random(20260)
    data = chance.randbytes(200_000)
    received = bytearray()
    cancelled = 0

    async def send() -> None:
        at = 0
        while at < len(data):
            size = chance.choice((1, 100, 1000, 5000))
            await near.send_all(data[at : at + size])
            at += size
            for _ in range(chance.randrange(20)):
                await trio.lowlevel.checkpoint()
        await near.send_eof()

    async def disturb(scope: trio.CancelScope, ticks: int) -> None:
        for _ in range(ticks):
            await trio.lowlevel.checkpoint()
        scope.cancel()

    async with near, far, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        memory = bytearray(5000)
        while True:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as disturbing:
                    disturbing.start_soon(disturb, scope, chance.randrange(4))
                    if chance.random() < 0.5:
                        part = await far.receive_some(5000)
                    else:
                        part = bytes(memory[: await far.receive_into(memory)])
                    received += part
                    disturbing.cancel_scope.cancel()
                    if not part:
                        break
            cancelled += scope.cancelled_caught
    assert received == data
    assert cancelled


@pytest.mark.parametrize("call", ["receive_some", "receive_into", "send_all", "send_eof"])
async def test_a_cancelled_scope_keeps_the_kernel_out_of_it(call: str) -> None:
    near, far = await streams()
    arguments: dict[str, list[Any]] = {"receive_into": [bytearray(9)], "send_all": [b"never sent"]}
    async with near, far:
        await far.send_all(b"unread")
        before = statistics().submitted
        with trio.CancelScope() as scope:
            scope.cancel()
            await getattr(near, call)(*arguments.get(call, []))
        assert scope.cancelled_caught
        assert statistics().submitted == before
        await near.send_all(b"alive")
        assert await far.receive_some() == b"alive"
        assert await near.receive_some() == b"unread"


# ---- making one --------------------------------------------------------------------------------------


async def test_wraps_stream_sockets_of_trio_alone() -> None:
    with socket.socket() as plain, pytest.raises(TypeError):
        UringStream(plain)
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams, pytest.raises(ValueError):
        UringStream(datagrams)


async def test_connects_to_what_listens() -> None:
    async with trio.open_nursery() as nursery:
        listener = await nursery.start(uring_trio.listen_tcp, "localhost", 0)
        stream = await uring_trio.open_tcp_stream("localhost", listener.address[1])
        peer = await listener.accept()
        assert type(stream) is type(peer) is UringStream
        async with stream, peer:
            await stream.send_all(b"hello")
            assert await peer.receive_some() == b"hello"
        nursery.cancel_scope.cancel()


async def test_connecting_to_nobody_fails_as_in_trio() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(OSError, match="all attempts to connect"):
            await uring_trio.open_tcp_stream("127.0.0.1", unused.getsockname()[1])
