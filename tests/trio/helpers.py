"""Connected peers, full sockets and pipes, programs, and what a run on the ring looks like from inside."""

from __future__ import annotations

import fcntl
import os
import queue
import resource
import socket
import struct
import subprocess
import sys
import termios
from collections import Counter
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from tests.page_cache import drop
from uring.kernel.lib import ffi
from uring_trio import UringStream
from uring_trio.core.buffers import RECEIVE_GROUP
from uring_trio.core.engine import current
from uring_trio.testing import assert_no_leases

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

PATIENCE = 60.0
"""Seconds after which a test has failed that waits for something else."""
PBUF_STATUS = 26
SIOCOUTQNSD = 0x894B
SMALL = uring_trio.RingOptions(entries=2, cq_entries=2, buffers=2, buffer_size=64)
INTERNAL_SLOTS = 4
"""Slots of every run: cancels, linked timeouts, the wake-up and readiness."""


def statistics() -> Any:
    """What the ring of this run counted."""
    return trio.lowlevel.current_statistics().io_statistics


def in_flight() -> dict[str, int]:
    """Operations that tasks of this run are waiting for, but for Trio's own; a subscription is none."""
    found = Counter(statistics().in_flight)
    found["wait_readable"] -= 1
    return dict(+found)


def buffers_out() -> int:
    """Receive buffers of this run that are not with the kernel."""
    manager = current()
    status = ffi.new("uint32_t[10]", [RECEIVE_GROUP])
    manager.ring.register(PBUF_STATUS, status, 1)
    given = manager.buffers._handle.tail
    return int(manager.buffers.in_use - ((given - status[1]) & 0xFFFF))


async def settled() -> None:
    """Asserts that nothing is left of what a test did in this run."""
    await wait_all_tasks_blocked()
    assert not in_flight()
    manager = current()
    assert manager.ring.inflight <= 2, "more than the polls of the wake-up and of readiness is in flight"
    assert buffers_out() == 0
    assert_no_leases()
    owned = sum((owner.reader is not None) + (owner.writer is not None) for owner in manager.owners.values())
    assert len(manager.table) == INTERNAL_SLOTS + owned + len(manager.pool)
    assert all(owner.owned for owner in manager.owners.values())


async def tcp_sockets(host: str = "127.0.0.1") -> tuple[Any, Any]:
    """Two Trio sockets, connected over TCP."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with trio.socket.socket(family) as listener:
        await listener.bind((host, 0))
        listener.listen(1)
        client = trio.socket.socket(family)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.connect, listener.getsockname())
            server, _ = await listener.accept()
    return client, server


async def unix_sockets() -> tuple[Any, Any]:
    """Two Trio sockets, connected by socketpair."""
    return trio.socket.socketpair()


PAIRS = {"tcp": tcp_sockets, "unix": unix_sockets}


async def streams(kind: str = "tcp") -> tuple[UringStream, UringStream]:
    near, far = await PAIRS[kind]()
    return UringStream(near), UringStream(far)


async def fill(sock: Any) -> int:
    """Sends zeros until the socket takes no more; how many went in."""
    inner, sent = sock._sock, 0
    for _ in range(3):
        while True:
            try:
                sent += inner.send(bytes(65536))
            except BlockingIOError:
                break
        await wait_all_tasks_blocked()
    return sent


async def receive_exactly(stream: UringStream, size: int) -> bytes:
    """``size`` bytes, or fewer if the stream ends."""
    data = bytearray()
    while len(data) < size:
        part = await stream.receive_some(min(65536, size - len(data)))
        if not part:
            break
        data += part
    return bytes(data)


@contextmanager
def raises_inside(kind: type[BaseException]) -> Iterator[list[Any]]:
    """As `pytest.raises`, for the only exception in however many groups; the list gets it."""
    caught: list[Any] = []
    try:
        yield caught
    except BaseException as exc:
        found = exc
        while isinstance(found, BaseExceptionGroup) and len(found.exceptions) == 1:
            found = found.exceptions[0]
        if not isinstance(found, kind):
            raise
        caught.append(found)
    else:
        raise AssertionError(f"{kind.__name__} was not raised")


def reset(sock: Any) -> None:
    """Closes a TCP socket so that its peer gets a reset instead of an end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def can_bind(address: Any) -> bool:
    """Whether the address is free, asked without SO_REUSEADDR."""
    with socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET) as probe:
        try:
            probe.bind(address[:2])
        except OSError:
            return False
        return True


def fill_pipe(fd: int) -> int:
    """Writes zeros until the pipe takes no more; how many went in."""
    size = 0
    try:
        while True:
            size += os.write(fd, bytes(65536))
    except BlockingIOError:
        return size


def forget_contents(path: Path, but: int = 0) -> None:
    """Makes the kernel drop a file's contents from the page cache, all but the first bytes."""
    drop(path)
    fd = os.open(path, os.O_RDWR)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
        os.pread(fd, but, 0)
    finally:
        os.close(fd)


class Host:
    """The smallest loop that can have a guest: a queue of functions."""

    def __init__(self) -> None:
        self.todo: queue.Queue[Callable[[], object]] = queue.Queue()
        self.result: Any = None

    def run(self, function: Any, *args: Any, start: Any = uring_trio.start_guest_run, **options: Any) -> Any:
        start(
            function,
            *args,
            run_sync_soon_threadsafe=self.todo.put,
            done_callback=self._done,
            **options,
        )
        while self.result is None:
            self.todo.get(timeout=PATIENCE)()
        return self.result.unwrap()

    def _done(self, result: Any) -> None:
        self.result = result


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    source, sink = os.pipe()
    try:
        yield source, sink
    finally:
        for fd in (source, sink):
            try:
                os.close(fd)
            except OSError:
                pass


async def first(items: Any) -> Any:
    return await items.__anext__()


async def arm(items: Any) -> None:
    """Puts the multishot in flight, with nobody waiting for it."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first, items)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def told(fn: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """What a call returns, or what it raises, in a form that can be compared."""
    try:
        return await fn(*args)
    except (OSError, trio.ClosedResourceError, trio.BusyResourceError) as exc:
        return type(exc).__name__, getattr(exc, "errno", None)


def threads() -> set[int]:
    """The threads of this process, kernel workers included. Others' idle ones end at any time, so their
    number says nothing: look for new ones."""
    return set(map(int, os.listdir("/proc/self/task")))


def fill_now(sock: socket.socket) -> None:
    """Sends zeros on a plain socket until it takes no more, and nothing is on its way.

    A peer over TCP acknowledges the last of it up to 40 ms later, and then there is room again.
    """
    sock.setblocking(False)
    full = False
    while not full:
        full = not on_its_way(sock)
        with suppress(BlockingIOError):
            while sock.send(bytes(1 << 16)):
                full = False


def on_its_way(sock: socket.socket) -> bool:
    """Whether the peer has yet to acknowledge something over TCP."""
    if sock.family == socket.AF_UNIX:
        return False
    unacknowledged, unsent = (
        fcntl.ioctl(sock, request, bytes(4)) for request in (termios.TIOCOUTQ, SIOCOUTQNSD)
    )
    return unacknowledged != unsent


def tcp_pair(size: int = 0) -> tuple[socket.socket, socket.socket]:
    """Two connected plain sockets; the first sends and the second receives through buffers of this size."""
    with socket.socket() as listener:
        if size:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client = socket.socket()
        if size:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        client.connect(listener.getsockname())
        return listener.accept()[0], client


@contextmanager
def many_files(number: int) -> Iterator[None]:
    """Raises the limit of open files to at least this number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number), max(hard, number)))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def backend() -> str:
    return statistics().backend  # type: ignore[no-any-return]


async def echo() -> str:
    """A little of everything; the name of the backend."""
    near, far = trio.socket.socketpair()
    with near, far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(far.send, b"ping")
            assert await near.recv(10) == b"ping"
        with trio.move_on_after(0.001) as scope:
            await near.recv(10)
        assert scope.cancelled_caught
    await trio.to_thread.run_sync(int)
    return await backend()


def python(code: str, *before: str) -> subprocess.CompletedProcess[str]:
    """Runs code in an interpreter of its own, where warnings are errors."""
    return subprocess.run(
        [sys.executable, *before, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


async def later(call: Callable[[], Awaitable[Any]]) -> None:
    """Calls it when every other task of the test waits."""
    await wait_all_tasks_blocked()
    await call()
