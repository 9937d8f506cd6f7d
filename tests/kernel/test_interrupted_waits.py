"""Waits that a signal's handler interrupts at every place where the interpreter runs handlers.

The handler raises, or waits on the same ring. Each completion is handed out once all the same, and everything
that was kept for its request is released.
"""

from __future__ import annotations

import dis
import os
import sys
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import uring
from uring import Ring, ops

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, FrameType

PACKAGE = str(Path(uring.__file__).parent)
HOW = ("wait", "wait_few", "wait_direct", "completions", "drain", "shared")
N = 5
LEAST = 5 if sys.version_info < (3, 13) else 0
"""Places that a wait has, and more. Later interpreters trace few opcodes once a trace function has raised."""


class Interrupt(BaseException):
    """Raised by a signal's handler."""


@cache
def names_of(code: CodeType) -> dict[int, str]:
    return {each.offset: each.opname for each in dis.get_instructions(code)}


class Handler:
    """Calls a function at the n-th place where the interpreter runs handlers of signals in this package.

    That is after a call of a function in C, at the start of a function and at the end of a loop's body. It is
    not after a call of a function in Python, nor at any other instruction.
    """

    def __init__(self, n: int, act: Callable[[], None]) -> None:
        self._left = n
        self._act = act
        self._last: dict[int, str] = {}
        self.ran = False

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "call":
            self._last.pop(id(frame.f_back), None)
            self._last.pop(id(frame), None)
            if not frame.f_code.co_filename.startswith(PACKAGE):
                return None
            frame.f_trace_opcodes = True
            frame.f_trace_lines = False
        elif event == "opcode":
            last = self._last.get(id(frame), "")
            self._last[id(frame)] = names_of(frame.f_code).get(frame.f_lasti, "")
            if last.startswith(("CALL", "RESUME", "JUMP_BACKWARD")):
                self._left -= 1
                if self._left == 0:
                    self.ran = True
                    self._act()
        return self._trace

    def __enter__(self) -> Handler:
        self._outer = sys.gettrace()
        sys._getframe().f_trace_opcodes = True  # else settrace asks for no opcodes, from CPython 3.12 on
        sys.settrace(self._trace)
        return self

    def __exit__(self, *error: object) -> None:
        sys.settrace(self._outer)


def raises() -> None:
    raise Interrupt


def acting(act: str, n: int, nested: Callable[[], None]) -> Handler:
    """One that raises, or does what is nested, or both."""

    def both() -> None:
        nested()
        raise Interrupt

    return Handler(n, {"raise": raises, "wait": nested, "both": both}[act])


def take(ring: Ring, how: str) -> Iterator[list[Any]]:
    """Completions of a ring in lists, by one of its ways."""
    if how == "completions":
        for cqe in ring.completions(timeout=0.001):
            yield [cqe]
    elif how == "drain":
        yield ring.drain(5.0)
    elif how == "wait_few":
        yield ring.wait(2, 0.001)
    else:
        yield (ring.wait_direct if how == "wait_direct" else ring.wait)(timeout=0.001)


def play(
    how: str, n: int, act: str, fill: Callable[[Ring], None], left: Callable[[Ring], None]
) -> tuple[bool, list[Any]]:
    """All completions of a ring that is interrupted at the n-th place; whether it was."""
    got: list[Any] = []
    with Ring(entries=16, multi_issuers=how == "shared") as ring:
        fill(ring)

        def nested() -> None:
            got.extend(ring.wait(3))

        handler = acting(act, n, nested)
        try:
            with handler:
                for each in take(ring, how):
                    got += each
        except Interrupt:
            assert act != "wait"
        got += ring.drain(5.0)
        assert ring.in_flight == ring.cq_pending == 0
        left(ring)
    return handler.ran, got


def nothing(_: Ring) -> None:
    """Checks nothing more."""


@pytest.mark.parametrize("act", ["raise", "wait", "both"])
@pytest.mark.parametrize("how", HOW)
def test_every_completion_is_handed_out_once(how: str, act: str) -> None:
    def fill(ring: Ring) -> None:
        for value in range(N):
            ring.nop(value)

    for n in count(1):
        ran, got = play(how, n, act, fill, nothing)
        assert sorted(cqe.user_data for cqe in got) == list(range(N)), n
        if not ran:
            break
    assert n > LEAST


@pytest.mark.parametrize("act", ["raise", "wait", "both"])
@pytest.mark.parametrize("how", HOW)
def test_memory_slots_and_meanings_are_those_of_their_requests(how: str, act: str) -> None:
    """Pipes are decoded out of memory that is released; a read has a slot; an error says what failed."""
    readable, writable = os.pipe()
    buffer = bytearray(4)
    slots: list[Any] = []

    def fill(ring: Ring) -> None:
        os.write(writable, b"read")
        slots[:] = [ring.indirect_sqe()]
        ring.submit(ops.read(readable, buffer), slots[0].context)
        ring.submit(ops.pipe(), 1)
        ring.submit(ops.pipe(), 2)
        ring.submit(ops.read(1 << 20, bytearray(1)), 3)

    def left(ring: Ring) -> None:
        assert not ring._held
        assert not ring._slots
        assert not ring._decoding
        assert not slots[0].in_flight
        assert slots[0].res == 4
        ring.put_indirect_sqe(slots[0])
        buffer.append(0)  # fails while it is pinned
        buffer.pop()

    try:
        for n in count(1):
            ran, got = play(how, n, act, fill, left)
            found = {cqe.user_data: cqe for cqe in got}
            for value in (1, 2):
                for fd in found[value].result():
                    os.close(fd)
            with pytest.raises(OSError, match="read") as caught:
                found[3].result()
            assert caught.value.errno == 9
            assert len(got) == len(found) == 4, n
            if not ran:
                break
    finally:
        os.close(readable)
        os.close(writable)


@pytest.mark.parametrize("act", ["raise", "wait", "both"])
def test_requests_have_their_results(act: str) -> None:
    for n in count(1):
        requests: list[Any] = []
        got: list[Any] = []
        with Ring(entries=16) as ring:
            requests += [ring.nop() for _ in range(N)]

            def nested() -> None:
                got.extend(ring.wait(1))
                assert requests[1].wait(5.0) == 0

            handler = acting(act, n, nested)
            try:
                with handler:
                    ring._wait_for(requests[0], 5.0)
            except Interrupt:
                assert act != "wait"
            got += ring.drain(5.0)
            assert all(each.done() for each in requests)
            of = [cqe.request for cqe in got]
            assert len(of) == len(set(of))
            assert set(of) >= set(requests) - {requests[1]}
            assert requests[0].result() == 0
        if not handler.ran:
            break
    assert n > LEAST


@pytest.mark.parametrize("act", ["raise", "wait", "both"])
def test_a_ring_that_stops_ends_what_a_wait_left(act: str) -> None:
    """The descriptors of a pipe that nobody was given are closed."""
    before = len(os.listdir("/proc/self/fd"))
    for n in count(1):
        got: list[Any] = []
        with Ring(entries=16) as ring:
            made = [ring.pipe(), ring.pipe()]

            def nested() -> None:
                got.extend(ring.wait(1))

            handler = acting(act, n, nested)
            try:
                with handler:
                    got += ring.wait(timeout=0.001)
            except Interrupt:
                pass
        for each in made:
            try:
                ends = each.result()
            except uring.RingClosed:
                continue
            for fd in ends:
                os.close(fd)
        assert len(os.listdir("/proc/self/fd")) == before, n
        if not handler.ran:
            break


@pytest.mark.parametrize("shared", [False, True])
def test_a_stop_that_was_interrupted_goes_on(shared: bool) -> None:
    readable, writable = os.pipe()
    try:
        for n in count(1):
            buffer = bytearray(4)
            ring = Ring(entries=16, multi_issuers=shared)
            ring.start()
            request = ring.read(readable, buffer)
            ring.flush()
            handler = Handler(n, raises)
            try:
                with handler:
                    ring.stop()
            except Interrupt:
                pass
            ring.stop()
            assert ring.closed
            assert request.done()
            assert ring._kernel.closed
            buffer.append(0)  # fails while it is pinned
            if not handler.ran:
                break
        assert n > 10
    finally:
        os.close(readable)
        os.close(writable)


def test_a_thread_whose_wait_was_interrupted_is_not_waited_for() -> None:
    for n in count(1):
        with Ring(entries=16, multi_issuers=True) as ring:
            ring.timeout(0.0)
            handler = Handler(n, raises)
            try:
                with handler:
                    ring.wait(timeout=5.0)
            except Interrupt:
                pass
            assert ring._waiters == 0, n
            assert len(ring.drain(5.0)) <= 1
        if not handler.ran:
            break
