"""An echo server with TLS: python examples/tls_echo.py --certificate FILE [--host H] [--port P]

Trio's TLS works over any stream. Trio's sockets are ring sockets in a ring run, so this is a plain Trio
program but for its last lines.
"""

import argparse
import ssl
from functools import partial

import trio

import uring_trio


async def echo(stream: trio.SSLStream[trio.SocketStream]) -> None:
    try:
        async with stream:
            async for data in stream:
                await stream.send_all(data)
    except trio.BrokenResourceError:
        pass  # this client is gone, or speaks no TLS; the others stay


async def main(certificate: str, host: str, port: int) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    serve = partial(trio.serve_ssl_over_tcp, echo, port, context, host=host, https_compatible=True)
    async with trio.open_nursery() as nursery:
        listener, *_ = await nursery.start(serve)
        address = listener.transport_listener.socket.getsockname()
        print("listening on {}:{}".format(*address), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Echoes what TLS clients send, on io_uring.")
    parser.add_argument("--certificate", required=True, help="a PEM file: the certificates and the key")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7000, help="0 picks a free one")
    options = parser.parse_args()
    main_with = partial(main, options.certificate, options.host, options.port)
    try:
        # Ctrl-C ends only waits: it never comes between taking a connection and starting its task.
        uring_trio.run(main_with, restrict_keyboard_interrupt_to_checkpoints=True)
    except* KeyboardInterrupt:
        print("stopped")
