"""Cancels on the running kernel: the result or the cancel, never both, and nothing is left behind.

The tests with a number are the races of the scripted ring with real sockets. The kernel decides which side
wins; either way nothing is lost and nobody waits for ever.
"""

from __future__ import annotations

import os
import select
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import (
    SMALL,
    fill_now,
    in_flight,
    many_files,
    raises_inside,
    statistics,
    streams,
    told,
    unix_sockets,
)
from uring import ops
from uring.abi import IORING_OP_MSG_RING, IOSQE_ASYNC
from uring.kernel.ring import KernelRing
from uring_trio import perform
from uring_trio.core.engine import current
from uring_trio.core.statistics import process_totals
from uring_trio.ipc.pipes import RingPipe

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@pytest.mark.parametrize("name", ["recv", "recv_into", "accept", "send"])
async def test_a_cancel_that_nobody_here_asked_for_is_not_handed_out(name: str) -> None:
    """As when another part of the program cancels by file: the wait begins again."""
    near, far = socket.socketpair()
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    if name == "send":
        fill_now(near)
    with trio.socket.from_stdlib_socket(listener if name == "accept" else near) as sock, near, far, listener:
        client = socket.socket()
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "recv": lambda: sock.recv(10),
            "recv_into": lambda: sock.recv_into(bytearray(10)),
            "accept": sock.accept,
            "send": lambda: sock.send(b"x"),
        }
        got: list[Any] = []
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def call() -> None:
                got.append(await calls[name]())

            for _ in range(3):
                await wait_all_tasks_blocked()
                assert await perform(ops.async_cancel_fd(sock.fileno(), every=True)) == 1
            await wait_all_tasks_blocked()
            assert not got
            far.send(b"x")
            client.connect(listener.getsockname())
            if name == "send":
                far.setblocking(False)
                with pytest.raises(BlockingIOError):
                    while True:
                        far.recv(1 << 20)
        client.close()
        if name == "accept":
            got[0][0].close()


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_pipe_waits_on_after_a_cancel_that_nobody_here_asked_for(streaming: bool) -> None:
    source, sink = os.pipe()
    got = []
    async with RingPipe(source) as reader, RingPipe(sink) as writer:
        if streaming:
            os.write(sink, bytes(32768))
            assert len(await reader.receive_some(65536)) == 32768
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def read() -> None:
                got.append(await reader.receive_some(65536))

            for _ in range(3):
                await wait_all_tasks_blocked()
                assert await perform(ops.async_cancel_fd(source, every=True)) == 1
            await wait_all_tasks_blocked()
            assert not got
            await writer.send_all(b"at last")
        assert got == [b"at last"]
        with pytest.raises(BlockingIOError):
            while True:
                os.write(sink, bytes(4096))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.send_all, b"more")
            for _ in range(3):
                await wait_all_tasks_blocked()
                assert await perform(ops.async_cancel_fd(sink, every=True)) == 1
            await wait_all_tasks_blocked()
            while not (await reader.receive_some(65536)).endswith(b"more"):
                pass


async def test_each_close_cancels_what_waits_on_that_descriptor_alone() -> None:
    number = 500
    with many_files(2 * number + 300):
        pairs = [trio.socket.socketpair() for _ in range(number)]
        async with trio.open_nursery() as nursery:
            for near, _ in pairs:
                nursery.start_soon(told, near.recv, 10)
            await wait_all_tasks_blocked()
            before = statistics()
            for near, far in pairs:
                near.close()
                assert seen_end(far)
        after = statistics()
        assert after.cancels_requested - before.cancels_requested == number
        await wait_all_tasks_blocked()
        assert statistics().cancels_won - before.cancels_won == number
        for _, far in pairs:
            far.close()


def seen_end(sock: Any) -> bool:
    with socket.socket(fileno=os.dup(sock.fileno())) as plain:
        return plain.recv(1) == b""


MSG_RING = int(IORING_OP_MSG_RING)


async def cancelled_as(data: Any, fn: Any, *args: Any) -> Any:
    """Parks the call, then lets data arrive and the cancel be asked for in the same tick; None: cancelled."""
    result = None
    async with trio.open_nursery() as nursery:
        scope = trio.CancelScope()

        async def call() -> None:
            nonlocal result
            with scope:
                result = await fn(*args)

        nursery.start_soon(call)
        await wait_all_tasks_blocked()
        data()
        scope.cancel()
    return result


async def test_race_01_and_02_data_and_cancel_in_one_tick() -> None:
    near, far = await unix_sockets()
    with near, far:
        for number in range(50):
            sent = bytes([number]) * 3
            got = await cancelled_as(lambda sent=sent: far._sock.send(sent), near.recv, 10)
            # Delivered, or still in the socket.
            assert (got if got is not None else await near.recv(10)) == sent


async def test_race_02_performed_receive() -> None:
    near, far = await unix_sockets()
    with near, far:
        for number in range(50):
            memory = bytearray(10)
            got = await cancelled_as(
                lambda number=number: far._sock.send(bytes([number])),
                perform,
                ops.recv(near.fileno(), memory),
            )
            assert (memory[0] if got is not None else (await near.recv(10))[0]) == number


async def test_race_03_cancelled_accept_succeeded() -> None:
    with trio.socket.socket() as listener:
        await listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        for _ in range(20):
            with socket.socket() as client:
                got = await cancelled_as(
                    lambda client=client: client.connect(listener.getsockname()), listener.accept
                )
                accepted, address = got if got is not None else await listener.accept()
                assert address == client.getsockname()
                accepted.close()


async def test_race_04_cancelled_receives_give_their_buffers_back() -> None:
    near, far = await unix_sockets()
    with near, far:
        for _ in range(2 * current().buffers.count):
            await cancelled_as(lambda: far._sock.send(b"x"), near.recv, 10)
            near._sock.recv(10, socket.MSG_DONTWAIT) if readable(near) else None

    # That every buffer is back is checked after each test.


def test_race_05_many_cancels_on_a_tiny_queue() -> None:
    async def main() -> None:
        pairs = [trio.socket.socketpair() for _ in range(20)]
        async with trio.open_nursery() as nursery:
            for left, _ in pairs:
                nursery.start_soon(left.recv_into, bytearray(10))
                nursery.start_soon(perform, ops.recv(left.fileno(), bytearray(10)))
            await wait_all_tasks_blocked()
            assert in_flight() == {"recv": 20, "recv_into": 20}
            nursery.cancel_scope.cancel()
        assert not in_flight()
        for pair in pairs:
            for sock in pair:
                sock.close()

    uring_trio.run(main, ring=SMALL)


def test_race_06_main_ends_as_the_cancels_are_sent() -> None:
    managers = []

    async def main() -> None:
        managers.append(current())
        left, right = socket.socketpair()
        with left, right, trio.move_on_after(0):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(perform, ops.recv(left.fileno(), bytearray(10)))
                nursery.start_soon(trio.sleep_forever)

    uring_trio.run(main)
    assert managers[0].ring.closed


async def test_race_14_received_again_at_once_after_a_cancel() -> None:
    near, far = await unix_sockets()
    with near, far:
        for _ in range(50):
            with trio.CancelScope() as scope:
                trio.lowlevel.current_trio_token().run_sync_soon(scope.cancel)
                await near.recv(10)
            far._sock.send(b"x")
            assert await near.recv(10) == b"x"


async def test_race_15_cancel_twice_and_cancel_after_completion() -> None:
    near, far = await unix_sockets()
    with near, far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.recv, 10)
            await wait_all_tasks_blocked()
            op = current().owners[near.fileno()].reader
            assert op is not None
            nursery.cancel_scope.cancel()
            current().cancels.cancel(op)
            current().cancels.cancel(op)
        current().cancels.cancel(op)
        far._sock.send(b"x")
        assert await near.recv(10) == b"x"


async def test_race_33_nothing_runs_in_a_scope_already_cancelled(tmp_path: Any) -> None:
    near, far = await unix_sockets()
    path = tmp_path / "kept"
    path.write_text("kept")
    with near, far:
        await near.send(b"x")
        await trio.lowlevel.checkpoint()
        submitted = statistics().submitted
        calls: list[Any] = [
            lambda: perform(ops.unlinkat(str(path))),
            lambda: far.recv(10),
            lambda: far.recv_into(bytearray(10)),
            lambda: far.send(b"x"),
            lambda: perform(ops.recv(far.fileno(), bytearray(10))),
        ]
        for call in calls:
            with trio.CancelScope() as scope:
                scope.cancel()
                await call()
            assert scope.cancelled_caught
        assert statistics().submitted == submitted
        assert path.read_text() == "kept"
        assert await far.recv(10) == b"x"
        assert not readable(near)


async def test_a_time_limit_reaches_what_a_kernel_worker_runs(tmp_path: Any) -> None:
    """A connect that waits for room in a Unix listener's backlog comes back interrupted, not cancelled."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as filler:
        listener.bind(path)
        listener.listen(0)
        filler.connect(path)
        with socket.socket(socket.AF_UNIX) as client:
            with pytest.raises(trio.TooSlowError):
                await perform(ops.connect(client.fileno(), socket.AF_UNIX, path), timeout=0.02)


def test_race_07_a_completion_of_a_former_use_is_dropped() -> None:
    """Another ring posts what a late completion would be."""
    other = KernelRing(4, 0)

    async def main() -> None:
        manager = current()
        near, far = await unix_sockets()
        with near, far:
            for number in range(50):
                far._sock.send(b"x")
                assert await near.recv(10) == b"x"
                op = manager.acquire("former", -1)
                old = op.user_data
                manager.release(op)
                other.put(1, MSG_RING, 0, manager.ring.fd, old, 0, 99, 0, 0, 0, 0)
                assert other.cycle(5) == 1
                assert await perform(ops.nop()) == 0
                while statistics().late <= number:
                    await trio.lowlevel.checkpoint()

    try:
        uring_trio.run(main)
    finally:
        other.close()


async def test_race_09_cancelled_again_while_a_subscription_is_drained() -> None:
    near, far = await streams()
    async with near, far:
        for number in range(50):
            async with trio.open_nursery() as nursery:

                async def iterate() -> None:
                    async with far.chunks() as chunks:
                        async for _ in chunks:
                            pytest.fail("nothing was sent")

                nursery.start_soon(iterate)
                await wait_all_tasks_blocked()
                trio.lowlevel.current_trio_token().run_sync_soon(nursery.cancel_scope.cancel)
                nursery.cancel_scope.cancel()
            await near.send_all(b"%d" % number)
            assert await far.receive_some() == b"%d" % number


def test_race_10_the_run_ends_while_kernel_workers_write(tmp_path: Any) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(8 << 20))
    managers = []

    async def main() -> None:
        managers.append(current())
        fd = os.open(path, os.O_RDONLY)
        try:
            async with trio.open_nursery() as nursery:
                for part in range(8):
                    op = ops.read(fd, bytearray(1 << 20), offset=part << 20).with_flags(IOSQE_ASYNC)
                    nursery.start_soon(perform, op)
                await trio.lowlevel.checkpoint()
                raise KeyError
        finally:
            os.close(fd)

    before = process_totals()["leaked"]
    for _ in range(10):
        with raises_inside(KeyError):
            uring_trio.run(main)
    assert all(manager.ring.closed for manager in managers)
    assert process_totals()["leaked"] == before


def readable(sock: Any) -> bool:
    return bool(select.select([sock.fileno()], [], [], 0)[0])
