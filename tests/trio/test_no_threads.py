"""Every function about files, paths and processes, called once: none starts a thread.

The lists are compared with what there is, so that a new function has to be added.
"""

from __future__ import annotations

import inspect
import os
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.streams.file
import pytest
import trio

import uring_trio
from uring_trio import BufferedFile, DirectFile, RawFile, TextFile
from uring_trio.fs.path import PathMethods

if TYPE_CHECKING:
    from collections.abc import Iterator

BYTES = b"a line of text\n" * 1000
POSITIONAL: dict[str, tuple[Any, ...]] = {
    "pread": (100, 5),
    "readinto_at": (bytearray(50), 3),
    "pwrite": (b"x" * 100, 7),
    "preadv": ([bytearray(5), bytearray(6)], 0),
    "pwritev": ([b"ab", b"cd"], 9),
    "read_many": ([(0, 100), (50, 100)],),
    "write_many": ([(0, b"one"), (100, b"two")],),
    "fsync": (True,),
    "sync_range": (0, 100),
    "allocate": (0, 100_000),
    "advise": (os.POSIX_FADV_SEQUENTIAL,),
    "stat": (),
}
SEQUENTIAL: dict[str, tuple[Any, ...]] = {
    "read": (5,),
    "readline": (),
    "readlines": (100,),
    "seek": (3,),
    "tell": (),
    "truncate": (200_000,),
    "flush": (),
}
CALLS: dict[type, dict[str, tuple[Any, ...]]] = {
    RawFile: {
        **POSITIONAL,
        **SEQUENTIAL,
        "readall": (),
        "readinto": (bytearray(9),),
        "write": (b"raw",),
        "writelines": ([b"a", b"b"],),
    },
    BufferedFile: {
        **POSITIONAL,
        **SEQUENTIAL,
        "read1": (10,),
        "peek": (),
        "readinto": (bytearray(9),),
        "readinto1": (bytearray(9),),
        "write": (b"buffered" * 5000,),
        "writelines": ([b"a", b"b"],),
        "detach": (),
    },
    TextFile: {
        **POSITIONAL,
        **SEQUENTIAL,
        "write": ("text" * 5000,),
        "writelines": (["a", "b"],),
        "detach": (),
    },
    DirectFile: {
        "pread": (100, 5),
        "pwrite": (bytes(4096), 0),
        "readinto_at": (None, 0),
        "truncate": (5000,),
    },
}
OPEN = {RawFile: ("r+b", 0), BufferedFile: ("r+b", -1), TextFile: ("r+", -1, "latin-1")}
PATHS: dict[str, tuple[Any, ...]] = {
    "write_bytes": (b"x",), "write_text": ("text",), "touch": (), "read_bytes": (), "read_text": (),
    "open": (), "stat": (), "lstat": (), "exists": (), "is_dir": (), "is_file": (), "is_symlink": (),
    "is_socket": (), "is_fifo": (), "is_block_device": (), "is_char_device": (), "is_mount": (),
    "samefile": (".",), "symlink_to": ("x",), "hardlink_to": ("file",), "rename": ("renamed",),
    "replace": ("replaced",),
    "mkdir": (), "rmdir": (), "unlink": (),
}  # fmt: skip


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the threads that are started."""
    names: list[str] = []
    start = threading.Thread.start

    def note(self: threading.Thread) -> None:
        names.append(self.name)
        start(self)

    monkeypatch.setattr(threading.Thread, "start", note)
    return names


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("file").write_bytes(BYTES)
    return tmp_path


@pytest.fixture
def installed() -> Iterator[None]:
    uring_trio.install(files=True)
    yield
    uring_trio.uninstall()


def async_methods(cls: type) -> set[str]:
    return {
        name
        for name, function in inspect.getmembers(cls, inspect.iscoroutinefunction)
        if not name.startswith("_") and name != "aclose"
    }


@pytest.mark.parametrize("cls", CALLS, ids=lambda cls: cls.__name__)
async def test_files(here: Path, started: list[str], cls: type) -> None:
    calls = CALLS[cls]
    assert async_methods(cls) == set(calls)
    with uring_trio.RegisteredBuffers(1, 4096) as pool, await pool.borrow() as buffer:
        if cls is DirectFile:
            file: Any = await uring_trio.open_direct("file", os.O_RDWR)
        else:
            file = await uring_trio.open_file("file", *OPEN[cls])
        async with file:
            await file.readinto_at(buffer, 0)
            await file.pwrite(buffer, 0)
            for name, arguments in calls.items():
                if name == "detach":
                    continue
                await getattr(file, name)(
                    *(buffer if argument is None else argument for argument in arguments)
                )
            if cls in OPEN and cls is not TextFile:
                await file.seek(0)
                async for _ in file:
                    pass
        if "detach" in calls:
            file = await uring_trio.open_file("file", *OPEN[cls])
            await (await file.detach()).aclose()
    assert started == []


async def test_paths(here: Path, started: list[str]) -> None:
    assert async_methods(PathMethods) == set(PATHS)
    for name, arguments in PATHS.items():
        path = uring_trio.Path(here / name)
        if name in ("symlink_to", "hardlink_to", "mkdir", "write_bytes", "write_text", "touch"):
            pass
        elif name == "rmdir":
            path = uring_trio.Path("mkdir")
        elif name == "unlink":
            path = uring_trio.Path("touch")
        elif name in ("rename", "replace"):
            path = uring_trio.Path(here / ("write_bytes" if name == "rename" else "write_text"))
        else:
            path = uring_trio.Path("file")
        result = await getattr(path, name)(*arguments)
        if name == "open":
            await result.aclose()
    assert started == []


async def test_functions(here: Path, started: list[str]) -> None:
    source, sink = os.pipe()
    other_source, other_sink = os.pipe()
    fd = os.open("file", os.O_RDWR)
    calls: dict[Any, tuple[Any, ...]] = {
        uring_trio.stat: ("file",),
        uring_trio.read_dir_stats: (["file", "missing"],),
        uring_trio.mkdir: ("dir",),
        uring_trio.rmdir: ("dir",),
        uring_trio.symlink: ("file", "symbolic"),
        uring_trio.link: ("file", "hard"),
        uring_trio.rename: ("hard", "renamed"),
        uring_trio.unlink: ("renamed",),
        uring_trio.copy_file: ("file", "copy"),
        uring_trio.setxattr: (fd, "user.x", b"y"),
        uring_trio.getxattr: (fd, "user.x"),
        uring_trio.splice: (fd, sink, 100),
        uring_trio.tee: (source, other_sink, 100),
        uring_trio.sync_file_range: (fd, 0, 0, 2),
    }
    public = {getattr(uring_trio, name) for name in uring_trio.__all__}
    functions = {fn for fn in public if inspect.iscoroutinefunction(fn) and ".fs." in fn.__module__}
    assert functions - {uring_trio.open_direct, uring_trio.open_file} == set(calls)
    try:
        for function, arguments in calls.items():
            await function(*arguments)
    finally:
        for each in (source, sink, other_source, other_sink, fd):
            os.close(each)
    assert started == []


async def test_programs_that_know_nothing_of_it(installed: None, here: Path, started: list[str]) -> None:
    async with await trio.open_file("file") as file:
        await file.read(5)
    async with await anyio.open_file("file", "rb") as other:
        assert len([line async for line in other]) == 1000
    await trio.Path("file").stat()
    await anyio.Path("new").write_text("x")
    async with await anyio.streams.file.FileReadStream.from_path("file") as stream:
        await stream.receive()
    assert started == []


async def test_waiting_and_pipes(started: list[str]) -> None:
    children = [subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(3)]
    for child in children:
        assert child.stdin is not None
        assert child.stdout is not None
        async with (
            uring_trio.ipc.pipes.RingPipe(os.dup(child.stdin.fileno())) as sink,
            uring_trio.ipc.pipes.RingPipe(os.dup(child.stdout.fileno())) as source,
        ):
            child.stdin.close()
            await sink.send_all(b"x" * 10_000)
            await sink.aclose()
            while await source.receive_some():
                pass
        child.stdout.close()
        assert (await uring_trio.wait_process(child.pid)).si_status == 0
        child.returncode = 0
    assert started == []
