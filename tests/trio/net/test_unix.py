"""Unix sockets: the file that finds a listener, and who removes it."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import raises_inside, statistics
from uring_trio import debug

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


class Modes(debug.Instrument):
    """The permissions of a socket's file when it begins to listen: nobody can connect before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seen: list[int] = []

    def submitted(self, name: str, fd: int) -> None:
        if name == "listen":
            self.seen.append(stat.S_IMODE(self.path.stat().st_mode))


@pytest.mark.parametrize(("umask", "mode", "first"), [(0, 0o600, 0o600), (0o077, 0o666, 0o600), (0, 0, 0)])
@pytest.mark.parametrize("serve", [False, True])
async def test_permissions_from_the_first_moment(
    path: Path, umask: int, mode: int, first: int, serve: bool
) -> None:
    modes = Modes(path)
    debug.add_instrument(modes)
    before = os.umask(umask)
    try:
        async with trio.open_nursery() as nursery:
            if serve:
                await nursery.start(partial(uring_trio.serve_unix, echo, path, mode=mode))
            else:
                await nursery.start(partial(uring_trio.listen_unix, path, mode=mode))
            assert stat.S_IMODE(path.stat().st_mode) == mode
            nursery.cancel_scope.cancel()
    finally:
        os.umask(before)
        debug.remove_instrument(modes)
    assert modes.seen == [first]


def test_of_several_starters_one_listens(path: Path) -> None:
    """Runs in threads that start at once, where a dead server left its file; each tells what it got."""
    starters = 4
    for _ in range(25):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(os.fspath(path))
        together = threading.Barrier(starters)
        told: list[str] = []

        async def start(together: threading.Barrier, told: list[str]) -> None:
            together.wait()
            try:
                async with trio.open_nursery() as nursery:
                    listener = await nursery.start(uring_trio.listen_unix, path)
                    told.append("listening")
                    await trio.to_thread.run_sync(together.wait)  # the others have tried
                    with socket.socket(socket.AF_UNIX) as client:
                        client.connect(os.fspath(path))
                    with trio.fail_after(30):
                        while True:  # those who looked whether somebody listens come first, and are gone
                            async with await listener.accept() as stream:
                                told.append("reached")
                                assert stream.socket.getsockname() == os.fspath(path)
                                break
                    nursery.cancel_scope.cancel()
            except* OSError as group:
                told += [
                    errno.errorcode[exc.errno or 0] for exc in group.exceptions if isinstance(exc, OSError)
                ]
                together.wait()

        threads = [
            threading.Thread(target=uring_trio.run, args=(start, together, told)) for _ in range(starters)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(told) == ["EADDRINUSE"] * (starters - 1) + ["listening", "reached"]
        assert not path.exists()


async def test_a_full_backlog_is_somebody_who_listens(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as living, contextlib.ExitStack() as clients:
        living.bind(os.fspath(path))
        living.listen(0)
        for _ in range(2):
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                client.connect(os.fspath(path))
        with raises_inside(OSError) as caught, trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                await nursery.start(uring_trio.listen_unix, path)
        assert caught[0].errno == errno.EADDRINUSE


@pytest.mark.parametrize("kind", [str, bytes])
async def test_relative_and_long_paths(path: Path, kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    for name in ("socket", "./" + "x" * 105):
        address = name if kind is str else os.fsencode(name)
        for _ in range(2):
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(name)
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(uring_trio.listen_unix, address, mode=0o600))
                assert stat.S_IMODE(os.stat(name).st_mode) == 0o600
                nursery.cancel_scope.cancel()
            assert not os.path.lexists(name)


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
