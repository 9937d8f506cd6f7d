"""Programs that run by coroutines and by calls in C, and sockets that are ready to receive in C."""

from __future__ import annotations

import contextlib
import types
from typing import TYPE_CHECKING, Any

import trio

import uring_trio
from uring_trio import RingOptions, UringStream, seams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

__all__ = [
    "CALL",
    "compared",
    "compiled_here",
    "connected",
    "kinds",
    "on_ring",
    "pair",
    "parked",
    "same",
    "turns",
    "warm",
]

CALL = seams.calls.C.Call


def compiled_here() -> bool:
    statistics: Any = trio.lowlevel.current_statistics().io_statistics
    return bool(getattr(statistics, "compiled_ticks", 0))


def same(program: Callable[[], Awaitable[Any]]) -> Any:
    """What a program returns: stock Trio, coroutines on the ring and calls in C agree."""
    stock = trio.run(program)
    plain = uring_trio.run(program, ring=RingOptions(compiled=False))
    compiled = uring_trio.run(program, ring=RingOptions(compiled=True))
    assert stock == plain == compiled
    return compiled


def on_ring(program: Callable[[], Awaitable[Any]]) -> Any:
    """The same without stock Trio, for what it does not have."""
    plain = uring_trio.run(program, ring=RingOptions(compiled=False))
    compiled = uring_trio.run(program, ring=RingOptions(compiled=True))
    assert plain == compiled
    return compiled


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[Any, Any]]:
    """Two connected TCP sockets."""
    with trio.socket.socket() as listener:
        await listener.bind(("127.0.0.1", 0))
        listener.listen()
        near = trio.socket.socket()
        await near.connect(listener.getsockname())
        far, _ = await listener.accept()
    with near, far:
        yield near, far


@contextlib.asynccontextmanager
async def pair() -> AsyncIterator[tuple[Any, Any]]:
    """Two connected TCP sockets, in which the second one has received before: its reader is set up."""
    async with connected() as (near, far):
        await warm(near, far)
        yield near, far


async def warm(near: Any, far: Any) -> None:
    """Until both have a reader for 100 bytes, and the run is in its ticks."""
    for one, other in ((near, far), (far, near)):
        for _ in range(3):
            await trio.lowlevel.checkpoint()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(one.recv, 100)
                await turns()
                await other.send(b"warm")


async def turns() -> None:
    """Enough for a new task to wait. Where a task waits for all others to be blocked, no ticks run in C."""
    for _ in range(6):
        await trio.lowlevel.checkpoint()


def in_c(task: Any) -> bool:
    """Whether a task is parked by a call in C."""
    inner = task.coro
    while type(inner) is types.CoroutineType and inner.cr_await is not None:
        inner = inner.cr_await
    return type(inner) is CALL and inner.cr_await is None


async def parked(nursery: trio.Nursery, fn: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """Starts a task and returns it when it waits; in a compiled run it does so in C."""
    task = await nursery.start(_tell, fn, args)
    await turns()
    assert in_c(task) is compiled_here()
    return task


async def _tell(fn: Any, args: Any, *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
    task_status.started(trio.lowlevel.current_task())
    await trio.lowlevel.checkpoint()
    await fn(*args)


async def kinds(near: Any, far: Any) -> dict[str, tuple[Any, Any]]:
    """Ways to receive and to send in this run, of the same pair of sockets."""
    found = {"socket": (near.recv, far.send)}
    for make in (trio.SocketStream, UringStream):
        with contextlib.suppress(TypeError):
            ends = make(near), make(far)
            found[make.__name__] = (ends[0].receive_some, ends[1].send_all)
    await warm(near, far)  # a stream sets options, after which a socket looks again how to receive
    return found


def compared(fn: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """What an async function returns on both; the test fails if it is not the same."""

    async def bounded() -> Any:
        with trio.fail_after(60):
            return await fn(*args)

    stock = trio.run(bounded)
    ring = uring_trio.run(bounded)
    assert ring == stock
    return stock
