"""The test of the tutorial: python -m pytest test_echo.py"""

from collections.abc import Awaitable, Callable
from socket import SO_LINGER, SOL_SOCKET

import trio
from echo import echo

import uring_trio
from uring_trio.testing import no_leaks


def with_server(client: Callable[[int], Awaitable[None]]) -> None:
    """Runs ``client(port)`` beside the server; every operation must end, every descriptor be closed."""

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            listener, *_ = await nursery.start(uring_trio.serve_tcp, echo, 0)
            await client(listener.address[1])
            nursery.cancel_scope.cancel()

    with no_leaks():
        uring_trio.run(main)


async def hello(port: int) -> None:
    async with await uring_trio.open_tcp_stream("localhost", port) as stream:
        await stream.send_all(b"hello")
        await stream.send_eof()
        assert b"".join([data async for data in stream]) == b"hello"


async def reset(port: int) -> None:
    async with await uring_trio.open_tcp_stream("localhost", port) as stream:
        stream.socket.setsockopt(SOL_SOCKET, SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closing resets
        await stream.send_all(b"hello")
    await hello(port)


def test_it_echoes() -> None:
    with_server(hello)


def test_it_survives_a_reset() -> None:
    with_server(reset)
