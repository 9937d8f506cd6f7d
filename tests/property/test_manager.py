"""The manager under everything at once: tasks, cancels, closes and completions in any order.

Hypothesis chooses what happens next inside a Trio run whose ring is scripted. Whatever it is, slots, pins,
buffers and descriptors are conserved, nobody is interrupted without a reason, and what succeeded is
delivered.
"""

from __future__ import annotations

import errno
import os
import random
import select
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.property.support import (
    INTERNAL,
    ORDERS,
    POLL_ADD,
    RECV,
    Outcome,
    orders,
    scripted_run,
    ticks,
    until,
)
from uring import abi, ops
from uring.kernel.scripted import FAKE_FD, RandomScheduler, Request, ScriptedRing
from uring_trio import perform
from uring_trio.core.fd import Fd

if TYPE_CHECKING:
    from uring_trio.core.manager import Manager

ACCEPT = int(abi.IORING_OP_ACCEPT)
SELECT = int(abi.IOSQE_BUFFER_SELECT)
FDS = [FAKE_FD + n for n in range(3)]
SOCKETS = 2
ERRORS = (-errno.ECONNRESET, -errno.EIO, -errno.ENOBUFS)
INTERRUPTED = (-errno.ECANCELED, -errno.EINTR, -512)


class Call:
    """One awaited call and what it may end with."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.outcome = Outcome()
        self.closed = False
        self.promised: int | None = None

    def check(self) -> None:
        error = self.outcome.error
        if self.promised is not None:
            assert self.outcome.value == self.promised, (self.promised, error)
        if isinstance(error, trio.Cancelled):
            assert self.outcome.scope.cancel_called
        elif isinstance(error, trio.ClosedResourceError):
            assert self.closed
        else:
            assert error is None or isinstance(error, (OSError, trio.BusyResourceError)), repr(error)


class World:
    """Tasks on fake descriptors and on real sockets whose operations the ring only pretends to do."""

    def __init__(self, manager: Manager, ring: ScriptedRing, nursery: trio.Nursery) -> None:
        self.manager, self.ring, self.nursery = manager, ring, nursery
        self.calls: list[Call] = []
        self.sizes = count(1)
        self.by_size: dict[int, Call] = {}
        self.sockets = [trio.socket.socketpair() for _ in range(SOCKETS)]

    # ---- what tasks do

    def _start(self, call: Call, fn: Any, *args: Any) -> None:
        self.calls.append(call)
        self.nursery.start_soon(call.outcome.run, fn, *args)

    def receive(self, n: int) -> None:
        call, size = Call(FDS[n % len(FDS)]), next(self.sizes)
        self.by_size[size] = call
        self._start(call, perform, ops.recv(call.fd, bytearray(size)))

    def accept(self, n: int) -> None:
        call = Call(FDS[n % len(FDS)])

        async def accept_and_close() -> None:
            os.close(await perform(ops.accept(call.fd)))

        self._start(call, accept_and_close)

    def wait(self, n: int) -> None:
        call = Call(FDS[n % len(FDS)])
        self._start(call, perform, ops.poll_add(call.fd, select.POLLIN if n % 2 else select.POLLOUT))

    def socket_receive(self, n: int) -> None:
        sock = self.sockets[n % SOCKETS][0]
        call = Call(sock.fileno())
        self._start(call, sock.recv, 10 + n % 3)

    def socket_receive_into(self, n: int) -> None:
        sock = self.sockets[n % SOCKETS][0]
        call = Call(sock.fileno())
        self._start(call, sock.recv_into, bytearray(10))

    # ---- what happens to them

    def cancel(self, n: int) -> None:
        if self.calls:
            self.calls[n % len(self.calls)].outcome.scope.cancel()

    def notify_closing(self, n: int) -> None:
        self._closing(FDS[n % len(FDS)])
        trio.lowlevel.notify_closing(FDS[n % len(FDS)])

    def close_socket(self, n: int) -> None:
        for sock in self.sockets[n % SOCKETS]:
            self._closing(sock.fileno())
            sock.close()
        self.sockets[n % SOCKETS] = trio.socket.socketpair()

    def _closing(self, fd: int) -> None:
        for call in self.calls:
            if call.fd == fd and not call.outcome.done:
                call.closed = True

    # ---- what the kernel does

    def ours(self) -> list[Request]:
        return [request for request in self.ring.running if not request.truthful]

    def complete(self, n: int) -> None:
        if not self.ours():
            return
        request = self.ours()[n % len(self.ours())]
        posted = n % 3 > 0
        if request.interrupted and n % 5 == 0:
            self.ring.complete(request, INTERRUPTED[n % len(INTERRUPTED)], posted=posted)
        elif n % 7 == 0:
            self.ring.complete(request, ERRORS[n % len(ERRORS)], posted=posted)
        else:
            self.succeed(request, posted)

    def succeed(self, request: Request, posted: bool) -> None:
        if request.opcode == RECV and request.flags & SELECT:
            self.ring.complete(request, data=b"data", posted=posted)
        elif request.opcode == ACCEPT:
            # A deferred completion may be overtaken by a cancel: then there was no descriptor.
            self.ring.complete(request, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), posted=True)
        elif request.opcode == POLL_ADD:
            self.ring.complete(request, request.op_flags, posted=posted)
        else:
            self.ring.complete(request, request.length, posted=posted)
            if posted and request.length in self.by_size and request.fd in FDS:
                self.by_size[request.length].promised = request.length

    def stubborn(self, n: int) -> None:
        if self.ours():
            self.ours()[n % len(self.ours())].on_cancel = ("cancel", "running", "uncancellable")[n % 3]

    def order(self, n: int) -> None:
        self.ring.target_first = bool(n % 2)
        self.ring.shuffle(random.Random(n))

    def trouble(self, n: int) -> None:
        self.ring.enter_results.append((-errno.EINTR, -errno.EAGAIN, -errno.EBUSY, 0, 1)[n % 5])

    def room(self, n: int) -> None:
        self.ring.full = bool(n % 3)

    async def tick(self, n: int) -> None:
        await ticks(1 + n % 2)

    # ---- what must hold

    def check(self) -> None:
        ring, manager = self.ring, self.manager
        names = Counter(request.user_data for request in (*self.ours(), *ring.queued) if request.opcode != 14)
        for request in self.ours():
            assert names[request.user_data] == 1, "one user_data is in flight twice"
            op = manager.table.find(request.user_data)
            assert op is not None, "an operation of the kernel has no owner"
            assert op.task is not None
            assert op not in manager.table.free
            if request.opcode in (RECV, ACCEPT) and not request.flags & SELECT and request.fd in FDS:
                assert op.pins is not None or request.opcode == ACCEPT
        for call in self.calls:
            if call.outcome.done:
                call.check()

    async def finish(self) -> None:
        """Everything ends: the cancelled, and what no cancel reaches."""
        self.ring.full = False
        self.ring.enter_results.clear()
        for call in self.calls:
            call.outcome.scope.cancel()
        await ticks(5)
        while self.ours():
            for request in self.ours():
                self.succeed(request, posted=True)
            await ticks(5)
        await until(lambda: all(call.outcome.done for call in self.calls))
        self.check()
        for pair in self.sockets:
            for sock in pair:
                sock.close()
        await ticks()
        assert len(self.manager.table) == INTERNAL


ACTIONS = [
    "receive",
    "accept",
    "wait",
    "socket_receive",
    "socket_receive_into",
    "cancel",
    "notify_closing",
    "close_socket",
    "complete",
    "stubborn",
    "order",
    "trouble",
    "room",
    "tick",
]


def play(actions: list[tuple[str, int]], order: int) -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        async with trio.open_nursery() as nursery:
            world = World(manager, ring, nursery)
            try:
                for action, n in actions:
                    if action == "tick":
                        await world.tick(n)
                    else:
                        getattr(world, action)(n)
                    world.check()
            finally:
                await world.finish()

    files = len(os.listdir("/proc/self/fd"))
    scripted_run(main, ScriptedRing(entries=8, cq_entries=16), order=order)
    assert len(os.listdir("/proc/self/fd")) == files


FULL = [
    ("socket_receive", 0),
    ("room", 1),
    ("tick", 1),
    ("cancel", 0),
    ("tick", 0),
    ("close_socket", 0),
]
"""A receive that waited for room in the queue was cancelled, and its socket closed before it had noticed."""


@settings(max_examples=ORDERS, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 104)), max_size=40), orders)
@example(FULL, 0)
@example(FULL, 1)
@example(FULL, 2)
@example(FULL, 3)
def test_everything_is_conserved(actions: list[tuple[str, int]], order: int) -> None:
    play(actions, order)


def answer(request: Request, rng: random.Random) -> tuple[int, int] | bytes | None:
    """What the random scheduler completes a request with."""
    if request.interrupted and rng.random() < 0.7:
        return rng.choice(INTERRUPTED), 0
    if rng.random() < 0.1:
        return -errno.ECONNRESET, 0
    if request.flags & SELECT:
        return bytes(rng.randrange(1, 10))
    if request.opcode == POLL_ADD:
        return request.op_flags, 0
    return (rng.randrange(0, request.length + 1), 0) if request.length else None


@pytest.mark.parametrize("seed", range(25))
def test_storm(seed: int) -> None:
    """Many tasks that receive, wait and give up at random, on a ring that completes at random."""
    rng = random.Random(seed)

    async def user(sock: Any, other: int) -> None:
        for _ in range(20):
            with trio.CancelScope() as scope:
                if rng.random() < 0.3:
                    scope.cancel()
                elif rng.random() < 0.4:
                    trio.lowlevel.current_trio_token().run_sync_soon(scope.cancel)
                try:
                    if rng.random() < 0.5:
                        await sock.recv(10)
                    elif rng.random() < 0.5:
                        await perform(ops.recv(other, bytearray(10)))
                    else:
                        await perform(ops.poll_add(other, select.POLLIN))
                except OSError:
                    pass

    async def main(manager: Manager, ring: ScriptedRing) -> None:
        ring.scheduler = RandomScheduler(seed, answer)
        async with trio.open_nursery() as nursery:
            pairs = [trio.socket.socketpair() for _ in range(5)]
            for n, (left, _) in enumerate(pairs):
                nursery.start_soon(user, left, FAKE_FD + n)
        ring.scheduler = None
        ring.enter_results.clear()
        for pair in pairs:
            for sock in pair:
                sock.close()

    scripted_run(main, ScriptedRing(entries=8, cq_entries=16), order=seed)


def test_an_fd_left_behind_is_taken_over() -> None:
    async def main(manager: Manager, ring: ScriptedRing) -> None:
        first = Fd.open(manager, FDS[0])
        first.reader = first.operation("recv")
        second = Fd.open(manager, FDS[0])
        assert first.reader is None
        assert first.fd == -1
        assert manager.owners[FDS[0]] is second
        second.close()

    scripted_run(main)
