"""Duplicates of descriptors, and descriptors closed without notice: calls on them end as on stock Trio.

Each function runs on stock Trio and on the ring, and both answers are compared.
"""

from __future__ import annotations

import os
import socket
import tty
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.trio.bothways import compared
from tests.trio.helpers import told

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


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
    first, second = compared(fn)
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

    assert compared(main) == ("OSError", 9)


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
    assert compared(others_run_while_a_call_fails, call) == ["2", "2", "2"]


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
    got = compared(use_a_socket_whose_number_is_a_listener_by_now, then)
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

    assert compared(main) == b""
