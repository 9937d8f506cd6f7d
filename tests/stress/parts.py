"""The trials, each by its name.

Invariant: a part ends when its time is over, and raises if a promise is broken; it returns what it counted.
Its choices come from its seed. The times at which kernel and processor act do not. What `run` runs may be
shown on stock Trio as well.
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import socket
import struct
import tempfile
import threading
import traceback
from collections import Counter
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from tests.differential.comparing import Pair
from tests.differential.programs import generate
from tests.trio.helpers import settled
from uring_trio import RingOptions
from uring_trio.core.engine import current

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable, Iterator

__all__ = ["BESIDE", "BOUND", "PARTS", "SAMPLES", "asks", "files_open", "part", "serving"]

Counts = dict[str, Any]
PARTS: dict[str, Callable[[random.Random, float], Counts]] = {}
STOCK = os.environ.get("STRESS_STOCK") == "1"
"""Whether this process shows a part on stock Trio."""

BESIDE = ("connections", "bad-peers", "interrupts", "soak")
"""Parts that are shown on stock Trio too. (`programs` compares the two by itself.)"""

BOUND = 60.0
"""Seconds after which something that hangs is a failure."""


def part(function: Callable[[random.Random, float], Counts]) -> Callable[[random.Random, float], Counts]:
    PARTS[function.__name__.replace("_", "-")] = function
    return function


def run(main: Callable[[], Awaitable[None]], **options: Any) -> None:
    if STOCK:
        trio.run(main, **options)
    else:
        uring_trio.run(main, **options)


def files_open() -> int:
    return len(os.listdir("/proc/self/fd"))


# ---- random programs -------------------------------------------------------------------------------------


@part
def programs(chance: random.Random, seconds: float) -> Counts:
    """Random programs on stock Trio and on the ring: the same transcripts."""
    until, first, played = monotonic() + seconds, chance.randrange(1 << 32), 0
    with Pair() as pair:
        while monotonic() < until:
            found = pair.compare(generate(first + played))
            if found is not None:
                raise AssertionError(f"seed {first + played}\n{pair.shrink(found)}")
            played += 1
    return {"programs": played, "first seed": first, "differences": 0}


# ---- connections -----------------------------------------------------------------------------------------


async def echo(stream: trio.SocketStream) -> None:
    try:
        async with stream:
            async for data in stream:
                await stream.send_all(data)
    except trio.BrokenResourceError:
        pass  # a bad peer


async def asks(stream: trio.SocketStream, data: bytes) -> None:
    """Sends bytes and takes the same bytes back."""
    got = bytearray()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_all, data)
        while len(got) < len(data):
            part = await stream.receive_some()
            assert part, "the end came before the bytes"
            got += part
    assert got == data, "the bytes are not those that were sent"


async def serving(nursery: trio.Nursery) -> int:
    listeners = await nursery.start(partial(trio.serve_tcp, echo, 0, host="127.0.0.1"))
    return int(listeners[0].socket.getsockname()[1])


@contextmanager
def server_beside() -> Iterator[int]:
    """The port of the same server in a process of its own, with as many descriptors to itself."""
    port_told, tell_port = os.pipe()
    told_to_end, tell_to_end = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.close(tell_to_end)
            serve_until(told_to_end, tell_port)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    os.close(tell_port)
    os.close(told_to_end)
    try:
        with os.fdopen(port_told) as told:
            yield int(told.readline())
    finally:
        os.close(tell_to_end)
        _, status = os.waitpid(child, 0)
    assert status == 0, f"the server ends with {os.waitstatus_to_exitcode(status)}"


def serve_until(end: int, tell_port: int) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            os.write(tell_port, b"%d\n" % await serving(nursery))
            await trio.lowlevel.wait_readable(end)
            nursery.cancel_scope.cancel()

    before = files_open()
    run(main)
    assert files_open() == before


@part
def connections(chance: random.Random, seconds: float) -> Counts:
    """Many connections held at once, every byte of each checked in rounds."""
    most = 15_000 if seconds > 60 else 2_000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most + 200, max(hard, most + 200)))
    except ValueError:
        most = soft - 200
    counts = Counter[str]()

    async def client(port: int, until: float, connected: list[trio.Event]) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            counts["connections"] += 1
            if counts["connections"] == most:
                connected[0].set()
            await connected[0].wait()
            while True:
                size = chance.choice((1, 50, 500, 5_000))
                await asks(stream, chance.randbytes(size))
                counts["bytes"] += size
                if monotonic() > until:
                    return

    async def main(port: int) -> None:
        until, connected = monotonic() + seconds * 0.6, [trio.Event()]
        async with trio.open_nursery() as clients:
            for number in range(most):
                clients.start_soon(client, port, until, connected)
                if number % 50 == 0:
                    await trio.lowlevel.checkpoint()
                    while counts["connections"] < number - 300:
                        await trio.sleep(0.001)

    before = files_open()
    with server_beside() as port:
        run(partial(main, port))
    assert files_open() == before
    return {**counts, "lost": 0}


@part
def tiny_rings(chance: random.Random, seconds: float) -> Counts:
    """Connections, cancels and deadlines on rings and buffers of the smallest sizes."""
    counts = Counter[str]()

    async def life(port: int) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            for _ in range(3):
                await asks(stream, chance.randbytes(chance.choice((1, 100, 70_000))))
                with trio.move_on_after(chance.choice((0, 0.0005, 0.002))) as scope:
                    await stream.receive_some(10)
                counts["cancels"] += scope.cancelled_caught
            counts["lives"] += 1

    async def main() -> None:
        with trio.fail_after(BOUND):
            async with trio.open_nursery() as nursery:
                port = await serving(nursery)
                async with trio.open_nursery() as clients:
                    for _ in range(chance.choice((1, 5, 30))):
                        clients.start_soon(life, port)
                nursery.cancel_scope.cancel()
            await settled()

    until = monotonic() + seconds
    while monotonic() < until:
        entries = chance.choice((2, 4, 8, 16))
        options = RingOptions(
            entries=entries,
            cq_entries=max(entries, chance.choice((2, 4, 16, 64))),
            buffers=chance.choice((1, 2, 4)),
            buffer_size=chance.choice((64, 1000, 65536)),
            deadlines=chance.choice(("auto", "link", "cancel")),
        )
        before = files_open()
        uring_trio.run(main, ring=options)
        assert files_open() == before
        counts["rings"] += 1
    return dict(counts)


# ---- cancels ---------------------------------------------------------------------------------------------


async def receives(near: Any, far: Any) -> tuple[Callable[[], Awaitable[Any]], Callable[[], bool]]:
    await far.send(b"data")
    return (lambda: near.recv(10)), (lambda: not near.is_readable())


async def receives_later(near: Any, far: Any) -> tuple[Callable[[], Awaitable[Any]], Callable[[], bool]]:
    async def both() -> Any:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.recv, 10)
            await trio.lowlevel.checkpoint()
            far._sock.send(b"data")

    return both, lambda: True


async def sends(near: Any, far: Any) -> tuple[Callable[[], Awaitable[Any]], Callable[[], bool]]:
    return (lambda: near.send(b"data")), far.is_readable


async def peeks(near: Any, far: Any) -> tuple[Callable[[], Awaitable[Any]], Callable[[], bool]]:
    return (lambda: near.recv(10, socket.MSG_PEEK)), lambda: False


async def writes(near: Any, far: Any) -> tuple[Callable[[], Awaitable[Any]], Callable[[], bool]]:
    path = Path("written")
    path.unlink(missing_ok=True)
    return (
        lambda: uring_trio.Path(path).write_bytes(b"data")
    ), lambda: path.exists() and bool(path.stat().st_size)


async def unlinks(near: Any, far: Any) -> tuple[Callable[[], Awaitable[Any]], Callable[[], bool]]:
    path = Path("unlinked")
    path.touch()
    return (lambda: uring_trio.Path(path).unlink()), lambda: not path.exists()


CALLS = (receives, receives_later, sends, peeks, writes, unlinks)
STEPS = 8


@part
def cancels(chance: random.Random, seconds: float) -> Counts:
    """A cancel at each step of each call: either it is cancelled and nothing was done, or done and told."""
    counts = Counter[str]()

    async def one(make: Any, steps: int) -> None:
        near, far = trio.socket.socketpair()
        with near, far:
            call, done = await make(near, far)
            finished = False

            async def calling() -> None:
                nonlocal finished
                await call()
                finished = True

            async with trio.open_nursery() as nursery:
                nursery.start_soon(calling)
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            # Of several operations some may be done: there it is asked where the cancel came first.
            if make is not receives_later and (finished or steps == 0 or make is not writes):
                assert done() == finished, f"{make.__name__}, cancelled after {steps} steps: {finished}"
            near._sock.setblocking(False)
            try:
                near._sock.recv(100)
            except BlockingIOError:
                pass
            with trio.fail_after(BOUND):
                await far.send(b"after")
                assert await near.recv(10) == b"after"
        counts["done" if finished else "cancelled"] += 1

    async def main() -> None:
        until = monotonic() + seconds
        while monotonic() < until:
            await one(chance.choice(CALLS), chance.randrange(STEPS))
        await settled()

    with tempfile.TemporaryDirectory() as folder:
        home = os.getcwd()
        os.chdir(folder)
        try:
            before = files_open()
            uring_trio.run(main)
            assert files_open() == before
        finally:
            os.chdir(home)
    return dict(counts)


# ---- bad peers -------------------------------------------------------------------------------------------

RESET = struct.pack("ii", 1, 0)


@part
def bad_peers(chance: random.Random, seconds: float) -> Counts:
    """Peers that reset, fall silent, half close or never read, beside one that behaves and is served."""
    counts = Counter[str]()

    async def main() -> None:
        until = monotonic() + seconds
        held: list[socket.socket] = []
        async with trio.open_nursery() as nursery:
            port = await serving(nursery)
            async with await trio.open_tcp_stream("127.0.0.1", port) as good:
                while monotonic() < until:
                    bad = socket.create_connection(("127.0.0.1", port))
                    bad.setblocking(False)
                    try:
                        for _ in range(chance.randrange(4)):
                            bad.send(bytes(chance.choice((1, 1000, 300_000))))
                            await trio.lowlevel.checkpoint()
                    except OSError:
                        pass
                    match chance.randrange(4):
                        case 0:
                            bad.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                            bad.close()
                        case 1:
                            bad.shutdown(socket.SHUT_WR)
                            held.append(bad)
                        case 2:
                            bad.close()
                        case 3:
                            held.append(bad)
                    if len(held) > 100:
                        held.pop(chance.randrange(len(held))).close()
                    with trio.fail_after(BOUND):
                        await asks(good, chance.randbytes(chance.choice((1, 1000))))
                    counts["bad peers"] += 1
            for bad in held:
                bad.close()
            nursery.cancel_scope.cancel()
        if not STOCK:
            await settled()

    before = files_open()
    run(main)
    assert files_open() == before
    return dict(counts)


# ---- signals ---------------------------------------------------------------------------------------------


@part
def interrupts(chance: random.Random, seconds: float) -> Counts:
    """Ctrl-C at any moment of a busy run that takes it at checkpoints ends it, and leaves nothing behind.
    (Elsewhere it may strike in the middle of Trio's own work, with and without a ring.)"""
    counts = Counter[str]()
    here = threading.get_ident()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            port = await serving(nursery)
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                started.set()
                while True:
                    await asks(stream, bytes(1000))

    def press(after: float) -> None:
        started.wait(BOUND)
        threading.Event().wait(after)
        signal.pthread_kill(here, signal.SIGINT)

    until = monotonic() + seconds
    while monotonic() < until:
        before, started = files_open(), threading.Event()
        thread = threading.Thread(target=press, args=(chance.random() / 100,))
        thread.start()
        try:
            run(main, restrict_keyboard_interrupt_to_checkpoints=True)
        except KeyboardInterrupt:
            counts["interrupts"] += 1
        except BaseExceptionGroup as group:
            assert group.split(KeyboardInterrupt)[1] is None, group
            counts["interrupts"] += 1
        thread.join()
        gc.collect()
        assert files_open() == before
    return dict(counts)


# ---- soak ------------------------------------------------------------------------------------------------


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def threads() -> int:
    """Threads of this process, the kernel's workers of its ring among them."""
    return len(os.listdir("/proc/self/task"))


SAMPLES = "samples"
"""What a part counted over its time, for a plot: numbers by name, and ``seconds``, when they were taken."""


def growth(samples: list[int]) -> float:
    """By how much the second half of the samples grows along its line, as a part of its mean."""
    half = samples[len(samples) // 2 :]
    middle, mean = (len(half) - 1) / 2, sum(half) / len(half)
    above = sum((number - middle) * (sample - mean) for number, sample in enumerate(half))
    below = sum((number - middle) ** 2 for number in range(len(half)))
    return above / below * (len(half) - 1) / mean if below and mean else 0.0


@part
def soak(chance: random.Random, seconds: float) -> Counts:
    """A mixed load for the whole time: memory, descriptors, slots and threads stay as they are."""
    samples: dict[str, list[int]] = {"memory": [], "descriptors": [], "slots": [], "threads": []}
    times: list[float] = []
    began = monotonic()
    counts = Counter[str]()
    pause = min(1.0, seconds / 60)

    async def client(port: int, until: float) -> None:
        while monotonic() < until:
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                for _ in range(20):
                    await asks(stream, chance.randbytes(chance.choice((10, 1000, 20_000))))
                    with trio.move_on_after(0.001):
                        await stream.receive_some()
                    counts["rounds"] += 1

    async def main() -> None:
        until = monotonic() + seconds
        async with trio.open_nursery() as nursery:
            port = await serving(nursery)
            async with trio.open_nursery() as clients:
                for _ in range(20):
                    clients.start_soon(client, port, until)
                while monotonic() < until - pause:  # after it the clients leave
                    await trio.sleep(pause)
                    times.append(round(monotonic() - began, 1))
                    samples["memory"].append(resident())
                    samples["descriptors"].append(files_open())
                    samples["slots"].append(0 if STOCK else len(current().table))
                    samples["threads"].append(threads())
            nursery.cancel_scope.cancel()
        await wait_all_tasks_blocked()

    run(main)
    found = {what: growth(numbers) for what, numbers in samples.items()}
    # A minute is too short for a slope: the load comes and goes.
    if seconds >= 60:
        bound = 0.01 if seconds >= 120 else 0.1
        for what, slope in found.items():
            assert slope <= bound, f"{what} grows by {slope:.1%}: {samples[what]}"
    return {
        **counts,
        **{f"{name} growth": f"{value:+.2%}" for name, value in found.items()},
        SAMPLES: {"seconds": times, **samples},
    }
