"""Mistakes that are easily made: the message says what to do instead."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import trio

import uring_trio
from uring import ops

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path


@pytest.mark.parametrize(
    ("mode", "instead"),
    [
        ("rb", "os.O_RDONLY"),
        ("r+b", "os.O_RDWR"),
        ("wb", "os.O_WRONLY | os.O_CREAT | os.O_TRUNC"),
        ("what", "os.O_RDONLY or os.O_RDWR"),
    ],
)
def test_a_mode_for_open_direct(tmp_path: Path, mode: Any, instead: str) -> None:
    async def main() -> None:
        await uring_trio.open_direct(tmp_path / "file", mode)

    with pytest.raises(TypeError) as caught:
        uring_trio.run(main)
    assert str(caught.value) == f"open_direct takes the flags of os.open, not {mode!r}: pass {instead}"


async def iterate_listener(direct: bool) -> None:
    async with trio.open_nursery() as nursery:
        listener = await nursery.start(lambda **given: listen(direct, **given))
        try:
            async for _ in listener.connections():
                raise AssertionError
        finally:
            nursery.cancel_scope.cancel()


async def listen(direct: bool, task_status: trio.TaskStatus[Any]) -> None:
    await uring_trio.listen_tcp("127.0.0.1", 0, direct=direct, task_status=task_status)


@pytest.mark.parametrize("direct", [False, True])
def test_connections_outside_of_a_block(direct: bool) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        uring_trio.run(iterate_listener, direct)
    (error,) = caught.value.exceptions
    assert isinstance(error, RuntimeError)
    assert "async with listener.connections() as incoming" in str(error)


def test_connections_are_entered_once() -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            listener: Any = await nursery.start(uring_trio.listen_tcp, "127.0.0.1", 0)
            connections = listener.connections()
            async with connections as incoming:
                assert incoming is connections
            with pytest.raises(RuntimeError, match=r"call connections\(\) again"):
                await connections.__aenter__()
            with pytest.raises(trio.ClosedResourceError):
                await connections.__anext__()
            nursery.cancel_scope.cancel()

    uring_trio.run(main)


def test_perform_under_asyncio() -> None:
    async def main() -> None:
        await uring_trio.perform(ops.nop())

    with pytest.raises(RuntimeError, match=r"Start one with uring_trio\.run\(main\).*asyncio is none"):
        asyncio.run(main())


async def on_one_port(open_one: Callable[[int], Awaitable[int]]) -> OSError:
    """The error of opening the same port twice."""
    port = await open_one(0)
    with pytest.raises(OSError, match="Address already in use") as caught:
        await open_one(port)
    return caught.value


@pytest.mark.parametrize("kind", ["tcp", "direct", "udp"])
def test_a_port_in_use(kind: str) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            sockets = []

            async def open_one(port: int) -> int:
                if kind == "udp":
                    sockets.append(await uring_trio.open_udp(("127.0.0.1", port)))
                    return int(sockets[-1].socket.getsockname()[1])
                # The stage's error itself: a nursery would put it into a group.
                listening: Any = trio.TASK_STATUS_IGNORED
                if not port:
                    listener: Any = await nursery.start(
                        lambda **given: uring_trio.listen_tcp(
                            "127.0.0.1", 0, direct=kind == "direct", **given
                        )
                    )
                    return int(listener.address[1])
                await uring_trio.listen_tcp("127.0.0.1", port, direct=kind == "direct", task_status=listening)
                raise AssertionError

            error = await on_one_port(open_one)
            (note,) = error.__notes__
            assert f"sport = :{error.address[1]}" in note  # type: ignore[attr-defined]
            assert "reuse_port=True" in note
            for socket in sockets:
                await socket.aclose()
            nursery.cancel_scope.cancel()

    uring_trio.run(main)


def test_a_socket_file_in_use(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "socket"
        path.touch()
        with pytest.raises(OSError, match="Address already in use") as caught:
            await uring_trio.listen_unix(path)
        assert "remove the file" in caught.value.__notes__[0]

    uring_trio.run(main)


def test_an_address_of_another_machine() -> None:
    async def main() -> None:
        with pytest.raises(OSError, match="Cannot assign requested address") as caught:
            await uring_trio.listen_tcp("203.0.113.1", 0)  # reserved for documents
        assert "`ip address` lists them" in caught.value.__notes__[0]

    uring_trio.run(main)
