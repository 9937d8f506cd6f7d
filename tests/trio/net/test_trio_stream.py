"""Trio's `SocketStream` does, raises and says on the ring what it does where no ring was ever started."""

from __future__ import annotations

import inspect
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import uring_trio

ROOT = Path(__file__).parents[3]


class Borrowed(trio.socket.SocketType):
    """A socket of somebody's own, as a socket factory may make them: it sends a byte at a time."""

    type = socket.SOCK_STREAM

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def did_shutdown_SHUT_WR(self) -> bool:
        return bool(self._inner.did_shutdown_SHUT_WR)

    def setsockopt(self, *args: Any) -> None: ...

    def fileno(self) -> int:
        return int(self._inner.fileno())

    def close(self) -> None:
        self._inner.close()

    async def send(self, data: Any) -> int:
        return int(await self._inner.send(bytes(data)[:1]))

    async def recv(self, size: int) -> bytes:
        return bytes(await self._inner.recv(size))


async def streams(kind: type | None = None) -> tuple[trio.SocketStream, trio.SocketStream]:
    near, far = trio.socket.socketpair()
    return trio.SocketStream(near if kind is None else kind(near)), trio.SocketStream(far)


async def outcome(call: Any, *args: Any) -> Any:
    try:
        result = await call(*args)
    except Exception as exc:
        cause = exc.__cause__
        return [type(exc).__name__, str(exc), type(cause).__name__, exc.__suppress_context__]
    return result.decode() if isinstance(result, bytes) else result


async def everything() -> list[Any]:
    """What happens in turn; only what does not depend on numbers of descriptors."""
    seen: list[Any] = []
    for data in (
        b"bytes",
        bytearray(b"bytearray"),
        memoryview(b"view"),
        b"",
        memoryview(b""),
        "text",
        5,
        None,
    ):
        near, far = await streams()
        async with near, far:
            seen.append(await outcome(near.send_all, data))
            with trio.move_on_after(0):
                seen.append(await outcome(far.receive_some))
    near, far = await streams()
    for size in (0, -1, "x", 1.5, 1):
        await far.send_all(b"a")
        seen.append(await outcome(near.receive_some, size))
    await near.send_eof()
    seen += [await outcome(near.send_all, b"x"), await outcome(near.send_all, b"")]
    seen += [await outcome(far.receive_some), await outcome(far.receive_some)]
    await near.aclose()
    seen += [await outcome(near.receive_some), await outcome(near.send_all, b"x")]
    seen += [await outcome(far.send_all, b"y"), await outcome(far.send_all, b"z")]
    await far.aclose()
    seen += [await outcome(far.send_all, b""), await outcome(far.send_all, b"x")]
    near, far = await streams(Borrowed)
    seen += [await outcome(near.send_all, b"one by one"), await outcome(far.receive_some)]
    await near.aclose()
    await far.aclose()
    near, far = await streams()
    async with near, far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.send_all, bytes(1 << 22))
            await trio.testing.wait_all_tasks_blocked()
            seen += [await outcome(near.send_all, b"x"), await outcome(near.send_eof)]
            got = 0
            while got < 1 << 22:
                got += len(await far.receive_some())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(outcome, near.receive_some)
            await trio.testing.wait_all_tasks_blocked()
            near.socket.close()
    with trio.CancelScope() as scope:
        scope.cancel()
        near, far = await streams()
        try:
            await near.send_all(b"never")
        finally:
            seen.append(far.socket.is_readable())
            near.socket.close()
            far.socket.close()
    seen.append(scope.cancelled_caught)
    for kind in (None, Borrowed):
        for cancelled in (False, True):
            near, far = await streams(kind)
            with trio.CancelScope() as scope:
                if cancelled:
                    scope.cancel()
                for _ in range(2):
                    before = trio.lowlevel.current_task()._schedule_points
                    await trio.aclose_forcefully(near)
                    seen.append(trio.lowlevel.current_task()._schedule_points > before)
            seen += [scope.cancelled_caught, near.socket.fileno()]
            if not cancelled:
                seen.append(await outcome(far.receive_some))
            far.socket.close()
    ended = trio.testing.memory_stream_pair()[0]
    await trio.aclose_forcefully(ended)
    seen.append(await outcome(ended.send_all, b"x"))
    return seen


@pytest.fixture(scope="module")
def stock() -> Any:
    code = (
        "import json, trio\nfrom tests.trio.net import test_trio_stream as t\n"
        "print(json.dumps(trio.run(t.everything)))\n"
        "assert trio.SocketStream.send_all.__module__ != 'uring_trio.net.trio_stream'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_on_the_ring(stock: Any) -> None:
    assert json.loads(json.dumps(uring_trio.run(everything))) == stock


def test_on_epoll_in_the_same_process(stock: Any) -> None:
    async def nothing() -> None: ...

    uring_trio.run(nothing)
    assert trio.SocketStream.send_all.__module__ == "uring_trio.net.trio_stream"
    assert trio.aclose_forcefully.__module__ == "trio"
    assert inspect.iscoroutinefunction(trio.aclose_forcefully)
    assert json.loads(json.dumps(trio.run(everything))) == stock
