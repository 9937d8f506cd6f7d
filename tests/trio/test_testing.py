"""``uring_trio.testing`` finds what a test of a ring program may leave behind, and nothing else."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import trio

import uring
import uring_trio
from tests.trio.helpers import tcp_sockets
from uring_trio.testing import (
    FAKE_FD,
    ScriptedRing,
    assert_no_leases,
    assert_nothing_in_flight,
    in_flight,
    leased,
    no_leaks,
    run_scripted,
)


async def test_names_what_is_in_flight() -> None:
    assert in_flight() == {}
    near, far = trio.socket.socketpair()
    with near, far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.recv, 10)
            nursery.start_soon(far.recv, 10)
            nursery.start_soon(trio.lowlevel.wait_writable, far)
            await trio.testing.wait_all_tasks_blocked()
            assert in_flight() == {"recv": 2}
            with pytest.raises(AssertionError, match="in flight: 2 x recv"):
                assert_nothing_in_flight()
            nursery.cancel_scope.cancel()
    assert_nothing_in_flight()


async def test_counts_subscriptions() -> None:
    async with trio.open_nursery() as nursery:
        listener = await nursery.start(uring_trio.listen_tcp, "127.0.0.1", 0)
        async with listener.connections() as connections:
            nursery.start_soon(connections.__anext__)
            await trio.testing.wait_all_tasks_blocked()
            assert sum(in_flight().values()) == 1
            nursery.cancel_scope.cancel()


def test_is_for_ring_runs() -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="needs a ring run"):
            assert_nothing_in_flight()

    trio.run(main)


def test_no_leaks_wants_a_ring_run() -> None:
    with pytest.raises(AssertionError, match=r"call uring_trio\.run"), no_leaks():
        trio.run(trio.sleep, 0)


def test_no_leaks_names_descriptors() -> None:
    ends: list[int] = []

    async def main() -> None:
        ends.extend(os.pipe())

    try:
        with pytest.raises(AssertionError, match=r"left open: \d+ \(pipe:.*, \d+ \(pipe:"), no_leaks():
            uring_trio.run(main)
    finally:
        for fd in ends:
            os.close(fd)


def test_no_leaks_accepts_what_is_clean() -> None:
    async def main() -> None:
        near, far = trio.socket.socketpair()
        with near, far:
            await near.send(b"x")
            assert await far.recv(1) == b"x"

    with no_leaks():
        uring_trio.run(main)


async def test_counts_leases() -> None:
    near, far = await tcp_sockets()
    with near, far:
        stream = uring_trio.UringStream(near)
        async with stream.chunks(copy=False) as chunks:
            await far.send(b"x")
            async for lease in chunks:
                assert leased() == 1
                with pytest.raises(AssertionError, match="1 receive buffers are on loan"):
                    assert_no_leases()
                lease.release()
                assert_no_leases()
                break


# ---- the scripted ring ---------------------------------------------------------------------------------


def test_the_examples_of_the_document_pass(tmp_path: Path) -> None:
    document = Path(__file__).parents[2] / "docs" / "howto" / "testing.md"
    examples = re.findall(r"^```python\n(.*?)^```$", document.read_text(), re.DOTALL | re.MULTILINE)
    (example,) = (text for text in examples if "run_scripted" in text)
    (tmp_path / "test_example.py").write_text(example)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "3 passed" in done.stdout, done.stdout + done.stderr


def test_a_result_beats_a_cancel_on_a_scripted_ring() -> None:
    ring = ScriptedRing()

    async def main() -> bytes:
        near, far = trio.socket.socketpair()
        with near, far, trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                async def script() -> None:
                    await trio.testing.wait_all_tasks_blocked()
                    request = ring.find(fd=near.fileno())
                    request.on_cancel = "running"
                    scope.cancel()
                    with trio.CancelScope(shield=True):
                        await trio.testing.wait_all_tasks_blocked()
                    assert request.interrupted == 1
                    ring.complete(request, data=b"in time")

                nursery.start_soon(script)
                return await near.recv(100)
        raise AssertionError

    assert run_scripted(ring, main) == b"in time"
    with pytest.raises(uring.RingClosed):
        run_scripted(ring, main)


def test_deadlines_pass_at_once_under_an_autojump_clock() -> None:
    ring = ScriptedRing()

    async def main() -> float:
        near, far = trio.socket.socketpair()
        with near, far, trio.move_on_after(1000):
            await near.recv(1)
        return trio.current_time()

    clock = trio.testing.MockClock(autojump_threshold=0)
    assert run_scripted(ring, main, clock=clock) == 1000


def test_what_is_left_on_a_scripted_ring_ends_with_the_run() -> None:
    ring = ScriptedRing()

    async def main() -> None:
        await uring_trio.perform(uring.ops.recv(FAKE_FD, bytearray(10)))

    async def failing() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(main)
            await trio.testing.wait_all_tasks_blocked()
            assert in_flight() == {"recv": 1}
            raise LookupError("of the test")

    with pytest.raises(ExceptionGroup) as caught:
        run_scripted(ring, failing)
    assert isinstance(caught.value.exceptions[0], LookupError)
    assert not ring.running
    assert ring.closed


def test_an_order_replays() -> None:
    """Tasks that are ready together run as the number has it, and afterwards as Trio likes."""

    def turns(order: int) -> list[int]:
        seen: list[int] = []

        async def task(number: int) -> None:
            for _ in range(5):
                seen.append(number)
                await trio.lowlevel.checkpoint()

        async def main() -> None:
            async with trio.open_nursery() as nursery:
                for number in range(5):
                    nursery.start_soon(task, number)

        run_scripted(ScriptedRing(), main, order=order)
        return seen

    deterministic = trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING
    assert all(turns(order) == turns(order) for order in range(10))
    assert len({tuple(turns(order)) for order in range(10)}) == 10
    assert trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING is deterministic
