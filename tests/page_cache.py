"""Files that are not in the page cache, for tests of what happens then."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
TRIES = 1000
_READERS = 4
_STRETCH = 4 << 20


def in_memory(folder: str) -> bool:
    """Whether a folder's files have no disk under them: a tmpfs is its own page cache."""
    with open("/proc/self/mounts") as mounts:
        kinds = {fields[1]: fields[2] for fields in map(str.split, mounts)}
    place = os.path.realpath(folder)
    while place not in kinds:
        place = os.path.dirname(place)
    return kinds[place] in ("tmpfs", "ramfs")


def drop(path: Path) -> None:
    """Makes the kernel drop a file's contents from the page cache.

    A page that is in use at that moment stays, see posix_fadvise(2): the request is made again until
    mincore(2) finds none.
    """
    fd = os.open(path, os.O_RDWR)
    try:
        for _ in range(TRIES):
            os.fsync(fd)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            if not _resident(fd):
                return
    finally:
        os.close(fd)
    raise AssertionError(f"the kernel keeps {path} in its page cache")


@contextmanager
def slow_disk(folder: Path) -> Iterator[None]:
    """Keeps the disk under a folder busy, so that what is not in the page cache stays out of it for a while.

    A look that may not wait starts the read of what it misses, and a fast disk may be done before it is over.
    """
    path = folder / "keeps-the-disk-busy"
    path.write_bytes(bytes(_READERS * _STRETCH))
    enough = threading.Event()
    readers = [threading.Thread(target=_read_on, args=(path, number, enough)) for number in range(_READERS)]
    for reader in readers:
        reader.start()
    try:
        yield
    finally:
        enough.set()
        for reader in readers:
            reader.join()
        path.unlink()


def _read_on(path: Path, number: int, enough: threading.Event) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap.mmap(-1, _STRETCH) as memory:
            while not enough.is_set():
                os.preadv(fd, [memory], number * _STRETCH)
    finally:
        os.close(fd)


def _resident(fd: int) -> bool:
    size = os.fstat(fd).st_size
    if not size:
        return False
    pages = (ctypes.c_ubyte * -(-size // mmap.PAGESIZE))()
    with mmap.mmap(fd, size) as mapped:
        start = ctypes.c_char.from_buffer(mapped)
        failed = _libc.mincore(ctypes.c_void_p(ctypes.addressof(start)), ctypes.c_size_t(size), pages)
        del start
    if failed:
        raise OSError(ctypes.get_errno(), "mincore")
    return any(page & 1 for page in pages)
