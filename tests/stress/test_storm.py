"""A seeded storm of connecting, sending, receiving, cancelling and closing, and then silence.

Whatever the order, bytes arrive unchanged as far as they do, every error is one that a closed or cancelled
peer explains, and afterwards nothing is in flight, no slot, buffer or descriptor is out.
"""

from __future__ import annotations

import errno
import random
import socket
from typing import Any

import pytest
import trio

import uring_trio
from tests.trio.helpers import PAIRS, settled, statistics
from uring_trio import RingOptions, UringStream
from uring_trio.manager import process_totals

OPERATIONS = 20_000
EXPECTED = (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError)

pytestmark = pytest.mark.ring


PATTERN = bytes(range(251)) * 2000


def content(start: int, size: int) -> bytes:
    """What every sender sends: bytes that tell where in the stream they are."""
    return PATTERN[start : start + size]


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
                size = self.chance.choice((1, 10, 300, 5000, 400_000 if self.chance.random() < 0.05 else 50))
                await stream.send_all(content(at, size))
                at = (at + size) % 251
                self.count("send")
                await self.pause()
            await stream.send_eof()
        except EXPECTED:
            self.count("send ended")

    async def receive(self, stream: UringStream) -> None:
        at = 0
        memory = bytearray(3000)
        try:
            while True:
                data = None
                with trio.CancelScope() as scope:
                    how = self.chance.randrange(6)
                    if how == 0:
                        scope.cancel()
                    if how == 1:
                        scope.deadline = trio.current_time() + self.chance.random() / 1000
                    if how == 2:
                        data = bytes(memory[: await stream.receive_into(memory)])
                    elif how == 3:
                        data = (await stream.socket.recvmsg(2000))[0]
                    else:
                        data = await stream.receive_some(self.chance.choice((1, 100, 65536)))
                self.count("receive" if data is not None else "receive cancelled")
                if data == b"":
                    return
                if data:
                    assert data == content(at, len(data))
                    at = (at + len(data)) % 251
                await self.pause()
        except EXPECTED:
            self.count("receive ended")
        except OSError as exc:  # from the socket, where a stream has its own errors
            assert exc.errno in (errno.EBADF, errno.ECONNRESET)
            self.count("receive ended")

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


@pytest.mark.parametrize(
    ("seed", "options"),
    [(1, RingOptions()), (2, RingOptions(entries=4, cq_entries=4, buffers=2, buffer_size=256))],
    ids=["roomy", "tight"],
)
def test_storm(seed: int, options: RingOptions) -> None:
    storm = Storm(seed)
    found: Any = None

    async def main() -> None:
        nonlocal found
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(storm.life)
            await settled()
            found = statistics()

    before = process_totals()
    uring_trio.run(main, ring=options)
    assert process_totals()["leaked"] == before["leaked"]
    assert found.late == 0
    for what in ("send", "send ended", "receive", "receive cancelled", "receive ended", "open", "cancelled"):
        assert storm.counts.get(what, 0) > 20, (what, storm.counts)
    assert found.cancels_requested > 20
    assert found.cancels_unsent > 0
