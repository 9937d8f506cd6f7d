"""`perform` in C: it answers as its coroutine does, and each operation goes back to the table."""

from __future__ import annotations

import errno
import gc
import inspect
import os
import select
import socket
import stat
import traceback
import types
import warnings
from typing import TYPE_CHECKING, Any

import pytest
import trio

import uring_trio
from tests.trio.bothways import CALL, compiled_here, on_ring, parked, turns
from uring import abi, ops
from uring.kernel.op import Op
from uring_trio import OperationRestricted, RingOptions, perform, seams
from uring_trio.core.engine import current
from uring_trio.debug import in_flight

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

CLOSED = 999_999


def same(program: Callable[[], Awaitable[Any]]) -> Any:
    """What a program returns, by coroutines and in C; after each, the table is as it was before."""

    async def main() -> Any:
        await turns()
        with trio.fail_after(60):
            await perform(ops.nop())
            taken = len(current().table)
            result = await program()
            await turns()
            assert len(current().table) == taken
            assert all(op.pins is op.discard is op.template is None for op in current().table.free)
        return result

    return on_ring(main)


async def outcome_of(op: Any, **options: Any) -> str:
    try:
        return repr(await perform(op, **options))
    except (Exception, trio.Cancelled) as exc:
        names = getattr(exc, "filename", None), getattr(exc, "filename2", None)
        return f"{type(exc).__name__}: {exc} {names}"


def test_what_others_see() -> None:
    async def program() -> None:
        assert inspect.iscoroutinefunction(perform)
        assert perform.__name__ == "perform"
        assert list(inspect.signature(perform).parameters) == ["op", "timeout"]
        assert inspect.getdoc(perform).startswith("Runs one operation")
        call = perform(ops.nop())
        assert (type(call) is CALL) is compiled_here()
        assert inspect.getcoroutinestate(call) == inspect.CORO_CREATED
        assert await call == 0
        with pytest.raises(RuntimeError, match="already awaited"):
            await call
        assert await perform(op=ops.nop()) == 0

    same(program)


def test_results(tmp_path: Path) -> None:
    async def program() -> list[str]:
        path = tmp_path / "file"
        fd = await perform(ops.openat(path, os.O_RDWR | os.O_CREAT))
        data = bytearray(9)
        found = [
            await outcome_of(op)
            for op in (
                ops.nop(result=7),
                ops.nop(result=-errno.EIO),
                ops.write(fd, b"some text", offset=0),
                ops.read(fd, data, offset=0),
                ops.fsync(fd),
                ops.read(CLOSED, bytearray(1)),
                ops.openat(tmp_path / "missing"),
                ops.renameat(tmp_path / "missing", tmp_path / "other"),
                ops.unlinkat(path),
                ops.close(fd),
                ops.close(fd),
            )
        ]
        assert data == b"some text"
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            found.append(await outcome_of(ops.connect(sock, socket.AF_INET6, ("::1", 9))))
        made = await perform(ops.statx(tmp_path))
        found.append(str(stat.S_ISDIR(made.as_stat_result().st_mode)))
        return [each.replace(str(fd), "FD") for each in found]

    assert same(program)[-1] == "True"


def test_refusals() -> None:
    def by_hand(*fields: int) -> Op[int]:
        return Op("nop", fields)

    async def program() -> list[str]:
        plain = ops.nop().fields
        found = [
            await outcome_of(op)
            for op in (
                None,
                "nop",
                ops.poll_add_multishot(0, select.POLLIN),
                *map(ops.nop().with_flags, (abi.IOSQE_IO_LINK, abi.IOSQE_CQE_SKIP_SUCCESS)),
                ops.nop().with_flags(abi.IOSQE_BUFFER_SELECT),
                by_hand(),
                by_hand(*plain[:5], 1 << 32, *plain[6:]),
                by_hand(*plain[:3], -1, *plain[4:]),
                by_hand(*plain[:2], 1 << 31, *plain[3:]),
                by_hand(*plain[:2], 0.5, *plain[3:]),  # type: ignore[arg-type]
            )
        ]
        found.append(await outcome_of(ops.nop(), timeout=-1))
        found.append(await outcome_of(ops.nop(), timeout=5))
        with pytest.raises(TypeError):
            await perform()  # type: ignore[call-arg]
        with pytest.raises(TypeError):
            await perform(ops.nop(), 5)  # type: ignore[misc]
        return found

    assert sum(": " in each for each in same(program)) == 12


def test_without_a_ring() -> None:
    async def program() -> None:
        with pytest.raises(RuntimeError, match="needs a ring run"):
            await perform(ops.nop())

    trio.run(program)


def test_restrictions() -> None:
    async def program() -> None:
        await turns()
        with pytest.raises(OperationRestricted, match="openat"):
            await perform(ops.openat("/"))

    for compiled in (False, True):
        uring_trio.run(program, ring=RingOptions(restrictions=["timeout"], compiled=compiled))


def test_a_command_is_not_lost() -> None:
    async def program() -> int:
        with socket.socket(type=socket.SOCK_DGRAM) as a, socket.socket(type=socket.SOCK_DGRAM) as b:
            b.bind(("127.0.0.1", 0))
            a.sendto(b"12345", b.getsockname())
            return await perform(ops.uring_cmd(b, abi.SOCKET_URING_OP_SIOCINQ, bytes(16)))

    assert same(program) == 5


async def delivered(reader: int, writer: int, then: Callable[[trio.Nursery, Any, bytearray], None]) -> int:
    """Calls a function between the completion of a read and the next step of the task that waits for it; what
    that task gets.

    The two tasks are in one batch then, and this one has to come first.
    """
    for _ in range(100):
        data = bytearray(4)
        found = 0

        async def read(data: bytearray = data) -> None:
            nonlocal found
            found = await perform(ops.read(reader, data))

        async with trio.open_nursery() as nursery:
            task = await parked(nursery, read)
            with pytest.raises(BufferError):
                data.append(0)
            os.write(writer, b"text")
            while task in nursery.child_tasks and task._next_send_fn is None:
                await trio.lowlevel.checkpoint()
            if task in nursery.child_tasks:
                then(nursery, task, data)
                break
    else:
        pytest.fail("the reader was first each time")
    assert data[:4] == b"text"
    return found


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_the_memory_is_held_in_flight_and_no_longer(pipe: tuple[int, int]) -> None:
    """It can be resized as soon as the completion is delivered, though the task has not run again."""
    assert same(lambda: delivered(*pipe, lambda nursery, task, data: data.append(0))) == 4


def test_a_failure_keeps_no_memory() -> None:
    async def program() -> None:
        data = bytearray(4)
        with pytest.raises(OSError, match="Bad file") as caught:
            await perform(ops.read(CLOSED, data))
        data.append(0)
        frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert frames[0] == "program"
        assert set(frames[1:]) <= {"perform", "_fail"}
        assert frames[-1] == "_fail"

    same(program)


def test_a_result_beats_a_cancel(pipe: tuple[int, int]) -> None:
    assert same(lambda: delivered(*pipe, lambda nursery, task, data: nursery.cancel_scope.cancel())) == 4


def test_a_cancel_in_flight(pipe: tuple[int, int]) -> None:
    async def program() -> tuple[str, int]:
        found = ""

        async def read() -> None:
            nonlocal found
            try:
                await perform(ops.read(pipe[0], bytearray(4)))
            except BaseException as exc:
                found = type(exc).__name__
                raise

        async with trio.open_nursery() as nursery:
            await parked(nursery, read)
            nursery.cancel_scope.cancel()
        return found, current().statistics().cancels_won

    assert same(program) == ("Cancelled", 1)


def test_in_a_cancelled_scope_nothing_is_done(tmp_path: Path) -> None:
    async def program() -> None:
        path = tmp_path / "file"
        path.touch()
        with trio.CancelScope() as scope:
            scope.cancel()
            await perform(ops.unlinkat(path))
        assert scope.cancelled_caught
        assert path.exists()

    same(program)


def test_what_a_cancelled_accept_brings_is_not_lost() -> None:
    """The operation has what closes it while it is in flight."""

    async def program() -> bool:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with trio.open_nursery() as nursery:
                await parked(nursery, lambda: perform(ops.accept(listener)))
                (op,) = (each for each in current().table.taken() if each.name == "accept")
                kept = op.discard is not None and op.fd == listener.fileno() and op.task is not None
                nursery.cancel_scope.cancel()
        return kept

    assert same(program)


def test_decoding_is_protected_from_control_c() -> None:
    async def program() -> list[Any]:
        protected: list[Any] = []

        def decode(res: int) -> int:
            protected.append(trio.lowlevel.currently_ki_protected())
            if res:
                raise ArithmeticError(res)
            return 42

        for result in (0, 5):
            fields = ops.nop(result=result).fields
            protected.append(await outcome_of(Op("nop", fields, decode=decode)))
        return protected

    assert same(program)[:2] == [True, "42"]


@pytest.mark.parametrize("use", ["send", "throw", "close"])
def test_a_decoder_that_uses_its_own_call(use: str) -> None:
    given = {"send": (seams.DONE,), "throw": (KeyError("thrown"),), "close": ()}[use]

    async def program() -> list[Any]:
        def decode(res: int) -> Any:
            running.append(call.cr_running)
            with pytest.raises(ValueError, match="already executing"):
                getattr(call, use)(*given)
            return res + 1

        running: list[bool] = []
        call: Any = perform(Op("nop", ops.nop(result=41).fields, decode=decode))
        result = await call
        assert not call.cr_running
        with pytest.raises(RuntimeError, match="already awaited"):
            call.send(None)
        return [result, running]

    assert same(program) == [42, [True]]


def test_a_deadline_that_is_near_is_the_kernels() -> None:
    async def program() -> bool:
        word = bytearray(8)
        with trio.move_on_after(0.001) as scope:
            await perform(ops.futex_wait(word, 0))
        return scope.cancelled_caught

    assert same(program)


def test_more_than_the_queue_has_room_for() -> None:
    async def main() -> None:
        async def each(n: int) -> None:
            for i in range(20):
                assert await perform(ops.nop(result=n * 100 + i)) == n * 100 + i

        async with trio.open_nursery() as nursery:
            for n in range(50):
                nursery.start_soon(each, n)

    for compiled in (False, True):
        uring_trio.run(main, ring=RingOptions(entries=8, compiled=compiled))


def test_values_of_the_same_operation_differ() -> None:
    """A completion that is late finds nothing."""

    async def program() -> None:
        seen = set()
        for _ in range(10):
            await perform(ops.nop())
            seen.add(current().table.free[-1].user_data)
        assert len(seen) == 10
        assert len({value & 0xFFFFFF for value in seen}) == 1

    same(program)


def test_where_it_waits() -> None:
    async def program() -> list[Any]:
        word = bytearray(8)
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                await perform(ops.futex_wait(word, 0))

            task = await parked(nursery, wait)
            rows = [(row.name, row.task, os.path.basename(row.where)) for row in in_flight()]
            functions = [frame.f_code.co_name for frame, _ in task.iter_await_frames()]
            nursery.cancel_scope.cancel()
        return [rows, functions[:3]]

    rows, functions = same(program)
    (row,) = (each for each in rows if each[0] == "futex_wait")
    assert row[2].startswith("test_perform_compiled.py:")
    assert functions == ["_tell", "wait", "perform"]


def test_a_call_that_nobody_awaits_does_nothing(tmp_path: Path) -> None:
    async def program() -> None:
        path = tmp_path / "file"
        path.touch()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            perform(ops.unlinkat(path))
            gc.collect()
        assert ["perform" in str(each.message) for each in caught] == [True]
        call = perform(ops.unlinkat(path))
        with pytest.raises(ZeroDivisionError):
            call.throw(ZeroDivisionError())  # type: ignore[attr-defined]
        assert path.exists()

    same(program)


def test_a_call_that_is_thrown_away_leaves_its_operation(pipe: tuple[int, int]) -> None:
    """The kernel may still write: the operation keeps its slot and its pins until the completion."""

    @types.coroutine
    def park(message: Any) -> Any:
        return (yield message)

    async def program() -> None:
        reader, writer = pipe
        data = bytearray(4)
        call: Any = perform(ops.read(reader, data))
        message = call.send(None)
        (op,) = (each for each in current().table.taken() if each.name == "read")
        call.close()
        del call
        assert op in current().table.taken()
        with pytest.raises(BufferError):
            data.append(0)
        os.write(writer, b"text")
        await park(message)
        assert data == b"text"
        data.append(0)
        current().release(op)

    same(program)


def test_an_operation_made_without_its_constructor_is_refused() -> None:
    async def program() -> str:
        try:
            await perform(Op.__new__(Op))
        except AttributeError as exc:
            return str(exc)
        return "performed"

    assert "name" in same(program)
