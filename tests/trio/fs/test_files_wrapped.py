"""Files of the ring where the standard library's file shows: ``wrapped``, descriptors that do not block,
files that were never closed. Each is compared with Trio's own file, or with `open`, in the same test."""

from __future__ import annotations

import csv
import fcntl
import gc
import itertools
import json
import os
import pickle
import subprocess
import sys
import threading
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from uring_trio import BufferedFile, TextFile, open_file

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

ROWS = "".join(f"{i},{i}\n" for i in range(3000))
ODD = "ab\r\n€𝄞\ré\nx\r\n" * 1500


def both(program: Callable[[Any, Path], Awaitable[Any]], tmp: Path) -> tuple[Any, Any]:
    """What a program answers on stock Trio and on the ring, told how to open, each with its own folder."""
    (tmp / "stock").mkdir()
    (tmp / "ring").mkdir()
    return (
        trio.run(program, trio.open_file, tmp / "stock"),
        uring_trio.run(program, open_file, tmp / "ring"),
    )


# ---- wrapped -----------------------------------------------------------------------------------------


def test_one_object_serves_both(tmp_path: Path) -> None:
    async def program(opened: Any, folder: Path) -> list[Any]:
        path, told = folder / "file", []
        path.write_text(ROWS)
        async with await opened(path) as file:
            told.append(await file.readline())
            told.append(len(await trio.to_thread.run_sync(lambda: list(csv.reader(file.wrapped)))))
        path.write_bytes(pickle.dumps([1]) + pickle.dumps([2]) + b"tail")
        async with await opened(path, "rb") as file:
            await file.read(len(pickle.dumps([1])))
            told.append(await trio.to_thread.run_sync(pickle.load, file.wrapped))
            told.append(await file.read())
        async with await opened(path, "w") as file:
            await file.write("async ")
            json.dump({"a": 1}, file.wrapped)
            await file.write(" tail")
            file.wrapped.flush()
            file.buffer.write(b"bytes")
            told += [file.wrapped.name == str(path), file.fileno() == file.wrapped.fileno(), file.mode]
        told.append(path.read_bytes())
        return told

    stock, ring = both(program, tmp_path)
    assert stock == ring


def test_a_thread_has_it_while_tasks_await(tmp_path: Path) -> None:
    async def program(opened: Any, folder: Path) -> list[int]:
        path = folder / "file"
        path.write_text("".join(f"{i:05}\n" for i in range(4000)))
        async with await opened(path, "rb") as file:
            seen = [int(await file.readline())]
            wrapped = file.wrapped

            def in_thread() -> None:
                while line := wrapped.read(6):
                    seen.append(int(line))

            async def in_task() -> None:
                while line := await file.read(6):
                    seen.append(int(line))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.to_thread.run_sync, in_thread)
                nursery.start_soon(in_task)
        return sorted(seen)

    stock, ring = both(program, tmp_path)
    assert stock == ring == list(range(4000))


def test_in_the_middle_of_calls_that_have_not_begun(tmp_path: Path) -> None:
    async def program(opened: Any, folder: Path) -> Any:
        path = folder / "file"
        async with await opened(path, "w+") as file, trio.open_nursery() as nursery:
            await file.write("first ")
            nursery.start_soon(file.write, "second ")
            await trio.sleep(0)
            assert file.wrapped.writable()
        return sorted(path.read_text().split())

    stock, ring = both(program, tmp_path)
    assert stock == ring


async def test_not_in_the_middle_of_one_that_has() -> None:
    source, sink = os.pipe()
    async with await open_file(source, "rb") as file, trio.open_nursery() as nursery:
        nursery.start_soon(file.read, 1)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            _ = file.wrapped
        os.write(sink, b"data")
        await wait_all_tasks_blocked()
        os.close(sink)
        assert file.wrapped.read() == b"ata"


KINDS = list(
    itertools.product(
        ("utf-8", "utf-16", "utf-8-sig", "shift_jis"), (None, "", "\n", "\r\n"), ("rest", "line")
    )
)


@pytest.mark.parametrize(("encoding", "newline", "then"), KINDS)
async def test_what_a_pipe_has_given_is_not_lost(encoding: str, newline: str | None, then: str) -> None:
    text = ODD.replace("€", "あ").replace("𝄞", "い").replace("é", "う") if encoding == "shift_jis" else ODD
    data = text.encode(encoding)[:30_000]
    told = []
    for n in (0, 1, 2, 3, 5, 9, 4000, 9000):
        for ring in (False, True):
            source, sink = os.pipe()
            fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, 1 << 16)
            os.write(sink, data)
            os.close(sink)
            named: Any = {"encoding": encoding, "errors": "replace", "newline": newline}
            if ring:
                async with await open_file(source, **named) as file:
                    answer: list[Any] = [await file.read(n) if n % 2 else await file.readline(n)]
                    stock = file.wrapped
                    answer.append(file.newlines)
                    answer += rest_of(stock, then)
                    answer.append(await file.read())
            else:
                with open(source, **named) as stock:
                    answer = [stock.read(n) if n % 2 else stock.readline(n), stock.newlines]
                    answer += [*rest_of(stock, then), stock.read()]
            told.append(answer)
        assert told[-1] == told[-2]


def rest_of(stock: Any, then: str) -> list[Any]:
    if then == "line":
        return [stock.readline(), stock.newlines, stock.readline(3)]
    return [stock.read()]


@pytest.mark.parametrize("n", [0, 1, 5, 8192, 9000])
async def test_bytes_that_a_pipe_has_given_are_not_lost(n: int) -> None:
    data = os.urandom(20_000)
    source, sink = os.pipe()
    os.write(sink, data)
    os.close(sink)
    async with await open_file(source, "rb") as file:
        assert await file.read(n) == data[:n]
        stock = file.wrapped
        assert stock.read(3) + await file.read(7) + stock.read() == data[n:]
        assert (stock.name, stock.mode, stock.seekable()) == (source, "rb", False)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-8-sig", "utf-32"])
@pytest.mark.parametrize("kind", ["pipe", "w", "a", "w+", "r+"])
async def test_marks_are_written_once(tmp_path: Path, encoding: str, kind: str) -> None:
    written = []
    for ring in (False, True):
        path = tmp_path / f"file{ring}"
        path.write_text("old", encoding=encoding)
        source = None
        what: Any = path
        if kind == "pipe":
            source, what = os.pipe()
        mode = "w" if kind == "pipe" else kind
        if ring:
            file = await open_file(what, mode, encoding=encoding)
            await file.write("one\n")
            file.wrapped.write("two\n")
            await file.write("three\n")
            await file.aclose()
        else:
            with open(what, mode, encoding=encoding) as stock:
                stock.writelines(["one\n", "two\n", "three\n"])
        if source is None:
            written.append(path.read_bytes())
        else:
            with open(source, "rb") as pipe:
                written.append(pipe.read())
    assert written[0] == written[1]


async def test_detached_of_what_was_handed_over(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one\ntwo\n")
    file = await open_file(path)
    assert file.wrapped.readline() == "one\n"
    binary = await file.detach()
    assert isinstance(binary, BufferedFile)
    with pytest.raises(ValueError, match="detached"):
        await file.read()
    await binary.seek(4)
    assert await binary.read() == b"two\n"
    raw = await binary.detach()
    await raw.seek(0)
    assert await raw.read() == b"one\ntwo\n"
    await raw.aclose()


# ---- descriptors that do not block -------------------------------------------------------------------


def test_a_pipe_that_does_not_block(tmp_path: Path) -> None:
    async def program(opened: Any, folder: Path) -> list[Any]:
        told: list[Any] = []

        async def tell(call: Any, *arguments: Any) -> None:
            try:
                told.append(await call(*arguments))
            except (OSError, TypeError, ValueError) as exc:
                told.append((type(exc), str(exc), getattr(exc, "characters_written", None)))

        for mode, buffering in (("rb", 0), ("rb", -1), ("r", -1)):
            source, sink = os.pipe()
            os.set_blocking(source, False)
            async with await opened(source, mode, buffering) as file:
                await tell(file.read, 3)
                await tell(file.read)
                os.write(sink, b"abcdef\nrest")
                await tell(file.read, 3)
                await tell(file.readline)
                await tell(file.read, 100)
                await tell(file.readline)
                if mode != "r":
                    await tell(file.readinto, bytearray(3))
                os.close(sink)
                await tell(file.read)
        for mode, buffering in (("wb", 0), ("wb", -1), ("w", -1)):
            source, sink = os.pipe()
            fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, 4096)
            os.set_blocking(sink, False)
            data: Any = "x" * 20_000 if mode == "w" else b"x" * 20_000
            file = await opened(sink, mode, buffering)
            await tell(file.write, data)
            await tell(file.flush)
            await tell(file.write, data[:10])
            os.set_blocking(source, False)
            for _ in range(3):
                with suppress(BlockingIOError):
                    told.append(len(os.read(source, 1 << 16)))
                await tell(file.flush)
            os.close(source)
            await tell(file.aclose)
        return told

    stock, ring = both(program, tmp_path)
    assert stock == ring


async def test_a_descriptor_that_is_made_not_to_block() -> None:
    source, sink = os.pipe()
    os.write(sink, b"abc")
    async with await open_file(source, "rb") as file:
        assert await file.read(1) == b"a"
        os.set_blocking(source, False)
        assert await file.read(9) == b"bc"
        assert await file.read(9) is None
    os.close(sink)


# ---- never closed ------------------------------------------------------------------------------------

MODES = [("w", -1), ("wb", -1), ("wb", 0), ("a", -1), ("r+", -1), ("w+b", 3), ("r", -1), ("rb", -1)]


@pytest.mark.parametrize(("mode", "buffering"), MODES)
@pytest.mark.parametrize("when", ["in the run", "after it", "in a thread"])
def test_is_written_with_the_same_warning(tmp_path: Path, mode: str, buffering: int, when: str) -> None:
    async def program(opened: Any, path: Path, held: list[Any]) -> None:
        path.write_bytes(b"old content\n")
        held.append(await opened(path, mode, buffering))
        if mode[0] == "r":
            await held[0].readline()
        if mode not in ("r", "rb"):
            await held[0].write(b"five!" if "b" in mode else "five!")
        if when == "in the run":
            held.clear()

    told = []
    for run, opened in ((trio.run, trio.open_file), (uring_trio.run, open_file)):
        path = tmp_path / "file"
        held: list[Any] = []
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            run(program, opened, path, held)
            if when == "in a thread":
                thread = threading.Thread(target=held.clear)
                thread.start()
                thread.join()
            held.clear()
        told.append(([(w.category, str(w.message)) for w in warned], path.read_bytes()))
    assert told[0] == told[1]
    assert len(told[1][0]) == 1


@pytest.mark.parametrize("mode", ["w", "wb", "r+b"])
def test_is_written_when_the_garbage_collector_finds_it(tmp_path: Path, mode: str) -> None:
    """Where it finds the standard library's own files it may close the descriptor before they write."""

    async def main() -> None:
        file: Any = await open_file(tmp_path / "file", mode)
        await file.write(b"five!" if "b" in mode else "five!")
        file.me = file

    (tmp_path / "file").write_bytes(b"")
    with pytest.warns(ResourceWarning, match="unclosed file <_io.(Text|Buffered)"):
        run_and_collect(main)
    assert (tmp_path / "file").read_bytes() == b"five!"


@pytest.mark.parametrize("mode", ["r", "w", "rb", "wb", "r+b"])
async def test_a_dropped_file_that_was_closed_underneath_is_told_as_on_stock_trio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """By a warning, and from Python 3.13 on by the error of the close, which nobody can catch."""
    (tmp_path / "file").write_bytes(b"some")
    told = []
    uncaught: set[str] = set()
    monkeypatch.setattr(sys, "unraisablehook", lambda what: uncaught.add(repr(what.exc_value)))
    for side in ("stock", "ring"):
        data: Any = b"lost" if "b" in mode else "lost"
        file: Any
        if side == "stock":
            # The file that Trio's would be around, which a thread of Trio's keeps for a while.
            file = open(tmp_path / "file", mode)  # noqa: SIM115
        else:
            file = await open_file(tmp_path / "file", mode)
        if "w" in mode:
            written = file.write(data)
            if side == "ring":
                await written
        os.close(file.fileno())
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            del file
            gc.collect()
        told.append(([(warning.category, str(warning.message)) for warning in found], {*uncaught}))
        uncaught.clear()
    assert told[0] == told[1]
    assert len(told[0][0]) == 1


def run_and_collect(main: Any) -> None:
    uring_trio.run(main)
    gc.collect()


AT_EXIT = """
import sys, trio, uring_trio
held = []
async def main(opened):
    file = await opened(sys.argv[1], "w")
    await file.write("five!")
    held.append(file)
    if sys.argv[3] == "crash":
        with trio.move_on_after(0.01):
            await trio.lowlevel.wait_task_rescheduled(lambda _: 1 / 0)
if sys.argv[2] == "ring":
    run, opened = uring_trio.run, uring_trio.open_file
else:
    run, opened = trio.run, trio.open_file
try:
    run(main, opened)
except trio.TrioInternalError:
    assert sys.argv[3] == "crash"
else:
    assert sys.argv[3] != "crash"
"""


@pytest.mark.parametrize("end", ["plain", "crash"])
@pytest.mark.parametrize("option", ["-Wdefault", "-Werror", "-Wignore"])
def test_is_written_when_the_interpreter_ends(tmp_path: Path, end: str, option: str) -> None:
    told = []
    for side in ("stock", "ring"):
        path = tmp_path / "file"
        path.write_bytes(b"")
        done = subprocess.run(
            [sys.executable, option, "-c", AT_EXIT, path, side, end],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        told.append(([line for line in done.stderr.splitlines() if "unclosed" in line], path.read_bytes()))
    assert told[0] == told[1]
    assert told[1][1] == b"five!"


CRASH = """
import gc, sys, trio, uring_trio
from trio.testing import wait_all_tasks_blocked
held = []
async def main():
    held.append(await uring_trio.open_file(int(sys.argv[1]), "wb", 8192))
    await held[0].write(b"a" * 4096 + b"b" * 3000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(held[0].flush)
        await wait_all_tasks_blocked()
        with trio.move_on_after(0.01):
            await trio.lowlevel.wait_task_rescheduled(lambda _: 1 / 0)
try:
    uring_trio.run(main)
except trio.TrioInternalError:
    print("crashed", flush=True)
    held.clear()
    gc.collect()
"""


def test_what_the_kernel_took_before_a_crash_is_not_written_again() -> None:
    source, sink = os.pipe()
    fcntl.fcntl(sink, fcntl.F_SETPIPE_SZ, 4096)
    child = subprocess.Popen(
        [sys.executable, "-c", CRASH, str(sink)],
        pass_fds=[sink],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    os.close(sink)
    with child, open(source, "rb") as pipe:
        assert child.stdout is not None
        assert child.stdout.readline() == b"crashed\n"
        assert pipe.read() == b"a" * 4096 + b"b" * 3000


async def test_what_was_closed_is_not_told(tmp_path: Path) -> None:
    for mode in ("w", "wb", "r+b"):
        path = tmp_path / "file"
        path.write_bytes(b"")
        file = await open_file(path, mode)
        await file.aclose()
        del file
        file = await open_file(path, mode)
        file.wrapped.close()
        assert file.closed
        await file.aclose()
        del file
    gc.collect()


async def test_a_descriptor_that_is_not_the_files_stays_open(tmp_path: Path) -> None:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    for touch in (False, True):
        file = await open_file(fd, "w", closefd=False)
        await file.write("kept")
        if touch:
            assert not file.wrapped.closed
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            del file
        assert warned == []
        assert os.pread(fd, 10, 0).endswith(b"kept")
        assert isinstance(await open_file(fd, closefd=False), TextFile)
    os.close(fd)
