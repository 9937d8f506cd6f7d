"""Serves files without reading them: python examples/file_server.py [--host H] [--port P] [--root DIR]

A client sends a line with a name and gets the file: its size on a line, then its bytes, which go from the
page cache to the socket inside the kernel. Many names may be asked for on one connection.
"""

import argparse
import os
from functools import partial
from pathlib import Path

import trio

import uring_trio
from uring import ops

LONGEST_NAME = 1000


async def serve(root: Path, stream: uring_trio.UringStream) -> None:
    pending = b""
    try:
        async with stream, stream.chunks(chunk_size=4096) as chunks:
            async for data in chunks:
                *names, pending = (pending + data).split(b"\n")
                for name in names:
                    await send(root, name, stream)
                if len(pending) > LONGEST_NAME:
                    return
    except trio.BrokenResourceError:
        pass  # this client is gone; the others stay


async def send(root: Path, name: bytes, stream: uring_trio.UringStream) -> None:
    path = root / os.fsdecode(name)
    # What is asked for stays below the root, whatever the name says.
    if b"\0" in name or not path.resolve().is_relative_to(root):
        await stream.send_all(b"-1\n")
        return
    try:
        fd = await uring_trio.perform(ops.openat(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:
        await stream.send_all(b"-1\n")
        return
    try:
        size = os.fstat(fd).st_size if path.is_file() else -1
        await stream.send_all(b"%d\n" % size)
        if size > 0:
            await stream.send_file(fd, count=size)
    finally:
        os.close(fd)


async def main(host: str, port: int, root: Path) -> None:
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(
            partial(uring_trio.serve_tcp, partial(serve, root.resolve()), port, host=host)
        )
        print("listening on {}:{}".format(*listener.address), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serves the files below a directory.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=7000, help="0 picks a free one")
    parser.add_argument("--root", type=Path, default=Path("."))
    options = parser.parse_args()
    try:
        # Ctrl-C ends a wait, never the moment in which a connection goes from the listener to its task.
        uring_trio.run(
            main,
            options.host,
            options.port,
            options.root,
            restrict_keyboard_interrupt_to_checkpoints=True,
        )
    except* KeyboardInterrupt:
        print("stopped")
