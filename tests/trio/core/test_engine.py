"""Submitting, waking and counting on the running kernel.

The tests with a number are the races of the scripted ring with real sockets. An enter that fails or submits
less than was queued (rows 8 and 23), and completions that come exactly while others are handed out (row 26),
cannot be had from the kernel at will: the scripted ring has them in every order.
"""

from __future__ import annotations

import errno
import gc
import os
import select
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import SMALL, Host, echo, in_flight, statistics, unix_sockets
from uring import ops
from uring.abi import IORING_ENTER_NO_IOWAIT, IOSQE_ASYNC
from uring.kernel.refusals import first_completions
from uring_trio import perform
from uring_trio.core.engine import current


async def test_a_thread_wakes_a_blocked_run() -> None:
    token = trio.lowlevel.current_trio_token()
    event = trio.Event()

    def wake() -> None:
        token.run_sync_soon(event.set)

    timer = threading.Timer(0.05, wake)
    timer.start()
    await event.wait()
    timer.join()


async def test_a_thread_talks_to_a_run_many_times() -> None:
    def work() -> int:
        return sum(trio.from_thread.run_sync(int, "1") for _ in range(300))

    assert await trio.to_thread.run_sync(work) == 300


async def test_signals_wake_a_blocked_run() -> None:
    with trio.open_signal_receiver(signal.SIGUSR1) as signals:
        for _ in range(3):
            timer = threading.Timer(0.02, os.kill, [os.getpid(), signal.SIGUSR1])
            timer.start()
            assert await anext(signals) == signal.SIGUSR1
            timer.join()


def test_python_signal_handlers_run_while_blocked() -> None:
    handled = threading.Event()
    old = signal.signal(signal.SIGUSR1, lambda *_: handled.set())

    async def main() -> None:
        near, far = trio.socket.socketpair()
        with near, far:

            def kill() -> None:
                os.kill(os.getpid(), signal.SIGUSR1)
                assert handled.wait(30)
                far._sock.send(b"handled")

            timer = threading.Timer(0.05, kill)
            timer.start()
            assert await near.recv(10) == b"handled"
            timer.join()

    try:
        uring_trio.run(main)
    finally:
        signal.signal(signal.SIGUSR1, old)


def test_ctrl_c_ends_a_blocked_run() -> None:
    timer = threading.Timer(0.05, signal.raise_signal, [signal.SIGINT])

    async def main() -> None:
        near, far = trio.socket.socketpair()
        with near, far:
            timer.start()
            await near.recv(10)

    with pytest.raises(KeyboardInterrupt):
        uring_trio.run(main)
    timer.join()


async def test_statistics() -> None:
    near, far = trio.socket.socketpair()
    with near, far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.recv, 10)
            nursery.start_soon(trio.lowlevel.wait_readable, far)
            await wait_all_tasks_blocked()
            found = statistics()
            assert found.backend == "io_uring"
            assert found.tasks_waiting_read == 2  # one is Trio's own
            assert found.tasks_waiting_write == 0
            assert in_flight() == {"recv": 1, "wait_readable": 1}
            assert found.submitted >= 2
            assert found.enters >= 1
            assert found.overflows == found.late == 0
            nursery.cancel_scope.cancel()
        after = statistics()
        assert after.cancels_requested - found.cancels_requested == 1
        await wait_all_tasks_blocked()
        after = statistics()
        assert after.cancels_won - found.cancels_won == 1
        assert after.cancels_lost == found.cancels_lost
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.recv, 10)
            while not in_flight().get("recv"):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        assert statistics().cancels_unsent >= after.cancels_unsent


async def test_an_idle_tick_enters_nothing() -> None:
    await wait_all_tasks_blocked()
    before = statistics().enters
    for _ in range(1000):
        await trio.lowlevel.checkpoint()
    assert statistics().enters - before <= 1  # the wait in front of the loop may end in its first tick


async def test_an_operation_in_a_cancelled_scope_never_reaches_the_kernel(tmp_path: Path) -> None:
    target = tmp_path / "file"
    await wait_all_tasks_blocked()
    with target.open("wb") as file:
        before = statistics()
        with trio.CancelScope() as scope:
            scope.cancel()
            await uring_trio.perform(ops.write(file.fileno(), b"never"))
        assert scope.cancelled_caught
        after = statistics()
        assert (after.submitted, after.cancels_requested) == (before.submitted, before.cancels_requested)
    assert target.read_bytes() == b""


async def test_one_tick_is_one_enter() -> None:
    """What a hundred tasks ask for goes to the kernel together."""
    await wait_all_tasks_blocked()
    before = statistics()
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(uring_trio.perform, ops.nop())
    after = statistics()
    assert after.submitted - before.submitted >= 100
    assert after.enters - before.enters <= 5


def test_many_runs_leave_nothing() -> None:
    def resident() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    for _ in range(20):
        uring_trio.run(echo)
    before, files = resident(), len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        uring_trio.run(echo)
    assert len(os.listdir("/proc/self/fd")) == files
    assert resident() - before < 8 << 20


async def test_race_20_deferred_completions_are_entered_for() -> None:
    near, far = await unix_sockets()
    with near, far:
        got = []

        async def receive() -> None:
            got.append(await near.recv(10))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await wait_all_tasks_blocked()
            enters = statistics().enters
            for _ in range(10):
                await trio.lowlevel.checkpoint()
            # The wait in front of this may end in the first tick.
            assert statistics().enters - enters <= 1, "a tick with nothing to do made a system call"
            far._sock.send(b"x")
            # The loop never waits here: it must look by itself.
            while not got:
                await trio.lowlevel.checkpoint()
        assert got == [b"x"]


def test_race_22_signals_while_operations_are_submitted() -> None:
    signals: list[int] = []
    old = signal.signal(signal.SIGALRM, lambda number, frame: signals.append(number))

    async def main() -> None:
        near, far = trio.socket.socketpair()
        received = bytearray()

        async def send() -> None:
            for number in range(200):
                with pytest.raises(TimeoutError):
                    await perform(ops.timeout(0.0002))
                await far.send(bytes([number]))

        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
        try:
            with near, far:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(send)
                    while len(received) < 200:
                        received += await near.recv(10)
        finally:
            # Before Trio's end, which closes the descriptor that a signal wakes it by and tells Python later.
            signal.setitimer(signal.ITIMER_REAL, 0)
        assert received == bytes(range(200))

    try:
        uring_trio.run(main)
    finally:
        signal.signal(signal.SIGALRM, old)
    assert signals


def test_race_29_the_completion_queue_overflows() -> None:
    async def main() -> None:
        done = []

        async def one(number: int) -> None:
            await perform(ops.nop())
            done.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(one, number)
        assert sorted(done) == list(range(100))
        assert statistics().overflows > 0

    uring_trio.run(main, ring=SMALL)


async def test_race_32_woken_from_a_thread_at_any_moment() -> None:
    token = trio.lowlevel.current_trio_token()
    for _ in range(100):
        event = trio.Event()
        thread = threading.Thread(target=token.run_sync_soon, args=(event.set,))
        thread.start()
        await event.wait()
        thread.join()


def test_race_32_woken_by_a_signal_at_any_moment() -> None:
    old = signal.getsignal(signal.SIGALRM)

    async def main() -> None:
        token = trio.lowlevel.current_trio_token()
        for n in range(50):
            event = trio.Event()
            signal.signal(signal.SIGALRM, lambda number, frame, event=event: token.run_sync_soon(event.set))
            signal.setitimer(signal.ITIMER_REAL, 0.00002 * (n + 1))
            await event.wait()

    try:
        uring_trio.run(main)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


def test_race_21_a_foreign_thread_cannot_enter_and_need_not() -> None:
    async def main() -> None:
        ring = current().ring
        answers = []
        thread = threading.Thread(target=lambda: answers.append(first_completions(ring, 0.01)))
        thread.start()
        thread.join()
        assert answers == [-errno.EEXIST]
        near, far = await unix_sockets()
        with near, far:
            for number in range(20):
                timer = threading.Timer(0.001, far._sock.send, [b"%d" % number])
                timer.start()
                assert await near.recv(10) == b"%d" % number
                timer.join()

    Host().run(main)


def test_race_25_woken_while_and_after_the_ring_closes() -> None:
    managers: list[Any] = []
    stop = threading.Event()

    def wake() -> None:
        while not stop.is_set():
            for manager in managers[-3:]:
                manager.force_wakeup()

    async def main() -> None:
        managers.append(current())
        await trio.lowlevel.checkpoint()

    thread = threading.Thread(target=wake)
    thread.start()
    try:
        for _ in range(50):
            uring_trio.run(main)
            # Their numbers are these pipes' now, which must stay empty.
            pipes = [os.pipe2(os.O_NONBLOCK) for _ in range(2)]
            for reader, writer in pipes:
                with pytest.raises(BlockingIOError):
                    os.read(reader, 8)
                os.close(reader)
                os.close(writer)
    finally:
        stop.set()
        thread.join()


def test_race_27_pairs_on_a_tiny_queue() -> None:
    async def main() -> None:
        near, far = await unix_sockets()
        with near, far:
            ended = []

            async def expire() -> None:
                with pytest.raises(trio.TooSlowError):
                    await perform(ops.poll_add(near.fileno(), select.POLLIN), timeout=0.02)
                ended.append(1)

            async with trio.open_nursery() as nursery:
                for _ in range(51):
                    nursery.start_soon(expire)
            assert len(ended) == 51

    uring_trio.run(main, ring=SMALL)


async def test_race_28_what_arrived_in_part_is_delivered() -> None:
    near, far = await unix_sockets()
    with near, far:
        for number in range(20):
            memory = bytearray(10)
            far._sock.send(b"%02d" % number)
            op = ops.recv(near.fileno(), memory, flags=socket.MSG_WAITALL)
            assert await perform(op, timeout=0.005) == 2
            assert memory[:2] == b"%02d" % number


async def test_race_30_waiting_is_not_waiting_for_a_disk() -> None:
    assert current().ring._handle.enter_flags & IORING_ENTER_NO_IOWAIT


def test_race_35_the_host_cancels_while_the_guest_waits() -> None:
    host = Host()

    async def main() -> None:
        near, far = trio.socket.socketpair()
        with near, far:
            for number in range(20):
                scope = trio.CancelScope()
                timer = threading.Timer(0.001 * (number % 3), lambda scope=scope: host.todo.put(scope.cancel))
                timer.start()
                with scope:
                    await near.recv(10)
                assert scope.cancelled_caught
                timer.join()

    host.run(main)


def test_race_35_a_worker_has_what_the_host_cancels(tmp_path: Path) -> None:
    """The timer linked to an operation is due and cannot end it; nobody comes round to see that."""
    host = Host()
    os.mkfifo(tmp_path / "fifo")

    async def round(seconds: float) -> bool:
        """Whether the deadline was moved before it passed, so that the timer alone is due."""
        timer = threading.Timer(2 * seconds, lambda: host.todo.put(scope.cancel))
        with trio.CancelScope(deadline=trio.current_time() + seconds) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(perform, ops.openat(tmp_path / "fifo").with_flags(IOSQE_ASYNC))
                while "openat" not in statistics().in_flight:
                    await trio.lowlevel.checkpoint()
                scope.deadline += 1000
                timer.start()
        assert scope.cancelled_caught
        if timer.ident is None:
            return False
        timer.join()
        return True

    async def main() -> None:
        seconds = 0.05
        while not await round(seconds):
            seconds *= 2

    host.run(main)


def test_race_24_fork_is_told_from_the_parent() -> None:
    async def main() -> None:
        manager = current()
        pid = os.fork()
        if pid == 0:
            os._exit(0 if manager.ring.put(1, *ops.nop().fields) == -errno.EBADF else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert await perform(ops.nop()) == 0

    uring_trio.run(main)
