"""Files on stock Trio and on the ring, in the same program: what a cancelled call leaves alone, how far text
is read ahead, and what a call says that could not be made at all."""

from __future__ import annotations

import io
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio

import uring_trio
from uring_trio import open_file

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

LINES = "".join(f"line {number} with é\n" for number in range(9000))


def same(program: Callable[[Any], Awaitable[Any]]) -> Any:
    """What a program answers that is told how to open: stock Trio and the ring agree."""
    stock = trio.run(program, trio.open_file)
    assert uring_trio.run(program, open_file) == stock
    return stock


@pytest.mark.parametrize("size", [9000, 50_000, -1, None])
@pytest.mark.parametrize("before", [["peek"], ["peek", "write"], ["read", "write"], ["write"]])
def test_a_read_in_a_cancelled_scope_moves_nothing(path: Path, before: list[str], size: int | None) -> None:
    path.write_text(LINES)
    arguments: dict[str, Any] = {"peek": 0, "write": b"12345", "read": 50}

    async def program(opened: Any) -> list[Any]:
        file = await opened(path, "r+b")
        for name in before:
            await getattr(file, name)(arguments[name])
        with trio.CancelScope() as scope:
            scope.cancel()
            await file.read(size)
        found = [scope.cancelled_caught, os.lseek(file.fileno(), 0, os.SEEK_CUR), await file.tell()]
        found.append(await file.read(20))
        await file.aclose()
        return found

    assert same(program)[0]


@pytest.mark.parametrize(
    ("call", "arguments"),
    [("readline", ()), ("readlines", (1,)), ("readlines", (9000,)), ("read", (10,)), ("read", (9000,))],
)
def test_text_is_read_ahead_as_far(path: Path, call: str, arguments: tuple[Any, ...]) -> None:
    path.write_text(LINES)

    async def program(opened: Any) -> list[Any]:
        file = await opened(path)
        found = []
        for _ in range(3):
            found.append(await getattr(file, call)(*arguments))
            found.append(os.lseek(file.fileno(), 0, os.SEEK_CUR))
        async with await file.detach() as binary:
            found.append(await binary.read(100))
        return found

    assert same(program)[-1]


def test_a_loop_over_text_reads_as_much_at_a_time(path: Path) -> None:
    path.write_text(LINES)

    async def program(opened: Any) -> list[int]:
        found = []
        async with await opened(path) as file:
            async for _ in file:
                found.append(os.lseek(file.fileno(), 0, os.SEEK_CUR))
        return found

    assert len(set(same(program))) > 10


@pytest.mark.parametrize(
    ("mode", "call", "arguments"),
    [
        ("w", "read", (-1,)),
        ("w", "readline", ()),
        ("r", "write", ("text",)),
        ("wb", "read", (5,)),
        ("wb", "readline", ()),
        ("rb", "write", (b"data",)),
        ("rb", "read", (5,)),
        ("r", "read", (5,)),
    ],
)
def test_what_a_call_says_first_of_a_device_that_was_closed(
    mode: str, call: str, arguments: tuple[Any, ...]
) -> None:
    async def program(opened: Any) -> tuple[Any, ...]:
        file = await opened(os.devnull, mode)
        os.close(file.fileno())
        try:
            await getattr(file, call)(*arguments)
        except (OSError, ValueError) as error:
            said = type(error).__name__, str(error)
        with pytest.raises(OSError, match="Bad file descriptor"):
            await file.aclose()
        return said

    kind = same(program)[0]
    assert kind in (io.UnsupportedOperation.__name__, OSError.__name__)


@pytest.mark.parametrize("call", ["read", "readline", "peek", "read1"])
def test_what_a_file_says_whose_descriptor_is_a_socket_by_now(path: Path, call: str) -> None:
    path.write_bytes(b"data\n")

    async def program(opened: Any) -> list[Any]:
        file = await opened(path, "r+b")
        near, far = socket.socketpair()
        near.send(b"data\n")
        os.dup2(far.fileno(), file.fileno())
        said: list[Any] = []
        with near, far:
            for step in (getattr(file, call), file.aclose):
                try:
                    said.append(await step())
                except OSError as error:
                    said.append(str(error))
        return said

    assert same(program)


def test_an_update_file_is_read_until_a_transfer_has_begun(path: Path) -> None:
    """A look at where the file stands changes nothing: a read in a cancelled scope is cancelled."""
    path.write_bytes(b"data\n")

    async def main() -> bytes:
        async with await open_file(path, "r+b") as file:
            with trio.CancelScope() as scope:
                scope.cancel()
                await file.peek()
            assert scope.cancelled_caught
            return await file.read()

    assert uring_trio.run(main) == b"data\n"
