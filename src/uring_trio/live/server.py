"""The system task of a run that answers `top`.

It must not end the run that it shows: every error of its own is logged.
"""

from __future__ import annotations

import json
import logging
from functools import partial
from typing import TYPE_CHECKING

import trio

from ..net.unix import serve_unix
from .snapshot import Watcher
from .socket_paths import socket_for_this_thread

if TYPE_CHECKING:
    from ..core.engine import Engine
    from ..net.stream import UringStream

__all__ = ["start"]

_log = logging.getLogger("uring_trio.live")


def start(engine: Engine) -> None:
    """Serves the run of ``engine``, in its thread, until it ends. Called before its first task."""
    engine.run_soon(partial(_spawn, engine))


def _spawn(engine: Engine) -> None:
    trio.lowlevel.spawn_system_task(_serve, engine, name="uring_trio.live")


async def _serve(engine: Engine) -> None:
    watcher = Watcher(engine, trio.lowlevel.current_task())
    try:
        path = socket_for_this_thread()
        path.unlink(missing_ok=True)  # of an earlier process with this number
        await serve_unix(partial(_answer, watcher), path, mode=0o600)
    except Exception as exc:
        _log.warning("this run has no live view: %s", exc)


async def _answer(watcher: Watcher, stream: UringStream) -> None:
    watcher.start()
    try:
        async for data in stream:
            for _ in range(data.count(b"\n")):
                await stream.send_all(json.dumps(watcher.look()).encode() + b"\n")
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    except Exception as exc:
        _log.warning("the live view failed: %r", exc)
    finally:
        watcher.stop()
