"""Paths on the ring: the same answers and exceptions as `os` and `pathlib` give."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import pathlib
import resource
import shutil
import stat as modes
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import assert_checkpoints

import uring_trio
from uring_trio import Path, copy_file, read_dir_stats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def here(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"contents\r\n")
    (tmp_path / "dir").mkdir()
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "root").symlink_to("/")
    os.mkfifo(tmp_path / "fifo")
    return tmp_path


NAMES = [
    "file",
    "dir",
    "link",
    "dangling",
    "loop",
    "fifo",
    "missing",
    "file/below",
    ".",
    "/dev/null",
    "/",
    "/proc",
    "/proc/..",
    "root",
    "n\0",
    "x" * 300,
]

QUESTIONS = [
    "stat", "lstat", "exists", "is_dir", "is_file", "is_symlink", "is_socket", "is_fifo", "is_block_device",
    "is_char_device", "is_mount", "read_bytes", "read_text", "rmdir", "unlink", "mkdir", "touch",
]  # fmt: skip


def told(exc: BaseException) -> tuple[Any, ...]:
    if isinstance(exc, ValueError):
        return (type(exc),)  # the text differs by Python version
    return type(exc), str(exc), getattr(exc, "filename", None), getattr(exc, "filename2", None)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("question", QUESTIONS)
async def test_answers_as_pathlib(here: pathlib.Path, name: str, question: str) -> None:
    if name == "fifo" and question in ("read_bytes", "read_text", "rmdir", "mkdir", "unlink"):
        return  # a read would wait for a writer, and the copy has none
    if name in ("/", ".", "/dev/null", "/proc", "/proc/..") and question in ("unlink", "rmdir", "touch"):
        return
    stock: Any
    ring: Any
    copy = here / "copy"
    shutil.copytree(here, copy, symlinks=True, ignore=lambda *_: ["fifo", "copy"])
    try:
        stock = getattr(pathlib.Path(name), question)()
    except (OSError, ValueError) as exc:
        stock = told(exc)
    if question in ("rmdir", "unlink", "mkdir", "touch"):
        os.chdir(copy)
    try:
        ring = await getattr(Path(name), question)()
    except (OSError, ValueError) as exc:
        ring = told(exc)
    if question == "stat" and isinstance(stock, os.stat_result):
        moving = {"st_nlink"} if name == "/proc" else set()  # it has a link for each process
        fields = [field for field in dir(stock) if field.startswith("st_") and "atime" not in field]
        fields = [field for field in fields if field not in moving]
        assert [getattr(ring, field) for field in fields] == [getattr(stock, field) for field in fields]
    elif question == "lstat" and isinstance(stock, os.stat_result):
        assert (ring.st_ino, ring.st_mode) == (stock.st_ino, stock.st_mode)
    else:
        assert ring == stock
    os.chdir(here)


async def test_makes_and_moves(here: pathlib.Path) -> None:
    top = Path("a")
    await (top / "b" / "c").mkdir(parents=True)
    await (top / "b").mkdir(parents=True, exist_ok=True)
    with pytest.raises(FileExistsError):
        await (top / "b").mkdir()
    with pytest.raises(FileExistsError):
        await Path("file").mkdir(exist_ok=True)
    file = top / "text"
    assert await file.write_text("one\ntwo\n") == 8
    assert await file.read_text(encoding="utf-8") == "one\ntwo\n"
    assert await file.write_bytes(b"\r\n") == 2
    assert await file.read_text() == "\n"
    moved = await file.rename("a/moved")
    assert type(moved) is type(file)
    assert isinstance(moved, trio.Path)
    assert await moved.exists()
    assert not await file.exists()
    await moved.replace(here / "link")
    assert not (here / "link").is_symlink()
    with pytest.raises(FileNotFoundError) as caught:
        await Path("missing").rename("other")
    assert (caught.value.filename, caught.value.filename2) == ("missing", "other")
    await Path("again").symlink_to("file")
    assert os.readlink("again") == "file"
    await Path("hard").hardlink_to("file")
    assert os.stat("hard").st_nlink == 2
    assert await Path("hard").samefile("file")
    await Path("hard").unlink()
    await Path("hard").unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError):
        await Path("hard").unlink()
    with pytest.raises(OSError, match="not empty"):
        await top.rmdir()
    await (top / "b" / "c").rmdir()
    async with await (top / "new").open("w") as opened:
        assert isinstance(opened, uring_trio.TextFile)
        assert opened.name == "a/new"


async def test_links_are_followed_or_not(here: pathlib.Path) -> None:
    for name, question, followed, itself in (
        ("link", "is_file", True, False),
        ("root", "is_dir", True, False),
        ("dangling", "exists", False, True),
        ("dir", "is_dir", True, True),
    ):
        ask = getattr(Path(name), question)
        assert (await ask(), await ask(follow_symlinks=True)) == (followed, followed)
        assert await ask(follow_symlinks=False) == itself


async def test_touch(here: pathlib.Path) -> None:
    os.utime("file", (1, 1))
    await Path("file").touch()
    assert os.stat("file").st_mtime > 1
    os.utime("dir", (1, 1))
    await Path("dir").touch()
    assert os.stat("dir").st_mtime > 1
    await Path("made").touch(0o600)
    assert modes.S_IMODE(os.stat("made").st_mode) == 0o600
    with pytest.raises(FileExistsError):
        await Path("made").touch(exist_ok=False)


async def test_the_rest_is_as_in_trio(here: pathlib.Path) -> None:
    assert sorted(path.name for path in await Path(".").iterdir()) == sorted(os.listdir())
    assert await Path("link").readlink() == Path("file")
    assert isinstance(await Path("link").resolve(), Path)
    assert repr(Path("x")) == "uring_trio.Path('x')"


async def test_one_path_in_many_forms(here: pathlib.Path) -> None:
    for form in ("file", b"file", pathlib.Path("file"), here / "file"):
        assert (await uring_trio.stat(form)).st_size == 10
    with open("file") as file:
        assert await uring_trio.stat(file.fileno()) == os.fstat(file.fileno())
    with pytest.raises(TypeError):
        await uring_trio.stat(3.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="null byte"):
        await uring_trio.unlink(b"a\0b")


@pytest.mark.parametrize("wrong", [-100, -2, 1 << 20, 1 << 31, 1 << 40])
async def test_a_stat_of_no_descriptor_fails_as_in_os(wrong: int) -> None:
    with pytest.raises((OSError, OverflowError)) as stock:
        os.stat(wrong)
    with pytest.raises(type(stock.value)) as ring:
        await uring_trio.stat(wrong)
    assert told(ring.value) == told(stock.value)
    if isinstance(stock.value, OSError):
        assert told((await read_dir_stats([wrong]))[0]) == told(stock.value)  # type: ignore[arg-type, list-item]
    else:
        with pytest.raises(OverflowError, match="fd is greater than maximum"):
            await read_dir_stats([wrong])  # type: ignore[list-item]


async def test_relative_to_where_the_call_was_made(here: pathlib.Path) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(uring_trio.mkdir, "made-here")
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        os.chdir("dir")
    assert (here / "made-here").is_dir()


@pytest.mark.parametrize("many", [1, 1000])
async def test_many_stats_are_relative_to_where_the_call_was_made(here: pathlib.Path, many: int) -> None:
    os.stat("file")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(chdir_now, here / "dir")
        found = await read_dir_stats(["file", "missing"] * many)
    assert found[::2] == [os.stat(here / "file")] * many
    assert all(isinstance(each, FileNotFoundError) and each.filename == "missing" for each in found[1::2])


async def chdir_now(where: pathlib.Path) -> None:
    os.chdir(where)


async def test_a_copy_is_relative_to_where_the_call_was_made(here: pathlib.Path) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(chdir_now, here / "dir")
        assert await copy_file("file", "copy") == 10
    assert (here / "copy").read_bytes() == b"contents\r\n"
    assert os.listdir(here / "dir") == []


async def test_a_failed_stat_leaves_nothing_for_the_collector(here: pathlib.Path) -> None:
    name = str(here / "missing")
    assert not os.path.exists(name)  # from now on the kernel knows
    gc.collect()
    gc.disable()
    try:
        for stat in (Path(name).stat, Path(name).lstat, partial(uring_trio.stat, name)):
            with contextlib.suppress(FileNotFoundError):
                await stat()
        assert not await Path(name).exists()
        left = [each for each in gc.get_objects() if isinstance(each, OSError) and each.filename == name]
        assert left == []
    finally:
        gc.enable()


async def test_read_dir_stats(here: pathlib.Path) -> None:
    found = await read_dir_stats(["file", "missing", b"dir", "dangling"])
    assert found[0] == os.stat("file")
    assert isinstance(found[1], FileNotFoundError)
    assert found[1].filename == "missing"
    assert modes.S_ISDIR(found[2].st_mode)  # type: ignore[union-attr]
    assert isinstance(found[3], FileNotFoundError)
    links = await read_dir_stats(["dangling"], follow_symlinks=False)
    assert modes.S_ISLNK(links[0].st_mode)  # type: ignore[union-attr]
    assert await read_dir_stats([]) == []
    assert len(await read_dir_stats(["file"] * 3000)) == 3000


async def test_samefile_names_the_first_that_is_missing(here: pathlib.Path) -> None:
    for one, other in (("missing", "file"), ("file", "missing"), ("missing", "dangling")):
        with pytest.raises(FileNotFoundError) as stock:
            pathlib.Path(one).samefile(other)
        with pytest.raises(FileNotFoundError) as ring:
            await Path(one).samefile(other)
        assert str(ring.value) == str(stock.value)
    assert await Path("link").samefile("file")


async def test_xattr(here: pathlib.Path) -> None:
    try:
        os.setxattr("file", "user.probe", b"")
    except OSError as exc:
        pytest.skip(f"no extended attributes here: {exc}")
    await uring_trio.setxattr("file", "user.name", b"value")
    assert os.getxattr("file", "user.name") == b"value"
    assert await uring_trio.getxattr("file", "user.name") == b"value"
    with open("file") as file:
        assert await uring_trio.getxattr(file.fileno(), "user.name") == b"value"
    with pytest.raises(OSError) as caught:
        await uring_trio.getxattr("file", "user.none")
    assert (caught.value.errno, caught.value.filename) == (errno.ENODATA, "file")


@pytest.mark.parametrize("size", [0, 1, 1000, 5000, 100_001])
async def test_copy_file(here: pathlib.Path, size: int) -> None:
    data = os.urandom(size)
    (here / "source").write_bytes(data)
    steps: list[tuple[int, int]] = []
    assert await copy_file("source", "file", progress=lambda *step: steps.append(step), chunk=1000) == size
    assert (here / "file").read_bytes() == data
    assert [done for done, _ in steps] == [min(size, (i + 1) * 1000) for i in range(-(-size // 1000))]
    assert all(there == size for _, there in steps)


async def test_copy_file_refuses(here: pathlib.Path) -> None:
    with pytest.raises(shutil.SameFileError):
        await copy_file("file", "link")
    assert (here / "file").read_bytes() == b"contents\r\n"
    with pytest.raises(FileNotFoundError) as caught:
        await copy_file("missing", "other")
    assert caught.value.filename == "missing"
    with pytest.raises(IsADirectoryError):
        await copy_file("file", "dir")


async def test_copy_file_leaves_the_target_when_the_source_cannot_be_copied(here: pathlib.Path) -> None:
    with pytest.raises(IsADirectoryError) as caught:
        await copy_file("dir", "file")
    assert caught.value.filename == "dir"
    for source, target in (("fifo", "file"), ("file", "fifo")):
        with pytest.raises(shutil.SpecialFileError, match="`fifo` is a named pipe"):
            await copy_file(source, target)
    with pytest.raises(IsADirectoryError):
        await copy_file("dir", "new")
    assert not (here / "new").exists()
    assert (here / "file").read_bytes() == b"contents\r\n"


@pytest.mark.parametrize("name", ["file", b"file"])
async def test_in_a_removed_directory_errors_name_the_path(here: pathlib.Path, name: Any) -> None:
    os.chdir("dir")
    (here / "dir").rmdir()
    for call in (uring_trio.stat, uring_trio.open_file, uring_trio.mkdir, uring_trio.unlink):
        with pytest.raises(FileNotFoundError) as caught:
            await call(name)
        assert caught.value.filename == name


async def test_in_a_removed_directory_dots_lead_out(here: pathlib.Path) -> None:
    os.chdir("dir")
    (here / "dir").rmdir()
    assert (await uring_trio.stat("..")).st_ino == os.stat("..").st_ino
    assert (await uring_trio.stat(b".", follow_symlinks=False)).st_ino == os.stat(".").st_ino
    await uring_trio.mkdir("../made")
    async with await uring_trio.open_file("../file", "rb") as file:
        assert await file.read() == b"contents\r\n"
    assert (here / "made").is_dir()


@pytest.mark.parametrize("length", [4090, 4500])
async def test_in_a_directory_as_deep_as_a_path_can_name_or_deeper(here: pathlib.Path, length: int) -> None:
    while (left := length - len(os.getcwdb())) > 1:
        os.mkdir("x" * min(200, left - 1))
        os.chdir("x" * min(200, left - 1))
    for make in (str, os.fsencode):
        await uring_trio.mkdir(make("a directory"))
        async with await uring_trio.open_file(make("a file"), "wb") as file:
            await file.write(b"deep")
        await uring_trio.rename(make("a file"), make("a directory/a file"))
        assert await copy_file(make("a directory/a file"), make("copy")) == 4
        assert await uring_trio.stat(make("copy")) == os.stat("copy")
        await Path("touched").touch()
        assert sorted(os.listdir()) == ["a directory", "copy", "touched"]
        for path in ("a directory/a file", "copy", "touched"):
            await uring_trio.unlink(make(path))
        await uring_trio.rmdir(make("a directory"))
    with pytest.raises(FileNotFoundError) as caught:
        await uring_trio.unlink("missing")
    assert caught.value.filename == "missing"
    os.chdir(here)
    shutil.rmtree("x" * 200)


async def test_splice_does_not_wait_for_a_socket() -> None:
    near, far = trio.socket.socketpair()
    source, sink = os.pipe()
    try:
        with near, far:
            with pytest.raises(BlockingIOError):
                await uring_trio.splice(far.fileno(), sink, 10)
            await near.send(b"data")
            assert await uring_trio.splice(far.fileno(), sink, 10) == 4
        assert os.read(source, 10) == b"data"
    finally:
        os.close(source)
        os.close(sink)


async def test_splice_and_tee(here: pathlib.Path) -> None:
    first, second = os.pipe(), os.pipe()
    try:
        with open("file", "rb") as file:
            assert await uring_trio.splice(file.fileno(), first[1], 4, offset_in=0) == 4
        assert await uring_trio.tee(first[0], second[1], 100) == 4
        assert os.read(first[0], 10) == os.read(second[0], 10) == b"cont"
    finally:
        for fd in (*first, *second):
            os.close(fd)


async def test_cancelled_before_it_began(here: pathlib.Path) -> None:
    for call in (
        lambda: Path("file").unlink(),
        lambda: Path("new").mkdir(),
        lambda: Path("file").rename("moved"),
        lambda: Path("file").write_text("gone"),
        lambda: Path("touched").touch(),
        lambda: copy_file("dir", "file"),
    ):
        before = sorted(os.listdir())
        with trio.CancelScope() as scope:
            scope.cancel()
            await call()
        assert scope.cancelled_caught
        assert sorted(os.listdir()) == before
    assert (here / "file").read_bytes() == b"contents\r\n"


async def test_checkpoints_and_no_threads(here: pathlib.Path) -> None:
    before = set(threading.enumerate())
    for call in (
        lambda: Path("file").stat(),
        lambda: Path("n\0").exists(),
        lambda: Path("file").read_bytes(),
        lambda: Path("made").mkdir(),
        lambda: Path("made").rmdir(),
    ):
        with assert_checkpoints():
            await call()
    assert not set(threading.enumerate()) - before


TOUCHED = [
    "file", "dir", "link", "dangling", "loop", "missing", "file/below", "missing/below", "read-only", "n\0",
    "x" * 300, "", ".", "fifo",
]  # fmt: skip


@pytest.mark.parametrize("exist_ok", [True, False])
@pytest.mark.parametrize("name", TOUCHED)
async def test_touches_as_pathlib(here: pathlib.Path, name: str, exist_ok: bool) -> None:
    (here / "read-only").write_text("")
    (here / "read-only").chmod(0o444)
    found: list[Any] = []
    for touch in (pathlib.Path(name).touch, Path(name).touch):
        for there in here.iterdir():
            if not there.is_symlink():
                os.utime(there, (1, 1))
        try:
            done = touch(0o640, exist_ok)
            if done is not None:
                await done
        except (OSError, ValueError) as exc:
            answer: Any = told(exc)
        else:
            answer = None
        after = {there.name: (there.lstat().st_mode, there.lstat().st_mtime > 1) for there in here.iterdir()}
        found.append((answer, after))
        for made in ("missing", "nowhere"):
            (here / made).unlink(missing_ok=True)
    stock, ring = found
    assert ring == stock


async def test_touch_needs_no_descriptor(here: pathlib.Path) -> None:
    """As pathlib, which opens only what is not there."""
    found: list[Any] = []
    for kind in (pathlib.Path, Path):
        answers: list[Any] = []
        for name in ("file", "dir", "link", "missing"):
            os.utime(here / "file", (1, 1))
            os.utime(here / "dir", (1, 1))
            with no_descriptor_left():
                try:
                    done = kind(name).touch()
                    if done is not None:
                        await done
                except OSError as exc:
                    answers.append(told(exc))
                else:
                    answers.append(os.stat(name).st_mtime > 1)
        found.append(answers)
    assert found[1] == found[0]
    assert found[0][:3] == [True] * 3


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    first_free = os.dup(0)
    os.close(first_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (first_free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_each_step_starts_in_the_same_directory(here: pathlib.Path) -> None:
    """Another task changes the working directory between two steps of a call, which do not notice."""
    elsewhere = here / "elsewhere"
    (elsewhere / "dir").mkdir(parents=True)
    (elsewhere / "file").write_text("another")
    os.link(here / "file", here / "same")
    os.link(elsewhere / "file", elsewhere / "same")
    calls: list[Callable[[], Any]] = [
        lambda: Path("a/b/c").mkdir(parents=True),
        lambda: Path("dir").mkdir(exist_ok=True),
        lambda: Path("file").samefile("same"),
        lambda: Path("same").samefile(here / "file"),
        lambda: Path("dir").is_mount(),
        lambda: Path("/").is_mount(),
        lambda: Path("touched").touch(),
        lambda: Path("file").touch(),
    ]
    answers: list[Any] = []
    for call in calls:
        begun = False

        async def run(call: Any = call) -> None:
            nonlocal begun
            begun = True
            answers.append(await call())

        async def move() -> None:
            while not begun:
                await trio.lowlevel.checkpoint()
            os.chdir(elsewhere)

        before = sorted(elsewhere.rglob("*")), (elsewhere / "file").stat().st_mtime_ns
        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            nursery.start_soon(move)
        os.chdir(here)
        assert (sorted(elsewhere.rglob("*")), (elsewhere / "file").stat().st_mtime_ns) == before
    assert answers == [None, None, True, True, False, True, None, None]
    assert (here / "a/b/c").is_dir()
    assert (here / "touched").is_file()


@pytest.mark.parametrize("first", ["file", "dir", "link", "", "missing", "dangling"])
@pytest.mark.parametrize("second", ["file", "dir", "link", "", ".", "missing", Path("link"), Path("missing")])
async def test_compares_as_pathlib(here: pathlib.Path, first: str, second: Any) -> None:
    answers: list[Any] = []
    for call in (pathlib.Path(first).samefile, Path(first).samefile):
        other = second if answers else pathlib.Path(second)
        try:
            done: Any = call(other)
            answers.append(done if isinstance(done, bool) else await done)
        except OSError as exc:
            answers.append(told(exc))
    assert answers[1] == answers[0]


@pytest.mark.parametrize("parents", [True, False])
@pytest.mark.parametrize("exist_ok", [True, False])
@pytest.mark.parametrize(
    "name", ["file", "dir", "link", "dangling", "a/b", "file/a", "a/../b", "", ".", "x" * 300, "dir/n"]
)
async def test_makes_directories_as_pathlib(
    here: pathlib.Path, name: str, exist_ok: bool, parents: bool
) -> None:
    found: list[Any] = []
    before = set(here.rglob("*"))
    for kind in (pathlib.Path, Path):
        try:
            make: Any = kind(name).mkdir
            done = make(0o750, parents, exist_ok)
            answer: Any = done if done is None else await done
        except OSError as exc:
            answer = told(exc)
        made = sorted(set(here.rglob("*")) - before, reverse=True)
        found.append((answer, [(path, path.stat().st_mode) for path in made]))
        for path in made:
            path.rmdir()
    assert found[1] == found[0]
