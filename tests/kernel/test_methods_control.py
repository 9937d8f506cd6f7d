"""A ring's methods for timeouts, cancelling, polls, waits and messages, against the kernel."""

from __future__ import annotations

import errno
import mmap
import os
import select
import signal
import subprocess
import sys
import time

import pytest

from tests.ringside import run, take
from uring import Request, Ring, abi, for_fd, pack_direct

CANCELLED = -errno.ECANCELED
EXPIRED = -errno.ETIME
FOR_EVER = 3600.0


@pytest.fixture
def ring():
    with Ring(entries=32) as ring:
        yield ring


@pytest.fixture
def words():
    """Futex words in a page of their own."""
    return memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("I")


def results(ring: Ring, n: int) -> dict[int, int]:
    """The results of the next ``n`` completions, by context."""
    return {cqe.user_data: cqe.res for cqe in take(ring, n)}


def numbered(i: int) -> int:
    """A direct context of its own."""
    return pack_direct(0, 0, i, -1)


# Timeouts.


def test_timeouts_of_every_clock(ring):
    contexts = [
        ring.timeout(numbered(1), duration=0.001),
        ring.timeout(numbered(2), time.monotonic() + 0.001, absolute=True),
        ring.timeout(numbered(3), time.clock_gettime(time.CLOCK_REALTIME), absolute=True, realtime=True),
        ring.timeout(numbered(4), 0.001, boottime=True),
        ring.timeout(numbered(5), 0.001, timeout_flags=abi.IORING_TIMEOUT_BOOTTIME),
    ]
    assert results(ring, 5) == dict.fromkeys(contexts, EXPIRED)
    with pytest.raises(ValueError, match="clock"):
        ring.timeout(None, 1.0, boottime=True, realtime=True)
    for bad in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="seconds"):
            ring.timeout(None, bad)
    assert ring.in_flight == 0


def test_timeouts_that_count_and_repeat(ring):
    counted = ring.timeout(numbered(1), FOR_EVER, count=1)
    ring.nop(numbered(2))
    assert results(ring, 2)[counted] == 0, "one other completion ended it"
    repeated = ring.timeout(numbered(3), 0.001, count=2, multishot=True)
    first, second = take(ring, 2)
    assert (first.context, first.res, first.has_more) == (repeated, EXPIRED, True)
    assert (second.res, second.has_more) == (EXPIRED, False)


def test_an_expired_timeout_may_count_as_success(ring):
    for success, follower in ((True, 0), (False, CANCELLED)):
        chain = ring.timeout(numbered(1), 0.001, etime_success=success, sqe_flags=abi.IOSQE_IO_LINK)
        after = ring.nop(numbered(2))
        assert results(ring, 2) == {chain: EXPIRED, after: follower}


def test_a_timeout_is_removed_or_updated(ring):
    target = ring.timeout(numbered(1), FOR_EVER)
    update = ring.timeout_update(numbered(2), target, 0.001)
    assert results(ring, 2) == {update: 0, target: EXPIRED}
    target = ring.timeout(numbered(1), FOR_EVER)
    update = ring.timeout_update(numbered(2), target, time.monotonic(), absolute=True)
    assert results(ring, 2) == {update: 0, target: EXPIRED}
    target = ring.timeout(numbered(1), FOR_EVER)
    remove = ring.timeout_remove(numbered(2), target)
    assert results(ring, 2) == {remove: 0, target: CANCELLED}
    with pytest.raises(FileNotFoundError):
        run(ring, ring.timeout_remove(None, target))


@pytest.mark.parametrize("arrives", [True, False])
def test_a_linked_timeout_ends_a_read_or_is_cancelled(ring, pipe, arrives):
    read = ring.read(for_fd(pipe[0]), pipe[0], bytearray(1), sqe_flags=abi.IOSQE_IO_LINK)
    limit = ring.link_timeout(None, FOR_EVER if arrives else 0.001)
    ring.flush()
    if arrives:
        os.write(pipe[1], b"x")
    assert results(ring, 2) == ({read: 1, limit: CANCELLED} if arrives else {read: CANCELLED, limit: EXPIRED})


# Cancelling.


def waiting(ring: Ring, fd: int, i: int) -> int:
    return ring.read(numbered(i), fd, bytearray(1))


def test_cancel_by_value(ring, pipe):
    one = waiting(ring, pipe[0], 1)
    other = waiting(ring, pipe[0], 2)
    cancel = ring.async_cancel(numbered(3), one)
    assert results(ring, 2) == {one: CANCELLED, cancel: 0}
    with pytest.raises(FileNotFoundError):
        run(ring, ring.async_cancel(numbered(3), one))
    ring.async_cancel(numbered(3), other)
    take(ring, 2)


def test_cancel_by_descriptor(ring, pipe):
    contexts = [waiting(ring, pipe[0], i) for i in range(3)]
    cancel = ring.async_cancel_fd(numbered(9), pipe[0])
    found = results(ring, 2)
    assert found.pop(cancel) == 0
    ((first, res),) = found.items()
    assert res == CANCELLED
    cancel = ring.async_cancel_fd(numbered(9), pipe[0], every=True)
    assert results(ring, 3) == {cancel: 2, **dict.fromkeys(set(contexts) - {first}, CANCELLED)}


def test_cancel_by_opcode(ring, pipe):
    contexts = [waiting(ring, pipe[0], i) for i in range(2)]
    timeout = ring.timeout(numbered(5), FOR_EVER)
    cancel = ring.async_cancel_opcode(numbered(9), abi.IORING_OP_READ, every=True)
    assert results(ring, 3) == {cancel: 2, **dict.fromkeys(contexts, CANCELLED)}
    cancel = ring.async_cancel_opcode(numbered(9), abi.IORING_OP_TIMEOUT)
    assert results(ring, 2) == {cancel: 0, timeout: CANCELLED}


def test_cancel_any_and_all(ring, pipe):
    """The kernel cancels every operation for "any", and says how many there were."""
    for call in (ring.async_cancel_any, ring.async_cancel_all):
        contexts = [waiting(ring, pipe[0], i) for i in range(3)]
        cancel = call(numbered(9))
        assert results(ring, 4) == {cancel: 3, **dict.fromkeys(contexts, CANCELLED)}
        assert run(ring, call(None)) == 0


# Polls.


def test_polls(ring, pipe):
    reader, writer = pipe
    assert run(ring, ring.poll_add(None, writer, abi.POLLOUT)) == abi.POLLOUT
    poll = ring.poll_add(numbered(1), reader, abi.POLLIN)
    remove = ring.poll_remove(numbered(2), poll)
    assert results(ring, 2) == {poll: CANCELLED, remove: 0}
    poll = ring.poll_add_multishot(numbered(1), reader, abi.POLLIN)
    for _ in range(2):
        ring.flush()
        os.write(writer, b"x")
        (cqe,) = take(ring)
        assert (cqe.context, cqe.has_more) == (poll, True)
        assert cqe.res & abi.POLLIN
    ring.poll_remove(numbered(2), poll)
    take(ring, 2)


def test_polls_by_level(ring, pipe):
    """The kernel defines the flag, and as of 6.18 refuses it; one that takes it says what is ready."""
    reader, writer = pipe
    os.write(writer, b"x")
    for call, more in ((ring.poll_add_level, False), (ring.poll_add_multishot_level, True)):
        poll = call(numbered(1), reader, abi.POLLIN)
        (cqe,) = take(ring)
        assert cqe.context == poll
        assert (cqe.res, cqe.has_more) in ((-errno.EINVAL, False), (abi.POLLIN, more))
        if cqe.has_more:
            ring.poll_remove(numbered(2), poll)
            take(ring, 2)


def test_polls_are_updated(ring, pipe):
    writer = pipe[1]
    poll = ring.poll_add(numbered(1), writer, abi.POLLIN)
    update = ring.poll_update(numbered(2), poll, mask=int(abi.POLLOUT))
    assert results(ring, 2) == {update: 0, poll: abi.POLLOUT}
    poll = ring.poll_add(numbered(1), writer, abi.POLLIN)
    update = ring.poll_update(numbered(2), poll, new_user_data=numbered(3), mask=int(abi.POLLOUT))
    assert results(ring, 2) == {update: 0, numbered(3): abi.POLLOUT}
    with pytest.raises(FileNotFoundError):
        run(ring, ring.poll_update(numbered(2), poll, mask=int(abi.POLLIN)))


def test_a_poll_that_was_renamed_ends_under_its_new_value(ring, pipe):
    """It is counted, and keeps its slot, until then."""
    reader, writer = pipe
    ext = ring.ext_sqe()
    poll = ring.poll_add_multishot(ext.context, reader, abi.POLLIN)
    for old, new in ((poll, numbered(2)), (numbered(2), numbered(3))):
        assert run(ring, ring.poll_update(None, old, new_user_data=new, multishot=True)) == 0
    assert (ring.in_flight, ext.in_flight) == (1, True)
    for value in (2, 3):
        with pytest.raises(ValueError, match="a poll was renamed to it"):
            ring.nop(numbered(value), sqe_flags=abi.IOSQE_ASYNC)
    os.write(writer, b"x")
    (cqe,) = take(ring)
    assert (cqe.context, cqe.has_more) == (numbered(3), True)
    assert ext.in_flight
    remove = ring.poll_remove(numbered(4), numbered(3))
    assert results(ring, 2) == {numbered(3): CANCELLED, remove: 0}
    assert (ring.in_flight, ext.in_flight) == (0, False)
    ring.put_ext_sqe(ext)
    assert run(ring, ring.nop(numbered(3))) == 0, "the value may be used again"


def test_a_poll_that_ended_before_it_was_renamed(ring, pipe):
    poll = ring.poll_add(numbered(1), pipe[1], abi.POLLOUT)
    update = ring.poll_update(numbered(2), poll, new_user_data=numbered(3))
    assert results(ring, 2) == {poll: abi.POLLOUT, update: -errno.ENOENT}
    assert run(ring, ring.nop(numbered(3))) == 0


def test_values_that_a_poll_cannot_be_renamed_to(ring, pipe):
    poll = ring.poll_add(numbered(1), pipe[0], abi.POLLIN)
    other = ring.poll_add(numbered(2), pipe[0], abi.POLLIN)
    ext = ring.ext_sqe()
    for value in (other, ext.context, 3 << 62):
        with pytest.raises(ValueError, match="direct context" if value >> 62 else "in flight"):
            ring.poll_update(None, poll, new_user_data=value)
    assert ring.in_flight == 2
    ring.put_ext_sqe(ext)
    cancel = ring.async_cancel_all(numbered(3))
    assert results(ring, 3) == {poll: CANCELLED, other: CANCELLED, cancel: 2}


# Epoll sets, futexes, children.


def test_an_epoll_set(ring, pipe):
    with select.epoll() as epoll:
        add = ring.epoll_ctl(None, epoll, abi.EPOLL_CTL_ADD, pipe[0], abi.EPOLLIN)
        assert run(ring, add) == 0
        wait = ring.epoll_wait(None, epoll, 4)
        ring.flush()
        os.write(pipe[1], b"x")
        assert run(ring, wait) == [(pipe[0], abi.EPOLLIN)]
        with pytest.raises(TypeError, match="timeout"):
            ring.epoll_wait(None, epoll, timeout=1)


def test_futexes(ring, words):
    words[0], words[1] = 7, 8
    wait = ring.futex_wait(numbered(1), words[:1], 7)
    wake = ring.futex_wake(numbered(2), words[:1], 1)
    assert results(ring, 2) == {wait: 0, wake: 1}
    with pytest.raises(BlockingIOError):
        run(ring, ring.futex_wait(None, words[:1], 6))
    wait = ring.futex_waitv(numbered(1), [(words[:1], 7), (words[1:2], 8)])
    wake = ring.futex_wake(numbered(2), words[1:2])
    assert results(ring, 2) == {wait: 1, wake: 1}, "the second of the words was woken"
    masked = ring.futex_wait(numbered(1), words[:1], 7, mask=4)
    assert results_of_wakes(ring, words, 2) == 0
    assert results_of_wakes(ring, words, abi.FUTEX_BITSET_MATCH_ANY) == 1
    assert [cqe.context for cqe in take(ring)] == [masked]


def results_of_wakes(ring: Ring, words: memoryview, mask: int) -> int:
    """How many a wake with this mask woke; completions of others are left for later."""
    wake = ring.futex_wake(numbered(2), words[:1], mask=mask)
    while True:
        for cqe in ring.wait(1, timeout=20.0):
            if cqe.user_data == wake:
                return cqe.res


def test_a_child(ring):
    child = subprocess.Popen([sys.executable, "-c", "import sys; sys.exit(3)"])
    found = run(ring, ring.waitid(None, abi.P_PID, child.pid, abi.WEXITED | abi.WNOWAIT))
    assert (found.si_pid, found.si_status, found.si_signo) == (child.pid, 3, signal.SIGCHLD)
    assert child.wait() == 3


# Other rings.


def test_messages_to_another_ring(ring):
    with Ring(entries=4) as other:
        assert run(ring, ring.msg_ring(None, other, 77, 5)) == 0
        (cqe,) = take(other)
        assert (cqe.context.message, cqe.res) == (77, 5)
        assert run(ring, ring.msg_ring(None, other.ring_fd, 78, -1)) == 0
        (cqe,) = take(other)
        assert (cqe.context.message, cqe.res) == (78, -1)


def test_files_go_to_another_ring(ring, pipe):
    with Ring(entries=4) as other:
        ring.register_files([pipe[0]])
        other.register_files_sparse(2)
        assert run(ring, ring.msg_ring_fd(None, other, 0, file_index=1, user_data=9)) == 1
        assert [(cqe.context.message, cqe.res) for cqe in take(other)] == [(9, 0)]
        assert run(ring, ring.msg_ring_fd(None, other, 0, file_index=0, skip_cqe=True)) == 0
        assert other.wait() == []
        os.write(pipe[1], b"sent")
        room = bytearray(4)
        assert run(other, other.read(None, 1, room, fixed_file=True)) == 4
        assert room == b"sent"


def test_a_nop(ring):
    assert run(ring, ring.nop(None)) == 0
    assert run(ring, ring.nop(numbered(7), result=12)) == 12


def test_the_data_of_a_command_may_be_its_third_argument(ring):
    with open(os.devnull, "rb") as null:
        number = null.fileno()
        calls = [(number, 1, b"data"), (null, 1, b"data"), (number, 1), (7, number, 1), (7, null, 1, b"data")]
        found = [ring.uring_cmd(*arguments) for arguments in calls]
        assert [type(each) for each in found] == [Request, Request, Request, int, int]
        assert [request.fields[2] for request in found[:3]] == [number] * 3
        assert len(take(ring, 5)) == 5
