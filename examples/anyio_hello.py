"""An AnyIO program on the ring: python examples/anyio_hello.py [--host H] [--port P]

``install()`` is the one line that differs: AnyIO runs on its Trio backend, and Trio on io_uring. Try it with
your name: echo Ada | nc 127.0.0.1 7000
"""

import argparse

import anyio
from anyio.abc import SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

import uring_trio

LONGEST_NAME = 200


async def greet(client: SocketStream) -> None:
    async with client:
        try:
            name = await BufferedByteReceiveStream(client).receive_until(b"\n", LONGEST_NAME)
        except (anyio.IncompleteRead, anyio.DelimiterNotFound):
            await client.send(b"Who are you? A line with your name, please.\n")
        except anyio.BrokenResourceError:
            pass  # gone before it sent its name
        else:
            await client.send(b"Hello, %s!\n" % name.strip())


async def main(host: str, port: int) -> None:
    async with await anyio.create_tcp_listener(local_host=host, local_port=port) as listener:
        print(
            "listening on {}:{}".format(*listener.extra(anyio.abc.SocketAttribute.local_address)), flush=True
        )
        await listener.serve(greet)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Greets TCP clients by name.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7000, help="0 picks a free one")
    options = parser.parse_args()
    uring_trio.install()
    try:
        anyio.run(main, options.host, options.port, backend="trio")
    except* KeyboardInterrupt:
        print("stopped")
