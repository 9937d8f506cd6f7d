"""Answers out of the kernel's caches: what is there is told at once, and what is not never waited for."""

from __future__ import annotations

import errno
import os
from array import array
from pathlib import Path

import pytest

from uring.cached import PART, Room, find_cached, read_cached, stat_is_local
from uring.memory import pin_writable

PAGES = 16
PAGE = 4096
CURRENT = (1 << 64) - 1


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "file"
    found.write_bytes(os.urandom(PAGES * PAGE))
    return found


def drop(path: Path) -> None:
    fd = os.open(path, os.O_RDWR)
    try:
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


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


def test_does_not_wait_for_what_is_not_there(path: Path) -> None:
    drop(path)
    with Reader(path) as reader:
        assert reader.read(100, 0) == -errno.EAGAIN
        assert reader.read(100) == -errno.EAGAIN
        assert os.lseek(reader.fd, 0, os.SEEK_CUR) == 0


def test_says_how_much_was_there(path: Path) -> None:
    data = path.read_bytes()
    drop(path)
    with Reader(path) as reader:
        os.pread(reader.fd, 1, 0)  # this page comes back
        assert reader.read(3 * PAGE) == -PART - PAGE
        assert reader.memory[:PAGE] == data[:PAGE]
        assert os.lseek(reader.fd, 0, os.SEEK_CUR) == PAGE


def test_refuses_what_cannot_be_read_so(path: Path) -> None:
    with Reader(path, os.O_WRONLY) as reader:
        assert reader.read(1, 0) == -errno.EBADF
    with Reader(Path("/proc/self/status")) as reader:
        assert reader.read(1, 0) == -errno.EOPNOTSUPP


def test_reads_many_until_one_is_not_whole(path: Path) -> None:
    data = path.read_bytes()
    room = Room()
    room.grow(1000)
    fd = os.open(path, os.O_RDONLY)
    try:
        offsets, sizes = array("Q", [5000, 0, 60_000, 1]), array("Q", [100, 0, 300, 1])
        assert room.read_many(fd, offsets, sizes) == 4
        wanted = [data[offset : offset + n] for offset, n in zip(offsets, sizes)]
        assert room.split(sizes) == wanted
        assert room.split(sizes[:3]) == wanted[:3]
        tens = array("Q", [10, 10, 10])
        assert room.read_many(fd, array("Q", [7, len(data) - 5, 0]), tens) == 1
        assert room.read_many(fd, array("Q", [7, CURRENT, 0]), tens) == 1
        drop(path)
        assert room.read_many(fd, offsets, sizes) == 0
        assert room.split(array("Q")) == []
    finally:
        os.close(fd)


def found(path: Path | bytes, follow: int = 1) -> os.stat_result:
    fd = find_cached(os.fsencode(path), follow)
    assert fd >= 0, os.strerror(-fd)
    try:
        assert not os.get_inheritable(fd)
        return os.fstat(fd)
    finally:
        os.close(fd)


def test_finds_what_is_known(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert found(path) == path.stat()
    assert found(path.parent) == path.parent.stat()
    assert found(path, 0) == path.stat()
    monkeypatch.chdir(path.parent)
    assert found(b"file") == path.stat()


def test_follows_links_or_gives_up(path: Path) -> None:
    link = path.parent / "link"
    link.symlink_to(path)
    link.stat()
    assert found(link) == path.stat()
    assert find_cached(os.fsencode(link), 0) == -errno.ELOOP


def test_knows_what_is_missing_once_it_was_looked_for(path: Path) -> None:
    missing = path.parent / "missing"
    assert find_cached(os.fsencode(missing), 1) == -errno.EAGAIN
    assert not missing.exists()
    assert find_cached(os.fsencode(missing), 1) == -errno.ENOENT
    missing.touch()
    assert found(missing) == missing.stat()


@pytest.mark.parametrize("where", ["/proc/self/status", "/sys/kernel", "/proc/self/fd/0"])
def test_leaves_other_file_systems_alone(where: str) -> None:
    os.stat(where)
    assert find_cached(where.encode(), 1) == -errno.EAGAIN


def test_tells_where_fstat_is_from_memory(path: Path) -> None:
    readable, writable = os.pipe()
    fd = os.open(path, os.O_RDONLY)
    proc = os.open("/proc/self/status", os.O_RDONLY)
    try:
        assert [stat_is_local(each) for each in (fd, fd, readable, proc, 1 << 20)] == [1, 1, 0, 0, 0]
    finally:
        for each in (readable, writable, fd, proc):
            os.close(each)
