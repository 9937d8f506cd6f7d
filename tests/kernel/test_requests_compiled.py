"""Requests whose usual case is in C: equal to those of the functions, without a wrong count of references."""

from __future__ import annotations

import gc
import inspect
import os
import pickle
import random
import socket
import subprocess
import sys
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from tests.kernel import both_forms
from tests.ringside import PATIENCE, take
from uring import Request, Ring, RingClosed, ops
from uring.contexts.compiled import C, Table
from uring.contexts.context import REQUEST_VALUES

if TYPE_CHECKING:
    from collections.abc import Callable

Pair = tuple[int, int]
USUAL = ("nop", "read", "write", "send", "recv")


def test_they_are_in_c_here(ring: Ring) -> None:
    assert type(ring.nop()) is C.Request is Request
    for name in USUAL:
        assert type(getattr(Ring, name)) is C.shortcut("nop", len).__class__
        assert inspect.isfunction(inspect.unwrap(getattr(Ring, name)))


@pytest.mark.parametrize("seed", range(4))
def test_both_forms_do_the_same(seed: int) -> None:
    """The same random calls in two interpreters, one of which lacks the extension."""
    told = [
        subprocess.run(
            [sys.executable, both_forms.__file__, str(seed), form],
            capture_output=True,
            check=True,
            text=True,
            timeout=PATIENCE * 5,
        ).stdout.splitlines()
        for form in ("compiled", "interpreted")
    ]
    assert [lines[0] for lines in told] == ["compiled", "interpreted"]
    assert len(told[0]) > both_forms.CALLS
    assert told[0][1:] == told[1][1:]


# ---- memory -----------------------------------------------------------------------------------------------


def test_memory_is_held_until_the_last_completion(ring: Ring, pipe: Pair) -> None:
    buffer = bytearray(4)
    ring.read(pipe[0], buffer)
    gc.collect()
    with pytest.raises(BufferError):
        buffer.append(0)
    os.write(pipe[1], b"data")
    (cqe,) = take(ring)
    assert buffer == b"data"
    buffer.append(0)
    assert cqe.request is not None
    assert cqe.request.fields[2:6] == (pipe[0], (1 << 64) - 1, cqe.request.fields[4], 4)


def test_a_view_may_be_released_meanwhile(ring: Ring, pipe: Pair) -> None:
    buffer = bytearray(8)
    with memoryview(buffer)[2:6] as view:
        request = ring.read(pipe[0], view)
    with pytest.raises(BufferError):
        buffer.append(0)
    os.write(pipe[1], b"data")
    assert request.wait(PATIENCE) == 4
    assert buffer == b"\0\0data\0\0"
    buffer.append(0)


def test_one_that_is_refused_holds_nothing(ring: Ring, pipe: Pair) -> None:
    buffer = bytearray(4)
    before = sys.getrefcount(buffer)
    for call, kind in (
        (lambda: ring.read(pipe[0], b"read-only"), TypeError),
        (lambda: ring.read(-1, buffer), ValueError),
        (lambda: ring.read(True, buffer), TypeError),
        (lambda: ring.read(pipe[0], buffer, offset=1 << 63), ValueError),
        (lambda: ring.read(pipe[0], buffer, offset=-2), ValueError),
        (lambda: ring.recv(pipe[0], buffer, offset=0), TypeError),
        (lambda: ring.recv(object(), buffer), TypeError),
    ):
        with pytest.raises(kind):
            call()
    ring.stop()
    with pytest.raises(RingClosed):
        ring.read(pipe[0], buffer)
    buffer.append(0)
    assert sys.getrefcount(buffer) == before
    assert len(ring._requests) == 0


def test_a_ring_of_the_parent_refuses_them(ring: Ring, pipe: Pair) -> None:
    buffer = bytearray(4)
    child = os.fork()
    if not child:
        code = 1
        try:
            ring.read(pipe[0], buffer)
        except RingClosed:
            buffer.append(0)
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_descriptor_that_uses_the_ring_when_it_is_asked(ring: Ring, pipe: Pair) -> None:
    class Nested:
        def fileno(self) -> int:
            made.append(ring.nop())
            return pipe[0]

    class Chained:
        def fileno(self) -> int:
            if not ring._linking:  # it may be asked twice
                ring.chain().__enter__()
            return pipe[0]

    made: list[Request[int]] = []
    request = ring.read(Nested(), bytearray(1))
    os.write(pipe[1], b"x")
    assert (request.wait(PATIENCE), made[0].wait(PATIENCE)) == (1, 0)
    assert request.value != made[0].value
    ring.read(Chained(), bytearray(1))
    assert ring.in_flight == 0, "it is a part of the chain"
    ring._chain_ends()


def churn(ring: Ring, sock: socket.socket, peer: socket.socket, n: int) -> None:
    rooms, data = [bytearray(1) for _ in range(4)], memoryview(b"four")
    for _ in range(n):
        sent = ring.send(peer, data)
        ring.nop()
        received = [ring.recv(sock, room) for room in rooms]
        failed = ring.write(sock.fileno() + 1000, b"x")
        several = ring.submit_all([ops.nop(), ops.statx("/")])
        for cqe in ring.drain(PATIENCE):
            assert cqe.request is not None
        assert sent.result() == sum(each.result() for each in received) == 4
        assert several[1].result().st_ino == os.stat("/").st_ino
        with pytest.raises(OSError, match="write"):
            failed.result()


def test_a_hundred_thousand_leave_nothing_behind() -> None:
    near, far = socket.socketpair()
    with near, far, Ring(entries=16) as ring:
        watched: list[Any] = [
            None,
            Request,
            ring,
            near,
            far,
            "recv",
            b"x",
            ring._requests,
            type(ring),
        ]

        def figures() -> list[int]:
            gc.collect()
            return [*map(sys.getrefcount, watched), len(gc.get_objects())]

        churn(ring, near, far, 200)
        before, blocks = figures(), sys.getallocatedblocks()
        churn(ring, near, far, 11_200)  # nine requests each
        after, more = figures(), sys.getallocatedblocks()
    assert all(abs(a - b) < 50 for a, b in zip(after, before, strict=True)), (before, after)
    assert abs(more - blocks) < 500


def test_cycles_are_found(pipe: Pair) -> None:
    class Kept(Ring):
        last: object = None

    with Kept(entries=8) as ring:
        ring.last = ring.read(pipe[0], bytearray(1))
        waits = weakref.ref(ring.last)
        ring.nop().wait()
    seen = weakref.ref(ring)
    del ring
    gc.collect()
    assert seen() is None
    assert waits() is None


# ---- the type ---------------------------------------------------------------------------------------------


def test_the_type(ring: Ring) -> None:
    request = ring.nop()
    assert request.wait() == 0
    assert repr(Request[int]) == "uring.contexts.requests.Request[int]"
    assert (Request.__name__, Request.__module__) == ("Request", "uring.contexts.requests")
    assert list(inspect.signature(Request).parameters) == ["ring", "value", "op"]
    assert (inspect.getdoc(Request) or "").startswith("One operation in flight")
    assert "The result, once" in (inspect.getdoc(Request.result) or "")
    assert weakref.ref(request)() is request
    assert {request: 1}[request] == 1
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(request)
    with pytest.raises(TypeError, match="not an acceptable base type"):
        type("More", (Request,), {})
    with pytest.raises(AttributeError):
        request.value = 1
    with pytest.raises(AttributeError):
        request.other = 1  # type: ignore[attr-defined]
    for wrong in ((), (ring, 1), (ring, -1, ops.nop()), (ring, 1, "nop")):
        with pytest.raises((TypeError, OverflowError, AttributeError)):
            Request(*wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(3))
def test_the_table_is_a_mapping(ring: Ring, seed: int) -> None:
    rng, table, model = random.Random(seed), Table(), {}
    for step in range(4000):
        value = rng.choice((REQUEST_VALUES + step, REQUEST_VALUES + rng.randrange(300), rng.getrandbits(64)))
        if rng.random() < (0.7 if step < 1000 else 0.4):
            table[value] = model[value] = Request(ring, value, ops.nop())
        elif rng.random() < 0.5 and model:
            value = rng.choice([*model])
            assert table.pop(value, None) is model.pop(value)
        elif model:
            value = rng.choice([*model])
            del table[value], model[value]
        assert (len(table), value in table, table.get(value)) == (
            len(model),
            value in model,
            model.get(value),
        )
    assert all(table.get(value) is request for value, request in model.items())
    assert table.pop(7, "none") == "none"
    assert -1 not in table
    assert 1 << 64 not in table
    for wrong in (lambda: table.pop("x", None), lambda: table.__setitem__(1, Request(ring, 2, ops.nop()))):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(KeyError):
        del table[7]


def test_a_subclass_with_a_method_of_its_own(pipe: Pair) -> None:
    class Counting(Ring):
        calls = 0

        def nop(self, *args: Any, **options: Any) -> Any:
            self.calls += 1
            return super().nop(*args, **options)

    with Counting(entries=8) as ring:
        assert ring.nop().wait() == 0
        bound: Callable[[], Any] = ring.nop
        assert bound().wait() == 0
        assert Ring.nop(ring).wait() == 0
        assert ring.calls == 2
        with pytest.raises(AttributeError):
            Ring.nop(object())  # type: ignore[arg-type]


def test_a_subclass_with_a_request_of_its_own(ring: Ring, pipe: Pair) -> None:
    class Counting(Ring):
        names: list[str]

        def request(self, op: Any) -> Any:
            self.names.append(op.name)
            return super().request(op)

    near, far = socket.socketpair()
    with near, far, Counting(entries=8) as counting:
        counting.names = []
        assert ring.nop().wait() == counting.nop().wait() == ring.nop().wait() == 0
        assert counting.write(pipe[1], b"two").wait(PATIENCE) == 3
        assert counting.read(pipe[0], bytearray(3)).wait(PATIENCE) == 3
        assert counting.send(near, b"one").wait(PATIENCE) == 3
        assert counting.recv(far, bytearray(3)).wait(PATIENCE) == 3
        assert counting.names == ["nop", "write", "read", "send", "recv"]


def test_many_that_have_gone_leave_nothing_to_the_next(ring: Ring, pipe: Pair) -> None:
    os.write(pipe[1], bytes(300))
    calls: tuple[tuple[Callable[[], Request[int]], int], ...] = (
        (lambda: ring.read(pipe[0], bytearray(1)), 1),
        (ring.nop, 0),
        (lambda: ring.request(ops.nop(result=7000)), 7000),
    )
    for call, result in calls:
        made = [call() for _ in range(300)]
        watched = [weakref.ref(request) for request in made]
        assert not any(request.done() or request.res or request.flags for request in made)
        ring.drain(PATIENCE)
        assert {request.result() for request in made} == {result}
        made.clear()
        gc.collect()
        assert not any(each() for each in watched)
