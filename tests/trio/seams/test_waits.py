"""The ring waits, the task acts: what a program sees of a wait is what it sees on stock Trio.

Each function runs on stock Trio and on the ring, and both answers are compared. What cannot be compared, for
stock Trio has no kernel workers or answers with an untruth, is said in the test.
"""

from __future__ import annotations

import os
import socket
import tty
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import fill_now, tcp_pair, threads, told

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

PATIENCE = 60.0

TIMESTAMPING = 37

TX_SOFTWARE = 2 | 16 | 128


def same(fn: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    """What an async function returns on both; the test fails if it is not the same."""

    async def bounded() -> Any:
        with trio.fail_after(PATIENCE):
            return await fn(*args)

    stock = trio.run(bounded)
    ring = uring_trio.run(bounded)
    assert ring == stock
    return stock


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

    answer, ended = same(main)
    assert answer != "busy"
    assert ended == [True]


# ---- duplicates, and descriptors closed without notice ----------------------------------------------------


async def accept_on_a_duplicate() -> Any:
    listener = trio.socket.socket()
    await listener.bind(("127.0.0.1", 0))
    listener.listen()
    duplicate = listener.dup()
    got = []
    async with trio.open_nursery() as nursery:

        async def first() -> None:
            got.append(await told(listener.accept))

        async def second() -> None:
            sock, _ = await duplicate.accept()
            sock.close()
            got.append("accepted")

        nursery.start_soon(first)
        nursery.start_soon(second)
        await wait_all_tasks_blocked()
        listener.close()
        await wait_all_tasks_blocked()
        with trio.socket.socket() as client:
            await client.connect(duplicate.getsockname())
            while len(got) < 2:
                await trio.sleep(0)
    duplicate.close()
    return got


async def receive_on_a_duplicate() -> Any:
    near, far = trio.socket.socketpair()
    duplicate = near.dup()
    got = []
    with duplicate, far:
        async with trio.open_nursery() as nursery:

            async def receive() -> None:
                got.append(await told(duplicate.recv, 10))

            async def send() -> None:
                while True:
                    sent = await told(near.send, bytes(100_000))
                    if isinstance(sent, tuple):
                        got.append(sent)
                        return

            nursery.start_soon(receive)
            nursery.start_soon(send)
            await wait_all_tasks_blocked()
            near.close()
            await wait_all_tasks_blocked()
            await far.send(b"answer")
    return got


async def read_a_terminal_whose_writing_half_is_closed() -> Any:
    master, slave = os.openpty()
    tty.setraw(slave)
    reader, writer = trio.lowlevel.FdStream(os.dup(master)), trio.lowlevel.FdStream(master)
    got = []
    async with reader, trio.open_nursery() as nursery:

        async def read() -> None:
            got.append(await reader.receive_some(100))

        async def write() -> None:
            got.append(await told(writer.send_all, bytes(1_000_000)))

        nursery.start_soon(read)
        nursery.start_soon(write)
        await wait_all_tasks_blocked()
        await writer.aclose()
        await wait_all_tasks_blocked()
        os.write(slave, b"from the child")
    os.close(slave)
    return got


async def wait_on_a_duplicate() -> Any:
    near, far = socket.socketpair()
    duplicate = os.dup(near.fileno())
    got = []
    async with trio.open_nursery() as nursery:

        async def wait(fd: Any) -> None:
            got.append(await told(trio.lowlevel.wait_readable, fd))

        nursery.start_soon(wait, duplicate)
        nursery.start_soon(wait, near)
        await wait_all_tasks_blocked()
        trio.lowlevel.notify_closing(near)
        near.close()
        await wait_all_tasks_blocked()
        far.send(b"x")
    os.close(duplicate)
    far.close()
    return got


@pytest.mark.parametrize(
    "fn",
    [
        accept_on_a_duplicate,
        receive_on_a_duplicate,
        read_a_terminal_whose_writing_half_is_closed,
        wait_on_a_duplicate,
    ],
)
def test_closing_a_descriptor_leaves_its_duplicates_alone(fn: Callable[[], Awaitable[Any]]) -> None:
    first, second = same(fn)
    assert first[0] == "ClosedResourceError"
    assert second in ("accepted", b"answer", b"from the child", None)


@pytest.mark.parametrize("kind", ["recv", "accept"])
def test_a_call_on_a_descriptor_that_was_closed_before_it_fails(kind: str) -> None:
    async def main() -> Any:
        if kind == "accept":
            sock = trio.socket.socket()
            await sock.bind(("127.0.0.1", 0))
            sock.listen()
        else:
            sock, peer = trio.socket.socketpair()

        def call() -> Awaitable[Any]:
            return sock.accept() if kind == "accept" else sock.recv(10)

        for _ in range(2):  # after which the ring waits without an attempt
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call)
                await wait_all_tasks_blocked()
                nursery.cancel_scope.cancel()
        os.close(sock.fileno())
        got = await told(call)
        sock._sock.detach()
        if kind == "recv":
            peer.close()
        return got

    assert same(main) == ("OSError", 9)


async def others_run_while_a_call_fails(call: str) -> list[str]:
    """Two tasks, each of which writes down what it does around a call that fails."""
    sock, peer = trio.socket.socketpair()
    sock.close()
    seen = []
    arguments: dict[str, tuple[Any, ...]] = {
        "recvfrom": (1,),
        "recv_into": (bytearray(1),),
        "sendmsg": ([b"x"],),
    }

    async def fail(name: str) -> None:
        for _ in range(3):
            seen.append(name)
            with pytest.raises(OSError, match="Bad file descriptor"):
                await getattr(sock, call)(*arguments.get(call, (b"x",)))

    with peer:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail, "one")
            nursery.start_soon(fail, "two")
    return [str(len(set(seen[at : at + 2]))) for at in (0, 2, 4)]


@pytest.mark.parametrize("call", ["send", "sendmsg", "recvfrom", "recv_into"])
def test_other_tasks_run_while_a_call_fails(call: str) -> None:
    assert same(others_run_while_a_call_fails, call) == ["2", "2", "2"]


async def use_a_socket_whose_number_is_a_listener_by_now(then: str) -> Any:
    stale, far = trio.socket.socketpair(type=socket.SOCK_SEQPACKET)
    os.close(stale.fileno())
    listener = trio.socket.socket()
    assert listener.fileno() == stale.fileno()
    await listener.bind(("127.0.0.1", 0))
    listener.listen()
    got = []
    with far, listener:
        async with trio.open_nursery() as nursery:

            async def accept() -> None:
                answer = await told(listener.accept)
                if isinstance(answer[0], str):
                    got.append(answer)
                else:
                    answer[0].close()
                    got.append("accepted")

            nursery.start_soon(accept)
            await wait_all_tasks_blocked()
            got.append(await told(stale.recvfrom, 10))
            got.append(await told(stale.recv, 10))
            got.append(await told(stale.accept) if then == "busy" else await told(stale.send, b"x"))
            await wait_all_tasks_blocked()
            got.append(len(got))
            if then == "closed":
                stale.close()
            else:
                stale._sock.detach()
                with socket.create_connection(listener.getsockname()):
                    await wait_all_tasks_blocked()
                    while len(got) < 5:
                        await trio.sleep(0)
        if then == "closed":
            listener._sock.detach()
    return got


@pytest.mark.parametrize("then", ["accepted", "busy", "closed"])
def test_a_socket_closed_without_notice_ends_no_call_on_its_number(then: str) -> None:
    got = same(use_a_socket_whose_number_is_a_listener_by_now, then)
    assert len(got) == 5
    assert got[4] == (("ClosedResourceError", None) if then == "closed" else "accepted")


@pytest.mark.parametrize("kind", ["stream", "listener"])
def test_a_descriptor_closed_without_notice_lets_go_of_its_file(kind: str) -> None:
    async def main() -> Any:
        near, far = socket.socketpair()
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = listener.getsockname()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.lowlevel.wait_readable, near)
            nursery.start_soon(trio.lowlevel.wait_readable, listener)
            await wait_all_tasks_blocked()
            near.close()
            listener.close()
            far.setblocking(False)
            with far, socket.socket() as other:
                other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                other.bind(address)
                other.listen()
                got = far.recv(1)
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        return got

    assert same(main) == b""


@pytest.mark.parametrize("name", ["wait_readable", "wait_writable"])
@pytest.mark.parametrize("path", [__file__, os.path.dirname(__file__), os.devnull])
def test_files_that_cannot_be_waited_for_are_refused(name: str, path: str) -> None:
    async def main() -> Any:
        fd = os.open(path, os.O_RDONLY)
        try:
            return await told(getattr(trio.lowlevel, name), fd)
        finally:
            os.close(fd)

    assert same(main) == ("PermissionError", 1)


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

    assert same(main)


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

    assert same(main) == [("BusyResourceError", None)] * 3


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

    assert same(main) == 4


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

    assert same(main) == 1000


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

    assert same(main) in (b"answer", 6)


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

    assert same(main) == b"answer"


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
    found = same(two_waiters, first, second)
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
    assert len(same(errors_of_wrong_calls)) == 27
