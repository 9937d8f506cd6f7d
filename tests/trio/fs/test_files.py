"""Files on the ring that tasks share: cancelling, closing, iterating, and what the system refuses."""

from __future__ import annotations

import errno
import io
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import in_flight
from uring import ops
from uring_trio import BufferedFile, open_file

if TYPE_CHECKING:
    from pathlib import Path

# ---- sharing, cancelling, closing -------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["rb", "r"])
async def test_tasks_share_a_file(path: Path, mode: str) -> None:
    path.write_bytes(b"".join(b"%06d\n" % i for i in range(5000)))
    seen: list[int] = []
    async with await open_file(path, mode) as file:

        async def reader() -> None:
            while line := await file.readline():
                seen.append(int(line))

        async with trio.open_nursery() as nursery:
            for _ in range(7):
                nursery.start_soon(reader)
    assert sorted(seen) == list(range(5000))


async def test_a_turn_is_not_lost_with_the_task_that_was_to_have_it() -> None:
    source, sink = os.pipe()
    file = await open_file(source, "rb", buffering=10)
    got: list[bytes] = []
    second = trio.CancelScope()

    async def first() -> None:
        got.append(await file.read(1))
        second.cancel()  # its wake-up is under way

    async def later(scope: trio.CancelScope) -> None:
        with scope:
            got.append(await file.read(1))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(first)
        await wait_all_tasks_blocked()
        for scope in (second, trio.CancelScope()):
            nursery.start_soon(later, scope)
            await wait_all_tasks_blocked()
        os.write(sink, b"ab")
    assert second.cancelled_caught
    assert got == [b"a", b"b"]
    await file.aclose()
    os.close(sink)


@pytest.mark.parametrize("mode", ["rb+", "wb+"])
@pytest.mark.parametrize(
    "call", ["read", "read 2", "readline", "readinto", "readinto1", "peek", "read1", "seek", "truncate"]
)
async def test_cancelled_while_what_was_written_is_flushed(path: Path, mode: str, call: str) -> None:
    """Whatever becomes of the call, what was written before is not lost, and the position tells."""
    name, _, argument = call.partition(" ")
    arguments: list[Any] = [int(argument)] if argument else []
    if name.startswith("readinto"):
        arguments = [bytearray(5)]
    if name == "seek":
        arguments = [2, 1]
    for cancel_after in range(4):
        file = await open_file(path, mode)
        await file.seek(3)
        await file.write(b"written")
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(getattr(file, name), *arguments)
                for _ in range(cancel_after):
                    await trio.lowlevel.checkpoint()
                scope.cancel()
        await file.flush()
        if name != "truncate":
            assert path.read_bytes()[3:10] == b"written"
        assert await file.tell() >= 10
        await file.aclose()


@pytest.mark.parametrize("mode", ["ab", "a"])
async def test_appending_with_cancels_tears_nothing(path: Path, mode: str) -> None:
    path.write_bytes(b"")
    told: list[int] = []
    async with await open_file(path, mode, buffering=64 if mode == "ab" else -1) as file:

        async def writer(number: int) -> None:
            for i in range(20):
                record = f"{number * 100 + i:06d}" * 10 + "\n"
                with trio.move_on_after(random.random() * 2e-4):
                    await file.write(record if mode == "a" else record.encode())
                    told.append(number * 100 + i)

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(writer, number)
    lines = path.read_text().splitlines()
    assert all(len(line) == 60 and line == line[:6] * 10 for line in lines)
    assert sorted(int(line[:6]) for line in lines) == sorted(told)


async def test_cancelled_reads_keep_the_position(path: Path) -> None:
    data = path.read_bytes()
    found = b""
    async with await open_file(path, "rb", buffering=100) as file:
        while len(found) < len(data):
            piece = b""
            with trio.move_on_after(random.random() * 1e-4):
                piece = await file.read(random.randrange(1, 400))
                found += piece
    assert found == data


async def test_cancelled_before_it_began(path: Path) -> None:
    async with await open_file(path, "r+b", buffering=0) as file:
        before = path.read_bytes()
        for call in (
            lambda: file.write(b"no"),
            lambda: file.pwrite(b"no", 5),
            lambda: file.truncate(0),
            lambda: file.read(3),
            lambda: file.read(),
            lambda: file.seek(9),
            lambda: file.readline(),
        ):
            with trio.CancelScope() as scope:
                scope.cancel()
                await call()
            assert scope.cancelled_caught
        assert await file.tell() == 0
        assert path.read_bytes() == before


async def test_aclose_in_a_cancelled_scope_writes(path: Path) -> None:
    file = await open_file(path, "w")
    await file.write("kept")
    with trio.CancelScope() as scope:
        scope.cancel()
        await file.aclose()
    assert scope.cancelled_caught
    assert file.closed
    assert path.read_text() == "kept"
    await file.aclose()


async def test_closing_waits_for_what_is_under_way(path: Path) -> None:
    file = await open_file(path, "r+b")
    done: list[int] = []

    async def sync() -> None:
        await file.fsync()
        done.append(len(await file.read_many([(0, 100)] * 50)))

    async def close() -> None:
        await file.aclose()
        assert file.closed

    async with trio.open_nursery() as nursery:
        nursery.start_soon(file.pwrite, b"z" * 100_000, 0)
        nursery.start_soon(file.readlines)
        await trio.lowlevel.checkpoint()
        nursery.start_soon(close)
    assert path.read_bytes() == b"z" * 100_000
    for call in (file.read, file.flush, file.tell, file.readline):
        with pytest.raises(ValueError, match="closed file"):
            await call()
    with pytest.raises(ValueError, match="closed file"):
        await file.pread(1, 0)
    with pytest.raises(ValueError, match="closed file"):
        await file.read_many([(0, 9)])


async def test_fifo(tmp_path: Path) -> None:
    name = tmp_path / "fifo"
    os.mkfifo(name)
    opened: list[Any] = []

    async def reader() -> None:
        opened.append(await open_file(name, "rb"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader)
        await wait_all_tasks_blocked()
        await trio.sleep(0.02)
        assert not opened, "open waits for the other end"
        sink = await open_file(name, "wb", buffering=0)
    source = opened[0]
    await sink.write(b"some")
    with trio.move_on_after(0.02) as scope:
        await source.read(10)
    assert scope.cancelled_caught
    await sink.write(b" more")
    assert await source.read1(100) == b"some"
    assert await source.read1(100) == b" more"

    async def blocked() -> None:
        with pytest.raises(trio.ClosedResourceError):
            await source.read(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(blocked)
        await wait_all_tasks_blocked()
        await source.aclose()
    with pytest.raises(BrokenPipeError):
        await sink.write(b"nobody")
    await sink.aclose()


def test_open_of_a_fifo_outlives_a_stop_of_the_process(tmp_path: Path) -> None:
    """A signal that stops the process interrupts the kernel worker that waits for the other end."""
    name = tmp_path / "fifo"
    os.mkfifo(name)
    program = (
        "import sys, uring_trio\n"
        "async def main():\n"
        "    print('opening', flush=True)\n"
        "    async with await uring_trio.open_file(sys.argv[1], 'rb') as file:\n"
        "        print(await file.read())\n"
        "uring_trio.run(main)\n"
    )
    command = [sys.executable, "-c", program, str(name)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "opening\n"
            for _ in range(3):
                time.sleep(0.05)
                process.send_signal(signal.SIGSTOP)
                os.waitid(os.P_PID, process.pid, os.WSTOPPED)
                process.send_signal(signal.SIGCONT)
            time.sleep(0.05)
            with open(os.open(name, os.O_RDWR), "wb", buffering=0) as sink:  # does not wait
                sink.write(b"some")
            assert process.stdout.read() == "b'some'\n"
        finally:
            process.kill()
    assert process.returncode == 0


async def test_cancelled_open_of_a_fifo(tmp_path: Path) -> None:
    name = tmp_path / "fifo"
    os.mkfifo(name)
    with trio.move_on_after(0.05) as scope:
        await open_file(name, "rb")
    assert scope.cancelled_caught


async def test_proc_files() -> None:
    async with await open_file("/proc/self/status") as file:
        text = await file.read()
    assert "VmRSS" in text
    async with await open_file("/proc/self/maps", "rb") as file:
        assert len([line async for line in file]) > 10
    async with await open_file("/dev/zero", "rb") as file:
        assert await file.read(10) == bytes(10)
    async with await open_file("/dev/null", "w") as file:
        await file.write("gone")


async def test_full_disk(path: Path) -> None:
    with open("/dev/full", "wb", buffering=0) as stock, pytest.raises(OSError) as expected:
        stock.write(b"x")
    async with await open_file("/dev/full", "wb", buffering=0) as file:
        with pytest.raises(OSError) as found:
            await file.write(b"x")
    assert (type(found.value), str(found.value)) == (type(expected.value), str(expected.value))
    file = await open_file("/dev/full", "w")
    await file.write("x")
    with pytest.raises(OSError, match="No space left"):
        await file.flush()
    with pytest.raises(OSError, match="No space left"):
        await file.aclose()
    assert file.closed


async def test_truncated_while_read(path: Path) -> None:
    async with await open_file(path, "rb", buffering=100) as file:
        assert len(await file.read(150)) == 150
        os.truncate(path, 160)
        assert len(await file.read()) == 50
        assert await file.read() == b""


async def test_wrong_types(path: Path) -> None:
    async with await open_file(path, "r+b") as file:
        for call, argument in (
            (file.write, "text"),
            (file.write, 5),
            (file.readinto, b"fixed"),
            (file.read, "n"),
        ):
            with pytest.raises(TypeError):
                await call(argument)
    async with await open_file(path, "r+", encoding="latin-1") as file:
        for call, argument in ((file.write, b"bytes"), (file.read, "n"), (file.seek, "far")):
            with pytest.raises(TypeError):
                await call(argument)
        with pytest.raises(AttributeError):
            _ = file.getvalue
    with pytest.raises(UnicodeDecodeError):
        async with await open_file(path, encoding="utf-8") as file:
            await file.read()


async def test_detach(path: Path) -> None:
    path.write_text("one\ntwo\n")
    file = await open_file(path)
    assert await file.readline() == "one\n"
    binary = await file.detach()
    assert isinstance(binary, BufferedFile)
    with pytest.raises(ValueError, match="detached"):
        await file.read()
    raw = await binary.detach()
    await raw.seek(4)
    assert await raw.read() == b"two\n"
    await raw.aclose()


@pytest.mark.parametrize(
    ("mode", "buffering", "call", "argument"),
    [
        ("rb", -1, "write", b"x"),
        ("rb", 0, "write", b"x"),
        ("wb", -1, "read", 1),
        ("wb", -1, "read", "x"),
        ("wb", -1, "readinto", bytearray(1)),
        ("wb", 0, "read", 1),
        ("wb", 0, "read", "x"),
        ("wb", 0, "readinto", bytearray(1)),
        ("r+b", 0, "read", "x"),
        ("r+b", 0, "readinto", b"x"),
        ("r+b", 0, "write", "x"),
        ("r+b", -1, "read", "x"),
        ("r+b", -1, "read", 1 << 70),
        ("r", -1, "write", "x"),
        ("r+", -1, "write", b"x"),
    ],
)
async def test_a_cancellation_comes_before_a_refusal(
    path: Path, mode: str, buffering: int, call: str, argument: Any
) -> None:
    for opened in (trio.open_file, open_file):
        path.write_bytes(b"old")
        async with await opened(path, mode, buffering) as file:
            with trio.CancelScope() as scope:
                scope.cancel()
                await getattr(file, call)(argument)
            assert scope.cancelled_caught
            with pytest.raises((OSError, ValueError, TypeError, OverflowError)):
                await getattr(file, call)(argument)


async def test_a_detached_file_that_is_forgotten_writes(path: Path) -> None:
    told = []
    for opened in (trio.open_file, open_file):
        file: Any = await opened(path, "w+")
        await file.write("text ")
        file = await file.detach()
        await file.write(b"bytes")
        if opened is trio.open_file:
            file = file.wrapped
        with pytest.warns(ResourceWarning, match="unclosed") as warned:
            del file
        told.append((len(warned), path.read_bytes()))
    assert told[0] == told[1] == (1, b"text bytes")


async def test_unclosed_is_told(path: Path) -> None:
    file = await open_file(path)
    assert not file.closed
    with pytest.warns(ResourceWarning, match="unclosed file"):
        del file


# ---- iterating --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["r", "rb"])
async def test_a_loop_looks_for_cancellation_at_each_line(path: Path, mode: str) -> None:
    path.write_text("line\n" * 1000)
    seen = 0
    with trio.CancelScope() as scope:
        async with await open_file(path, mode) as file:
            async for _ in file:
                seen += 1
                if seen == 7:
                    scope.cancel()
    assert seen == 7


async def test_a_loop_and_calls_agree(path: Path) -> None:
    path.write_text("".join(f"{i}\n" for i in range(30000)))
    with open(path) as stock:
        async with await open_file(path) as file:
            async for line in file:
                assert line == stock.readline()
                if line == "5000\n":
                    break
            assert await file.tell() == stock.tell()
            assert await file.read(100) == stock.read(100)
            place = await file.tell()
            rest = await file.read()
            assert rest == stock.read()
            await file.seek(place)
            assert "".join([line async for line in file]) == rest


async def test_others_run_while_a_file_is_iterated(path: Path) -> None:
    path.write_bytes(b"x\n" * 200_000)
    ticks = 0

    async def clock() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(clock)
        async with await open_file(path) as file:
            async for _ in file:
                pass
        nursery.cancel_scope.cancel()
    assert ticks >= 200_000 * 2 // 65536


async def test_every_call_is_a_checkpoint(path: Path) -> None:
    async with await open_file(path, "r+b") as file:
        with assert_checkpoints():
            await file.read(5)
        with assert_checkpoints():
            await file.read(5)
        for call in (file.tell, file.flush, file.readline, file.peek):
            with assert_checkpoints():
                await call()
        with assert_checkpoints():
            await file.write(b"x")
        with assert_checkpoints():
            await file.seek(0)
        with assert_checkpoints():
            await file.pread(3, 0)
        with assert_checkpoints():
            await file.read_many([])
    with assert_checkpoints():
        await file.aclose()


async def test_starts_no_thread(path: Path) -> None:
    before = set(threading.enumerate())
    async with await open_file(path, "r+b") as file:
        await file.read()
        await file.write(b"x")
        await file.fsync()
        await file.stat()
        assert not set(threading.enumerate()) - before


async def test_wrapped_is_a_stock_file(path: Path) -> None:
    async with await open_file(path, "rb") as file:
        assert isinstance(file.wrapped, io.BufferedReader)
        assert isinstance(file.raw, io.FileIO)
        assert file.raw is file.wrapped.raw
    async with await open_file(path) as text:
        assert isinstance(text.wrapped, io.TextIOWrapper)
        assert text.buffer is text.wrapped.buffer
    assert "TextFile" in repr(text)


def test_needs_a_ring(path: Path) -> None:
    with pytest.raises(RuntimeError, match="ring run"):
        trio.run(uring_trio.open_file, path)


@pytest.mark.parametrize("mode", ["r", "rb"])
async def test_a_closed_file_gives_no_lines_that_it_still_has(path: Path, mode: str) -> None:
    path.write_bytes(b"first\nsecond\n")
    file = await open_file(path, mode)
    lines = aiter(file)
    await anext(lines)
    await file.aclose()
    with pytest.raises(ValueError, match="closed file"):
        await anext(lines)


async def test_a_file_that_was_closed_underneath_reads_no_other(path: Path) -> None:
    file = await open_file(path, "rb")
    fd = file.fileno()
    file.wrapped.close()
    with open(path.with_name("other"), "w+b") as other:
        assert other.fileno() == fd
        with pytest.raises(ValueError, match="closed file"):
            await file.pread(10, 0)
    await file.aclose()


def test_ctrl_c_while_closing_waits_for_what_is_under_way(path: Path) -> None:
    source, sink = os.pipe()

    async def press() -> None:
        await wait_all_tasks_blocked()
        signal.raise_signal(signal.SIGINT)
        await wait_all_tasks_blocked()
        os.write(sink, b"x")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            file = await open_file(path, "rb")
            nursery.start_soon(file._run, ops.poll_add(source, select.POLLIN))  # a call that takes long
            await wait_all_tasks_blocked()
            nursery.start_soon(press)
            with pytest.raises(KeyboardInterrupt):
                await file.aclose()
            assert "poll_add" not in in_flight()
            assert file.wrapped.closed

    try:
        uring_trio.run(main, restrict_keyboard_interrupt_to_checkpoints=True)
    finally:
        os.close(source)
        os.close(sink)


async def test_a_pipe_has_no_offsets() -> None:
    source, sink = os.pipe()
    os.write(sink, b"data")
    async with await open_file(source, "rb", 0) as reader, await open_file(sink, "wb", 0) as writer:
        for call in (
            lambda: reader.pread(0, 0),
            lambda: reader.pread(2, 0),
            lambda: reader.readinto_at(bytearray(2), 0),
            lambda: reader.read_many([(0, 2)]),
            lambda: reader.preadv([bytearray(2)], 0),
            lambda: writer.pwrite(b"more", 0),
            lambda: writer.write_many([(0, b"more")]),
            lambda: writer.pwritev([b"more"], 0),
        ):
            with pytest.raises(OSError, match="Illegal seek") as caught:
                await call()
            assert caught.value.errno == errno.ESPIPE
        assert await reader.read(100) == b"data"
