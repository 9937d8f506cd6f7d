"""Child processes on the ring: their pipes, waiting for them, cancelling."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from functools import partial

import anyio
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import in_flight, statistics
from uring_trio import wait_process
from uring_trio.ipc.pipes import RingPipe


async def test_wait_process() -> None:
    child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    seen = await wait_process(child.pid, reap=False)
    assert (seen.si_pid, seen.si_status) == (child.pid, 7)
    pidfd = os.pidfd_open(child.pid)
    try:
        assert (await wait_process(pidfd=pidfd)).si_status == 7
    finally:
        os.close(pidfd)
    with pytest.raises(ChildProcessError):
        await wait_process(child.pid)
    child.returncode = 7
    with pytest.raises(TypeError):
        await wait_process()


async def test_cancelled_wait_reaps_nothing() -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        with trio.move_on_after(0.05) as scope:
            await wait_process(child.pid)
        assert scope.cancelled_caught
        child.kill()
        assert child.wait() == -9


async def test_wait_process_tells_of_signals() -> None:
    for number, core in ((signal.SIGTERM, os.CLD_KILLED), (signal.SIGKILL, os.CLD_KILLED)):
        child = subprocess.Popen(["sleep", "60"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child_ends, child, number)
            seen = await wait_process(child.pid)
        assert (seen.si_pid, seen.si_status, seen.si_code) == (child.pid, number, core)
        child.returncode = -number


async def child_ends(child: subprocess.Popen[bytes], number: int) -> None:
    await trio.testing.wait_all_tasks_blocked()
    child.send_signal(number)


async def test_run_process_with_pipes() -> None:
    data = os.urandom(3_000_000)
    done = await trio.run_process(["cat"], stdin=data, capture_stdout=True)
    assert done.stdout == data


async def test_many_short_children() -> None:
    codes: list[int] = []

    async def one(code: int) -> None:
        codes.append((await trio.run_process(["sh", "-c", f"exit {code}"], check=False)).returncode)

    async with trio.open_nursery() as nursery:
        for code in range(40):
            nursery.start_soon(one, code)
    assert sorted(codes) == list(range(40))


MIB = 1 << 20


async def test_large_data_through_a_child() -> None:
    data = bytes(range(256)) * (100 * MIB // 256)
    before = statistics().submitted
    done = await trio.run_process(["cat"], stdin=data, capture_stdout=True)
    assert done.stdout == data
    assert statistics().submitted - before > 100


async def test_talks_with_a_child() -> None:
    process = await trio.lowlevel.open_process(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert type(process.stdin) is type(process.stdout) is RingPipe
    assert process.stdio is not None
    async with process.stdio as stdio:
        for i in range(200):
            await stdio.send_all(b"%d" % i)
            assert await stdio.receive_some() == b"%d" % i
        await stdio.send_eof()
        assert await stdio.receive_some() == b""
    assert await process.wait() == 0


async def test_through_anyio() -> None:
    done = await anyio.run_process(["cat"], input=b"x" * MIB)
    assert done.stdout == b"x" * MIB
    async with await anyio.open_process(["cat"]) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdin.send(b"some")
        assert await process.stdout.receive() == b"some"
        await process.stdin.aclose()
        with pytest.raises(anyio.EndOfStream):
            await process.stdout.receive()


async def test_both_outputs() -> None:
    done = await trio.run_process(
        ["sh", "-c", "echo out; echo err >&2; exit 3"], capture_stdout=True, capture_stderr=True, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 3)


async def test_signals() -> None:
    process = await trio.lowlevel.open_process(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    async with process.stdin, process.stdout, trio.open_nursery() as nursery:
        nursery.start_soon(process.wait)
        await wait_all_tasks_blocked()
        process.send_signal(signal.SIGSTOP)
        with trio.move_on_after(0.05) as scope:
            await process.wait()
        assert scope.cancelled_caught, "a child that was stopped has not ended"
        process.send_signal(signal.SIGCONT)
        process.terminate()
    assert process.returncode == -signal.SIGTERM


async def test_a_cancelled_child_is_ended_and_reaped() -> None:
    async with trio.open_nursery() as nursery:
        process = await nursery.start(partial(trio.run_process, ["sleep", "60"]))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert process.returncode == -signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


async def test_a_child_that_does_not_read() -> None:
    # Writing to one that has gone is no error in run_process.
    done = await trio.run_process(["true"], stdin=bytes(MIB), capture_stdout=True)
    assert done.returncode == 0


async def test_a_child_that_cannot_be_started() -> None:
    for wrong, kind in ((["/nowhere/program"], FileNotFoundError), (["/"], PermissionError)):
        with pytest.raises(kind):
            await trio.run_process(wrong, stdin=b"x", capture_stdout=True)


def test_no_zombie_and_no_thread_is_left() -> None:
    """Thousands of short children, some at a time; starting one is all that a thread is asked for."""
    children = 2000

    async def main() -> list[bytes]:
        limit = trio.CapacityLimiter(8)
        outputs: list[bytes] = []
        most = 0

        async def one(number: int) -> None:
            nonlocal most
            async with limit:
                done = await trio.run_process(
                    ["/bin/echo", str(number)], stdin=b"unread", capture_stdout=True
                )
                outputs.append(done.stdout)
                most = max(most, threading.active_count())

        async with trio.open_nursery() as nursery:
            for number in range(children):
                nursery.start_soon(one, number)
        assert most <= before + 8
        return outputs

    before = threading.active_count()
    outputs = uring_trio.run(main)
    assert sorted(map(int, outputs)) == list(range(children))
    with pytest.raises(ChildProcessError):  # there is no child, dead or alive
        os.waitpid(-1, os.WNOHANG)


async def test_waiting_for_children_needs_no_thread() -> None:
    processes = [await trio.lowlevel.open_process(["cat"], stdin=subprocess.PIPE) for _ in range(20)]
    before = set(threading.enumerate())
    async with trio.open_nursery() as nursery:
        for process in processes:
            nursery.start_soon(process.wait)
        await wait_all_tasks_blocked()
        assert in_flight() == {"wait_readable": 20}
        assert not set(threading.enumerate()) - before
        for process in processes:
            assert process.stdin is not None
            await process.stdin.aclose()
    assert all(process.returncode == 0 for process in processes)


async def test_no_descriptor_left_over_is_inherited() -> None:
    done = await trio.run_process(
        [sys.executable, "-c", "import os; print(sorted(map(int, os.listdir('/proc/self/fd')))[:-1])"],
        stdin=b"",
        capture_stdout=True,
    )
    assert done.stdout == b"[0, 1, 2]\n"
