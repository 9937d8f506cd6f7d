"""Opening files: what `open` opens and refuses, and cancelled opens."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
import trio

from uring_trio import BufferedFile, RawFile, TextFile, open_file

if TYPE_CHECKING:
    from pathlib import Path


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
