"""One program on stock Trio, in Trio's own loop on the ring, and in C: all of them must come out alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

import uring_trio
from uring_trio import RingOptions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def statistics() -> Any:
    return trio.lowlevel.current_statistics().io_statistics


def same(program: Callable[[], Awaitable[Any]], *, ticks: bool = True) -> Any:
    """Runs a program on stock Trio, in Trio's loop on the ring, and in C; what all of them return."""

    async def main() -> Any:
        result = await program()
        return result, getattr(statistics(), "compiled_ticks", 0)

    stock, _ = trio.run(main)
    plain, none = uring_trio.run(main, ring=RingOptions(compiled=False))
    compiled, count = uring_trio.run(main, ring=RingOptions(compiled=True))
    assert stock == plain == compiled
    assert none == 0
    assert (count > 0) is ticks
    return compiled


async def turns(n: int = 5) -> None:
    for _ in range(n):
        await trio.lowlevel.checkpoint()
