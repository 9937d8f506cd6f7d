"""Several loops in one process: the ring beside epoll and asyncio, and one ring run after another."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import trio

import uring_trio
import uring_trio.anyio
from uring_trio.testing import no_leaks

if TYPE_CHECKING:
    from collections.abc import Callable

EXCHANGES = 200


def backend() -> str:
    return str(trio.lowlevel.current_statistics().io_statistics.backend)


async def serve(port: list[int], listening: threading.Event, stop: threading.Event) -> str:
    async def echo(stream: trio.SocketStream) -> None:
        async for data in stream:
            await stream.send_all(data)

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, echo, 0, host="127.0.0.1"))
        port.append(listener.socket.getsockname()[1])
        listening.set()
        await trio.to_thread.run_sync(stop.wait)
        nursery.cancel_scope.cancel()
    return backend()


async def ask(port: int) -> str:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        for number in range(EXCHANGES):
            message = b"%d " % number * 100
            await stream.send_all(message)
            answer = b""
            while len(answer) < len(message):
                answer += await stream.receive_some()
            assert answer == message
    return backend()


def in_threads(*functions: Callable[[], Any]) -> list[Any]:
    """Calls them at once, each in a thread of its own; their results, or the first error."""
    results: list[Any] = [None] * len(functions)
    errors: list[BaseException] = []

    def call(index: int) -> None:
        try:
            results[index] = functions[index]()
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=call, args=(index,), daemon=True) for index in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if errors:
        raise errors[0]
    return results


def test_epoll_and_the_ring_talk_to_each_other() -> None:
    """A server on each, and on each clients of both, in four threads of one process."""
    ports: dict[Any, list[int]] = {trio.run: [], uring_trio.run: []}
    listening = [threading.Event(), threading.Event()]
    stop = threading.Event()

    def clients(run: Any) -> list[str]:
        try:
            for event in listening:
                assert event.wait(20)
            return [run(ask, *port) for port in ports.values() for _ in range(3)]
        finally:
            ended.wait(20)
            stop.set()

    ended = threading.Barrier(2)
    with no_leaks():
        results = in_threads(
            lambda: trio.run(serve, ports[trio.run], listening[0], stop),
            lambda: uring_trio.run(serve, ports[uring_trio.run], listening[1], stop),
            lambda: clients(trio.run),
            lambda: clients(uring_trio.run),
        )
    assert results == ["epoll", "io_uring", ["epoll"] * 6, ["io_uring"] * 6]


def test_four_rings_and_asyncio_at_once() -> None:
    async def with_anyio() -> str:
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:

            async def echo(stream: Any) -> None:
                async with stream:
                    async for data in stream:
                        await stream.send(data)

            async with anyio.create_task_group() as group:
                group.start_soon(listener.serve, echo)
                port = listener.extra(anyio.abc.SocketAttribute.local_port)
                async with await anyio.connect_tcp("127.0.0.1", port) as client:
                    for number in range(EXCHANGES):
                        await client.send(b"%d" % number)
                        assert await client.receive() == b"%d" % number
                group.cancel_scope.cancel()
        return "done"

    def on(name: str) -> Callable[[], str]:
        return lambda: anyio.run(with_anyio, backend=name)

    with no_leaks():
        assert in_threads(*[on("uring")] * 4, on("asyncio"), on("trio")) == ["done"] * 6


def test_a_guest_in_asyncio_beside_a_run_in_a_thread() -> None:
    """The guest's host loop and the guest both serve; a ring run in another thread asks the guest."""

    async def host() -> tuple[Any, Any]:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[Any] = loop.create_future()
        port: list[int] = []
        listening, stop = threading.Event(), threading.Event()
        uring_trio.start_guest_run(
            serve,
            port,
            listening,
            stop,
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=done.set_result,
        )
        while not (listening.is_set() or done.done()):
            await asyncio.sleep(0.001)
        try:
            asked = await asyncio.to_thread(uring_trio.run, ask, *port)
        finally:
            stop.set()
        return asked, (await done).unwrap()

    with no_leaks():
        assert asyncio.run(host()) == ("io_uring", "io_uring")


# ---- one after another ---------------------------------------------------------------------------------


def memory(field: str) -> int:
    """A line of the process's status, in KiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise LookupError(field)


async def work(path: Path) -> None:
    """A little of everything that a run allocates something for."""
    near, far = trio.socket.socketpair()
    with near, far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.send, b"x")
            assert await far.recv(1) == b"x"
        with trio.move_on_after(0):
            await far.recv(1)
        stream = uring_trio.UringStream(near)
        async with stream.chunks() as chunks:
            await far.send(b"y")
            assert await anext(chunks) == b"y"
    async with await uring_trio.open_file(path, "rb") as file:
        assert await file.read(3) == b"one"


def grown(path: Path) -> dict[str, int]:
    """What a thousand runs leave behind, in KiB and descriptors."""

    def measure() -> dict[str, int]:
        gc.collect()
        sizes = {field: memory(field) for field in ("VmRSS", "VmPTE", "VmPin", "VmLck")}
        return sizes | {"files": len(os.listdir("/proc/self/fd"))}

    def runs(number: int) -> None:
        for _ in range(number):
            uring_trio.run(work, path)

    runs(200)  # until what grows once has grown
    before = measure()
    with no_leaks():
        runs(1000)
    return {name: value - before[name] for name, value in measure().items()}


def test_a_thousand_runs_do_not_grow(tmp_path: Path) -> None:
    """In a process of their own, whose memory is nobody else's."""
    path = tmp_path / "file"
    path.write_bytes(b"one")
    program = (
        "import json, pathlib, sys\n"
        "from tests.trio.launch.test_side_by_side import grown\n"
        "print(json.dumps(grown(pathlib.Path(sys.argv[1]))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    growth = json.loads(done.stdout)
    # A run that kept its smallest mapping, one page, would show as 4 MiB.
    assert growth.pop("VmRSS") < 2048
    assert growth.pop("VmPTE") < 64
    assert growth == {"VmPin": 0, "VmLck": 0, "files": 0}
