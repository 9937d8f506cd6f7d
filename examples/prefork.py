"""A server of several processes: python examples/prefork.py [--workers N] [--host H] [--port P]

Each worker has a listening socket and a ring of its own. The sockets share one address by ``SO_REUSEPORT``,
and the kernel spreads the connections over them. The parent keeps the address, restarts a worker that ends by
itself, and stops all of them on SIGTERM and Ctrl-C.
"""

import argparse
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from functools import partial

import trio

import uring_trio


async def answer(stream: uring_trio.UringStream) -> None:
    try:
        await stream.send_all(b"worker %d\n" % os.getpid())
    except trio.BrokenResourceError:
        pass  # this client is gone; the others stay


async def work(host: str, port: int, ready: int) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            serve = partial(uring_trio.serve_tcp, answer, port, host=host, reuse_port=True)
            await nursery.start(serve)
            os.write(ready, b"r")
            os.close(ready)
            await anext(signals)
            nursery.cancel_scope.cancel()


async def supervise(command: list[str], task_status: trio.TaskStatus[None]) -> None:
    """Keeps one worker running until it is cancelled."""
    started = False
    while True:
        ready, tell = os.pipe()
        async with trio.lowlevel.FdStream(ready) as pipe:
            try:
                worker = await trio.lowlevel.open_process([*command, str(tell)], pass_fds=[tell])
            finally:
                os.close(tell)
            try:
                if await pipe.receive_some(1) and not started:  # else it has ended before it was ready
                    started = True
                    task_status.started()
                await worker.wait()
            finally:
                with trio.CancelScope(shield=True):
                    worker.terminate()
                    await worker.wait()
        await trio.sleep(1)  # a worker that fails at once must not be started all the time


async def stop_on(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    await anext(signals)
    scope.cancel()


async def main(workers: int, host: str, port: int) -> None:
    with socket.socket() as address, trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        address.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        address.bind((host, port))  # never listens: keeps the port for the workers
        port = address.getsockname()[1]
        command = [sys.executable, *sys.argv[:1], "--host", host, "--port", str(port), "--worker"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_on, signals, nursery.cancel_scope)
            for _ in range(workers):
                await nursery.start(supervise, command)
            print(f"listening on {host}:{port}", flush=True)
    print("stopped")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Tells each client which worker serves it.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7000, help="0 picks a free one")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--worker", type=int, help="be one, and say so here: used by the parent")
    options = parser.parse_args()
    if options.worker is not None:
        uring_trio.run(work, options.host, options.port, options.worker)
    else:
        uring_trio.run(main, options.workers, options.host, options.port)
