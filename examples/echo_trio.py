"""The same echo server as a plain Trio program:

python examples/echo_trio.py                  on epoll
python -m uring_trio examples/echo_trio.py    on the ring
"""

import argparse
from functools import partial

import trio


async def echo(stream: trio.SocketStream) -> None:
    try:
        async with stream:
            async for data in stream:
                await stream.send_all(data)
    except trio.BrokenResourceError:
        pass  # this client is gone; the others stay


async def main(host: str, port: int) -> None:
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, echo, port, host=host))
        print("listening on {}:{}".format(*listener.socket.getsockname()), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Echoes what TCP clients send.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7000, help="0 picks a free one")
    options = parser.parse_args()
    try:
        # Ctrl-C ends only waits: it never comes between taking a connection and starting its task.
        trio.run(main, options.host, options.port, restrict_keyboard_interrupt_to_checkpoints=True)
    except* KeyboardInterrupt:
        print("stopped")
