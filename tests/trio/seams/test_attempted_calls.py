"""Calls in C that attempt first and wait for input then: of datagrams, `recvfrom`, `recv_into`, `sendto`."""

from __future__ import annotations

import array
import contextlib
import socket as stdlib
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from tests.trio.bothways import compared, connected, parked, same, turns

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

SIZE = 100


@contextlib.asynccontextmanager
async def datagrams(family: int = stdlib.AF_INET, host: str = "127.0.0.1") -> AsyncIterator[tuple[Any, Any]]:
    """Two datagram sockets, the first connected to the second."""
    with (
        trio.socket.socket(family, stdlib.SOCK_DGRAM) as near,
        trio.socket.socket(family, stdlib.SOCK_DGRAM) as far,
    ):
        await near.bind((host, 0))
        await far.bind((host, 0))
        await near.connect(far.getsockname())
        yield near, far


@contextlib.asynccontextmanager
async def unnamed() -> AsyncIterator[tuple[Any, Any]]:
    near, far = trio.socket.socketpair(stdlib.AF_UNIX, stdlib.SOCK_DGRAM)
    with near, far:
        yield near, far


PAIRS: dict[str, Callable[[], Any]] = {
    "tcp": connected,
    "udp": datagrams,
    "udp6": lambda: datagrams(stdlib.AF_INET6, "::1"),
    "unix": unnamed,
}


async def recv(sock: Any) -> bytes:
    return bytes(await sock.recv(SIZE))


async def recvfrom(sock: Any) -> tuple[bytes, Any]:
    """Without the source's port, which differs from run to run."""
    data, source = await sock.recvfrom(SIZE)
    return data, source if source is None else (type(source), len(source), source[0])


async def recv_into(sock: Any) -> tuple[int, bytes]:
    memory = bytearray(SIZE)
    return await sock.recv_into(memory), bytes(memory)


FORMS = [recv, recvfrom, recv_into]


async def outcome_of(log: list[Any], fn: Any, *args: Any) -> None:
    try:
        log.append(await fn(*args))
    except Exception as exc:
        log.append((type(exc), str(exc)))


async def wait_once(log: list[Any], form: Any, near: Any, far: Any) -> None:
    """A first wait, by the coroutine; those that follow are in C."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(outcome_of, log, form, far)
        await turns()
        await near.send(b"first")


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("form", FORMS)
def test_they_wait_in_c_from_the_second_wait_on(kind: str, form: Any) -> None:
    async def program() -> list[Any]:
        log: list[Any] = []
        async with PAIRS[kind]() as (near, far):
            for turn in range(4):
                async with trio.open_nursery() as nursery:
                    if turn:
                        await parked(nursery, outcome_of, log, form, far)
                    else:
                        nursery.start_soon(outcome_of, log, form, far)
                        await turns()
                    await near.send(b"data%d" % turn)
            await near.send(b"there")
            log.append(await form(far))
        return log

    assert len(same(program)) == 5


@pytest.mark.parametrize("kind", PAIRS)
def test_forms_alternate(kind: str) -> None:
    async def program() -> list[Any]:
        log: list[Any] = []
        async with PAIRS[kind]() as (near, far):
            for form in FORMS * 3:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(outcome_of, log, form, far)
                    await turns()
                    await near.send(form.__name__.encode())
        return log

    assert len(same(program)) == 9


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("form", FORMS)
def test_a_cancel_leaves_what_comes_later(kind: str, form: Any) -> None:
    async def program() -> list[Any]:
        log: list[Any] = []
        async with PAIRS[kind]() as (near, far):
            await wait_once(log, form, near, far)
            async with trio.open_nursery() as nursery:
                await parked(nursery, outcome_of, log, form, far)
                nursery.cancel_scope.cancel()
            log.append(nursery.cancel_scope.cancelled_caught)
            await near.send(b"later")
            with trio.CancelScope() as scope:
                scope.cancel()
                log.append(await form(far))
            log.append(scope.cancelled_caught)
            log.append(await form(far))
        return log

    assert len(same(program)) == 4


@pytest.mark.parametrize("kind", PAIRS)
@pytest.mark.parametrize("form", FORMS)
def test_a_close_ends_it(kind: str, form: Any) -> None:
    async def program() -> list[Any]:
        log: list[Any] = []
        async with PAIRS[kind]() as (near, far):
            await wait_once(log, form, near, far)
            async with trio.open_nursery() as nursery:
                await parked(nursery, outcome_of, log, form, far)
                far.close()
            await outcome_of(log, form, far)
        return log[1:]

    assert [kind for kind, _ in same(program)] == [trio.ClosedResourceError, OSError]


@pytest.mark.parametrize("form", FORMS)
def test_a_second_task_is_refused(form: Any) -> None:
    async def program() -> list[Any]:
        log: list[Any] = []
        async with datagrams() as (near, far):
            await wait_once(log, form, near, far)
            async with trio.open_nursery() as nursery:
                await parked(nursery, outcome_of, log, form, far)
                await outcome_of(log, form, far)
                await near.send(b"second")
        return [each if isinstance(each[0], type) else "data" for each in log]

    _, refused, _ = same(program)
    assert refused[0] is trio.BusyResourceError


@pytest.mark.parametrize("form", FORMS)
def test_an_error_of_the_socket_is_reported_once(form: Any) -> None:
    """Nobody listens there: the kernel tells it to whatever the socket does next, and then forgets it."""

    async def program() -> list[Any]:
        log: list[Any] = []
        async with datagrams() as (near, far):
            target = far.getsockname()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(outcome_of, log, form, near)
                await turns()
                await far.sendto(b"first", near.getsockname())
            far.close()
            async with trio.open_nursery() as nursery:
                await parked(nursery, outcome_of, log, form, near)
                await near.send(b"x")
            await near.send(b"x")
            await outcome_of(log, form, near)
            await near.send(b"x")
            await outcome_of(log, near.sendto, b"y", target)
            await outcome_of(log, near.sendto, b"y", target)
        return log[1:]

    refused = (ConnectionRefusedError, "[Errno 111] Connection refused")
    assert same(program) == [refused, refused, refused, 1]


@pytest.mark.parametrize("form", FORMS)
def test_the_end_of_a_stream(form: Any) -> None:
    async def program() -> list[Any]:
        log: list[Any] = []
        async with connected() as (near, far):
            await wait_once(log, form, near, far)
            async with trio.open_nursery() as nursery:
                await parked(nursery, outcome_of, log, form, far)
                near.shutdown(stdlib.SHUT_WR)
            await outcome_of(log, form, far)
        return log

    _, end, again = same(program)
    assert end == again


@pytest.mark.parametrize("form", FORMS)
def test_a_lone_urgent_byte_is_no_input(form: Any) -> None:
    async def program() -> list[Any]:
        log: list[Any] = []
        async with connected() as (near, far):
            await wait_once(log, form, near, far)
            with contextlib.suppress(OSError):
                await far.recv(1, stdlib.MSG_OOB)  # from now on the run looks at urgent data
            async with trio.open_nursery() as nursery:
                nursery.start_soon(outcome_of, log, form, far)
                await turns()
                await near.send(b"!", stdlib.MSG_OOB)
                await trio.testing.wait_all_tasks_blocked(0.05)
                log.append(await far.recv(1, stdlib.MSG_OOB))
                await near.send(b"then")
        return log

    assert b"!" in same(program)


BUFFERS: list[Callable[[], Any]] = [
    lambda: b"constant",
    lambda: memoryview(bytearray(10))[::2],
    lambda: array.array("i", [0, 0]),
    lambda: memoryview(bytearray(10))[2:5],
    bytearray,
    lambda: 5,
    lambda: bytearray(2),
]


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize("make", BUFFERS)
def test_buffers(kind: str, make: Any) -> None:
    async def program() -> list[Any]:
        log: list[Any] = []
        async with PAIRS[kind]() as (near, far):
            for data in (b"datagram", b"next"):
                buffer = make()
                await near.send(data)
                await outcome_of(log, far.recv_into, buffer)
                log.append(bytes(buffer) if not isinstance(buffer, int) else buffer)
            with trio.move_on_after(0):
                log.append(await far.recv(SIZE))
        return [each for each in log if not (isinstance(each, tuple) and each[0] is BufferError)]

    same(program)


def test_a_buffer_is_free_while_a_receive_waits() -> None:
    async def program() -> list[Any]:
        buffer, log = bytearray(2), []
        async with datagrams() as (near, far):
            for _ in range(3):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(outcome_of, log, far.recv_into, buffer)
                    await turns()
                    buffer.extend(b"more")
                    await near.send(b"datagram")
        return [log, bytes(buffer)]

    log, _ = same(program)
    assert log == [6, 8, 8]


class Address(tuple[Any, ...]):
    __slots__ = ()


@pytest.mark.parametrize("family", ["udp", "udp6"])
def test_addresses_to_send_to(family: str) -> None:
    async def program() -> list[Any]:
        log: list[Any] = []
        async with PAIRS[family]() as (near, far):
            host, port = near.getsockname()[:2]
            await turns()
            for address in (
                (host, port),
                Address((host, port)),
                ("localhost", port) if family == "udp" else (host, port, 0, 0),
                (host, str(port)),
                (host, True),
                (host + "\0", port),
                (host, 1 << 70),
                (host, -1),
                (host,),
                (host, port, 0, 0, 0),
                [host, port],
                None,
                ("", port),
                (host.encode(), port),
            ):
                await outcome_of(log, far.sendto, b"data", address)
            await outcome_of(log, far.sendto, b"data", 0, (host, port))
            await outcome_of(log, far.sendto, "text", (host, port))
            await outcome_of(log, far.sendto, bytes(70_000), (host, port))
            await outcome_of(log, far.sendto, bytes(70_000))
        await outcome_of(log, far.sendto, b"data", (host, port))
        return [each if isinstance(each, int) else (each[0], each[1].split(":")[0]) for each in log]

    assert same(program).count(4) >= 4


def test_a_socket_with_no_room_waits(tmp_path: Path) -> None:
    async def program() -> list[Any]:
        near, far = trio.socket.socketpair(stdlib.AF_UNIX, stdlib.SOCK_DGRAM)
        with near, far:
            log: list[Any] = []
            sent = 0
            with trio.move_on_after(0.05):
                while True:
                    await near.send(bytes(1000))
                    sent += 1
            async with trio.open_nursery() as nursery:
                nursery.start_soon(outcome_of, log, near.send, b"last")
                await turns()
                for _ in range(sent):
                    await far.recv(2000)
                log.append(await far.recvfrom(2000))
        return log

    assert same(program) == [4, (b"last", None)]


def test_named_sockets(tmp_path: Path) -> None:
    """A path, and a name without one."""

    async def program() -> list[Any]:
        log: list[Any] = []
        for number, name in enumerate((str(tmp_path / "source"), b"\0name", "\0other")):
            with (
                trio.socket.socket(stdlib.AF_UNIX, stdlib.SOCK_DGRAM) as near,
                trio.socket.socket(stdlib.AF_UNIX, stdlib.SOCK_DGRAM) as far,
            ):
                await near.bind(name)
                (tmp_path / f"target{number}").unlink(missing_ok=True)
                await far.bind(str(tmp_path / f"target{number}"))
                await turns()
                log.append(await near.sendto(b"data", far.getsockname()))
                log.append(await far.recvfrom(SIZE))
            (tmp_path / "source").unlink(missing_ok=True)
        return log

    assert [each[1] for each in same(program)[1::2]] == [str(tmp_path / "source"), b"\0name", b"\0other"]


def test_checkpoints() -> None:
    async def program() -> None:
        async with datagrams() as (near, far):
            await turns()
            target, memory = near.getsockname(), bytearray(SIZE)
            for _ in range(3):
                for form in (
                    lambda: near.recv(SIZE),
                    lambda: near.recvfrom(SIZE),
                    lambda: near.recv_into(memory),
                ):
                    with trio.testing.assert_checkpoints():
                        await far.sendto(b"data", target)
                    with trio.testing.assert_checkpoints():
                        await form()

    same(program)


def test_tasks_take_turns_around_each_call() -> None:
    """Every call lets others run once, whether it waits or not; the order in a batch is random."""

    async def program() -> bool:
        async with datagrams() as (near, far):
            target, counts, stop = near.getsockname(), [0], False

            async def count() -> None:
                while not stop:
                    counts[0] += 1
                    await trio.lowlevel.checkpoint()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(count)
                await turns()
                before = counts[0]
                for _ in range(20):
                    await far.sendto(b"data", target)
                    await near.recvfrom(SIZE)
                seen = counts[0] - before
                stop = True
        return 39 <= seen <= 41

    assert compared(program)
