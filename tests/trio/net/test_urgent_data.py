"""Urgent data and error queues of stream sockets, on stock Trio and on the ring, in the same program."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.trio.bothways import same
from tests.trio.helpers import tcp_sockets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SO_TIMESTAMPING = 37
STAMPS = struct.pack("I", 1 << 1 | 1 << 4 | 1 << 11)
"""Software stamps of sends, reported without their data."""
ONE_STAMP = struct.pack("I", 1 << 1)

RECEIVES: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "recv": lambda sock: sock.recv(100),
    "recv_into": lambda sock: sock.recv_into(bytearray(100)),
    "recvfrom": lambda sock: sock.recvfrom(100),
    "recvmsg": lambda sock: sock.recvmsg(100),
    "stream": lambda sock: trio.SocketStream(sock).receive_some(100),
}


def urgent(sock: Any) -> bytes | str:
    try:
        found: bytes = sock._sock.recv(10, socket.MSG_OOB)
    except OSError as error:
        return type(error).__name__
    return found


async def settled() -> None:
    for _ in range(3):
        await wait_all_tasks_blocked(0.01)


@pytest.mark.parametrize("call", RECEIVES)
@pytest.mark.parametrize("before", [b"", b"data"])
def test_a_wait_leaves_the_urgent_byte(call: str, before: bytes) -> None:
    """The program wants urgent data: it has asked before, in vain."""

    async def program() -> list[Any]:
        near, far = await tcp_sockets()
        told: list[Any] = []
        with near, far:
            try:
                await far.recv(1, socket.MSG_OOB)
            except OSError as error:
                told.append(error.errno)
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def receive() -> None:
                    told.append(await RECEIVES[call](far))

                await settled()
                near._sock.send(b"!", socket.MSG_OOB)
                await settled()
                told.append(urgent(far))
                near._sock.send(before + b"?", socket.MSG_OOB)
                await settled()
                told.append(urgent(far))
                near._sock.send(b"more")
                await settled()
            told.append(far._sock.recv(100, socket.MSG_DONTWAIT) if before else b"")
        return told

    assert b"!" in same(program)


def test_the_first_ask_finds_it_where_others_wait() -> None:
    """A task that receives in the kernel gives way when any task of the run asks."""

    async def program() -> list[Any]:
        near, far = await tcp_sockets()
        other, another = await tcp_sockets()
        told: list[Any] = []
        with near, far, other, another:
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def receive() -> None:
                    told.append(await far.recv(100))

                await settled()
                try:
                    await another.recv(1, socket.MSG_OOB)
                except OSError as error:
                    told.append(error.errno)
                await settled()
                near._sock.send(b"!", socket.MSG_OOB)
                await settled()
                told.append(urgent(far))
                near._sock.send(b"more")
        return told

    assert same(program) == [22, b"!", b"more"]


def test_a_socket_that_signals_urgent_data() -> None:
    async def program() -> list[Any]:
        near, far = await tcp_sockets()
        told: list[Any] = []
        with near, far, trio.open_signal_receiver(signal.SIGURG) as signals:
            fcntl.fcntl(far._sock.fileno(), fcntl.F_SETOWN, os.getpid())
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def receive() -> None:
                    told.append(await far.recv(100))

                await settled()
                near._sock.send(b"!", socket.MSG_OOB)
                async for _ in signals:
                    told.append(urgent(far))
                    break
                near._sock.send(b"more")
        return told

    assert same(program) == [b"!", b"more"]


@pytest.mark.parametrize("when", ["before", "while it waits"])
@pytest.mark.parametrize("call", RECEIVES)
def test_urgent_data_in_line(call: str, when: str) -> None:
    async def program() -> list[Any]:
        near, far = await tcp_sockets()
        told: list[Any] = []
        with near, far:
            if when == "before":
                far.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def receive() -> None:
                    told.append(await RECEIVES[call](far))
                    told.append(await RECEIVES[call](far))

                await settled()
                far.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
                near._sock.send(b"ab!", socket.MSG_OOB)
                await settled()
        return told

    assert len(same(program)) == 2


def test_a_close_with_urgent_data_unread() -> None:
    """The peer gets a reset."""

    async def program() -> list[Any]:
        near, far = await tcp_sockets()
        told: list[Any] = []
        with near, far:
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def receive() -> None:
                    with pytest.raises(trio.ClosedResourceError):
                        await far.recv_into(bytearray(10))

                await settled()
                near._sock.send(b"!", socket.MSG_OOB)
                await settled()
                far.close()
            try:
                told.append(await near.recv(10))
            except OSError as error:
                told.append(type(error).__name__)
        return told

    assert same(program) == ["ConnectionResetError"]


async def some_ticks() -> None:
    """Stock Trio does not settle while an error queue is not empty: its loop turns."""
    for _ in range(300):
        await trio.lowlevel.checkpoint()


# ---- error queues ----------------------------------------------------------------------------------------


def workers() -> int:
    names = (path.read_text() for path in Path("/proc/self/task").glob("*/comm"))
    return sum(name.startswith("iou-wrk") for name in names)


@pytest.mark.parametrize("how", ["option", "message"])
@pytest.mark.parametrize("when", ["before", "between", "while it waits"])
@pytest.mark.parametrize("call", RECEIVES)
def test_stamps_of_sends(call: str, when: str, how: str) -> None:
    """The task waits on, receives what comes, and no thread of the kernel's waits for it."""
    stamps = (socket.SOL_SOCKET, SO_TIMESTAMPING, STAMPS)

    async def program() -> list[Any]:
        near, far = await tcp_sockets()
        told: list[Any] = []

        async def fill() -> None:
            if how == "option":
                far.setsockopt(*stamps)
                await far.send(b"stamped")
            else:
                await far.sendmsg([b"stamped"], [(*stamps[:2], ONE_STAMP)])

        with near, far:
            if when == "before":
                await fill()
            if when == "between":
                await near.send(b"first")
                told.append(await RECEIVES[call](far))
                await fill()
            async with trio.open_nursery() as nursery:

                @nursery.start_soon
                async def receive() -> None:
                    told.append(await RECEIVES[call](far))

                await some_ticks()
                if when == "while it waits":
                    await fill()
                await some_ticks()
                told.append(workers())
                await near.send(b"data")
            told.append(len(far._sock.recvmsg(100, 1000, socket.MSG_ERRQUEUE)[1]) > 0)
        return told

    assert 0 in same(program)
