"""Instructions instead of times: neighbours on the machine cannot move them. `make count` is the gate.

    python -m benchmarks.counts            # against counts.json; status 1 where one grew by more than 5 %
    python -m benchmarks.counts --record   # keeps the figures, with stock Trio's beside them
    python -m benchmarks.counts --only 'echo*'

valgrind's callgrind counts the user-space instructions of a process; the kernel's are not in it. Each kind
runs in a process that is forked from one which has imported everything, with a fixed hash seed and fixed
draws for the order of Trio's tasks. It warms up, then plays N rounds, then 2N. The difference by N is the
figure, so the cost of a block of rounds by itself is not in it. Two runs differ by less than 1 %.

The figures depend on the interpreter, so they are kept for each minor version of CPython and Trio.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

from .processes import CACHE, HERE, BenchmarkError, build

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    Step = Callable[[int], Awaitable[None]]
    Measure = Callable[[Step], Awaitable[None]]
    Program = Callable[[Measure, Any], Awaitable[None]]

__all__ = ["GROWTH", "Change", "Kind", "changes", "figure", "keep", "kept_for", "totals"]

KEPT = HERE / "counts.json"
GROWTH = 0.05
"""A figure that has grown by more than this part fails."""
PIECE = 4096
SECONDS = 900  # for all kinds together, whatever else the machine does


# The arithmetic -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """A figure that was kept, and the one of now; in instructions."""

    name: str
    kept: int
    now: int

    @property
    def ratio(self) -> float:
        return self.now / self.kept

    @property
    def failed(self) -> bool:
        return self.ratio > 1 + GROWTH


def figure(once: int, twice: int, rounds: int) -> int:
    """Instructions of a round, from the totals of `rounds` of them and of twice as many.

    Raises:
        BenchmarkError: the double has not cost more: something else was counted.
    """
    if twice <= once or rounds < 1:
        raise BenchmarkError(f"{rounds} rounds took {once} instructions, and twice as many {twice}")
    return round((twice - once) / rounds)


def totals(dumps: Iterable[str]) -> dict[str, list[int]]:
    """What callgrind's files hold: the totals by the name of their marks, in the order of the files."""
    found = defaultdict(list)
    for text in dumps:
        name = re.search(r"^desc: Trigger: Client Request: (\S+)$", text, re.MULTILINE)
        total = re.search(r"^totals: (\d+)$", text, re.MULTILINE)
        if name and total:
            found[name[1]].append(int(total[1]))
    return dict(found)


def changes(kept: Mapping[str, int], now: Mapping[str, int]) -> list[Change]:
    """Those that stand on both sides, the most grown first."""
    both = [Change(name, kept[name], value) for name, value in now.items() if name in kept]
    return sorted(both, key=lambda change: -change.ratio)


def versions() -> str:
    """What the kept figures are for."""
    minor = ".".join(trio.__version__.split(".")[:2])
    return f"CPython {sys.version_info[0]}.{sys.version_info[1]}, Trio {minor}"


def kept_for(pair: str, path: Path = KEPT) -> dict[str, int]:
    """The figures for these versions; none where none were recorded."""
    return dict(json.loads(path.read_text()).get(pair, {})) if path.exists() else {}


def keep(pair: str, figures: Mapping[str, int], path: Path = KEPT) -> None:
    """Record them for these versions; figures of other kinds and versions stay."""
    everything = json.loads(path.read_text()) if path.exists() else {}
    everything[pair] = dict(sorted({**everything.get(pair, {}), **figures}.items()))
    path.write_text(json.dumps(dict(sorted(everything.items())), indent=1) + "\n")


# What is counted ----------------------------------------------------------------------------------------


async def checkpoint(measure: Measure, _: None) -> None:
    async def step(rounds: int) -> None:
        for _ in range(rounds):
            await trio.lowlevel.checkpoint()

    await measure(step)


async def scope(measure: Measure, _: None) -> None:
    async def step(rounds: int) -> None:
        for _ in range(rounds):
            with trio.move_on_after(1000):
                pass

    await measure(step)


async def channel(measure: Measure, _: None) -> None:
    """One value from a task to another, which waits for it."""

    async def take(receive: trio.MemoryReceiveChannel[int], rounds: int) -> None:
        for _ in range(rounds):
            await receive.receive()

    async def step(rounds: int) -> None:
        send, receive = trio.open_memory_channel[int](0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, receive, rounds)
            for i in range(rounds):
                await send.send(i)

    await measure(step)


async def buffered(measure: Measure, _: None) -> None:
    """One value into the buffer of a channel and out again."""
    send, receive = trio.open_memory_channel[int](1)

    async def step(rounds: int) -> None:
        for i in range(rounds):
            await send.send(i)
            await receive.receive()

    await measure(step)


async def lock(measure: Measure, _: None) -> None:
    free = trio.Lock()

    async def step(rounds: int) -> None:
        for _ in range(rounds):
            async with free:
                pass

    await measure(step)


async def perform(measure: Measure, _: None) -> None:
    import uring_trio
    from uring import ops

    async def step(rounds: int) -> None:
        for _ in range(rounds):
            await uring_trio.perform(ops.nop())

    await measure(step)


async def request(measure: Measure, _: None) -> None:
    """A request of `uring` alone: submit, wait, take its completion."""
    from uring import Ring

    with Ring(entries=8) as ring:

        async def step(rounds: int) -> None:
            for i in range(rounds):
                ring.nop(i)
                if ring.wait_direct(1, None)[0].res:
                    raise BenchmarkError("a request that does nothing failed")

        await measure(step)


async def read(measure: Measure, path: Path) -> None:
    import uring_trio

    async with await uring_trio.open_file(path, "rb") as file:

        async def step(rounds: int) -> None:
            for i in range(rounds):
                if len(await file.pread(PIECE, i % 16 * PIECE)) != PIECE:
                    raise BenchmarkError("a piece of the file is missing")

        await measure(step)


async def echo_socket(measure: Measure, near: socket.socket) -> None:
    sock = trio.socket.from_stdlib_socket(near)

    async def step(rounds: int) -> None:
        for _ in range(rounds):
            await sock.send(await sock.recv(65536))

    await measure(step)


async def echo_datagrams(measure: Measure, near: socket.socket) -> None:
    sock = trio.socket.from_stdlib_socket(near)

    async def step(rounds: int) -> None:
        for _ in range(rounds):
            data, source = await sock.recvfrom(2048)
            await sock.sendto(data, source)

    await measure(step)


async def echo_stream(measure: Measure, near: socket.socket) -> None:
    await echo(measure, trio.SocketStream(trio.socket.from_stdlib_socket(near)))


async def echo_uring_stream(measure: Measure, near: socket.socket) -> None:
    import uring_trio

    await echo(measure, uring_trio.UringStream(trio.socket.from_stdlib_socket(near)))


async def echo_chunks(measure: Measure, near: socket.socket) -> None:
    import uring_trio

    stream = uring_trio.UringStream(trio.socket.from_stdlib_socket(near))
    async with stream.chunks() as chunks:

        async def step(rounds: int) -> None:
            left = rounds
            async for data in chunks:
                await stream.send_all(data)
                left -= 1
                if not left:
                    return

        await measure(step)


async def echo(measure: Measure, stream: Any) -> None:
    async def step(rounds: int) -> None:
        for _ in range(rounds):
            await stream.send_all(await stream.receive_some(65536))

    await measure(step)


def nothing(stack: ExitStack) -> None:
    pass


def cached_file(stack: ExitStack) -> Path:
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    path = Path(folder) / "data"
    path.write_bytes(os.urandom(16 * PIECE))
    return path


def connection(stack: ExitStack) -> socket.socket:
    """One side of a connection; a process at the other sends 1 KiB and waits for it to come back."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        far = socket.create_connection(listener.getsockname())
        near, _ = listener.accept()
    for each in (near, far):
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return between(stack, near, far)


def datagrams(stack: ExitStack) -> socket.socket:
    """The same of datagrams."""
    near, far = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    near.bind(("127.0.0.1", 0))
    far.connect(near.getsockname())
    far.settimeout(60)  # nothing tells it when the server ends
    return between(stack, near, far)


def between(stack: ExitStack, near: socket.socket, far: socket.socket) -> socket.socket:
    server = os.getpid()
    if not os.fork():
        near.close()
        try:
            converse(far, server)
        finally:
            os._exit(0)
    far.close()
    return stack.enter_context(near)


def converse(far: socket.socket, server: int) -> None:
    """Send as soon as the server sleeps: it has then waited for each message, which makes the count exact."""
    message = bytes(1024)
    with far, open(f"/proc/{server}/stat", "rb", 0) as state:
        while True:
            while b") S " not in os.pread(state.fileno(), 256, 0):
                time.sleep(0.0002)
            far.sendall(message)
            left = len(message)
            while left:
                data = far.recv(left)
                if not data:
                    return
                left -= len(data)


# The processes ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """Something that is counted; with `stock` also on stock Trio, which is recorded and never fails."""

    name: str
    program: Program
    rounds: int
    prepare: Callable[[ExitStack], Any] = nothing
    stock: bool = True


ALONE = "uring request"  # without Trio
KINDS = [
    Kind("checkpoint", checkpoint, 2000),
    Kind("move_on_after", scope, 3000),
    Kind("memory channel", channel, 1000),
    Kind("buffered channel", buffered, 1000),
    Kind("lock", lock, 2000),
    Kind("perform(nop)", perform, 1000, stock=False),
    Kind(ALONE, request, 1000, stock=False),
    Kind("read of 4 KiB", read, 1000, cached_file, stock=False),
    Kind("echo, Trio's socket", echo_socket, 200, connection),
    Kind("echo, datagrams", echo_datagrams, 200, datagrams),
    Kind("echo, SocketStream", echo_stream, 200, connection),
    Kind("echo, UringStream", echo_uring_stream, 200, connection, stock=False),
    Kind("echo, chunks", echo_chunks, 200, connection, stock=False),
]
STOCK = "stock "


def names(stock: bool) -> list[str]:
    """Everything that there is a figure of; those of stock Trio begin with `STOCK`."""
    return [kind.name for kind in KINDS] + [STOCK + kind.name for kind in KINDS if kind.stock and stock]


def play(name: str, marks: ctypes.CDLL) -> None:
    """Runs in a new process: sets one kind up, and counts it."""
    import uring_trio
    from uring_trio import seams

    kind = next(kind for kind in KINDS if kind.name == name.removeprefix(STOCK))
    label = name.replace(" ", "_").encode()

    async def measure(step: Step) -> None:
        await step(kind.rounds)  # the interpreter specialises the code that it meets
        gc.collect()
        gc.freeze()  # else a collection would walk through all that was imported
        marks.begin()
        await step(kind.rounds)
        marks.mark(label)
        await step(2 * kind.rounds)
        marks.mark(label)

    with ExitStack() as stack:
        given = kind.prepare(stack)
        if name == ALONE:
            try:
                request(measure, None).send(None)
            except StopIteration:
                return
        # The order of a batch of tasks is drawn from these numbers. Trio's deterministic scheduling would
        # sort each batch too, which costs as much as a checkpoint.
        seams.names.core_run._r.seed(1)
        (trio if name.startswith(STOCK) else uring_trio).run(kind.program, measure, given)


def play_all(chosen: list[str], library: str) -> None:
    """What runs under valgrind: one process imports everything, and is forked for each kind."""
    import uring_trio.seams  # noqa: F401 - before the forks
    from uring import Ring  # noqa: F401

    marks = ctypes.CDLL(library)
    if not marks.counted():
        raise BenchmarkError("valgrind does not count this process")
    for name in chosen:
        child = os.fork()
        if not child:
            status = 1
            try:
                play(name, marks)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        if status:
            raise BenchmarkError(f"{name} ended with status {os.waitstatus_to_exitcode(status)}")


def count(chosen: list[str]) -> dict[str, int]:
    """Instructions of a round of each.

    Raises:
        BenchmarkError: valgrind, its headers or a compiler are missing, or a kind failed.
    """
    library = build("marks", "-shared", "-fPIC")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        command = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no"]
        command += [f"--callgrind-out-file={folder}/%p", sys.executable, "-m", "benchmarks.counts"]
        command += ["--inside", str(library), *(f"--only={name}" for name in chosen)]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        with subprocess.Popen(
            command,
            cwd=HERE.parent,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as valgrind:
            try:
                said, _ = valgrind.communicate(timeout=SECONDS)
            except BaseException as exc:
                os.killpg(valgrind.pid, signal.SIGKILL)  # with all that it forked
                if isinstance(exc, subprocess.TimeoutExpired):
                    raise BenchmarkError(f"valgrind has not ended for {SECONDS} s") from None
                raise
        if valgrind.returncode:
            raise BenchmarkError(f"valgrind ended with status {valgrind.returncode}:\n{said}")
        files = sorted(Path(folder).iterdir(), key=lambda path: (path.stem, int(path.suffix[1:] or 0)))
        found = totals(path.read_text() for path in files)
    figures = {}
    for name in chosen:
        rounds = next(kind.rounds for kind in KINDS if kind.name == name.removeprefix(STOCK))
        once, twice = found[name.replace(" ", "_")]
        figures[name] = figure(once, twice, rounds)
    return figures


def table(found: list[Change], others: Mapping[str, int]) -> str:
    lines = [
        f"{change.name:24} {change.now:9,} instructions, {change.ratio:6.1%} of the kept {change.kept:,}"
        for change in found
    ]
    return "\n".join([*lines, *(f"{name:24} {now:9,} instructions" for name, now in others.items())])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.counts", description=__doc__)
    parser.add_argument("--record", action="store_true", help="keep the figures, those of stock Trio too")
    parser.add_argument("--only", action="append", metavar="PATTERN", help="kinds, as 'echo*'")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    options = parser.parse_args()
    chosen = [
        name
        for name in names(stock=options.record or options.inside or options.only)
        if options.only is None or any(fnmatch(name, pattern) for pattern in options.only)
    ]
    if options.inside:
        play_all(chosen, options.inside)
        return 0
    if shutil.which("valgrind") is None:
        print("skipped: instruction counts, because valgrind is not installed")
        return 0
    kept = kept_for(versions())
    if not kept and not options.record:
        print(f"skipped: instruction counts, because none are kept for {versions()}")
        return 0
    now = count(chosen)
    found = changes(kept, now)
    grown = [change.name for change in found if change.failed and not options.record]
    if grown:
        # On a busy machine a peer may come late, and the run looks for work meanwhile: the least counts.
        again = count(grown)
        now.update((name, min(now[name], value)) for name, value in again.items())
        found = changes(kept, now)
    print(table(found, {name: value for name, value in now.items() if name not in kept}))
    if options.record:
        keep(versions(), now)
        return 0
    grown = [change for change in found if change.failed]
    if grown:
        those = ", ".join(change.name for change in grown)
        print(f"\n{those}: more than {GROWTH:.0%} above what is kept for {versions()}.")
        print("If that is meant: make count ARGS=--record, and say why in the commit.")
    return bool(grown)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchmarkError as error:
        sys.exit(f"benchmarks: {error}")
