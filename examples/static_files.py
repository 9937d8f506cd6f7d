"""A static file server: python examples/static_files.py [--root DIR] [--host H] [--port P]

Answers GET with the file of that name below the root. Names are looked up, opened and read on the ring;
there is no thread in the process.
"""

import argparse
import os
from urllib.parse import unquote

import trio

import uring_trio

PIECE = 256 * 1024
HEAD_MAX = 16384


async def serve(root: str, stream: uring_trio.UringStream) -> None:
    try:
        async with stream:
            while head := await request_head(stream):
                await answer(root, stream, head)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # this client is gone; the others stay


async def request_head(stream: uring_trio.UringStream) -> bytes:
    """The head of the next request; b"" when there is none any more. Requests must not have bodies."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        data = await stream.receive_some(HEAD_MAX)
        if not data or len(head) > HEAD_MAX:
            return b""
        head += data
    return head


async def answer(root: str, stream: uring_trio.UringStream, head: bytes) -> None:
    method, _, rest = head.decode("latin-1").partition(" ")
    name = os.path.realpath(os.path.join(root, unquote(rest.partition(" ")[0]).partition("?")[0].lstrip("/")))
    if method != "GET":
        await refuse(stream, "405 Method Not Allowed")
        return
    if not name.startswith(root + os.sep):
        await refuse(stream, "404 Not Found")
        return
    try:
        file = await uring_trio.open_file(name, "rb", buffering=0)
    except OSError:
        await refuse(stream, "404 Not Found")
        return
    async with file:
        size = (await file.stat()).st_size
        await stream.send_all(f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode())
        sent = 0
        while sent < size:
            data = await file.pread(min(PIECE, size - sent), sent)
            if not data:  # it has become shorter than it was announced
                await stream.aclose()
                return
            await stream.send_all(data)
            sent += len(data)


async def refuse(stream: uring_trio.UringStream, status: str) -> None:
    await stream.send_all(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())


async def main(root: str, host: str, port: int) -> None:
    async with trio.open_nursery() as nursery:
        listener = await nursery.start(uring_trio.listen_tcp, host, port)
        print("listening on {}:{}".format(*listener.address), flush=True)
        async with listener.connections() as incoming:
            async for stream in incoming:
                nursery.start_soon(serve, root, stream)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serves the files below a directory.")
    parser.add_argument("--root", default=".")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7001, help="0 picks a free one")
    options = parser.parse_args()
    try:
        # Ctrl-C ends a wait, never the moment in which a connection goes from the listener to its task.
        uring_trio.run(
            main,
            os.path.realpath(options.root),
            options.host,
            options.port,
            restrict_keyboard_interrupt_to_checkpoints=True,
        )
    except* KeyboardInterrupt:
        print("stopped")
