"""Starting a run, what it refuses, how it is woken, and what it leaves behind."""

from __future__ import annotations

import asyncio
import gc
import importlib
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import Host, in_flight, statistics
from uring import abi, ops
from uring.errors import unavailable_from_errno
from uring_trio import RingOptions, RingUnavailable
from uring_trio.core import engine, manager
from uring_trio.core.statistics import process_totals, totals

if TYPE_CHECKING:
    from collections.abc import Iterator

run_module = importlib.import_module("uring_trio.launch.run")
REFUSE = Path(__file__).parents[2] / "refuse.py"


async def backend() -> str:
    return statistics().backend  # type: ignore[no-any-return]


async def echo() -> str:
    """A little of everything; the name of the backend."""
    near, far = trio.socket.socketpair()
    with near, far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(far.send, b"ping")
            assert await near.recv(10) == b"ping"
        with trio.move_on_after(0.001) as scope:
            await near.recv(10)
        assert scope.cancelled_caught
    await trio.to_thread.run_sync(int)
    return await backend()


def python(code: str, *before: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *before, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.fixture
def uninstalled() -> Iterator[None]:
    yield
    uring_trio.uninstall()


@pytest.fixture
def no_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise unavailable_from_errno(1)

    monkeypatch.setattr(engine, "KernelRing", refuse)
    monkeypatch.setattr(run_module, "_warned", False)


# ---- starting ----------------------------------------------------------------------------------------


def test_run_returns_what_the_function_does() -> None:
    async def add(*numbers: int) -> int:
        return sum(numbers)

    assert uring_trio.run(add, 1, 2, 3) == 6
    assert uring_trio.run(echo) == "io_uring"


def test_run_raises_what_the_function_does() -> None:
    async def fail() -> None:
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        uring_trio.run(fail)


def test_run_takes_what_trio_takes() -> None:
    steps = []

    class Count(trio.abc.Instrument):
        def before_task_step(self, task: Any) -> None:
            steps.append(task)

    async def main() -> float:
        before = trio.current_time()
        await trio.sleep(1000)
        return trio.current_time() - before

    clock = trio.testing.MockClock(autojump_threshold=0)
    assert uring_trio.run(main, clock=clock, instruments=[Count()], strict_exception_groups=True) == 1000
    assert steps


def test_options_size_the_ring() -> None:
    async def main() -> tuple[int, int, int]:
        ring = engine.current().ring
        return ring.sq_entries, ring.cq_entries, engine.current().buffers.count

    assert uring_trio.run(main, ring=RingOptions(entries=8, cq_entries=64, buffers=4)) == (8, 64, 4)


def test_stock_trio_stays_stock() -> None:
    uring_trio.run(echo)
    assert trio.run(echo) == "epoll"


def test_install_makes_plain_runs_ring_runs(uninstalled: None) -> None:
    uring_trio.install()
    assert trio.run(echo) == "io_uring"
    uring_trio.install(ring=RingOptions(entries=16))

    async def entries() -> int:
        return int(engine.current().ring.sq_entries)

    assert trio.run(entries) == 16
    assert uring_trio.run(echo) == "io_uring"

    async def uninstall() -> str:
        uring_trio.uninstall()
        return await echo()

    assert trio.run(uninstall) == "io_uring"
    assert trio.run(echo) == "epoll"
    uring_trio.uninstall()


def test_a_run_inside_a_run_is_refused() -> None:
    async def main() -> None:
        before = process_totals()["runs"]
        with pytest.raises(RuntimeError, match="from inside"):
            uring_trio.run(echo)
        assert process_totals()["runs"] == before + 1, "the ring that was opened for it is closed"
        assert await trio.to_thread.run_sync(trio.run, echo) == "epoll"
        assert await echo() == "io_uring"

    uring_trio.run(main)


def test_a_choice_does_not_outlive_its_run() -> None:
    for wrong in (echo(), 5, lambda: None):
        with pytest.raises(TypeError):
            uring_trio.run(wrong)  # type: ignore[arg-type]
        assert trio.run(echo) == "epoll"


# ---- guests ------------------------------------------------------------------------------------------


async def guest() -> str:
    with trio.move_on_after(0.01):
        await trio.sleep_forever()
    return await echo()


def test_guest_of_asyncio() -> None:
    async def host() -> Any:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        uring_trio.start_guest_run(
            guest,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=done.set_result,
        )
        ticks = 0
        while not done.done():
            ticks += 1
            await asyncio.sleep(0)
        assert ticks > 1
        return done.result().unwrap()

    assert asyncio.run(host()) == "io_uring"


def test_guest_of_a_bare_queue() -> None:
    assert Host().run(guest) == "io_uring"
    assert Host().run(guest, host_uses_signal_set_wakeup_fd=True) == "io_uring"


def test_a_guest_under_install(uninstalled: None) -> None:
    uring_trio.install()
    assert Host().run(guest, start=trio.lowlevel.start_guest_run) == "io_uring"


def test_the_host_cancels_while_the_guest_waits() -> None:
    """What the host's callbacks queue goes to the kernel though the guest's thread is waiting."""
    host = Host()
    scope = trio.CancelScope()

    async def main() -> bool:
        near, far = trio.socket.socketpair()
        with near, far:
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def soon() -> None:
                    await wait_all_tasks_blocked()
                    timer.start()

                with scope:
                    await near.recv(10)
        return scope.cancelled_caught

    timer = threading.Timer(0.05, lambda: host.todo.put(scope.cancel))
    assert host.run(main)
    timer.join()


def test_the_host_may_end_a_guest_by_socket() -> None:
    """The guest is asleep when data from outside arrives."""
    near, far = socket.socketpair()

    async def main() -> bytes:
        with trio.socket.from_stdlib_socket(far) as sock:
            return await sock.recv(10)  # type: ignore[no-any-return]

    timer = threading.Timer(0.05, near.send, [b"wake up"])
    timer.start()
    with near:
        assert Host().run(main) == b"wake up"
    timer.join()


# ---- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"entries": 3}, ValueError),
        ({"entries": 1}, ValueError),
        ({"entries": 65536}, ValueError),
        ({"entries": "256"}, TypeError),
        ({"entries": True}, TypeError),
        ({"entries": 256.0}, TypeError),
        ({"cq_entries": 0}, ValueError),
        ({"cq_entries": 128}, ValueError),
        ({"cq_entries": 1000}, ValueError),
        ({"buffers": 0}, ValueError),
        ({"buffers": 32769}, ValueError),
        ({"buffers": None}, TypeError),
        ({"buffer_size": 63}, ValueError),
        ({"buffer_size": 1 << 25}, ValueError),
        ({"direct_slots": 31}, ValueError),
        ({"direct_slots": 1 << 21}, ValueError),
        ({"deadlines": "soon"}, ValueError),
        ({"speed": 11}, TypeError),
    ],
)
def test_options_that_make_no_sense(values: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=next(iter(values))):
        RingOptions(**values)


@pytest.mark.parametrize("options", [{"ring": {"entries": 4}}, {"ring": 256}, {"unavailable": "ignore"}])
def test_arguments_that_make_no_sense(options: dict[str, Any]) -> None:
    before = process_totals()
    for start in (
        lambda: uring_trio.run(echo, **options),
        lambda: Host().run(echo, **options),
        lambda: uring_trio.install(**options),
    ):
        with pytest.raises((TypeError, ValueError), match=next(iter(options))):
            start()
    assert process_totals() == before


def test_no_io_uring_raises(no_ring: None) -> None:
    for start in (
        lambda: uring_trio.run(echo),
        lambda: Host().run(echo),
        uring_trio.install,
    ):
        with pytest.raises(RingUnavailable):
            start()
    assert trio.run(echo) == "epoll"


def test_no_io_uring_falls_back_once_warned(no_ring: None, uninstalled: None) -> None:
    with pytest.warns(RuntimeWarning, match="running on epoll"):
        assert uring_trio.run(echo, unavailable="epoll") == "epoll"
    assert uring_trio.run(echo, unavailable="epoll") == "epoll"
    assert Host().run(guest, unavailable="epoll") == "epoll"
    uring_trio.install(unavailable="epoll")
    assert trio.run(echo) == "epoll"


REFUSED = """
import warnings, trio, uring_trio
async def main():
    return trio.lowlevel.current_statistics().io_statistics.backend
try:
    uring_trio.run(main)
except uring_trio.RingUnavailable as exc:
    print(exc.errno, "|", exc)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(uring_trio.run(main, unavailable="epoll"), uring_trio.run(main, unavailable="epoll"))
print([(w.category.__name__, w.filename.endswith("<string>") or w.filename) for w in caught])
"""


@pytest.mark.parametrize("number", [1, 38, 12])
def test_a_kernel_that_refuses(number: int) -> None:
    """EPERM, ENOSYS and ENOMEM from the real system call."""
    done = python(REFUSED, str(REFUSE), f"[[425, -1, {number}]]")
    assert done.returncode == 0, done.stderr
    error, fallback, warned = done.stdout.splitlines()
    assert error.startswith(f"{number} | ")
    assert len(error) > 40, "it says what to change"
    assert fallback == "epoll epoll"
    assert warned == "[('RuntimeWarning', True)]"


async def in_no_ring_run() -> None:
    for use in (
        lambda: uring_trio.perform(ops.nop()),
        lambda: uring_trio.open_tcp_stream("127.0.0.1", 1),
        lambda: uring_trio.listen_tcp("127.0.0.1", 0),
        lambda: uring_trio.serve_tcp(trio.aclose_forcefully, 0, host="127.0.0.1"),
    ):
        with pytest.raises(RuntimeError, match=r"ring run.*uring_trio\.run.*install"):
            await use()


def test_use_in_a_stock_run_is_refused() -> None:
    trio.run(in_no_ring_run)


def test_use_outside_of_a_run_is_refused() -> None:
    coroutine = uring_trio.perform(ops.nop())
    with pytest.raises(RuntimeError, match="async context"):
        coroutine.send(None)


def test_use_under_asyncio_says_whose_task_is_needed() -> None:
    with pytest.raises(RuntimeError, match=r"task of a Trio run.*uring_trio\.run.*asyncio"):
        asyncio.run(uring_trio.perform(ops.nop()))


async def test_a_mode_for_flags_says_which_flags(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"os\.O_RDONLY.*not 'rb'"):
        await uring_trio.open_direct(tmp_path / "file", "rb")  # type: ignore[arg-type]


async def test_use_from_another_thread_is_refused() -> None:
    def use() -> None:
        coroutine = uring_trio.perform(ops.nop())
        with pytest.raises(RuntimeError, match="async context"):
            coroutine.send(None)

    await trio.to_thread.run_sync(use)
    assert not in_flight()


@pytest.mark.parametrize("wrong", [None, 5, "nop", ops.nop, object()])
async def test_perform_takes_operations(wrong: Any) -> None:
    before = statistics()
    with pytest.raises(TypeError, match=r"uring\.ops"):
        await uring_trio.perform(wrong)
    assert statistics().submitted == before.submitted


async def test_perform_says_what_failed() -> None:
    with pytest.raises(OSError, match="recv") as caught:
        await uring_trio.perform(ops.recv(999, bytearray(1)))
    assert caught.value.errno == 9


# ---- waking ------------------------------------------------------------------------------------------


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
                assert handled.wait(5)
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


# ---- what it counts ----------------------------------------------------------------------------------


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


# ---- ends that went wrong ----------------------------------------------------------------------------


# Trio says that its tasks never end, which is so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_crash_drains_what_is_in_flight() -> None:
    near, far = socket.socketpair()
    memory = bytearray(100)
    before = process_totals()

    async def main() -> None:
        sock = trio.socket.from_stdlib_socket(far)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sock.recv_into, memory)
            await wait_all_tasks_blocked()
            # Waking a task that is not asleep is what Trio cannot forgive.
            task = trio.lowlevel.current_task()
            trio.lowlevel.reschedule(task)
            trio.lowlevel.reschedule(task)

    with near, far:
        with pytest.raises(trio.TrioInternalError):
            uring_trio.run(main)
        near.send(b"too late")
        assert far.recv(100) == b"too late", "the receive is over"
        gc.collect()
        assert bytes(memory) == bytes(100)
        memory.clear()
        assert uring_trio.run(echo) == "io_uring"
    assert process_totals()["leaked"] == before["leaked"]


def test_what_does_not_end_is_leaked_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that the kernel may still write to is never freed."""
    open_ring = engine.open_ring
    opened = []

    def uncancellable(options: RingOptions) -> Any:
        """A ring that drops the cancels of the drain."""
        ring = open_ring(options)
        put = ring.put

        def filtered(user_data: int, opcode: int, *rest: int) -> int:
            if opcode == int(abi.IORING_OP_ASYNC_CANCEL) and rest[5] & int(abi.IORING_ASYNC_CANCEL_ANY):
                return 0
            return put(user_data, opcode, *rest)

        ring.put = filtered
        opened.append(ring)
        return ring

    monkeypatch.setattr(engine, "open_ring", uncancellable)
    monkeypatch.setattr(manager, "_DRAIN_SECONDS", 0.05)
    before = process_totals()
    with pytest.warns(ResourceWarning, match="operations did not end within"):
        uring_trio.run(backend)
    assert process_totals()["leaked"] > before["leaked"]
    [(ring, _, buffers, _)] = manager._leaked
    assert ring is opened[0]
    assert not ring.closed
    # A kernel that let go after all, so that this process goes on as before.
    manager._leaked.clear()
    buffers.close()
    ring.close()
    with totals.lock:
        totals.leaked = before["leaked"]


# ---- forks -------------------------------------------------------------------------------------------

FORK = """
import os, sys, threading, warnings
import trio, trio.testing, uring_trio
from uring import ops

async def echo():
    near, far = trio.socket.socketpair()
    with near, far:
        await near.send(b"ping")
        assert await far.recv(10) == b"ping"

def in_child(coroutine):
    try:
        coroutine.send(None)
    except Exception as exc:
        assert "parent" in str(exc), exc
        print(type(exc).__name__)
    else:
        print("no error")
    new = threading.Thread(target=lambda: (uring_trio.run(echo), print("new ring")))
    new.start()
    new.join()

async def main():
    near, far = trio.socket.socketpair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(near.recv, 10)
        await trio.testing.wait_all_tasks_blocked()
        child = os.fork()
        if not child:
            try:
                in_child(uring_trio.perform(ops.nop()))
                in_child(far.recv(10))
                sys.stdout.flush()
            finally:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        for _ in range(3):
            await uring_trio.perform(ops.nop())
        await far.send(b"done")
    near.close()
    far.close()
    await echo()
    print("parent goes on")

uring_trio.run(main)
child = os.fork()
if not child:
    uring_trio.run(echo)
    print("child's own", flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


def test_a_forked_child_cannot_use_the_ring() -> None:
    """It gets an error that says why, and may open a ring of its own; the parent notices nothing."""
    done = python(FORK)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "RingClosed",
        "new ring",
        "RingClosed",
        "new ring",
        "parent goes on",
        "child's own",
    ]


UNWIND = """
import os, sys, trio, trio.testing, uring_trio

async def main():
    near, far = trio.socket.socketpair()
    with near, far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.recv, 10)
            await trio.testing.wait_all_tasks_blocked()
            if not os.fork():
                await trio.sleep(0)
            else:
                os.wait()
                await far.send(b"x")
    print("parent done")

try:
    uring_trio.run(main)
except BaseException as exc:
    print("child:", type(exc).__name__, exc)
"""


def test_a_child_that_goes_on_in_the_run_ends_with_the_reason() -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNWIND], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    child, parent = done.stdout.splitlines()
    assert child.startswith("child: RingClosed")
    assert "parent" in child
    assert parent == "parent done"
    assert "leaked" not in done.stderr
