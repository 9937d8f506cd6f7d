"""Measured in the process that works: `python -m benchmarks.flows WORKLOAD CONTENDER` prints one sample.

`stream-in` receives one connection's bytes, `udp-echo` answers datagrams of 64 bytes, 64 of them under way,
`idle-memory` has many connections that are silent; the workloads of `benchmarks.local` need no peer. Each
sample is a new process with a peer on the other core. The figure is the CPU time of this process, or its
resident memory.
"""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from . import local
from .figures import Comparison, Contender
from .processes import Process, cores

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

HOST = "127.0.0.1"
STREAM_BYTES = 1 << 30
PACKETS = 30_000
CONNECTIONS = 10_000
UNDER_WAY = 64
PACKET = bytes(64)
GIVE_UP_SECONDS = 0.2


# The peers ----------------------------------------------------------------------------------------------


def send_stream(port: int) -> None:
    with socket.create_connection((HOST, port)) as sock:
        block, left = memoryview(bytes(1 << 18)), STREAM_BYTES
        while left:
            left -= sock.send(block[:left])


def bounce_datagrams(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((HOST, port))
        sock.settimeout(GIVE_UP_SECONDS)
        missing = UNDER_WAY
        while True:
            try:
                for _ in range(missing):
                    sock.send(PACKET)
                missing = 1
                sock.recv(len(PACKET))
            except TimeoutError:
                missing = UNDER_WAY  # a full socket dropped them
            except ConnectionRefusedError:
                return


def stay_connected(port: int) -> None:
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(socket.create_connection((HOST, port)))
        time.sleep(GIVE_UP_SECONDS * 1000)


# The contenders -----------------------------------------------------------------------------------------


async def stock_stream(sock: Any) -> int:
    stream, received = trio.SocketStream(sock), 0
    while data := await stream.receive_some(65536):
        received += len(data)
    return received


async def uring_stream(sock: Any) -> int:
    import uring_trio

    stream, received = uring_trio.UringStream(sock), 0
    while data := await stream.receive_some(65536):
        received += len(data)
    return received


async def uring_chunks(sock: Any) -> int:
    import uring_trio

    received = 0
    async with uring_trio.UringStream(sock).chunks() as chunks:
        async for data in chunks:
            received += len(data)
    return received


async def uring_leases(sock: Any) -> int:
    import uring_trio

    received = 0
    async with uring_trio.UringStream(sock).chunks(copy=False) as chunks:
        async for lease in chunks:
            with lease:
                received += len(lease.data)
    return received


async def receive(contender: Callable[[Any], Awaitable[int]]) -> float:
    """CPU milliseconds a GiB."""
    with trio.socket.socket() as listener:
        await listener.bind((HOST, 0))
        listener.listen(1)
        with peer("stream-in", listener.getsockname()[1]):
            sock, _ = await listener.accept()
            with sock:
                before = time.process_time()
                received = await contender(sock)
                spent = time.process_time() - before
    assert received == STREAM_BYTES, "bytes are missing"
    return spent * 1000 * (1 << 30) / received


async def stock_echo(sock: Any) -> None:
    for _ in range(PACKETS):
        data, address = await sock.recvfrom(2048)
        await sock.sendto(data, address)


async def uring_echo(sock: Any) -> None:
    import uring_trio

    udp, left = uring_trio.UringDatagrams(sock), PACKETS
    async with udp.datagrams(size=2048) as incoming:
        async for datagram in incoming:
            await udp.send_to(datagram.data, datagram.address)
            left -= 1
            if not left:
                break


async def answer(contender: Callable[[Any], Awaitable[None]]) -> float:
    """CPU microseconds a packet."""
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        await sock.bind((HOST, 0))
        with peer("udp-echo", sock.getsockname()[1]):
            await sock.recvfrom(2048)
            before = time.process_time()
            await contender(sock)
            spent = time.process_time() - before
    return spent / PACKETS * 1e6


async def wait_in_stream(sock: Any) -> None:
    await trio.SocketStream(sock).receive_some(65536)


async def wait_in_uring_stream(sock: Any) -> None:
    import uring_trio

    await uring_trio.UringStream(sock).receive_some(65536)


async def wait_in_chunks(sock: Any) -> None:
    import uring_trio

    async with uring_trio.UringStream(sock).chunks() as chunks:
        async for _ in chunks:
            pass


async def keep_waiting(contender: Callable[[Any], Awaitable[None]]) -> float:
    """Bytes of resident memory a connection."""
    with trio.socket.socket() as listener:
        await listener.bind((HOST, 0))
        listener.listen(1024)
        async with trio.open_nursery() as nursery:
            with peer("idle-memory", listener.getsockname()[1]):
                before = resident()
                for _ in range(CONNECTIONS):
                    nursery.start_soon(contender, (await listener.accept())[0])
                await trio.testing.wait_all_tasks_blocked()
                taken = resident() - before
                nursery.cancel_scope.cancel()
    return taken / CONNECTIONS


def resident() -> int:
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


@contextmanager
def peer(workload: str, port: int) -> Iterator[None]:
    """The other side, on the other core; it ends when this one has gone."""
    child = subprocess.Popen([sys.executable, "-m", "benchmarks.flows", workload, "peer", str(port)])
    os.sched_setaffinity(child.pid, set(range(os.cpu_count() or 1)) - os.sched_getaffinity(0) or {0})
    with child:
        try:
            yield
        finally:
            child.kill()


# The comparison -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Flow:
    """A workload: how a contender is measured, and which there are, stock Trio first."""

    name: str
    description: str
    unit: str
    peer: Callable[[int], None] | None
    measure: Callable[[Any], Awaitable[float]]
    contenders: Mapping[str, Callable[[Any], Awaitable[Any]]]
    aims: Mapping[str, float] = field(default_factory=dict)
    metric: str = "cpu"


FLOWS = [
    Flow(
        "stream-in",
        "one connection, 1 GiB in",
        "ms/GiB",
        send_stream,
        receive,
        {
            "trio-streams": stock_stream,
            "uring-streams": uring_stream,
            "uring-chunks": uring_chunks,
            "uring-leases": uring_leases,
        },
        {"uring-chunks": 0.9, "uring-leases": 0.7},
    ),
    Flow(
        "udp-echo",
        "datagrams of 64 B, 64 under way",
        "µs/packet",
        bounce_datagrams,
        answer,
        {"trio-sockets": stock_echo, "ring-sockets": stock_echo, "uring-datagrams": uring_echo},
        {"uring-datagrams": 0.7},
    ),
    Flow(
        "idle-memory",
        f"{CONNECTIONS} connections, each waiting in a receive",
        "B/connection",
        stay_connected,
        keep_waiting,
        {
            "trio-streams": wait_in_stream,
            "ring-streams": wait_in_stream,
            "uring-streams": wait_in_uring_stream,
            "uring-chunks": wait_in_chunks,
        },
        {"ring-streams": 1.0, "uring-streams": 1.0},
        "memory",
    ),
    Flow(
        "read-4KiB",
        "4 KiB out of the page cache, 64 tasks",
        "µs/read",
        None,
        local.read_pieces,
        {
            "trio-files": local.seek_and_read,
            "trio-threads": local.read_in_threads,
            "uring-files": local.read_in_place,
        },
    ),
    Flow(
        "memory-channel",
        "a value from one task to another, which waits",
        "µs/value",
        None,
        local.values,
        {"trio-channel": local.exchange, "ring-channel": local.exchange},
    ),
    Flow(
        "redis-get",
        "coredis, GET of 1 KiB from a Redis server, 20 tasks",
        "µs/command",
        None,
        local.commands,
        {"trio-coredis": local.get_values, "ring-coredis": local.get_values},
    ),
]


def sample(flow: Flow, contender: str) -> float:
    command = [sys.executable, "-m", "benchmarks.flows", flow.name, contender]
    with Process(contender, command, cores()[0]) as child:
        return float(child.line())


def compare(flow: Flow, rounds: int, wanted: Callable[[str], bool]) -> Iterator[int | Comparison]:
    """Yield after each round its number, and at the end the comparison."""
    baseline, *others = flow.contenders
    names = [baseline, *(name for name in others if wanted(name))]
    samples: dict[str, list[float]] = {name: [] for name in names}
    for done in range(rounds):
        first = done % len(names)
        for name in names[first:] + names[:first]:
            samples[name].append(sample(flow, name))
        yield done + 1
    contenders = [
        Contender(
            name, {flow.metric: samples[name]}, None if name == baseline else baseline, flow.aims.get(name)
        )
        for name in names
    ]
    yield Comparison(flow.name, flow.description, {flow.metric: flow.unit}, contenders)


def main() -> None:
    flow = next(flow for flow in FLOWS if flow.name == sys.argv[1])
    name = sys.argv[2]
    if name == "peer":
        assert flow.peer
        flow.peer(int(sys.argv[3]))
        return
    contender = flow.contenders[name]
    if name.startswith("trio-"):
        figure = trio.run(flow.measure, contender)
    else:
        import uring_trio

        figure = uring_trio.run(flow.measure, contender)
    print(figure, flush=True)


if __name__ == "__main__":
    main()
