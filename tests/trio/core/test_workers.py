"""Slow peers and full backlogs cost no kernel worker."""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import many_files, tcp_pair, threads
from uring_trio import UringStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

PATIENCE = 60.0


async def slow_readers(
    number: int, send: Callable[[Any], Awaitable[object]], size: int, room: int = 4096
) -> None:
    """So many peers have sent their end of stream and read nothing: not one thread waits for them. Then they
    read, and each gets everything."""
    pairs = [tcp_pair(room) for _ in range(number)]
    before = threads()
    async with trio.open_nursery() as nursery:
        for near, far in pairs:
            far.shutdown(socket.SHUT_WR)
            nursery.start_soon(send, trio.socket.from_stdlib_socket(near))
        await wait_all_tasks_blocked()
        assert not threads() - before

        async def read(far: socket.socket) -> None:
            far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            with trio.socket.from_stdlib_socket(far) as sock:
                left = size
                while left:
                    left -= len(await sock.recv(1 << 20))

        for _, far in pairs:
            nursery.start_soon(read, far)
    assert not threads() - before


async def test_a_thousand_slow_readers_cost_no_thread() -> None:
    async def send(sock: Any) -> None:
        async with trio.SocketStream(sock) as stream:
            await stream.send_all(bytes(60_000))

    with many_files(2300):
        await slow_readers(1000, send, 60_000)


@pytest.mark.parametrize("how", ["sendmsg", "send_all", "send_zero_copy", "timeout"])
async def test_slow_readers_cost_no_thread(how: str) -> None:
    # A window of 4 KiB makes TCP send a page of zero-copy data again and again, for seconds, and on Linux 7.2
    # for minutes: plain sockets do so too.
    size, room = (3_000_000, 1 << 18) if how == "send_zero_copy" else (60_000, 4096)

    async def send(sock: Any) -> None:
        async with UringStream(sock) as stream:
            if how == "sendmsg":
                left = size
                while left:
                    left -= await sock.sendmsg([bytes(left)])
            elif how == "timeout":
                await stream.send_all(bytes(size), timeout=PATIENCE)
            else:
                await getattr(stream, how)(bytes(size))

    await slow_readers(50, send, size, room)


async def test_slow_readers_of_direct_streams_cost_no_thread() -> None:
    size = 3_000_000
    async with trio.open_nursery() as nursery:
        listener: Any = await nursery.start(partial(uring_trio.listen_tcp, "127.0.0.1", 0, direct=True))
        clients = []
        before = threads()

        async def serve() -> None:
            async with await listener.accept() as stream:
                await stream.send_all(bytes(size))

        async with trio.open_nursery() as servers:
            for _ in range(20):
                client = socket.socket()
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                client.connect(listener.address)
                client.shutdown(socket.SHUT_WR)
                clients.append(client)
                servers.start_soon(serve)
                await wait_all_tasks_blocked()
            assert not threads() - before

            async def read(client: socket.socket) -> None:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
                with trio.socket.from_stdlib_socket(client) as sock:
                    left = size
                    while left:
                        left -= len(await sock.recv(1 << 20))

            for client in clients:
                servers.start_soon(read, client)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("how", ["trio", "uring"])
async def test_connecting_to_a_full_unix_backlog_waits(how: str, tmp_path: Path) -> None:
    """Without a thread. Stock Trio returns a socket that is not connected."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        waiting = []
        with pytest.raises(BlockingIOError):
            while True:
                client = socket.socket(socket.AF_UNIX)
                waiting.append(client)
                client.setblocking(False)
                client.connect(path)
        before = threads()

        async def connect() -> Any:
            if how == "trio":
                return await trio.open_unix_socket(path)
            return await uring_trio.open_unix_stream(path)

        with trio.move_on_after(0.05) as scope:
            await connect()
        assert scope.cancelled_caught
        assert not threads() - before
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def use() -> None:
                async with await connect() as stream:
                    await stream.send_all(b"at last")

            await trio.sleep(0.02)
            accepted = [listener.accept()[0] for _ in waiting[:-1]]
            sock, _ = await trio.to_thread.run_sync(listener.accept)
            assert await trio.to_thread.run_sync(sock.recv, 10) == b"at last"
        for each in (*waiting, *accepted, sock):
            each.close()
