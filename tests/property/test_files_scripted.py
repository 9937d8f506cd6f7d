"""Files on a ring whose completions come when and how a script wants them, on real files.

What a call said it did is in the file, in that order and once; a call that was cancelled has done nothing;
the position is where what was done left it; and no descriptor is lost. Whether an operation is done at once,
later, in part, after a cancel all the same, or not at all is drawn for each.
"""

from __future__ import annotations

import ctypes
import errno
import io
import os
import random
import stat
from functools import partial
from typing import TYPE_CHECKING, Any

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.property.support import Outcome, scripted_run, ticks
from uring import abi
from uring_trio.fs import open_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from uring.kernel.scripted import Request, ScriptedRing
    from uring_trio.core.manager import Manager

CURRENT = (1 << 64) - 1
WRITE, READ = int(abi.IORING_OP_WRITE), int(abi.IORING_OP_READ)
_libc = ctypes.CDLL(None, use_errno=True)
seeds = st.integers(0, 1 << 32).map(random.Random)


class Files:
    """The kernel's part: does what is asked of real files, when chance has it."""

    def __init__(self, ring: ScriptedRing, chance: random.Random, *, short: bool = True) -> None:
        self._ring = ring
        self._chance = chance
        self._short = short
        self._waiting: list[Request] = []
        self.done = 0
        self.durable = b""  # what the last fsync found in the file
        ring.on_start = self._start

    def _start(self, request: Request) -> None:
        if request.truthful:
            return
        if self._chance.random() < 0.4:
            self._ring.complete(request, self._do(request), posted=True)
            return
        request.on_cancel = self._chance.choice(("cancel", "running", "uncancellable"))
        self._waiting.append(request)
        self._ring.scheduler = self._work

    def _work(self, ring: ScriptedRing) -> None:
        """Ends some of what waits, in any order."""
        self._waiting = [request for request in self._waiting if request in ring.running]
        self._chance.shuffle(self._waiting)
        for request in self._waiting[: self._chance.randrange(3)]:
            if request.interrupted and self._chance.random() < 0.5:
                ring.complete(request, self._chance.choice((-errno.EINTR, -errno.ECANCELED)))
                continue
            request.on_cancel = "uncancellable"  # what is done cannot be taken back
            ring.complete(request, self._do(request))
        self._waiting = [request for request in self._waiting if request in ring.running]
        if not self._waiting:
            ring.scheduler = None

    def _do(self, request: Request) -> int:
        self.done += 1
        try:
            return self._act(request)
        except OSError as exc:
            return -(exc.errno or 0)

    def _act(self, request: Request) -> int:
        fd, offset, size = request.fd, request.off, request.length
        if request.opcode == abi.IORING_OP_OPENAT:
            return os.open(ctypes.string_at(request.addr), request.op_flags, request.length)
        if request.opcode == abi.IORING_OP_STATX:
            # op_flags, length: how, and what is asked for; off: where the answer goes
            arguments = fd, ctypes.c_char_p(request.addr), request.op_flags, size, ctypes.c_void_p(offset)
            return 0 if _libc.statx(*arguments) == 0 else -ctypes.get_errno()
        if request.opcode == abi.IORING_OP_FSYNC:
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                self.durable = os.pread(fd, 1 << 20, 0)
            return 0
        if request.opcode == abi.IORING_OP_FTRUNCATE:
            os.ftruncate(fd, offset)
            return 0
        if self._short and size > 1 and self._chance.random() < 0.2:
            size = self._chance.randrange(1, size)
        if request.opcode == READ:
            data = os.read(fd, size) if offset == CURRENT else os.pread(fd, size, offset)
            ctypes.memmove(request.addr, data, len(data))
            return len(data)
        assert request.opcode == WRITE
        data = ctypes.string_at(request.addr, size)
        if offset != CURRENT:
            return os.pwrite(fd, data, offset)
        before = os.lseek(fd, 0, os.SEEK_CUR)
        os.write(fd, data)
        if size < request.length:
            os.lseek(fd, before, os.SEEK_SET)  # as Linux leaves it where a write ends in an error
        return size


async def perhaps(chance: random.Random, call: Callable[[], Any]) -> Outcome:
    """Makes a call, and perhaps cancels it some ticks later."""
    outcome = Outcome()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outcome.run, call)
        if chance.random() < 0.6:
            await ticks(chance.randrange(6))
            outcome.scope.cancel()
    return outcome


@settings(max_examples=150, deadline=None)
@given(chance=seeds, mode=st.sampled_from(["w+b", "r+b"]), buffering=st.sampled_from([-1, 0, 7, 64]))
def test_calls_are_done_or_not(
    tmp_path_factory: Any, chance: random.Random, mode: str, buffering: int
) -> None:
    path: Path = tmp_path_factory.mktemp("scripted") / "file"
    start = bytes(range(200))
    path.write_bytes(start)

    async def main(manager: Manager, ring: ScriptedRing) -> None:
        files = Files(ring, chance)
        file = await open_file(path, mode, buffering)
        model = io.BytesIO(b"" if mode == "w+b" else start)
        where = 0
        for _ in range(chance.randrange(1, 20)):
            name = chance.choice(("read", "write", "write", "seek", "truncate"))
            n = chance.randrange(1, 150)
            data = chance.randbytes(n)
            argument: Any = data if name == "write" else n
            outcome = await perhaps(chance, partial(getattr(file, name), argument))
            if outcome.error is None:
                result = outcome.value
                if name == "write":
                    assert buffering == 0 or result == n
                    model.seek(where)
                    model.write(data[:result])
                    where += result
                elif name == "read":
                    model.seek(where)
                    assert result == model.read(len(result))
                    if buffering != 0:
                        assert len(result) == n or where + n >= len(model.getvalue())
                    where += len(result)
                elif name == "seek":
                    where = n
                else:
                    model.truncate(n)
                    if len(model.getvalue()) < n:
                        model.seek(n - 1)
                        model.write(b"\0")
            else:
                assert isinstance(outcome.error, trio.Cancelled), outcome.error
            assert await file.tell() == where
        await file.aclose()
        assert files.done
        assert path.read_bytes() == model.getvalue()

    before = os.listdir("/proc/self/fd")
    scripted_run(main, order=chance.getrandbits(32))
    assert os.listdir("/proc/self/fd") == before


@settings(max_examples=60, deadline=None)
@given(chance=seeds, buffering=st.sampled_from([-1, 32, 100]), text=st.booleans())
def test_many_append_and_are_cancelled(
    tmp_path_factory: Any, chance: random.Random, buffering: int, text: bool
) -> None:
    path: Path = tmp_path_factory.mktemp("scripted") / "file"
    told: list[bytes] = []

    async def main(manager: Manager, ring: ScriptedRing) -> None:
        Files(ring, chance)
        file = await open_file(path, "a" if text else "ab", -1 if text else buffering)

        async def writer(number: int) -> None:
            for i in range(6):
                record = b"%03d" % (number * 10 + i) * chance.randrange(1, 30) + b"\n"
                outcome = await perhaps(chance, partial(file.write, record.decode() if text else record))
                if outcome.error is None:
                    assert outcome.value == len(record)
                    told.append(record)

        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(writer, number)
        await file.aclose()

    scripted_run(main, order=chance.getrandbits(32))
    assert sorted(path.read_bytes().splitlines(keepends=True)) == sorted(told)


@settings(max_examples=60, deadline=None)
@given(chance=seeds)
def test_places_are_written_as_told(tmp_path_factory: Any, chance: random.Random) -> None:
    """`pwrite`, which takes no turn: each has its own place, and is there as a whole or not at all."""
    path: Path = tmp_path_factory.mktemp("scripted") / "file"
    size = 40
    told: set[int] = set()

    async def main(manager: Manager, ring: ScriptedRing) -> None:
        Files(ring, chance)
        file = await open_file(path, "w+b", 0)

        async def writer(number: int) -> None:
            outcome = await perhaps(chance, partial(file.pwrite, bytes([number]) * size, number * size))
            if outcome.error is None:
                assert outcome.value == size
                told.add(number)

        async with trio.open_nursery() as nursery:
            for number in range(1, 20):
                nursery.start_soon(writer, number)
        await file.aclose()

    scripted_run(main, order=chance.getrandbits(32))
    found = path.read_bytes().ljust(20 * size, b"\0")
    for number in range(1, 20):
        piece = found[number * size : (number + 1) * size]
        assert piece == (bytes([number]) * size if number in told else bytes(size))


@settings(max_examples=100, deadline=None)
@given(chance=seeds)
def test_cancelled_open_leaks_nothing(tmp_path_factory: Any, chance: random.Random) -> None:
    folder: Path = tmp_path_factory.mktemp("scripted")

    async def main(manager: Manager, ring: ScriptedRing) -> None:
        Files(ring, chance)
        for i in range(5):
            outcome = await perhaps(chance, partial(open_file, folder / f"{i}", "wb"))
            if outcome.error is None:
                await outcome.value.aclose()

    before = os.listdir("/proc/self/fd")
    scripted_run(main, order=chance.getrandbits(32))
    assert os.listdir("/proc/self/fd") == before
