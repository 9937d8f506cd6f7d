"""Polling against the kernel."""

import errno
import os

import pytest

from uring import abi, ops

IN = int(abi.POLLIN)
MORE = abi.IORING_CQE_F_MORE


@pytest.mark.opcodes("POLL_ADD")
def test_a_poll_waits_for_its_events(kernel, pipe):
    reader, writer = pipe
    request = kernel.start(ops.poll_add(reader, IN))
    kernel.step()
    assert not request.ended
    os.write(writer, b"x")
    assert kernel.finish(request) == IN
    assert kernel.run(ops.poll_add(writer, abi.POLLOUT)) == abi.POLLOUT
    kernel.register_files(reader)
    assert kernel.run(ops.poll_add(0, IN, fixed_file=True)) == IN


@pytest.mark.opcodes("POLL_ADD")
def test_a_hang_up_is_always_reported(kernel):
    reader, writer = os.pipe()
    request = kernel.start(ops.poll_add(reader, IN))
    kernel.step()
    os.close(writer)
    assert kernel.finish(request) & abi.POLLHUP
    os.close(reader)
    assert kernel.result(ops.poll_add(reader, IN)) == -errno.EBADF


@pytest.mark.opcodes("POLL_ADD", "POLL_REMOVE")
@pytest.mark.parametrize(
    "make", [ops.poll_add_multishot, lambda fd, mask: ops.poll_add(fd, mask, multishot=True)]
)
def test_a_multishot_poll_completes_for_every_change_until_removed(kernel, pipe, make):
    reader, writer = pipe
    request = kernel.start(make(reader, IN))
    kernel.step()
    for _ in range(2):
        os.write(writer, b"x")
        res, flags = kernel.next_of(request)
        assert res & IN
        assert flags & MORE
    assert kernel.run(ops.poll_remove(request.user_data)) == 0
    kernel.finish(request)
    assert request.completions[-1] == (-errno.ECANCELED, 0)
    assert kernel.result(ops.poll_remove(request.user_data)) == -errno.ENOENT


@pytest.mark.opcodes("POLL_ADD")
@pytest.mark.parametrize("make", [ops.poll_add_level, ops.poll_add_multishot_level])
def test_level_triggered_polls_work_or_are_refused_by_the_kernel(kernel, pipe, make):
    reader, writer = pipe
    os.write(writer, b"x")
    request = kernel.start(make(reader, IN))
    res, flags = kernel.next_of(request)
    assert res in (IN, -errno.EINVAL)
    if flags & MORE:
        kernel.run(ops.poll_remove(request.user_data))
    kernel.finish(request)


@pytest.mark.opcodes("POLL_ADD", "POLL_REMOVE")
def test_a_poll_gets_a_new_mask_and_user_data(kernel, pipe):
    _, writer = pipe
    request = kernel.start(ops.poll_add(writer, IN))
    kernel.step()
    assert kernel.run(ops.poll_update(request.user_data, mask=int(abi.POLLOUT))) == 0
    assert kernel.finish(request) == abi.POLLOUT

    request = kernel.start(ops.poll_add_multishot(writer, IN))
    kernel.step()
    update = ops.poll_update(request.user_data, mask=int(abi.POLLOUT), new_user_data=1 << 40, multishot=True)
    assert kernel.run(update) == 0
    kernel.until(lambda: kernel.strays)
    ((user_data, res, flags),) = kernel.strays
    assert (user_data, res) == (1 << 40, abi.POLLOUT)
    assert flags & MORE
    assert kernel.run(ops.poll_remove(1 << 40)) == 0
    kernel.until(lambda: len(kernel.strays) == 2)
    assert kernel.strays[1] == (1 << 40, -errno.ECANCELED, 0)
    del kernel.requests[request.user_data]
    assert kernel.result(ops.poll_update(1 << 40, mask=IN)) == -errno.ENOENT


@pytest.mark.opcodes("POLL_REMOVE", "READ")
def test_only_polls_are_found(kernel, pipe):
    request = kernel.start(ops.read(pipe[0], bytearray(1)))
    kernel.step()
    assert kernel.result(ops.poll_remove(request.user_data)) == -errno.ENOENT
    os.write(pipe[1], b"x")
    assert kernel.finish(request) == 1


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: ops.poll_add(0, 0), ValueError),
        (lambda: ops.poll_add(0, 1 << 32), ValueError),
        (lambda: ops.poll_add(0, "in"), TypeError),
        (lambda: ops.poll_add(-1, 1), ValueError),
        (lambda: ops.poll_add(0, 1, duration=1), TypeError),
        (lambda: ops.poll_add_multishot(0, -1), ValueError),
        (lambda: ops.poll_add_level("f", 1), TypeError),
        (lambda: ops.poll_add_multishot_level(0, 0), ValueError),
        (lambda: ops.poll_remove(-1), ValueError),
        (lambda: ops.poll_update(1), TypeError),
        (lambda: ops.poll_update(1, mask=0), ValueError),
        (lambda: ops.poll_update(1, new_user_data=1 << 64), ValueError),
        (lambda: ops.poll_update("1", mask=1), TypeError),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_queued(call, error):
    with pytest.raises(error):
        call()
