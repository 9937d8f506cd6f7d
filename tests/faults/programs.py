"""Programs whose answer is known, each with calls of several kinds: what a fault must not change."""

from __future__ import annotations

import select
import socket
import tempfile
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

import uring_trio
from tests.trio.helpers import Host, buffers_out
from uring import Options, Ring, ops
from uring_trio import RingOptions
from uring_trio.testing import assert_nothing_in_flight

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["PROGRAMS"]

SMALL = RingOptions(entries=4, cq_entries=8, buffers=2, buffer_size=64)


async def sockets() -> Any:
    """Bytes both ways, an end, a reset of nothing."""
    near, far = trio.socket.socketpair()
    got = b""
    with near, far:

        async def give() -> None:
            for part in (b"one", b"two" * 50, b"three"):
                await far.send(part)
            far.shutdown(socket.SHUT_WR)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(give)
            while part := await near.recv(100):
                got += part
    return got


async def cancels() -> Any:
    """Receives that are cancelled, by a scope, by a deadline, by a close; then one that is not."""
    told = []
    near, far = trio.socket.socketpair()
    with near, far:
        with trio.move_on_after(0.005) as scope:
            await near.recv(10)
        told.append(scope.cancelled_caught)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.recv, 10)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        other, end = trio.socket.socketpair()
        with end:
            async with trio.open_nursery() as nursery:

                async def wait() -> None:
                    try:
                        await other.recv(10)
                    except trio.ClosedResourceError:
                        told.append("closed")

                nursery.start_soon(wait)
                await trio.testing.wait_all_tasks_blocked()
                other.close()
        await far.send(b"kept")
        told.append(await near.recv(10))
    return told, buffers_out()


async def chunks() -> Any:
    """A multishot receive and a multishot accept."""
    got = []
    async with trio.open_nursery() as nursery:

        async def serve(stream: Any) -> None:
            async with stream, stream.chunks() as parts:
                got.append(b"".join([bytes(part) async for part in parts]))

        listeners = await nursery.start(uring_trio.serve_tcp, serve, 0)
        port = listeners[0].address[1]
        for number in range(3):
            async with await uring_trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(b"%d" % number * 300)
        with trio.fail_after(30):
            while len(got) < 3:
                await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    return sorted(got)


async def direct() -> Any:
    """A listener and a connection in slots of the ring's table."""
    async with trio.open_nursery() as nursery:
        listener = await nursery.start(partial(uring_trio.listen_tcp, "127.0.0.1", 0, direct=True))
        async with (
            await uring_trio.open_tcp_stream(*listener.address) as near,
            await listener.accept() as far,
        ):
            await near.send_all(b"bytes")
            got = bytes(await far.receive_some())
        nursery.cancel_scope.cancel()
    return got


async def server() -> Any:
    """Trio's own listener and streams: accepts, receives and sends that are attempted, and closes."""
    got = []

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            async for part in stream:
                await stream.send_all(part)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        for number in range(3):
            async with await trio.testing.open_stream_to_socket_listener(listeners[0]) as stream:
                for part in (b"%d" % number, b"%d" % number * 2_000):
                    await stream.send_all(part)
                    answer = b""
                    while len(answer) < len(part):
                        answer += await stream.receive_some() or b"the end"
                    got.append(answer == part)
        nursery.cancel_scope.cancel()
    return got


async def datagrams() -> Any:
    """Datagrams and their sources, and a receive into memory."""
    near, far = (trio.socket.socket(type=trio.socket.SOCK_DGRAM) for _ in range(2))
    with near, far:
        for sock in (near, far):
            await sock.bind(("127.0.0.1", 0))
        await near.sendto(b"there", far.getsockname())
        data, source = await far.recvfrom(100)
        got = bytearray(10)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(far.sendto, b"back", source)
            size = await near.recv_into(got)
        return data, source == near.getsockname(), bytes(got[:size])


async def files() -> Any:
    """Paths, a file, many reads as one, a copy."""
    with tempfile.TemporaryDirectory() as folder:
        path = uring_trio.Path(folder) / "file"
        await path.write_bytes(bytes(range(256)))
        async with await uring_trio.open_file(path, "rb") as file:
            parts = await file.read_many([(0, 3), (100, 3), (250, 10)])
            whole = await file.pread(10, 20)
        await uring_trio.copy_file(path, path.with_name("copy"))
        size = (await path.with_name("copy").stat()).st_size
        await path.unlink()
        return [bytes(part) for part in parts], whole, size, await path.exists()


async def many() -> Any:
    """More operations than the queue holds, some cancelled, and a timer."""
    results = await uring_trio.perform_many([ops.nop() for _ in range(20)])
    try:
        await uring_trio.perform(ops.timeout(60), timeout=0.005)
    except trio.TooSlowError:
        results.append("too slow")
    async with uring_trio.ticks(0.001) as ticks:
        async for _ in ticks:
            break
    return results


def guest() -> Any:
    """The host cancels while the thread of the guest waits; then bytes, and an end."""
    host = Host()

    async def main() -> Any:
        near, far = trio.socket.socketpair()
        with near, far:
            with trio.CancelScope() as scope:
                timer = threading.Timer(0.01, host.todo.put, [scope.cancel])
                timer.start()
                await near.recv(10)
            timer.join()
            await far.send(b"bytes")
            return scope.cancelled_caught, await near.recv(10)

    return host.run(main)


def ring(options: Options) -> Any:
    """Requests of `uring.Ring`: waited for one by one, and as completions; a receive that the stop ends."""
    near, far = socket.socketpair()
    with near, far, Ring(options) as ring:
        many = ring.submit_all([ops.nop(), ops.write(far.fileno(), b"bytes"), ops.nop()])
        got = bytearray(5)
        received = ring.recv(near, got)
        told: list[Any] = [received.wait(), [request.wait() for request in many], bytes(got)]
        for value in range(5):
            ring.nop(value)
        told.append(sorted(cqe.user_data for cqe in ring.completions()))
        told.append(ring.poll_add(far, select.POLLOUT).wait(30) & select.POLLOUT)
        ring.recv(near, got)
        ring.flush()
    return told


def resized() -> Any:
    """A ring whose queues grow while an operation is in flight."""
    near, far = socket.socketpair()
    with near, far, Ring(Options(entries=4)) as ring:
        got = bytearray(5)
        received = ring.recv(near, got)
        ring.resize_rings(16, 64)
        far.send(b"bytes")
        many = ring.submit_all([ops.nop() for _ in range(10)])
        return received.wait(30), bytes(got), [request.wait() for request in many]


async def in_order(program: Callable[[], Awaitable[Any]]) -> Any:
    with trio.fail_after(60):
        got = await program()
    assert_nothing_in_flight()
    return got


def player(program: Callable[[], Awaitable[Any]], ring: RingOptions) -> Callable[[], Any]:
    return lambda: uring_trio.run(in_order, program, ring=ring)


PROGRAMS: dict[str, Callable[[], Any]] = {
    f"{program.__name__}{kind}": player(program, ring)
    for program in (sockets, cancels, chunks, direct, server, datagrams, files, many)
    for kind, ring in (
        ("", RingOptions(deadlines="link")),
        ("-small", SMALL),
        ("-python", RingOptions(compiled=False)),
    )
} | {
    "guest": guest,
    "ring": lambda: ring(Options(entries=8)),
    "resized": resized,
    "ring-shared": lambda: ring(Options(entries=8, multi_issuers=True)),
}
