"""Direct descriptors: listeners in slots of the ring's table, streams over other slots."""

from __future__ import annotations

import errno
import os
import resource
import socket
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import check_half_closeable_stream, wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import can_bind, statistics
from uring import ops
from uring_trio import DirectListener, DirectStream, RingOptions, UringStream, perform
from uring_trio.core.engine import current
from uring_trio.net.direct_listener import open_direct_listener
from uring_trio.net.slots import Slots

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

HOST = "127.0.0.1"
OPTION = socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
LINGER_ZERO = b"\1\0\0\0\0\0\0\0"


@asynccontextmanager
async def listening() -> AsyncGenerator[DirectListener, None]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start(partial(uring_trio.listen_tcp, HOST, 0, direct=True))
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def pair() -> AsyncGenerator[tuple[UringStream, DirectStream], None]:
    """An ordinary stream and the direct one at its other end."""
    async with listening() as listener:
        near = await uring_trio.open_tcp_stream(*listener.address)
        far = await listener.accept()
        async with near, far:
            yield near, far


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def slots_taken(most: int = 64) -> Any:
    """How many slots from the first one on have a file, which this empties."""

    async def count() -> int:
        taken = 0
        for slot in range(most):
            try:
                await perform(ops.close_direct(slot))
            except OSError as exc:
                assert exc.errno == errno.EBADF
            else:
                taken += 1
        return taken

    return count()


async def test_an_entry_for_each_step_sets_a_listener_up() -> None:
    async with listening():
        pass
    await wait_all_tasks_blocked()
    files = open_files()
    before = statistics()
    listener = await open_direct_listener(socket.AF_INET, (HOST, 0), 5, [OPTION, OPTION])
    after = statistics()
    assert after.submitted - before.submitted == 6, "socket, two options, bind, listen, install"
    async with listener:
        assert open_files() == files
        host, port = listener.address
        assert host == HOST
        with socket.create_connection((HOST, port)):
            pass
        assert not can_bind((HOST, port))
    assert can_bind((HOST, port))
    assert await slots_taken() == 0


async def test_connections_take_no_descriptors() -> None:
    async with listening() as listener, listener.connections() as incoming:
        with socket.create_connection(listener.address) as first, socket.create_connection(listener.address):
            files = open_files()
            async with await anext(incoming) as one, await anext(incoming) as two:
                assert open_files() == files
                assert {one.slot, two.slot} == {16, 17}
                first.send(b"hello")
                assert await one.receive_some() == b"hello"
                await one.send_all(b"answer")
                assert first.recv(100) == b"answer"
            assert (one.slot, two.slot) == (-1, -1)
            assert first.recv(100) == b""
    assert await slots_taken() == 0


async def test_is_a_half_closeable_stream_of_trio_s() -> None:
    async with listening() as listener:

        async def make() -> tuple[Any, Any]:
            return await uring_trio.open_tcp_stream(*listener.address), await listener.accept()

        await check_half_closeable_stream(make, None)

        async def turned() -> tuple[Any, Any]:
            near, far = await make()
            return far, near

        await check_half_closeable_stream(turned, None)


@pytest.mark.parametrize("copy", [True, False], ids=["bytes", "leases"])
async def test_chunks(copy: bool) -> None:
    async with pair() as (near, far):
        data = os.urandom(1_000_000)
        received = bytearray()
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                await near.send_all(data)
                await near.send_eof()

            nursery.start_soon(send)
            async with far.chunks(copy=copy, chunk_size=4096) as chunks:
                with pytest.raises(trio.BusyResourceError):
                    await far.receive_some()
                async for chunk in chunks:
                    received += bytes(chunk)
                    if not copy:
                        chunk.release()
        assert received == data


async def test_what_a_left_block_received_comes_next() -> None:
    async with pair() as (near, far):
        async with far.chunks(chunk_size=3) as chunks:
            await near.send_all(b"abcdefghi")
            assert await anext(chunks) == b"abc"
        rest = b""
        while len(rest) < 6:
            rest += await far.receive_some(4)
        assert rest == b"defghi"


async def test_large_sends_and_receives_into_memory() -> None:
    async with pair() as (near, far):
        data = os.urandom(5_000_000)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(far.send_all, data)
            received = bytearray()
            while len(received) < len(data):
                received += await near.receive_some()
        assert received == data
        memory = bytearray(10)
        await near.send_all(b"xyz")
        assert await far.receive_into(memory) == 3
        assert memory[:3] == b"xyz"


async def test_a_cancelled_receive_loses_nothing() -> None:
    async with pair() as (near, far):
        for _ in range(20):
            with trio.CancelScope() as scope:
                trio.lowlevel.current_trio_token().run_sync_soon(scope.cancel)
                await far.receive_some()
            await near.send_all(b"x")
            assert await far.receive_some() == b"x"


async def test_time_limits() -> None:
    async with pair() as (near, far):
        with pytest.raises(trio.TooSlowError):
            await far.receive_some(timeout=0.01)
        with pytest.raises(trio.TooSlowError):
            await far.receive_into(bytearray(5), timeout=0.01)
        with pytest.raises(trio.TooSlowError):
            await far.send_all(bytes(1 << 24), timeout=0.02)
        with pytest.raises(ValueError, match="timeout"):
            await far.receive_some(timeout=-1)
        await near.send_all(b"late")
        assert await far.receive_some() == b"late"


async def test_sizes_that_are_none() -> None:
    async with pair() as (_, far):
        await wait_all_tasks_blocked()
        before = statistics().submitted
        with pytest.raises(ValueError, match="max_bytes"):
            await far.receive_some(0)
        for sizes in ({"chunk_size": 0}, {"buffers": 0}, {"chunk_size": 1 << 29, "buffers": 1000}):
            with pytest.raises(ValueError, match=r"chunk size|number of buffers|group_memory"):
                async with far.chunks(**sizes):
                    pass
        with pytest.raises(RuntimeError, match="enter it first"):
            await anext(far.chunks())
        assert statistics().submitted == before


async def fill(stream: DirectStream) -> None:
    """Sends until the kernel reports no more room."""
    room = True

    async def look() -> None:
        nonlocal room
        await stream.wait_send_all_might_not_block()
        room = True

    while room:
        room = False
        for work in (partial(stream.send_all, bytes(1 << 24)), look):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(work)
                await wait_all_tasks_blocked(0.01)
                nursery.cancel_scope.cancel()


@pytest.mark.parametrize("what", ["receive", "send", "chunks", "poll"])
async def test_closing_wakes_who_waits(what: str) -> None:
    async with pair() as (near, far):

        async def chunks() -> None:
            async with far.chunks() as chunks:
                await anext(chunks)

        waiting = {
            "receive": far.receive_some,
            "send": lambda: far.send_all(bytes(1 << 24)),
            "chunks": chunks,
            "poll": far.wait_send_all_might_not_block,
        }
        if what == "poll":
            await fill(far)

        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await waiting[what]()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            await far.aclose()
        while await near.receive_some():
            pass
        with pytest.raises(trio.ClosedResourceError):
            await far.receive_some()


async def test_a_reset_is_a_broken_resource() -> None:
    async with pair() as (near, far):
        near.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
        await near.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await far.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await far.send_all(b"x")


async def test_one_task_in_each_direction() -> None:
    async with pair() as (_, far), trio.open_nursery() as nursery:
        nursery.start_soon(far.receive_some)
        nursery.start_soon(far.send_all, bytes(1 << 24))
        await wait_all_tasks_blocked()
        for call in (far.receive_some, lambda: far.send_all(b"x"), far.install, far.send_eof):
            with pytest.raises(trio.BusyResourceError):
                await call()
        with pytest.raises(trio.BusyResourceError):
            async with far.chunks():
                pass
        nursery.cancel_scope.cancel()


async def test_becomes_an_ordinary_stream() -> None:
    async with pair() as (near, far):
        async with far.chunks(chunk_size=2) as chunks:
            await near.send_all(b"abcd")
            assert await anext(chunks) == b"ab"
        async with await far.install() as stream:
            assert far.slot == -1
            assert stream.socket.getpeername() == near.socket.getsockname()
            assert await stream.receive_some() == b"cd"
            await near.send_all(b"ef")
            assert await stream.receive_some() == b"ef"
            await stream.send_all(b"gh")
            assert await near.receive_some() == b"gh"
    assert await slots_taken() == 0


@pytest.mark.parametrize("how", ["break", "raise", "cancel"])
async def test_connections_that_nobody_took_are_closed(how: str) -> None:
    async with listening() as listener:
        clients = [socket.create_connection(listener.address) for _ in range(5)]
        try:
            with trio.CancelScope() as scope:
                async with listener.connections() as incoming:
                    async with await anext(incoming):
                        await wait_all_tasks_blocked()
                    if how == "raise":
                        raise KeyError
                    if how == "cancel":
                        scope.cancel()
                        await trio.lowlevel.checkpoint()
        except KeyError:
            pass
        for client in clients:
            client.settimeout(30)
            assert client.recv(1) == b""
            client.close()
    assert await slots_taken() == 0


def test_slots_run_out(caplog: pytest.LogCaptureFixture) -> None:
    """The kernel closes what it has accepted and has no slot for; later clients are served again."""

    async def main() -> None:
        async with listening() as listener:
            clients = [socket.create_connection(listener.address, timeout=30) for _ in range(17)]
            async with listener.connections() as incoming:
                streams = [await anext(incoming) for _ in range(16)]
                with trio.move_on_after(0.05) as scope:
                    await anext(incoming)
                assert scope.cancelled_caught
                assert await trio.to_thread.run_sync(clients[16].recv, 1) == b""
                await streams.pop().aclose()
                clients.append(socket.create_connection(listener.address, timeout=30))
                streams.append(await anext(incoming))
                clients[-1].send(b"served")
                assert await streams[-1].receive_some() == b"served"
            with socket.create_connection(listener.address, timeout=30) as client:
                with pytest.raises(OSError, match="accept") as caught:
                    await listener.accept()
                assert await trio.to_thread.run_sync(client.recv, 1) == b""
            assert caught.value.errno == errno.ENFILE
            for end in [*streams, *clients]:
                await end.aclose() if isinstance(end, DirectStream) else end.close()
        assert await slots_taken(32) == 0

    uring_trio.run(main, ring=RingOptions(direct_slots=32))
    assert "accept" in caplog.text


@contextmanager
def few_descriptors(most: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("most", [2, 16, 17, 40])
async def test_no_more_slots_than_descriptors(most: int) -> None:
    with few_descriptors(most):
        Slots.of(current())
    connections = most - min(16, most // 2)
    async with listening() as listener, listener.connections() as incoming, AsyncExitStack() as stack:
        for _ in range(connections):
            client = stack.enter_context(socket.create_connection(listener.address, timeout=30))
            stream = await stack.enter_async_context(await anext(incoming))
            client.send(b"served")
            assert await stream.receive_some() == b"served"
        with socket.create_connection(listener.address, timeout=30) as client:
            with trio.move_on_after(0.05) as scope:
                await anext(incoming)
            assert scope.cancelled_caught
            assert await trio.to_thread.run_sync(client.recv, 1) == b""
    assert await slots_taken(most) == 0


async def test_too_few_descriptors_for_any_slot() -> None:
    with few_descriptors(1), pytest.raises(OSError, match="RLIMIT_NOFILE is 1") as caught:
        Slots.of(current())
    assert caught.value.errno == errno.EMFILE
    async with listening():  # nothing was left behind that would be in the way
        pass


async def test_listeners_run_out() -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(16):
            await nursery.start(
                lambda task_status: uring_trio.listen_tcp(HOST, 0, direct=True, task_status=task_status)
            )
        with pytest.raises(OSError, match="16 direct listeners") as caught:
            await uring_trio.listen_tcp(HOST, 0, direct=True)
        assert caught.value.errno == errno.ENFILE
        nursery.cancel_scope.cancel()
    assert await slots_taken() == 0
    async with listening():
        pass


@pytest.mark.parametrize("entries", [2, 8, 256])
def test_a_failure_names_stage_and_address(entries: int) -> None:
    async def main() -> None:
        with socket.create_server((HOST, 0)) as taken:
            port = taken.getsockname()[1]
            for _ in range(20):
                with pytest.raises(OSError, match=f"bind.*{port}") as caught:
                    await uring_trio.listen_tcp(HOST, port, direct=True)
                assert caught.value.errno == errno.EADDRINUSE
        async with listening() as listener:
            assert listener.address[0] == HOST
        assert await slots_taken() == 0

    uring_trio.run(main, ring=RingOptions(entries=entries, cq_entries=256))


async def test_cancelled_before_it_listens() -> None:
    with trio.CancelScope() as scope:
        scope.cancel()
        await uring_trio.listen_tcp(HOST, 0, direct=True)
    assert scope.cancelled_caught
    for _ in range(20):
        with trio.CancelScope() as scope:
            trio.lowlevel.current_trio_token().run_sync_soon(scope.cancel)
            await uring_trio.listen_tcp(HOST, 0, direct=True)
        assert scope.cancelled_caught
    assert await slots_taken() == 0


async def test_closing_a_listener_wakes_who_accepts() -> None:
    async with listening() as listener:

        async def accept() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await listener.accept()

        async def iterate() -> None:
            async with listener.connections() as incoming:
                with pytest.raises(trio.ClosedResourceError):
                    await anext(incoming)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept)
            nursery.start_soon(iterate)
            await wait_all_tasks_blocked()
            await listener.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()


@pytest.mark.parametrize("dual", [True, False])
async def test_options(dual: bool) -> None:
    async with trio.open_nursery() as nursery:
        listen = partial(
            uring_trio.listen_tcp, "::", backlog=5, dual_stack=dual, reuse_port=True, direct=True
        )
        one = await nursery.start(listen, 0)
        port = one.address[1]
        await nursery.start(listen, port)
        if dual:
            with socket.create_connection((HOST, port)):
                pass
        else:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((HOST, port))
        with socket.create_connection(("::1", port)):
            pass
        nursery.cancel_scope.cancel()


def test_streams_left_open_end_with_the_run() -> None:
    clients = []

    async def main() -> None:
        async with listening() as listener:
            clients.append(socket.create_connection(listener.address))
            left = await listener.accept()
            assert left.slot >= 0
            trio.lowlevel.spawn_system_task(left.receive_some)
            assert current().slots is not None

    uring_trio.run(main)
    clients[0].settimeout(30)
    assert clients[0].recv(1) == b""
    clients[0].close()


async def test_a_time_limit_is_for_all_of_a_send(monkeypatch: pytest.MonkeyPatch) -> None:
    """The part that went out before the limit does not begin it anew."""
    limits = []
    send = DirectStream._send

    async def watched(self: DirectStream, data: memoryview, timeout: float | None) -> int:
        limits.append(timeout)
        return await send(self, data, timeout)

    monkeypatch.setattr(DirectStream, "_send", watched)
    async with pair() as (_, far):
        with pytest.raises(trio.TooSlowError):
            await far.send_all(bytes(1 << 24), timeout=0.3)
    assert len(limits) > 1
    assert limits[-1] < limits[0]


async def test_the_end_of_a_stream_is_not_the_end_of_the_next_in_its_slot() -> None:
    """A shutdown runs in a kernel worker, which looks the slot up when it gets there."""

    async def end(stream: DirectStream, ended: trio.Event) -> None:
        await stream.send_eof()
        ended.set()

    async with listening() as listener:
        for _ in range(50):
            first = await uring_trio.open_tcp_stream(*listener.address)
            far = await listener.accept()
            second = await uring_trio.open_tcp_stream(*listener.address)
            async with first, second, trio.open_nursery() as nursery:
                ended = trio.Event()  # the worker may be quicker than we look
                nursery.start_soon(end, far, ended)
                while "shutdown" not in statistics().in_flight and not ended.is_set():
                    await trio.lowlevel.checkpoint()
                far.close()
                other = await listener.accept()
                await wait_all_tasks_blocked()
                async with other:
                    await other.send_all(b"still open")
                    assert await second.receive_some() == b"still open"
                assert await first.receive_some() == b""
