"""A seeded storm of connecting, accepting, sending, receiving, cancelling and closing, and then silence.

Whatever happens, bytes arrive unchanged and in order, every error is one that a closed or cancelled peer
explains, and where nobody closed early each byte that was sent is delivered or still in the socket. Then
nothing is in flight, and no slot, buffer, lease or descriptor is out. ``STORM_OPERATIONS`` is how many there
are; ``make explore`` has many.
"""

from __future__ import annotations

import errno
import os
import random
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

import uring_trio
from tests.trio.helpers import PAIRS, settled, statistics
from uring_trio import RingOptions, UringStream, seams
from uring_trio.core.statistics import process_totals

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

OPERATIONS = int(os.environ.get("STORM_OPERATIONS", "15000"))
SECONDS = 60 + OPERATIONS / 500
EXPECTED = (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError)

pytestmark = [pytest.mark.ring, pytest.mark.timeout(2 * SECONDS)]

PERIOD = 1 << 18
LARGEST = 400_000
PATTERN = (random.Random(0).randbytes(PERIOD) * 3)[: PERIOD + LARGEST]


def content(start: int, size: int) -> bytes:
    """What every sender sends: bytes that tell where in the stream they are."""
    return PATTERN[start % PERIOD :][:size]


def is_content(start: int, data: bytes) -> bool:
    """Whether these are the bytes that every sender sends from there on, however many."""
    parts = range(0, len(data), LARGEST)
    return all(data[at : at + LARGEST] == content(start + at, min(LARGEST, len(data) - at)) for at in parts)


class Storm:
    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.done = 0
        self.counts: dict[str, int] = {}

    def count(self, what: str) -> None:
        self.done += 1
        self.counts[what] = self.counts.get(what, 0) + 1

    async def pause(self) -> None:
        for _ in range(self.chance.randrange(3)):
            await trio.lowlevel.checkpoint()

    async def send(self, stream: UringStream) -> None:
        at = 0
        try:
            while self.done < OPERATIONS:
                size = self.chance.choice((1, 10, 300, 5000, LARGEST if self.chance.random() < 0.05 else 50))
                await stream.send_all(content(at, size))
                at += size
                self.count("send")
                await self.pause()
            await stream.send_eof()
        except EXPECTED:
            self.count("send ended")

    async def receive(self, stream: Any) -> int:
        """Receives to the end, in every way there is and with cancels in between; how many bytes."""
        at = 0
        try:
            while True:
                data = await self.receive_once(stream)
                self.count("receive" if data is not None else "receive cancelled")
                if data == b"":
                    return at
                if data:
                    assert is_content(at, data)
                    at += len(data)
                await self.pause()
        except EXPECTED:
            self.count("receive ended")
        except OSError as exc:  # from the socket, where a stream has its own errors
            assert exc.errno in (errno.EBADF, errno.ECONNRESET)
            self.count("receive ended")
        return at

    async def receive_once(self, stream: Any) -> bytes | None:
        """What one call brought, or all that one block of chunks did; None: it was cancelled first."""
        data: bytes | None = None
        memory = bytearray(3000)
        with trio.CancelScope() as scope:
            match self.chance.randrange(4):
                case 0:
                    scope.cancel()
                case 1:
                    scope.deadline = trio.current_time() + self.chance.random() / 1000
            match self.chance.randrange(6):
                case 0:
                    data = bytes(memory[: await stream.receive_into(memory)])
                case 1 if isinstance(stream, UringStream) and stream._unread is None:
                    data = (await stream.socket.recvmsg(2000))[0]
                case 2 | 3:
                    return await self.receive_chunks(stream)
                case _:
                    data = await stream.receive_some(self.chance.choice((1, 100, 65536)))
        return data

    async def receive_chunks(self, stream: Any) -> bytes | None:
        taken, leases, ended = bytearray(), [], False
        options: Any = {
            "copy": self.chance.random() < 0.5,
            "bundle": self.chance.random() < 0.3,
            "chunk_size": self.chance.choice((100, 5000, 65536)),
            "buffers": self.chance.choice((1, 3, 8)),
        }
        wanted = self.chance.randrange(1, 12)
        try:
            async with stream.chunks(**options) as chunks:
                while wanted:
                    try:
                        item = await anext(chunks)
                    except StopAsyncIteration:
                        ended = True
                        break
                    wanted -= 1
                    taken += bytes(item)
                    self.count("chunk")
                    if not options["copy"]:
                        leases.append(item)
                        while leases and (len(leases) == options["buffers"] or self.chance.random() < 0.6):
                            leases.pop(self.chance.randrange(len(leases))).release()
        except (trio.Cancelled, *EXPECTED):
            if not taken:
                raise
            # What came before counts; whatever it was is raised again by the next call.
            self.count("chunks broken")
        finally:
            for lease in leases:
                lease.release()
        return bytes(taken) if taken or ended else None

    async def life(self) -> None:
        """Two streams from open to close; now and then the end comes early, from any side."""
        while self.done < OPERATIONS:
            near, far = await PAIRS[self.chance.choice(("tcp", "unix"))]()
            near, far = UringStream(near), UringStream(far)
            self.count("open")
            async with near, far, trio.open_nursery() as nursery:
                for stream in near, far:
                    nursery.start_soon(self.send, stream)
                    nursery.start_soon(self.receive, stream)
                for _ in range(self.chance.randrange(60)):
                    await trio.lowlevel.checkpoint()
                match self.chance.randrange(4):
                    case 0:
                        self.chance.choice((near, far)).socket.close()
                    case 1:
                        with self.chance.choice((near, far)).socket:
                            pass
                    case 2:
                        near.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                        await near.aclose()
                    case _:
                        nursery.cancel_scope.cancel()
                        self.count("cancelled")

    async def orderly_life(self) -> None:
        """Nobody closes early: what was sent is received, whatever the receiver gave up in between."""
        while self.done < OPERATIONS:
            near, far = await PAIRS[self.chance.choice(("tcp", "unix"))]()
            sender, receiver = UringStream(near), UringStream(far)
            self.count("orderly")
            sent, received = 0, 0

            async def send(sender: UringStream = sender) -> None:
                nonlocal sent
                for _ in range(self.chance.randrange(30)):
                    size = self.chance.choice((1, 100, 20_000))
                    await sender.send_all(content(sent, size))
                    sent += size
                    await self.pause()
                await sender.send_eof()

            async def receive(receiver: UringStream = receiver) -> None:
                nonlocal received
                received = await self.receive(receiver)

            async with sender, receiver, trio.open_nursery() as nursery:
                nursery.start_soon(send)
                nursery.start_soon(receive)
            assert received == sent

    async def accepting_life(self, *, direct: bool) -> None:
        """Connections are accepted in blocks that end at random; each client is served, or sees the end."""
        while self.done < OPERATIONS:
            async with trio.open_nursery() as nursery:
                listen = partial(uring_trio.listen_tcp, "127.0.0.1", 0, direct=direct)
                listener = await nursery.start(listen)

                async def connect(address: Any = listener.address) -> None:
                    try:
                        async with await uring_trio.open_tcp_stream(*address) as client:
                            await client.send_all(b"ping")
                            answer = await client.receive_some(timeout=SECONDS)
                            assert answer in (b"ping", b"")
                            self.count("client served" if answer else "client closed")
                    except (OSError, trio.BrokenResourceError):
                        self.count("client closed")

                async def serve(stream: Any) -> None:
                    async with stream:
                        try:
                            await stream.send_all(await stream.receive_some())
                        except EXPECTED:
                            self.count("client closed")

                async with trio.open_nursery() as clients:
                    for _ in range(5):
                        clients.start_soon(connect)
                    for _ in range(self.chance.randrange(1, 4)):
                        with trio.CancelScope() as scope:
                            async with listener.connections() as incoming:
                                trio.lowlevel.current_trio_token().run_sync_soon(scope.cancel)
                                for _ in range(self.chance.randrange(3)):
                                    clients.start_soon(serve, await anext(incoming))
                                    self.count("accept")
                        await self.pause()
                    await listener.aclose()
                nursery.cancel_scope.cancel()

    async def datagram_life(self) -> None:
        """Datagrams come whole, once and in order, or not at all."""
        while self.done < OPERATIONS:
            async with await uring_trio.open_udp(("127.0.0.1", 0)) as here:
                async with await uring_trio.open_udp(None, here.address) as there:
                    self.count("udp")
                    last, number = -1, 0
                    for _ in range(self.chance.randrange(1, 15)):
                        for _ in range(self.chance.randrange(1, 8)):
                            await there.send(b"%d " % number + content(number, self.chance.randrange(1000)))
                            number += 1
                            self.count("datagram")
                        with trio.move_on_after(0 if self.chance.random() < 0.2 else 0.005):
                            if self.chance.random() < 0.5:
                                last = self.check_datagram(await here.receive(), last)
                                continue
                            async with here.datagrams(size=2000, buffers=4) as incoming:
                                for _ in range(self.chance.randrange(8)):
                                    last = self.check_datagram(await anext(incoming), last)

    def check_datagram(self, datagram: Any, last: int) -> int:
        number, _, data = datagram.data.partition(b" ")
        assert int(number) > last
        assert is_content(int(number), data)
        self.count("datagram received")
        return int(number)


@pytest.mark.parametrize(
    ("seed", "options"),
    [(1, RingOptions()), (2, RingOptions(entries=4, cq_entries=4, buffers=2, buffer_size=256))],
    ids=["roomy", "tight"],
)
def test_storm(seed: int, options: RingOptions) -> None:
    storm = Storm(seed)
    found: Any = None
    lives: list[Callable[[], Awaitable[None]]] = [
        *[storm.life] * 12,
        *[storm.orderly_life] * 5,
        partial(storm.accepting_life, direct=False),
        partial(storm.accepting_life, direct=True),
        storm.datagram_life,
    ]

    async def main() -> None:
        nonlocal found
        with trio.fail_after(SECONDS):
            async with trio.open_nursery() as nursery:
                for life in lives:
                    nursery.start_soon(life)
            await settled()
            found = statistics()

    before, files = process_totals(), len(os.listdir("/proc/self/fd"))
    with seams.scheduled_from(seed):
        uring_trio.run(main, ring=options)
    assert process_totals()["leaked"] == before["leaked"]
    assert len(os.listdir("/proc/self/fd")) == files
    assert found.late == 0
    assert storm.done >= OPERATIONS
    for what in (
        "send",
        "send ended",
        "receive",
        "receive cancelled",
        "receive ended",
        "chunk",
        "open",
        "orderly",
        "cancelled",
        "accept",
        "client served",
        "client closed",
        "datagram received",
    ):
        assert storm.counts.get(what, 0) > 5, (what, storm.counts)
    assert found.cancels_requested > 20
