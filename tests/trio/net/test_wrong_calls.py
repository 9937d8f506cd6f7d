"""Calls of sockets with arguments that they refuse, and sockets around a class of the program."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.trio.bothways import pair, same

if TYPE_CHECKING:
    from collections.abc import Awaitable

VALUES: tuple[Any, ...] = (None, "text", -1, 1 << 70, 1.5, [], object, b"x", True, False, 0.0)
WRONG = [(), *((value,) for value in VALUES), *((10, value) for value in VALUES), (1, 2, 3, 4, 5, 6)]


async def told(call: Awaitable[Any]) -> Any:
    try:
        with trio.move_on_after(0.01):
            return await call
    except Exception as exc:
        return type(exc), str(exc), exc.__suppress_context__
    return "waits"


@pytest.mark.parametrize("keywords", [{}, {"flags": 0}, {"other": 1}])
@pytest.mark.parametrize("name", ["recvfrom", "recvmsg", "recv_into", "recvfrom_into", "recvmsg_into"])
def test_a_receive_refuses_the_same(name: str, keywords: dict[str, Any]) -> None:
    async def main() -> list[Any]:
        async with pair() as (_, far):
            return [await told(getattr(far, name)(*wrong, **keywords)) for wrong in WRONG]

    assert any(found[0] is TypeError for found in same(main))


@pytest.mark.parametrize("name", ["recv", "send"])
def test_flags_have_to_be_a_number(name: str) -> None:
    async def main() -> list[Any]:
        async with pair() as (near, far):
            await near.send(b"data")
            first = 10 if name == "recv" else b"data"
            return [await told(getattr(far, name)(first, value)) for value in VALUES]

    assert same(main)[0][0] is TypeError


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_sendto_looks_at_the_address_first(kind: int) -> None:
    async def main() -> list[Any]:
        with trio.socket.socket(type=kind) as sock:
            return [await told(sock.sendto(*wrong)) for wrong in WRONG]

    assert same(main)[0][0] is IndexError


def test_methods_of_the_socket_inside_are_not_asked() -> None:
    """Trio calls those of the standard library's class, whatever a subclass has."""

    class Inside(socket.socket):
        pass

    def refuse(*args: Any) -> None:
        raise AssertionError

    for name in ("recv", "recv_into", "recvfrom", "recvmsg", "send", "sendto", "sendmsg"):
        setattr(Inside, name, refuse)

    async def main() -> list[Any]:
        async with pair() as (near, far):
            inside = Inside(fileno=os.dup(near.fileno()))
            inside.setblocking(False)
            with inside:
                near._sock, plain = inside, near._sock
                found = [await near.send(b"1"), await near.sendmsg([b"2"]), await far.recv(10)]
                await far.send(b"3")
                found.append(await near.recv(10))
                near._sock = plain
            return found

    assert same(main) == [1, 1, b"12", b"3"]
