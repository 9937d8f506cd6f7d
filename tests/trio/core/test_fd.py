"""Descriptors in a run: what ends with a descriptor, and a number that goes to another file.

The tests with a number are the races of the scripted ring with real sockets. The kernel decides which side
wins; either way nothing is lost and nobody waits for ever.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.trio.helpers import fill, later, tcp_sockets, unix_sockets
from uring_trio.core.engine import current


async def test_a_number_used_again_is_another_file() -> None:
    """A descriptor is closed without notice, and a socket of the run gets its number."""
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


async def test_an_fd_ends_with_its_socket() -> None:
    await wait_all_tasks_blocked()  # Trio's own tasks too
    before = len(current().owners)
    near, far = await tcp_sockets()
    with near, far:
        await near.send(b"x")
        await far.recv(1)
        assert len(current().owners) > before
    assert len(current().owners) == before


async def test_race_11_close_ends_what_is_pending() -> None:
    near, far = await unix_sockets()
    ended = []

    async def end(fn: Any, *args: Any) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await fn(*args)
        ended.append(fn)

    await fill(near)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(end, near.recv, 10)
        nursery.start_soon(end, near.send, b"x")
        await wait_all_tasks_blocked()
        near.close()
    assert len(ended) == 2
    far.close()


async def test_race_11_a_socket_used_again_after_notify_closing() -> None:
    near, far = await unix_sockets()
    for end in (trio.lowlevel.notify_closing, lambda sock: sock.close()):
        async with trio.open_nursery() as nursery:

            async def receive() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await near.recv(10)

            nursery.start_soon(receive)
            await wait_all_tasks_blocked()
            end(near)
    far.close()


async def test_race_12_the_number_goes_to_another_file_in_the_tick_of_the_close() -> None:
    for _ in range(20):
        near, far = await unix_sockets()
        number = near.fileno()
        async with trio.open_nursery() as nursery:

            async def receive(near: Any = near) -> None:
                with pytest.raises((trio.ClosedResourceError, OSError)):
                    await near.recv(10)

            nursery.start_soon(receive)
            await trio.lowlevel.checkpoint()
            near.close()
            left, right = trio.socket.socketpair()
            assert number in (left.fileno(), right.fileno())
            left._sock.send(b"mine")
            assert await right.recv(10) == b"mine"
            right._sock.send(b"yours")
            assert await left.recv(10) == b"yours"
        for sock in (far, left, right):
            sock.close()


async def test_race_34_closed_in_the_tick_its_operation_was_queued() -> None:
    near, far = await unix_sockets()
    listener = trio.socket.socket()
    await listener.bind(("127.0.0.1", 0))
    listener.listen(5)
    address = listener.getsockname()
    started = []

    async def pend(fn: Any, *args: Any) -> None:
        started.append(fn)
        with pytest.raises((trio.ClosedResourceError, OSError)):
            await fn(*args)

    async def close() -> None:
        while len(started) < 2:
            await trio.lowlevel.checkpoint()
        near.close()
        listener.close()
        # In the same step.
        assert far._sock.recv(10, socket.MSG_DONTWAIT) == b""
        again = socket.socket()
        again.bind(address)
        again.listen(1)
        again.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pend, near.recv, 10)
        nursery.start_soon(pend, listener.accept)
        nursery.start_soon(close)
    far.close()
