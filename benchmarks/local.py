"""Measured inside one process: pieces of a file, values of a memory channel, commands to a Redis server.

Each function returns the process's CPU microseconds for one of them, its threads and kernel workers included.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import trio

from .processes import CACHE, BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

__all__ = [
    "commands",
    "exchange",
    "get_values",
    "has_redis",
    "read_in_place",
    "read_in_threads",
    "read_pieces",
    "seek_and_read",
    "values",
]

HOST = "127.0.0.1"
TASKS = 64
PIECE = 4096
FILE_BYTES = 16 << 20
READS = {True: 19_200, False: 3_200}  # by whether a file needs no thread
VALUES = 50_000
CLIENTS = 20
COMMANDS = 4_000
VALUE = bytes(1024)


# A file in the page cache -------------------------------------------------------------------------------


async def read_pieces(contender: Callable[[str, list[int]], Awaitable[None]]) -> float:
    """4 KiB out of anywhere in a file, by 64 tasks."""
    count = READS[contender is read_in_place]
    places = [random.randrange(FILE_BYTES // PIECE) * PIECE for _ in range(count)]
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=CACHE) as file:
        file.write(random.randbytes(FILE_BYTES))
        file.flush()
        await contender(file.name, places[:TASKS])
        before = time.process_time()
        async with trio.open_nursery() as nursery:
            for task in range(TASKS):
                nursery.start_soon(contender, file.name, places[task::TASKS])
        return (time.process_time() - before) / count * 1e6


def expect(data: bytes) -> None:
    if len(data) != PIECE:
        raise BenchmarkError(f"a piece of the file has {len(data)} bytes")


async def seek_and_read(path: str, places: list[int]) -> None:
    async with await trio.open_file(path, "rb") as file:
        for place in places:
            await file.seek(place)
            expect(await file.read(PIECE))


async def read_in_threads(path: str, places: list[int]) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        for place in places:
            expect(await trio.to_thread.run_sync(os.pread, fd, PIECE, place))
    finally:
        os.close(fd)


async def read_in_place(path: str, places: list[int]) -> None:
    import uring_trio

    async with await uring_trio.open_file(path, "rb") as file:
        for place in places:
            expect(await file.pread(PIECE, place))


# A memory channel ---------------------------------------------------------------------------------------


async def values(contender: Callable[[int], Awaitable[None]]) -> float:
    """A value from one task to another, which waits for it."""
    await contender(VALUES // 10)
    before = time.process_time()
    await contender(VALUES)
    return (time.process_time() - before) / VALUES * 1e6


async def exchange(count: int) -> None:
    send, receive = trio.open_memory_channel[int](0)

    async def take() -> None:
        for i in range(count):
            if await receive.receive() != i:
                raise BenchmarkError("a value is not the one that was sent")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        for i in range(count):
            await send.send(i)


# Redis --------------------------------------------------------------------------------------------------


def has_redis() -> bool:
    """Whether the server is there, and coredis."""
    from importlib.util import find_spec

    return shutil.which("redis-server") is not None and find_spec("coredis") is not None


@contextmanager
def redis_server() -> Iterator[int]:
    """The port of a server that keeps nothing on disk, on another core where there is one."""
    with closing(socket.create_server((HOST, 0))) as free:
        port: int = free.getsockname()[1]
    command = ["redis-server", "--bind", HOST, "--port", str(port), "--save", "", "--appendonly", "no"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL) as server:
        os.sched_setaffinity(server.pid, set(range(os.cpu_count() or 1)) - os.sched_getaffinity(0) or {0})
        try:
            until = time.monotonic() + 10
            while True:
                try:
                    socket.create_connection((HOST, port)).close()
                    break
                except ConnectionRefusedError:
                    if time.monotonic() > until:
                        raise BenchmarkError("redis-server does not answer") from None
                    time.sleep(0.01)
            yield port
        finally:
            server.kill()


async def commands(contender: Callable[[Any, int], Awaitable[None]]) -> float:
    """GET of 1 KiB, by 20 tasks of one client."""
    import coredis

    with redis_server() as port:
        async with coredis.Redis(host=HOST, port=port) as client:
            await client.set("value", VALUE)
            await contender(client, COMMANDS // 10)
            before = time.process_time()
            await contender(client, COMMANDS)
            return (time.process_time() - before) / COMMANDS * 1e6


async def get_values(client: Any, count: int) -> None:
    async def ask() -> None:
        for _ in range(count // CLIENTS):
            if await client.get("value") != VALUE:
                raise BenchmarkError("Redis answered with another value")

    async with trio.open_nursery() as nursery:
        for _ in range(CLIENTS):
            nursery.start_soon(ask)
