"""Epoll sets, futexes and child processes, against the kernel."""

import errno
import mmap
import os
import select
import signal
import subprocess
import sys

import pytest

from uring import abi, ops

FOR_EVER = 3600.0
LINK = int(abi.IOSQE_IO_LINK)
PRIVATE = int(abi.FUTEX2_SIZE_U32) | int(abi.FUTEX2_PRIVATE)


@pytest.fixture
def words():
    """Two futex words of a page of their own."""
    area = mmap.mmap(-1, mmap.PAGESIZE)
    return memoryview(area).cast("I")


@pytest.mark.opcodes("EPOLL_CTL", "EPOLL_WAIT")
def test_an_epoll_set_is_changed_and_waited_on(kernel, pipe):
    reader, writer = pipe
    with select.epoll() as epoll:
        assert kernel.run(ops.epoll_ctl(epoll, abi.EPOLL_CTL_ADD, reader, abi.EPOLLIN)) == 0
        waiting = kernel.start(ops.epoll_wait(epoll))
        kernel.step()
        assert not waiting.ended
        os.write(writer, b"x")
        assert kernel.value(waiting.op, kernel.finish(waiting)) == [(reader, abi.EPOLLIN)]
        number = (1 << 64) - 1
        kernel.run(ops.epoll_ctl(epoll, abi.EPOLL_CTL_MOD, reader, abi.EPOLLIN, number))
        kernel.run(ops.epoll_ctl(epoll, abi.EPOLL_CTL_ADD, writer, abi.EPOLLOUT, 7))
        found = kernel.run(ops.epoll_wait(epoll, max_events=2, wide=True))
        assert sorted(found) == [(7, abi.EPOLLOUT), (number, abi.EPOLLIN)]
        assert len(kernel.run(ops.epoll_wait(epoll, 1))) == 1
        assert kernel.run(ops.epoll_ctl(epoll, abi.EPOLL_CTL_DEL, writer)) == 0
        assert kernel.run(ops.epoll_ctl(epoll, abi.EPOLL_CTL_DEL, reader)) == 0
        request = kernel.start(ops.epoll_wait(epoll).with_flags(LINK))
        limit = kernel.start(ops.link_timeout(0.001))
        assert kernel.finish(request) == -errno.ECANCELED
        kernel.finish(limit)


@pytest.mark.opcodes("EPOLL_CTL", "EPOLL_WAIT")
def test_a_set_filled_by_select(kernel, pipe):
    with select.epoll() as epoll:
        for _ in range(20):  # the upper half of the data is whatever was in memory
            epoll.register(pipe[1], select.EPOLLOUT)
            assert kernel.run(ops.epoll_wait(epoll)) == [(pipe[1], select.EPOLLOUT)]
            epoll.unregister(pipe[1])
        kernel.run(ops.epoll_ctl(epoll, abi.EPOLL_CTL_ADD, pipe[1], abi.EPOLLOUT, 5 << 32 | 7))
        assert kernel.run(ops.epoll_wait(epoll)) == [(7, abi.EPOLLOUT)]
        assert kernel.run(ops.epoll_wait(epoll, wide=True)) == [(5 << 32 | 7, abi.EPOLLOUT)]


@pytest.mark.opcodes("EPOLL_CTL", "EPOLL_WAIT")
def test_epoll_sets_fail_as_their_system_calls_do(kernel, pipe, tmp_path):
    reader, _ = pipe
    with select.epoll() as epoll:
        add = ops.epoll_ctl(epoll, abi.EPOLL_CTL_ADD, reader, abi.EPOLLIN)
        assert kernel.result(add) == 0
        assert kernel.result(add) == -errno.EEXIST
        with open(tmp_path / "file", "w") as file:
            assert kernel.result(ops.epoll_ctl(epoll, abi.EPOLL_CTL_ADD, file)) == -errno.EPERM
        assert kernel.result(ops.epoll_ctl(reader, abi.EPOLL_CTL_ADD, reader)) == -errno.EINVAL
    assert kernel.result(ops.epoll_wait(reader)) == -errno.EINVAL


@pytest.mark.opcodes("FUTEX_WAIT", "FUTEX_WAKE")
@pytest.mark.parametrize("flags", [int(abi.FUTEX2_SIZE_U32), PRIVATE])
def test_a_futex_wait_is_woken(kernel, words, flags):
    words[0] = 5
    waiting = [kernel.start(ops.futex_wait(words[:1], 5, flags=flags)) for _ in range(2)]
    kernel.step()
    assert kernel.run(ops.futex_wake(words[:1], flags=flags)) == 1
    assert kernel.run(ops.futex_wake(words[:1], 10, flags=flags)) == 1
    for request in waiting:
        assert kernel.finish(request) == 0
    assert kernel.run(ops.futex_wake(words[:1], 1, flags=flags)) == 0


@pytest.mark.opcodes("FUTEX_WAIT", "FUTEX_WAKE", "ASYNC_CANCEL")
def test_a_futex_has_a_value_a_mask_and_a_cancel(kernel, words):
    words[0] = 5
    with pytest.raises(BlockingIOError):
        kernel.run(ops.futex_wait(words[:1], 6))
    waiting = kernel.start(ops.futex_wait(words[:1], 5, mask=2))
    kernel.step()
    assert kernel.run(ops.futex_wake(words[:1], 1, mask=1)) == 0
    assert kernel.run(ops.async_cancel(waiting.user_data)) == 1
    assert kernel.finish(waiting) == -errno.ECANCELED


@pytest.mark.opcodes("FUTEX_WAITV", "FUTEX_WAKE")
def test_several_futexes_are_waited_on_at_once(kernel, words):
    words[0], words[1] = 1, 2
    waiting = kernel.start(ops.futex_waitv([(words[:1], 1), (words[1:2], 2)]))
    kernel.step()
    assert kernel.run(ops.futex_wake(words[1:2])) == 1
    assert kernel.finish(waiting) == 1
    assert kernel.result(ops.futex_waitv([(words[:1], 1), (words[1:2], 99)])) == -errno.EAGAIN


@pytest.mark.opcodes("WAITID")
def test_a_child_is_waited_for(kernel):
    command = [sys.executable, "-c", "import sys; sys.stdin.read(); sys.exit(7)"]
    child = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert kernel.run(ops.waitid(abi.P_PID, child.pid, abi.WEXITED | abi.WNOHANG)) is None
    waiting = kernel.start(ops.waitid(abi.P_PID, child.pid, abi.WEXITED | abi.WNOWAIT))
    kernel.step()
    child.stdin.close()
    found = kernel.value(waiting.op, kernel.finish(waiting))
    assert found == (child.pid, os.getuid(), signal.SIGCHLD, 7, os.CLD_EXITED)
    assert found.si_status == 7
    pidfd = os.pidfd_open(child.pid)
    again = kernel.run(ops.waitid(abi.P_PIDFD, pidfd, abi.WEXITED | abi.WNOWAIT))
    assert again == found
    os.close(pidfd)
    assert child.wait() == 7


@pytest.mark.opcodes("WAITID", "ASYNC_CANCEL")
def test_waiting_for_children_fails_and_is_cancelled(kernel):
    with pytest.raises(ChildProcessError):
        kernel.run(ops.waitid(abi.P_PID, 1, abi.WEXITED))
    assert kernel.result(ops.waitid(abi.P_PID, 1, 0)) == -errno.EINVAL
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    waiting = kernel.start(ops.waitid(abi.P_PID, child.pid, abi.WEXITED))
    kernel.step()
    assert kernel.run(ops.async_cancel(waiting.user_data)) == 1
    assert kernel.finish(waiting) == -errno.ECANCELED
    child.communicate(b"\n")
    assert child.returncode == 0


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda: ops.epoll_ctl(3, 0, 1), ValueError),
        (lambda: ops.epoll_ctl(3, 4, 1), ValueError),
        (lambda: ops.epoll_ctl(3, 1, -1), ValueError),
        (lambda: ops.epoll_ctl(3, 1, 1, -1), ValueError),
        (lambda: ops.epoll_ctl(3, 1, 1, 1, 1 << 64), ValueError),
        (lambda: ops.epoll_wait(3, 0), ValueError),
        (lambda: ops.epoll_wait(3, 1 << 31), ValueError),
        (lambda: ops.epoll_wait(3, timeout=1), TypeError),
        (lambda: ops.futex_wait(bytearray(3), 0), ValueError),
        (lambda: ops.futex_wait(memoryview(bytearray(16))[1:], 0), ValueError),
        (lambda: ops.futex_wait(bytearray(8), -1), ValueError),
        (lambda: ops.futex_wait(bytearray(8), 1 << 32), ValueError),
        (lambda: ops.futex_wait(bytearray(8), 0, mask=0), ValueError),
        (lambda: ops.futex_wait(bytearray(8), 0, flags=3), ValueError),
        (lambda: ops.futex_wait(bytes(8), 0, flags=2 | 4), TypeError),
        (lambda: ops.futex_wait(5, 0), TypeError),
        (lambda: ops.futex_wake(bytearray(8), -1), ValueError),
        (lambda: ops.futex_wake(bytearray(8), flags="x"), TypeError),
        (lambda: ops.futex_waitv([]), ValueError),
        (lambda: ops.futex_waitv([(bytearray(8), 0)] * 129), ValueError),
        (lambda: ops.futex_waitv([(bytearray(8), 1 << 32)]), ValueError),
        (lambda: ops.waitid(4, 1, 4), ValueError),
        (lambda: ops.waitid(1, -1, 4), ValueError),
        (lambda: ops.waitid(1, 1, -1), ValueError),
        (lambda: ops.waitid("pid", 1, 4), TypeError),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_queued(call, error):
    with pytest.raises(error):
        call()
