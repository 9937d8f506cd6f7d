"""Many operations at once, group commits and direct descriptors, when completions come in any order.

Whatever the order: each operation has the result that is its own, what a call said it did is in the file, and
no slot, buffer or descriptor is lost.
"""

from __future__ import annotations

import errno
import os
import random
import socket
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from examples.store import open_store, parse
from tests.property.support import ORDERS, Outcome, scripted_run, ticks, until
from tests.property.test_files_scripted import Files, perhaps, seeds
from uring import abi, ops
from uring.kernel.scripted import FAKE_FD, RandomScheduler, Request, ScriptedRing
from uring_trio import perform_many
from uring_trio.fs import open_file
from uring_trio.net.direct_listener import DirectListener, open_direct_listener

if TYPE_CHECKING:
    from pathlib import Path

    from uring_trio.core.manager import Manager
    from uring_trio.net.direct_stream import DirectStream

ACCEPT = int(abi.IORING_OP_ACCEPT)
RECV = int(abi.IORING_OP_RECV)
SEND = int(abi.IORING_OP_SEND)
SHUTDOWN = int(abi.IORING_OP_SHUTDOWN)
INSTALL = int(abi.IORING_OP_FIXED_FD_INSTALL)
LISTENING = frozenset(
    map(int, (abi.IORING_OP_SOCKET, abi.IORING_OP_URING_CMD, abi.IORING_OP_BIND, abi.IORING_OP_LISTEN))
)


# ---- perform_many


@settings(max_examples=ORDERS, deadline=None)
@given(
    chance=seeds,
    counts=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    cancels=st.lists(st.integers(0, 5), max_size=3),
)
def test_each_operation_has_its_own_result(
    chance: random.Random, counts: list[int], cancels: list[int]
) -> None:
    opened: set[int] = set()

    def answer(request: Request, rng: random.Random) -> tuple[int, int] | None:
        if request.interrupted and rng.random() < 0.5:
            return -errno.ECANCELED, 0
        if request.opcode == ACCEPT:
            fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
            opened.add(fd)
            return fd, 0
        return request.length, 0

    async def main(manager: Manager, ring: ScriptedRing) -> None:
        # A deferred accept that a cancel overtakes opened nothing, which this script cannot undo.
        ring.scheduler = Posted(chance.getrandbits(32), answer)
        outcomes = [Outcome() for _ in counts]
        async with trio.open_nursery() as nursery:
            for number, (count, outcome) in enumerate(zip(counts, outcomes, strict=True)):
                asked: list[ops.Op] = [
                    ops.accept(FAKE_FD + i) if i % 3 == 0 else ops.recv(FAKE_FD, bytearray(number * 100 + i))
                    for i in range(count)
                ]
                nursery.start_soon(outcome.run, perform_many, asked)
            for place in cancels:
                await ticks(place)
                chance.choice(outcomes).scope.cancel()
        for number, (count, outcome) in enumerate(zip(counts, outcomes, strict=True)):
            if outcome.error is not None:
                assert isinstance(outcome.error, trio.Cancelled)
                assert outcome.scope.cancel_called
                continue
            assert len(outcome.value) == count
            for i, value in enumerate(outcome.value):
                if i % 3 == 0:
                    os.close(value)
                else:
                    assert value == number * 100 + i
        ring.scheduler = None
        ring.enter_results.clear()

    files = len(os.listdir("/proc/self/fd"))
    scripted_run(main, ScriptedRing(entries=8, cq_entries=16), order=chance.getrandbits(32))
    assert len(os.listdir("/proc/self/fd")) == files


class Posted(RandomScheduler):
    """Completes in the completion queue, where no cancel overtakes."""

    def __call__(self, ring: ScriptedRing) -> None:
        rng = self.rng
        ring.target_first = rng.random() < 0.5
        for request in self._chosen(ring.running):
            found: Any = self.answer(request, rng)
            ring.complete(request, *found, posted=True)
        if rng.random() < self.trouble:
            ring.enter_results.append(rng.choice((-errno.EINTR, -errno.EAGAIN, -errno.EBUSY, 0, 1)))


# ---- files


@settings(max_examples=100, deadline=None)
@given(chance=seeds)
@example(chance=random.Random(125))  # a member was interrupted with EINTR
def test_many_places_of_a_file(tmp_path_factory: Any, chance: random.Random) -> None:
    """`write_many` and `read_many`, in parts, cancelled, beside each other."""
    path: Path = tmp_path_factory.mktemp("scripted") / "file"
    size, pieces = 20, 8
    told: set[int] = set()

    def places(number: int) -> list[int]:
        return [(number * pieces + i) * size for i in range(pieces)]

    async def main(manager: Manager, ring: ScriptedRing) -> None:
        Files(ring, chance)
        file = await open_file(path, "w+b", 0)

        async def writer(number: int) -> None:
            data = [(at, bytes([number]) * size) for at in places(number)]
            outcome = await perhaps(chance, partial(file.write_many, data))
            if outcome.error is None:
                told.add(number)
                found = await perhaps(chance, partial(file.read_many, [(at, size) for at in places(number)]))
                if found.error is None:
                    assert found.value == [bytes([number]) * size] * pieces
                else:
                    assert isinstance(found.error, trio.Cancelled), found.error
            else:
                assert isinstance(outcome.error, trio.Cancelled), outcome.error

        async with trio.open_nursery() as nursery:
            for number in range(1, 8):
                nursery.start_soon(writer, number)
        await file.aclose()

    scripted_run(main, ScriptedRing(entries=16, cq_entries=32), order=chance.getrandbits(32))
    found = path.read_bytes()
    for number in told:
        for at in places(number):
            assert found[at : at + size] == bytes([number]) * size


@settings(max_examples=100, deadline=None)
@given(chance=seeds)
def test_a_group_commit_tells_of_what_is_on_storage(tmp_path_factory: Any, chance: random.Random) -> None:
    path: Path = tmp_path_factory.mktemp("scripted") / "store"
    told: list[bytes] = []

    async def main(manager: Manager, ring: ScriptedRing) -> None:
        files = Files(ring, chance, short=False)
        async with open_store(str(path)) as store:

            async def writer(number: int) -> None:
                for i in range(4):
                    record = b"%d-%d" % (number, i)
                    outcome = await perhaps(chance, partial(store.append, record))
                    if outcome.error is None:
                        assert record in parse(files.durable)[0]
                        told.append(record)

            async with trio.open_nursery() as nursery:
                for number in range(6):
                    nursery.start_soon(writer, number)

    scripted_run(main, order=chance.getrandbits(32))
    records, end = parse(path.read_bytes())
    assert end == path.stat().st_size
    assert len(records) == len(set(records))
    assert set(told) <= set(records)


# ---- direct descriptors


class Network:
    """The kernel's part of direct listeners and streams: each connection echoes what it is sent."""

    def __init__(self, ring: ScriptedRing, chance: random.Random) -> None:
        self.ring, self.chance = ring, chance
        self.listeners: list[socket.socket] = []
        ring.on_start = self._start
        ring.scheduler = self._work

    def _start(self, request: Request) -> None:
        if request.opcode in LISTENING:
            self.ring.complete(request, 0, posted=True)
        elif request.opcode == INSTALL:
            sock = socket.create_server(("127.0.0.1", 0))
            self.ring.complete(request, sock.detach(), posted=True)

    def _work(self, ring: ScriptedRing) -> None:
        ring.target_first = self.chance.random() < 0.5
        for request in list(ring.running):
            if request.truthful or self.chance.random() < 0.5:
                continue
            posted = self.chance.random() < 0.5
            if request.opcode == ACCEPT:
                more = int(abi.IORING_CQE_F_MORE) if request.multishot and self.chance.random() < 0.8 else 0
                ring.complete(request, 0, more, posted=posted)
            elif request.opcode == RECV and request.flags & abi.IOSQE_BUFFER_SELECT:
                ring.complete(request, data=b"data", posted=posted)
            elif request.opcode in (RECV, SEND):
                ring.complete(request, self.chance.randrange(1, request.length + 1), posted=posted)
            elif not request.interrupted:
                ring.complete(request, 0, posted=posted)
        ring.shuffle(self.chance)
        if self.chance.random() < 0.1:
            ring.enter_results.append(self.chance.choice((-errno.EINTR, -errno.EAGAIN, -errno.EBUSY, 0, 1)))


@settings(max_examples=ORDERS, deadline=None)
@given(chance=seeds, multishot=st.booleans())
def test_direct_descriptors_are_conserved(chance: random.Random, multishot: bool) -> None:
    async def serve(stream: DirectStream) -> None:
        async with stream:
            for _ in range(chance.randrange(4)):
                for call in (
                    partial(stream.receive_some, 10),
                    partial(stream.send_all, b"x" * chance.randrange(1, 50)),
                    partial(stream.receive_into, bytearray(10)),
                ):
                    outcome = await perhaps(chance, call)
                    if outcome.error is not None:
                        assert isinstance(outcome.error, trio.Cancelled), outcome.error
                        assert outcome.scope.cancel_called
                    elif call.func == stream.receive_some:
                        assert outcome.value == b"data"
                if chance.random() < 0.2:
                    return

    async def accept(listener: DirectListener, nursery: trio.Nursery) -> None:
        if multishot:
            async with listener.connections() as incoming:
                async for stream in incoming:
                    nursery.start_soon(serve, stream)
                    if chance.random() < 0.2:
                        return
        else:
            for _ in range(5):
                outcome = await perhaps(chance, listener.accept)
                if outcome.error is None:
                    nursery.start_soon(serve, outcome.value)

    async def main(manager: Manager, ring: ScriptedRing) -> None:
        Network(ring, chance)
        listener = await open_direct_listener(socket.AF_INET, ("127.0.0.1", 0), 10, [])
        async with trio.open_nursery() as nursery:
            await accept(listener, nursery)
            if chance.random() < 0.5:
                nursery.cancel_scope.cancel()
        listener.close()
        ring.enter_results.clear()
        await until(lambda: not any(ring.tables.files or ()))
        ring.scheduler = None
        await ticks()
        assert sorted(manager.slots._free) == list(range(manager.slots._listeners))

    files = len(os.listdir("/proc/self/fd"))
    scripted_run(main, ScriptedRing(entries=8, cq_entries=16), order=chance.getrandbits(32))
    assert len(os.listdir("/proc/self/fd")) == files
