"""splice, tee and pipe against the kernel."""

import errno
import os

import pytest

from uring import abi, ops


@pytest.fixture
def pipes():
    ends = [os.pipe(), os.pipe()]
    yield ends
    for pair in ends:
        for fd in pair:
            os.close(fd)


@pytest.mark.opcodes("SPLICE")
def test_a_file_is_spliced_through_a_pipe_with_offsets(kernel, tmp_path, pipes):
    reader, writer = pipes[0]
    (tmp_path / "src").write_bytes(b"0123456789")
    src = os.open(tmp_path / "src", os.O_RDONLY)
    dst = os.open(tmp_path / "dst", os.O_RDWR | os.O_CREAT)
    assert kernel.run(ops.splice(src, writer, 4, offset_in=3)) == 4
    assert os.lseek(src, 0, os.SEEK_CUR) == 0
    assert kernel.run(ops.splice(reader, dst, 4, offset_out=2)) == 4
    assert (tmp_path / "dst").read_bytes() == b"\0\0003456"
    assert kernel.run(ops.splice(src, writer, 2, splice_flags=abi.SPLICE_F_MOVE)) == 2
    assert os.lseek(src, 0, os.SEEK_CUR) == 2
    assert kernel.run(ops.splice(src, writer, 4, offset_in=10)) == 0
    os.close(src)
    os.close(dst)


@pytest.mark.opcodes("SPLICE", "TEE")
def test_both_ends_may_be_registered_files(kernel, pipes):
    (r1, w1), (r2, w2) = pipes
    kernel.register_files(r1, w2)
    os.write(w1, b"fixed")
    assert kernel.run(ops.tee(0, 1, 5, fixed_in=True, fixed_file=True)) == 5
    assert kernel.run(ops.splice(0, 1, 5, fixed_in=True, fixed_file=True)) == 5
    assert os.read(r2, 100) == b"fixedfixed"


@pytest.mark.opcodes("TEE")
def test_tee_copies_without_consuming(kernel, pipes):
    (r1, w1), (r2, w2) = pipes
    os.write(w1, b"twice")
    assert kernel.run(ops.tee(r1, w2, 100)) == 5
    assert os.read(r1, 100) == os.read(r2, 100) == b"twice"


@pytest.mark.opcodes("SPLICE", "TEE")
def test_splice_and_tee_fail_as_their_system_calls_do(kernel, tmp_path, pipes):
    (r1, w1), (_, w2) = pipes
    nonblock = abi.SPLICE_F_NONBLOCK
    assert kernel.result(ops.splice(r1, w2, 1, splice_flags=nonblock)) == -errno.EAGAIN
    assert kernel.result(ops.tee(r1, w2, 1, splice_flags=nonblock)) == -errno.EAGAIN
    assert kernel.result(ops.splice(r1, w2, 1, offset_in=0)) == -errno.ESPIPE
    file = os.open(tmp_path, os.O_RDONLY)
    assert kernel.result(ops.tee(file, w1, 1)) == -errno.EINVAL
    os.close(file)
    assert kernel.result(ops.splice(file, w1, 1)) == -errno.EBADF


@pytest.mark.opcodes("SPLICE", "ASYNC_CANCEL")
def test_a_waiting_splice_is_interrupted_by_a_cancel(kernel, pipes):
    (r1, _), (_, w2) = pipes
    request = kernel.start(ops.splice(r1, w2, 1))
    while not request.ended:
        # Not found, until the worker has taken it up.
        kernel.result(ops.async_cancel(request.user_data))
    with pytest.raises(OSError) as caught:
        kernel.value(request.op, kernel.finish(request))
    assert caught.value.errno in (errno.EINTR, errno.ECANCELED)


@pytest.mark.opcodes("PIPE")
def test_a_pipe_is_made(kernel):
    reader, writer = kernel.run(ops.pipe())
    assert not os.get_inheritable(reader)
    os.write(writer, b"through")
    assert os.read(reader, 10) == b"through"
    os.close(reader)
    os.close(writer)
    reader, writer = kernel.run(ops.pipe(os.O_NONBLOCK))
    assert not os.get_blocking(reader)
    os.close(reader)
    os.close(writer)
    assert kernel.result(ops.pipe(1 << 30)) == -errno.EINVAL


@pytest.mark.opcodes("PIPE", "READ", "WRITE")
def test_a_pipe_is_made_in_the_file_table(kernel):
    assert kernel.result(ops.pipe(file_index=0)) == -errno.ENXIO
    kernel.register_files(*[-1] * 5)
    assert kernel.run(ops.pipe(file_index=1)) == (1, 2)
    assert kernel.run(ops.write(2, b"slots", fixed_file=True)) == 5
    room = bytearray(5)
    assert kernel.run(ops.read(1, room, fixed_file=True)) == 5
    assert room == b"slots"
    ends = kernel.run(ops.pipe(file_index=abi.IORING_FILE_INDEX_ALLOC))
    assert len(set(ends)) == 2
    assert set(ends) <= {0, 3, 4}


def test_the_ends_of_a_pipe_that_nobody_receives_are_closed(kernel):
    op = ops.pipe()
    ends = kernel.value(op, kernel.result(op))
    op.discard(0)
    for fd in ends:
        with pytest.raises(OSError):
            os.fstat(fd)
    assert ops.pipe(file_index=0).discard is None


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: ops.splice(-1, 0, 1), ValueError),
        (lambda: ops.splice(0, -1, 1), ValueError),
        (lambda: ops.splice(0, 1, -1), ValueError),
        (lambda: ops.splice(0, 1, 1 << 32), ValueError),
        (lambda: ops.splice(0, 1, 1, offset_in=-2), ValueError),
        (lambda: ops.splice(0, 1, 1, offset_out=1 << 63), ValueError),
        (lambda: ops.splice(0, 1, 1, splice_flags=abi.SPLICE_F_FD_IN_FIXED), ValueError),
        (lambda: ops.tee(0, 1, 1, offset_in=0), TypeError),
        (lambda: ops.tee("0", 1, 1), TypeError),
        (lambda: ops.tee(0, 1, 2.0), TypeError),
        (lambda: ops.pipe(-1), ValueError),
        (lambda: ops.pipe(file_index=-2), ValueError),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_queued(call, error):
    with pytest.raises(error):
        call()
