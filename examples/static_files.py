"""A static file server: python examples/static_files.py [--root DIR] [--host H] [--port P]

Answers GET with the file of that name below the root. Files are opened on the ring, and go from the page
cache to the socket inside the kernel: there is no thread in the process, and no copy of a file.
"""

import argparse
import os
import stat
from functools import partial
from urllib.parse import unquote_to_bytes

import trio

import uring_trio
from uring import abi, ops

HEAD_MAX = 16384
PIECE = 4 << 20
PATIENCE = 30
"""Seconds for a request to come, and for a client to take a piece."""


async def serve(root: int, stream: uring_trio.UringStream) -> None:
    try:
        async with stream:
            head, rest = await request_head(stream, b"")
            while head and await answer(root, stream, head):
                head, rest = await request_head(stream, rest)
    except (trio.BrokenResourceError, trio.TooSlowError):
        pass  # this client is gone, or silent; the others stay


async def request_head(stream: uring_trio.UringStream, pending: bytes) -> tuple[bytes, bytes]:
    """The head of the next request, and what came behind it; a head of b"" when there is no request any
    more. Requests must not have bodies."""
    with trio.fail_after(PATIENCE):
        while (end := pending.find(b"\r\n\r\n")) < 0:
            data = await stream.receive_some()
            if not data or len(pending) > HEAD_MAX:
                return b"", b""
            pending += data
    return pending[:end], pending[end + 4 :]


async def answer(root: int, stream: uring_trio.UringStream, head: bytes) -> bool:
    """Whether the client may ask for more on this connection."""
    method, target, version, *_ = [*head.split(b"\r\n")[0].split(b" "), b"", b""]
    goes_on = version == b"HTTP/1.1" and b"\r\nconnection: close" not in head.lower()
    if method != b"GET":
        await begin(stream, "405 Method Not Allowed", 0)
        return goes_on
    name = unquote_to_bytes(target.partition(b"?")[0]).lstrip(b"/")
    try:
        # The kernel refuses a name or a symbolic link that leads out of the root.
        flags, beneath = os.O_RDONLY | os.O_NONBLOCK, abi.RESOLVE_BENEATH
        fd = await uring_trio.perform(ops.openat2(name, flags, resolve=beneath, dir_fd=root))
    except (OSError, ValueError):
        await begin(stream, "404 Not Found", 0)
        return goes_on
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            await begin(stream, "404 Not Found", 0)
            return goes_on
        await begin(stream, "200 OK", about.st_size)
        for offset in range(0, about.st_size, PIECE):
            wanted = min(PIECE, about.st_size - offset)
            with trio.fail_after(PATIENCE):
                if await stream.send_file(fd, offset, wanted) < wanted:
                    return False  # it has become shorter than it was announced
        return goes_on
    finally:
        os.close(fd)


async def begin(stream: uring_trio.UringStream, status: str, length: int) -> None:
    await stream.send_all(f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n".encode(), timeout=PATIENCE)


async def main(root: str, host: str, port: int) -> None:
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        async with trio.open_nursery() as nursery:
            handler = partial(serve, directory)
            (listener,) = await nursery.start(partial(uring_trio.serve_tcp, handler, port, host=host))
            print("listening on {}:{}".format(*listener.address), flush=True)
    finally:
        os.close(directory)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serves the files below a directory.")
    parser.add_argument("--root", default=".")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7001, help="0 picks a free one")
    options = parser.parse_args()
    try:
        # Ctrl-C ends only waits: it never comes between taking a connection and starting its task.
        uring_trio.run(
            main,
            options.root,
            options.host,
            options.port,
            restrict_keyboard_interrupt_to_checkpoints=True,
        )
    except* KeyboardInterrupt:
        print("stopped")
