"""``serve_tcp``, Trio's own and that of `uring_trio`: clients, ports, handlers that fail."""

from __future__ import annotations

import errno
import socket
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import raises_inside
from uring_trio import UringStream
from uring_trio.net import listener as listener_module

if TYPE_CHECKING:
    from collections.abc import Callable


async def echo(stream: UringStream) -> None:
    while data := await stream.receive_some():
        await stream.send_all(data)


SERVERS: dict[str, Callable[..., Any]] = {"trio": trio.serve_tcp, "uring_trio": uring_trio.serve_tcp}

BOTH = pytest.mark.parametrize("serve", SERVERS.values(), ids=SERVERS)
"""What is said of serve_tcp holds for Trio's own as well."""


def address_of(listener: Any) -> tuple[str, int]:
    host, port = listener.socket.getsockname()[:2]
    return ("127.0.0.1" if host == "0.0.0.0" else "::1" if host == "::" else host), port


@BOTH
async def test_serves_clients_at_the_same_time(serve: Any) -> None:
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(
            lambda task_status: serve(echo, 0, host="127.0.0.1", task_status=task_status)
        )

        async def talk(number: int) -> None:
            stream = await uring_trio.open_tcp_stream(*address_of(listeners[0]))
            async with stream:
                for turn in range(5):
                    line = f"{number} {turn}".encode()
                    await stream.send_all(line)
                    assert await stream.receive_some() == line

        async with trio.open_nursery() as clients:
            for number in range(20):
                clients.start_soon(talk, number)
        nursery.cancel_scope.cancel()


@BOTH
async def test_serves_every_address_on_one_port_each(serve: Any) -> None:
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(lambda task_status: serve(echo, 0, task_status=task_status))
        assert {listener.socket.family for listener in listeners} == {socket.AF_INET, socket.AF_INET6}
        for listener in listeners:
            async with await uring_trio.open_tcp_stream(*address_of(listener)) as stream:
                await stream.send_all(b"hello")
                assert await stream.receive_some() == b"hello"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("taken", [1, 3, 16])
async def test_a_port_that_is_free_for_one_address_only(taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    others: list[socket.socket] = []
    attempts = 0

    async def open_one(family: int, address: Any, *args: Any, **options: Any) -> uring_trio.UringListener:
        nonlocal attempts
        listener = await open_listener(family, address, *args, **options)
        if address[1] == 0:
            attempts += 1
            if attempts <= taken:
                with suppress(OSError):  # then somebody else on this machine has it, which is as good
                    others.append(socket.create_server(("0.0.0.0", listener.address[1])))
        return listener

    open_listener = listener_module.open_listener
    monkeypatch.setattr(listener_module, "open_listener", open_one)
    try:
        with nullcontext() if taken < 16 else raises_inside(OSError):
            async with trio.open_nursery() as nursery:
                six, four = await nursery.start(uring_trio.serve_tcp, echo, 0)
                assert six.address[1] == four.address[1]
                assert six.address[1] not in {other.getsockname()[1] for other in others}
                nursery.cancel_scope.cancel()
    finally:
        for other in others:
            other.close()
    assert attempts == 16 if taken == 16 else attempts > taken


@BOTH
async def test_a_failing_handler_ends_the_server(serve: Any) -> None:
    async def fail(stream: Any) -> None:
        raise LookupError("the handler failed")

    with raises_inside(LookupError):
        async with trio.open_nursery() as nursery:
            [listener] = await nursery.start(
                lambda task_status: serve(fail, 0, host="127.0.0.1", task_status=task_status)
            )
            address = address_of(listener)
            with socket.create_connection(address) as client:
                await trio.to_thread.run_sync(client.recv, 1)
                await trio.sleep_forever()
    assert listener.socket.fileno() == -1


@BOTH
async def test_handlers_may_run_elsewhere(serve: Any) -> None:
    """With a nursery of its own a handler outlives the server."""
    ended = []

    async def handler(stream: Any) -> None:
        await stream.receive_some()
        await stream.send_all(b"still here")
        ended.append(stream)

    async with trio.open_nursery() as handlers:
        async with trio.open_nursery() as nursery:
            [listener] = await nursery.start(
                lambda task_status: serve(
                    handler, 0, host="127.0.0.1", handler_nursery=handlers, task_status=task_status
                )
            )
            client = await uring_trio.open_tcp_stream(*address_of(listener))
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert listener.socket.fileno() == -1
        assert not ended
        await client.send_all(b"x")
        assert await client.receive_some() == b"still here"
    assert len(ended) == 1
    assert ended[0].socket.fileno() == -1
    await client.aclose()


@BOTH
async def test_a_port_in_use_fails_before_it_starts(serve: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError) as caught:
        await serve(echo, taken.getsockname()[1], host="127.0.0.1")
    assert caught.value.errno == errno.EADDRINUSE


@BOTH
async def test_a_client_that_resets_does_not_end_the_server(serve: Any) -> None:
    async def careful(stream: Any) -> None:
        try:
            await echo(stream)
        except trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(
            lambda task_status: serve(careful, 0, host="127.0.0.1", task_status=task_status)
        )
        for _ in range(5):
            client = socket.create_connection(address_of(listener))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            client.close()
            await wait_all_tasks_blocked()
        async with await uring_trio.open_tcp_stream(*address_of(listener)) as stream:
            await stream.send_all(b"alive")
            assert await stream.receive_some() == b"alive"
        nursery.cancel_scope.cancel()
