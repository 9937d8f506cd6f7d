"""Every way to wait until the kernel takes an entry, and all that may end such a wait, in every order.

Whatever comes first, the call has one end, for a reason: it is cancelled, closed or done. Its slot is given
back once.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.property.support import INTERNAL, OPTIONS, Outcome, scripted_run, ticks, until
from uring import abi, ops
from uring.kernel.scripted import FAKE_FD, Request, ScriptedRing
from uring_trio import perform, perform_many, seams
from uring_trio.fs import open_file
from uring_trio.ipc.pipes import RingPipe
from uring_trio.options import RingOptions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from uring_trio.core.manager import Manager

SELECT = int(abi.IOSQE_BUFFER_SELECT)
POLL_ADD = int(abi.IORING_OP_POLL_ADD)
EVENTS = ("cancel", "close", "room", "tick")


class Waiting:
    """Something with a call that needs the ring, and what closes it."""

    call: Callable[[], Awaitable[Any]]
    options = OPTIONS

    async def set_up(self) -> None: ...

    async def close(self) -> None: ...

    def feed(self) -> None: ...

    def tear_down(self) -> None: ...


class Socket(Waiting):
    async def set_up(self) -> None:
        self.near, self.far = trio.socket.socketpair()
        # What a first call tries without waiting it has tried.
        with trio.move_on_after(0):
            await self.near.recv(10)

    def call(self) -> Awaitable[Any]:
        return self.near.recv(10)

    async def close(self) -> None:
        self.near.close()

    def tear_down(self) -> None:
        self.near.close()
        self.far.close()


class SocketInto(Socket):
    """It waits by a poll, which is answered truthfully."""

    def call(self) -> Awaitable[Any]:
        return self.near.recv_into(bytearray(10))

    def feed(self) -> None:
        with suppress(OSError):  # closed
            seams.stdlib_socket(self.far).send(b"data")


class LinkedSocket(Socket):
    """The entry is a pair: the kernel holds the deadline."""

    options = RingOptions(buffers=4, buffer_size=64, deadlines="link")

    async def call(self) -> Any:
        with trio.move_on_after(1000):
            return await self.near.recv(10)


class Operation(Waiting):
    def call(self) -> Awaitable[Any]:
        return perform(ops.recv(FAKE_FD, bytearray(10)))


class TimedOperation(Waiting):
    def call(self) -> Awaitable[Any]:
        return perform(ops.recv(FAKE_FD, bytearray(10)), timeout=1000)


class Many(Waiting):
    """A volley that needs more room than the queue has."""

    def call(self) -> Awaitable[Any]:
        return perform_many([ops.recv(FAKE_FD + n, bytearray(10)) for n in range(20)])


class Pipe(Waiting):
    async def set_up(self) -> None:
        source, self.far = os.pipe()
        self.pipe = RingPipe(source)

    def call(self) -> Awaitable[Any]:
        return self.pipe.receive_some(10)

    async def close(self) -> None:
        await self.pipe.aclose()

    def tear_down(self) -> None:
        self.pipe.close()
        os.close(self.far)


class Fifo(Waiting):
    """A file that may wait for ever: its transfers are ended by closing it."""

    async def set_up(self) -> None:
        source, self.far = os.pipe()
        self.file = await open_file(source, "rb", 0)

    def call(self) -> Awaitable[Any]:
        return self.file.read(10)

    async def close(self) -> None:
        await self.file.aclose()

    def tear_down(self) -> None:
        self.file.wrapped.close()
        os.close(self.far)


KINDS = [Socket, SocketInto, LinkedSocket, Operation, TimedOperation, Many, Pipe, Fifo]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("order", range(4))
def test_a_wait_for_room_has_one_end(kind: type[Waiting], order: int) -> None:
    for events in product(EVENTS, repeat=4):
        if events.count("close") < 2:
            one_wait(kind(), events, order)


def one_wait(waiting: Waiting, events: tuple[str, ...], order: int) -> None:
    def answer(request: Request, ring: ScriptedRing) -> None:
        if request in ring.running and not request.truthful:
            if request.flags & SELECT:
                ring.complete(request, data=b"data")
            else:
                ring.complete(request, request.op_flags if request.opcode == POLL_ADD else request.length)

    async def main(manager: Manager, ring: ScriptedRing) -> None:
        outcome, closed = Outcome(), False
        await waiting.set_up()
        await ticks()
        before = len(manager.table)
        try:
            async with trio.open_nursery() as nursery:
                ring.full = True
                nursery.start_soon(outcome.run, waiting.call)
                await ticks(1)
                for event in events:
                    if event == "cancel":
                        outcome.scope.cancel()
                    elif event == "close":
                        closed |= not outcome.done
                        nursery.start_soon(waiting.close)
                    elif event == "room":
                        ring.full = False
                    else:
                        await ticks(1)
                ring.full = False
                waiting.feed()
                for _ in range(20):
                    await ticks(1)
                    for request in list(ring.running):
                        answer(request, ring)
                await until(lambda: outcome.done)
            error = outcome.error
            if isinstance(error, trio.Cancelled):
                assert "cancel" in events
            elif isinstance(error, trio.ClosedResourceError):
                assert closed
            elif isinstance(error, OSError):
                # As on stock Trio: closed between the end of the wait and the call.
                assert (error.errno, closed, type(waiting)) == (errno.EBADF, True, SocketInto)
            else:
                assert error is None, error
        finally:
            waiting.tear_down()
        await ticks(5)
        kept = [op for op in manager.pool if op not in manager.table.free]
        assert len(kept) == len({id(op) for op in manager.pool})
        assert len(manager.table) <= max(before, INTERNAL) + len(kept), [
            op.name for op in manager.table.taken()
        ]
        assert all(op.task is None for op in manager.table.free)
        assert all(op.interrupt is None for op in manager.table.free)

    files = len(os.listdir("/proc/self/fd"))
    scripted_run(main, ScriptedRing(entries=8, cq_entries=16), waiting.options, order=order)
    assert len(os.listdir("/proc/self/fd")) == files
