"""Files on the ring: what only they can do, cancelling, closing, and what the system refuses."""

from __future__ import annotations

import errno
import io
import os
import random
import resource
import select
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import forget_contents, in_flight, statistics
from uring import ops
from uring_trio import BufferedFile, RawFile, TextFile, open_direct, open_file, perform_many


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "file"
    found.write_bytes(bytes(range(256)) * 64)
    return found


# ---- opening ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        (("rb", 0), RawFile),
        (("rb",), BufferedFile),
        (("wb",), BufferedFile),
        (("r+b",), BufferedFile),
        (("r",), TextFile),
        (("a+",), TextFile),
    ],
)
async def test_opens_what_open_does(path: Path, arguments: Any, kind: type) -> None:
    with open(path, *arguments) as stock:
        async with await open_file(path, *arguments) as file:
            assert type(file) is kind
            for name in ("name", "mode", "encoding", "errors", "line_buffering", "newlines", "closefd"):
                assert getattr(file, name, "none") == getattr(stock, name, "none"), name
            assert file.readable() == stock.readable()
            assert file.writable() == stock.writable()
            assert file.seekable()
            assert not file.isatty()
            assert os.get_inheritable(file.fileno()) is False
            assert type(file.wrapped) is type(stock)
    assert file.closed
    assert file.wrapped.closed


BAD = [
    ("nothing-here", "r"),
    ("nothing-here/below", "rb"),
    (".", "r"),
    (".", "wb"),
    ("file", "x"),
    ("file/below", "r"),
    ("file", "rw"),
    ("file", ""),
    ("file", "tb"),
    ("file", "r", 0),
    ("file", "rb", -1, "utf-8"),
    ("file", "r", -1, "no-such-encoding"),
    ("file", "r", -1, None, "no-such-handler", "x"),
    ("file", "r", -1, None, None, "\n\n"),
    ("file", "rb", "many"),
    ("file", 7),
    ("fi\0le", "r"),
    (b"missing", "rb"),
    (3.5, "r"),
    ("file", "w", -1, None, None, None, False),
    ("x" * 300, "r"),
    ("loop", "r"),
]


@pytest.mark.parametrize("arguments", BAD, ids=repr)
async def test_refuses_what_open_refuses(path: Path, arguments: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    os.symlink("loop", "loop")
    with pytest.raises((OSError, ValueError, TypeError, LookupError)) as stock:
        open(*arguments)  # noqa: SIM115
    with pytest.raises((OSError, ValueError, TypeError, LookupError)) as ring:
        await open_file(*arguments)
    assert type(ring.value) is type(stock.value)
    assert str(ring.value) == str(stock.value)
    if isinstance(stock.value, OSError):
        assert ring.value.filename == stock.value.filename  # type: ignore[attr-defined]


async def test_permission(path: Path) -> None:
    if os.geteuid() == 0:
        with pytest.raises(OSError) as stock:
            open("/proc/sys/kernel/ostype/x")  # noqa: SIM115
        with pytest.raises(OSError) as ring:
            await open_file("/proc/sys/kernel/ostype/x")
    else:
        path.chmod(0)
        with pytest.raises(PermissionError) as stock:
            open(path)  # noqa: SIM115
        with pytest.raises(PermissionError) as ring:
            await open_file(path)
    assert (type(ring.value), str(ring.value)) == (type(stock.value), str(stock.value))


async def test_descriptor_and_opener(path: Path) -> None:
    fd = os.open(path, os.O_RDWR)
    async with await open_file(fd, "rb", closefd=False) as file:
        assert await file.read(3) == b"\0\1\2"
    os.lseek(fd, 5, os.SEEK_SET)
    flags = []

    def opener(name: str, wanted: int) -> int:
        flags.append(wanted)
        return fd

    async with await open_file("any name", "wb", opener=opener) as file:
        assert file.name == "any name"
        await file.write(b"xx")
    assert path.read_bytes()[4:8] == b"\4xx\7"
    assert flags[0] & os.O_CREAT
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


async def test_relative_to_where_the_program_is(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    async with await open_file("file", "rb") as file:
        assert file.name == "file"
        assert await file.read(2) == b"\0\1"


async def test_cancelled_open_leaks_nothing(path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with trio.CancelScope() as scope:
        scope.cancel()
        await open_file(path.parent / "new", "w")
    assert not (path.parent / "new").exists()
    for delay in range(40):
        with trio.move_on_after(delay * 5e-6):
            async with await open_file(path, "rb") as file:
                await file.read(1)
    assert os.listdir("/proc/self/fd") == before


async def test_outside_a_ring_run(path: Path) -> None:
    async with await open_file(path, "rb") as file:

        def elsewhere() -> str:
            async def main() -> None:
                await file.pread(4, 0)

            with pytest.raises(RuntimeError, match="ring run"):
                trio.run(main)
            with pytest.raises(RuntimeError, match="ring run"):
                trio.run(open_file, path)
            return "done"

        assert await trio.to_thread.run_sync(elsewhere) == "done"


# ---- places, many at once ----------------------------------------------------------------------------


async def test_positional(path: Path) -> None:
    data = path.read_bytes()
    async with await open_file(path, "r+b") as file:
        assert await file.pread(10, 250) == data[250:260]
        assert await file.pread(10, len(data) - 3) == data[-3:]
        assert await file.pread(10, len(data)) == b""
        assert await file.pread(1, 7) == b"\7"
        assert await file.pread(0, 7) == b""
        room = bytearray(6)
        assert await file.readinto_at(room, 1) == 6
        assert room == data[1:7]
        pair = [bytearray(2), bytearray(3)]
        assert await file.preadv(pair, 100) == 5
        assert b"".join(pair) == data[100:105]
        assert await file.pwrite(b"hello", 0) == 5
        assert await file.pwritev([b"a", memoryview(b"bc")], 5) == 3
        assert path.read_bytes()[:9] == b"helloabc\x08"
        assert await file.tell() == 0
        for wrong in (-1, 1 << 63):
            with pytest.raises(OSError, match="Invalid argument"):
                await file.pread(4, wrong)
        with pytest.raises(ValueError):
            await file.pread(-1, 0)
        with pytest.raises(TypeError):
            await file.pwrite("text", 0)


async def test_read_many_is_one_wake_up(path: Path) -> None:
    data = path.read_bytes()
    async with await open_file(path, "rb") as file:
        places = [(random.randrange(len(data) - 500), random.randrange(500)) for _ in range(300)]
        forget_contents(path)
        before = statistics()
        found = await file.read_many(places)
        after = statistics()
        assert found == [data[offset : offset + n] for offset, n in places]
        assert after.submitted - before.submitted >= 300
        assert after.enters - before.enters < 100  # the disk answers bit by bit
        assert await file.read_many([]) == []
        assert await file.read_many([(0, 4), (len(data), 4)]) == [data[:4], b""]
        for wrong in ([(-1, 4)], [(0, -4)], [(0, 1 << 32)]):
            with pytest.raises((ValueError, OSError)):
                await file.read_many(wrong)


async def test_write_many(path: Path) -> None:
    async with await open_file(path, "r+b") as file:
        pieces = [(i * 50, bytes([i % 256]) * 50) for i in range(600)]
        random.shuffle(pieces)
        assert await file.write_many(pieces) == 600 * 50
        assert path.read_bytes() == b"".join(bytes([i % 256]) * 50 for i in range(600))
        assert await file.write_many([(0, b"")]) == 0
    async with await open_file(path, "rb") as file:
        with pytest.raises(OSError) as caught:
            await file.write_many([(0, b"x"), (1, b"y")])
        assert caught.value.errno == errno.EBADF


async def test_cancelled_batch(path: Path) -> None:
    async with await open_file(path, "r+b") as file:
        before = path.read_bytes()
        with trio.CancelScope() as scope:
            scope.cancel()
            await file.write_many([(i, b"X") for i in range(1000)])
        assert path.read_bytes() == before
        async with trio.open_nursery() as nursery:
            nursery.start_soon(file.write_many, [(i, b"X") for i in range(100)])
            # The batch is queued in the same tick that this task cancels it in: nothing reaches the kernel.
            await trio.sleep(0)
            nursery.cancel_scope.cancel()
        assert await file.pread(8, 0) in (before[:8], b"X" * 8)
    assert in_flight() == {}


async def test_perform_many(path: Path) -> None:
    names = [path, path.parent / "missing", path.parent]
    results = await perform_many([ops.statx(name) for name in names])
    assert results[0].st_size == path.stat().st_size
    assert isinstance(results[1], FileNotFoundError)
    assert stat.S_ISDIR(results[2].st_mode)
    assert await perform_many([]) == []
    with pytest.raises(TypeError):
        await perform_many(["no operation"])  # type: ignore[list-item]


async def test_perform_many_discards_what_nobody_gets(path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    for delay in range(30):
        with trio.move_on_after(delay * 10e-6):
            for fd in await perform_many([ops.openat(path) for _ in range(20)]):
                os.close(fd)
    assert os.listdir("/proc/self/fd") == before


async def test_the_rest_of_the_ring(path: Path) -> None:
    async with await open_file(path, "r+b") as file:
        await file.write(b"buffered")
        await file.fsync()
        assert path.read_bytes()[:8] == b"buffered"
        await file.fsync(datasync=True)
        await file.sync_range(0, 100)
        await file.allocate(0, 100_000)
        assert path.stat().st_size == 100_000
        await file.advise(os.POSIX_FADV_SEQUENTIAL)
        assert await file.stat() == os.fstat(file.fileno())


async def test_direct(path: Path) -> None:
    data = path.read_bytes()
    try:
        file = await open_direct(path, os.O_RDWR)
    except OSError as exc:
        pytest.skip(f"this file system knows no O_DIRECT: {exc}")
    async with file:
        for offset, n in ((0, 4096), (5, 10), (4090, 20), (len(data) - 7, 100), (len(data), 5), (0, 0)):
            assert await file.pread(n, offset) == data[offset : offset + n]
        block = b"d" * file.align
        assert await file.pwrite(block, file.align) == file.align
        assert path.read_bytes()[file.align : 2 * file.align] == block
        for wrong, offset in ((b"short", 0), (block, 5)):
            with pytest.raises(ValueError, match="whole blocks"):
                await file.pwrite(wrong, offset)
        await file.truncate(10)
        assert await file.pread(100, 0) == data[:10]
    with pytest.raises(ValueError, match="closed file"):
        await file.pread(1, 0)
    with open(path, "rb") as other:  # which the number of the descriptor may belong to now
        with pytest.raises(ValueError, match="closed file"):
            await file.truncate(0)
        assert other.read() == data[:10]
    with pytest.raises(FileNotFoundError):
        await open_direct(path.parent / "missing")


def test_workers_are_bounded(path: Path) -> None:
    async def main() -> None:
        assert statistics().workers == 3
        await trio.to_thread.run_sync(lambda: None)
        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(uring_trio.stat, path)
            await trio.sleep(0)
        names = [Path(f"/proc/self/task/{task}/comm").read_text() for task in os.listdir("/proc/self/task")]
        assert 1 <= sum(name.startswith("iou-wrk") for name in names) <= 3

    uring_trio.run(main, ring=uring_trio.RingOptions(workers=3))


async def test_asking_for_much_takes_no_memory(path: Path) -> None:
    path.write_bytes(b"a")
    before = resident()
    async with await open_file(path, "rb") as file:
        for n in (1 << 30, 1 << 32):
            assert await file.pread(n, 0) == await file.read(n) == b"a"
            assert await file.seek(0) == 0
        assert await file.read_many([(0, 1 << 30)]) == [b"a"]
    async with await open_file(path) as text:
        assert await text.read(sys.maxsize) == "a"
    assert resident() - before < 100 << 20


async def test_open_files_hold_no_memory_of_reads_past(path: Path) -> None:
    path.write_bytes(bytes(1 << 20))
    before = resident()
    files = [await open_file(path, "rb", 0) for _ in range(200)]
    for file in files:
        assert await file.read_many([(0, 1 << 19), (1 << 19, 1 << 19)]) == [bytes(1 << 19)] * 2
    assert resident() - before < 100 << 20
    for file in files:
        await file.aclose()


def resident() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# ---- sharing, cancelling, closing --------------------------------------------------------------------


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


# ---- iterating ---------------------------------------------------------------------------------------


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
    before = threading.active_count()
    async with await open_file(path, "r+b") as file:
        await file.read()
        await file.write(b"x")
        await file.fsync()
        await file.stat()
        assert threading.active_count() == before


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

    def press() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        os.write(sink, b"x")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            file = await open_file(path, "rb")
            nursery.start_soon(file._run, ops.poll_add(source, select.POLLIN))  # a call that takes long
            await wait_all_tasks_blocked()
            thread = threading.Timer(0.05, press)
            thread.start()
            try:
                with pytest.raises(KeyboardInterrupt):
                    await file.aclose()
                assert "poll_add" not in in_flight()
                assert file.wrapped.closed
            finally:
                thread.join()

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
