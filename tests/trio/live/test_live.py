"""A service that is looked at from outside: what `top` shows, who may look, and that it is free otherwise."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

import uring_trio
from uring import ops
from uring_trio.core.engine import current
from uring_trio.live.parked_times import ParkedTimes
from uring_trio.live.snapshot import COUNTED
from uring_trio.live.socket_paths import socket_for_this_thread, sockets_of

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICE = """
import functools, trio, uring_trio

async def handle(stream):
    async with stream.chunks() as chunks:
        async for data in chunks:  # the awaited line
            pass

async def main():
    async with trio.open_nursery() as nursery:
        serve = functools.partial(uring_trio.serve_tcp, host="127.0.0.1")
        (listener,) = await nursery.start(serve, handle, 0)
        async with await uring_trio.open_tcp_stream("127.0.0.1", listener.address[1]) as stream:
            await stream.send_all(b"x")
            nursery.start_soon(stream.receive_some)
            print("ready", flush=True)
            await trio.lowlevel.wait_readable(0)
            nursery.cancel_scope.cancel()

uring_trio.run(main, ring=uring_trio.RingOptions(monitor={monitor}))
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files of services and of `top`, with a path that a socket's name may have."""
    with tempfile.TemporaryDirectory(prefix="uring", dir="/tmp") as made:
        monkeypatch.setenv("TMPDIR", made)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield Path(made)


def service(folder: Path, *, monitor: bool) -> subprocess.Popen[str]:
    """The service once it serves, and can be looked at if it is to be: that is a task beside its own."""
    path = folder / "service.py"
    path.write_text(SERVICE.replace("{monitor}", str(monitor)))
    started = subprocess.Popen(
        [sys.executable, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    assert started.stdout.readline() == "ready\n"
    while monitor and started.poll() is None and not sockets_of(started.pid):
        time.sleep(0.01)
    return started


def end(started: subprocess.Popen[str]) -> None:
    started.communicate("go\n", timeout=60)
    assert started.returncode == 0


def top(*args: str, columns: int = 160) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "uring_trio", "top", *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "COLUMNS": str(columns)},
    )


def test_shows_what_a_service_waits_for(folder: Path) -> None:
    started = service(folder, monitor=True)
    try:
        done = top(str(started.pid), "--json")
        assert (done.returncode, done.stderr) == (0, "")
        look = json.loads(done.stdout)
        assert look["process"] == started.pid
        assert look["program"] == "service.py"
        assert look["statistics"]["backend"] == "io_uring"
        assert look["ring"]["entries"] == 256
        rows = {row["name"]: row for row in look["in_flight"]}
        multishot = rows["recv_multishot"]
        assert multishot["task"].endswith("_handle")
        line = int(multishot["where"].rpartition(":")[2])
        assert "the awaited line" in SERVICE.splitlines()[line - 1]
        assert rows["recv"]["age"] > 0
        assert rows["recv"]["parked_before"] is True
        assert not any("_answer" in row["task"] for row in look["in_flight"])
        for columns in (160, 80):
            done = top(str(started.pid), "--once", "--interval", "0.01", columns=columns)
            assert (done.returncode, done.stderr) == (0, "")
            for text in ("service.py", "recv_multishot", "system calls", f"service.py:{line}"):
                assert text in done.stdout
            assert {len(row) for row in done.stdout.splitlines()} == {columns}
        assert "…" not in done.stdout  # files have no folders there
    finally:
        end(started)
    assert sockets_left(folder) == []


def sockets_left(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_socket()]


def test_the_socket_is_of_the_user_alone(folder: Path) -> None:
    started = service(folder, monitor=True)
    try:
        (path,) = sockets_of(started.pid)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    finally:
        end(started)


def test_a_folder_that_others_may_write_is_refused(folder: Path) -> None:
    place = socket_for_this_thread().parent
    place.chmod(0o777)
    try:
        with pytest.raises(PermissionError, match="not a folder of this user alone"):
            socket_for_this_thread()
    finally:
        place.chmod(0o700)


def test_a_service_that_shows_nothing(folder: Path) -> None:
    started = service(folder, monitor=False)
    try:
        done = top(str(started.pid))
        assert done.returncode == 1
        assert "start the service with RingOptions(monitor=True)" in done.stderr
    finally:
        end(started)
    done = top(str(started.pid))
    assert done.returncode == 1
    assert f"there is no process {started.pid}" in done.stderr


def test_without_rich(folder: Path) -> None:
    program = "import sys; sys.modules['rich'] = sys.modules['rich.console'] = None\n"
    program += "from uring_trio.live.view import main; main(sys.argv[1:])"
    started = service(folder, monitor=True)
    try:
        command = [sys.executable, "-c", program, str(started.pid), "--once"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 1
        assert "pip install 'uring-trio[top]'" in done.stderr
        assert "Traceback" not in done.stderr
    finally:
        end(started)


def test_a_service_without_somebody_who_looks_pays_nothing(folder: Path) -> None:
    async def main() -> None:
        engine: Any = current()
        path = socket_for_this_thread()
        with trio.fail_after(60):
            plain = engine._cycle
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
                while client.connect_ex(str(path)):  # until it listens
                    await trio.sleep(0.01)
                client.sendall(b"\n")
                client.setblocking(False)
                await trio.lowlevel.wait_readable(client)
                assert engine._cycle != plain
            while engine._cycle != plain:
                await trio.sleep(0.01)

    uring_trio.run(main, ring=uring_trio.RingOptions(monitor=True))


def test_looks_at_a_busy_service_keep_ticks_in_c(folder: Path) -> None:
    """After each look some completions are counted one by one, the others by the shares of those."""

    async def look(client: trio.SocketStream) -> dict[str, Any]:
        await client.send_all(b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            answer += await client.receive_some()
        found: dict[str, Any] = json.loads(answer)
        return found

    async def main() -> None:
        engine: Any = current()
        with trio.fail_after(60):
            plain = engine._cycle
            client = await open_when_it_listens()
            async with client:
                before = await look(client)
                assert engine._cycle != plain
                for _ in range(2 * COUNTED):
                    await uring_trio.perform(ops.nop())
                assert engine._cycle == plain
                ticks = engine.statistics().compiled_ticks
                for _ in range(2 * COUNTED):
                    await uring_trio.perform(ops.nop())
                if engine.compiled is not None:
                    assert engine.statistics().compiled_ticks > ticks
                after = await look(client)
                assert engine._cycle != plain
            done = after["statistics"]["completed"] - before["statistics"]["completed"]
            assert after["counted"] == pytest.approx(COUNTED / done)
            told = {
                name: n - before["completed_by_kind"].get(name, 0)
                for name, n in after["completed_by_kind"].items()
            }
            assert sum(told.values()) == pytest.approx(done, abs=len(told))
            assert told["nop"] > 0.9 * 4 * COUNTED

    uring_trio.run(main, ring=uring_trio.RingOptions(monitor=True))


async def open_when_it_listens() -> trio.SocketStream:
    while True:
        try:
            return await trio.open_unix_socket(str(socket_for_this_thread()))
        except OSError:
            await trio.sleep(0.01)


def test_a_wait_is_as_old_as_the_look_that_found_it(folder: Path) -> None:
    async def main() -> None:
        near, far = trio.socket.socketpair()
        with near, far:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(near.recv, 1)
                await trio.testing.wait_all_tasks_blocked()
                parked = ParkedTimes()

                def age() -> tuple[float, bool]:
                    rows, names = parked.look(current(), (), 10)
                    assert names["recv"] == 1
                    (row,) = (row for row in rows if row["name"] == "recv")
                    return row["age"], row["parked_before"]

                first, before = age()
                assert before
                second, before = age()
                assert before
                assert second > first
                await far.send(b"x")
                await trio.testing.wait_all_tasks_blocked()
                nursery.start_soon(near.recv, 1)
                await trio.testing.wait_all_tasks_blocked()
                assert age() == (0.0, False)
                assert age()[0] > 0
                nursery.cancel_scope.cancel()

    uring_trio.run(main)


def test_describes_the_oldest_waits_and_counts_all(folder: Path) -> None:
    async def main() -> None:
        pairs = [trio.socket.socketpair() for _ in range(5)]
        parked = ParkedTimes()
        async with trio.open_nursery() as nursery:
            for near, _ in pairs:
                nursery.start_soon(near.recv, 1)
                await trio.testing.wait_all_tasks_blocked()
                rows, names = parked.look(current(), (), 3)
            assert names["recv"] == 5
            assert names.total() > 5  # Trio's own wait for wake-ups is there from the first look on
            assert len(rows) == 3
            ours = [row["fd"] for row in rows if row["name"] == "recv"]
            assert ours == [near.fileno() for near, _ in pairs[:2]]
            nursery.cancel_scope.cancel()
        for near, far in pairs:
            near.close()
            far.close()

    uring_trio.run(main)


def test_a_run_without_the_option_has_no_socket(folder: Path) -> None:
    async def main() -> None:
        for _ in range(10):
            await trio.sleep(0)
        assert sockets_left(folder) == []

    uring_trio.run(main)


def test_a_run_goes_on_where_the_socket_cannot_be_made(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("uring_trio.live.server.socket_for_this_thread", lambda: folder / "no" / "such")

    async def main() -> str:
        with trio.fail_after(60):
            while "this run has no live view" not in caplog.text:
                await trio.sleep(0.01)
        return "done"

    assert uring_trio.run(main, ring=uring_trio.RingOptions(monitor=True)) == "done"
