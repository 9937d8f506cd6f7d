"""The echo server with deadlines: python echo_in_time.py [PORT [SECONDS]]"""

import sys
from functools import partial

import trio

import uring_trio


async def echo(idle: float, stream: uring_trio.UringStream) -> None:
    try:
        with trio.move_on_after(100 * idle):  # the whole conversation
            while data := await stream.receive_some(timeout=idle):
                await stream.send_all(data, timeout=idle)
    except trio.TooSlowError:
        print("a client was idle", flush=True)
    except trio.BrokenResourceError:
        print("a client broke off", flush=True)


async def main(port: int, idle: float) -> None:
    async with trio.open_nursery() as nursery:
        listener, *_ = await nursery.start(uring_trio.serve_tcp, partial(echo, idle), port)
        print("type: nc localhost", listener.address[1], flush=True)


if __name__ == "__main__":
    port, idle = (sys.argv[1:] + ["8000", "10"][len(sys.argv) - 1 :])[:2]
    uring_trio.run(main, int(port), float(idle))
