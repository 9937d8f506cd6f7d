"""Listeners: set up on the ring, connections by multishot accept, and how all of it ends."""

from __future__ import annotations

import errno
import socket
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from tests.conftest import open_files
from tests.trio.helpers import arm, can_bind, in_flight, raises_inside, statistics
from uring_trio import RingOptions, UringListener, UringStream
from uring_trio.multishot.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HERE = ("127.0.0.1", "::1")


@asynccontextmanager
async def listening(
    host: str | None = "127.0.0.1", backlog: int | None = None
) -> AsyncIterator[UringListener]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start(uring_trio.listen_tcp, host, 0, backlog)
        nursery.cancel_scope.cancel()


def connected(listener: UringListener, count: int = 1) -> list[socket.socket]:
    """Connections from outside of the run: they are in the backlog when this returns."""
    return [socket.create_connection(listener.address[:2]) for _ in range(count)]


def close_all(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def is_closed_by_peer(client: socket.socket) -> bool:
    client.settimeout(30)
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def limit_backlog(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Makes the queue of a multishot accept as short as this."""

    class Short(Subscription):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, limit=limit)

    monkeypatch.setattr("uring_trio.net.listener.Subscription", Short)


# ---- listen_tcp -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [*HERE, "localhost"])
async def test_listens_where_asked(host: str) -> None:
    async with listening(host) as listener:
        assert isinstance(listener, trio.abc.Listener)
        assert listener.address[0] in HERE
        [client] = connected(listener)
        stream = await listener.accept()
        assert type(stream) is UringStream
        assert stream.socket.getpeername() == client.getsockname()
        client.sendall(b"hello")
        assert await stream.receive_some() == b"hello"
        await stream.aclose()
        client.close()


async def test_no_host_means_every_address() -> None:
    async with listening(None) as listener:
        for host in HERE:
            with socket.create_connection((host, listener.address[1])):
                await (await listener.accept()).aclose()


async def test_set_up_runs_on_the_ring() -> None:
    before = statistics().submitted
    async with listening():
        await wait_all_tasks_blocked()
        assert statistics().submitted - before >= 3


@pytest.mark.parametrize(
    ("host", "stage", "number"),
    [("127.0.0.1", "bind", errno.EADDRINUSE), ("203.0.113.1", "bind", errno.EADDRNOTAVAIL)],
)
async def test_a_failure_names_stage_and_address(host: str, stage: str, number: int) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        port = taken.getsockname()[1]
        with raises_inside(OSError) as caught:
            async with trio.open_nursery() as nursery:
                await nursery.start(uring_trio.listen_tcp, host, port)
    [failure] = caught
    assert failure.errno == number
    assert stage in str(failure)
    assert host in str(failure)
    assert str(port) in str(failure)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("127.0.0.1", "80"), TypeError),
        (("127.0.0.1", -1), ValueError),
        (("127.0.0.1", 65536), ValueError),
        (("no.such.host.invalid", 0), OSError),
        (("127.0.0.1", 0, -1), ValueError),
        (("127.0.0.1", 0, "many"), TypeError),
        ((17, 0), TypeError),
    ],
)
async def test_refuses_what_makes_no_sense(arguments: tuple[Any, ...], error: Any) -> None:
    with pytest.raises(error):
        await uring_trio.listen_tcp(*arguments)


async def test_cancelling_the_nursery_ends_everything() -> None:
    """The multishot stops, connections nobody took are closed, the address is free at once."""
    async with trio.open_nursery() as nursery:
        listener = await nursery.start(uring_trio.listen_tcp, "127.0.0.1", 0)
        address = listener.address
        clients = []

        async def serve() -> None:
            async with listener.connections() as incoming:
                async for stream in incoming:
                    await stream.send_all(b"first")
                    await stream.aclose()
                    await trio.sleep_forever()

        nursery.start_soon(serve)
        await wait_all_tasks_blocked()
        clients = connected(listener, 5)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert listener.socket.fileno() == -1
    assert clients[0].recv(5) == b"first"
    assert all(is_closed_by_peer(client) for client in clients[1:])
    # Close our ends first: what the server closed first lingers in TIME_WAIT, which is no listener.
    close_all(clients)
    with socket.create_server(address):
        pass


async def test_an_unused_address_is_free_when_the_nursery_ends() -> None:
    async with listening() as listener:
        async with listener.connections() as incoming:
            await arm(incoming)
            address = listener.address
            assert not can_bind(address)
            await listener.aclose()
            assert can_bind(address)


@pytest.mark.parametrize("backlog", [0, 1, 10, None, 1 << 20])
async def test_backlog(backlog: int | None) -> None:
    async with listening(backlog=backlog) as listener:
        [client] = connected(listener)
        await (await listener.accept()).aclose()
        client.close()


async def test_backlog_is_how_many_may_wait() -> None:
    async with listening(backlog=2) as listener:
        waiting = connected(listener, 3)
        with socket.socket() as late:
            late.setblocking(False)
            assert late.connect_ex(listener.address) == errno.EINPROGRESS
            await wait_all_tasks_blocked()
            with pytest.raises(OSError) as caught:
                late.getpeername()
            assert caught.value.errno == errno.ENOTCONN
        close_all(waiting)


# ---- accept -----------------------------------------------------------------------------------------------


async def test_a_second_accept_is_refused() -> None:
    async with listening() as listener, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def first() -> None:
            await (await listener.accept()).aclose()

        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await listener.accept()
        close_all(connected(listener))


async def test_accept_on_a_closed_listener() -> None:
    async with listening() as listener:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def wait() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await listener.accept()

            await wait_all_tasks_blocked()
            await listener.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await listener.accept()
        with pytest.raises(trio.ClosedResourceError):
            async with listener.connections():
                pass
        await listener.aclose()


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_cancelled_accept_loses_no_connection(when: str) -> None:
    """Whichever comes first, the cancel or the connection."""
    async with listening() as listener:
        taken = None
        clients: list[socket.socket] = []
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def disturb() -> None:
                    await wait_all_tasks_blocked()
                    if when == "before":
                        scope.cancel()
                    clients.extend(connected(listener))
                    scope.cancel()

                taken = await listener.accept()
        if taken is None:
            assert scope.cancelled_caught
            with trio.fail_after(30):
                taken = await listener.accept()
        await taken.aclose()
        close_all(clients)


# ---- connections ------------------------------------------------------------------------------------------


async def test_connections_come_in_order() -> None:
    async with listening() as listener, listener.connections() as incoming:
        clients = connected(listener, 50)
        for client in clients:
            stream = await anext(incoming)
            assert stream.socket.getpeername() == client.getsockname()
            await stream.aclose()
        assert "accept_multishot" not in in_flight()
        close_all(clients)


async def test_one_request_serves_many_connections() -> None:
    async with listening() as listener, listener.connections() as incoming:
        before = statistics().submitted
        for _ in range(20):
            clients = connected(listener)
            await (await anext(incoming)).aclose()
            close_all(clients)
        assert statistics().submitted - before <= 5


@pytest.mark.parametrize("how", ["break", "raise", "cancel", "nothing"])
async def test_leaving_the_block_closes_what_nobody_took(how: str) -> None:
    async with listening() as listener:
        clients = []
        try:
            with trio.CancelScope() as scope:
                async with listener.connections() as incoming:
                    async with trio.open_nursery() as nursery:

                        @nursery.start_soon
                        async def connect() -> None:
                            await wait_all_tasks_blocked()
                            clients.extend(connected(listener, 4))

                        if how != "nothing":
                            async for stream in incoming:
                                await stream.aclose()
                                await wait_all_tasks_blocked()
                                break
                    if how == "raise":
                        raise LookupError
                    if how == "cancel":
                        scope.cancel()
                        await trio.lowlevel.checkpoint()
        except LookupError:
            assert how == "raise"
        if how == "nothing":  # never asked for one: they are still in the backlog
            for _ in clients:
                await (await listener.accept()).aclose()
        assert all(is_closed_by_peer(client) for client in clients)
        close_all(clients)
        # The listener goes on.
        [client] = connected(listener)
        await (await listener.accept()).aclose()
        client.close()


async def test_an_iteration_goes_on_after_a_cancel() -> None:
    async with listening() as listener, listener.connections() as incoming:
        for _ in range(3):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:

                    @nursery.start_soon
                    async def cancel(scope: trio.CancelScope = scope) -> None:
                        await wait_all_tasks_blocked()
                        scope.cancel()

                    async for _ in incoming:
                        raise AssertionError("nobody connected")
            assert scope.cancelled_caught
        clients = connected(listener, 2)
        async for stream in incoming:
            await stream.aclose()
            if stream.socket.fileno() == -1 and clients:
                clients.pop().close()
            if not clients:
                break


async def test_two_tasks_cannot_share_an_iteration() -> None:
    async with listening() as listener, listener.connections() as incoming, trio.open_nursery() as nursery:

        @nursery.start_soon
        async def first() -> None:
            await (await anext(incoming)).aclose()

        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await anext(incoming)
        close_all(connected(listener))


async def test_two_iterations_share_the_connections() -> None:
    async with listening() as listener:
        taken = {0: 0, 1: 0}
        clients: list[socket.socket] = []

        async def serve(which: int, nursery: trio.Nursery) -> None:
            async with listener.connections() as incoming:
                async for stream in incoming:
                    await stream.aclose()
                    taken[which] += 1
                    if sum(taken.values()) == 40:
                        nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve, 0, nursery)
            nursery.start_soon(serve, 1, nursery)
            await wait_all_tasks_blocked()
            for _ in range(8):
                clients += connected(listener, 5)
                await wait_all_tasks_blocked()
        assert sum(taken.values()) == 40
        close_all(clients)


async def test_closing_wakes_the_iteration() -> None:
    async with listening() as listener:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def serve() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    async with listener.connections() as incoming:
                        async for _ in incoming:
                            raise AssertionError("nobody connected")

            await wait_all_tasks_blocked()
            await listener.aclose()


async def test_leaving_the_block_wakes_who_iterates_elsewhere() -> None:
    async with listening() as listener, trio.open_nursery() as nursery:
        async with listener.connections() as incoming:

            @nursery.start_soon
            async def iterate() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await anext(incoming)

            await wait_all_tasks_blocked()


async def test_a_slow_consumer_pauses_the_accepts(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit the rest stays in the backlog; nothing is lost, and it goes on by itself."""
    limit_backlog(monkeypatch, 4)
    async with listening() as listener, listener.connections() as incoming:
        await arm(incoming)
        before = open_sockets()
        clients = []
        for _ in range(20):
            clients += connected(listener)
            await wait_all_tasks_blocked()
        queued = open_sockets() - before - len(clients)
        peers = []
        async for stream in incoming:
            peers.append(stream.socket.getpeername())
            await stream.aclose()
            if len(peers) == len(clients):
                break
        assert peers == [client.getsockname() for client in clients]
        assert queued == 4
        close_all(clients)


def open_sockets() -> int:
    return sum(name.startswith("socket:") for name in open_files().values())


def test_accepts_survive_an_overflow_of_the_completion_queue() -> None:
    """More connections in one tick than the queue has room for: the multishot ends and is armed again."""

    async def main() -> None:
        async with listening() as listener, listener.connections() as incoming:
            await arm(incoming)
            before = statistics().submitted
            for _ in range(3):
                clients = connected(listener, 100)
                with trio.fail_after(30):
                    peers = []
                    async for stream in incoming:
                        peers.append(stream.socket.getpeername())
                        await stream.aclose()
                        if len(peers) == len(clients):
                            break
                assert sorted(peers) == sorted(client.getsockname() for client in clients)
                close_all(clients)
            assert statistics().submitted - before > 10

    uring_trio.run(main, ring=RingOptions(entries=2, cq_entries=2))


async def test_a_connection_that_died_in_the_backlog_is_passed_over() -> None:
    async with listening() as listener, listener.connections() as incoming:
        dead, alive = connected(listener, 2)
        dead.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        dead.close()
        peers = []
        while alive.getsockname() not in peers:
            stream = await anext(incoming)
            with suppress(OSError):  # the dead one has no peer
                peers.append(stream.socket.getpeername())
            await stream.aclose()
        alive.close()
