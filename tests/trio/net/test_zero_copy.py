"""Sends that do not go through this process's copies: zero-copy from memory, splices from files."""

from __future__ import annotations

import errno
import os
import random
import socket
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.trio.helpers import fill, in_flight, receive_exactly, reset, statistics, streams
from uring_trio.core.engine import current

if TYPE_CHECKING:
    from pathlib import Path

    from uring_trio import UringStream

KINDS = pytest.mark.parametrize("kind", ["tcp", "unix"])


@pytest.fixture
def file(tmp_path: Path) -> Any:
    path = tmp_path / "file"
    path.write_bytes(random.Random(7).randbytes(3_000_000))
    with open(path, "rb") as opened:
        yield opened


@KINDS
@pytest.mark.parametrize("size", [0, 1, 65536, 5_000_000])
async def test_sends_all_and_says_who_copied(kind: str, size: int) -> None:
    near, far = await streams(kind)
    data = random.Random(size).randbytes(size)
    copied = []

    async def send() -> None:
        copied.append(await near.send_zero_copy(data))
        await near.send_eof()

    async with near, far, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        assert await receive_exactly(far, size + 1) == data
    # Over loopback and in Unix sockets the kernel always copies.
    assert copied == [size > 0]


async def test_memory_is_free_when_it_returns() -> None:
    near, far = await streams()
    data = bytearray(random.Random(1).randbytes(300_000))
    expected = bytes(data)

    async def send() -> None:
        await near.send_zero_copy(data)
        data[:] = bytes(len(data))
        data.extend(b"may be resized")

    async with near, far, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        with pytest.raises(BufferError):
            data.extend(b"pinned")
        assert await receive_exactly(far, len(expected)) == expected


@pytest.mark.parametrize("method", ["send_zero_copy", "send_file"])
@KINDS
async def test_cancelled_while_the_socket_is_full(method: str, kind: str, file: Any) -> None:
    near, far = await streams(kind)
    async with near, far:
        filled = await fill(near.socket)
        with trio.move_on_after(0.02) as scope:
            if method == "send_file":
                await near.send_file(file)
            else:
                await near.send_zero_copy(bytes(3_000_000))
        assert scope.cancelled_caught
        assert not in_flight()
        assert await receive_exactly(far, filled) == bytes(filled)


@pytest.mark.parametrize("method", ["send_zero_copy", "send_file"])
@KINDS
async def test_the_peer_goes_away(method: str, kind: str, file: Any) -> None:
    near, far = await streams(kind)
    async with near:
        reset(far.socket)
        await trio.lowlevel.wait_readable(near.socket)
        with pytest.raises(trio.BrokenResourceError):
            for _ in range(3):
                if method == "send_file":
                    await near.send_file(file)
                else:
                    await near.send_zero_copy(bytes(100_000))


@pytest.mark.parametrize("method", ["send_zero_copy", "send_file"])
async def test_one_sender_at_a_time(method: str, file: Any) -> None:
    near, far = await streams()
    large = bytes(10_000_000)

    def send() -> Any:
        return near.send_file(file) if method == "send_file" else near.send_zero_copy(large)

    async with near, far:
        await fill(near.socket)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.send_all, large)
            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await send()
            nursery.cancel_scope.cancel()
    near, far = await streams()
    async with near, far:
        await fill(near.socket)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await near.send_all(b"x")
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("method", ["send_zero_copy", "send_file"])
@KINDS
async def test_closing_wakes_the_sender(method: str, kind: str, file: Any) -> None:
    near, far = await streams(kind)

    async def send() -> None:
        with pytest.raises(trio.ClosedResourceError):
            if method == "send_file":
                await near.send_file(file)
            else:
                await near.send_zero_copy(bytes(10_000_000))

    async with far:
        await fill(near.socket)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.sleep(0.02)
            await near.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await near.send_zero_copy(b"x")
        with pytest.raises(trio.ClosedResourceError):
            await near.send_file(file)


async def test_after_the_end_of_the_stream(file: Any) -> None:
    near, far = await streams()
    async with near, far:
        await near.send_eof()
        with pytest.raises(trio.ClosedResourceError):
            await near.send_zero_copy(b"x")
        with pytest.raises(trio.ClosedResourceError):
            await near.send_file(file)


@KINDS
@pytest.mark.parametrize(
    ("offset", "count", "expected"),
    [
        (0, None, 3_000_000),
        (0, 10, 10),
        (2_999_990, None, 10),
        (1, 1_500_000, 1_500_000),
        (2_999_000, 5_000, 1_000),
        (3_000_000, None, 0),
        (4_000_000, 10, 0),
        (5, 0, 0),
    ],
)
async def test_sends_part_of_a_file(
    kind: str, file: Any, offset: int, count: int | None, expected: int
) -> None:
    near, far = await streams(kind)
    sent = []

    async def send() -> None:
        sent.append(await near.send_file(file, offset, count))
        await near.send_eof()

    async with near, far, trio.open_nursery() as nursery:
        nursery.start_soon(send)
        received = await receive_exactly(far, expected + 1)
    assert sent == [expected]
    assert received == os.pread(file.fileno(), expected, offset)
    assert file.tell() == 0


async def test_what_cannot_be_spliced_is_read() -> None:
    # A kernel file that is made while it is read has no pages to hand over.
    with open("/proc/self/status", "rb") as status:
        near, far = await streams()
        async with near, far:
            size = await near.send_file(status)
            assert size > 100
            text = await receive_exactly(far, size)
            assert text.startswith(b"Name:")
            assert await near.send_file(status, 5, 10) == 10
            assert await receive_exactly(far, 10) == text[5:15]


async def test_a_file_past_the_page_cache_is_sent_from_any_offset(tmp_path: Path) -> None:
    data = random.Random(3).randbytes(150_001)
    path = tmp_path / "file"
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    near, far = await streams()
    async with near, far:
        for offset in (0, 1, 511, 512, 4095, 4096, 70_000, 150_000, 150_001, 150_002, 200_000):
            for count in (None, 0, 1, 4096, 5000, 140_000):
                expected = data[offset:] if count is None else data[offset : offset + count]
                async with trio.open_nursery() as nursery:
                    if expected:
                        nursery.start_soon(receive_and_compare, far, expected)
                    assert await near.send_file(fd, offset, count) == len(expected), (offset, count)
    os.close(fd)


async def receive_and_compare(stream: UringStream, expected: bytes) -> None:
    assert await receive_exactly(stream, len(expected)) == expected


async def test_what_cannot_be_sent() -> None:
    near, far = await streams()
    async with near, far:
        with pytest.raises(OSError) as caught:
            await near.send_file(10**6)
        assert caught.value.errno == errno.EBADF
        for arguments in ((-1, None), (0, -1)):
            with pytest.raises(ValueError, match="not negative"):
                await near.send_file(0, *arguments)
        with pytest.raises(TypeError):
            await near.send_zero_copy("text")  # type: ignore[arg-type]
        await near.send_all(b"still usable")
        assert await far.receive_some() == b"still usable"


@pytest.mark.parametrize("refusal", [errno.EOPNOTSUPP, errno.ENOMEM])
async def test_what_is_refused_by_reference_goes_by_copy(
    refusal: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    async def refuse(sock: Any, data: memoryview) -> tuple[int, bool]:
        tried.append(len(data))
        return (65536, False) if len(tried) == 1 else (-refusal, False)

    monkeypatch.setattr("uring_trio.net.zerocopy._send_by_reference", refuse)
    near, far = await streams()
    data = random.Random(2).randbytes(100_000)
    async with near, far:
        assert await near.send_zero_copy(data) is True
        assert await receive_exactly(far, 100_000 - 65536) == data[65536:]
    assert tried == [100_000, 100_000 - 65536]


def splicing_to(number: int) -> bool:
    """Whether a splice to the file behind a descriptor is queued or under way."""
    busy = [op.fd for op in current().table.taken() if op.name == "splice" and op.task is not None]
    return any(os.path.samestat(os.fstat(fd), os.fstat(number)) for fd in busy)


async def test_a_file_goes_to_no_other_connection(file: Any) -> None:
    """Closed while a splice to it is queued, the socket's number is another's before the kernel looks."""

    async def send(near: UringStream, ended: trio.Event) -> None:
        with suppress(trio.ClosedResourceError):
            await near.send_file(file)
        ended.set()

    for _ in range(20):
        near, far = await streams("unix")
        number = near.socket.fileno()
        async with far, trio.open_nursery() as nursery:
            ended = trio.Event()
            nursery.start_soon(send, near, ended)
            # The workers may be quicker than we look, until the socket is full.
            while not (splicing_to(number) or statistics().tasks_waiting_write or ended.is_set()):
                await trio.lowlevel.checkpoint()
            near.socket.close()
            others = socket.socketpair()
            assert number in (others[0].fileno(), others[1].fileno())
            await wait_all_tasks_blocked()
        for other in others:
            other.setblocking(False)
            with pytest.raises(BlockingIOError):
                other.recv(1)
        for other in others:
            other.close()


async def test_race_16_zero_copy_to_a_peer_that_is_gone() -> None:
    for _ in range(20):
        near, far = await streams()
        async with near:
            memory = bytearray(1 << 20)
            reset(far.socket)
            with pytest.raises(trio.BrokenResourceError):
                for _ in range(100):
                    await near.send_zero_copy(memory)
            memory.append(0)  # nothing holds it any more
