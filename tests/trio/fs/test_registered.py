"""Registered buffers: the same bytes as without them, and what is refused."""

from __future__ import annotations

import mmap
import os
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import in_flight
from uring import abi
from uring_trio import RegisteredBuffers, open_direct, open_file
from uring_trio.core.engine import current

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 300_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "file"
    found.write_bytes(random.Random(1).randbytes(SIZE))
    return found


async def test_reads_and_writes(path: Path) -> None:
    data = path.read_bytes()
    async with await open_file(path, "r+b") as file:
        with RegisteredBuffers(4, 65536) as pool, await pool.borrow() as buffer:
            for offset in (0, 5, SIZE - 65536, SIZE - 100, SIZE, 2 * SIZE):
                n = await file.readinto_at(buffer, offset)
                assert bytes(buffer)[:n] == data[offset : offset + 65536]
            buffer.data[:5] = b"hello"
            assert await file.pwrite(buffer[:5], 7) == 5
            assert await file.readinto_at(buffer[100:104], 7) == 4
            assert bytes(buffer[100:104]) == b"hell"
            assert await file.pwrite(buffer[10:10], 0) == 0
            assert await file.readinto_at(buffer[50:][:3], 0) == 3
            assert buffer.data[50:53] == data[:3]
    assert path.read_bytes() == data[:7] + b"hello" + data[12:]


async def test_direct(path: Path) -> None:
    data = path.read_bytes()
    try:
        file = await open_direct(path, os.O_RDWR)
    except OSError as exc:
        pytest.skip(f"this file system knows no O_DIRECT: {exc}")
    async with file:
        align = file.align
        with RegisteredBuffers(2, 16 * align) as pool, await pool.borrow() as buffer:
            for offset in (0, 3 * align, SIZE // align * align):
                n = await file.readinto_at(buffer, offset)
                assert bytes(buffer)[:n] == data[offset : offset + 16 * align]
            buffer.data[:align] = b"d" * align
            assert await file.pwrite(buffer[:align], align) == align
            assert path.read_bytes()[align : 2 * align] == b"d" * align
            for part, offset in ((buffer[1:], 0), (buffer[:5], 0), (buffer, 5), (buffer, -align)):
                for call in (file.readinto_at, file.pwrite):
                    with pytest.raises(ValueError, match="multiples of"):
                        await call(part, offset)
        with mmap.mmap(-1, 2 * align) as memory:
            assert await file.readinto_at(memory, 4 * align) == 2 * align
            assert memory[:] == data[4 * align : 6 * align]
            with pytest.raises(ValueError, match="multiples of"):
                await file.readinto_at(memoryview(memory)[8:], 0)
        with pytest.raises(TypeError):
            await file.readinto_at(bytes(align), 0)
    with RegisteredBuffers(1, align) as pool, await pool.borrow() as buffer:
        with pytest.raises(ValueError, match="closed file"):
            await file.readinto_at(buffer, 0)


async def test_they_are_the_kernels_fixed_operations(path: Path) -> None:
    seen = []
    put = current().ring.put

    def watch(user_data: int, opcode: int, *fields: int) -> int:
        seen.append(opcode)
        return put(user_data, opcode, *fields)

    async with await open_file(path, "r+b") as file:
        with RegisteredBuffers(1, 100) as pool, await pool.borrow() as buffer:
            buffer._op.put = watch
            await file.readinto_at(buffer, 0)
            await file.pwrite(buffer, 0)
            buffer._op.put = put
    assert seen == [abi.IORING_OP_READ_FIXED, abi.IORING_OP_WRITE_FIXED]


async def test_borrowing() -> None:
    got: list[int] = []
    with RegisteredBuffers(2, 10) as pool:
        with assert_checkpoints():
            first = await pool.borrow()
        second = pool.borrow_nowait()
        assert pool.available == 0
        with pytest.raises(trio.WouldBlock):
            pool.borrow_nowait()

        async def wait(number: int) -> None:
            with await pool.borrow():
                got.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(wait, number)
                await wait_all_tasks_blocked()
            first.release()
            first.release()
        assert got == [0, 1, 2, 3]
        assert pool.available == 1
        part = second[2:5]
        assert len(part) == 3
        part.release()
        assert "given back" not in repr(second)
        second.release()
        assert "given back" in repr(part)
        for call in (lambda: second[:2], lambda: part[:1], second.__enter__):
            with pytest.raises(ValueError, match="given back"):
                call()
    with pytest.raises(ValueError, match="closed"):
        await pool.borrow()


async def test_closing_wakes_who_waits() -> None:
    pool = RegisteredBuffers(1, 10)
    taken = pool.borrow_nowait()

    async def wait() -> None:
        with pytest.raises(ValueError, match="closed"):
            await pool.borrow()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        pool.close()
    pool.close()
    taken.data[:2] = b"ab"
    assert bytes(taken)[:2] == b"ab"


async def test_a_forgotten_buffer_goes_back_to_its_pool() -> None:
    """With a warning, and once nothing uses its memory."""
    with RegisteredBuffers(1, 100) as pool:
        buffer = pool.borrow_nowait()
        part, data = buffer[:10], buffer.data
        del buffer
        await wait_all_tasks_blocked()
        assert pool.available == 0
        with pytest.warns(ResourceWarning, match="RegisteredBuffer of 100 bytes> was not released"):
            del part
        await wait_all_tasks_blocked()
        assert pool.available == 0, "its memory is in use"
        del data
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def borrow() -> None:
                with await pool.borrow() as again:
                    assert len(again) == 100

        assert pool.available == 1
        lost = pool.borrow_nowait()
    del lost  # the pool is closed: nothing is owed


async def test_on_a_pipe(tmp_path: Path) -> None:
    """Where a transfer may wait: it can be cancelled, one task at a time uses a buffer, and closing either
    ends it or leaves it its memory."""
    source, sink = os.pipe()
    file = await open_file(source, "rb", 0)
    with RegisteredBuffers(1, 100) as pool:
        buffer = pool.borrow_nowait()
        with trio.move_on_after(0.02) as scope:
            await file.readinto_at(buffer, 0)
        assert scope.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.readinto_at, buffer[:4], 0)
            await wait_all_tasks_blocked()
            assert in_flight() == {"registered": 1}
            for use in (buffer, buffer[1:2]):
                with pytest.raises(trio.BusyResourceError):
                    await file.readinto_at(use, 0)
            with pytest.raises(trio.BusyResourceError):
                buffer.release()
            os.write(sink, b"data")
        assert buffer.data[:4] == b"data"

        async def closed() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await file.readinto_at(buffer, 0)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(closed)
            await wait_all_tasks_blocked()
            await file.aclose()
    os.close(sink)


async def test_closed_while_in_flight(tmp_path: Path) -> None:
    source, sink = os.pipe()
    async with await open_file(source, "rb", 0) as file, trio.open_nursery() as nursery:
        pool = RegisteredBuffers(1, 100)
        buffer = pool.borrow_nowait()
        nursery.start_soon(file.readinto_at, buffer[:5], 0)
        await wait_all_tasks_blocked()
        pool.close()
        with RegisteredBuffers(1, 100) as other:  # in the slot that became free
            os.write(sink, b"after")
            await wait_all_tasks_blocked()
            assert bytes(buffer)[:5] == b"after"
            with other.borrow_nowait() as fresh:
                assert bytes(fresh)[:5] == bytes(5)
        with pytest.raises(ValueError, match="closed"):
            await file.readinto_at(buffer, 0)
    os.close(sink)


async def test_many_pools() -> None:
    pools = [RegisteredBuffers(1, 1) for _ in range(64)]
    with pytest.raises(RuntimeError, match="64 pools"):
        RegisteredBuffers(1, 1)
    for pool in pools:
        pool.close()
    RegisteredBuffers(1, 1).close()


async def test_refuses(path: Path) -> None:
    for wrong in ((0, 1), (1, 0), (-1, 5), (1, (1 << 30) + 1), (1 << 20, 4096)):
        with pytest.raises(ValueError):
            RegisteredBuffers(*wrong)
    for kind in ((1.5, 1), ("a", 1), (1, None), (True, 1)):
        with pytest.raises(TypeError):
            RegisteredBuffers(*kind)  # type: ignore[arg-type]
    async with await open_file(path, "rb") as file:
        with RegisteredBuffers(1, 10) as pool, await pool.borrow() as buffer:
            for index in (0, slice(0, 5, 2)):
                with pytest.raises((TypeError, ValueError)):
                    _ = buffer[index]  # type: ignore[index]
            with pytest.raises(OSError, match="Bad file descriptor"):
                await file.pwrite(buffer, 0)
            with pytest.raises(OSError, match="Invalid argument"):
                await file.readinto_at(buffer, -1)
            with trio.CancelScope() as scope:
                scope.cancel()
                await file.readinto_at(buffer, 0)
            assert scope.cancelled_caught
            assert bytes(buffer) == bytes(10)


def test_belongs_to_its_run(path: Path) -> None:
    with pytest.raises(RuntimeError):
        RegisteredBuffers(1, 1)
    kept = []

    async def first() -> None:
        kept.append(RegisteredBuffers(1, 10).borrow_nowait())

    async def second() -> None:
        async with await open_file(path, "rb") as file:
            with pytest.raises(RuntimeError, match="another Trio run"):
                await file.readinto_at(kept[0], 0)

    uring_trio.run(first)
    uring_trio.run(second)


LIMITED = """
import os, resource, trio, uring_trio
resource.setrlimit(resource.RLIMIT_MEMLOCK, (4 << 20, 4 << 20))
async def main():
    uring_trio.RegisteredBuffers(1, 4096).close()
    try:
        uring_trio.RegisteredBuffers(16, 1 << 20)
    except OSError as exc:
        print(exc)
    uring_trio.RegisteredBuffers(1, 4096).close()
# Names are loaded when asked for, from files that the other user may not be allowed to read.
uring_trio.run, uring_trio.RegisteredBuffers, os.setgroups([]); os.setgid(65534)
os.setuid((1 << 20) + os.getpid())  # a user without other processes, whose memory would count too
uring_trio.run(main)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")
def test_says_which_limit_it_met() -> None:
    done = subprocess.run([sys.executable, "-c", LIMITED], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert "RLIMIT_MEMLOCK (now 4096 KiB)" in done.stdout
