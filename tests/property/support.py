"""Trio runs whose ring is scripted, and a stage on which both rings play the same part."""

from __future__ import annotations

import errno
import os
import random
import select
import socket
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import strategies as st

from uring import abi, ops
from uring.kernel.buffers import BufferRing
from uring.kernel.ring import CQE, KernelRing
from uring.kernel.scripted import FAKE_FD, Request, ScriptedBuffers, ScriptedRing, ScriptedVolley
from uring.kernel.volley import Volley
from uring_trio import perform
from uring_trio.core.engine import current
from uring_trio.options import RingOptions
from uring_trio.testing import run_scripted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from uring.kernel.op import Op
    from uring_trio.core.manager import Manager

MORE = int(abi.IORING_CQE_F_MORE)
NOTIF = int(abi.IORING_CQE_F_NOTIF)
F_BUFFER = int(abi.IORING_CQE_F_BUFFER)
FD = FAKE_FD + 1
RECV = int(abi.IORING_OP_RECV)
NOP = int(abi.IORING_OP_NOP)
POLL_ADD = int(abi.IORING_OP_POLL_ADD)
ASYNC_CANCEL = int(abi.IORING_OP_ASYNC_CANCEL)
SETUP = int(
    abi.IORING_SETUP_SINGLE_ISSUER
    | abi.IORING_SETUP_DEFER_TASKRUN
    | abi.IORING_SETUP_TASKRUN_FLAG
    | abi.IORING_SETUP_SUBMIT_ALL
    | abi.IORING_SETUP_CQSIZE
)
both_orders = pytest.mark.parametrize("target_first", [False, True])
orders = st.integers(0, (1 << 32) - 1)
"""What the order of tasks that are ready together follows from."""

ORDERS = int(os.environ.get("ORDERS", "300"))
"""How many orders of events each property is tried in, where they are drawn and not enumerated."""

OPTIONS = RingOptions(buffers=4, buffer_size=64)
INTERNAL = 4
"""Operations that a manager keeps for itself: cancels, the wake-up, readiness and linked timeouts."""


def scripted_run(
    main: Callable[[Manager, ScriptedRing], Awaitable[Any]],
    ring: ScriptedRing | None = None,
    options: RingOptions = OPTIONS,
    *,
    abandoned: bool = False,
    order: int | None = None,
    **trio_run_options: Any,
) -> Any:
    """``trio.run`` of ``main(manager, ring)`` on a scripted ring; afterwards nothing may be left of it.

    ``abandoned``: the test leaves operations whose tasks are gone, as a crash does. ``order``: what the order
    of tasks that are ready together follows from; a failure without it names the one that replays it.
    """
    if order is None:
        order = random.SystemRandom().getrandbits(32)
    ring = ring if ring is not None else ScriptedRing()
    manager: Any = None

    async def with_manager() -> Any:
        nonlocal manager
        manager = current()
        return await main(manager, ring)

    try:
        result = run_scripted(ring, with_manager, options=options, order=order, **trio_run_options)
    except BaseException as exc:
        exc.add_note(f"Trio's order: scripted_run(..., order={order})")
        raise
    finally:
        assert manager.closed
        assert ring.closed
        assert ring.inflight == 0
        assert not ring.running
        assert not ring.volleys
        assert not manager.owners
        assert len(manager.buffers.available) == manager.buffers.in_use
        free = {id(op) for op in manager.table.free}
        assert len(free) == len(manager.table.free), "a slot was given back twice"
        assert abandoned or all(op.task is None for op in manager.table.entries)
        assert all(op.pins is None for op in manager.table.entries if id(op) in free)
    return result


async def until(condition: Callable[[], bool]) -> None:
    """Lets the run go on until ``condition``; a condition that never comes true fails after many ticks."""
    for _ in range(1000):
        if condition():
            return
        await trio.lowlevel.cancel_shielded_checkpoint()
    raise AssertionError("the condition did not come true")


async def ticks(number: int = 3) -> None:
    for _ in range(number):
        await trio.lowlevel.cancel_shielded_checkpoint()


def running(ring: ScriptedRing, fd: int) -> list[Request]:
    return [request for request in ring.running if request.fd == fd]


class Outcome:
    """What became of an awaited call."""

    def __init__(self) -> None:
        self.value: Any = None
        self.error: BaseException | None = None
        self.done = False
        self.scope = trio.CancelScope()

    async def run(self, fn: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """Runs the call in `scope`; keeps its value or its error, ``Cancelled`` included."""
        with self.scope:
            try:
                self.value = await fn(*args)
            except Exception as exc:
                self.error = exc
            except trio.Cancelled as exc:
                self.error = exc
                raise
            finally:
                self.done = True


class Stage:
    """A ring with a buffer group 0, and streams to receive from; ``step`` hands completions out."""

    ring: Any
    buffers: Any

    def step(self, timeout: float = 0.0) -> list[tuple[int, int, int]]:
        n = self.ring.cycle(timeout)
        assert n >= 0, errno.errorcode.get(-n)
        return list(CQE.iter_unpack(self.ring.out[: n * CQE.size]))

    def gather(self, wanted: int) -> list[tuple[int, int, int]]:
        """Completions until there are as many as wanted."""
        got: list[tuple[int, int, int]] = []
        for _ in range(50):
            if len(got) >= wanted:
                return got
            got += self.step(0.2)
        raise AssertionError(f"{len(got)} completions came, {wanted} were wanted: {got}")

    def put(self, user_data: int, op: ops.Op) -> None:
        assert self.ring.put(user_data, *op.fields) == 0

    def receive(self, user_data: int, fd: int, *, multishot: bool = False) -> None:
        if multishot:
            self.put(user_data, ops.recv_multishot(fd, 0))
        else:
            self.put(user_data, ops.recv(fd, buffer_group=0, read_buffer_size=64))

    def stream(self) -> Any:
        raise NotImplementedError

    def volley(self, count: int) -> Any:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class KernelStage(Stage):
    """The running kernel; socket pairs are the streams."""

    def __init__(
        self, entries: int = 32, cq_entries: int = 128, buffers: int = 4, first: int | None = None
    ) -> None:
        self.ring = KernelRing(entries, SETUP, cq_entries=cq_entries)
        self.buffers = BufferRing(self.ring, 0, buffers, 64, first=first)
        self._sockets: list[socket.socket] = []
        # The memory of a volley lives until its completion, which `close` waits for.
        self._volleys: list[Volley] = []

    def volley(self, count: int) -> Volley:
        self._volleys.append(Volley(self.ring, count))
        return self._volleys[-1]

    def stream(self) -> KernelStream:
        ours, theirs = socket.socketpair()
        self._sockets += [ours, theirs]
        return KernelStream(ours, theirs)

    def time_out(self, user_data: int) -> None:
        """Timeouts run by themselves."""

    def close(self) -> None:
        if not self.ring.closed:
            while self.ring.inflight:
                self.put(0, ops.async_cancel_all())
                self.step(1.0)
            self.buffers.close()
            self.ring.close()
        for sock in self._sockets:
            sock.close()


class KernelStream:
    def __init__(self, ours: socket.socket, theirs: socket.socket) -> None:
        self.fd = ours.fileno()
        self._theirs = theirs
        self._ours = ours

    def feed(self, data: bytes) -> None:
        self._theirs.send(data)

    def end(self) -> None:
        self._theirs.shutdown(socket.SHUT_WR)

    def unread(self) -> bytes:
        try:
            return self._ours.recv(100, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return b""


class ScriptedStage(Stage):
    """The scripted ring; its streams do what the kernel does with a socket."""

    def __init__(
        self, entries: int = 32, cq_entries: int = 128, buffers: int = 4, first: int | None = None
    ) -> None:
        self.ring: ScriptedRing = ScriptedRing(entries, cq_entries)
        self.buffers = ScriptedBuffers(self.ring, 0, buffers, 64, first=first)
        self._streams: dict[int, ScriptedStream] = {}
        self._numbers = count(FAKE_FD)
        self.woken: dict[Request, ScriptedStream] = {}
        self.ring.on_start = self._started

    def volley(self, count: int) -> ScriptedVolley:
        return ScriptedVolley(self.ring, count)

    def stream(self) -> ScriptedStream:
        fd = next(self._numbers)
        self._streams[fd] = ScriptedStream(self, fd)
        return self._streams[fd]

    def _started(self, request: Request) -> None:
        if request.fd in self._streams:
            self._streams[request.fd].serve(request, posted=True)

    def work(self, ring: ScriptedRing) -> None:
        """Deferred work: who was woken looks whether there is something for it; a poll believes it."""
        ring.scheduler = None
        woken, self.woken = self.woken, {}
        for request, stream in woken.items():
            if request in ring.running:
                stream.serve(request, woken=True)

    def time_out(self, user_data: int) -> None:
        """The timeout under ``user_data`` expires, or the one linked to that operation."""
        request = self.ring.find(user_data=user_data)
        if request.timeout is None:
            self.ring.complete(request, -errno.ETIME)
        else:
            self.ring.expire(request)

    def close(self) -> None:
        if not self.ring.closed:
            while self.ring.inflight:
                self.put(0, ops.async_cancel_all())
                self.step()
            self.buffers.close()
            self.ring.close()


class ScriptedStream:
    def __init__(self, stage: ScriptedStage, fd: int) -> None:
        self.fd = fd
        self._stage = stage
        self._ring = stage.ring
        self._data = bytearray()
        self._ended = False

    def feed(self, data: bytes) -> None:
        self._data += data
        self._wake()

    def end(self) -> None:
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        # The kernel wakes the last one first.
        for request in reversed(running(self._ring, self.fd)):
            self._stage.woken[request] = self
            self._ring.scheduler = self._stage.work

    def unread(self) -> bytes:
        data = bytes(self._data)
        self._data.clear()
        return data

    def serve(self, request: Request, *, posted: bool = False, woken: bool = False) -> None:
        more = MORE if request.multishot else 0
        if request.opcode == POLL_ADD and (self._data or self._ended or woken):
            self._ring.complete(request, select.POLLIN, more, posted=posted)
        elif request.opcode == RECV and self._data:
            room = bool(self._ring.groups[request.buf_index].available)
            data = bytes(self._data[: request.length or 64])
            if room:
                del self._data[: len(data)]
            self._ring.complete(request, data=data, flags=more, posted=posted)
        elif request.opcode == RECV and self._ended:
            self._ring.complete(request, 0, posted=posted)


def receive() -> Op:
    return ops.recv(FD, bytearray(10))


async def in_flight(ring: ScriptedRing, fd: int = FD, number: int = 1) -> list[Request]:
    await until(lambda: len(running(ring, fd)) >= number)
    return running(ring, fd)


class Busy:
    """A run with one ``perform`` in flight."""

    def __init__(self, nursery: trio.Nursery, op: Op) -> None:
        self.outcome = Outcome()
        nursery.start_soon(self.outcome.run, perform, op)


def record_starts(main: Any) -> list[Request]:
    """What the kernel took during a scripted run of ``main``."""
    ring = ScriptedRing()
    seen: list[Request] = []
    ring.on_start = seen.append
    scripted_run(main, ring)
    return seen


def receives(ring: ScriptedRing) -> list[Request]:
    return [request for request in ring.running if request.opcode == RECV]
