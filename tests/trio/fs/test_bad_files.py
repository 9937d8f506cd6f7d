"""Wrong calls of files: the exception says what is wrong, and nothing reaches the kernel.

Calls that the standard library has too raise the same there.
"""

from __future__ import annotations

import array
import os
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from tests.trio.elsewhere import told, told_sync
from tests.trio.helpers import statistics
from uring_trio import open_direct, open_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STRIDED = memoryview(bytearray(10))[::2]
FIXED = b"0123456789"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "file"
    found.write_bytes(bytes(range(256)) * 16)
    return found


# ---- what only a ring gives --------------------------------------------------------------------------

PLACES: list[tuple[str, tuple[Any, ...], type[Exception]]] = [
    ("pread", (-1, 0), ValueError),
    ("pread", ("4", 0), TypeError),
    ("pread", (4.0, 0), TypeError),
    ("pread", (None, 0), TypeError),
    ("pread", (4, None), TypeError),
    ("pread", (4, 1.5), TypeError),
    ("pread", (4, -1), OSError),
    ("pread", (4, 1 << 63), OSError),
    ("pread", (1 << 70, 0), OverflowError),
    ("readinto_at", (bytearray(4), 1 << 70), OSError),
    ("readinto_at", (FIXED, 0), TypeError),
    ("readinto_at", (STRIDED, 0), TypeError),
    ("readinto_at", (5, 0), TypeError),
    ("readinto_at", (bytearray(4), -1), OSError),
    ("readinto_at", (bytearray(4), "0"), TypeError),
    ("pwrite", ("text", 0), TypeError),
    ("pwrite", (STRIDED, 0), TypeError),
    ("pwrite", (None, 0), TypeError),
    ("pwrite", (b"x", -1), OSError),
    ("pwrite", (b"x", 1 << 64), OSError),
    ("preadv", ([FIXED], 0), TypeError),
    ("preadv", (5, 0), TypeError),
    ("preadv", ([bytearray(1)], -1), OSError),
    ("preadv", ([bytearray(1)] * 1025, 0), ValueError),
    ("pwritev", (["text"], 0), TypeError),
    ("pwritev", ([b"x"], -1), OSError),
    ("pwritev", ([b"x"], 0, -1), ValueError),
    ("read_many", (5,), TypeError),
    ("read_many", ([5],), TypeError),
    ("read_many", ([(0,)],), ValueError),
    ("read_many", ([(0, -1)],), ValueError),
    ("read_many", ([(-1, 4)],), ValueError),
    ("read_many", ([("0", 4)],), TypeError),
    ("read_many", ([(0, "4")],), TypeError),
    ("read_many", ([(0, 1 << 31)],), ValueError),
    ("read_many", ([(1 << 64, 4)],), ValueError),
    ("write_many", (5,), TypeError),
    ("write_many", ([(0, "text")],), TypeError),
    ("write_many", ([(-1, b"x")],), ValueError),
    ("write_many", ([(1 << 64, b"x")],), ValueError),
    ("write_many", ([("0", b"x")],), TypeError),
    ("write_many", ([(0, STRIDED)],), TypeError),
    ("sync_range", (-1,), ValueError),
    ("sync_range", (0, -1), ValueError),
    ("sync_range", ("0",), TypeError),
    ("allocate", (-1, 5), ValueError),
    ("allocate", (0, -5), ValueError),
    ("allocate", (0, "5"), TypeError),
    ("advise", ("0",), TypeError),
    ("advise", (0, -1), ValueError),
]


@pytest.mark.parametrize(("name", "arguments", "kind"), PLACES, ids=repr)
async def test_places(path: Path, name: str, arguments: Any, kind: type[Exception]) -> None:
    before = path.read_bytes()
    async with await open_file(path, "r+b") as file:
        submitted = statistics().submitted
        with pytest.raises(kind) as caught:
            await getattr(file, name)(*arguments)
        assert statistics().submitted == submitted
        assert str(caught.value)
    assert path.read_bytes() == before


async def test_errors_tell_what_is_wrong_with_a_number(path: Path) -> None:
    async with await open_file(path, "rb") as file:
        for wrong in ("4", None):
            with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
                await file.pread(wrong, 0)
        for place in ((0, -1), (-1, 4), (0, 1 << 31), (0, 1 << 70), (1 << 70, 4), (1 << 63, 4)):
            with pytest.raises(ValueError, match="a piece has 0 to 2147479552 bytes and begins at 0 to 9223"):
                await file.read_many([place])


CLOSED: list[tuple[str, tuple[Any, ...]]] = [
    ("read", ()), ("read", (5,)), ("readline", ()), ("readlines", ()), ("readinto", (bytearray(3),)),
    ("readinto1", (bytearray(3),)), ("read1", ()), ("peek", ()), ("readall", ()), ("write", (b"x",)),
    ("writelines", ([b"x"],)), ("flush", ()), ("seek", (0,)), ("tell", ()), ("truncate", ()),
    ("truncate", (3,)), ("detach", ()), ("pread", (4, 0)), ("pread", (1, 0)),
    ("readinto_at", (bytearray(3), 0)), ("pwrite", (b"x", 0)), ("preadv", ([bytearray(1)], 0)),
    ("pwritev", ([b"x"], 0)), ("read_many", ([(0, 4)],)), ("read_many", ([],)),
    ("write_many", ([(0, b"x")],)), ("fsync", ()), ("sync_range", (0,)), ("allocate", (0, 5)),
    ("advise", (0,)), ("stat", ()),
]  # fmt: skip


@pytest.mark.parametrize(("mode", "buffering"), [("r+b", 0), ("r+b", -1), ("r+", -1)])
@pytest.mark.parametrize(("name", "arguments"), CLOSED, ids=repr)
async def test_closed(path: Path, name: str, arguments: Any, mode: str, buffering: int) -> None:
    file = await open_file(path, mode, buffering)
    await file.aclose()
    await file.aclose()
    if not hasattr(file, name):
        return
    if mode == "r+" and name in ("write", "writelines"):
        arguments = ("x",) if name == "write" else (["x"],)
    with pytest.raises(ValueError):
        await getattr(file, name)(*arguments)
    for name in ("fileno", "readable", "writable", "seekable", "isatty"):
        with pytest.raises(ValueError):
            getattr(file, name)()


# ---- what the standard library has too ---------------------------------------------------------------

CALLS: list[tuple[str, tuple[Any, ...]]] = [
    ("read", ((1 << 64) + 40_000,)), ("read1", ((1 << 64) + 40_000,)),
    ("read", ("4",)), ("read", (4.0,)), ("read", (-2,)), ("readline", ("4",)), ("readlines", ("4",)),
    ("readinto", (FIXED,)), ("readinto", ("text",)), ("readinto", (None,)), ("readinto1", (FIXED,)),
    ("read1", ("4",)), ("read1", (-2,)), ("peek", ("4",)), ("write", ("text",)), ("write", (b"x",)),
    ("write", (None,)), ("write", (5,)), ("writelines", (5,)), ("writelines", (["text", 5],)),
    ("writelines", ([b"x", 5],)), ("seek", ("0",)), ("seek", (-1,)), ("seek", (0, 9)), ("seek", (0, -1)),
    ("seek", (-5, 1)), ("seek", (1.5,)), ("truncate", (-1,)), ("truncate", ("4",)), ("truncate", (1.5,)),
    ("write", (array.array("i", [1]),)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "buffering"),
    [("rb", 0), ("wb", 0), ("r+b", 0), ("rb", -1), ("ab", -1), ("r+b", -1), ("r", -1), ("w", -1), ("r+", -1)],
)
@pytest.mark.parametrize(("name", "arguments"), CALLS, ids=repr)
async def test_as_the_standard_library(
    path: Path, name: str, arguments: Any, mode: str, buffering: int
) -> None:
    other = path.parent / "other"
    other.write_bytes(path.read_bytes())
    encoding = None if "b" in mode else "latin-1"
    with open(other, mode, buffering, encoding) as stock:
        if not hasattr(stock, name) or (name, arguments, encoding) == ("seek", (1.5,), "latin-1"):
            return  # the standard library takes fractions for positions in text
        expected = told_types(told_sync(partial(getattr(stock, name), *arguments)))
        position = told_sync(stock.tell)
    async with await open_file(path, mode, buffering, encoding) as file:
        found = told_types(await told(partial(getattr(file, name), *arguments)))
        assert found == expected
        assert await told(file.tell) == position
    assert path.read_bytes() == other.read_bytes()


def told_types(found: Any) -> Any:
    """Texts of these errors name the class or the type in C that said them."""
    plain = isinstance(found, tuple) and found[0] in (TypeError, OverflowError)
    return found[0] if plain else found


# ---- what is no file ---------------------------------------------------------------------------------


async def test_descriptors_of_other_things(tmp_path: Path) -> None:
    """Opened as descriptors, as `open` takes them."""
    folder = os.open(tmp_path, os.O_RDONLY)
    path_only = os.open(tmp_path / "..", os.O_PATH)
    near, far = socket.socketpair()
    try:
        for fd in (folder, path_only, 1 << 20, -1):
            for arguments in ((fd, "rb"), (fd, "wb"), (fd, "r", -1, "latin-1")):
                options = {"closefd": False}
                stock = told_sync(partial(open, *arguments, **options))
                ring = await told(partial(open_file, *arguments, **options))
                if hasattr(stock, "read"):
                    expected = told_sync(stock.read)
                    assert await told(ring.read) == expected
                    stock.close()
                    await ring.aclose()
                else:
                    assert ring == stock
        async with await open_file(near.fileno(), "r+b", 0, closefd=False) as file:
            far.send(b"through a socket")
            assert await file.read(7) == b"through"
            assert await file.write(b"back") == 4
            assert far.recv(10) == b"back"
            with pytest.raises(OSError, match="Illegal seek"):
                await file.seek(0)
    finally:
        os.close(folder)
        os.close(path_only)
        near.close()
        far.close()


PATHS: list[tuple[Callable[..., Any], tuple[Any, ...], type[Exception]]] = [
    (uring_trio.stat, (None,), TypeError),
    (uring_trio.stat, (1.5,), TypeError),
    (uring_trio.stat, ("a\0b",), ValueError),
    (uring_trio.stat, (-1,), OSError),
    (uring_trio.mkdir, ("x", "mode"), TypeError),
    (uring_trio.mkdir, ("a\0b",), ValueError),
    (uring_trio.unlink, (5.0,), TypeError),
    (uring_trio.rename, ("x", None), TypeError),
    (uring_trio.rename, ("x", "y\0"), ValueError),
    (uring_trio.symlink, ("x\0", "y"), ValueError),
    (uring_trio.link, (None, "x"), TypeError),
    (uring_trio.getxattr, ("x", 5), TypeError),
    (uring_trio.getxattr, ("x", "user.\0"), ValueError),
    (uring_trio.setxattr, ("x", "user.y", "text"), TypeError),
    (uring_trio.copy_file, (None, "x"), TypeError),
    (uring_trio.read_dir_stats, (5,), TypeError),
    (uring_trio.read_dir_stats, (["x", None],), TypeError),
    (uring_trio.read_dir_stats, (["x", "\0"],), ValueError),
    (uring_trio.splice, ("a", 1, 1), TypeError),
    (uring_trio.splice, (0, 1, -1), ValueError),
    (uring_trio.tee, (0, 1, -1), ValueError),
    (uring_trio.sync_file_range, (0, -1, 0, 0), ValueError),
    (uring_trio.wait_process, ("1",), TypeError),
    (uring_trio.wait_process, (-1,), ValueError),
    (open_direct, (None,), TypeError),
    (open_direct, ("a\0b",), ValueError),
    (open_direct, ("x", "r"), TypeError),
]


@pytest.mark.parametrize(("function", "arguments", "kind"), PATHS, ids=repr)
async def test_paths(
    function: Callable[..., Any],
    arguments: Any,
    kind: type[Exception],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    await wait_all_tasks_blocked()  # the run's own wait is submitted
    submitted = statistics().submitted
    with pytest.raises(kind) as caught:
        await function(*arguments)
    if kind is not OSError:
        assert statistics().submitted == submitted
    assert str(caught.value)
    assert os.listdir() == []


async def test_copy_needs_a_chunk(path: Path) -> None:
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="chunk"):
            await uring_trio.copy_file(path, path.parent / "new", chunk=wrong)
    assert not (path.parent / "new").exists()
    with pytest.raises(trio.TooSlowError), trio.fail_after(0):
        await uring_trio.copy_file(path, path.parent / "new")
    assert not (path.parent / "new").exists()
