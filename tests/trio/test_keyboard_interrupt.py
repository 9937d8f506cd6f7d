"""Ctrl-C at every bytecode of an operation: nothing stays in flight unowned, and the run ends as Trio says.

A trace function raises ``SIGINT`` at the n-th bytecode executed in this package while the call runs, for
every n that there is, each in a run of its own.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

import uring_trio
from uring import ops
from uring_trio import seams
from uring_trio.core.engine import current

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import FrameType

SOURCE = str(Path(uring_trio.__file__).parent)
OPTIONS = uring_trio.RingOptions(entries=8, cq_entries=16, buffers=2, buffer_size=4096)
INTERNAL = 4
LEAST = 5  # bytecodes of this package that the shortest of the calls runs, on any CPython
MOST = 4000


class Interrupt:
    """Raises SIGINT at the n-th bytecode that this package executes inside the ``with`` block."""

    def __init__(self, n: int, where: str = "") -> None:
        self.left = n
        self.where = f"{SOURCE}/{where}"
        self.fired = False

    def __enter__(self) -> None:
        # CPython 3.12 asks for opcode events only if some frame wanted them before settrace.
        sys._getframe().f_trace_opcodes = True
        sys.settrace(self._call)

    def __exit__(self, *exc_info: object) -> None:
        sys.settrace(None)

    def _call(self, frame: FrameType, event: str, arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(self.where):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._inside

    def _inside(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                self.fired = True
                signal.raise_signal(signal.SIGINT)
        return self._inside


class WhenParked(trio.abc.Instrument):
    """Does something once, when the run is about to wait for events."""

    def __init__(self) -> None:
        self.action: Callable[[], object] | None = None

    def before_io_wait(self, timeout: float) -> None:
        if timeout and self.action is not None:
            action, self.action = self.action, None
            action()


Scenario = tuple["Callable[[], Awaitable[Any]]", "Callable[[], object] | None"]


class Stage:
    """Sockets for one run: ours in Trio, theirs plain. ``made`` is closed with them."""

    def __init__(self) -> None:
        left, self.theirs = socket.socketpair()
        self.theirs.setblocking(False)
        self.ours = trio.socket.from_stdlib_socket(left)
        listener = socket.create_server(("127.0.0.1", 0))
        self.listener = trio.socket.from_stdlib_socket(listener)
        self.address = listener.getsockname()
        self.client = trio.socket.socket()
        self.plain = socket.socket()
        self.made: list[Any] = []

    def close(self) -> None:
        for sock in (self.ours, self.theirs, self.listener, self.client, self.plain, *self.made):
            sock.close()

    # Each scenario: the call, and what happens once it is parked.

    def perform_nop(self) -> Scenario:
        return lambda: uring_trio.perform(ops.nop()), None

    def perform_recv(self) -> Scenario:
        call = ops.recv(self.ours.fileno(), bytearray(10))
        return lambda: uring_trio.perform(call), lambda: self.theirs.send(b"x")

    def recv(self) -> Scenario:
        return lambda: self.ours.recv(10), lambda: self.theirs.send(b"x")

    def recv_into(self) -> Scenario:
        return lambda: self.ours.recv_into(bytearray(10)), lambda: self.theirs.send(b"x")

    def send(self) -> Scenario:
        return lambda: self.ours.send(b"x"), None

    def send_when_full(self) -> Scenario:
        fd = self.ours.fileno()
        filler = socket.socket(fileno=os.dup(fd))
        filler.setblocking(False)
        try:
            while True:
                filler.send(bytes(65536))
        except BlockingIOError:
            filler.close()
        return lambda: self.ours.send(b"x"), self._read_all

    def _read_all(self) -> None:
        try:
            while self.theirs.recv(1 << 20):
                pass
        except BlockingIOError:
            pass

    def accept(self) -> Scenario:
        async def accept() -> None:
            sock, _ = await self.listener.accept()
            self.made.append(sock)

        return accept, lambda: self.plain.connect(self.address)

    def connect(self) -> Scenario:
        return lambda: self.client.connect(self.address), None

    def serve(self) -> Scenario:
        async def serve() -> None:
            async def handle(stream: uring_trio.UringStream) -> None:
                await stream.send_all(b"x")
                nursery.cancel_scope.cancel()

            async with trio.open_nursery() as nursery:
                found = await nursery.start(partial(uring_trio.serve_tcp, handle, 0, host="127.0.0.1"))
                self.plain.connect(found[0].address)

        return serve, None

    def listen(self) -> Scenario:
        async def listen() -> None:
            async with trio.open_nursery() as nursery:
                listener = await nursery.start(uring_trio.listen_tcp, "127.0.0.1", 0)
                self.plain.connect(listener.address)
                nursery.cancel_scope.cancel()

        return listen, None

    def open_udp(self) -> Scenario:
        async def open_udp() -> None:
            self.made.append((await uring_trio.open_udp(("127.0.0.1", 0))).socket)

        return open_udp, None

    def wait_readable(self) -> Scenario:
        return lambda: trio.lowlevel.wait_readable(self.ours), lambda: self.theirs.send(b"x")


SCENARIOS = [
    "perform_nop",
    "perform_recv",
    "recv",
    "recv_into",
    "send",
    "send_when_full",
    "accept",
    "connect",
    "open_udp",
    "wait_readable",
]
SERVERS = ["listen", "serve"]


def interrupted_run(scenario: str, n: int, where: str = "") -> bool:
    """One run with Ctrl-C at the n-th bytecode; False if there are not that many."""
    interrupt, parked = Interrupt(n, where), WhenParked()
    managers = []

    async def main() -> None:
        managers.append(current())
        stage = Stage()
        try:
            call, parked.action = getattr(stage, scenario)()
            with interrupt:
                await call()
            await trio.lowlevel.checkpoint()
        finally:
            parked.action = None
            stage.close()

    files = len(os.listdir("/proc/self/fd"))
    try:
        uring_trio.run(main, ring=OPTIONS, instruments=[parked])
    except* KeyboardInterrupt:
        assert interrupt.fired, "interrupted by something else"
    else:
        assert not interrupt.fired, f"the interrupt at bytecode {n} was lost"
    [manager] = managers
    assert manager.closed
    assert manager.ring.closed
    assert len(manager.table) == INTERNAL, f"bytecode {n}: {list(manager.table.taken())}"
    assert all(op.task is None and op.pins is None for op in manager.table.entries)
    assert len(os.listdir("/proc/self/fd")) == files
    return interrupt.fired


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_interrupt_at_every_bytecode(scenario: str) -> None:
    n = 1
    while interrupted_run(scenario, n):
        n += 1
        assert n < MOST
    assert n > LEAST


@pytest.mark.filterwarnings("ignore:coroutine .*handle' was never awaited")  # as under Trio's own servers
@pytest.mark.parametrize("scenario", SERVERS)
def test_interrupt_at_every_bytecode_of_a_listener(scenario: str) -> None:
    n = 1
    while interrupted_run(scenario, n, "net/listener.py"):
        n += 1
        assert n < MOST
    assert n > LEAST


@pytest.mark.parametrize("trap", ["transact", "perform_fields"])
def test_traps_are_protected_by_themselves(trap: str) -> None:
    """Not only because what calls them is: the marks survive what the decorators do to a function."""
    n = 1
    while interrupted_trap(trap, n):
        n += 1
        assert n < MOST
    assert n > LEAST


def interrupted_trap(trap: str, n: int) -> bool:
    interrupt = Interrupt(n)

    async def main() -> None:
        manager = current()
        op = manager.acquire("nop")
        op.template = manager.ring.template(op.user_data, *ops.nop().fields)
        arguments = (op,) if trap == "transact" else (op, ops.nop().fields)
        try:
            with interrupt:
                await getattr(seams, trap)(*arguments)
        finally:
            assert manager.ring.unqueue(op.user_data) == 0, f"queued and abandoned at bytecode {n}"
            manager.release(op)
        await trio.lowlevel.checkpoint()

    try:
        uring_trio.run(main, ring=OPTIONS)
    except KeyboardInterrupt:
        assert interrupt.fired
    else:
        assert not interrupt.fired
    return interrupt.fired


@pytest.mark.parametrize("scenario", ["recv", "accept", "perform_recv"])
def test_interrupt_while_parked(scenario: str) -> None:
    async def main() -> None:
        stage = Stage()
        try:
            call, _ = getattr(stage, scenario)()
            parked.action = lambda: signal.raise_signal(signal.SIGINT)
            await call()
        finally:
            stage.close()

    parked = WhenParked()
    with pytest.raises(KeyboardInterrupt):
        uring_trio.run(main, ring=OPTIONS, instruments=[parked])
