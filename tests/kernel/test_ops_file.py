"""Reading, writing and other operations on an open file, against the kernel."""

import errno
import mmap
import os

import pytest

from uring import abi, ops
from uring.kernel.buffers import BufferRing

WHAT = b"the quick brown fox jumps over the lazy dog"


@pytest.fixture
def file(tmp_path):
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


@pytest.mark.opcodes("WRITE", "READ")
def test_bytes_written_at_an_offset_are_read_there(kernel, file):
    assert kernel.run(ops.write(file, WHAT, offset=5)) == len(WHAT)
    room = bytearray(len(WHAT))
    assert kernel.run(ops.read(file, room, offset=5)) == len(WHAT)
    assert room == WHAT
    assert kernel.run(ops.read(file, room, offset=5 + len(WHAT))) == 0


@pytest.mark.opcodes("WRITE", "READ")
def test_without_an_offset_the_file_position_is_used_and_moves(kernel, file):
    kernel.run(ops.write(file, WHAT))
    assert os.lseek(file, 0, os.SEEK_CUR) == len(WHAT)
    os.lseek(file, 4, os.SEEK_SET)
    room = bytearray(5)
    assert kernel.run(ops.read(file, room)) == 5
    assert room == WHAT[4:9]
    assert os.lseek(file, 0, os.SEEK_CUR) == 9


@pytest.mark.opcodes("WRITE", "READ")
def test_n_uses_part_of_a_buffer(kernel, file):
    assert kernel.run(ops.write(file, WHAT, offset=0, n=3)) == 3
    room = bytearray(10)
    assert kernel.run(ops.read(file, room, offset=0, n=2)) == 2
    assert room == b"th" + bytes(8)


@pytest.mark.opcodes("READ")
def test_a_read_takes_a_buffer_of_a_group(kernel, pipe):
    buffers = BufferRing(kernel.ring, 3, 4, 16)
    os.write(pipe[1], WHAT)
    request = kernel.start(ops.read(pipe[0], buffer_group=3))
    assert kernel.finish(request) == 16
    assert request.flags & abi.IORING_CQE_F_BUFFER
    assert bytes(buffers.views[request.flags >> 16]) == WHAT[:16]
    buffers.close()


@pytest.mark.opcodes("READ", "WRITE")
def test_a_registered_file_is_read_and_written(kernel, file):
    kernel.register_files(-1, file)
    assert kernel.run(ops.write(1, WHAT, offset=0, fixed_file=True)) == len(WHAT)
    room = bytearray(3)
    assert kernel.run(ops.read(1, room, offset=0, fixed_file=True)) == 3
    assert room == WHAT[:3]
    with pytest.raises(OSError) as caught:
        kernel.run(ops.read(0, room, fixed_file=True))
    assert caught.value.errno == errno.EBADF


@pytest.mark.opcodes("READ", "WRITE")
def test_an_io_priority_is_accepted_both_ways(kernel, file):
    best_effort = int(abi.IOPRIO_CLASS_BE)
    assert kernel.run(ops.write(file, WHAT, offset=0, ioprio=best_effort << 13 | 4)) == len(WHAT)
    room = bytearray(4)
    assert kernel.run(ops.read(file, room, offset=0, ioprio_class=(best_effort, 7))) == 4
    assert ops.read(file, room, ioprio_class=(2, 7)).fields[1] >> 8 == 2 << 13 | 7


@pytest.mark.opcodes("READ")
def test_a_read_that_may_not_wait_says_so(kernel, pipe):
    with pytest.raises(BlockingIOError):
        kernel.run(ops.read(pipe[0], bytearray(1), rw_flags=abi.RWF_NOWAIT))


@pytest.mark.opcodes("READ", "WRITE")
def test_errors_of_reads_and_writes_are_the_kernels(kernel, tmp_path):
    room = bytearray(8)
    directory = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(IsADirectoryError):
        kernel.run(ops.read(directory, room))
    with pytest.raises(OSError) as caught:
        kernel.run(ops.write(directory, b"x"))
    assert caught.value.errno == errno.EBADF
    assert "write" in str(caught.value)
    os.close(directory)
    with pytest.raises(OSError) as caught:
        kernel.run(ops.read(directory, room))
    assert caught.value.errno == errno.EBADF


@pytest.mark.opcodes("READV", "WRITEV")
def test_vectors_are_written_and_read_in_order(kernel, file):
    assert kernel.run(ops.writev(file, [b"one", b"", bytearray(b"three")], offset=2)) == 8
    rooms = [bytearray(2), bytearray(4), bytearray(50)]
    assert kernel.run(ops.readv(file, rooms, offset=0)) == 10
    assert rooms[0] == bytes(2)
    assert rooms[1] == b"onet"
    assert rooms[2][:4] == b"hree"


@pytest.mark.opcodes("READV", "WRITEV")
def test_vectors_at_a_bad_descriptor_fail(kernel, file):
    gone = os.dup(file)
    os.close(gone)
    assert kernel.result(ops.readv(gone, [bytearray(1)])) == -errno.EBADF
    assert kernel.result(ops.writev(gone, [b"x"])) == -errno.EBADF


@pytest.mark.opcodes("READ_FIXED", "WRITE_FIXED", "READV_FIXED", "WRITEV_FIXED")
def test_registered_buffers_are_read_into_and_written_from(kernel, file):
    area = mmap.mmap(-1, 2 * mmap.PAGESIZE)
    view = memoryview(area)
    kernel.register_buffers(area)
    view[:43] = WHAT
    assert kernel.run(ops.write_fixed(file, view[:43], 0, offset=0)) == 43
    assert kernel.run(ops.read_fixed(file, view[100:120], 0, offset=4)) == 20
    assert bytes(view[100:120]) == WHAT[4:24]
    assert kernel.run(ops.writev_fixed(file, [view[4:9], view[0:3]], 0, offset=0)) == 8
    assert kernel.run(ops.readv_fixed(file, [view[200:205], view[300:303]], 0, offset=0)) == 8
    assert bytes(view[200:205]) + bytes(view[300:303]) == b"quickthe"
    kernel.ring.register(abi.IORING_UNREGISTER_BUFFERS)


@pytest.mark.opcodes("READ_FIXED", "WRITE_FIXED", "READV_FIXED", "WRITEV_FIXED")
def test_memory_outside_the_registered_buffer_is_refused(kernel, file):
    area = mmap.mmap(-1, mmap.PAGESIZE)
    kernel.register_buffers(area)
    other = bytearray(8)
    for op in (
        ops.read_fixed(file, other, 0, offset=0),
        ops.write_fixed(file, other, 0, offset=0),
        ops.readv_fixed(file, [other], 0, offset=0),
        ops.writev_fixed(file, [other], 0, offset=0),
        ops.read_fixed(file, memoryview(area)[:8], 1, offset=0),
    ):
        assert kernel.result(op) == -errno.EFAULT, op
    assert other == bytes(8)


@pytest.mark.opcodes("READ_MULTISHOT")
def test_a_multishot_read_completes_for_every_arrival_and_ends_at_the_end(kernel):
    reader, writer = os.pipe()
    buffers = BufferRing(kernel.ring, 1, 4, 64)
    request = kernel.start(ops.read_multishot(reader, 1))
    kernel.step()
    for message in (b"first", b"second"):
        os.write(writer, message)
        res, flags = kernel.next_of(request)
        assert bytes(buffers.views[flags >> 16][:res]) == message
        assert flags & abi.IORING_CQE_F_MORE
    os.close(writer)
    kernel.finish(request)
    assert request.res == 0
    buffers.close()
    os.close(reader)


@pytest.mark.opcodes("READ_MULTISHOT")
def test_a_multishot_read_wants_a_pollable_file_and_a_group(kernel, file, pipe):
    buffers = BufferRing(kernel.ring, 1, 1, 64)
    assert kernel.result(ops.read_multishot(file, 1)) == -errno.EBADFD
    assert kernel.result(ops.read_multishot(pipe[0], 2)) == -errno.ENOBUFS
    buffers.close()


@pytest.mark.opcodes("FSYNC", "SYNC_FILE_RANGE")
def test_a_file_is_synced(kernel, file, pipe):
    os.write(file, WHAT)
    assert kernel.run(ops.fsync(file)) == 0
    assert kernel.run(ops.fsync(file, datasync=True)) == 0
    assert kernel.run(ops.fsync(file, offset=0, length=10)) == 0
    everything = abi.SYNC_FILE_RANGE_WRITE_AND_WAIT
    assert kernel.run(ops.sync_file_range(file, 0, 0, sync_flags=everything)) == 0
    assert kernel.result(ops.fsync(pipe[0])) == -errno.EINVAL
    assert kernel.result(ops.sync_file_range(pipe[0], 0, 0, sync_flags=everything)) == -errno.ESPIPE
    assert kernel.result(ops.sync_file_range(file, 0, 0, sync_flags=1 << 20)) == -errno.EINVAL


@pytest.mark.opcodes("FALLOCATE", "FTRUNCATE")
def test_a_file_is_sized(kernel, file, pipe):
    assert kernel.run(ops.fallocate(file, 0, 0, 1 << 16)) == 0
    assert os.fstat(file).st_size == 1 << 16
    os.pwrite(file, b"x" * 8192, 0)
    punch = abi.FALLOC_FL_PUNCH_HOLE | abi.FALLOC_FL_KEEP_SIZE
    assert kernel.run(ops.fallocate(file, punch, 0, 4096)) == 0
    assert os.pread(file, 8192, 0) == bytes(4096) + b"x" * 4096
    assert kernel.run(ops.ftruncate(file, 100)) == 0
    assert os.fstat(file).st_size == 100
    assert kernel.result(ops.fallocate(file, 0, 0, 0)) == -errno.EINVAL
    assert kernel.result(ops.fallocate(pipe[1], 0, 0, 1)) == -errno.ESPIPE
    assert kernel.result(ops.ftruncate(pipe[1], 1)) == -errno.EINVAL


@pytest.mark.opcodes("FADVISE", "MADVISE")
def test_advice_is_taken(kernel, file, pipe):
    os.write(file, WHAT)
    for advice in abi.Fadvise:
        assert kernel.run(ops.fadvise(file, advice)) == 0
    assert kernel.run(ops.fadvise(file, abi.POSIX_FADV_WILLNEED, offset=0, length=1 << 40)) == 0
    assert kernel.result(ops.fadvise(file, 99)) == -errno.EINVAL
    assert kernel.result(ops.fadvise(pipe[0], abi.POSIX_FADV_NORMAL)) == -errno.ESPIPE

    area = mmap.mmap(-1, 3 * mmap.PAGESIZE - 10)
    area[:4] = b"full"
    assert kernel.run(ops.madvise(area, mmap.MADV_WILLNEED)) == 0
    inner = memoryview(area)[: mmap.PAGESIZE]
    assert kernel.run(ops.madvise(inner, mmap.MADV_SEQUENTIAL)) == 0
    assert area[:4] == b"full"
    assert kernel.result(ops.madvise(inner, 9999)) == -errno.EINVAL


# Arguments that are refused before the kernel is called.


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: ops.read(-1, bytearray(1)), ValueError),
        (lambda: ops.read(1 << 31, bytearray(1)), ValueError),
        (lambda: ops.read("0", bytearray(1)), TypeError),
        (lambda: ops.read(True, bytearray(1)), TypeError),
        (lambda: ops.read(0, b"read-only"), TypeError),
        (lambda: ops.read(0, 5), TypeError),
        (lambda: ops.read(0), TypeError),
        (lambda: ops.read(0, bytearray(1), buffer_group=1), TypeError),
        (lambda: ops.read(0, buffer_group=1 << 16), ValueError),
        (lambda: ops.read(0, memoryview(bytearray(9))[::2]), TypeError),
        (lambda: ops.read(0, bytearray(4), n=5), ValueError),
        (lambda: ops.read(0, bytearray(4), n=-1), ValueError),
        (lambda: ops.read(0, bytearray(1), offset=-2), ValueError),
        (lambda: ops.read(0, bytearray(1), offset=1 << 63), ValueError),
        (lambda: ops.read(0, bytearray(1), offset=1.5), TypeError),
        (lambda: ops.read(0, bytearray(1), rw_flags=-1), ValueError),
        (lambda: ops.read(0, bytearray(1), rw_flags=1 << 32), ValueError),
        (lambda: ops.read(0, bytearray(1), ioprio=1 << 16), ValueError),
        (lambda: ops.read(0, bytearray(1), ioprio_class=(4, 0)), ValueError),
        (lambda: ops.read(0, bytearray(1), ioprio_class=(1, 8)), ValueError),
        (lambda: ops.read(0, bytearray(1), ioprio=1, ioprio_class=(1, 0)), TypeError),
        (lambda: ops.read(0, bytearray(1), datasync=True), TypeError),
        (lambda: ops.write(0, "text"), TypeError),
        (lambda: ops.write(0, b"abc", n=4), ValueError),
        (lambda: ops.readv(0, [bytearray(1), b"x"]), TypeError),
        (lambda: ops.readv(0, [bytearray(1)] * 1025), ValueError),
        (lambda: ops.writev(0, [b"x"] * 1025), ValueError),
        (lambda: ops.writev(0, ["x"]), TypeError),
        (lambda: ops.read_fixed(0, b"x", 0), TypeError),
        (lambda: ops.read_fixed(0, bytearray(1), -1), ValueError),
        (lambda: ops.write_fixed(0, b"x", 1 << 16), ValueError),
        (lambda: ops.readv_fixed(0, [b"x"], 0), TypeError),
        (lambda: ops.writev_fixed(0, [b"x"], "0"), TypeError),
        (lambda: ops.read_multishot(0, -1), ValueError),
        (lambda: ops.fsync(0, offset=-1), ValueError),
        (lambda: ops.fsync(0, length=1 << 32), ValueError),
        (lambda: ops.sync_file_range(0, 0, 1 << 32, sync_flags=0), ValueError),
        (lambda: ops.fallocate(0, 0, -1, 1), ValueError),
        (lambda: ops.fallocate(0, 0, 0, 1 << 63), ValueError),
        (lambda: ops.fallocate(0, -1, 0, 1), ValueError),
        (lambda: ops.ftruncate(0, -1), ValueError),
        (lambda: ops.fadvise(0, -1), ValueError),
        (lambda: ops.madvise(bytearray(4096), 0), ValueError),
        (lambda: ops.madvise(memoryview(mmap.mmap(-1, 4096))[:100], 0), ValueError),
        (lambda: ops.madvise(bytes(4096), 0), TypeError),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_queued(call, error):
    with pytest.raises(error):
        call()


def test_a_buffer_in_use_cannot_be_resized():
    room = bytearray(10)
    op = ops.read(0, room)
    with pytest.raises(BufferError):
        room.extend(b"more")
    del op
    room.extend(b"more")
