"""Follows a log file, also over its rotation: what ``tail -F`` does.

    python examples/tail.py PATH

Prints what is appended from now on. A file that was truncated or replaced under its name is read from its
beginning.
"""

import sys

import trio

import uring_trio

PAUSE = 0.05


async def main(path: str) -> None:
    first = True
    while True:
        try:
            file = await uring_trio.open_file(path, "rb", buffering=0)
        except FileNotFoundError:
            await trio.sleep(PAUSE)
            continue
        async with file:
            await follow(path, file, from_end=first)
        first = False


async def follow(path: str, file: uring_trio.RawFile, *, from_end: bool) -> None:
    """Prints what comes until the file is no longer the one of that name."""
    offset = (await file.stat()).st_size if from_end else 0
    print(f"following {path}", file=sys.stderr, flush=True)
    while True:
        if data := await file.pread(65536, offset):
            offset += len(data)
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
            continue
        here = await file.stat()
        try:
            named = await uring_trio.stat(path)
        except FileNotFoundError:
            return
        if (named.st_dev, named.st_ino) != (here.st_dev, here.st_ino):
            return
        if here.st_size < offset:
            offset = 0
        await trio.sleep(PAUSE)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    try:
        uring_trio.run(main, sys.argv[1])
    except KeyboardInterrupt:
        pass
