"""UDP: datagrams whole, with their addresses and control data."""

from __future__ import annotations

import errno
import random
import socket
import struct
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

import uring_trio
from tests.trio.helpers import statistics
from uring_trio import Datagram, UringDatagrams
from uring_trio.testing import leased

if TYPE_CHECKING:
    from collections.abc import Callable

HOSTS = pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
IP_PKTINFO = 8
IP_RECVTOS = 13


async def first(items: Any) -> Any:
    return await items.__anext__()


@HOSTS
async def test_exchanges_datagrams(host: str) -> None:
    async with await uring_trio.open_udp((host, 0)) as server:
        async with await uring_trio.open_udp(None, server.address[:2]) as client:
            for size in (0, 1, 1000, 65507 if host == "127.0.0.1" else 65487):
                data = random.Random(size).randbytes(size)
                await client.send(data)
                got = await server.receive()
                assert got.data == data
                assert got.address == client.address
                assert not got.truncated
                await server.send_to(data, got.address)
                assert (await client.receive()).data == data


@HOSTS
async def test_one_request_brings_many_datagrams(host: str) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(await uring_trio.open_udp((host, 0)))
        address = server.address[:2]
        clients = [
            await stack.enter_async_context(await uring_trio.open_udp(None, address)) for _ in range(3)
        ]
        async with server.datagrams() as incoming:
            for i in range(40):
                client = clients[i % 3]
                data = b"%d" % i
                before = statistics().submitted
                await client.send(data)
                assert await first(incoming) == Datagram(data, client.address, [], 0)
                await wait_all_tasks_blocked()
                if i:
                    assert statistics().submitted == before


async def test_datagrams_without_payload() -> None:
    """The kernel ends a multishot at each of them; the iteration goes on."""
    async with await uring_trio.open_udp(("127.0.0.1", 0)) as server:
        async with await uring_trio.open_udp(None, server.address) as client:
            async with server.datagrams(buffers=4) as incoming:
                for data in (b"", b"x", b"", b"", b"y") * 4:
                    await client.send(data)
                for data in (b"", b"x", b"", b"", b"y") * 4:
                    assert (await first(incoming)).data == data


async def test_more_datagrams_than_buffers() -> None:
    async with await uring_trio.open_udp(("127.0.0.1", 0)) as server:
        async with await uring_trio.open_udp(None, server.address) as client:
            async with server.datagrams(size=100, buffers=3) as incoming:
                for i in range(50):
                    await client.send(b"%d" % i)
                for i in range(50):
                    assert (await first(incoming)).data == b"%d" % i


@pytest.mark.parametrize("by_subscription", [True, False])
async def test_says_what_was_cut_off(by_subscription: bool) -> None:
    async with await uring_trio.open_udp(("127.0.0.1", 0)) as server:
        async with await uring_trio.open_udp(None, server.address) as client:
            for data in (b"12345678", b"1234"):
                await client.send(data)
            if by_subscription:
                async with server.datagrams(size=5) as incoming:
                    long, short = await first(incoming), await first(incoming)
            else:
                long, short = await server.receive(5), await server.receive(5)
            assert (long.data, long.truncated) == (b"12345", True)
            assert (short.data, short.truncated) == (b"1234", False)


@pytest.mark.parametrize("by_subscription", [True, False])
async def test_control_messages(by_subscription: bool) -> None:
    async with await uring_trio.open_udp(("127.0.0.1", 0)) as server:
        server.socket.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        server.socket.setsockopt(socket.IPPROTO_IP, IP_RECVTOS, 1)
        async with await uring_trio.open_udp(None, server.address) as client:
            await client.send(b"data")
            if by_subscription:
                async with server.datagrams(control_size=200) as incoming:
                    got = await first(incoming)
            else:
                got = await server.receive(control_size=200)
    assert got.data == b"data"
    found = {kind: data for level, kind, data in got.control if level == socket.IPPROTO_IP}
    index, _, destination = struct.unpack("=I4s4s", found[IP_PKTINFO])
    assert socket.inet_ntoa(destination) == "127.0.0.1"
    assert socket.if_indextoname(index) == "lo"
    assert found[1] == b"\0"  # the type of service itself


async def test_what_the_network_reports_does_not_end_the_iteration() -> None:
    async with await uring_trio.open_udp(("127.0.0.1", 0)) as gone:
        address = gone.address
    async with await uring_trio.open_udp(("127.0.0.1", 0), address) as client:
        async with client.datagrams() as incoming:
            await client.send(b"is anybody there?")
            with pytest.raises(ConnectionRefusedError):
                await first(incoming)
            async with await uring_trio.open_udp(address, client.address) as server:
                await server.send(b"now there is")
                assert (await first(incoming)).data == b"now there is"


async def test_leaving_the_block_gives_the_buffers_back() -> None:
    async with await uring_trio.open_udp(("127.0.0.1", 0)) as server:
        async with await uring_trio.open_udp(None, server.address) as client:
            async with server.datagrams() as incoming:
                for _ in range(5):
                    await client.send(b"x")
                await first(incoming)
                await wait_all_tasks_blocked()
                assert leased() > 0
            assert leased() == 0
            await client.send(b"after")
            assert (await server.receive()).data == b"after"


async def test_two_receivers() -> None:
    async with await uring_trio.open_udp(("127.0.0.1", 0)) as server:
        async with server.datagrams():
            with pytest.raises(trio.BusyResourceError):
                async with server.datagrams():
                    raise AssertionError("entered")
            with pytest.raises(trio.BusyResourceError):
                await server.receive()


async def test_closing_wakes_who_waits() -> None:
    async def wait(receive: Callable[[], Any]) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await receive()

    server = await uring_trio.open_udp(("127.0.0.1", 0))
    async with server.datagrams() as incoming, trio.open_nursery() as nursery:
        nursery.start_soon(wait, incoming.__anext__)
        await wait_all_tasks_blocked()
        await server.aclose()
    server = await uring_trio.open_udp(("127.0.0.1", 0))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, server.receive)
        await wait_all_tasks_blocked()
        await server.aclose()
    for use in (server.receive, lambda: server.send(b""), lambda: server.send_to(b"", ("127.0.0.1", 9))):
        with pytest.raises(trio.ClosedResourceError):
            await use()
    await server.aclose()


async def test_wraps_udp_sockets_of_a_ring_run_only() -> None:
    near, far = trio.socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with near, far:
        with pytest.raises(ValueError, match="UDP"):
            UringDatagrams(near)
    with pytest.raises(TypeError):
        UringDatagrams(socket.socket)


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        (("localhost", 9), ValueError),
        (("127.0.0.1",), TypeError),
        (("127.0.0.1", 70000), OverflowError),
        (None, TypeError),
    ],
    ids=str,
)
async def test_addresses_that_are_none(address: Any, kind: type[Exception]) -> None:
    async with await uring_trio.open_udp() as udp:
        await wait_all_tasks_blocked()
        before = statistics().submitted
        with pytest.raises(kind):
            await udp.send_to(b"x", address)
        assert statistics().submitted == before


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({"size": 0}, ValueError),
        ({"size": "1"}, TypeError),
        ({"control_size": -1}, ValueError),
        ({"buffers": 0}, ValueError),
        ({"buffers": 20000}, ValueError),
    ],
    ids=str,
)
async def test_sizes_that_are_none(arguments: dict[str, Any], kind: type[Exception]) -> None:
    async with await uring_trio.open_udp() as udp:
        with pytest.raises(kind):
            async with udp.datagrams(**arguments):
                raise AssertionError("entered")


async def test_sending_without_a_remote() -> None:
    async with await uring_trio.open_udp() as udp:
        with pytest.raises(OSError) as caught:
            await udp.send(b"x")
        assert caught.value.errno == errno.EDESTADDRREQ


async def test_opens_where_asked() -> None:
    async with await uring_trio.open_udp(("127.0.0.1", 0), reuse_port=True) as one:
        async with await uring_trio.open_udp(one.address, reuse_port=True) as two:
            assert one.address == two.address
        with pytest.raises(OSError, match="bind"):
            await uring_trio.open_udp(one.address)
    with pytest.raises(TypeError):
        await uring_trio.open_udp("127.0.0.1")


async def test_a_cancelled_receive_loses_no_datagram() -> None:
    async with await uring_trio.open_udp(("127.0.0.1", 0)) as server:
        async with await uring_trio.open_udp(None, server.address) as client:
            got = []
            async with server.datagrams() as incoming, trio.open_nursery() as nursery:

                async def send() -> None:
                    for i in range(100):
                        await client.send(b"%d" % i)
                        await trio.sleep(0.0005)

                nursery.start_soon(send)
                while len(got) < 100:
                    with trio.move_on_after(0.001):
                        got.append((await first(incoming)).data)
    assert got == [b"%d" % i for i in range(100)]
