"""An echo server on uring_trio's own API: python examples/echo_multishot.py [--host H] [--port P]

One multishot accept delivers every connection: one request, not one for each client. The listener is a task
of the nursery, and cancelling the nursery stops it.
"""

import argparse

import trio

import uring_trio


async def echo(stream: uring_trio.UringStream) -> None:
    try:
        async with stream:
            async for data in stream:
                await stream.send_all(data)
    except trio.BrokenResourceError:
        pass  # this client is gone; the others stay


async def main(host: str, port: int) -> None:
    async with trio.open_nursery() as nursery:
        listener = await nursery.start(uring_trio.listen_tcp, host, port)
        print("listening on {}:{}".format(*listener.address), flush=True)
        async with listener.connections() as incoming:
            async for stream in incoming:
                nursery.start_soon(echo, stream)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Echoes what TCP clients send, on io_uring.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7000, help="0 picks a free one")
    options = parser.parse_args()
    try:
        # Ctrl-C ends only waits: it never comes between taking a connection and starting its task.
        uring_trio.run(main, options.host, options.port, restrict_keyboard_interrupt_to_checkpoints=True)
    except* KeyboardInterrupt:
        print("stopped")
