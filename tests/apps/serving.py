"""An ASGI application served by hypercorn in the current run, and the checks that these tests share."""

from __future__ import annotations

import hashlib
import logging
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from hypercorn.config import Config
from hypercorn.trio import serve

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

MIB = 1 << 20


@asynccontextmanager
async def hypercorn(app: Any, tls: Any = None) -> AsyncIterator[str]:
    """The base URL of ``app``, served as hypercorn's own trio worker does."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.graceful_timeout = 0.5
    config.errorlog = logging.getLogger("hypercorn.of-the-tests")
    if tls is not None:
        config.certfile, config.keyfile = tls.certificate, tls.key
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(partial(serve, app, config, shutdown_trigger=stop.wait))
        try:
            yield url
        finally:
            stop.set()


def submitted() -> int:
    """Entries that this run has given to its ring."""
    return int(trio.lowlevel.current_statistics().io_statistics.submitted)


def data(size: int, seed: int = 1) -> bytes:
    """Bytes in which no part is like another."""
    return b"".join(blocks(size, seed))


def blocks(size: int, seed: int = 1) -> Iterator[bytes]:
    for number in range(0, size, 32):
        yield hashlib.sha256(b"%d %d" % (seed, number)).digest()[: size - number]
