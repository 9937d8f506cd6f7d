"""A chat room over WebSockets: each message goes to everybody who is there.

URING_TRIO=1 python websockets_room.py --port 8000
python -m websockets ws://localhost:8000
"""

import argparse
import signal
from functools import partial

import trio
from websockets.exceptions import ConnectionClosed
from websockets.trio.server import ServerConnection, serve

members: set[ServerConnection] = set()


async def member(connection: ServerConnection) -> None:
    members.add(connection)
    try:
        async for message in connection:
            for other in [*members]:
                await say(other, message)
    finally:
        members.discard(connection)


async def say(connection: ServerConnection, message: str | bytes) -> None:
    with trio.move_on_after(5) as limit:
        try:
            await connection.send(message)
        except ConnectionClosed:
            return
    if limit.cancelled_caught:  # it takes nothing: the room goes on without it
        members.discard(connection)


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=8000)
    port = parser.parse_args().port
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(partial(serve, member, port, host="127.0.0.1"))
            host, port = server.listeners[0].socket.getsockname()[:2]
            print(f"listening on {host}:{port}", flush=True)
            await anext(signals)
            with trio.move_on_after(10):
                await server.aclose()
            nursery.cancel_scope.cancel()
    print("stopped")


if __name__ == "__main__":
    trio.run(main)
