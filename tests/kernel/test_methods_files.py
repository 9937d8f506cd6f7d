"""A ring's methods for files and paths, against the kernel, and Python's own calls as the witness."""

from __future__ import annotations

import errno
import os
import stat
import threading

import pytest

from tests.ringside import run, take
from uring import Ring, abi, for_fd, ops

CREATE = os.O_RDWR | os.O_CREAT


@pytest.fixture
def ring():
    with Ring(entries=32) as ring:
        yield ring


@pytest.fixture
def file(tmp_path):
    fd = os.open(tmp_path / "file", CREATE)
    yield fd
    os.close(fd)


# Contents.


def test_read_and_write(ring, file):
    assert run(ring, ring.write(for_fd(file), file, b"0123456789", offset=0, n=8)) == 8
    room = bytearray(16)
    assert run(ring, ring.read(for_fd(file), file, room, offset=2, n=4)) == 4
    assert bytes(room[:4]) == b"2345"
    high = (abi.IOPRIO_CLASS_BE, 0)
    assert run(ring, ring.read(None, file, room, offset=0, ioprio_class=high)) == 8
    assert run(ring, ring.read(None, file, room, offset=0, ioprio=int(abi.IOPRIO_CLASS_BE) << 13)) == 8
    with pytest.raises(TypeError, match="writable"):
        ring.read(None, file, b"fixed", offset=0)
    for bad in (1 << 63, -2):
        with pytest.raises(ValueError, match="offset"):
            ring.read(None, file, room, offset=bad)
    for bad in (-1, 17):
        with pytest.raises(ValueError, match="n is"):
            ring.read(None, file, room, n=bad)
    assert ring.in_flight == 0


def test_vectors(ring, file):
    assert run(ring, ring.writev(None, file, [b"in ", memoryview(b"pieces")], offset=0)) == 9
    parts = [bytearray(4), bytearray(8)]
    assert run(ring, ring.readv(None, file, parts, offset=0)) == 9
    assert bytes(parts[0] + parts[1][:5]) == b"in pieces"


def test_registered_buffers(ring, file):
    memory = bytearray(8192)
    ring.register_buffers([memory])
    view = ring.registered_buffer(0)
    view[:5] = b"fixed"
    assert run(ring, ring.write_fixed(None, file, view[:5], 0, offset=0)) == 5
    assert run(ring, ring.read_fixed(None, file, view[4096:], 0, offset=0, n=5)) == 5
    assert bytes(memory[4096:4101]) == b"fixed"


def test_vectors_of_registered_buffers(ring, file):
    memory = bytearray(8192)
    ring.register_buffers([memory])
    view = ring.registered_buffer(0)
    view[:6] = b"abcdef"
    assert run(ring, ring.writev_fixed(None, file, [view[4:6], view[0:4]], 0, offset=0)) == 6
    assert os.pread(file, 10, 0) == b"efabcd"
    assert run(ring, ring.readv_fixed(None, file, [view[100:103], view[200:203]], 0, offset=0)) == 6
    assert (bytes(view[100:103]), bytes(view[200:203])) == (b"efa", b"bcd")
    for bad in (-1, 1 << 16):
        with pytest.raises(ValueError, match="buf_index"):
            ring.readv_fixed(None, file, [view], bad)
    assert ring.in_flight == 0


def test_memory_is_kept_though_nobody_else_holds_it(ring, pipe):
    """Two reads under one direct context: each keeps its own memory until both have ended."""
    context = for_fd(pipe[0])
    rooms = [bytearray(2), bytearray(2)]
    for room in rooms:
        ring.read(context, pipe[0], room)
    ring.flush()
    os.write(pipe[1], b"abc")
    assert sorted(cqe.res for cqe in take(ring, 2)) == [1, 2]
    assert sorted(bytes(room) for room in rooms) == [b"ab", b"c\0"]
    for room in rooms:
        room.extend(b"it may change size again")


def test_sizes_and_syncs(ring, file):
    assert run(ring, ring.fallocate(None, file, 0, 0, 8192)) == 0
    assert os.fstat(file).st_size == 8192
    assert run(ring, ring.fallocate(None, file, abi.FALLOC_FL_KEEP_SIZE, 8192, 4096)) == 0
    assert os.fstat(file).st_size == 8192
    assert run(ring, ring.ftruncate(None, file, 100)) == 0
    assert os.fstat(file).st_size == 100
    assert run(ring, ring.fsync(None, file)) == 0
    assert run(ring, ring.fsync(None, file, datasync=True)) == 0
    assert run(ring, ring.sync_file_range(None, file, 0, 100, sync_flags=abi.SYNC_FILE_RANGE_WRITE)) == 0
    assert run(ring, ring.fadvise(None, file, advice=abi.POSIX_FADV_DONTNEED, offset=0, length=100)) == 0
    for bad in (-1, 1 << 63):
        with pytest.raises(ValueError, match="length"):
            ring.ftruncate(None, file, bad)
    assert ring.in_flight == 0


def test_splice_and_tee(ring, file, pipe):
    os.pwrite(file, b"through the pipe", 0)
    reader, writer = pipe
    assert run(ring, ring.splice(None, file, writer, 16, offset_in=0, splice_flags=abi.SPLICE_F_MOVE)) == 16
    again = os.pipe()
    assert run(ring, ring.tee(None, reader, again[1], 7)) == 7
    assert os.read(again[0], 100) == b"through"
    assert os.read(reader, 100) == b"through the pipe", "a tee consumes nothing"
    for fd in again:
        os.close(fd)


def test_a_pipe(ring):
    reader, writer = run(ring, ring.pipe(None, os.O_CLOEXEC | os.O_NONBLOCK))
    os.write(writer, b"x")
    assert os.read(reader, 2) == b"x"
    assert not os.get_blocking(reader)
    os.close(reader)
    os.close(writer)


# Paths.


def test_open_and_close(ring, tmp_path):
    path = tmp_path / "new"
    fd = run(ring, ring.openat(None, path, CREATE, file_mode=0o640))
    assert stat.S_IMODE(os.fstat(fd).st_mode) == 0o640 & ~umask()
    assert run(ring, ring.close(for_fd(fd), fd)) == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    with pytest.raises(FileNotFoundError) as caught:
        run(ring, ring.openat(None, tmp_path / "missing", os.O_RDONLY))
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(FileExistsError):
        run(ring, ring.openat(None, path, CREATE | os.O_EXCL))
    with pytest.raises(OSError, match="too long") as caught:
        run(ring, ring.openat(None, tmp_path / ("n" * 300), os.O_RDONLY))
    assert caught.value.errno == errno.ENAMETOOLONG


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_registered_credentials(ring, tmp_path):
    """Root opens what a number without rights may not."""
    path = tmp_path / "secret"
    path.write_text("x")
    path.chmod(0)
    number = ring.register_personality()
    fd = run(ring, ring.openat(None, path, os.O_RDONLY, personality=number))
    os.close(fd)
    with pytest.raises(OSError, match="openat") as unknown:
        run(ring, ring.openat(None, path, os.O_RDONLY, personality=number + 1))
    assert unknown.value.errno == errno.EINVAL


def test_names(ring, tmp_path):
    made = tmp_path / "directory"
    assert run(ring, ring.mkdirat(None, made, file_mode=0o700)) == 0
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    (made / "a").write_text("content")
    assert run(ring, ring.renameat(None, made / "a", made / "b")) == 0
    assert run(ring, ring.linkat(None, made / "b", made / "hard")) == 0
    assert (made / "hard").stat().st_ino == (made / "b").stat().st_ino
    assert run(ring, ring.symlinkat(None, "b", made / "soft")) == 0
    assert os.readlink(made / "soft") == "b"
    with pytest.raises(FileExistsError) as caught:
        run(ring, ring.renameat(None, made / "b", made / "soft", abi.RENAME_NOREPLACE))
    assert caught.value.errno == errno.EEXIST
    for name in ("b", "hard", "soft"):
        assert run(ring, ring.unlinkat(None, made / name)) == 0
    assert run(ring, ring.unlinkat(None, made, abi.AT_REMOVEDIR)) == 0
    assert not made.exists()
    with pytest.raises(ValueError, match="NUL"):
        ring.unlinkat(None, "a\0b")
    assert ring.in_flight == 0


def test_status(ring, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 5000)
    mask = abi.STATX_BASIC_STATS | abi.STATX_BTIME | abi.STATX_DIOALIGN
    told = run(ring, ring.statx(None, path, mask=mask))
    asked = os.stat(path)
    assert isinstance(told, ops.StatxResult)
    for name in ("st_mode", "st_ino", "st_dev", "st_nlink", "st_uid", "st_gid", "st_size", "st_blocks"):
        assert getattr(told, name) == getattr(asked, name), name
    for name in ("st_atime_ns", "st_mtime_ns", "st_ctime_ns", "st_blksize", "st_rdev"):
        assert getattr(told, name) == getattr(asked, name), name
    assert told.mask & abi.STATX_BASIC_STATS == abi.STATX_BASIC_STATS
    assert told.st_birthtime_ns <= told.st_ctime_ns
    assert told.attributes & ~told.attributes_mask == 0
    assert told.dio_mem_align & (told.dio_mem_align - 1) == 0
    assert told.dio_offset_align & (told.dio_offset_align - 1) == 0
    unique = run(ring, ring.statx(None, path, mask=abi.STATX_MNT_ID)).mnt_id
    with open("/proc/self/mountinfo") as mounts:
        assert str(unique) in [line.split()[0] for line in mounts]


def test_extended_attributes(ring, tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    assert run(ring, ring.setxattr(None, path, "user.a", b"one")) == 0
    assert run(ring, ring.getxattr(None, path, "user.a")) == b"one"
    value = bytearray(8)
    assert run(ring, ring.getxattr(None, path, "user.a", value)) == 3
    assert bytes(value[:3]) == b"one"
    fd = os.open(path, os.O_RDONLY)
    assert run(ring, ring.fsetxattr(None, fd, "user.b", b"two!", abi.XATTR_CREATE)) == 0
    assert run(ring, ring.fgetxattr(None, fd, "user.b", value)) == 4
    assert bytes(value[:4]) == b"two!" == os.getxattr(path, "user.b")
    with pytest.raises(FileExistsError):
        run(ring, ring.fsetxattr(None, fd, "user.b", b"again", abi.XATTR_CREATE))
    os.close(fd)


# The file table.


def test_files_come_into_the_table_and_out(ring, pipe):
    ring.register_files_sparse(4)
    assert run(ring, ring.files_update(None, [pipe[0], -1], 2)) == 2
    os.write(pipe[1], b"by its slot")
    room = bytearray(16)
    assert run(ring, ring.read(None, 2, room, fixed_file=True)) == 11
    fd = run(ring, ring.fixed_fd_install(None, 2))
    assert os.fstat(fd).st_ino == os.fstat(pipe[0]).st_ino
    assert not os.get_inheritable(fd)
    os.close(fd)
    assert run(ring, ring.files_update(None, [-1], 2)) == 1
    with pytest.raises(OSError, match="read") as empty:
        run(ring, ring.read(None, 2, room, fixed_file=True))
    assert empty.value.errno == errno.EBADF


# Together.


def test_many_requests_of_many_threads_lose_nothing(tmp_path):
    """With several issuers any thread may submit; the lock holds.

    A thread lives until its requests have ended: the kernel cancels what an exiting one left to its workers.
    """
    with Ring(entries=8, multi_issuers=True) as ring:
        fd = os.open(tmp_path / "file", CREATE)
        os.ftruncate(fd, 4096)
        threads, each = 8, 200
        ended = threading.Event()

        def work(number: int) -> None:
            for i in range(each):
                ring.write(None, fd, bytes([number]) * 8, offset=8 * (number * 4 + i % 4))
            ended.wait()

        done: list[int] = []

        def reap() -> None:
            while len(done) < threads * each:
                done.extend(cqe.res for cqe in ring.wait(timeout=20.0))
            ended.set()

        workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
        workers.append(threading.Thread(target=reap))
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert done == [8] * (threads * each)
        assert os.pread(fd, 256, 0) == b"".join(bytes([n]) * 32 for n in range(threads))
        os.close(fd)
