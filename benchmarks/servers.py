"""The echo servers under test, one process each: `python -m benchmarks.servers NAME`.

Each prints {"port": N}, serves on 127.0.0.1 until its standard input ends, and does the least that its
interface allows: receive up to 64 KiB, send it back. A contender and its ring twin are the same function
under another `run`. A Trio server answers a line on its standard input with its I/O manager's statistics.
"""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import os
import socket
import sys
from typing import TYPE_CHECKING, Any, cast

import anyio
import trio

from .processes import BODIES, body

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

HOST = "127.0.0.1"
CHUNK = 65536
BACKLOG = 1024


def announce(port: int) -> None:
    print(json.dumps({"port": port}), flush=True)


def io_statistics() -> dict[str, Any]:
    """The current run's I/O manager statistics as plain data, whatever class they are of."""
    statistics = trio.lowlevel.current_statistics().io_statistics
    names = [name for name in dir(statistics) if not name.startswith("_")]
    values = {name: getattr(statistics, name) for name in names}
    return {name: value for name, value in values.items() if not callable(value)}


# Trio, stock or on the ring -----------------------------------------------------------------------------


async def echo_socket(client: trio.socket.SocketType) -> None:
    with client:
        try:
            while data := await client.recv(CHUNK):
                sent = await client.send(data)
                while sent < len(data):
                    sent += await client.send(memoryview(data)[sent:])
        except OSError:
            return


async def echo_stream(stream: trio.abc.Stream) -> None:
    async with stream:
        try:
            while data := await stream.receive_some(CHUNK):
                await stream.send_all(data)
        except trio.BrokenResourceError:
            return


async def echo_chunks(stream: Any) -> None:
    async with stream, stream.chunks() as chunks:
        try:
            async for data in chunks:
                await stream.send_all(data)
        except trio.BrokenResourceError:
            return


async def echo_within(seconds: float, stream: trio.abc.Stream) -> None:
    """Each request under a deadline of its own, as servers have for clients that fall silent."""
    async with stream:
        try:
            while True:
                with trio.move_on_after(seconds) as scope:
                    data = await stream.receive_some(CHUNK)
                    await stream.send_all(data)
                if scope.cancelled_caught or not data:
                    return
        except trio.BrokenResourceError:
            return


async def serve_sockets(nursery: trio.Nursery) -> None:
    with trio.socket.socket() as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await listener.bind((HOST, 0))
        listener.listen(BACKLOG)
        announce(listener.getsockname()[1])
        while True:
            client, _ = await listener.accept()
            nursery.start_soon(echo_socket, client)


async def serve_streams(nursery: trio.Nursery) -> None:
    serve = functools.partial(trio.serve_tcp, echo_stream, 0, host=HOST, backlog=BACKLOG)
    listeners = await nursery.start(serve)
    announce(listeners[0].socket.getsockname()[1])


async def serve_uring_streams(nursery: trio.Nursery, handler: Any = echo_stream) -> None:
    import uring_trio

    serve = functools.partial(uring_trio.serve_tcp, handler, 0, host=HOST, backlog=BACKLOG)
    listeners = await nursery.start(serve)
    announce(listeners[0].address[1])


async def serve_multishot(nursery: trio.Nursery, *, direct: bool = False) -> None:
    import uring_trio

    listener = await nursery.start(functools.partial(uring_trio.listen_tcp, HOST, 0, BACKLOG, direct=direct))
    announce(listener.address[1])
    async with listener.connections() as incoming:
        async for stream in incoming:
            nursery.start_soon(echo_stream, stream)


async def answer_statistics(cancel_scope: trio.CancelScope) -> None:
    while True:
        await trio.lowlevel.wait_readable(0)
        if not os.read(0, 1024):
            cancel_scope.cancel()
            return
        print(json.dumps(io_statistics(), default=str), flush=True)


async def trio_main(serve: Callable[[trio.Nursery], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_statistics, nursery.cancel_scope)
        await serve(nursery)


def on_trio(serve: Callable[[trio.Nursery], Awaitable[None]]) -> None:
    trio.run(trio_main, serve)


def on_ring(serve: Callable[[trio.Nursery], Awaitable[None]], **options: Any) -> None:
    import uring_trio

    uring_trio.run(trio_main, serve, ring=uring_trio.RingOptions(**options))


def within(seconds: float, deadlines: str) -> None:
    handler = functools.partial(echo_within, seconds)
    on_ring(functools.partial(serve_uring_streams, handler=handler), deadlines=deadlines)


# asyncio and uvloop -------------------------------------------------------------------------------------


async def echo_asyncio_stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


class EchoProtocol(asyncio.Protocol):
    """Echo without tasks; stops reading while the peer does not take the answers."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is not an instance of it

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


async def serve_asyncio_streams() -> asyncio.Server:
    return await asyncio.start_server(echo_asyncio_stream, HOST, 0, backlog=BACKLOG, limit=CHUNK)


async def serve_asyncio_protocols() -> asyncio.Server:
    return await asyncio.get_running_loop().create_server(EchoProtocol, HOST, 0, backlog=BACKLOG)


async def asyncio_main(serve: Callable[[], Awaitable[asyncio.Server]]) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(0, ended.set)
    server = await serve()
    announce(server.sockets[0].getsockname()[1])
    await ended.wait()


def on_asyncio(serve: Callable[[], Awaitable[asyncio.Server]]) -> None:
    asyncio.run(asyncio_main(serve))


def on_uvloop(serve: Callable[[], Awaitable[asyncio.Server]]) -> None:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio_main(serve))


# AnyIO, by backend --------------------------------------------------------------------------------------


async def echo_anyio(stream: anyio.abc.SocketStream) -> None:
    async with stream:
        try:
            while True:
                await stream.send(await stream.receive(CHUNK))
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return


async def anyio_main() -> None:
    async with await anyio.create_tcp_listener(local_host=HOST, backlog=BACKLOG) as listener:
        announce(listener.extra(anyio.abc.SocketAttribute.local_port))
        async with anyio.create_task_group() as group:
            group.start_soon(listener.serve, echo_anyio)
            await anyio.wait_readable(0)
            group.cancel_scope.cancel()


def on_anyio(backend: str) -> None:
    if backend == "uring":
        import uring_trio.anyio  # noqa: F401 - makes the backend known
    anyio.run(anyio_main, backend=backend)


# HTTP/1.1 by h11, without a framework -----------------------------------------------------------------


async def answer_h11(stream: trio.abc.Stream) -> None:
    """Plain text to each request of a connection that is kept alive."""
    import h11

    connection = h11.Connection(h11.SERVER)
    answer = body("text").read_bytes()
    head = h11.Response(status_code=200, headers=[("Content-Length", str(len(answer)))])
    async with stream:
        try:
            while True:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    connection.receive_data(await stream.receive_some(CHUNK))
                elif isinstance(event, h11.EndOfMessage):
                    parts = [connection.send(each) for each in (head, h11.Data(answer), h11.EndOfMessage())]
                    await stream.send_all(b"".join(filter(None, parts)))
                    connection.start_next_cycle()
                elif isinstance(event, h11.ConnectionClosed):
                    return
        except trio.BrokenResourceError:
            return


async def serve_h11(nursery: trio.Nursery) -> None:
    serve = functools.partial(trio.serve_tcp, answer_h11, 0, host=HOST, backlog=BACKLOG)
    listeners = await nursery.start(serve)
    announce(listeners[0].socket.getsockname()[1])


# hypercorn with Starlette -----------------------------------------------------------------------------


async def hypercorn_main() -> None:
    """hypercorn's own trio worker, with the plain text and the files of `BODIES`."""
    from hypercorn.config import Config
    from hypercorn.trio import serve
    from starlette.applications import Starlette
    from starlette.responses import FileResponse, PlainTextResponse
    from starlette.routing import Route

    bodies = {name: body(name) for name in BODIES}
    answer = bodies["text"].read_bytes()

    async def send_text(request: Any) -> PlainTextResponse:
        return PlainTextResponse(answer)

    async def send_file(request: Any) -> FileResponse:
        return FileResponse(bodies[request.url.path[1:]])

    app = Starlette(routes=[Route("/text", send_text), Route("/file", send_file), Route("/large", send_file)])
    config = Config()
    config.bind = [f"{HOST}:0"]
    config.backlog = BACKLOG
    config.errorlog = logging.getLogger("benchmarks.hypercorn")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer_statistics, nursery.cancel_scope)
        (url,) = await nursery.start(functools.partial(serve, cast("Any", app), config))
        announce(int(url.rpartition(":")[2]))


def on_hypercorn(backend: str) -> None:
    if backend == "uring":
        import uring_trio

        uring_trio.install(files=True)
    trio.run(hypercorn_main)


SERVERS: dict[str, Callable[[], None]] = {
    "trio-sockets": functools.partial(on_trio, serve_sockets),
    "trio-streams": functools.partial(on_trio, serve_streams),
    "ring-sockets": functools.partial(on_ring, serve_sockets),
    "ring-streams": functools.partial(on_ring, serve_streams),
    "uring-streams": functools.partial(on_ring, serve_uring_streams),
    "uring-chunks": functools.partial(on_ring, functools.partial(serve_uring_streams, handler=echo_chunks)),
    "uring-multishot": functools.partial(on_ring, serve_multishot),
    "uring-direct": functools.partial(on_ring, functools.partial(serve_multishot, direct=True)),
    "looking-50us": functools.partial(on_ring, serve_sockets, spin_us=50),
    "looking-500us": functools.partial(on_ring, serve_sockets, spin_us=500),
    "within-30s-cancel": functools.partial(within, 30, "cancel"),
    "within-30s-auto": functools.partial(within, 30, "auto"),
    "within-30s-link": functools.partial(within, 30, "link"),
    "within-0.5s-auto": functools.partial(within, 0.5, "auto"),
    "within-0.05s-auto": functools.partial(within, 0.05, "auto"),
    "asyncio-streams": functools.partial(on_asyncio, serve_asyncio_streams),
    "uvloop-streams": functools.partial(on_uvloop, serve_asyncio_streams),
    "uvloop-protocols": functools.partial(on_uvloop, serve_asyncio_protocols),
    "anyio-trio": functools.partial(on_anyio, "trio"),
    "anyio-uring": functools.partial(on_anyio, "uring"),
    "anyio-asyncio": functools.partial(on_anyio, "asyncio"),
    "again-trio-streams": functools.partial(on_trio, serve_streams),
    "h11-trio": functools.partial(on_trio, serve_h11),
    "h11-uring": functools.partial(on_ring, serve_h11),
    "hypercorn-trio": functools.partial(on_hypercorn, "trio"),
    "hypercorn-uring": functools.partial(on_hypercorn, "uring"),
}

if __name__ == "__main__":
    SERVERS[sys.argv[1]]()
