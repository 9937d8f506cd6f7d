"""Times and sizes of any magnitude: what stock Trio makes of them, the ring makes of them too."""

from __future__ import annotations

import errno
import socket as _stdlib
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

import pytest
import trio

import uring_trio
from uring import addresses, ops
from uring_trio import RingOptions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

pytestmark = pytest.mark.ring

FAR = (1e10, 1e19, 1e300, inf)
PAST = (0.0, -1.0, -1e19, -inf)
MODES = ("auto", "link", "cancel")


def both(fn: Callable[[], Awaitable[Any]], options: RingOptions | None = None) -> tuple[Any, Any]:
    """What stock Trio and the ring make of it: the result, or the error."""
    return attempt(partial(trio.run, fn)), attempt(partial(uring_trio.run, fn, ring=options))


def attempt(fn: Callable[[], Any]) -> Any:
    try:
        return fn()
    except Exception as exc:
        return type(exc), getattr(exc, "errno", None)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("deadline", [*FAR, *PAST])
@pytest.mark.parametrize("there", [False, True], ids=["waits", "at once"])
def test_a_deadline_of_any_size(deadline: float, mode: Any, there: bool) -> None:
    async def main() -> object:
        near, far = trio.socket.socketpair()
        with near, far:
            await near.send(b"first")
            assert await far.recv(10) == b"first"
            async with trio.open_nursery() as nursery:
                if there:
                    await near.send(b"x")
                elif deadline > 0:
                    nursery.start_soon(near.send, b"x")
                with trio.CancelScope(deadline=deadline) as scope:
                    return await far.recv(10)
            return scope.cancelled_caught

    stock, ring = both(main, RingOptions(deadlines=mode))
    assert stock == ring == (b"x" if deadline > 0 else True)


@pytest.mark.parametrize("seconds", [*FAR, 1 << 63])
def test_a_time_limit_of_any_size(seconds: float) -> None:
    async def main() -> None:
        assert await uring_trio.perform(ops.nop(), timeout=seconds) == 0
        near, far = trio.socket.socketpair()
        async with uring_trio.UringStream(near) as one, uring_trio.UringStream(far) as other:
            for receive in (
                partial(one.receive_some, 10, timeout=seconds),
                partial(one.receive_into, bytearray(10), timeout=seconds),
            ):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(receive)
                    await trio.testing.wait_all_tasks_blocked()
                    await other.send_all(b"x")

    uring_trio.run(main)


@pytest.mark.parametrize("seconds", [-1, -inf, float("nan")])
def test_no_time_limit(seconds: float) -> None:
    """As `trio.fail_after` has it."""

    async def main() -> None:
        with pytest.raises(ValueError):
            trio.fail_after(seconds).__enter__()
        with pytest.raises(ValueError):
            await uring_trio.perform(ops.nop(), timeout=seconds)
        with pytest.raises(OverflowError):
            trio.fail_after(10**400).__enter__()
        with pytest.raises(OverflowError):
            await uring_trio.perform(ops.nop(), timeout=10**400)

    uring_trio.run(main)


SIZES = (0, -1, 1, (1 << 31) - 1, 1 << 31, 1 << 62, (1 << 63) - 1, 1 << 63, 1 << 64, -(1 << 63), -(1 << 64))
CALLS = {
    "recv": lambda sock, n: sock.recv(n),
    "recvfrom": lambda sock, n: sock.recvfrom(n),
    "recv_into": lambda sock, n: sock.recv_into(bytearray(10), n),
    "recvfrom_into": lambda sock, n: sock.recvfrom_into(bytearray(10), n),
    "recvmsg": lambda sock, n: sock.recvmsg(n),
    "recvmsg, ancillary": lambda sock, n: sock.recvmsg(10, n),
    "recvmsg_into": lambda sock, n: sock.recvmsg_into([bytearray(10)], n),
    "flags": lambda sock, n: sock.recv(10, n),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", [_stdlib.SOCK_STREAM, _stdlib.SOCK_DGRAM])
def test_a_size_of_any_magnitude(call: str, kind: int) -> None:
    def receive(n: int) -> Callable[[], Awaitable[object]]:
        async def main() -> object:
            near, far = trio.socket.socketpair(_stdlib.AF_UNIX, kind)
            with near, far:
                for _ in range(2):  # a first receive may go another way
                    await near.send(b"first")
                    assert await far.recv(10) == b"first"
                await near.send(b"data")
                return await CALLS[call](far, n)

        return main

    told = [(n, *both(receive(n))) for n in SIZES if not (call == "flags" and 0 < n < 1 << 63)]
    assert [(n, stock) for n, stock, _ in told] == [(n, ring) for n, _, ring in told]


@pytest.mark.parametrize("count", [1023, 1024, 1025, 5000])
@pytest.mark.parametrize("call", ["sendmsg", "recvmsg_into"])
def test_any_number_of_buffers(call: str, count: int) -> None:
    """The kernel takes 1024 in one message."""

    async def main() -> object:
        near, far = trio.socket.socketpair()
        with near, far:
            await near.send(b"first")
            assert await far.recv(10) == b"first"
            if call == "sendmsg":
                return await near.sendmsg([b"x"] * count)
            await near.send(b"y" * 100)
            return await far.recvmsg_into([bytearray(1) for _ in range(count)])

    stock, ring = both(main)
    assert stock == ring
    if count > 1024:
        assert stock == (OSError, errno.EMSGSIZE)


@pytest.mark.parametrize("rest", [(1 << 64,), (-1,), (0, 1 << 32), (0, -1), (0x100000, 0)])
def test_parts_of_an_address_that_are_too_large(rest: tuple[int, ...]) -> None:
    """The `socket` module has the same exception where it looks."""
    with pytest.raises(OverflowError):
        addresses.encode_address(_stdlib.AF_INET6, ("::1", 80, *rest))
    if rest[0] in (0x100000, -1):  # of the others it takes the lower 32 bits
        with _stdlib.socket(_stdlib.AF_INET6) as sock, pytest.raises(OverflowError):
            sock.connect(("::1", 80, *rest))


@pytest.mark.parametrize("rest", [("x",), (1.5,), (None, 0), (0, "lo")])
def test_parts_of_an_address_that_are_no_numbers(rest: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        addresses.encode_address(_stdlib.AF_INET6, ("::1", 80, *rest))
    with _stdlib.socket(_stdlib.AF_INET6) as sock, pytest.raises(TypeError):
        sock.connect(("::1", 80, *rest))


def test_addresses_that_are_none() -> None:
    with pytest.raises(ValueError, match="no interface"):
        addresses.encode_address(_stdlib.AF_INET6, ("fe80::1%nothing_like_it", 80))
    for family, least in ((_stdlib.AF_INET, 16), (_stdlib.AF_INET6, 28)):
        whole = addresses.encode_address(family, ("::1" if family == _stdlib.AF_INET6 else "127.0.0.1", 80))
        assert len(whole) == least
        for size in range(2, least):
            with pytest.raises(ValueError, match=f"has {least} bytes"):
                addresses.decode_address(whole[:size])
