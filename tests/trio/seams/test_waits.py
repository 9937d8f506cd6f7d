"""The ring waits, the task acts: what a program sees of a wait is what it sees on stock Trio.

Each function runs on stock Trio and on the ring, and both answers are compared. What cannot be compared, for
stock Trio has no kernel workers or answers with an untruth, is said in the test.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.trio.bothways import compared
from tests.trio.helpers import fill_now, tcp_pair, threads, told

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

TIMESTAMPING = 37

TX_SOFTWARE = 2 | 16 | 128


@pytest.mark.parametrize(
    "name", ["recv", "recv_into", "recvfrom", "recvmsg", "accept", "send", "wait_readable"]
)
def test_a_direction_is_free_from_the_cancellation_on(name: str) -> None:
    """Also in the tick in which it is cancelled, before its task has resumed."""

    async def main() -> Any:
        near, far = tcp_pair()
        listener, client = socket.create_server(("127.0.0.1", 0)), socket.socket()
        listener.setblocking(False)
        if name == "send":
            fill_now(near)
        with far, client, trio.socket.from_stdlib_socket(near) as sock:
            with trio.socket.from_stdlib_socket(listener) as accepting:
                data = bytearray(10)
                calls: dict[str, Callable[[], Awaitable[Any]]] = {
                    "recv_into": lambda: sock.recv_into(data),
                    "accept": accepting.accept,
                    "send": lambda: sock.send(b"x"),
                    "wait_readable": lambda: trio.lowlevel.wait_readable(sock),
                }
                call = calls.get(name, lambda: getattr(sock, name)(10))
                ended: list[Any] = []

                async def first() -> None:
                    with scope:
                        await (sock.recv(10) if name == "wait_readable" else call())
                    ended.append(scope.cancelled_caught)

                async def unblock() -> None:
                    await wait_all_tasks_blocked()
                    far.setblocking(False)
                    if name == "accept":
                        client.connect(accepting.getsockname())
                    elif name == "send":
                        while far.recv(1 << 20):
                            await trio.lowlevel.checkpoint()
                    else:
                        far.send(b"data")

                async with trio.open_nursery() as nursery:
                    scope = trio.CancelScope()
                    nursery.start_soon(first)
                    await wait_all_tasks_blocked()
                    nursery.start_soon(unblock)
                    scope.cancel()
                    try:
                        got = await call()
                    except trio.BusyResourceError:
                        got = "busy"
                    nursery.cancel_scope.cancel()
                if name == "accept":
                    got[0].close()
                return "accepted" if name == "accept" else got, ended

    answer, ended = compared(main)
    assert answer != "busy"
    assert ended == [True]


# ---- who may wait beside whom ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["wait_readable", "wait_writable"])
@pytest.mark.parametrize("path", [__file__, os.path.dirname(__file__), os.devnull])
def test_files_that_cannot_be_waited_for_are_refused(name: str, path: str) -> None:
    async def main() -> Any:
        fd = os.open(path, os.O_RDONLY)
        try:
            return await told(getattr(trio.lowlevel, name), fd)
        finally:
            os.close(fd)

    assert compared(main) == ("PermissionError", 1)


@pytest.mark.parametrize("first", ["recv", "recvfrom", "wait_readable", "accept"])
@pytest.mark.parametrize("second", ["recv", "recvmsg", "wait_readable", "accept"])
def test_two_tasks_cannot_wait_for_input_of_one_socket(first: str, second: str) -> None:
    async def main() -> Any:
        near, far = trio.socket.socketpair()
        listener = trio.socket.socket()
        await listener.bind(("127.0.0.1", 0))
        listener.listen()
        sock = listener if "accept" in (first, second) else near

        def call(name: str) -> Awaitable[Any]:
            if name == "wait_readable":
                return trio.lowlevel.wait_readable(sock)
            return sock.accept() if name == "accept" or sock is listener else getattr(sock, name)(10)

        with near, far, listener:
            for _ in range(2):  # what was set up before makes no difference
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(call, first)
                    await wait_all_tasks_blocked()
                    try:
                        await call(second)
                    except trio.BusyResourceError as exc:
                        got = str(exc)
                    nursery.cancel_scope.cancel()
        return got

    assert compared(main)


@pytest.mark.parametrize("name", ["send", "sendmsg"])
def test_two_tasks_cannot_wait_for_room_in_one_socket(name: str) -> None:
    async def main() -> Any:
        near, far = socket.socketpair()
        fill_now(near)
        got = []
        with far, trio.socket.from_stdlib_socket(near) as sock:

            def send() -> Awaitable[Any]:
                return sock.send(b"x") if name == "send" else sock.sendmsg([b"x"])

            for calls in ((send, send), (send, sock.wait_writable), (sock.wait_writable, send)):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(calls[0])
                    await wait_all_tasks_blocked()
                    got.append(await told(calls[1]))
                    nursery.cancel_scope.cancel()
        return got

    assert compared(main) == [("BusyResourceError", None)] * 3


# ---- readiness that is no help ----------------------------------------------------------------------------


async def blocked_then(call: Callable[[], Awaitable[Any]], unblock: Callable[[], object]) -> Any:
    """Starts a call, lets it block, and unblocks it bit by bit until it returns."""
    got = []

    async def run() -> None:
        got.append(await told(call))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run)
        for _ in range(50):
            await trio.lowlevel.checkpoint()
        assert not got
        while not got:
            unblock()
            for _ in range(5):
                await trio.sleep(0.0005)
    return got[0]


@pytest.mark.parametrize("name", ["sendto", "sendmsg"])
def test_a_datagram_to_a_full_unix_receiver_waits_for_room(name: str, tmp_path: Path) -> None:
    async def main() -> Any:
        path = str(tmp_path / name)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
            receiver.bind(path)
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler:
                filler.setblocking(False)
                with pytest.raises(BlockingIOError):
                    while True:
                        filler.sendto(b"x", path)
            with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:

                async def send() -> int:
                    if name == "sendto":
                        return await sock.sendto(b"last", path)
                    return await sock.sendmsg([b"la", b"st"], [], 0, path)

                sent = await blocked_then(send, lambda: receiver.recv(10))
            receiver.setblocking(False)
            data = b""
            while data != b"last":
                data = receiver.recv(10)
        os.unlink(path)
        return sent

    assert compared(main) == 4


async def test_a_datagram_to_a_full_unix_receiver_does_not_spin(tmp_path: Path) -> None:
    """Stock Trio does: poll(2) says that the socket is writable. A task that spins is never blocked."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler, pytest.raises(BlockingIOError):
            filler.setblocking(False)
            while True:
                filler.sendto(b"x", path)
        with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            async with trio.open_nursery() as nursery:
                with trio.CancelScope() as scope:
                    nursery.start_soon(_stop_when_blocked, scope.cancel)
                    await sock.sendto(b"x", path)
                assert scope.cancelled_caught
                nursery.start_soon(_stop_when_blocked, sock.close)
                with pytest.raises(trio.ClosedResourceError):
                    await sock.sendto(b"x", path)
        with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_stop_when_blocked, receiver.close)
                with pytest.raises(ConnectionRefusedError):
                    await sock.sendto(b"x", path)


async def _stop_when_blocked(stop: Callable[[], object]) -> None:
    await wait_all_tasks_blocked()
    stop()


@pytest.mark.parametrize("name", ["send", "sendmsg"])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_send_to_a_half_closed_peer_waits_for_room(kind: str, name: str) -> None:
    async def main() -> Any:
        near, far = tcp_pair() if kind == "tcp" else socket.socketpair()
        far.shutdown(socket.SHUT_WR)
        fill_now(near)
        far.setblocking(False)
        sock = trio.socket.from_stdlib_socket(near)

        def drain() -> None:
            try:
                far.recv(1 << 20)
            except BlockingIOError:
                pass

        with sock, far:
            return await blocked_then(
                lambda: sock.send(b"y" * 1000) if name == "send" else sock.sendmsg([b"y" * 1000]), drain
            )

    assert compared(main) == 1000


@pytest.mark.parametrize(
    "name", ["recv", "recvfrom", "recvmsg", "recv_into", "recvfrom_into", "recvmsg_into"]
)
def test_a_receive_waits_while_the_error_queue_has_something(name: str) -> None:
    async def main() -> Any:
        sock = trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with sock, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
            await sock.bind(("127.0.0.1", 0))
            peer.bind(("127.0.0.1", 0))
            sock.setsockopt(socket.SOL_SOCKET, TIMESTAMPING, TX_SOFTWARE)
            await sock.sendto(b"x", peer.getsockname())
            memory = bytearray(100)
            arguments = {"recv_into": memory, "recvfrom_into": memory, "recvmsg_into": [memory]}

            async def receive() -> Any:
                got = await getattr(sock, name)(arguments.get(name, 100))
                return got if isinstance(got, (bytes, int)) else got[0]

            return await blocked_then(receive, lambda: peer.sendto(b"answer", sock.getsockname()))

    assert compared(main) in (b"answer", 6)


def test_a_stream_with_an_error_queue_waits_without_a_thread() -> None:
    async def main() -> Any:
        near, far = tcp_pair()
        near.setsockopt(socket.SOL_SOCKET, TIMESTAMPING, TX_SOFTWARE)
        with far, trio.socket.from_stdlib_socket(near) as sock:
            assert await sock.recv(0) == b""
            await sock.send(b"x")
            before = threads()
            data = await blocked_then(lambda: sock.recv(100), lambda: far.send(b"answer"))
            assert not threads() - before
            return data

    assert compared(main) == b"answer"


# ---- listeners that others share --------------------------------------------------------------------------


async def two_waiters(first: str, second: str) -> Any:
    """What a second task gets that waits in the same direction of a descriptor."""
    near, far = trio.socket.socketpair()
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "recv": lambda: near.recv(10),
        "peek": lambda: near.recv(10, socket.MSG_PEEK),
        "recv_into": lambda: near.recv_into(bytearray(10)),
        "recvmsg": lambda: near.recvmsg(10),
        "readable": lambda: trio.lowlevel.wait_readable(near),
        "number": lambda: trio.lowlevel.wait_readable(near.fileno()),
    }
    found: list[Any] = []
    with near, far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(calls[first])
            await wait_all_tasks_blocked()
            for cancelled in (False, True):
                with trio.CancelScope() as scope:
                    if cancelled:
                        scope.cancel()
                    try:
                        found.append(await calls[second]())
                    except trio.BusyResourceError as exc:
                        found.append(str(exc))
                found.append(scope.cancelled_caught)
            nursery.cancel_scope.cancel()
    return found


@pytest.mark.parametrize("second", ["recv", "peek", "recv_into", "recvmsg", "readable", "number"])
@pytest.mark.parametrize("first", ["recv", "peek", "recv_into", "recvmsg", "readable"])
def test_one_task_waits_in_each_direction(first: str, second: str) -> None:
    found = compared(two_waiters, first, second)
    assert found[:2] == ["another task is already reading / writing this fd", False]


async def errors_of_wrong_calls() -> list[Any]:
    """The text of errors that a call finds itself, or that the kernel gives."""
    found = []
    listener = trio.socket.socket(socket.AF_UNIX)
    near, far = trio.socket.socketpair()
    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: listener.recv(10),
        lambda: listener.recvmsg(10),
        lambda: near.recv(1 << 62),
        lambda: near.recv_into(3),
        lambda: near.sendmsg(3),
        lambda: near.sendmsg(None),
        lambda: near.recvmsg_into(3),
        lambda: near.accept(),
        lambda: listener.accept(),
    ]
    with listener, near, far:
        for call in calls:
            for cancelled in (False, True):
                with trio.CancelScope() as scope:
                    if cancelled:
                        scope.cancel()
                    try:
                        found.append(await call())
                    except Exception as exc:
                        found.append((type(exc), str(exc)))
                found.append(scope.cancelled_caught)
    return found


def test_errors_have_the_same_text_and_come_after_the_cancel_scope() -> None:
    assert len(compared(errors_of_wrong_calls)) == 27
