"""Unix sockets: the file that finds a listener, and who removes it."""

from __future__ import annotations

import errno
import os
import socket
import stat
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import raises_inside, statistics

if TYPE_CHECKING:
    from uring_trio import UringStream


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "socket"


async def echo(stream: UringStream) -> None:
    async with stream, stream.chunks() as chunks:
        async for data in chunks:
            await stream.send_all(data)


@pytest.mark.parametrize("kind", [str, os.fsencode, Path], ids=["str", "bytes", "path"])
async def test_serves_and_removes_its_file(path: Path, kind: Any) -> None:
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(uring_trio.serve_unix, echo, kind(path))
        assert stat.S_ISSOCK(path.stat().st_mode)
        assert listener.address == str(path)
        async with await uring_trio.open_unix_stream(kind(path)) as client:
            await client.send_all(b"hello")
            assert await client.receive_some() == b"hello"
        nursery.cancel_scope.cancel()
    assert not path.exists()


async def test_hands_out_connections(path: Path) -> None:
    async with trio.open_nursery() as nursery:
        listener = await nursery.start(uring_trio.listen_unix, path)
        async with listener.connections() as incoming, await uring_trio.open_unix_stream(path) as client:
            async for stream in incoming:
                async with stream:
                    await stream.send_all(b"x")
                break
            assert await client.receive_some() == b"x"
        await listener.aclose()
        assert not path.exists()
        await listener.aclose()
        nursery.cancel_scope.cancel()


async def test_abstract_names_have_no_file() -> None:
    name = b"\0uring-trio-test-%d" % os.getpid()
    async with trio.open_nursery() as nursery:
        await nursery.start(uring_trio.serve_unix, echo, name)
        async with await uring_trio.open_unix_stream(name) as client:
            await client.send_all(b"x")
            assert await client.receive_some() == b"x"
        with raises_inside(OSError) as caught:
            await nursery.start(uring_trio.listen_unix, name)
        assert caught[0].errno == errno.EADDRINUSE
        nursery.cancel_scope.cancel()


async def test_replaces_what_a_dead_process_left(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    assert path.exists()
    async with trio.open_nursery() as nursery:
        await nursery.start(uring_trio.serve_unix, echo, path)
        async with await uring_trio.open_unix_stream(path) as client:
            await client.send_all(b"x")
            assert await client.receive_some() == b"x"
        nursery.cancel_scope.cancel()


async def test_leaves_the_living_alone(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(path))
        living.listen()
        with raises_inside(OSError) as caught:
            async with trio.open_nursery() as nursery:
                await nursery.start(uring_trio.listen_unix, path)
        assert caught[0].errno == errno.EADDRINUSE
        assert str(path) in str(caught[0])
        assert path.exists()


async def test_leaves_other_files_alone(path: Path) -> None:
    path.write_text("precious")
    with raises_inside(OSError) as caught:
        async with trio.open_nursery() as nursery:
            await nursery.start(uring_trio.listen_unix, path)
    assert caught[0].errno == errno.EADDRINUSE
    assert path.read_text() == "precious"


async def test_a_file_that_became_anothers_stays(path: Path) -> None:
    async with trio.open_nursery() as nursery:
        listener = await nursery.start(uring_trio.listen_unix, path)
        path.unlink()
        path.write_text("somebody else's")
        await listener.aclose()
        assert path.read_text() == "somebody else's"
        nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        path.unlink()
        await nursery.start(uring_trio.listen_unix, path)
        path.unlink()
        nursery.cancel_scope.cancel()
    assert not path.exists()


async def test_permissions(path: Path) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(partial(uring_trio.listen_unix, path, mode=0o600))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("x" * 108, ValueError),
        (b"\0" + b"x" * 108, ValueError),
        ("", ValueError),
        (7, TypeError),
        ("a\0b", ValueError),
    ],
    ids=repr,
)
async def test_paths_that_are_none(address: Any, kind: type[Exception]) -> None:
    await wait_all_tasks_blocked()
    before = statistics().submitted
    with pytest.raises(kind):
        await uring_trio.open_unix_stream(address)
    with raises_inside(kind):
        async with trio.open_nursery() as nursery:
            await nursery.start(uring_trio.listen_unix, address)
    assert statistics().submitted == before


@pytest.mark.parametrize(("backlog", "kind"), [(-1, ValueError), (1.5, TypeError), (True, TypeError)])
async def test_backlogs_that_are_none(path: Path, backlog: Any, kind: type[Exception]) -> None:
    for listen in (
        partial(uring_trio.listen_unix, path, backlog),
        partial(uring_trio.listen_tcp, "127.0.0.1", 0, backlog),
        partial(uring_trio.serve_tcp, echo, 0, backlog=backlog),
    ):
        with raises_inside(kind):
            async with trio.open_nursery() as nursery:
                await nursery.start(listen)
    assert not path.exists()


async def test_nobody_listens(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="connect"):
        await uring_trio.open_unix_stream(path)
    path.touch()
    with pytest.raises(ConnectionRefusedError, match="connect"):
        await uring_trio.open_unix_stream(path)


async def test_a_cancelled_connect_leaves_nothing(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as full:
        full.bind(str(path))
        full.listen(0)
        async with await uring_trio.open_unix_stream(path):
            with trio.move_on_after(0.05) as scope:
                await uring_trio.open_unix_stream(path)
            assert scope.cancelled_caught
            await wait_all_tasks_blocked()


async def test_several_listeners_on_one_port() -> None:
    async with trio.open_nursery() as nursery:
        listen = partial(uring_trio.listen_tcp, "127.0.0.1", 0, reuse_port=True)
        one = await nursery.start(listen)
        two = await nursery.start(
            partial(uring_trio.listen_tcp, "127.0.0.1", one.address[1], reuse_port=True)
        )
        assert one.address == two.address
        with raises_inside(OSError) as caught:
            await nursery.start(uring_trio.listen_tcp, "127.0.0.1", one.address[1])
        assert caught[0].errno == errno.EADDRINUSE
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("dual", [True, False])
async def test_both_families_on_one_socket(dual: bool) -> None:
    async with trio.open_nursery() as nursery:
        listener = await nursery.start(partial(uring_trio.listen_tcp, "::", 0, dual_stack=dual))
        port = listener.address[1]
        with socket.create_connection(("::1", port)):
            pass
        if dual:
            with socket.create_connection(("127.0.0.1", port)):
                pass
        else:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port))
        nursery.cancel_scope.cancel()
