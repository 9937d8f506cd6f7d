"""nop in its forms, the common parts of an entry, and provided buffers, against the kernel."""

import errno
import os

import pytest

from uring import abi, ops
from uring.ops.base import make

SETUP = int(
    abi.IORING_SETUP_SINGLE_ISSUER
    | abi.IORING_SETUP_DEFER_TASKRUN
    | abi.IORING_SETUP_TASKRUN_FLAG
    | abi.IORING_SETUP_NO_SQARRAY
)
CQE32 = SETUP | int(abi.IORING_SETUP_CQE32)
SQE128 = SETUP | int(abi.IORING_SETUP_SQE128)


@pytest.mark.opcodes("NOP")
def test_a_nop_completes_with_what_it_was_told(kernel):
    assert kernel.run(ops.nop()) == 0
    assert kernel.run(ops.nop(result=42)) == 42
    assert kernel.run(ops.nop(task_work=True, result=7)) == 7
    with pytest.raises(ConnectionResetError, match="nop"):
        kernel.run(ops.nop(result=-errno.ECONNRESET))


@pytest.mark.opcodes("NOP")
def test_a_nop_checks_files_and_buffers(kernel):
    assert kernel.result(ops.nop(file=0, fixed_file=True)) == -errno.EBADF
    assert kernel.result(ops.nop(buf_index=0)) == -errno.EFAULT
    reader, writer = os.pipe()
    kernel.register_files(reader)
    kernel.register_buffers(bytearray(100))
    assert kernel.run(ops.nop(file=writer)) == 0
    assert kernel.run(ops.nop(file=0, fixed_file=True)) == 0
    assert kernel.run(ops.nop(buf_index=0)) == 0
    os.close(reader)
    os.close(writer)
    assert kernel.result(ops.nop(file=writer)) == -errno.EBADF


@pytest.mark.opcodes("NOP")
@pytest.mark.parametrize("more", [abi.IORING_SETUP_CQE32, abi.IORING_SETUP_CQE_MIXED])
def test_a_nop_fills_the_second_half_of_a_big_completion(open_kernel, more):
    kernel = open_kernel(SETUP | int(more))
    request = kernel.start(ops.nop(extra=(1 << 63, 2), result=5))
    assert kernel.finish(request) == 5
    assert request.extra == [(1 << 63, 2)]
    request = kernel.start(ops.nop())
    kernel.finish(request)
    assert request.extra == [(0, 0)]


@pytest.mark.opcodes("NOP")
def test_a_small_completion_has_no_second_half(kernel):
    assert kernel.result(ops.nop(extra=(1, 2))) == -errno.EINVAL


@pytest.mark.parametrize("flags", [SETUP, SQE128])
def test_nop128_runs_where_the_kernel_has_it(open_kernel, flags):
    kernel = open_kernel(flags)
    res = kernel.result(ops.nop128(result=3))
    known = flags == SQE128 and supported(kernel, abi.IORING_OP_NOP128)
    assert res == (3 if known else -errno.EINVAL)


def supported(kernel, opcode):
    from uring.kernel.lib import ffi

    probe = ffi.new("uint8_t[]", 16 + 8 * 256)
    kernel.ring.register(abi.IORING_REGISTER_PROBE, probe, 256)
    return opcode <= probe[0]


@pytest.mark.opcodes("NOP")
def test_flags_of_an_entry_are_added(kernel):
    first = kernel.start(ops.nop(result=-1).with_flags(abi.IOSQE_IO_LINK))
    second = kernel.start(ops.nop())
    assert kernel.finish(first) == -1
    assert kernel.finish(second) == -errno.ECANCELED
    op = ops.nop().with_flags(abi.IOSQE_ASYNC).with_flags(abi.IOSQE_IO_LINK)
    assert op.fields[1] == abi.IOSQE_ASYNC | abi.IOSQE_IO_LINK


@pytest.mark.opcodes("OPENAT", "NOP")
def test_a_personality_opens_with_its_own_credentials(kernel, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"")
    secret.chmod(0o600)
    tmp_path.chmod(0o755)
    ourselves = kernel.ring.register(abi.IORING_REGISTER_PERSONALITY)
    os.close(kernel.run(ops.openat(secret).with_personality(ourselves)))
    if os.geteuid() == 0:
        os.seteuid(65534)
        try:
            nobody = kernel.ring.register(abi.IORING_REGISTER_PERSONALITY)
        finally:
            os.seteuid(0)
        with pytest.raises(PermissionError):
            kernel.run(ops.openat(secret).with_personality(nobody))
        os.close(kernel.run(ops.openat(secret).with_personality(nobody).with_personality(0)))
    unknown = ops.nop().with_personality(60000)
    assert kernel.result(unknown) == -errno.EINVAL
    # The entry that is kept in C carries it too.
    kernel.ring.queue(kernel.ring.template(77, *unknown.fields))
    kernel.until(lambda: kernel.strays)
    assert kernel.strays == [(77, -errno.EINVAL, 0)]


@pytest.mark.opcodes("NOP")
def test_an_ioprio_replaces_the_operations_own(kernel):
    op = ops.accept_multishot(0).with_flags(abi.IOSQE_ASYNC).with_ioprio(abi.IORING_ACCEPT_DONTWAIT)
    assert op.fields[1] == int(abi.IORING_ACCEPT_DONTWAIT) << 8 | abi.IOSQE_ASYNC
    assert op.discard is not None
    assert kernel.result(ops.nop().with_ioprio(1)) == -errno.EINVAL


def test_an_opcode_the_kernel_does_not_know_is_refused_by_it(kernel):
    assert kernel.result(make("unknown", 200)) == -errno.EINVAL


@pytest.mark.opcodes("PROVIDE_BUFFERS", "REMOVE_BUFFERS", "READ")
def test_buffers_are_provided_and_removed(kernel):
    memory = bytearray(4 * 16)
    reader, writer = os.pipe()
    assert kernel.run(ops.provide_buffers(memory, 16, 2, first_id=10)) == 0
    os.write(writer, b"into a buffer")
    request = kernel.start(ops.read(reader, buffer_group=2))
    assert kernel.finish(request) == 13
    bid = request.flags >> 16
    assert 10 <= bid < 14
    at = (bid - 10) * 16
    assert memory[at : at + 13] == b"into a buffer"
    assert kernel.run(ops.remove_buffers(2, 100)) == 3
    assert kernel.result(ops.remove_buffers(3, 1)) == -errno.ENOENT
    os.write(writer, b"x")
    assert kernel.result(ops.read(reader, buffer_group=2)) == -errno.ENOBUFS
    ops.release_provided(memory)
    with pytest.raises(LookupError):
        ops.release_provided(memory)
    os.close(reader)
    os.close(writer)


@pytest.mark.opcodes("PROVIDE_BUFFERS")
def test_provided_memory_is_held_until_it_is_released(kernel):
    memory = bytearray(64)
    assert kernel.run(ops.provide_buffers(memory, 64, 1)) == 0
    with pytest.raises(BufferError):
        memory.extend(b"more")
    assert kernel.run(ops.remove_buffers(1, 1)) == 1
    ops.release_provided(memory)
    memory.extend(b"more")


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: ops.nop(result=1 << 31), ValueError),
        (lambda: ops.nop(result="0"), TypeError),
        (lambda: ops.nop(fixed_file=True), TypeError),
        (lambda: ops.nop(file=-1), ValueError),
        (lambda: ops.nop(buf_index=1 << 16), ValueError),
        (lambda: ops.nop(extra=(0, 1 << 64)), ValueError),
        (lambda: ops.nop(offset=1), TypeError),
        (lambda: ops.nop128(result=-(1 << 32)), ValueError),
        (lambda: ops.nop().with_flags(256), ValueError),
        (lambda: ops.nop().with_ioprio(1 << 16), ValueError),
        (lambda: ops.nop().with_personality(-1), ValueError),
        (lambda: ops.provide_buffers(bytes(16), 16, 0), TypeError),
        (lambda: ops.provide_buffers(bytearray(15), 16, 0), ValueError),
        (lambda: ops.provide_buffers(bytearray(16), 0, 0), ValueError),
        (lambda: ops.provide_buffers(bytearray(16), 16, 1 << 16), ValueError),
        (lambda: ops.provide_buffers(bytearray(32), 16, 0, first_id=65535), ValueError),
        (lambda: ops.provide_buffers(bytearray(65537), 1, 0), ValueError),
        (lambda: ops.remove_buffers(0, 0), ValueError),
        (lambda: ops.remove_buffers(-1, 1), ValueError),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_queued(call, error):
    with pytest.raises(error):
        call()
