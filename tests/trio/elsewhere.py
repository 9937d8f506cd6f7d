"""Scenarios that need a process of their own: another user, or file systems that are mounted for it alone.

    python -m tests.trio.elsewhere SCENARIO FOLDER

Each scenario does the same with the standard library and with the ring, in a folder that a test made, and
exits with 0 when all agrees. ``REFUSED`` is the status where this machine does not let it mount.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import shutil
import subprocess
import sys
import threading
import warnings
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

import uring.ops
import uring_trio
from uring_trio import NoWorker

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

REFUSED = 77
REFUSALS = (OSError, ValueError, TypeError, OverflowError)
NOBODY = 65534
_CLONE_NEWNS = 0x20000
_MS_REC_PRIVATE = 1 << 14 | 1 << 18
_libc = ctypes.CDLL(None, use_errno=True)


def in_own_mounts(kind: str, where: Path, options: str) -> None:
    """Mounts a file system that only this process sees, and that goes with it."""
    steps: list[Callable[[], int]] = [
        partial(_libc.unshare, _CLONE_NEWNS),
        partial(_libc.mount, b"none", b"/", None, _MS_REC_PRIVATE, None),
        partial(_libc.mount, b"none", os.fsencode(where), kind.encode(), 0, options.encode()),
    ]
    for step in steps:
        if step() < 0:
            print(f"{kind} cannot be mounted: {os.strerror(ctypes.get_errno())}", file=sys.stderr)
            raise SystemExit(REFUSED)


def become_nobody() -> None:
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)


def told_sync(call: Callable[[], Any]) -> Any:
    """What a call came to: its result, or what it raised."""
    try:
        return call()
    except REFUSALS as exc:
        return said(exc)


async def told(call: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await call()
    except REFUSALS as exc:
        return said(exc)


def said(exc: Exception) -> tuple[Any, ...]:
    return type(exc), str(exc), getattr(exc, "errno", None), getattr(exc, "filename", None)


def agree(stock: Any, ring: Any, what: object) -> None:
    if stock != ring:
        raise AssertionError(f"{what}: the standard library says {stock!r}, the ring {ring!r}")


# ---- a full file system ------------------------------------------------------------------------------

ROOM = 256 * 1024
BLOCK = bytes(range(256)) * 400


def full(folder: Path) -> None:
    """Every way to write more than there is room for."""
    in_own_mounts("tmpfs", folder, f"size={ROOM},nr_inodes=16")
    for mode, buffering in (
        ("wb", 0), ("wb", -1), ("wb", 5000), ("ab", -1), ("w+b", -1), ("w", -1), ("w", 1), ("a", -1),
    ):  # fmt: skip
        data: Any = BLOCK if "b" in mode else BLOCK.decode("ascii", "replace").replace("\ufffd", "x")
        calls = [
            ("write", data), ("write", data), ("tell",), ("write", data), ("write", data[:10]), ("flush",),
            ("tell",), ("flush",), ("seek", 0), ("write", data[:10]), ("flush",), ("tell",),
        ]  # fmt: skip
        stock = filled_sync(folder / "file", mode, buffering, calls)
        ring = uring_trio.run(filled, folder / "file", mode, buffering, calls)
        for one, other, call in zip(stock, ring, [*calls, ("close",)], strict=True):
            agree(one, other, (mode, buffering, call[0]))
        assert any("No space left" in str(result) for result, _ in stock), mode
    uring_trio.run(full_otherwise, folder)


def filled_sync(path: Path, mode: str, buffering: int, calls: list[Any]) -> list[Any]:
    """What each call came to, and how large the file was then; the last is closing it."""
    file = open(path, mode, buffering)  # noqa: SIM115
    results = [
        (told_sync(partial(getattr(file, name), *arguments)), path.stat().st_size)
        for name, *arguments in calls
    ]
    results.append((told_sync(file.close), path.stat().st_size))
    path.unlink()
    return results


async def filled(path: Path, mode: str, buffering: int, calls: list[Any]) -> list[Any]:
    file = await uring_trio.open_file(path, mode, buffering)
    results = [
        (await told(partial(getattr(file, name), *arguments)), path.stat().st_size)
        for name, *arguments in calls
    ]
    results.append((await told(file.aclose), path.stat().st_size))
    assert file.closed
    path.unlink()
    return results


async def full_otherwise(folder: Path) -> None:
    full_disk = errno.ENOSPC
    path, other = folder / "file", folder / "other"
    for call in (
        lambda file: file.pwrite(bytes(2 * ROOM), 0),
        lambda file: file.write_many([(i * 65536, bytes(65536)) for i in range(8)]),
        lambda file: file.allocate(0, 2 * ROOM),
    ):
        async with await uring_trio.open_file(path, "w+b", buffering=0) as file:
            await fails_with(full_disk, partial(call, file))
        path.unlink()
    async with await uring_trio.open_file(path, "w+b", buffering=0) as file:
        # What fits is written and said, as by a system call; then nothing is.
        assert await file.pwritev([bytes(ROOM), bytes(ROOM)], 0) == ROOM
        await fails_with(full_disk, lambda: file.pwritev([b"more"], ROOM))
    with uring_trio.RegisteredBuffers(1, ROOM) as pool, pool.borrow_nowait() as buffer:
        async with await uring_trio.open_file(path, "r+b") as file:
            await fails_with(full_disk, lambda: file.pwrite(buffer, ROOM // 2))
    error = await fails_with(full_disk, lambda: uring_trio.copy_file(path, other))
    assert error.filename == str(other), error.filename
    other.unlink()
    path.unlink()
    await fails_with(full_disk, lambda: uring_trio.Path(path).write_bytes(bytes(2 * ROOM)))
    await fails_with(full_disk, lambda: uring_trio.Path(path).write_text("x" * 2 * ROOM))
    path.unlink()
    for i in range(20):  # and no file can be made
        stock = told_sync((folder / f"stock-{i}").mkdir)
        if stock is not None:
            break
        (folder / f"stock-{i}").rmdir()
        agree(stock, await told((uring_trio.Path(folder) / f"ring-{i}").mkdir), "mkdir")
    for make in (lambda: uring_trio.mkdir(other), lambda: uring_trio.symlink("x", other)):
        await fails_with(full_disk, make)
    await fails_with(full_disk, lambda: uring_trio.open_file(other, "w"))


async def fails_with(code: int, call: Callable[[], Awaitable[Any]]) -> OSError:
    try:
        result = await call()
    except OSError as exc:
        assert exc.errno == code, exc
        return exc
    raise AssertionError(f"{result!r} where errno {code} was expected")


# ---- other file systems ------------------------------------------------------------------------------


def tmpfs(folder: Path) -> None:
    in_own_mounts("tmpfs", folder, "size=64m")
    uring_trio.run(everything, folder)


def overlay(folder: Path) -> None:
    for name in ("lower", "upper", "work", "merged"):
        (folder / name).mkdir()
    (folder / "lower" / "below").write_bytes(BLOCK)
    (folder / "lower" / "kept").write_bytes(BLOCK)
    merged = folder / "merged"
    in_own_mounts("overlay", merged, f"lowerdir={folder}/lower,upperdir={folder}/upper,workdir={folder}/work")
    uring_trio.run(copied_up, merged)
    uring_trio.run(everything, merged)
    assert (folder / "lower" / "below").read_bytes() == BLOCK


async def copied_up(folder: Path) -> None:
    """A file of the lower layer: it is copied when it is opened for writing, and renamed and removed."""
    async with await uring_trio.open_file(folder / "below", "rb") as before:
        async with await uring_trio.open_file(folder / "below", "r+b") as file:
            await file.seek(5)
            await file.write(b"changed")
        agree(os.pread(before.fileno(), 12, 0), await before.pread(12, 0), "opened before the copy")
    assert (folder / "below").read_bytes() == BLOCK[:5] + b"changed" + BLOCK[12:]
    kept = uring_trio.Path(folder / "kept")
    agree((folder / "kept").stat()[:6], (await kept.stat())[:6], "stat")
    await kept.rename(folder / "moved")
    await uring_trio.unlink(folder / "moved")
    assert not await kept.exists()


async def everything(folder: Path) -> None:
    """One of each, beside the standard library."""
    path, stock = folder / "ring", folder / "stock"
    for mode, buffering in (("w+b", 0), ("w+b", -1), ("w+", -1)):
        data: Any = BLOCK if "b" in mode else "line\n" * 30_000
        calls: list[Any] = [
            ("write", data), ("tell",), ("seek", 100), ("read", 5000), ("readline",), ("seek", 0, 2),
            ("write", data[:7]), ("flush",), ("truncate", 12345), ("seek", 0), ("read",), ("tell",),
        ]  # fmt: skip
        expected = filled_sync(stock, mode, buffering, calls)
        for one, other, call in zip(
            expected, await filled(path, mode, buffering, calls), [*calls, "close"], strict=True
        ):
            agree(one, other, (mode, buffering, call))
    async with await uring_trio.open_file(path, "w+b") as file:
        await file.pwrite(BLOCK, 0)
        await file.fsync()
        await file.fsync(datasync=True)
        agree(BLOCK[5:4000], await file.pread(3995, 5), "pread")
        agree(
            [BLOCK[i : i + 10] for i in range(100)], await file.read_many([(i, 10) for i in range(100)]), ""
        )
        await file.write_many([(i * 10, b"%010d" % i) for i in range(100)])
        agree(b"".join(b"%010d" % i for i in range(100)), await file.pread(1000, 0), "write_many")
        agree(os.fstat(file.fileno())[:7], (await file.stat())[:7], "stat")
        with uring_trio.RegisteredBuffers(1, 4096) as pool, pool.borrow_nowait() as buffer:
            await file.readinto_at(buffer, 0)
            agree(await file.pread(4096, 0), bytes(buffer), "registered")
    copy = folder / "copy"
    await uring_trio.copy_file(path, copy)
    agree(path.read_bytes(), copy.read_bytes(), "copy_file")
    for name in ("missing", ".", "ring/below"):
        agree(
            told_sync(partial(open, folder / name)),
            await told(partial(uring_trio.open_file, folder / name)),
            name,
        )
    await direct(folder / "direct")
    for each in (path, copy):
        await uring_trio.unlink(each)
    await uring_trio.rmdir(await made(folder / "dir"))
    agree([], [name for name in os.listdir(folder) if name in ("ring", "copy", "dir")], "left")


async def direct(path: Path) -> None:
    """``O_DIRECT``, or the refusal of `os.open`."""
    path.write_bytes(BLOCK)
    flags = os.O_RDWR | os.O_DIRECT
    stock = told_sync(lambda: os.close(os.open(path, flags)))
    if stock is not None:
        agree(
            stock[2],
            (await fails_with(stock[2], lambda: uring_trio.open_direct(path, os.O_RDWR))).errno,
            "direct",
        )
    else:
        async with await uring_trio.open_direct(path, os.O_RDWR) as file:
            agree(BLOCK[77:9999], await file.pread(9922, 77), "direct pread")
            await file.pwrite(b"d" * file.align, file.align)
        agree(b"d" * file.align, path.read_bytes()[file.align : 2 * file.align], "direct pwrite")
    path.unlink()


async def made(path: Path) -> Path:
    await uring_trio.mkdir(path)
    return path


# ---- a device that fails -----------------------------------------------------------------------------


def failing(folder: Path) -> None:
    """A block device whose second half has gone: reads come short before it, then they fail."""
    backing = folder / "backing"
    backing.write_bytes(BLOCK * 20)
    size = backing.stat().st_size // 8192 * 4096
    attached = subprocess.run(
        ["losetup", "--find", "--show", backing], capture_output=True, text=True, check=False
    )
    if attached.returncode:
        print(f"no loop device: {attached.stderr}", file=sys.stderr)
        raise SystemExit(REFUSED)
    device = Path(attached.stdout.strip())
    try:
        os.truncate(backing, size)
        for buffering in (0, -1):
            for calls in (
                [("read", size + 65536), ("tell",), ("read", 4096), ("tell",), ("seek", 100), ("read", 10)],
                [("seek", size - 5000), ("read", 4000), ("tell",), ("read", 4096), ("tell",), ("read", 1)],
                [("readall" if buffering == 0 else "read",), ("tell",), ("seek", size), ("read", 5)],
                [("seek", size - 10), ("readline",), ("tell",)],
            ):
                results = []
                for player in (played_sync, partial(uring_trio.run, played)):
                    subprocess.run(["blockdev", "--flushbufs", device], check=True)
                    results.append(player(device, buffering, calls))
                for one, other, call in zip(*results, calls, strict=True):
                    agree(one, other, (buffering, call))
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


def played_sync(path: Path, buffering: int, calls: list[Any]) -> list[Any]:
    with open(path, "rb", buffering) as file:
        return [told_sync(partial(getattr(file, name), *arguments)) for name, *arguments in calls]


async def played(path: Path, buffering: int, calls: list[Any]) -> list[Any]:
    async with await uring_trio.open_file(path, "rb", buffering) as file:
        return [await told(partial(getattr(file, name), *arguments)) for name, *arguments in calls]


# ---- another user ------------------------------------------------------------------------------------


def unprivileged(folder: Path) -> None:
    """What the owner of nothing may not do; the run's own memory counts against that user's limit."""
    closed, secret = folder / "closed", folder / "secret"
    secret.write_bytes(b"secret")
    secret.chmod(0)
    (folder / "readable").write_bytes(b"readable")
    closed.mkdir()
    (closed / "inside").write_bytes(b"inside")
    closed.chmod(0)
    mine = folder / "mine"
    mine.mkdir()
    shutil.chown(mine, NOBODY, NOBODY)
    folder.chmod(0o755)
    become_nobody()
    os.chdir(folder)
    uring_trio.run(refused)


async def refused() -> None:
    for arguments in (
        ("secret",), ("secret", "wb"), ("secret", "r+"), ("closed/inside", "rb"), ("closed",), ("new", "w"),
        ("readable", "a"), ("readable", "x"), ("/proc/1/environ", "rb"), ("closed/inside/deeper",),
    ):  # fmt: skip
        stock = told_sync(partial(open, *arguments))
        assert stock[0] in (PermissionError, FileExistsError, IsADirectoryError), stock
        agree(stock, await told(partial(uring_trio.open_file, *arguments)), arguments)
    for name, arguments in (
        ("stat", ("closed/inside",)), ("mkdir", ("new",)), ("unlink", ("readable",)), ("rmdir", ("closed",)),
        ("symlink", ("x", "new")), ("link", ("readable", "new")), ("rename", ("readable", "new")),
        ("getxattr", ("secret", "user.x")), ("setxattr", ("readable", "user.x", b"")),
    ):  # fmt: skip
        stock = told_sync(partial(getattr(os, name), *arguments))
        assert stock[0] in (PermissionError, OSError), stock
        agree(stock, await told(partial(getattr(uring_trio, name), *arguments)), name)
    for method in ("stat", "read_bytes", "unlink", "rmdir", "touch", "exists", "is_file", "mkdir"):
        for name in ("secret", "closed/inside", "readable"):
            if (method, name) in (("read_bytes", "readable"), ("stat", "secret"), ("stat", "readable")):
                continue  # allowed
            agree(
                told_sync(getattr(Path(name), method)),
                await told(getattr(uring_trio.Path(name), method)),
                (method, name),
            )
    error = await fails_with(errno.EACCES, lambda: uring_trio.copy_file("readable", "new"))
    assert error.filename == "new"
    error = await fails_with(errno.EACCES, lambda: uring_trio.copy_file("secret", "mine/copy"))
    assert error.filename == "secret"
    found = await uring_trio.read_dir_stats(["readable", "closed/inside"])
    assert isinstance(found[1], PermissionError)
    await fails_with(errno.EACCES, lambda: uring_trio.open_direct("secret"))
    async with await uring_trio.open_file("readable", "rb") as file:  # and what is allowed goes on
        assert await file.read() == b"readable"
        await fails_with(errno.EBADF, lambda: file.pwrite(b"x", 0))
    assert await uring_trio.copy_file("readable", "mine/copy") == 8
    assert os.stat("mine/copy").st_uid == NOBODY
    assert os.listdir() == [name for name in os.listdir() if name != "new"]


def unreachable(folder: Path) -> None:
    """Where a user stands below a directory that this user may not search: relative paths work."""
    here = folder / "closed" / "here"
    here.mkdir(parents=True)
    shutil.chown(here, NOBODY, NOBODY)
    folder.chmod(0o755)
    os.chdir(here)
    here.parent.chmod(0)
    become_nobody()
    assert told_sync(partial(os.stat, os.getcwd()))[0] is PermissionError
    uring_trio.run(from_here)


async def from_here() -> None:
    await uring_trio.mkdir("made")
    async with await uring_trio.open_file("file", "w") as file:
        await file.write("text")
    await uring_trio.symlink("file", "link")
    await uring_trio.link("file", "made/other")
    await uring_trio.rename("made/other", "made/same")
    assert await uring_trio.copy_file("made/same", b"copy") == 4
    for name in ("file", "link", b"made", "."):
        agree(told_sync(partial(os.stat, name)), await told(partial(uring_trio.stat, name)), name)
    assert [found.st_size for found in await uring_trio.read_dir_stats(["file", "copy"])] == [4, 4]  # type: ignore[union-attr]
    path = uring_trio.Path("made/same")
    assert await path.read_text() == "text"
    await path.touch()
    await path.unlink()
    await uring_trio.rmdir("made")
    await fails_with(errno.ENOENT, lambda: uring_trio.unlink("made/same"))
    error = await fails_with(errno.EACCES, lambda: uring_trio.unlink("../other"))
    assert error.filename == "../other"
    assert sorted(os.listdir()) == ["copy", "file", "link"]


def crowded(folder: Path) -> None:
    """Where this user may have no further thread, kernel workers neither."""
    (folder / "file").write_bytes(b"contents")
    (folder / "readable").write_bytes(b"contents")
    (folder / "name").write_bytes(b"")
    os.mkfifo(folder / "fifo")
    for each in (folder, *folder.iterdir()):
        shutil.chown(each, NOBODY, NOBODY)
    os.chdir(folder)
    become_nobody()
    _, most = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (1, most))
    for mode in ("auto", "link", "cancel"):
        uring_trio.run(short_of_threads, ring=uring_trio.RingOptions(deadlines=mode))
    resource.setrlimit(resource.RLIMIT_NPROC, (min(most, 1 << 20), most))
    uring_trio.run(threads_again)


async def short_of_threads() -> None:
    """Each says which limit to raise; on stock Trio it is `RuntimeError`, "can't start new thread"."""
    path = uring_trio.Path("file")
    async with await uring_trio.open_file("readable", "r+b", 0) as file:
        fd = file.fileno()
        op, memory = partial(uring.ops.fsync, fd), bytearray(8)
        calls: list[Callable[[], Awaitable[Any]]] = [
            lambda: uring_trio.perform(op()),
            lambda: uring_trio.perform(op(), timeout=60),
            lambda: uring_trio.mkdir("new"),
            lambda: uring_trio.rename("name", "new"),
            lambda: uring_trio.unlink("name"),
            lambda: uring_trio.symlink("name", "new"),
            lambda: uring_trio.copy_file("name", "new"),
            lambda: uring_trio.setxattr("name", "user.x", b""),
            lambda: uring_trio.stat("/proc/self/fd/0/below"),
            lambda: uring_trio.open_file("new", "w"),
            lambda: uring_trio.open_file("fifo", "rb"),
            lambda: uring_trio.open_file("/dev/null", "rb"),
            lambda: path.write_text("x"),
            lambda: uring_trio.Path("new").touch(),
            lambda: uring_trio.Path("new/below").mkdir(parents=True),
            lambda: uring_trio.Path("/proc/self/fd/0/below").exists(),
            lambda: uring_trio.Path("/proc/self/fd/0/below").is_mount(),
            lambda: file.fsync(),
            lambda: file.truncate(4),
            lambda: file.allocate(0, 4),
        ]
        for i, call in enumerate(calls):
            with trio.fail_after(60):
                found = await told(call)
            assert found[0] is NoWorker, (i, found)
            assert "RLIMIT_NPROC (now 1)" in found[1], (i, found)
            assert "pids limit" in found[1], (i, found)
        nop, fsync, read = await uring_trio.perform_many(
            [uring.ops.nop(), op(), uring.ops.read(fd, memory, offset=0)]
        )
        assert (nop, type(fsync), read) == (0, NoWorker, 8)
        for found in await uring_trio.read_dir_stats(["/proc/self/fd/0/below", "/proc/self/fd/1/below"]):
            assert isinstance(found, NoWorker)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            await trio.to_thread.run_sync(int)
        except RuntimeError as exc:
            assert not isinstance(exc, NoWorker)
        else:
            raise AssertionError("there was a thread to be had")
    assert sorted(os.listdir()) == ["fifo", "file", "name", "readable"]


async def threads_again() -> None:
    await uring_trio.mkdir("new")
    await uring_trio.Path("file").write_text("x")
    assert Path("file").read_bytes() == b"x"


SCENARIOS = {
    function.__name__: function
    for function in (full, failing, tmpfs, overlay, unprivileged, unreachable, crowded)
}


def main(scenario: str, folder: str) -> None:
    threads, files = set(threading.enumerate()), set(os.listdir("/proc/self/fd"))
    SCENARIOS[scenario](Path(folder))
    assert not set(threading.enumerate()) - threads
    left = set(os.listdir("/proc/self/fd")) - files
    assert not left, f"left open: {left}"


if __name__ == "__main__":
    main(*sys.argv[1:])
