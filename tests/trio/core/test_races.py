"""The races of the scripted ring, where they can be had on the running kernel with real sockets.

Their names are those of the scripted ones. Which side wins is the kernel's affair here; what must hold
either way is that nothing is lost, nobody waits for ever and nothing is left behind. An enter that fails or
submits less than was queued (rows 8 and 23), and completions that come exactly while others are handed out
(row 26), cannot be had from the kernel at will: the scripted ring has them in every order.
"""

from __future__ import annotations

import errno
import os
import random
import select
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import Host, fill, in_flight, raises_inside, reset, statistics, streams, unix_sockets
from uring import ops
from uring.abi import IORING_ENTER_NO_IOWAIT, IORING_OP_MSG_RING, IOSQE_ASYNC
from uring.kernel.ring import KernelRing
from uring_trio import perform
from uring_trio.core.engine import current
from uring_trio.core.statistics import process_totals

if TYPE_CHECKING:
    from pathlib import Path

MSG_RING = int(IORING_OP_MSG_RING)
SMALL = uring_trio.RingOptions(entries=2, cq_entries=2, buffers=2, buffer_size=64)


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


async def test_race_11_close_ends_what_is_pending() -> None:
    near, far = await unix_sockets()
    ended = []

    async def end(fn: Any, *args: Any) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await fn(*args)
        ended.append(fn)

    await fill(near)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end, near.recv, 10)
        nursery.start_soon(end, near.send, b"x")
        await wait_all_tasks_blocked()
        near.close()
    assert len(ended) == 2
    far.close()


async def test_race_11_a_socket_used_again_after_notify_closing() -> None:
    near, far = await unix_sockets()
    for end in (trio.lowlevel.notify_closing, lambda sock: sock.close()):
        async with trio.open_nursery() as nursery:

            async def receive() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await near.recv(10)

            nursery.start_soon(receive)
            await wait_all_tasks_blocked()
            end(near)
    far.close()


async def test_race_12_the_number_goes_to_another_file_in_the_tick_of_the_close() -> None:
    for _ in range(20):
        near, far = await unix_sockets()
        number = near.fileno()
        async with trio.open_nursery() as nursery:

            async def receive(near: Any = near) -> None:
                with pytest.raises((trio.ClosedResourceError, OSError)):
                    await near.recv(10)

            nursery.start_soon(receive)
            await trio.lowlevel.checkpoint()
            near.close()
            left, right = trio.socket.socketpair()
            assert number in (left.fileno(), right.fileno())
            left._sock.send(b"mine")
            assert await right.recv(10) == b"mine"
            right._sock.send(b"yours")
            assert await left.recv(10) == b"yours"
        for sock in (far, left, right):
            sock.close()


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
            assert statistics().enters == enters, "a tick with nothing to do made a system call"
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


async def test_race_31_each_connection_has_its_own_address() -> None:
    async with trio.open_nursery() as nursery:
        listener = await nursery.start(uring_trio.listen_tcp, "127.0.0.1", 0)
        clients = [socket.socket() for _ in range(10)]
        async with listener.connections() as incoming:
            for client in clients:
                client.connect(listener.address)
            streams = [await anext(incoming) for _ in clients]
        peers = {stream.socket.getpeername() for stream in streams}
        assert peers == {client.getsockname() for client in clients}
        for stream in streams:
            await stream.aclose()
        for client in clients:
            client.close()
        nursery.cancel_scope.cancel()


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


async def test_race_34_closed_in_the_tick_its_operation_was_queued() -> None:
    near, far = await unix_sockets()
    listener = trio.socket.socket()
    await listener.bind(("127.0.0.1", 0))
    listener.listen(5)
    address = listener.getsockname()
    started = []

    async def pend(fn: Any, *args: Any) -> None:
        started.append(fn)
        with pytest.raises((trio.ClosedResourceError, OSError)):
            await fn(*args)

    async def close() -> None:
        while len(started) < 2:
            await trio.lowlevel.checkpoint()
        near.close()
        listener.close()
        # In the same step.
        assert far._sock.recv(10, socket.MSG_DONTWAIT) == b""
        again = socket.socket()
        again.bind(address)
        again.listen(1)
        again.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pend, near.recv, 10)
        nursery.start_soon(pend, listener.accept)
        nursery.start_soon(close)
    far.close()


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


def test_race_13_a_multishot_that_an_overflow_ended_goes_on() -> None:
    async def main() -> None:
        near, far = await streams("unix")
        async with near, far:
            data = random.Random(13).randbytes(20_000)
            received = bytearray()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(near.send_all, data)
                async with far.chunks(chunk_size=16, buffers=500) as chunks:
                    while len(received) < len(data):
                        received += await anext(chunks)
            assert received == data
            assert statistics().overflows > 0

    uring_trio.run(main, ring=SMALL)


async def test_race_16_zero_copy_to_a_peer_that_is_gone() -> None:
    for _ in range(20):
        near, far = await streams()
        async with near:
            memory = bytearray(1 << 20)
            reset(far.socket)
            with pytest.raises(trio.BrokenResourceError):
                for _ in range(100):
                    await near.send_zero_copy(memory)
            memory.append(0)  # nothing holds it any more


async def test_race_17_rearmed_when_a_buffer_returns() -> None:
    near, far = await streams("unix")
    async with near, far, far.chunks(copy=False, chunk_size=16, buffers=1) as chunks:
        for number in range(50):
            await near.send_all(b"%02d" % number)
            lease = await anext(chunks)
            assert bytes(lease) == b"%02d" % number
            await near.send_all(b"next")
            with trio.CancelScope() as scope:
                trio.lowlevel.current_trio_token().run_sync_soon(scope.cancel)
                await anext(chunks)
            assert scope.cancelled_caught, "there was no buffer"
            submitted = statistics().submitted
            for _ in range(20):
                await trio.lowlevel.checkpoint()
            assert statistics().submitted == submitted, "armed again with no buffer for what it brings"
            lease.release()
            with await anext(chunks) as lease:
                assert bytes(lease) == b"next"


async def test_race_18_one_multishot_cannot_take_every_buffer() -> None:
    greedy, to_greedy = await streams("unix")
    other, to_other = await streams("tcp")
    async with greedy, to_greedy, other, to_other:
        async with greedy.chunks(copy=False, chunk_size=16, buffers=4) as chunks, other.chunks() as others:
            await to_greedy.send_all(bytes(1000))
            kept = [await anext(chunks) for _ in range(4)]
            for number in range(50):
                await to_other.send_all(b"%d" % number)
                assert await anext(others) == b"%d" % number
                await greedy.send_all(b"%d" % number)
                assert await to_greedy.receive_some() == b"%d" % number
            for lease in kept:
                lease.release()


@pytest.mark.parametrize("bundle", [False, True])
@pytest.mark.parametrize("seed", range(5))
async def test_race_19_buffers_that_come_home_out_of_turn(bundle: bool, seed: int) -> None:
    chance = random.Random(seed)
    data = chance.randbytes(30_000)
    near, far = await streams("unix")
    received = bytearray()
    kept: list[Any] = []
    async with near, far, trio.open_nursery() as nursery:

        async def send() -> None:
            at = 0
            while at < len(data):
                size = chance.randrange(1, 100)
                await near.send_all(data[at : at + size])
                at += size
                for _ in range(chance.randrange(3)):
                    await trio.lowlevel.checkpoint()

        nursery.start_soon(send)
        async with far.chunks(copy=False, bundle=bundle, chunk_size=16, buffers=7) as chunks:
            while len(received) < len(data):
                lease = await anext(chunks)
                received += lease.data
                kept.append((lease, bytes(lease)))
                while len(kept) == 7 or (kept and chance.random() < 0.7):
                    lease, content = kept.pop(chance.randrange(len(kept)))
                    assert bytes(lease) == content, "the kernel wrote into memory that is on loan"
                    lease.release()
        for lease, _ in kept:
            lease.release()
    assert received == data


def test_race_21_a_foreign_thread_cannot_enter_and_need_not() -> None:
    async def main() -> None:
        ring = current().ring
        answers = []
        thread = threading.Thread(target=lambda: answers.append(ring.cycle(0.01)))
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

    async def main() -> None:
        with trio.CancelScope(deadline=trio.current_time() + 0.05) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(perform, ops.openat(tmp_path / "fifo").with_flags(IOSQE_ASYNC))
                while "openat" not in statistics().in_flight:
                    await trio.lowlevel.checkpoint()
                scope.deadline += 1000
                timer = threading.Timer(0.1, lambda: host.todo.put(scope.cancel))
                timer.start()
        assert scope.cancelled_caught
        timer.join()

    host.run(main)


def readable(sock: Any) -> bool:
    return bool(select.select([sock.fileno()], [], [], 0)[0])


def test_race_24_fork_is_told_from_the_parent() -> None:
    async def main() -> None:
        manager = current()
        pid = os.fork()
        if pid == 0:
            os._exit(0 if manager.ring.put(1, *ops.nop().fields) == -errno.EBADF else 1)
        assert os.waitpid(pid, 0)[1] == 0
        assert await perform(ops.nop()) == 0

    uring_trio.run(main)
