"""Opens that wait without end, and what goes on meanwhile."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import statistics
from uring_trio import open_file

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

MANY = 100
"""More than the kernel has workers for files and paths."""

HOLDER = """
import fcntl, os, signal, sys
signal.signal(signal.SIGIO, signal.SIG_IGN)  # the kernel's wish that it gives the lease up
fd = os.open(sys.argv[1], os.O_RDWR)
fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
print("leased", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def here(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "plain").write_text("data")
    for i in range(MANY):
        os.mkfifo(tmp_path / f"fifo{i}")
        (tmp_path / f"link{i}").symlink_to(f"fifo{i}")
    return tmp_path


@pytest.fixture
def leased(tmp_path: pathlib.Path) -> Iterator[tuple[pathlib.Path, subprocess.Popen[str]]]:
    """A file that no open gets past, until the process that holds its lease ends."""
    path = tmp_path / "leased"
    path.write_text("contents")
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "leased\n"
            yield path, process
        finally:
            process.kill()


async def everything_goes_on(here: pathlib.Path) -> None:
    """What needs a kernel worker, and what may."""
    top = uring_trio.Path(here)
    await (top / "new").mkdir()
    await (top / "plain").rename(top / "new/moved")
    assert await (top / "new/moved").read_text() == "data"
    await (top / "made").write_text("more")
    async with await open_file(top / "made", "rb") as file:
        await file.fsync()
    await uring_trio.copy_file(top / "made", top / "copied")
    await (top / "made").touch()
    for name in ("made", "copied", "new/moved"):
        await (top / name).unlink()
    await (top / "new").rmdir()


@pytest.mark.parametrize("name", ["fifo", "link"])
@pytest.mark.parametrize(("mode", "other_end"), [("rb", os.O_WRONLY), ("wb", os.O_RDONLY)])
async def test_opens_that_wait_keep_nothing_from_running(
    here: pathlib.Path, name: str, mode: str, other_end: int
) -> None:
    bound = statistics().workers
    opened = 0

    async def wait(i: int) -> None:
        nonlocal opened
        async with await open_file(here / f"{name}{i}", mode):
            opened += 1

    async with trio.open_nursery() as nursery:
        for i in range(MANY):
            nursery.start_soon(wait, i)
        await wait_all_tasks_blocked()
        await everything_goes_on(here)
        assert statistics().workers == bound
        assert opened == 0
        for i in range(MANY):
            os.close(await trio.to_thread.run_sync(os.open, here / f"fifo{i}", other_end))
    assert opened == MANY
    assert statistics().workers == bound


async def test_cancelled_all_at_once(here: pathlib.Path) -> None:
    async with trio.open_nursery() as nursery:
        for i in range(MANY):
            nursery.start_soon(open_file, here / f"fifo{i}", "rb")
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    for i in range(MANY):
        with pytest.raises(OSError, match="No such device"):  # there is no reader left
            os.open(here / f"fifo{i}", os.O_WRONLY | os.O_NONBLOCK)
    await everything_goes_on(here)


async def test_a_waiting_reader_is_seen_as_on_stock_trio(here: pathlib.Path) -> None:
    """A writer that does not wait meets the reader that does; and a writer that comes, writes nothing and
    stays ends the reader's wait."""
    seen: list[Any] = []
    for opener in (trio.open_file, open_file):
        got: list[Any] = []

        async def wait(opener: Any = opener, got: list[Any] = got) -> None:
            async with await opener(here / "fifo0", "rb", buffering=0) as file:
                got.append("opened")
                got.append(await file.read(10))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            while True:
                try:
                    writer = os.open(here / "fifo0", os.O_WRONLY | os.O_NONBLOCK)
                except OSError:  # no reader yet
                    await trio.sleep(0.001)
                else:
                    break
            while not got:
                await trio.sleep(0.001)
            os.write(writer, b"bytes")
            os.close(writer)
        seen.append(got)
    assert seen == [["opened", b"bytes"]] * 2


async def test_leased_files_wait_and_keep_nothing_from_running(
    here: pathlib.Path, leased: tuple[pathlib.Path, subprocess.Popen[str]]
) -> None:
    path, holder = leased
    read: list[str] = []

    async def wait() -> None:
        async with await open_file(path) as file:
            read.append(await file.read())

    async with trio.open_nursery() as nursery:
        for _ in range(MANY):
            nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        await everything_goes_on(here)
        assert not read
        holder.communicate()
    assert read == ["contents"] * MANY


async def test_descriptors_have_the_flags_that_open_gives_them(here: pathlib.Path) -> None:
    for mode in ("rb", "wb", "ab", "r+b", "w+b", "a+b"):
        for name in (here / "plain", here / "made", "/dev/null", "/dev/zero"):
            if not os.path.exists(name) and mode.startswith("r"):
                continue
            with open(name, mode) as stock:
                expected = fcntl.fcntl(stock.fileno(), fcntl.F_GETFL)
            if name == here / "made":
                os.unlink(name)
            async with await open_file(name, mode) as file:
                assert fcntl.fcntl(file.fileno(), fcntl.F_GETFL) == expected, (mode, name)
                assert not os.get_inheritable(file.fileno())
            (here / "made").unlink(missing_ok=True)


STOPPED = """
import os, sys, trio, uring_trio
from pathlib import Path
here = Path(sys.argv[1])

async def splice():
    source, sink = os.pipe()
    with open(here / "spliced", "wb") as file:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(uring_trio.splice, source, file.fileno(), 10)
            await sent.wait()
            os.write(sink, b"some")
    os.close(source)
    os.close(sink)
    assert (here / "spliced").read_bytes() == b"some"

async def tee():
    (source, sink), (end, copy) = os.pipe(), os.pipe()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(uring_trio.tee, source, copy, 10)
        await sent.wait()
        os.write(sink, b"some")
    assert os.read(source, 10) == os.read(end, 10) == b"some"
    for fd in (source, sink, end, copy):
        os.close(fd)

async def copy():
    await uring_trio.copy_file(here / "leased", here / "copied")
    assert (here / "copied").read_text() == "contents"

async def open_direct():
    async with await uring_trio.open_direct(here / "leased") as file:
        assert await file.pread(8, 0) == b"contents"

async def read():
    assert await uring_trio.Path(here / "leased").read_text() == "contents"

async def main():
    global sent
    sent = trio.Event()
    async with trio.open_nursery() as nursery:
        for fn in (splice, tee, copy, open_direct, read):
            nursery.start_soon(fn)
        await trio.testing.wait_all_tasks_blocked(0.05)
        print("waiting", flush=True)
        await trio.to_thread.run_sync(sys.stdin.readline)
        sent.set()
    print("done")

import trio.testing
uring_trio.run(main)
"""


def test_what_waits_outlives_a_stop_of_the_process(
    here: pathlib.Path, leased: tuple[pathlib.Path, subprocess.Popen[str]]
) -> None:
    """A signal that stops the process interrupts the kernel workers that wait."""
    _, holder = leased
    command = [sys.executable, "-c", STOPPED, str(here)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "waiting\n"
            for _ in range(3):
                process.send_signal(signal.SIGSTOP)
                os.waitid(os.P_PID, process.pid, os.WSTOPPED)
                process.send_signal(signal.SIGCONT)
                os.waitid(os.P_PID, process.pid, os.WCONTINUED)
            holder.communicate()
            assert process.communicate("go on\n", timeout=60)[0] == "done\n"
        finally:
            process.kill()
    assert process.returncode == 0


async def test_splices_that_wait_keep_nothing_from_running(here: pathlib.Path) -> None:
    """From empty pipes into a file, between pipes, and into full pipes."""
    pipes = [os.pipe() for _ in range(MANY)]
    full = [os.pipe() for _ in range(MANY)]
    for _, sink in full:
        os.write(sink, bytes(fcntl.fcntl(sink, fcntl.F_GETPIPE_SZ)))
    moved: list[int] = []

    async def splice(source: int, sink: int) -> None:
        moved.append(await uring_trio.splice(source, sink, 4))

    async def tee(source: int, sink: int) -> None:
        moved.append(await uring_trio.tee(source, sink, 4))

    with open(here / "plain", "r+b") as file, open(here / "spliced", "wb") as target:
        async with trio.open_nursery() as nursery:
            for i, ((source, _), (_, sink)) in enumerate(zip(pipes, full)):
                if i % 3 == 0:
                    nursery.start_soon(splice, source, target.fileno())
                elif i % 3 == 1:
                    nursery.start_soon(tee, source, sink)
                else:
                    nursery.start_soon(splice, file.fileno(), sink)
            await wait_all_tasks_blocked()
            await everything_goes_on(here)
            assert not moved
            for (_, sink), (source, _) in zip(pipes, full):
                os.write(sink, b"some")
                os.read(source, 1 << 16)
    assert len(moved) == MANY
    # The kernel takes the position when a splice begins: those at one moment may write over each other.
    assert re.fullmatch(b"(some)+", (here / "spliced").read_bytes())
    for pair in pipes + full:
        for fd in pair:
            os.close(fd)


@pytest.mark.parametrize("nonblocking", ["flag", "source", "sink", None])
async def test_a_splice_that_may_not_wait_says_so(here: pathlib.Path, nonblocking: str | None) -> None:
    """As `os.splice`, where that does not wait."""
    source, sink = os.pipe()
    end, full = os.pipe()
    os.write(full, bytes(fcntl.fcntl(full, fcntl.F_GETPIPE_SZ)))
    flags = os.SPLICE_F_NONBLOCK if nonblocking == "flag" else 0
    if nonblocking == "source":
        os.set_blocking(source, False)
    if nonblocking == "sink":
        os.set_blocking(full, False)
    if nonblocking is None:
        with trio.move_on_after(0.01) as scope:
            await uring_trio.splice(source, full, 4)
        assert scope.cancelled_caught
    else:
        with pytest.raises(BlockingIOError):
            os.splice(source, full, 4, flags=flags)
        with pytest.raises(BlockingIOError):
            await uring_trio.splice(source, full, 4, flags=flags)
    os.close(sink)
    os.read(end, 1 << 16)
    assert await uring_trio.splice(source, full, 4) == 0
    for fd in (source, end, full):
        os.close(fd)
