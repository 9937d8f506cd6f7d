"""Runs that end badly: crashes, operations that do not end, and forks."""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import backend, echo, python
from uring import abi
from uring_trio import RingOptions
from uring_trio.core import draining, engine
from uring_trio.core.statistics import process_totals, totals

# ---- ends that went wrong ---------------------------------------------------------------------------------


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
    monkeypatch.setattr(draining, "DRAIN_SECONDS", 0.05)
    before = process_totals()
    with pytest.warns(ResourceWarning, match="operations did not end within"):
        uring_trio.run(backend)
    assert process_totals()["leaked"] > before["leaked"]
    [(ring, _, buffers, _)] = draining._leaked
    assert ring is opened[0]
    assert not ring.closed
    # A kernel that let go after all, so that this process goes on as before.
    draining._leaked.clear()
    buffers.close()
    ring.close()
    with totals.lock:
        totals.leaked = before["leaked"]


# ---- forks ------------------------------------------------------------------------------------------------

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
        [sys.executable, "-c", UNWIND], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    child, parent = done.stdout.splitlines()
    assert child.startswith("child: RingClosed")
    assert "parent" in child
    assert parent == "parent done"
    assert "leaked" not in done.stderr
