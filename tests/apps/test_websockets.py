"""WebSockets: quart-trio served by hypercorn, and trio-websocket as client and as server."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
from quart import request, websocket
from quart_trio import QuartTrio
from trio_websocket import ConnectionClosed, open_websocket_url, serve_websocket

from tests.apps.serving import MIB, data, hypercorn, submitted

if TYPE_CHECKING:
    from trio_websocket import WebSocketRequest

BIG = 512 * 1024


def chat() -> QuartTrio:
    """Echoes on one address; on another passes what one says to all that are there."""
    app = QuartTrio(__name__)
    members: set[trio.MemorySendChannel[str]] = set()

    @app.websocket("/echo")
    async def echo() -> None:
        while True:
            await websocket.send(await websocket.receive())

    @app.websocket("/room")
    async def room() -> None:
        send, receive = trio.open_memory_channel[str](1000)
        members.add(send)
        try:
            await websocket.send("welcome")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(say, receive)
                while True:
                    text = await websocket.receive()
                    for member in members:
                        member.send_nowait(text)
        finally:
            members.discard(send)

    async def say(receive: trio.MemoryReceiveChannel[str]) -> None:
        async for text in receive:
            await websocket.send(text)

    @app.post("/count")
    async def count() -> dict[str, int]:
        return {"bytes": len(await request.get_data())}

    return app


async def test_quart_echoes(maybe_tls: Any) -> None:
    async def talk(url: str, number: int) -> None:
        context = maybe_tls.client if maybe_tls is not None else None
        async with open_websocket_url(f"{url}/echo", ssl_context=context) as client:
            for turn in range(50):
                await client.send_message(f"{number}: {turn}")
                assert await client.get_message() == f"{number}: {turn}"
            await client.send_message(data(BIG, number))
            assert await client.get_message() == data(BIG, number)

    async with hypercorn(chat(), maybe_tls) as url:
        before = submitted()
        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(talk, url.replace("http", "ws", 1), number)
        assert submitted() - before > 500


async def test_quart_tells_all_in_a_room() -> None:
    members, texts = 20, [f"text {number}" for number in range(20)]
    heard: list[list[str]] = []

    async def member(url: str, task_status: Any) -> None:
        async with open_websocket_url(url) as client:
            assert await client.get_message() == "welcome"
            task_status.started()
            heard.append([await client.get_message() for _ in texts])

    async with hypercorn(chat()) as url:
        room = f"{url.replace('http', 'ws', 1)}/room"
        async with trio.open_nursery() as nursery:
            for _ in range(members):
                await nursery.start(member, room)
            async with open_websocket_url(room) as speaker:
                assert await speaker.get_message() == "welcome"
                for text in texts:
                    await speaker.send_message(text)
                assert [await speaker.get_message() for _ in texts] == texts
    assert heard == [texts] * members


async def serve_echo(request: WebSocketRequest) -> None:
    connection = await request.accept()
    try:
        while True:
            await connection.send_message(await connection.get_message())
    except ConnectionClosed:
        pass


async def test_trio_websocket_at_both_ends(maybe_tls: Any) -> None:
    scheme = "ws" if maybe_tls is None else "wss"
    server_context, client_context = (
        (None, None) if maybe_tls is None else (maybe_tls.server, maybe_tls.client)
    )

    async def talk(url: str, number: int) -> None:
        async with open_websocket_url(url, ssl_context=client_context) as client:
            for turn in range(20):
                await client.send_message(data(1000 + turn, number))
                assert await client.get_message() == data(1000 + turn, number)
            await client.ping()

    async with trio.open_nursery() as nursery:
        serve = partial(serve_websocket, max_message_size=2 * MIB)
        server = await nursery.start(serve, serve_echo, "127.0.0.1", 0, server_context)
        url = f"{scheme}://127.0.0.1:{server.port}"
        async with trio.open_nursery() as clients:
            for number in range(30):
                clients.start_soon(talk, url, number)
        nursery.cancel_scope.cancel()


async def test_trio_websocket_cancels_and_closes() -> None:
    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, serve_echo, "127.0.0.1", 0, None)
        async with open_websocket_url(f"ws://127.0.0.1:{server.port}") as client:
            for number in range(10):
                with trio.move_on_after(0.001) as scope:
                    await client.get_message()
                assert scope.cancelled_caught
                await client.send_message(str(number))
                assert await client.get_message() == str(number)
            await client.aclose(4000, "enough")
            with pytest.raises(ConnectionClosed) as closed:
                await client.get_message()
            assert (closed.value.reason.code, closed.value.reason.reason) == (4000, "enough")
        nursery.cancel_scope.cancel()
