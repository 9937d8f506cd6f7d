"""Types in programs on `uring_trio`, to type checkers. ``make check`` reads this file; nothing runs it."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from typing import Any, assert_type

import trio

import uring_trio
from uring_trio import Connections, Items, Lease, RingFile, RingOptions, RingStatistics


async def served(stream: uring_trio.UringStream) -> None:
    async with stream.chunks() as chunks:
        async for data in chunks:
            assert_type(data, bytes)
    async with stream.chunks(copy=False, buffers=8) as leases:
        async for lease in leases:
            assert_type(lease, Lease)
    async with uring_trio.read_chunks(0, copy=False) as leases:
        assert_type(leases, Items[Lease])


async def accepts(listener: uring_trio.UringListener) -> None:
    assert_type(listener.connections(), Connections[uring_trio.UringStream])
    async with listener.connections() as incoming:
        async for stream in incoming:
            assert_type(stream, uring_trio.UringStream)


async def receives(udp: uring_trio.UringDatagrams) -> None:
    async with udp.datagrams() as incoming:
        async for datagram in incoming:
            assert_type(datagram, uring_trio.Datagram)
            assert_type(datagram.data, bytes)


async def counts() -> None:
    assert_type(uring_trio.statistics(), RingStatistics)
    assert_type(uring_trio.statistics().in_flight, dict[str, int])


async def passes_values() -> None:
    sender, receiver = uring_trio.open_ring_channel[int](8)
    await sender.send(1)
    assert_type(await receiver.receive(), int)


async def reads() -> None:
    async with await uring_trio.open_file("a") as text:
        assert_type(text, uring_trio.TextFile)
        assert_type(await text.read(), str)
    async with await uring_trio.open_file("a", "rb", buffering=0) as raw:
        takes_any_file(raw)


def takes_any_file(file: RingFile) -> int:
    return file.fileno()


async def main(name: str, count: int) -> float:
    return count / len(name)


def runs(clock: trio.testing.MockClock) -> None:
    assert_type(uring_trio.run(main, "a", 1), float)
    assert_type(uring_trio.run(main, "a", 1, ring=RingOptions(monitor=True), clock=clock), float)


async def mistakes(stream: uring_trio.UringStream, listener: Any) -> None:
    """Each line is an error to both checkers: mypy and pyright complain of a comment that hides none."""
    uring_trio.run(main, "a")  # type: ignore
    uring_trio.run(main, "a", "1")  # type: ignore
    uring_trio.run(main, "a", 1, unavailable="no")  # type: ignore
    uring_trio.run(main, "a", 1, clok=None)  # type: ignore
    stream.chunks(copy=1)  # type: ignore
    print(uring_trio.statistics().nothing)  # type: ignore
    RingOptions(monitor="yes")  # type: ignore
    sender, _ = uring_trio.open_ring_channel[int]()
    await sender.send("text")  # type: ignore
    async for _ in uring_trio.UringListener(listener):  # type: ignore
        pass
