"""Programs that know nothing of the ring, with names that they imported before it came."""

from __future__ import annotations

import inspect
import io
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import anyio
import anyio.streams.file
import anyio.to_thread
import pytest
import trio
from anyio import AsyncFile
from anyio import Path as AnyPath
from anyio import open_file as any_open
from anyio.streams.file import FileReadStream, FileStreamAttribute, FileWriteStream
from trio import Path as TrioPath
from trio import open_file as trio_open

import uring_trio
from uring_trio import RingOptions
from uring_trio.fs import RingFile

if TYPE_CHECKING:
    import pathlib
    from collections.abc import Iterator

PLACES: list[Any] = [trio.Path, anyio.Path, FileReadStream, FileWriteStream, anyio.AsyncFile]


def state() -> list[Any]:
    """All that the drop-in could have left behind."""
    functions = [
        (fn.__code__, fn.__defaults__, fn.__kwdefaults__, dict(vars(fn)), sorted(fn.__globals__))
        for fn in (trio_open, any_open, anyio.to_thread.run_sync)
    ]
    return [*functions, *(dict(vars(cls)) for cls in PLACES)]


@pytest.fixture
def installed() -> Iterator[None]:
    before = state()
    uring_trio.install(ring=RingOptions(entries=64), files=True)
    try:
        yield
    finally:
        uring_trio.uninstall()
    assert state() == before


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    found = tmp_path / "file"
    found.write_text("one\ntwo\n")
    return found


async def with_trio(path: pathlib.Path) -> None:
    async with await trio_open(path) as file:
        assert [line async for line in file] == ["one\n", "two\n"]
    async with await trio.open_file(path, mode="rb", buffering=0) as file:
        assert await file.read(2) == b"on"
    other = TrioPath(path).parent / "dir" / "new"
    await other.parent.mkdir()
    await other.write_text("x")
    assert await other.exists()
    assert (await other.stat()).st_size == 1
    async with await other.open("a") as file:
        await file.write("y")
    assert await other.read_bytes() == b"xy"
    renamed = await other.rename(path.parent / "renamed")
    assert type(renamed) is type(other)
    await renamed.unlink()
    await other.parent.rmdir()


async def with_anyio(path: pathlib.Path) -> None:
    async with await any_open(path) as file:
        assert isinstance(file, AsyncFile)
        assert [line async for line in file] == ["one\n", "two\n"]
        await file.seek(0)
        assert await file.readlines() == ["one\n", "two\n"]
        assert file.name == str(path)
    assert file.closed
    async with await any_open(path, "r+b") as file:
        room = bytearray(3)
        assert await file.readinto(room) == 3
        assert await file.write(b"-") == 1
        await file.flush()
        assert await file.tell() == 4
        await file.truncate(8)
    async with await AnyPath(path).open("w") as file:
        assert isinstance(file, AsyncFile)
        await file.writelines(["one\n", "two\n"])
    other = AnyPath(path).parent / "dir" / "new"
    await other.parent.mkdir(parents=True)
    await other.write_bytes(b"x")
    assert await other.is_file()
    target = await other.replace(path.parent / "replaced")
    assert type(target) is AnyPath
    await target.unlink()
    await other.parent.rmdir()
    found = await anyio.to_thread.run_sync(os.stat, path)
    assert (found.st_size, found.st_ino) == (path.stat().st_size, path.stat().st_ino)
    with pytest.raises(FileNotFoundError, match="missing"):
        await anyio.to_thread.run_sync(os.stat, path.parent / "missing")
    async with await FileWriteStream.from_path(path) as sink:
        await sink.send(b"one\n")
    async with await FileWriteStream.from_path(path, append=True) as sink:
        await sink.send(b"two\n")
    with pytest.raises(anyio.ClosedResourceError):
        await sink.send(b"more")
    async with await FileReadStream.from_path(path) as source:
        assert source.extra(FileStreamAttribute.path) == path
        assert source.extra(FileStreamAttribute.fileno) > 2
        await source.seek(2)
        assert await source.tell() == 2
        assert await source.receive(100) == b"e\ntwo\n"
        with pytest.raises(anyio.EndOfStream):
            await source.receive()
    with pytest.raises(anyio.ClosedResourceError):
        await source.receive()


def test_the_file_of_a_stream_is_the_standard_librarys(installed: None, path: pathlib.Path) -> None:
    async def main() -> list[Any]:
        path.write_bytes(b"0123456789")
        async with await FileReadStream.from_path(path) as stream:
            found: list[Any] = [await stream.receive(2)]
            file = stream.extra(FileStreamAttribute.file)
            found += [type(file), file.read(3), await stream.receive(2), await stream.tell()]
        async with await FileWriteStream.from_path(path) as sink:
            await sink.send(b"new")
            found.append(type(sink.extra(FileStreamAttribute.file)))
        return [*found, path.read_bytes()]

    found = anyio.run(main, backend="trio")
    uring_trio.uninstall()
    assert found == anyio.run(main, backend="trio")


def test_paths_and_files_keep_their_limiter(installed: None, path: pathlib.Path) -> None:
    async def main() -> list[Any]:
        path.write_bytes(b"")
        limiter = anyio.CapacityLimiter(3)
        limited: Any = {"limiter": limiter} if hasattr(AnyPath, "limiter") else {}  # since AnyIO 4.16
        first = AnyPath(path, **limited)
        moved = await first.rename(path.parent / "other")
        back = await moved.replace(path)
        async with await back.open() as file, await any_open(path, **limited) as again:
            kept = [getattr(each, "limiter", None) for each in (moved, back, file, again)]
        with pytest.raises(TypeError, match="limiter"):
            await trio_open(path, limiter=limiter)  # type: ignore[call-overload]
        return [each is limited.get("limiter") for each in kept]

    assert anyio.run(main, backend="trio") == [True] * 4
    uring_trio.uninstall()
    assert anyio.run(main, backend="trio") == [True] * 4


def test_anyio_asks_whether_the_path_itself_is_a_mount(
    installed: None, path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(path.parent)
    os.symlink("/proc", "link")
    names = (".", "/", "/proc", "link", "missing", "n" * 300, "nul\0", path.name)

    async def main() -> list[bool]:
        return [await anyio.Path(name).is_mount() for name in names]

    found = anyio.run(main, backend="trio")
    assert found == [os.path.ismount(name) for name in names]
    uring_trio.uninstall()
    assert found == anyio.run(main, backend="trio")


@pytest.mark.parametrize("program", [with_trio, with_anyio])
def test_uses_the_ring(installed: None, path: pathlib.Path, program: Any) -> None:
    async def main() -> None:
        before = set(threading.enumerate())
        await program(path)
        assert not set(threading.enumerate()) - before
        assert isinstance(await trio_open(path), RingFile)

    with pytest.warns(ResourceWarning):
        trio.run(main)


@pytest.mark.parametrize("program", [with_trio, with_anyio])
def test_as_before_on_epoll(installed: None, path: pathlib.Path, program: Any) -> None:
    uring_trio.uninstall()
    uring_trio.install(files=True)
    from uring_trio import seams

    seams.set_default_manager(None)  # runs are Trio's own again, the files' names are exchanged still

    async def main() -> None:
        await program(path)
        async with await trio_open(path) as file:
            assert not isinstance(file, RingFile)

    trio.run(main)


def test_as_before_on_another_loop(installed: None, path: pathlib.Path) -> None:
    anyio.run(with_anyio, path, backend="asyncio")


def test_other_calls_are_in_threads_still(installed: None, path: pathlib.Path) -> None:
    async def main() -> None:
        own = threading.get_ident()
        assert await anyio.to_thread.run_sync(threading.get_ident) != own
        assert await anyio.to_thread.run_sync(os.fspath, path) == str(path)
        assert await anyio.to_thread.run_sync(lambda: 5, limiter=anyio.CapacityLimiter(1)) == 5
        with open(path, "rb") as file:
            assert (await anyio.to_thread.run_sync(os.stat, file.fileno())).st_size == 8
        with pytest.raises(TypeError):
            await anyio.to_thread.run_sync()  # type: ignore[call-arg]

    trio.run(main)


def test_the_names_look_the_same(installed: None) -> None:
    assert list(inspect.signature(trio_open).parameters) == [
        "file", "mode", "buffering", "encoding", "errors", "newline", "closefd", "opener",
    ]  # fmt: skip
    assert inspect.iscoroutinefunction(trio_open)
    assert inspect.iscoroutinefunction(any_open)
    assert TrioPath.stat.__name__ == "stat"


def test_refusals_are_the_same(installed: None, path: pathlib.Path) -> None:
    async def main() -> None:
        for wrong in (("missing",), (path, "rw"), (path.parent,)):
            with pytest.raises((OSError, ValueError)) as stock:
                open(*wrong)  # noqa: SIM115
            for function in (trio_open, any_open):
                with pytest.raises((OSError, ValueError)) as ring:
                    await function(*wrong)
                assert (type(ring.value), str(ring.value)) == (type(stock.value), str(stock.value))

    trio.run(main)


def test_twice_and_without_files(path: pathlib.Path) -> None:
    before = state()
    uring_trio.install(files=True)
    uring_trio.install(files=True)
    assert state() != before
    uring_trio.install()
    assert state() == before
    uring_trio.uninstall()
    uring_trio.uninstall()
    assert state() == before


def test_a_call_that_has_begun_before_the_end(path: pathlib.Path) -> None:
    async def main() -> list[bytes]:
        calls: Any = [trio_open(path, "rb"), any_open(path, "rb"), trio.Path(path).open("rb")]
        status = anyio.to_thread.run_sync(os.stat, path)
        uring_trio.uninstall()
        found = []
        for call in calls:
            async with await call as file:
                found.append(await file.read())
        assert (await status).st_size == len(found[0])
        return found

    uring_trio.install(files=True)
    assert trio.run(main) == [b"one\ntwo\n"] * 3


def test_beside_runs_in_other_threads() -> None:
    program = """
import os, sys, threading, anyio, anyio.to_thread, trio, uring_trio
sys.setswitchinterval(1e-6)
over, failed = threading.Event(), []

async def main():
    while not over.is_set():
        for open_file in (trio.open_file, anyio.open_file, lambda path: trio.Path(path).open()):
            async with await open_file(os.devnull) as file:
                await file.read()
        await anyio.to_thread.run_sync(os.stat, os.devnull)
        send, receive = trio.open_memory_channel(0)
        async with trio.open_nursery() as nursery, trio.Lock():
            nursery.start_soon(send.send, 1)
            with trio.move_on_after(10):
                await receive.receive()

def changes():
    for _ in range(100):
        uring_trio.install(files=True)
        uring_trio.uninstall()

def told(function, *args):
    try:
        function(*args)
    except BaseException as exc:
        failed.append(exc)

runs = [threading.Thread(target=told, args=(uring_trio.run, main)) for _ in range(2)]
changing = [threading.Thread(target=told, args=(changes,)) for _ in range(2)]
for each in runs + changing: each.start()
for each in changing: each.join()
over.set()
for each in runs: each.join()
assert not failed, failed
trio.run(trio.sleep, 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# ---- what a program has replaced ----


FAKED = {
    "os.stat": ("stat", "exists", "is_file", "is_dir", "lstat"),
    "os.mkdir": ("mkdir",),
    "os.unlink": ("unlink",),
    "os.rmdir": ("rmdir",),
    "os.utime": ("touch",),
    "io.open": ("read_text", "read_bytes", "open"),
    "pathlib.Path.open": ("read_text", "read_bytes", "open"),
}


@pytest.mark.parametrize("faked", FAKED)
def test_a_fake_file_system_is_asked_as_on_stock_trio(
    monkeypatch: pytest.MonkeyPatch, path: pathlib.Path, faked: str
) -> None:
    async def main() -> list[Any]:
        found: list[Any] = []

        def fake(name: Any, *args: Any, **kwargs: Any) -> Any:
            found.append(str(name))
            raise OSError(faked)

        with monkeypatch.context() as patch:
            patch.setattr(faked, fake)
            for call in (*(getattr(trio.Path(path), name) for name in FAKED[faked]), lambda: trio_open(path)):
                try:
                    answer = await call()
                except OSError as exc:
                    answer = str(exc)
                else:
                    if isinstance(answer, trio.abc.AsyncResource):
                        await answer.aclose()
                        answer = "opened"
                found.append(answer)
        return found

    stock = trio.run(main)
    uring_trio.install(files=True)
    try:
        assert trio.run(main) == stock
    finally:
        uring_trio.uninstall()
    assert str(path) in stock


def test_anyios_open_file_is_the_builtin(monkeypatch: pytest.MonkeyPatch, path: pathlib.Path) -> None:
    async def main() -> str:
        with monkeypatch.context() as patch:
            patch.setattr("builtins.open", lambda *args, **kwargs: io.StringIO("fake"))
            async with await any_open(path) as file:
                return await file.read()

    uring_trio.install(files=True)
    try:
        assert anyio.run(main, backend="trio") == "fake"
    finally:
        uring_trio.uninstall()
