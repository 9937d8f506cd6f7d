"""The echo server as a service: python service.py [PORT]

SIGTERM and Ctrl-C stop it: no new connections, `GRACE` seconds for those that are open, exit status 0.
"""

import signal
import sys
from functools import partial

import trio
from echo import echo

import uring_trio

GRACE = 2.0


async def main(port: int) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as clients, trio.open_nursery() as listening:
            serve = partial(uring_trio.serve_tcp, echo, port, handler_nursery=clients)
            listener, *_ = await listening.start(serve)
            print("type: nc localhost", listener.address[1], flush=True)
            await anext(signals)
            listening.cancel_scope.cancel()
            clients.cancel_scope.deadline = trio.current_time() + GRACE
    print("stopped")


if __name__ == "__main__":
    uring_trio.run(main, int(sys.argv[1]) if sys.argv[1:] else 8000)
