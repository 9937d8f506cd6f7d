"""Closing Trio's sockets on the ring: the peer sees it at once, also where the queue is full."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import can_bind, in_flight, tcp_sockets
from uring_trio import RingOptions
from uring_trio.core.engine import current

if TYPE_CHECKING:
    from collections.abc import Callable


# ---- closing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("submitted", [False, True])
@pytest.mark.parametrize("end", ["close", "with", "detach"])
@pytest.mark.parametrize("call", ["recv", "wait_readable"])
async def test_the_end_reaches_the_peer_at_once(submitted: bool, end: str, call: str) -> None:
    """In the tick of the close, whether or not the kernel had the receive by then."""
    near, far = await tcp_sockets()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await (near.recv(10) if call == "recv" else trio.lowlevel.wait_readable(near))

        if submitted:
            await wait_all_tasks_blocked()
        else:
            while not in_flight():
                await trio.lowlevel.checkpoint()
        if end == "close":
            near.close()
        elif end == "with":
            near.__exit__(None, None, None)
        else:
            os.close(near.detach())
        # No checkpoint since: nothing has run but the close.
        far._sock.settimeout(30)
        assert far._sock.recv(1) == b""
    far.close()


@pytest.mark.parametrize("submitted", [False, True])
@pytest.mark.parametrize("call", ["accept", "wait_readable"])
async def test_a_listeners_address_is_free_at_once(submitted: bool, call: str) -> None:
    listener = trio.socket.socket()
    await listener.bind(("127.0.0.1", 0))
    listener.listen(5)
    address = listener.getsockname()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await (listener.accept() if call == "accept" else trio.lowlevel.wait_readable(listener))

        if submitted:
            await wait_all_tasks_blocked()
        else:
            while not in_flight():
                await trio.lowlevel.checkpoint()
        listener.close()
        assert can_bind(address)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_data_that_comes_in_the_tick_of_a_close_is_not_received(kind: str) -> None:
    """The peer sees a reset, because there was data that nobody has read."""

    async def main() -> list[Any]:
        near, far = await tcp_sockets() if kind == "tcp" else trio.socket.socketpair()
        told: list[Any] = []

        async def receive() -> None:
            try:
                told.append(await far.recv(100))
            except trio.ClosedResourceError as exc:
                told.append(str(exc))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await wait_all_tasks_blocked()
            near._sock.send(b"late")
            far.close()
        try:
            told.append(near._sock.recv(1))
        except ConnectionResetError:
            told.append("reset")
        near.close()
        return told

    stock = trio.run(main)
    assert uring_trio.run(main) == stock == ["another task closed this fd", "reset"]


# ---- a kernel that takes nothing now ----------------------------------------------------------------------


def refusing(names: tuple[str, ...]) -> list[bool]:
    """Makes this run's ring refuse new entries, as with a full queue, while the list's item is true."""
    ring, refuse = current().ring, [True]

    def wrap(queue: Callable[..., int]) -> Callable[..., int]:
        return lambda *entry: -errno.EBUSY if refuse[0] else queue(*entry)

    for name in names:
        setattr(ring, name, wrap(getattr(ring, name)))
    return refuse


@pytest.mark.parametrize("end", ["goes on", "close", "cancel"])
@pytest.mark.parametrize("call", ["recv", "wait_readable"])
async def test_a_full_queue_only_delays(end: str, call: str) -> None:
    """What waits for room in the queue is busy, can be closed, and goes on when there is room."""
    near, far = trio.socket.socketpair()

    async def use() -> Any:
        return await (far.recv(10) if call == "recv" else trio.lowlevel.wait_readable(far))

    got: list[Any] = []
    refuse = refusing(("queue", "put"))
    with near, far:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def first() -> None:
                if end == "close":
                    with pytest.raises(trio.ClosedResourceError):
                        await use()
                else:
                    got.append(await use())

            for _ in range(5):
                await trio.lowlevel.checkpoint()
            with pytest.raises(trio.BusyResourceError):
                await use()
            match end:
                case "close":
                    far.close()
                case "cancel":
                    nursery.cancel_scope.cancel()
            for _ in range(5):
                await trio.lowlevel.cancel_shielded_checkpoint()
            refuse[0] = False
            if end == "goes on":
                await near.send(b"data")
        assert got == ([] if end != "goes on" else [b"data"] if call == "recv" else [None])


async def test_closing_ends_what_is_in_flight_though_the_queue_is_full() -> None:
    near, far = trio.socket.socketpair()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await far.recv(10)

        await wait_all_tasks_blocked()
        refuse = refusing(("put",))
        far.close()
        await trio.lowlevel.checkpoint()
        refuse[0] = False
    near.close()


def test_closed_between_an_empty_group_and_the_second_attempt() -> None:
    """Of more receivers than buffers, all get data in one tick and are closed before they resume."""

    async def main() -> None:
        pairs = [trio.socket.socketpair() for _ in range(6)]
        ends: list[str] = []

        async def receive(number: int) -> None:
            try:
                await pairs[number][1].recv(100)
            except trio.ClosedResourceError:
                ends.append("closed")
            else:
                ends.append("data")
            for _, far in pairs:
                far.close()

        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(receive, number)
            await wait_all_tasks_blocked()
            for near, _ in pairs:
                near._sock.send(b"x")
        assert ends.count("data") >= 1
        assert len(ends) == 6
        for near, _ in pairs:
            near.close()

    for _ in range(5):
        uring_trio.run(main, ring=RingOptions(buffers=1))
