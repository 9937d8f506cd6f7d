"""Answers out of the kernel's caches: data in memory is returned at once, other data is never waited for."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.page_cache import TRIES, drop
from uring.cached import PART, find_stat, read_cached, read_piece, read_pieces, stat_is_local
from uring.kernel.memory import pin_writable

if TYPE_CHECKING:
    from collections.abc import Callable

PAGES = 16
PAGE = 4096
CURRENT = (1 << 64) - 1
MOST = 1 << 20


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "file"
    found.write_bytes(os.urandom(PAGES * PAGE))
    return found


class Reader:
    """Calls of `read_cached` on one file, without read-ahead, and what they read."""

    def __init__(self, path: Path, flags: int = os.O_RDONLY) -> None:
        self.fd = os.open(path, flags)
        self.memory = bytearray(PAGES * PAGE + 100)
        self.address, _, self._pin = pin_writable(self.memory)

    def __enter__(self) -> Reader:
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_RANDOM)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def read(self, length: int, offset: int = CURRENT) -> int:
        return read_cached(self.fd, offset, self.address, length)


def test_reads_what_is_in_the_page_cache(path: Path) -> None:
    data = path.read_bytes()
    with Reader(path) as reader:
        assert reader.read(1000, 5000) == 1000
        assert reader.memory[:1000] == data[5000:6000]
        assert reader.read(3000) == 3000
        assert reader.read(10) == 10
        assert reader.memory[:10] == data[3000:3010]
        assert os.lseek(reader.fd, 0, os.SEEK_CUR) == 3010


def test_is_short_at_the_end_alone(path: Path) -> None:
    data = path.read_bytes()
    with Reader(path) as reader:
        assert reader.read(len(data) + 100, 0) == len(data)
        assert reader.memory[: len(data)] == data
        assert reader.read(100, len(data) - 7) == 7
        assert reader.read(100, len(data)) == 0
        assert reader.read(0, 0) == 0


@pytest.mark.usefixtures("slow_disk")
def test_does_not_wait_for_what_is_not_there(path: Path) -> None:
    with Reader(path) as reader:
        for _ in range(100):  # as below
            drop(path)
            told = reader.read(100, 0), reader.read(100)
            if told == (-errno.EAGAIN, -errno.EAGAIN):
                break
            assert set(told) <= {100, -errno.EAGAIN}
            os.lseek(reader.fd, 0, os.SEEK_SET)
        else:
            raise AssertionError("what is not in memory was read")
        assert os.lseek(reader.fd, 0, os.SEEK_CUR) == 0


@pytest.mark.usefixtures("slow_disk")
def test_says_how_much_was_there(path: Path) -> None:
    data = path.read_bytes()
    with Reader(path) as reader:
        for _ in range(100):  # as below
            drop(path)
            os.pread(reader.fd, 1, 0)  # this page comes back
            told = reader.read(3 * PAGE)
            if told == -PART - PAGE:
                break
            assert told == 3 * PAGE
            os.lseek(reader.fd, 0, os.SEEK_SET)
        else:
            raise AssertionError("what is not in memory was read")
        assert reader.memory[:PAGE] == data[:PAGE]
        assert os.lseek(reader.fd, 0, os.SEEK_CUR) == PAGE


def test_refuses_what_cannot_be_read_so(path: Path) -> None:
    with Reader(path, os.O_WRONLY) as reader:
        assert reader.read(1, 0) == -errno.EBADF
    with Reader(Path("/proc/self/status")) as reader:
        assert reader.read(1, 0) == -errno.EOPNOTSUPP


def test_a_piece_is_as_of_pread(path: Path) -> None:
    size = PAGES * PAGE
    with Reader(path) as reader:
        for n, offset in [
            (100, 5000),
            (1, 7),
            (0, 7),
            (size + 5, 0),
            (10, size - 3),
            (10, size),
            (10, 1 << 40),
        ]:
            assert read_piece(reader.fd, n, offset) == os.pread(reader.fd, n, offset)


@pytest.mark.usefixtures("slow_disk")
def test_a_piece_is_whole_or_none(path: Path) -> None:
    data = path.read_bytes()
    with Reader(path) as reader:
        for _ in range(100):  # as below
            drop(path)
            os.pread(reader.fd, 1, 0)  # this page comes back
            told = read_piece(reader.fd, 3 * PAGE, 0)
            if told is None:
                break
            assert told == data[: 3 * PAGE]
        else:
            raise AssertionError("what is not in memory was read")
    assert read_piece(1 << 20, 100, 0) is None


@pytest.mark.usefixtures("slow_disk")
def test_reads_pieces_until_one_is_not_whole(path: Path) -> None:
    data = path.read_bytes()
    with Reader(path) as reader:
        places = [(5000, 100), (0, 20), (60_000, 300), (1, 1), (7, 0)]
        wanted = [data[offset : offset + n] for offset, n in places]
        assert read_pieces(reader.fd, places, MOST) == wanted
        assert read_pieces(reader.fd, [], MOST) == []
        assert read_pieces(reader.fd, [(7, 10), (len(data) - 5, 10), (0, 10)], MOST) == [data[7:17]]
        # A miss makes the kernel read the page, and sometimes that is done before the call ends.
        for _ in range(100):
            drop(path)
            told = read_pieces(reader.fd, places, MOST)
            assert told is not None
            assert told == wanted[: len(told)]
            if len(told) < len(wanted):
                break
        else:
            raise AssertionError("what is not in memory was read")
    assert read_pieces(1 << 20, [(0, 1)], MOST) == []


def test_reads_none_if_they_are_too_many_or_not_places(path: Path) -> None:
    with Reader(path) as reader:
        assert read_pieces(reader.fd, [(0, 60), (0, 40)], 100) is not None
        for wrong in (
            [(0, 60), (0, 41)], [(0, 1), (0, sys.maxsize), (0, sys.maxsize)], [(0, 1), (0, 1 << 64)],
            [(0, 1), (-1, 1)], [(0, 1), (1 << 63, 1)], [(CURRENT, 1)], [(0, -1)], [(0,)], [(0, 1, 2)],
            [[0, 1]], ["ab"], [(0, 1.0)], [(None, 1)],
        ):  # fmt: skip
            assert read_pieces(reader.fd, wrong, 100) is None  # type: ignore[arg-type]


@given(data=st.data())
def test_pieces_are_as_of_pread(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "pieces"
    if not path.exists():
        path.write_bytes(os.urandom(3 * PAGE + 17))
    places = data.draw(st.lists(st.tuples(st.integers(0, 4 * PAGE), st.integers(0, 3 * PAGE)), max_size=20))
    fd = os.open(path, os.O_RDONLY)
    try:
        wanted = [os.pread(fd, n, offset) for offset, n in places]
        short = next((i for i, piece in enumerate(wanted) if len(piece) < places[i][1]), len(places))
        assert read_pieces(fd, places, MOST) == wanted[:short]
    finally:
        os.close(fd)


def test_pieces_are_objects_of_their_own(path: Path) -> None:
    with Reader(path) as reader:
        one, other = read_pieces(reader.fd, [(0, PAGE)] * 2, MOST) or []
        assert one == other == read_piece(reader.fd, PAGE, 0)
        assert one is not other


def bad_calls() -> list[tuple[Callable[..., Any], tuple[Any, ...]]]:
    large = 1 << 70
    return [
        (read_cached, (0, 0, 0)),
        (read_cached, (large, 0, 0, 0)),
        (read_cached, (1 << 32, 0, 0, 0)),
        (read_cached, (0, -1, 0, 0)),
        (read_cached, (0, 0, 0, 1 << 31)),
        (read_cached, ("0", 0, 0, 0)),
        (read_piece, (0, 0)),
        (read_piece, (1 << 32, 0, 0)),
        (read_piece, (0, -1, 0)),
        (read_piece, (0, 1 << 31, 0)),
        (read_piece, (0, 0, -1)),
        (read_piece, (0, 0, large)),
        (read_piece, (0, 0, None)),
        (read_pieces, (0, [])),
        (read_pieces, (0, (), 0)),
        (read_pieces, (1 << 32, [], 0)),
        (read_pieces, (0, [], large)),
        (find_stat, ("/",)),
        (stat_is_local, ("0",)),
        (stat_is_local, (large,)),
    ]


@pytest.mark.parametrize(("function", "args"), bad_calls())
def test_refuses_other_arguments(function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    with pytest.raises((TypeError, OverflowError)):
        function(*args)


class Number:
    """Runs Python code to become a number."""

    def __index__(self) -> int:
        return len([0])


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (read_cached, ("0", Number(), Number(), Number())),
        (read_piece, ("0", Number(), 0)),
        (read_piece, (0, 1 << 70, Number())),
        (read_pieces, ("0", [], Number())),
    ],
)
def test_the_first_wrong_argument_is_what_is_said(
    function: Callable[..., Any], args: tuple[Any, ...]
) -> None:
    with pytest.raises((TypeError, OverflowError)):
        function(*args)


def check(path: Path | bytes, follow: bool = True) -> None:
    """The answer of the standard library, field by field."""
    known = os.stat(path, follow_symlinks=follow)
    fds = os.listdir("/proc/self/fd")
    # The kernel gives its look up where a rename or a mount anywhere comes between.
    told = next(filter(None, (find_stat(path, follow) for _ in range(TRIES))), None)
    assert isinstance(told, os.stat_result), told
    assert told == known
    assert repr(told) == repr(known)
    assert len(told.__reduce__()[1][1]) == len(known.__reduce__()[1][1])
    for name in dir(known):
        if name.startswith("st_"):
            assert getattr(told, name) == getattr(known, name), name
            assert type(getattr(told, name)) is type(getattr(known, name)), name
    assert os.listdir("/proc/self/fd") == fds


def test_finds_what_is_known(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(path)
    check(path.parent)
    check(path, False)
    monkeypatch.chdir(path.parent)
    check(b"file")


@pytest.mark.parametrize("seconds", [0, 1, -1, 4_000_000_000, -2_000_000_000])
def test_tells_times_as_the_standard_library_does(path: Path, seconds: int) -> None:
    os.utime(path, ns=(seconds * 10**9 + 123_456_789, seconds * 10**9 + 999_999_999))
    check(path)


def test_follows_links_or_gives_up(path: Path) -> None:
    link = path.parent / "link"
    link.symlink_to(path)
    link.stat()
    check(link)
    assert find_stat(link, False) is None


def test_knows_what_is_missing_once_it_was_looked_for(path: Path) -> None:
    missing = path.parent / "missing"
    assert find_stat(missing, True) is None
    assert not missing.exists()
    assert find_stat(missing, True) == errno.ENOENT
    missing.touch()
    check(missing)


@pytest.mark.parametrize("where", ["/proc/self/status", "/sys/kernel", "/proc/self/fd/0"])
def test_leaves_other_file_systems_alone(where: str) -> None:
    os.stat(where)
    assert find_stat(where, True) is None


@pytest.mark.parametrize("wrong", [0, None, "a\0b", b"a\0b", "\ud800", 1.5])
def test_leaves_what_is_no_path_to_its_caller(wrong: Any) -> None:
    assert find_stat(wrong, True) is None


def test_what_a_path_raises_is_raised() -> None:
    class Interrupted:
        def __fspath__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_stat(Interrupted(), True)


def test_tells_where_fstat_is_from_memory(path: Path) -> None:
    readable, writable = os.pipe()
    fd = os.open(path, os.O_RDONLY)
    proc = os.open("/proc/self/status", os.O_RDONLY)
    try:
        assert [stat_is_local(each) for each in (fd, fd, readable, proc, 1 << 20, 1 << 32)] == [
            True, True, False, False, False, False,
        ]  # fmt: skip
    finally:
        for each in (readable, writable, fd, proc):
            os.close(each)
