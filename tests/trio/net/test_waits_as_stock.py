"""Waits of sockets that a close or nothing helpful ends, on stock Trio and on the ring, in one program."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.trio.bothways import same
from tests.trio.helpers import fill_now, tcp_sockets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

CALLS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "recv_into": lambda sock: sock.recv_into(bytearray(10)),
    "recvfrom": lambda sock: sock.recvfrom(10),
    "recvmsg": lambda sock: sock.recvmsg(10),
    "waitall": lambda sock: sock.recv(10, socket.MSG_WAITALL),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_close_in_the_tick_in_which_input_comes(call: str) -> None:
    """The wait ends by the close: Trio has not looked for events since."""

    async def program() -> list[str]:
        near, far = await tcp_sockets()
        told: list[str] = []
        with near, far:
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def receive() -> None:
                    try:
                        await CALLS[call](far)
                    except (OSError, trio.ClosedResourceError) as error:
                        told.append(type(error).__name__)

                await wait_all_tasks_blocked()
                near._sock.send(b"data")
                far.close()
        return told

    assert same(program) == ["ClosedResourceError"]


def test_the_end_of_the_peer_is_no_room() -> None:
    """Less than what poll(2) calls room may be there: a send goes on to wait."""

    async def program() -> list[Any]:
        near, far = await tcp_sockets()
        told: list[Any] = []
        with near, far:
            fill_now(near._sock)
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def send() -> None:
                    while True:  # a probe of the peer's window may have made room since
                        told.append(await near.send(b"x"))

                await wait_all_tasks_blocked(0.01)
                told.clear()
                # Some room, but less than a third.
                far._sock.recv(100)
                far.shutdown(socket.SHUT_WR)
                await wait_all_tasks_blocked(0.01)
                told.append("waits")
                nursery.cancel_scope.cancel()
        return told

    assert same(program) == ["waits"]


@pytest.mark.parametrize("how", ["os.close", "close", "detach"])
@pytest.mark.parametrize("call", ["recv", *CALLS, "send"])
def test_a_socket_closed_without_notice_is_gone_with_the_call_that_waits(call: str, how: str) -> None:
    """On the ring the call holds the file for as long as it waits. A cancel ends both."""

    async def program() -> list[Any]:
        near, far = await tcp_sockets()
        told: list[Any] = []
        if call == "send":
            fill_now(far._sock)
            await wait_all_tasks_blocked(0.01)

        async def wait() -> None:
            match call:
                case "recv":
                    await far.recv(10)
                case "send":
                    await far.send(bytes(1 << 20))
                case _:
                    await CALLS[call](far)

        with near:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(wait)
                    await wait_all_tasks_blocked(0.01)
                    match how:
                        case "os.close":
                            os.close(far.fileno())
                            far._sock.detach()
                        case "close":
                            far._sock.close()
                        case "detach":
                            os.close(far._sock.detach())
                    await wait_all_tasks_blocked(0.01)
                    scope.cancel()
            told.append(scope.cancelled_caught)
            near._sock.settimeout(30)
            while data := near._sock.recv(1 << 20):
                told[1:] = [len(data) > 0]
            told.append(data)
        return told

    assert same(program)[::2] == ([True, b""] if call == "send" else [True])
