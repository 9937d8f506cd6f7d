"""Files and names that the kernel has in memory: answered without the ring, and in no other way different."""

from __future__ import annotations

import errno
import os
import random
import threading
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import forget_contents, statistics
from uring.cached import read_cached
from uring_trio import open_file, read_dir_stats
from uring_trio.fs import descriptor

if TYPE_CHECKING:
    from uring_trio.fs.base import RingFile

PAGE = 4096
PAGES = 64
CALLS: Any = pytest.mark.parametrize(
    "call",
    [
        lambda file: file.pread(100, 5000),
        lambda file: file.pread(20_000, 5000),
        lambda file: file.readinto_at(bytearray(100), 5000),
        lambda file: file.read_many([(5000, 100), (0, 20), (9000, 5000)]),
        lambda file: file.read(100),
        lambda file: file.read(100_000),
        lambda file: file.read(),
        lambda file: file.readinto(bytearray(20_000)),
        lambda file: file.readline(),
    ],
    ids=[
        "pread", "large-pread", "readinto_at", "read_many", "read", "large-read", "read-all", "readinto",
        "readline",
    ],
)  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "file"
    found.write_bytes(random.randbytes(PAGES * PAGE))
    return found


def submitted() -> int:
    return int(statistics().submitted)


@CALLS
@pytest.mark.parametrize("buffering", [0, -1])
async def test_what_is_cached_needs_no_submission(path: Path, call: Any, buffering: int) -> None:
    async with await open_file(path, "rb", buffering) as file:
        await wait_all_tasks_blocked(0.001)  # until the run has queued what is its own
        before = submitted()
        with assert_checkpoints():
            await call(file)
        assert submitted() == before


@pytest.mark.usefixtures("slow_disk")
@CALLS
@pytest.mark.parametrize("buffering", [0, -1])
async def test_what_is_not_cached_is_submitted(path: Path, call: Any, buffering: int) -> None:
    async with await open_file(path, "rb", buffering) as file:
        warm = await call(file)
    # The first look makes the kernel read ahead, and now and then it is done before that look ends.
    for _ in range(100):
        async with await open_file(path, "rb", buffering) as file:
            forget_contents(path)
            before = submitted()
            with assert_checkpoints():
                cold = await call(file)
            assert cold == warm
            if submitted() > before:
                return
    raise AssertionError("what is not in memory was read without the ring")


@pytest.mark.usefixtures("slow_disk")
@pytest.mark.parametrize("there", [1, 7, PAGES // 2])
@pytest.mark.parametrize("buffering", [0, -1])
async def test_half_of_it_is_cached(path: Path, there: int, buffering: int) -> None:
    data = path.read_bytes()
    async with await open_file(path, "rb", buffering) as file:

        async def check(read: Any, wanted: Any) -> None:
            forget_contents(path, there * PAGE)
            assert await read() == wanted

        before = submitted()
        await check(lambda: file.pread(PAGES * PAGE + 5, 10), data[10:])
        await check(lambda: file.read(PAGES * PAGE), data)
        assert await file.tell() == len(data)
        await file.seek(7)
        await check(file.read, data[7:])
        memory = bytearray(len(data))
        await check(lambda: file.readinto_at(memory, 0), len(data))
        assert memory == data
        places = [(i * PAGE, PAGE) for i in range(PAGES)]
        await check(lambda: file.read_many(places), [data[i : i + n] for i, n in places])
        # The first look makes the kernel read ahead, and now and then it is done by the second one.
        for _ in range(200):
            if submitted() > before:
                return
            await check(lambda: file.pread(PAGES * PAGE + 5, 10), data[10:])
    raise AssertionError("what is not in memory was read without the ring")


@CALLS
async def test_cancelled_before_it_does_nothing(path: Path, call: Any) -> None:
    async with await open_file(path, "rb", 0) as file:
        with trio.CancelScope() as scope:
            scope.cancel()
            await call(file)
        assert scope.cancelled_caught
        assert await file.tell() == 0


@CALLS
async def test_cancelled_meanwhile_it_has_done_it(path: Path, call: Any) -> None:
    results = []
    async with await open_file(path, "rb") as file:
        wanted = await call(file)
        await file.seek(0)
        async with trio.open_nursery() as nursery:

            async def reader() -> None:
                results.append(await call(file))

            nursery.start_soon(reader)

            async def canceller() -> None:
                while (
                    not results and not file._file.busy and trio.lowlevel.current_statistics().tasks_runnable
                ):
                    nursery.cancel_scope.cancel()
                    await trio.lowlevel.cancel_shielded_checkpoint()

            nursery.start_soon(canceller)
    assert results in ([], [wanted])


@pytest.mark.usefixtures("slow_disk")
async def test_the_rest_of_a_read_that_has_begun_is_not_cancelled(path: Path) -> None:
    data = path.read_bytes()
    async with await open_file(path, "rb", 0) as file:
        forget_contents(path, PAGE)
        found = []

        async def reader() -> None:
            found.append(await file.read(len(data)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(reader)
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        assert found in ([data], [])
        assert await file.tell() == (len(data) if found else 0)


async def test_others_run_in_between(path: Path) -> None:
    async with await open_file(path, "rb") as file:
        order = []

        async def reader(name: str) -> None:
            for _ in range(5):
                await file.pread(100, 0)
                order.append(name)

        async with trio.open_nursery() as nursery:
            for name in "abc":
                nursery.start_soon(reader, name)
        assert all(set(order[i : i + 3]) == set("abc") for i in range(0, 15, 3))


async def test_a_file_past_the_cache_goes_through_the_ring(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    async with await open_file(fd, "rb", 0) as file:
        before = submitted()
        with pytest.raises(OSError) as caught:
            await file.pread(100, 1)  # not aligned
        assert caught.value.errno == errno.EINVAL
        assert submitted() > before


async def test_other_file_systems_go_through_the_ring() -> None:
    async with await open_file("/proc/self/stat", "rb") as file:
        before = submitted()
        assert (await file.pread(20, 0)).startswith(f"{os.getpid()} ".encode())
        assert (await file.read_many([(0, 3)]))[0] == f"{os.getpid()}"[:3].encode()
        assert (await file.stat()).st_mode == os.stat("/proc/self/stat").st_mode
        assert submitted() >= before + 3


async def test_errors_are_the_same(path: Path) -> None:
    async with await open_file(path, "wb") as file:
        for call in (lambda: file.pread(10, 0), lambda: file.read_many([(0, 10)])):
            with pytest.raises(OSError) as caught:
                await call()
            assert caught.value.errno == errno.EBADF
        for wrong in ([(0,)], [(0, 1, 2)], [(1, 2, 3), (4,)]):
            with pytest.raises(ValueError):
                await file.read_many(wrong)  # type: ignore[arg-type]
        for offset in (1 << 63, (1 << 64) - 1):
            with pytest.raises((ValueError, OSError)):
                await file.read_many([(offset, 10)])


def test_not_without_a_ring(path: Path) -> None:
    files: list[RingFile] = []

    async def on_the_ring() -> None:
        files.append(await open_file(path, "rb"))

    async def elsewhere() -> None:
        for call in (
            lambda: files[0].pread(10, 0),
            lambda: files[0].read_many([(0, 10)]),
            lambda: files[0].stat(),
            lambda: uring_trio.stat(path),
            lambda: read_dir_stats([path]),
        ):
            with pytest.raises(RuntimeError, match="ring"):
                await call()

    async def another() -> None:
        assert await files[0].pread(10, 0) == path.read_bytes()[:10]
        await files[0].aclose()

    uring_trio.run(on_the_ring)
    trio.run(elsewhere)
    uring_trio.run(another)


# ---- names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, os.fsencode, Path, uring_trio.Path])
async def test_a_known_name_needs_no_submission(path: Path, kind: Any) -> None:
    path.stat()
    await wait_all_tasks_blocked(0.001)  # until the run has queued what is its own
    before = submitted()
    with assert_checkpoints():
        assert await uring_trio.stat(kind(path)) == path.stat()
    assert await uring_trio.stat(kind(path), follow_symlinks=False) == path.lstat()
    assert await uring_trio.Path(path).is_file()
    assert submitted() == before


async def test_a_name_is_looked_for_before_it_is_said_to_be_missing(path: Path) -> None:
    missing = path.parent / "missing"
    for wait in (True, False):
        before = submitted()
        with pytest.raises(FileNotFoundError) as caught:
            await uring_trio.stat(missing)
        assert caught.value.filename == str(missing)
        assert (submitted() > before) is wait
    missing.touch()
    assert await uring_trio.Path(missing).exists()
    missing.unlink()
    assert not await uring_trio.Path(missing).exists()


async def test_links_and_relative_names(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = path.parent / "link"
    link.symlink_to("file")
    for _ in range(2):
        assert await uring_trio.stat(link) == path.stat()
        assert await uring_trio.stat(link, follow_symlinks=False) == link.lstat()
    monkeypatch.chdir(path.parent)
    assert await uring_trio.stat("link") == path.stat()
    assert await uring_trio.stat(b"file") == path.stat()


@pytest.mark.parametrize("wrong", ["with\0nul", b"with\0nul"])
async def test_a_name_with_a_nul_is_refused(path: Path, wrong: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (path.parent / "with").touch()
    monkeypatch.chdir(path.parent)
    with pytest.raises(ValueError, match="null byte"):
        await uring_trio.stat(wrong)


async def test_a_cancelled_stat(path: Path) -> None:
    path.stat()
    with trio.CancelScope() as scope:
        scope.cancel()
        await uring_trio.stat(path)
    assert scope.cancelled_caught
    with trio.CancelScope() as scope:
        scope.cancel()
        await read_dir_stats([path])
    assert scope.cancelled_caught


async def test_many_stats_of_which_some_are_known(path: Path) -> None:
    folder = path.parent
    names: list[Any] = []
    for i in range(200):
        names.append(folder / f"{i}")
        if i % 3:
            names[-1].touch()
    names.append("/proc/self/stat")
    for _ in range(2):
        found = await read_dir_stats(names)
        for name, answer in zip(names, found, strict=True):
            if isinstance(answer, OSError):
                assert answer.errno == errno.ENOENT
                assert answer.filename == str(name)
                assert not os.path.exists(name)
            else:
                assert answer.st_ino == os.stat(name).st_ino
    with assert_checkpoints():
        assert await read_dir_stats([]) == []
    with assert_checkpoints():
        await read_dir_stats(names[1:3])


async def test_stat_of_an_open_file(path: Path) -> None:
    async with await open_file(path, "rb") as file:
        before = submitted()
        with assert_checkpoints():
            assert await file.stat() == os.fstat(file.fileno())
        assert submitted() == before


async def test_no_threads(path: Path) -> None:
    before = set(threading.enumerate())
    async with await open_file(path, "rb") as file:
        await file.pread(10, 0)
        await uring_trio.stat(path)
    await wait_all_tasks_blocked()
    assert not set(threading.enumerate()) - before


async def pieces_of(monkeypatch: pytest.MonkeyPatch, call: Any) -> tuple[Any, list[int], int]:
    """The answer of a call, how much each read out of the page cache asked for, and how often others ran."""
    asked: list[int] = []
    stock = read_cached

    def note(fd: int, offset: int, address: int, length: int) -> int:
        asked.append(length)
        return stock(fd, offset, address, length)

    ticks = 0

    async def count() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await trio.lowlevel.checkpoint()

    monkeypatch.setattr(descriptor, "read_cached", note)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        await trio.lowlevel.checkpoint()
        ticks = 0
        answer = await call()
        nursery.cancel_scope.cancel()
    return answer, asked, ticks


@pytest.mark.parametrize("name", ["read", "readall", "read n", "readinto", "pread", "readinto_at", "text"])
async def test_others_run_between_the_pieces_of_a_large_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    size = 16 * descriptor.PIECE + 77
    path = tmp_path / "large"
    path.write_bytes(b"x" * size)
    into = bytearray(size)
    mode: tuple[Any, ...] = ("r",) if name == "text" else ("rb", 0 if name == "readall" else -1)
    async with await open_file(path, *mode) as file:
        calls: dict[str, Any] = {
            "read": lambda: file.read(),
            "readall": lambda: file.readall(),
            "read n": lambda: file.read(size + 5),
            "readinto": lambda: file.readinto(into),
            "pread": lambda: file.pread(size, 0),
            "readinto_at": lambda: file.readinto_at(into, 0),
            "text": lambda: file.read(),
        }
        answer, asked, ticks = await pieces_of(monkeypatch, calls[name])
    assert (answer if isinstance(answer, int) else len(answer)) == size
    assert max(asked) <= descriptor.PIECE
    assert ticks >= 16


async def test_a_whole_text_is_decoded_into_the_object_that_is_returned(tmp_path: Path) -> None:
    """A copy of all of it would keep other tasks from running."""
    size = 64 << 20
    path = tmp_path / "large"
    path.write_bytes(b"x" * size)
    tracemalloc.start()
    try:
        async with await open_file(path) as file:
            assert len(await file.read()) == size
        assert tracemalloc.get_traced_memory()[1] < 2.2 * size
    finally:
        tracemalloc.stop()


async def test_a_whole_file_is_read_into_the_object_that_is_returned(tmp_path: Path) -> None:
    size = 64 << 20
    path = tmp_path / "large"
    path.write_bytes(bytes(size))
    tracemalloc.start()
    try:
        async with await open_file(path, "rb") as file:
            assert len(await file.read()) == size
        assert tracemalloc.get_traced_memory()[1] < 1.05 * size
    finally:
        tracemalloc.stop()
