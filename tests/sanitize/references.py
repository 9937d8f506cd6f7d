"""`make refcounts`: each path through the C of this project leaves as many references and blocks of memory
as it found.

``python -m tests.sanitize.references`` repeats an operation of each kind, after some to fill caches,
and compares `sys.gettotalrefcount` and `sys.getallocatedblocks` before and after. The first is there in
a debug build of CPython alone, and counts for an extension only where it is compiled with the headers
of that build: in those of another build `Py_INCREF` does not touch the total. With them it is a call of
the interpreter on the stable ABI too. So the extensions and cffi are compiled for it (`make
refcounts`). On another interpreter only the blocks are compared.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import os
import sys
import tempfile
import time
import warnings
from typing import TYPE_CHECKING, Any

import trio

import uring_trio
from tests.trio.bothways import connected
from uring import Ring, cached, ops
from uring_trio import RingOptions, UringStream
from uring_trio.seams import ticks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ALLOWED = 200
"""References and blocks more after any number of operations: caches of the interpreter, and statistics."""

CLOSED = 999_999
"""A descriptor that is not open."""

references: Callable[[], int] = getattr(sys, "gettotalrefcount", lambda: 0)


class Repeat:
    """Repeats an operation, and counts before and after."""

    def __init__(self, operations: int) -> None:
        self.operations = operations
        self.counts = [0, 0]

    async def each(self, operation: Callable[[], Awaitable[Any]], dear: int = 1) -> None:
        """``dear``: of so many operations one is made, because it takes longer than others."""
        many = max(500, self.operations // dear)
        for times in (min(many, 1000), many):
            before = self._now()
            for _ in range(times):
                await operation()
            after = self._now()
        self.counts[:] = (b - a for a, b in zip(before, after, strict=True))
        self.operations = many

    async def each_now(self, operation: Callable[[], Any], dear: int = 1) -> None:
        async def call() -> None:
            operation()

        await self.each(call, dear)

    def _now(self) -> tuple[int, int]:
        for _ in range(3):
            gc.collect()
        return references(), sys.getallocatedblocks()


KINDS: dict[str, Callable[[Repeat], Awaitable[None]]] = {}


def kind(function: Callable[[Repeat], Awaitable[None]]) -> Callable[[Repeat], Awaitable[None]]:
    KINDS[function.__name__] = function
    return function


def raises(*kinds: type[BaseException]) -> Any:
    return contextlib.suppress(*kinds)


# ---- scheduling ------------------------------------------------------------------------------------------


@kind
async def checkpoint(repeat: Repeat) -> None:
    await repeat.each(trio.lowlevel.checkpoint)


@kind
async def other_checkpoints(repeat: Repeat) -> None:
    async def operation() -> None:
        await trio.lowlevel.cancel_shielded_checkpoint()
        await trio.lowlevel.checkpoint_if_cancelled()
        call = trio.lowlevel.checkpoint()
        call.close()
        with raises(ValueError):
            trio.lowlevel.checkpoint().throw(ValueError("thrown"))

    await repeat.each(operation)


@kind
async def checkpoint_cancelled(repeat: Repeat) -> None:
    async def operation() -> None:
        with trio.CancelScope() as scope:
            scope.cancel()
            await trio.lowlevel.checkpoint()

    await repeat.each(operation)


@kind
async def scopes(repeat: Repeat) -> None:
    async def operation() -> None:
        with trio.CancelScope(shield=True), trio.move_on_after(60), trio.fail_after(30):
            pass
        with raises(ValueError), trio.move_on_at(trio.current_time() + 10):
            raise ValueError
        with trio.move_on_after(0):
            await trio.lowlevel.checkpoint()

    await repeat.each(operation)


@kind
async def tasks(repeat: Repeat) -> None:
    async def operation() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.lowlevel.checkpoint)
            nursery.start_soon(trio.sleep_forever)
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()

    await repeat.each(operation, 4)


@kind
async def locks(repeat: Repeat) -> None:
    lock = trio.Lock()

    async def operation() -> None:
        async with lock:
            pass
        await lock.acquire()
        with raises(RuntimeError):
            await lock.acquire()
        lock.release()
        with raises(ValueError):
            async with lock:
                raise ValueError
        lock.acquire().close()

    await repeat.each(operation, 2)


@kind
async def memory_channels(repeat: Repeat) -> None:
    """Values that are handed over either way, or go through a buffer; waits that a cancel or a close ends."""

    async def send(channel: trio.MemorySendChannel[object]) -> None:
        await channel.send(object())

    async def receive(channel: trio.MemoryReceiveChannel[object]) -> None:
        async for _ in channel:
            pass

    async def operation() -> None:
        for size in (0, 1):
            sender, receiver = trio.open_memory_channel[object](size)
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(send, sender)
                await trio.lowlevel.checkpoint()
                for _ in range(3):
                    await receiver.receive()
                nursery.start_soon(receive, receiver)
                await trio.lowlevel.checkpoint()
                await sender.send(object())
                with trio.move_on_after(0):
                    await receiver.receive()
                sender.close()
            for way in (receiver.receive, receiver.__anext__, receiver.receive):
                with raises(trio.EndOfChannel, trio.ClosedResourceError, StopAsyncIteration):
                    await way()
                receiver.close()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive, trio.open_memory_channel[object](0)[1])
                await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()

    await repeat.each(operation, 20)


# ---- sockets and streams ---------------------------------------------------------------------------------


@kind
async def echo(repeat: Repeat) -> None:
    async with connected() as (near, far):

        async def operation() -> None:
            await near.send(b"x" * 100)
            await far.send(await far.recv(1000))
            await near.recv(1000)

        await repeat.each(operation)


@kind
async def echo_that_waits(repeat: Repeat) -> None:
    async with connected() as (near, far), trio.open_nursery() as nursery:

        async def serve() -> None:
            while data := await far.recv(1000):
                await far.send(data)

        async def operation() -> None:
            await near.send(b"x" * 100)
            await near.recv(1000)

        nursery.start_soon(serve)
        await repeat.each(operation)
        nursery.cancel_scope.cancel()


@kind
async def socket_stream(repeat: Repeat) -> None:
    async with connected() as pair:
        near, far = map(trio.SocketStream, pair)

        async def operation() -> None:
            await near.send_all(b"x" * 100)
            await far.receive_some()

        await repeat.each(operation)


@kind
async def uring_stream(repeat: Repeat) -> None:
    async with connected() as pair:
        near, far = map(UringStream, pair)

        async def operation() -> None:
            await near.send_all(b"x" * 100)
            await far.receive_some()

        await repeat.each(operation)


@kind
async def flow(repeat: Repeat) -> None:
    """Blocks that are large enough for a receive without a wait."""
    async with connected() as (near, far):
        block = bytes(30_000)

        async def operation() -> None:
            sent = await near.send(block)
            while sent:
                sent -= len(await far.recv(65536))

        await repeat.each(operation, 4)


@kind
async def datagrams(repeat: Repeat) -> None:
    """What is there already, and what a task waits for."""
    near, far = (trio.socket.socket(type=trio.socket.SOCK_DGRAM) for _ in range(2))
    with near, far:
        await near.bind(("127.0.0.1", 0))
        await far.connect(near.getsockname())
        target, memory = far.getsockname(), bytearray(1000)

        async def serve() -> None:
            while True:
                data, source = await near.recvfrom(1000)
                await near.sendto(data, source)

        async def operation() -> None:
            await far.send(b"x" * 100)
            await far.recv_into(memory)
            await far.send(b"x" * 100)
            await far.recv(1000)
            await near.sendto(b"x", target)
            await far.recvfrom(1000)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await repeat.each(operation, 4)
            nursery.cancel_scope.cancel()


@kind
async def datagrams_that_fail(repeat: Repeat) -> None:
    near, far = (trio.socket.socket(type=trio.socket.SOCK_DGRAM) for _ in range(2))
    with near, far:
        await near.bind(("127.0.0.1", 0))
        await far.connect(near.getsockname())
        target = near.getsockname()
        near.close()

        async def operation() -> None:
            for receive in (
                lambda: far.recv(9),
                lambda: far.recvfrom(9),
                lambda: far.recv_into(bytearray(9)),
            ):
                await far.send(b"x")
                with raises(ConnectionRefusedError):
                    await receive()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(receive)
                    await trio.lowlevel.checkpoint()
                    await trio.lowlevel.checkpoint()
                    nursery.cancel_scope.cancel()
            await far.send(b"x")
            with raises(ConnectionRefusedError):
                await far.sendto(b"x", target)
            with raises(OSError):
                await far.sendto(bytes(70_000), target)
            with raises(TypeError):
                await far.sendto("text", target)
            with raises(BufferError, TypeError):
                await far.recv_into(b"constant")

        await repeat.each(operation, 20)


@kind
async def socket_cancelled(repeat: Repeat) -> None:
    async with connected() as (near, _):

        async def operation() -> None:
            with trio.CancelScope() as scope:
                scope.cancel()
                await near.recv(100)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(near.recv, 100)
                await trio.lowlevel.checkpoint()
                await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()

        await repeat.each(operation, 4)


@kind
async def calls_dropped(repeat: Repeat) -> None:
    async with connected() as (near, far):

        def operation() -> None:
            near.recv(100).close()
            near.recv(100)
            with raises(ValueError):
                near.send(b"x").throw(ValueError("thrown"))
            with raises(TypeError):
                UringStream(far).send_all(b"x").send("not None")

        await repeat.each_now(operation)


@kind
async def socket_errors(repeat: Repeat) -> None:
    async def operation() -> None:
        near, far = trio.socket.socketpair()
        far.close()
        with near:
            await near.recv(10)
            for _ in range(2):
                with raises(BrokenPipeError):
                    await near.send(b"x")
            with raises(trio.BrokenResourceError):
                await trio.SocketStream(near).send_all(b"x")
            with raises(TypeError):
                await near.send("text")
            with raises(ValueError):
                await near.recv(-1)
        with raises(trio.ClosedResourceError, OSError):
            await near.recv(10)

    await repeat.each(operation, 4)


@kind
async def connections(repeat: Repeat) -> None:
    with trio.socket.socket() as listener:
        await listener.bind(("127.0.0.1", 0))
        listener.listen()

        async def operation() -> None:
            with trio.socket.socket() as near:
                await near.connect(listener.getsockname())
                far, _ = await listener.accept()
                with far:
                    await near.send(b"x")
                    await far.recv(10)

        await repeat.each(operation, 10)


@kind
async def subscriptions(repeat: Repeat) -> None:
    async with connected() as pair:
        near, far = map(UringStream, pair)

        async def operation() -> None:
            async with far.chunks() as parts:
                for _ in range(3):
                    await near.send_all(b"x" * 100)
                    bytes(await anext(parts))
            async with far.chunks(copy=False, bundle=True, chunk_size=60) as leases:
                for _ in range(3):
                    await near.send_all(b"x" * 60)
                await trio.lowlevel.checkpoint()
                left = 180
                while left:
                    with await anext(leases) as lease:
                        left -= len(lease)

        await repeat.each(operation, 10)


# ---- files -----------------------------------------------------------------------------------------------


@kind
async def cached_reads(repeat: Repeat) -> None:
    with tempfile.TemporaryFile(dir="/var/tmp") as file:
        file.write(bytes(10_000))
        file.flush()
        fd, buffer = file.fileno(), ctypes.create_string_buffer(100)
        address = ctypes.addressof(buffer)

        def operation() -> None:
            cached.read_piece(fd, 100, 50)
            cached.read_piece(fd, 20_000, 50)
            cached.read_piece(-1, 100, 50)
            cached.read_pieces(fd, [(0, 10), (9_999, 10), (20, 10)], 100)
            cached.read_pieces(fd, [(0, 10), "no place"], 100)
            cached.read_cached(fd, 0, address, 10)
            cached.read_cached(-1, 0, address, 10)
            with raises(TypeError):
                cached.read_piece("fd", 100, 50)
            with raises(OverflowError):
                cached.read_piece(fd, -1, 50)

        await repeat.each_now(operation)


@kind
async def stats(repeat: Repeat) -> None:
    def operation() -> None:
        cached.find_stat("/etc/passwd", True)
        cached.find_stat("/etc", False)
        cached.find_stat("/etc/there-is-none", True)
        cached.find_stat(b"/", True)
        cached.find_stat("a\0b", True)
        cached.find_stat(1.5, True)
        cached.stat_is_local(0)

    await repeat.each_now(operation)


@kind
async def files(repeat: Repeat) -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        path = uring_trio.Path(folder) / "file"
        await path.write_bytes(bytes(10_000))
        async with await uring_trio.open_file(path, "rb") as file:

            async def operation() -> None:
                await file.pread(10, 20)
                await file.read_many([(0, 3), (100, 3)])
                await path.stat()
                with raises(FileNotFoundError):
                    await uring_trio.stat(f"{path}-none")

            await repeat.each(operation, 4)


# ---- requests --------------------------------------------------------------------------------------------


@kind
async def operations(repeat: Repeat) -> None:
    async def operation() -> None:
        await uring_trio.perform(ops.nop())
        with raises(OSError):
            await uring_trio.perform(ops.read(CLOSED, bytearray(1)))
        await uring_trio.perform(ops.statx("/"))
        with raises(TypeError):
            await uring_trio.perform(None)  # type: ignore[arg-type]
        with trio.CancelScope() as scope:
            scope.cancel()
            await uring_trio.perform(ops.nop())

    await repeat.each(operation, 4)


@kind
async def operations_cancelled(repeat: Repeat) -> None:
    reader, writer = os.pipe()

    async def operation() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: uring_trio.perform(ops.read(reader, bytearray(1))))
            await trio.lowlevel.checkpoint()
            await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        uring_trio.perform(ops.nop()).close()  # type: ignore[attr-defined]
        with raises(ValueError):
            uring_trio.perform(ops.nop()).throw(ValueError("thrown"))  # type: ignore[attr-defined]

    await repeat.each(operation, 4)
    os.close(reader)
    os.close(writer)


@kind
async def volleys(repeat: Repeat) -> None:
    async def operation() -> None:
        await uring_trio.perform_many([ops.nop() for _ in range(4)])

    await repeat.each(operation, 4)


@kind
async def requests(repeat: Repeat) -> None:
    with Ring(entries=8) as ring:
        buffer = bytearray(8)

        def operation() -> None:
            ring.nop().wait()
            with raises(OSError):
                ring.read(CLOSED, buffer).wait()
            ring.nop(7)
            ring.wait(1)
            with raises(TypeError):
                ring.read("fd", buffer)

        await repeat.each_now(operation, 2)


@kind
async def requests_cancelled(repeat: Repeat) -> None:
    reader, writer = os.pipe()
    with Ring(entries=8) as ring:
        buffer = bytearray(8)

        def operation() -> None:
            request = ring.read(reader, buffer)
            request.cancel()
            with raises(OSError):
                request.wait()
            while ring.wait():
                pass

        await repeat.each_now(operation, 4)
    os.close(reader)
    os.close(writer)


@kind
async def rings(repeat: Repeat) -> None:
    def operation() -> None:
        with Ring(entries=8) as ring:
            ring.nop().wait()

    await repeat.each_now(operation, 100)


def measured(name: str, count: int, ring: RingOptions) -> tuple[Repeat, str]:
    repeat = Repeat(count)

    async def main() -> None:
        await trio.lowlevel.checkpoint()
        await KINDS[name](repeat)

    uring_trio.run(main, ring=ring)
    more = [abs(each) > ALLOWED for each in repeat.counts]
    return repeat, f"{name}: {repeat.counts} more references and blocks" if any(more) else ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sanitize.references", description=__doc__)
    parser.add_argument("--operations", type=int, default=3000, help="of each kind; dear ones have fewer")
    parser.add_argument("--only", action="append", choices=list(KINDS), help="this kind; may be repeated")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if not hasattr(sys, "gettotalrefcount"):
        print("refcounts: this is no debug build of Python: only blocks of memory are compared")
    if ticks.C is None:
        print("refcounts: uring_trio.seams._ticks is missing")
        return 1
    wrong = []
    for name in options.only or KINDS:
        began = time.monotonic()
        repeat, complaint = measured(name, options.operations, RingOptions(compiled=True))
        spent = time.monotonic() - began
        print(
            f"{name}: {repeat.operations:,} operations, {repeat.counts[0]:+} references, "
            f"{repeat.counts[1]:+} blocks, {spent:.1f} s",
            flush=True,
        )
        wrong += [complaint] if complaint else []
    print("\n".join(["refcounts:", *wrong]) if wrong else "refcounts: level")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
