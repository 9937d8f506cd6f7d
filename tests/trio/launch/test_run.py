"""Starting a run, guests, and what a run refuses."""

from __future__ import annotations

import asyncio
import importlib
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import Host, echo, in_flight, python, statistics
from uring import ops
from uring.errors import unavailable_from_errno
from uring_trio import RingOptions, RingUnavailable
from uring_trio.core import engine, opening
from uring_trio.core.statistics import process_totals

if TYPE_CHECKING:
    from collections.abc import Iterator

run_module = importlib.import_module("uring_trio.launch.run")

REFUSE = Path(__file__).parents[2] / "refuse.py"


@pytest.fixture
def uninstalled() -> Iterator[None]:
    yield
    uring_trio.uninstall()


@pytest.fixture
def no_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise unavailable_from_errno(1)

    monkeypatch.setattr(opening, "KernelRing", refuse)
    monkeypatch.setattr(run_module, "_warned", False)


# ---- starting ---------------------------------------------------------------------------------------------


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
    assert uring_trio.run(entries) == 16
    assert uring_trio.run(entries, ring=RingOptions(entries=8)) == 8

    async def uninstall() -> str:
        uring_trio.uninstall()
        return await echo()

    assert trio.run(uninstall) == "io_uring"
    assert trio.run(echo) == "epoll"
    assert uring_trio.run(entries) == RingOptions().entries
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


# ---- guests -----------------------------------------------------------------------------------------------


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


# ---- refusals ---------------------------------------------------------------------------------------------


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
        ({"spin_us": -1}, ValueError),
        ({"spin_us": 10_001}, ValueError),
        ({"spin_us": 0.5}, TypeError),
        ({"napi_us": -1}, ValueError),
        ({"napi_us": 1 << 32}, ValueError),
        ({"napi_us": True}, TypeError),
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
    with pytest.raises(TypeError, match=r"not 'rb': pass os\.O_RDONLY"):
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
