"""Runs that look for completions before they sleep, and runs that poll network devices."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any, Literal

import pytest
import trio

import uring_trio
from tests.trio.helpers import Host, echo, python
from uring import abi
from uring.abi.layouts import NAPI
from uring.kernel.memory import zeroed
from uring_trio import RingOptions
from uring_trio.core.engine import current

LONGEST = 10_000
REFUSE = Path(__file__).parents[2] / "refuse.py"


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("microseconds", [1, LONGEST])
def test_messages_go_back_and_forth(compiled: bool, microseconds: int) -> None:
    async def ping(sock: Any) -> int:
        got = b""
        with sock:
            for n in range(20):
                await sock.send(b"%4d" % n)
                got += await sock.recv(10)
        return len(got)

    async def pong(sock: Any) -> None:
        with sock:
            while data := await sock.recv(10):
                await trio.sleep(0)
                await sock.send(data)

    async def main() -> list[int]:
        lengths = []
        async with trio.open_nursery() as nursery:

            async def one() -> None:
                near, far = trio.socket.socketpair()
                nursery.start_soon(pong, far)
                lengths.append(await ping(near))

            for _ in range(3):
                nursery.start_soon(one)
        return lengths

    options = RingOptions(spin_us=microseconds, compiled=compiled, restrictions=("nop",))
    assert uring_trio.run(main, ring=options) == [80] * 3


@pytest.mark.parametrize("deadlines", ["cancel", "link", "auto"])
def test_deadlines_end_the_looking(deadlines: Literal["cancel", "link", "auto"]) -> None:
    async def main() -> list[bool]:
        caught = []
        near, far = trio.socket.socketpair()
        with near, far:
            for seconds in (0.0, 0.0001, 0.001, 0.012):
                with trio.move_on_after(seconds) as scope:
                    await near.recv(1)
                caught.append(scope.cancelled_caught)
                before = trio.current_time()
                await trio.sleep(seconds)
                assert trio.current_time() >= before + seconds
        return caught

    assert uring_trio.run(main, ring=RingOptions(spin_us=LONGEST, deadlines=deadlines)) == [True] * 4


def test_threads_and_signals_wake_a_run_that_looks() -> None:
    async def main() -> None:
        assert await trio.to_thread.run_sync(threading.get_ident) != threading.get_ident()
        token = trio.lowlevel.current_trio_token()

        def interrupt() -> None:
            trio.from_thread.run_sync(lambda: None, trio_token=token)
            os.kill(os.getpid(), signal.SIGINT)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, interrupt)
            await trio.sleep_forever()

    with pytest.raises(BaseExceptionGroup) as caught:
        uring_trio.run(main, ring=RingOptions(spin_us=LONGEST))
    assert caught.value.split(KeyboardInterrupt)[1] is None


def test_a_guest_run_waits_in_its_hosts_thread() -> None:
    assert Host().run(echo, ring=RingOptions(spin_us=LONGEST)) == "io_uring"


@pytest.mark.parametrize("restrictions", [None, ("nop",)])
def test_the_kernel_polls_devices_for_as_long_as_the_option_says(
    restrictions: tuple[str, ...] | None,
) -> None:
    async def main() -> int:
        assert await echo() == "io_uring"
        if restrictions is not None:
            return 70  # no more registrations
        memory = zeroed(NAPI.size)
        current().ring.register(int(abi.IORING_UNREGISTER_NAPI), memory.address, 1, "unregister NAPI")  # type: ignore[attr-defined]
        return int(NAPI.unpack(memory.view)[0])

    assert uring_trio.run(main, ring=RingOptions(napi_us=70, restrictions=restrictions)) == 70


def test_a_kernel_that_polls_no_devices() -> None:
    program = """
import uring_trio
async def main(): ...
uring_trio.run(main)
try:
    uring_trio.run(main, ring=uring_trio.RingOptions(napi_us=50))
except uring_trio.RingUnavailable as exc:
    print(exc.errno, exc)
"""
    refused = f"[[427, {int(abi.IORING_REGISTER_NAPI)}, 22]]"
    done = python(program, str(REFUSE), refused)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("22 ")
    assert "RingOptions(napi_us=50) was refused" in done.stdout
