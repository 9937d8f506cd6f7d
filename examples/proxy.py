"""Passes connections on: python examples/proxy.py [--host H] [--port P] --to-host H --to-port P

Each direction is one multishot receive whose leases are sent on: the data is in this process only while it is
under way. The end of one direction is passed on too; a side that breaks ends both.
"""

import argparse

import trio

import uring_trio


async def forward(source: uring_trio.UringStream, sink: uring_trio.UringStream) -> None:
    async with source.chunks(copy=False, chunk_size=65536) as chunks:
        async for lease in chunks:
            with lease:
                await sink.send_all(lease.data)
    await sink.send_eof()


async def proxy(client: uring_trio.UringStream, to: tuple[str, int]) -> None:
    try:
        async with client, await uring_trio.open_tcp_stream(*to) as server, trio.open_nursery() as nursery:
            nursery.start_soon(forward, client, server)
            nursery.start_soon(forward, server, client)
    except* (OSError, trio.BrokenResourceError):
        pass  # one side is gone, so this connection is; the others stay


async def main(host: str, port: int, to: tuple[str, int]) -> None:
    async with trio.open_nursery() as nursery:
        listener = await nursery.start(uring_trio.listen_tcp, host, port)
        print("listening on {}:{}".format(*listener.address), flush=True)
        async with listener.connections() as incoming:
            async for stream in incoming:
                nursery.start_soon(proxy, stream, to)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Passes TCP connections on to another address.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7000, help="0 picks a free one")
    parser.add_argument("--to-host", default="127.0.0.1")
    parser.add_argument("--to-port", type=int, required=True)
    options = parser.parse_args()
    try:
        # Ctrl-C ends only waits: it never comes between taking a connection and starting its task.
        uring_trio.run(
            main,
            options.host,
            options.port,
            (options.to_host, options.to_port),
            restrict_keyboard_interrupt_to_checkpoints=True,
        )
    except* KeyboardInterrupt:
        print("stopped")
