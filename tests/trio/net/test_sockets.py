"""Trio's sockets on the ring: what they return, how they wait, and how waiting ends.

What ``stock`` and ``ring`` say of the same program is compared where Trio's own behaviour is the promise.
"""

from __future__ import annotations

import array
import errno
import os
import socket
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import (
    PAIRS,
    buffers_out,
    can_bind,
    fill,
    in_flight,
    statistics,
    tcp_sockets,
    unix_sockets,
)
from uring_trio import RingOptions
from uring_trio.core import engine
from uring_trio.core.engine import current
from uring_trio.net.socket import RingSocket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

KINDS = pytest.mark.parametrize("kind", PAIRS)
FD_SIZE = array.array("i").itemsize


def udp_pair(family: int = socket.AF_INET) -> tuple[Any, Any]:
    near, far = (trio.socket.from_stdlib_socket(socket.socket(family, socket.SOCK_DGRAM)) for _ in range(2))
    for sock in near, far:
        sock._sock.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
    return near, far


async def later(call: Callable[[], Awaitable[Any]]) -> None:
    """Does it when every other task of the test waits."""
    await wait_all_tasks_blocked()
    await call()


def descriptors(names: list[int]) -> list[tuple[int, int, bytes]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", names).tobytes())]


async def test_every_constructor_makes_ring_sockets() -> None:
    near, far = trio.socket.socketpair()
    plain = socket.socket()
    made = [near, far, near.dup(), trio.socket.socket(), trio.socket.from_stdlib_socket(plain)]
    made += await tcp_sockets()
    for sock in made:
        assert type(sock) is RingSocket
        assert isinstance(sock, trio.socket.SocketType)
        sock.close()


# ---- receiving ---------------------------------------------------------------------------------------

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
        near._sock.settimeout(5)
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
            with trio.fail_after(5):
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
    monkeypatch.setattr(engine, "IDLE_SECONDS", 0.02)
    pairs = [await unix_sockets() for _ in range(100)]
    buffers = engine.current().buffers
    assert buffers.in_use == engine.FIRST_BUFFERS

    async def receive(sock: Any) -> None:
        assert await sock.recv(100) == b"x"

    for _ in range(2):
        async with trio.open_nursery() as nursery:
            for _, far in pairs:
                nursery.start_soon(receive, far)
            await wait_all_tasks_blocked()
            for near, _ in pairs:
                near._sock.send(b"x")
        assert buffers.in_use >= 100
        while buffers.in_use > engine.FIRST_BUFFERS:
            await trio.sleep(0.01)
    assert buffers_out() == 0
    for sock in sum(pairs, ()):
        sock.close()


# ---- messages ----------------------------------------------------------------------------------------


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


# ---- sending -----------------------------------------------------------------------------------------


@KINDS
async def test_bytes_are_in_the_kernel_before_the_first_yield(kind: str) -> None:
    near, far = await PAIRS[kind]()
    with near, far:
        async with trio.open_nursery() as nursery:
            for part in range(50):
                nursery.start_soon(near.send, bytes([part]))

            @nursery.start_soon
            async def end() -> None:
                await wait_all_tasks_blocked()
                near.shutdown(socket.SHUT_WR)

        got = b""
        while part := await far.recv(100):
            got += part
        assert sorted(got) == list(range(50))


@KINDS
@pytest.mark.parametrize("end", ["close", "with", "peer"])
async def test_ending_the_socket_wakes_the_sender(kind: str, end: str) -> None:
    near, far = await PAIRS[kind]()
    await fill(near)
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def send() -> None:
            expected = (BrokenPipeError, ConnectionResetError) if end == "peer" else trio.ClosedResourceError
            with pytest.raises(expected):
                await near.send(b"more")

        await wait_all_tasks_blocked()
        assert in_flight() == {"send": 1}
        if end == "close":
            near.close()
        elif end == "with":
            with near:
                pass
        else:
            far.close()
    near.close()
    far.close()


async def test_a_full_socket_refuses_nobody() -> None:
    """MSG_DONTWAIT makes no difference to a Trio program: the socket never blocks anyhow."""
    near, far = await unix_sockets()
    with near, far:
        size = await fill(near)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def send() -> None:
                assert await near.send(b"more", socket.MSG_DONTWAIT) == 4

            await wait_all_tasks_blocked()
            got = b""
            while len(got) < size + 4:
                got += await far.recv(65536)
        assert got[size:] == b"more"


# ---- accepting and connecting ------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_accept_and_connect(host: str) -> None:
    near, far = await tcp_sockets(host)
    with near, far:
        assert near.getpeername() == far.getsockname()
        assert far.getpeername() == near.getsockname()
        assert near.family == far.family == (socket.AF_INET6 if ":" in host else socket.AF_INET)
        assert not os.get_inheritable(far.fileno())


async def test_accept_tells_the_address() -> None:
    with trio.socket.socket() as listener:
        await listener.bind(("127.0.0.1", 0))
        listener.listen(10)
        clients = [socket.create_connection(listener.getsockname()) for _ in range(5)]
        for client in clients:
            peer, address = await listener.accept()
            assert address == client.getsockname() == peer.getpeername()
            peer.close()
            client.close()


async def test_unix_accept_and_connect() -> None:
    with tempfile.TemporaryDirectory() as folder, trio.socket.socket(socket.AF_UNIX) as listener:
        await listener.bind(f"{folder}/socket")
        listener.listen(5)
        with trio.socket.socket(socket.AF_UNIX) as client:
            await client.connect(Path(folder) / "socket")
            peer, address = await listener.accept()
            assert address == ""
            with peer:
                await client.send(b"hello")
                assert await peer.recv(10) == b"hello"


async def test_connecting_fails_as_in_trio() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with trio.socket.socket() as client:
            with pytest.raises(ConnectionRefusedError, match="Error connecting to"):
                await client.connect(unused.getsockname())
    with trio.socket.socket(socket.AF_UNIX) as client, pytest.raises(FileNotFoundError):
        await client.connect("/nowhere/at/all")
    with trio.socket.socket() as client:
        for wrong in ("text", ("127.0.0.1",), ("127.0.0.1", 1, 2, 3, 4), None):
            with pytest.raises((TypeError, ValueError)):
                await client.connect(wrong)
        with pytest.raises((OverflowError, OSError)):
            await client.connect(("127.0.0.1", 70000))


async def test_a_cancelled_connect_closes_the_socket() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = [socket.create_connection(listener.getsockname())]
        with trio.socket.socket() as client:
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def connect() -> None:
                    with pytest.raises(trio.Cancelled):
                        await client.connect(listener.getsockname())

                await wait_all_tasks_blocked()
                assert in_flight() == {"connect": 1}
                nursery.cancel_scope.cancel()
            assert client.fileno() == -1
        waiting[0].close()


# ---- looking -----------------------------------------------------------------------------------------


@KINDS
async def test_nothing_is_read_ahead(kind: str) -> None:
    near, far = await PAIRS[kind]()
    with near, far:
        assert not far.is_readable()
        await near.send(b"abcdef")
        assert far.is_readable()
        assert await far.recv(2) == b"ab"
        assert far.is_readable()
        with far.dup() as other:
            assert await other.recv(2) == b"cd"
        plain = socket.socket(fileno=far.detach())
        with plain:
            plain.setblocking(True)
            assert plain.recv(10) == b"ef"
        assert far.fileno() == -1


async def test_a_half_closed_peer_does_not_make_a_full_socket_writable() -> None:
    """The kernel reports the peer's shutdown with every poll, asked or not."""
    near, far = await unix_sockets()
    with near, far:
        size = await fill(near)
        far.shutdown(socket.SHUT_WR)
        done = False

        async def wait() -> None:
            nonlocal done
            await trio.lowlevel.wait_writable(near)
            done = True

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            assert not done
            assert in_flight() == {"wait_writable": 1}
            while size:
                size -= len(await far.recv(min(size, 65536)))
        assert done
        await fill(near)
        done = False
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                await wait_all_tasks_blocked()
                scope.cancel()
        assert not done
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def closed() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await trio.lowlevel.wait_writable(near)

            await wait_all_tasks_blocked()
            near.close()


# ---- closing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("submitted", [False, True])
@pytest.mark.parametrize("end", ["close", "with", "detach"])
@pytest.mark.parametrize("call", ["recv", "wait_readable"])
async def test_the_end_reaches_the_peer_at_once(submitted: bool, end: str, call: str) -> None:
    """In the tick of the close, whether or not the kernel had the receive by then."""
    near, far = await tcp_sockets()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await (near.recv(10) if call == "recv" else trio.lowlevel.wait_readable(near))

        if submitted:
            await wait_all_tasks_blocked()
        else:
            while not in_flight():
                await trio.lowlevel.checkpoint()
        if end == "close":
            near.close()
        elif end == "with":
            near.__exit__(None, None, None)
        else:
            os.close(near.detach())
        # No checkpoint since: nothing of ours has run but the close.
        far._sock.settimeout(5)
        assert far._sock.recv(1) == b""
    far.close()


@pytest.mark.parametrize("submitted", [False, True])
@pytest.mark.parametrize("call", ["accept", "wait_readable"])
async def test_a_listeners_address_is_free_at_once(submitted: bool, call: str) -> None:
    listener = trio.socket.socket()
    await listener.bind(("127.0.0.1", 0))
    listener.listen(5)
    address = listener.getsockname()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await (listener.accept() if call == "accept" else trio.lowlevel.wait_readable(listener))

        if submitted:
            await wait_all_tasks_blocked()
        else:
            while not in_flight():
                await trio.lowlevel.checkpoint()
        listener.close()
        assert can_bind(address)


async def test_a_number_used_again_is_another_file() -> None:
    """A descriptor closed behind our back, its number given to a socket of ours."""
    first, peer = await unix_sockets()
    with peer:
        await peer.send(b"x")
        assert await first.recv(10) == b"x"
        number = first.fileno()
        os.close(number)
        near, far = socket.socketpair()
        assert near.fileno() == number
        sock = trio.socket.from_stdlib_socket(near)
        with sock, far:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(later, lambda: trio.to_thread.run_sync(far.send, b"second"))
                assert await sock.recv(10) == b"second"
        first._sock.detach()


async def test_waiting_for_a_bad_descriptor() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    os.close(writer)
    with pytest.raises(OSError) as caught:
        await trio.lowlevel.wait_readable(reader)
    assert caught.value.errno == errno.EBADF
    with pytest.raises(ValueError):
        await trio.lowlevel.wait_writable(-1)


# ---- a kernel that takes nothing now ------------------------------------------------------------------


def refusing(names: tuple[str, ...]) -> list[bool]:
    """Makes this run's ring refuse new entries, as with a full queue, while the list's item is true."""
    ring, refuse = current().ring, [True]

    def wrap(queue: Callable[..., int]) -> Callable[..., int]:
        return lambda *entry: -errno.EBUSY if refuse[0] else queue(*entry)

    for name in names:
        setattr(ring, name, wrap(getattr(ring, name)))
    return refuse


@pytest.mark.parametrize("end", ["goes on", "close", "cancel"])
@pytest.mark.parametrize("call", ["recv", "wait_readable"])
async def test_a_full_queue_only_delays(end: str, call: str) -> None:
    """What waits for room in the queue is busy, can be closed, and goes on when there is room."""
    near, far = trio.socket.socketpair()

    async def use() -> Any:
        return await (far.recv(10) if call == "recv" else trio.lowlevel.wait_readable(far))

    got: list[Any] = []
    refuse = refusing(("queue", "put"))
    with near, far:
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def first() -> None:
                if end == "close":
                    with pytest.raises(trio.ClosedResourceError):
                        await use()
                else:
                    got.append(await use())

            for _ in range(5):
                await trio.lowlevel.checkpoint()
            with pytest.raises(trio.BusyResourceError):
                await use()
            match end:
                case "close":
                    far.close()
                case "cancel":
                    nursery.cancel_scope.cancel()
            for _ in range(5):
                await trio.lowlevel.cancel_shielded_checkpoint()
            refuse[0] = False
            if end == "goes on":
                await near.send(b"data")
        assert got == ([] if end != "goes on" else [b"data"] if call == "recv" else [None])


async def test_closing_ends_what_is_in_flight_though_the_queue_is_full() -> None:
    near, far = trio.socket.socketpair()
    async with trio.open_nursery() as nursery:

        @nursery.start_soon
        async def wait() -> None:
            with pytest.raises(trio.ClosedResourceError):
                await far.recv(10)

        await wait_all_tasks_blocked()
        refuse = refusing(("put",))
        far.close()
        await trio.lowlevel.checkpoint()
        refuse[0] = False
    near.close()


def test_closed_between_an_empty_group_and_the_second_attempt() -> None:
    """Of more receivers than buffers, all get data in one tick and are closed before they resume."""

    async def main() -> None:
        pairs = [trio.socket.socketpair() for _ in range(6)]
        ends: list[str] = []

        async def receive(number: int) -> None:
            try:
                await pairs[number][1].recv(100)
            except trio.ClosedResourceError:
                ends.append("closed")
            else:
                ends.append("data")
            for _, far in pairs:
                far.close()

        async with trio.open_nursery() as nursery:
            for number in range(6):
                nursery.start_soon(receive, number)
            await wait_all_tasks_blocked()
            for near, _ in pairs:
                near._sock.send(b"x")
        assert ends.count("data") >= 1
        assert len(ends) == 6
        for near, _ in pairs:
            near.close()

    for _ in range(5):
        uring_trio.run(main, ring=RingOptions(buffers=1))


# ---- more than one run -------------------------------------------------------------------------------


def test_a_socket_lives_through_several_runs() -> None:
    """On the ring, on stock Trio, and on the ring again."""
    near, far = socket.socketpair()

    async def make() -> Any:
        return trio.socket.from_stdlib_socket(far)

    async def use(sock: Any) -> None:
        near.send(b"one")
        assert await sock.recv(10) == b"one"
        memory = bytearray(10)
        near.send(b"two")
        assert await sock.recv_into(memory) == 3
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sock.recv, 10)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    with near:
        sock = uring_trio.run(make)
        for run in (uring_trio.run, trio.run, uring_trio.run, uring_trio.run, trio.run):
            run(use, sock)

        async def close() -> None:
            sock.close()

        uring_trio.run(close)


def test_stock_runs_in_other_threads_stay_stock() -> None:
    backends = {}

    async def echo(name: str) -> None:
        backends[name] = statistics().backend
        near, far = trio.socket.socketpair()
        with near, far:
            for turn in range(200):
                data = f"{name} {turn}".encode()
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(near.send, data)
                    assert await far.recv(100) == data
        with trio.socket.socket() as sock, pytest.raises(ConnectionRefusedError):
            await sock.connect(("127.0.0.1", 1))

    async def with_neighbours() -> None:
        thread = threading.Thread(target=trio.run, args=(echo, "stock"))
        other = threading.Thread(target=uring_trio.run, args=(echo, "other ring"))
        thread.start()
        other.start()
        await echo("ring")
        await trio.to_thread.run_sync(thread.join)
        await trio.to_thread.run_sync(other.join)

    uring_trio.run(with_neighbours)
    assert backends == {"stock": "epoll", "ring": "io_uring", "other ring": "io_uring"}


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


async def test_an_fd_ends_with_its_socket() -> None:
    await wait_all_tasks_blocked()  # Trio's own tasks too
    before = len(current().owners)
    near, far = await tcp_sockets()
    with near, far:
        await near.send(b"x")
        await far.recv(1)
        assert len(current().owners) > before
    assert len(current().owners) == before


async def test_two_tasks_that_swap_listeners_in_one_tick_get_their_own_peers_address():
    listeners = []
    for _ in range(2):
        listener = trio.socket.socket()
        await listener.bind(("127.0.0.1", 0))
        listener.listen()
        listeners.append(listener)
    accepted = []

    async def accept(first, second):
        for listener in (first, second):
            accepted.append(await listener.accept())

    clients = []
    with listeners[0], listeners[1]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept, listeners[0], listeners[1])
            nursery.start_soon(accept, listeners[1], listeners[0])
            for _ in range(2):
                await trio.testing.wait_all_tasks_blocked()
                for listener in listeners:
                    client = socket.create_connection(listener.getsockname())
                    clients.append(client)
        for sock, address in accepted:
            with sock:
                assert sock.getpeername() == address
        assert {address for _, address in accepted} == {client.getsockname() for client in clients}
    for client in clients:
        client.close()


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
