"""Trio's sockets on the ring: how they are made, send and wait, in one run and in several.

What ``stock`` and ``ring`` say of the same program is compared where Trio's own behaviour is the promise.
"""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import PAIRS, fill, in_flight, statistics, tcp_sockets, unix_sockets
from uring_trio.net.socket import RingSocket

KINDS = pytest.mark.parametrize("kind", PAIRS)


async def test_every_constructor_makes_ring_sockets() -> None:
    near, far = trio.socket.socketpair()
    plain = socket.socket()
    made = [near, far, near.dup(), trio.socket.socket(), trio.socket.from_stdlib_socket(plain)]
    made += await tcp_sockets()
    for sock in made:
        assert type(sock) is RingSocket
        assert isinstance(sock, trio.socket.SocketType)
        sock.close()


# ---- sending ----------------------------------------------------------------------------------------------


@KINDS
async def test_bytes_are_in_the_kernel_before_the_first_yield(kind: str) -> None:
    near, far = await PAIRS[kind]()
    with near, far:
        async with trio.open_nursery() as nursery:
            for part in range(50):
                nursery.start_soon(near.send, bytes([part]))

            @nursery.start_soon
            async def end() -> None:
                await wait_all_tasks_blocked()
                near.shutdown(socket.SHUT_WR)

        got = b""
        while part := await far.recv(100):
            got += part
        assert sorted(got) == list(range(50))


@KINDS
@pytest.mark.parametrize("end", ["close", "with", "peer"])
async def test_ending_the_socket_wakes_the_sender(kind: str, end: str) -> None:
    near, far = await PAIRS[kind]()
    await fill(near)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def send() -> None:
            expected = (BrokenPipeError, ConnectionResetError) if end == "peer" else trio.ClosedResourceError
            with pytest.raises(expected):
                await near.send(b"more")

        await wait_all_tasks_blocked()
        assert in_flight() == {"send": 1}
        if end == "close":
            near.close()
        elif end == "with":
            with near:
                pass
        else:
            far.close()
    near.close()
    far.close()


async def test_a_full_socket_refuses_nobody() -> None:
    """MSG_DONTWAIT makes no difference to a Trio program: the socket never blocks anyhow."""
    near, far = await unix_sockets()
    with near, far:
        size = await fill(near)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send() -> None:
                assert await near.send(b"more", socket.MSG_DONTWAIT) == 4

            await wait_all_tasks_blocked()
            got = b""
            while len(got) < size + 4:
                got += await far.recv(65536)
        assert got[size:] == b"more"


# ---- looking ----------------------------------------------------------------------------------------------


@KINDS
async def test_nothing_is_read_ahead(kind: str) -> None:
    near, far = await PAIRS[kind]()
    with near, far:
        assert not far.is_readable()
        await near.send(b"abcdef")
        assert far.is_readable()
        assert await far.recv(2) == b"ab"
        assert far.is_readable()
        with far.dup() as other:
            assert await other.recv(2) == b"cd"
        plain = socket.socket(fileno=far.detach())
        with plain:
            plain.setblocking(True)
            assert plain.recv(10) == b"ef"
        assert far.fileno() == -1


async def test_a_half_closed_peer_does_not_make_a_full_socket_writable() -> None:
    """The kernel reports the peer's shutdown with every poll, asked or not."""
    near, far = await unix_sockets()
    with near, far:
        size = await fill(near)
        far.shutdown(socket.SHUT_WR)
        done = False

        async def wait() -> None:
            nonlocal done
            await trio.lowlevel.wait_writable(near)
            done = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            assert not done
            assert in_flight() == {"wait_writable": 1}
            while size:
                size -= len(await far.recv(min(size, 65536)))
        assert done
        await fill(near)
        done = False
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await wait_all_tasks_blocked()
                scope.cancel()
        assert not done
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def closed() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await trio.lowlevel.wait_writable(near)

            await wait_all_tasks_blocked()
            near.close()


# ---- more than one run ------------------------------------------------------------------------------------


def test_a_socket_lives_through_several_runs() -> None:
    """On the ring, on stock Trio, and on the ring again."""
    near, far = socket.socketpair()

    async def make() -> Any:
        return trio.socket.from_stdlib_socket(far)

    async def use(sock: Any) -> None:
        near.send(b"one")
        assert await sock.recv(10) == b"one"
        memory = bytearray(10)
        near.send(b"two")
        assert await sock.recv_into(memory) == 3
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sock.recv, 10)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    with near:
        sock = uring_trio.run(make)
        for run in (uring_trio.run, trio.run, uring_trio.run, uring_trio.run, trio.run):
            run(use, sock)

        async def close() -> None:
            sock.close()

        uring_trio.run(close)


def test_stock_runs_in_other_threads_stay_stock() -> None:
    backends = {}

    async def echo(name: str) -> None:
        backends[name] = statistics().backend
        near, far = trio.socket.socketpair()
        with near, far:
            for turn in range(200):
                data = f"{name} {turn}".encode()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(near.send, data)
                    assert await far.recv(100) == data
        with trio.socket.socket() as sock, pytest.raises(ConnectionRefusedError):
            await sock.connect(("127.0.0.1", 1))

    async def with_neighbours() -> None:
        thread = threading.Thread(target=trio.run, args=(echo, "stock"))
        other = threading.Thread(target=uring_trio.run, args=(echo, "other ring"))
        thread.start()
        other.start()
        await echo("ring")
        await trio.to_thread.run_sync(thread.join)
        await trio.to_thread.run_sync(other.join)

    uring_trio.run(with_neighbours)
    assert backends == {"stock": "epoll", "ring": "io_uring", "other ring": "io_uring"}
