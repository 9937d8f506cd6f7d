"""The echo server of the tutorial: python echo.py [PORT]"""

import sys

import trio

import uring_trio


async def echo(stream: uring_trio.UringStream) -> None:
    try:
        async for data in stream:
            await stream.send_all(data)
    except trio.BrokenResourceError:
        print("a client broke off", flush=True)


async def main(port: int) -> None:
    async with trio.open_nursery() as nursery:
        listener, *_ = await nursery.start(uring_trio.serve_tcp, echo, port)
        print("type: nc localhost", listener.address[1], flush=True)


if __name__ == "__main__":
    uring_trio.run(main, int(sys.argv[1]) if sys.argv[1:] else 8000)
