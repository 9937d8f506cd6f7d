"""Receives of Trio's sockets on the ring: bytes, messages, descriptors, buffers, and how waiting ends.

What ``stock`` and ``ring`` say of the same program is compared where Trio's own behaviour is the promise.
"""

from __future__ import annotations

import array
import errno
import os
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import (
    PAIRS,
    buffers_out,
    fill,
    in_flight,
    later,
    statistics,
    tcp_sockets,
    unix_sockets,
)
from uring_trio import RingOptions
from uring_trio.core import engine
from uring_trio.core.buffers import FIRST_BUFFERS
from uring_trio.core.engine import current

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

KINDS = pytest.mark.parametrize("kind", PAIRS)

FD_SIZE = array.array("i").itemsize


def udp_pair(family: int = socket.AF_INET) -> tuple[Any, Any]:
    near, far = (trio.socket.from_stdlib_socket(socket.socket(family, socket.SOCK_DGRAM)) for _ in range(2))
    for sock in near, far:
        sock._sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
    return near, far


def descriptors(names: list[int]) -> list[tuple[int, int, bytes]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", names).tobytes())]


# ---- receiving --------------------------------------------------------------------------------------------

RECEIVERS: dict[str, Callable[[Any, int], Awaitable[bytes]]] = {}


def receiver(function: Any) -> Any:
    RECEIVERS[function.__name__] = function
    return function


@receiver
async def recv(sock: Any, size: int) -> bytes:
    return await sock.recv(size)  # type: ignore[no-any-return]


@receiver
async def recv_into(sock: Any, size: int) -> bytes:
    memory = bytearray(size + 4)
    return bytes(memory[: await sock.recv_into(memory, size)])


@receiver
async def recvfrom(sock: Any, size: int) -> bytes:
    data, _ = await sock.recvfrom(size)
    return data  # type: ignore[no-any-return]


@receiver
async def recvfrom_into(sock: Any, size: int) -> bytes:
    memory = bytearray(size)
    got, _ = await sock.recvfrom_into(memory)
    return bytes(memory[:got])


@receiver
async def recvmsg(sock: Any, size: int) -> bytes:
    data, ancillary, _, _ = await sock.recvmsg(size, 100)
    assert ancillary == []
    return data  # type: ignore[no-any-return]


@receiver
async def recvmsg_into(sock: Any, size: int) -> bytes:
    parts = [bytearray(1), bytearray(size - 1)] if size > 1 else [bytearray(size)]
    got, ancillary, _, _ = await sock.recvmsg_into(parts)
    assert ancillary == []
    return b"".join(parts)[:got]


EACH_RECEIVER = pytest.mark.parametrize("receive", RECEIVERS.values(), ids=RECEIVERS)


@KINDS
@EACH_RECEIVER
async def test_receives_what_is_there_and_what_comes(kind: str, receive: Any) -> None:
    near, far = await PAIRS[kind]()
    with near, far:
        await near.send(b"already there")
        with assert_checkpoints():
            assert await receive(far, 7) == b"already"
        assert await receive(far, 100) == b" there"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(later, lambda: near.send(b"comes"))
            assert await receive(far, 100) == b"comes"
        near.shutdown(socket.SHUT_WR)
        assert await receive(far, 100) == b""


@KINDS
@EACH_RECEIVER
async def test_a_cancelled_receive_leaves_the_data(kind: str, receive: Any) -> None:
    near, far = await PAIRS[kind]()
    with near, far:
        for before in True, False:
            got = b""
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:

                    @nursery.start_soon
                    async def disturb(before: bool = before, scope: trio.CancelScope = scope) -> None:
                        await wait_all_tasks_blocked()
                        if before:
                            near._sock.send(b"data")
                        scope.cancel()
                        if not before:
                            near._sock.send(b"data")

                    got = await receive(far, 4)
            assert (got == b"") == scope.cancelled_caught
            assert got or await receive(far, 4) == b"data"


@KINDS
@EACH_RECEIVER
@pytest.mark.parametrize("end", ["close", "with", "detach"])
async def test_ending_the_socket_wakes_the_receiver(kind: str, receive: Any, end: str) -> None:
    near, far = await PAIRS[kind]()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await receive(far, 10)

        await wait_all_tasks_blocked()
        if end == "close":
            far.close()
        elif end == "with":
            with far:
                pass
        else:
            os.close(far.detach())
        near._sock.settimeout(30)
        assert near._sock.recv(1) == b""
    with pytest.raises(OSError) as caught:
        await receive(far, 10)
    assert caught.value.errno == errno.EBADF
    near.close()


@EACH_RECEIVER
async def test_a_second_receiver_is_refused(receive: Any) -> None:
    near, far = await unix_sockets()
    with near, far:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def first() -> None:
                assert await far.recv(10) == b"data"

            await wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await receive(far, 10)
            await near.send(b"data")


@pytest.mark.parametrize("call", ["recv", "recv_into", "recvfrom", "recvmsg"])
async def test_flags_mean_what_they_do_in_trio(call: str) -> None:
    async def get(flags: int) -> bytes:
        memory = bytearray(10)
        match call:
            case "recv":
                return await far.recv(10, flags)  # type: ignore[no-any-return]
            case "recv_into":
                return bytes(memory[: await far.recv_into(memory, 10, flags)])
            case "recvfrom":
                return (await far.recvfrom(10, flags))[0]  # type: ignore[no-any-return]
            case _:
                return (await far.recvmsg(10, 0, flags))[0]  # type: ignore[no-any-return]

    near, far = await tcp_sockets()
    with near, far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(later, lambda: near.send(b"data"))
            assert await get(socket.MSG_PEEK) == b"data"
        assert await get(socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"data"
        assert await get(0) == b"data"
        async with trio.open_nursery() as nursery:
            # Trio waits where the socket says that it would have to.
            nursery.start_soon(later, lambda: near.send(b"more"))
            assert await get(socket.MSG_DONTWAIT) == b"more"


SIZES: list[Callable[[Any], Awaitable[Any]]] = [
    lambda sock: sock.recv(0),
    lambda sock: sock.recv(-1),
    lambda sock: sock.recv("1"),
    lambda sock: sock.recv(True),
    lambda sock: sock.recv_into(bytearray()),
    lambda sock: sock.recv_into(bytearray(5), 0),
    lambda sock: sock.recv_into(bytearray(5), 6),
    lambda sock: sock.recv_into(bytearray(5), -1),
    lambda sock: sock.recv_into(b"constant"),
    lambda sock: sock.recvfrom(0),
    lambda sock: sock.recvfrom(-1),
    lambda sock: sock.recvfrom_into(bytearray(5), 2),
    lambda sock: sock.recvfrom_into(bytearray(5), 6),
    lambda sock: sock.recvfrom_into(bytearray(5), -1),
    lambda sock: sock.recvmsg(0),
    lambda sock: sock.recvmsg(3),
    lambda sock: sock.recvmsg(-1),
    lambda sock: sock.recvmsg(5, -1),
    lambda sock: sock.recvmsg_into([]),
    lambda sock: sock.recvmsg_into([bytearray()]),
    lambda sock: sock.recvmsg_into([bytearray(2), bytearray(2)], 10),
    lambda sock: sock.recvmsg_into([bytearray(5)], -1),
    lambda sock: sock.recvmsg_into([b"constant"]),
    lambda sock: sock.recvmsg_into(5),
]


async def outcome_of(kind: str, call: Callable[[Any], Awaitable[Any]]) -> list[Any]:
    """What a call gives with data waiting, and what it leaves."""
    if kind == "udp":
        near, far = udp_pair()
        await near.connect(far.getsockname())
    else:
        near, far = await PAIRS[kind]()
    with near, far:
        source = near.getsockname()
        await near.send(b"datagram")
        found: list[Any] = []
        try:
            with trio.fail_after(30):
                result = await call(far)
        except Exception as exc:
            found.append(BufferError if isinstance(exc, BufferError) else type(exc))
        else:
            result = result if isinstance(result, tuple) else (result,)
            found.append(tuple("the source" if source and part == source else part for part in result))
        await near.send(b"next")
        found.append(await far.recv(100))
        return found


@pytest.mark.parametrize("kind", ["tcp", "unix", "udp"])
@pytest.mark.parametrize("number", range(len(SIZES)))
def test_odd_sizes_are_as_in_trio(kind: str, number: int) -> None:
    ring = uring_trio.run(outcome_of, kind, SIZES[number])
    assert ring == trio.run(outcome_of, kind, SIZES[number])


async def test_more_than_one_buffer_is_received_in_parts() -> None:
    near, far = await tcp_sockets()
    with near, far:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send() -> None:
                data = memoryview(bytes(range(250)) * 4000)
                while data:
                    data = data[await near.send(data) :]

            got = b""
            while len(got) < 1_000_000:
                part = await far.recv(1 << 30)
                assert len(part) <= 1_000_000
                got += part
        assert got == bytes(range(250)) * 4000


def test_receivers_beyond_the_buffers() -> None:
    """With two buffers, a hundred receivers whose data arrives in one tick all get theirs."""

    async def main() -> None:
        pairs = [await unix_sockets() for _ in range(100)]
        got = {}

        async def receive(number: int, call: str) -> None:
            sock = pairs[number][1]
            if call == "recv":
                got[number] = await sock.recv(100)
            else:
                got[number] = (await sock.recvmsg(100))[0]

        for call in ("recv", "recvmsg"):
            for _ in range(3):
                got.clear()
                async with trio.open_nursery() as nursery:
                    for number in range(100):
                        nursery.start_soon(receive, number, call)
                    await wait_all_tasks_blocked()
                    for number, (near, _) in enumerate(pairs):
                        near._sock.send(f"for {number}".encode())
                assert got == {number: f"for {number}".encode() for number in range(100)}
                assert buffers_out() == 0
        for sock in sum(pairs, ()):
            sock.close()

    uring_trio.run(main, ring=RingOptions(buffers=2, buffer_size=128))


async def test_buffers_grow_when_exhausted_and_shrink_when_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uring_trio.core.buffers.IDLE_SECONDS", 0.02)
    pairs = [await unix_sockets() for _ in range(100)]
    buffers = engine.current().buffers
    assert buffers.in_use == FIRST_BUFFERS
    most = 0

    async def receive(sock: Any) -> None:
        nonlocal most
        assert await sock.recv(100) == b"x"
        most = max(most, buffers.in_use)

    for _ in range(2):
        most = 0
        async with trio.open_nursery() as nursery:
            for _, far in pairs:
                nursery.start_soon(receive, far)
            await wait_all_tasks_blocked()
            for near, _ in pairs:
                near._sock.send(b"x")
        assert most >= 100
        while buffers.in_use > FIRST_BUFFERS:
            await trio.sleep(0.01)
    assert buffers_out() == 0
    for sock in sum(pairs, ()):
        sock.close()


# ---- messages ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
async def test_datagrams_know_where_they_come_from(family: int) -> None:
    near, far = udp_pair(family)
    source, target = near.getsockname(), far.getsockname()
    memory = bytearray(10)
    with near, far:
        await near.sendto(b"one", target)
        assert await far.recvfrom(10) == (b"one", source)
        await near.sendto(b"two", 0, target)
        assert await far.recvmsg(10) == (b"two", [], 0, source)
        await near.sendmsg([b"th", b"ree"], [], 0, target)
        assert await far.recvfrom_into(memory) == (5, source)
        assert memory[:5] == b"three"
        await near.connect(target)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(later, lambda: near.send(b"four"))
            assert await far.recvmsg_into([memory]) == (4, [], 0, source)
        await near.send(b"")
        assert await far.recvfrom(10) == (b"", source)
        await near.send(b"too long")
        data, _, flags, _ = await far.recvmsg(3)
        assert (data, flags) == (b"too", socket.MSG_TRUNC)


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("call", ["recv", "recvfrom", "recvmsg"])
@pytest.mark.parametrize("type", [socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
async def test_messages_larger_than_a_buffer_are_whole(type: int, call: str, there: bool) -> None:
    message = bytes(range(250)) * 600
    assert len(message) > current().options.buffer_size
    near, far = trio.socket.socketpair(socket.AF_UNIX, type)
    received = []

    async def receive() -> None:
        for _ in range(2):
            got = await getattr(far, call)(len(message) + 1)
            received.append(got if call == "recv" else got[0])

    with near, far:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 19)
        if there:
            await near.send(message)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await wait_all_tasks_blocked()
            if not there:
                await near.send(message)
            await near.send(b"next")
    assert received == [message, b"next"]


def test_datagrams_larger_than_a_small_buffer_are_whole() -> None:
    async def main() -> None:
        near, far = udp_pair()
        with near, far:
            for size in (3000, 60_000):
                for receive in (far.recv, far.recvfrom):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(
                            later, lambda size=size: near.sendto(bytes(size), far.getsockname())
                        )
                        got = await receive(65535)
                        assert len(got if receive == far.recv else got[0]) == size

    uring_trio.run(main, ring=RingOptions(buffer_size=1024))


async def test_unix_datagrams_by_name() -> None:
    with tempfile.TemporaryDirectory() as folder:
        near, far = (trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(2))
        with near, far:
            await near.bind(f"{folder}/near")
            await far.bind(b"\0" + folder.encode())
            await near.sendto(b"there", b"\0" + folder.encode())
            assert await far.recvfrom(10) == (b"there", f"{folder}/near")
            await far.sendto(b"back", f"{folder}/near")
            assert await near.recvfrom(10) == (b"back", b"\0" + folder.encode())


@pytest.mark.parametrize("call", ["recvmsg", "recvmsg_into"])
async def test_descriptors_are_passed(call: str) -> None:
    near, far = await unix_sockets()
    reader, writer = os.pipe()
    with near, far:
        await near.sendmsg([b"two ends"], descriptors([reader, writer]))
        os.close(reader)
        os.close(writer)
        room = socket.CMSG_SPACE(2 * FD_SIZE)
        if call == "recvmsg":
            data, ancillary, flags, _ = await far.recvmsg(100, room)
        else:
            memory = bytearray(100)
            size, ancillary, flags, _ = await far.recvmsg_into([memory], room)
            data = bytes(memory[:size])
        assert (data, flags & socket.MSG_CTRUNC) == (b"two ends", 0)
        [(level, kind, raw)] = ancillary
        assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        reader, writer = array.array("i", raw)
        os.write(writer, b"through")
        os.close(writer)
        with os.fdopen(reader, "rb") as end:
            assert end.read() == b"through"


async def test_descriptors_without_room_are_cut_off() -> None:
    near, far = await unix_sockets()
    with near, far:
        with Path(os.devnull).open("rb") as file:
            await near.sendmsg([b"x"], descriptors([file.fileno()]))
        data, ancillary, flags, _ = await far.recvmsg(10)
        assert (data, ancillary) == (b"x", [])
        assert flags & socket.MSG_CTRUNC


async def test_a_message_goes_through_the_ring_when_the_socket_is_full() -> None:
    near, far = await unix_sockets()
    with near, far:
        size = await fill(near)
        reader, writer = os.pipe()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send() -> None:
                assert await near.sendmsg([b"late"], descriptors([reader])) == 4

            await wait_all_tasks_blocked()
            assert in_flight() == {"sendmsg": 1}
            while size:
                size -= len(await far.recv(min(size, 65536)))
            data, ancillary, _, _ = await far.recvmsg(10, 100)
        assert data == b"late"
        [(_, _, raw)] = ancillary
        for fd in (reader, writer, *array.array("i", raw)):
            os.close(fd)


# ---- tasks and scopes ---------------------------------------------------------------------------------


async def test_a_receive_in_a_cancelled_scope_never_reaches_the_kernel() -> None:
    near, far = await tcp_sockets()
    with near, far:
        await near.send(b"unread")
        for call in (*RECEIVERS.values(), None):
            before = statistics().submitted
            with trio.CancelScope() as scope:
                scope.cancel()
                await (call(far, 10) if call else trio.lowlevel.wait_readable(far))
            assert scope.cancelled_caught
            assert statistics().submitted == before
        assert await far.recv(10) == b"unread"


@pytest.mark.parametrize("size", [1, 2])
async def test_two_tasks_that_swap_udp_sockets_in_one_tick_get_their_own_senders_address(size):
    receivers, senders = [], []
    for found in (receivers, senders):
        for _ in range(2):
            sock = trio.socket.socket(type=socket.SOCK_DGRAM)
            await sock.bind(("127.0.0.1", 0))
            found.append(sock)
    received = []

    async def receive(first, second):
        for sock in (first, second):
            received.append(await sock.recvfrom(size))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive, receivers[0], receivers[1])
        nursery.start_soon(receive, receivers[1], receivers[0])
        for _ in range(2):
            await trio.testing.wait_all_tasks_blocked()
            for i, sock in enumerate(receivers):
                senders[i]._sock.sendto(bytes([i]), sock.getsockname())
    expected = {(bytes([i]), senders[i].getsockname()) for i in range(2)}
    assert set(received) == expected
    assert len(received) == 4
    for sock in receivers + senders:
        sock.close()
