"""Errors of calls that waited: what they say, and that no attempt before the wait is their context. And what
a call that waits sees of a list which the program changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.trio.bothways import pair, same, turns
from tests.trio.helpers import fill_now

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


async def failure(call: Callable[..., Awaitable[Any]], *args: Any) -> tuple[Any, ...]:
    try:
        await call(*args)
    except (OSError, trio.Cancelled, trio.BusyResourceError, trio.ClosedResourceError) as exc:
        return type(exc), str(exc).split(" from ")[0], exc.__context__, exc.__suppress_context__
    raise AssertionError


@pytest.mark.parametrize("end", ["cancel", "close", "second"])
@pytest.mark.parametrize("name", ["send", "send_all"])
def test_a_send_that_waited_fails_without_a_context(name: str, end: str) -> None:
    async def main() -> list[Any]:
        async with pair() as (near, _):
            send = near.send if name == "send" else trio.SocketStream(near).send_all
            fill_now(near._sock)
            found: list[Any] = []

            async def sender() -> None:
                found.append(await failure(send, b"data"))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(sender)
                await turns()
                if end == "second":
                    found.append(await failure(near.send, b"more"))
                if end == "close":
                    near.close()
                else:
                    nursery.cancel_scope.cancel()
            return found

    assert all(context is None for _, _, context, _ in same(main))


@pytest.mark.parametrize("name", ["recv", "receive_some"])
def test_a_second_receive_is_refused_without_a_context(name: str) -> None:
    async def main() -> tuple[Any, ...]:
        async with pair() as (_, far):
            receive = far.recv if name == "recv" else trio.SocketStream(far).receive_some
            async with trio.open_nursery() as nursery:
                nursery.start_soon(receive, 100)
                await turns()
                found = await failure(receive, 100)
                nursery.cancel_scope.cancel()
            return found

    assert same(main)[2] is None


def test_a_call_that_waits_sees_what_becomes_of_its_list() -> None:
    async def main() -> list[Any]:
        async with pair() as (near, far):
            buffers = [bytearray(2)]
            found: list[Any] = []

            async def receiver() -> None:
                found.append((await far.recvmsg_into(buffers))[0])

            async with trio.open_nursery() as nursery:
                nursery.start_soon(receiver)
                await turns()
                buffers[:] = [bytearray(1), bytearray(3)]
                await near.send(b"123456")
            return [found, buffers]

    assert same(main) == [[4], [bytearray(b"1"), bytearray(b"234")]]
