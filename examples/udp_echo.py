"""A UDP echo server: python examples/udp_echo.py [--host H] [--port P]

One multishot receive delivers every datagram with its sender's address; a client that cannot be reached does
not end the server.
"""

import argparse

import uring_trio


async def main(host: str, port: int) -> None:
    async with await uring_trio.open_udp((host, port)) as udp, udp.datagrams() as incoming:
        print("listening on {}:{}".format(*udp.address), flush=True)
        async for datagram in incoming:
            try:
                await udp.send_to(datagram.data, datagram.address)
            except OSError:
                pass  # the network to this client is gone, or says so about an earlier datagram


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Echoes datagrams, on io_uring.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7000, help="0 picks a free one")
    options = parser.parse_args()
    try:
        # Ctrl-C ends only waits: it never comes between taking a datagram and answering it.
        uring_trio.run(main, options.host, options.port, restrict_keyboard_interrupt_to_checkpoints=True)
    except* KeyboardInterrupt:
        print("stopped")
