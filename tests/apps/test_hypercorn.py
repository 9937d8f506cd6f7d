"""hypercorn with Starlette, asked by httpx: both ends on one ring, plain and TLS, HTTP/1.1 and HTTP/2."""

from __future__ import annotations

import hashlib
import socket
import struct
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest
import trio
from starlette.applications import Starlette
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from tests.apps.serving import MIB, data, hypercorn, submitted

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from starlette.requests import Request


class Application:
    """Routes for every way of answering, and what they saw."""

    def __init__(self, file: Path | None = None) -> None:
        self.clients: set[Any] = set()
        self.versions: set[str] = set()
        self.ended = 0
        self.scopes: dict[str, trio.CancelScope] = {}  # cancelled when the request of that name arrives
        self.file = file
        routes = [
            Route("/", self.text),
            Route("/file", self.send_file),
            Route("/stream/{count:int}", self.stream),
            Route("/upload", self.upload, methods=["POST"]),
            Route("/never", self.never),
        ]
        self.asgi = Starlette(routes=routes)

    async def text(self, request: Request) -> PlainTextResponse:
        self.clients.add(request.scope["client"])
        self.versions.add(request.scope["http_version"])
        return PlainTextResponse(f"hello {request.query_params.get('name', '')}")

    async def send_file(self, request: Request) -> FileResponse:
        assert self.file is not None
        return FileResponse(self.file)

    async def stream(self, request: Request) -> StreamingResponse:
        async def chunks() -> AsyncIterator[bytes]:
            try:
                for number in range(request.path_params["count"]):
                    yield data(10_000, number)
                    await trio.lowlevel.checkpoint()
            finally:
                self.ended += 1

        return StreamingResponse(chunks())

    async def upload(self, request: Request) -> JSONResponse:
        digest, size = hashlib.sha256(), 0
        async for chunk in request.stream():
            digest.update(chunk)
            size += len(chunk)
        return JSONResponse({"sha256": digest.hexdigest(), "size": size})

    async def never(self, request: Request) -> PlainTextResponse:
        if (scope := self.scopes.pop(request.query_params.get("name", ""), None)) is not None:
            scope.cancel()
        await trio.sleep_forever()
        raise AssertionError


def client(tls: Any, **options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(verify=tls.client if tls is not None else False, trust_env=False, **options)


async def test_two_thousand_requests_on_ten_connections(maybe_tls: Any) -> None:
    app = Application()

    async def ask(url: str, name: str) -> None:
        async with client(maybe_tls) as http:
            for number in range(200):
                answer = await http.get(url, params={"name": f"{name}-{number}"})
                assert answer.text == f"hello {name}-{number}"

    async with hypercorn(app.asgi, maybe_tls) as url:
        before = submitted()
        async with trio.open_nursery() as nursery:
            for name in "abcdefghij":
                nursery.start_soon(ask, url, name)
        # Every request is waited for by its server and every answer by its client.
        assert submitted() - before > 2000
    assert len(app.clients) == 10


async def test_ten_thousand_requests_kept_alive(maybe_tls: Any) -> None:
    """Ten connections that say as little as HTTP/1.1 allows, and look at every byte of every answer."""
    app = Application()

    async def ask(url: str, name: str) -> None:
        address = urlsplit(url)
        stream: Any = await trio.open_tcp_stream(address.hostname, address.port)
        if maybe_tls is not None:
            stream = trio.SSLStream(stream, maybe_tls.client, server_hostname="127.0.0.1")
        async with stream:
            pending = b""
            for number in range(1000):
                await stream.send_all(
                    b"GET /?name=%s%d HTTP/1.1\r\nHost: x\r\n\r\n" % (name.encode(), number)
                )
                expected = f"hello {name}{number}".encode()
                while b"\r\n\r\n" not in pending or len(pending.partition(b"\r\n\r\n")[2]) < len(expected):
                    part = await stream.receive_some()
                    assert part, pending
                    pending += part
                head, _, text = pending.partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200")
                assert b"content-length: %d\r\n" % len(expected) in head + b"\r\n"
                assert text == expected
                pending = b""

    async with hypercorn(app.asgi, maybe_tls) as url:
        before = submitted()
        async with trio.open_nursery() as nursery:
            for name in "abcdefghij":
                nursery.start_soon(ask, url, name)
        assert submitted() - before > 10_000
    assert len(app.clients) == 10


async def test_half_of_the_requests_are_cancelled(maybe_tls: Any) -> None:
    """When the server has them: a request that is not cancelled gets its own answer. Not over HTTP/2, where a
    cancelled request of httpcore's takes its connection with it, on stock Trio too."""
    app = Application()
    answered: list[int] = []

    async def ask(http: httpx.AsyncClient, number: int) -> None:
        with trio.CancelScope() as scope:
            if number % 2:
                app.scopes[str(number)] = scope
                await http.get("/never", params={"name": number})
                raise AssertionError
            answer = await http.get("/", params={"name": number})
            assert answer.text == f"hello {number}"
            answered.append(number)

    async with hypercorn(app.asgi, maybe_tls) as url, client(maybe_tls, base_url=url) as http:
        for _ in range(3):
            async with trio.open_nursery() as nursery:
                for number in range(80):
                    nursery.start_soon(ask, http, number)
            assert sorted(answered) == list(range(0, 80, 2))
            assert not app.scopes
            answered.clear()


async def test_http2_carries_requests_side_by_side(tls: Any) -> None:
    app = Application()
    async with hypercorn(app.asgi, tls) as url, client(tls, http2=True) as http:

        async def ask(number: int) -> None:
            answer = await http.get(url, params={"name": number})
            assert (answer.http_version, answer.text) == ("HTTP/2", f"hello {number}")

        await ask(0)
        async with trio.open_nursery() as nursery:
            for number in range(1, 100):
                nursery.start_soon(ask, number)
        body = data(2 * MIB)
        answer = await http.post(f"{url}/upload", content=body)
        assert answer.json() == {"sha256": hashlib.sha256(body).hexdigest(), "size": len(body)}
    assert len(app.clients) == 1
    assert app.versions == {"2"}


async def test_an_upload_of_100_mib() -> None:
    block, count = data(MIB), 100

    async def body() -> AsyncIterator[bytes]:
        for _ in range(count):
            yield block

    async with hypercorn(Application().asgi) as url, client(None) as http:
        answer = await http.post(f"{url}/upload", content=body())
    expected = hashlib.sha256()
    for _ in range(count):
        expected.update(block)
    assert answer.json() == {"sha256": expected.hexdigest(), "size": count * MIB}


async def test_files_and_streams(maybe_tls: Any, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(data(3 * MIB + 1))
    app = Application(file)
    async with hypercorn(app.asgi, maybe_tls) as url, client(maybe_tls) as http:
        answer = await http.get(f"{url}/file")
        assert answer.content == file.read_bytes()
        part = await http.get(f"{url}/file", headers={"Range": "bytes=1000000-1000999"})
        assert (part.status_code, part.content) == (206, answer.content[1_000_000:1_001_000])
        answer = await http.get(f"{url}/stream/200")
        assert answer.content == b"".join(data(10_000, number) for number in range(200))


async def test_clients_that_vanish_or_stop_reading(maybe_tls: Any) -> None:
    """Half of the clients go away in the middle of an answer, each in its own way; the others get theirs."""
    app = Application()
    whole: list[int] = []

    async def read(url: str, number: int) -> None:
        async with client(maybe_tls) as http:
            with trio.CancelScope() as scope:
                async with http.stream("GET", f"{url}/stream/200") as answer:
                    size = 0
                    async for part in answer.aiter_bytes():
                        size += len(part)
                        if number % 2:
                            scope.cancel()
                        elif number % 4 == 0:
                            await trio.sleep(0.0005)
                whole.append(size)

    async def reset(url: str) -> None:
        address = urlsplit(url)
        stream = await trio.open_tcp_stream(address.hostname, address.port)
        if maybe_tls is not None:
            stream = trio.SSLStream(stream, maybe_tls.client, server_hostname="127.0.0.1")
        await stream.send_all(b"GET /stream/100000 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await stream.receive_some(1000)).startswith(b"HTTP/1.1 200")
        plain = getattr(stream, "transport_stream", stream)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await trio.aclose_forcefully(stream)

    async with hypercorn(app.asgi, maybe_tls) as url:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(read, url, number)
            for _ in range(10):
                nursery.start_soon(reset, url)
        async with client(maybe_tls) as http:
            assert (await http.get(url, params={"name": "still here"})).text == "hello still here"
    assert whole == [2_000_000] * 10
    assert app.ended == 30


async def test_timeouts_and_pools_of_the_client() -> None:
    async with hypercorn(Application().asgi) as url:
        async with client(None, timeout=httpx.Timeout(5, read=0.05)) as http:
            with pytest.raises(httpx.ReadTimeout):
                await http.get(f"{url}/never")
            assert (await http.get(url)).status_code == 200
        limits = httpx.Limits(max_connections=1)
        async with client(None, limits=limits, timeout=httpx.Timeout(None, pool=0.05)) as http:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(http.get, f"{url}/never")
                await trio.testing.wait_all_tasks_blocked(0.01)
                with pytest.raises(httpx.PoolTimeout):
                    await http.get(url)
                nursery.cancel_scope.cancel()
            assert (await http.get(url)).status_code == 200


async def test_through_a_proxy(tls: Any) -> None:
    """TLS to the server through a tunnel that is a pair of plain Trio loops."""

    async def tunnel(near: trio.SocketStream) -> None:
        async with near:
            request = b""
            while b"\r\n\r\n" not in request:
                request += await near.receive_some()
            method, target, _ = request.split(b" ", 2)
            assert method == b"CONNECT"
            host, port = target.decode().split(":")
            async with await trio.open_tcp_stream(host, int(port)) as far:
                await near.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(pump, near, far)
                    nursery.start_soon(pump, far, near)

    async def pump(source: trio.SocketStream, sink: trio.SocketStream) -> None:
        try:
            async for part in source:
                await sink.send_all(part)
            await sink.send_eof()
        except trio.BrokenResourceError:
            pass

    async with hypercorn(Application().asgi, tls) as url, trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, tunnel, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        for http2 in (False, True):
            async with client(tls, proxy=f"http://127.0.0.1:{port}", http2=http2) as http:
                body = data(MIB)
                answer = await http.post(f"{url}/upload", content=body)
                assert answer.json()["sha256"] == hashlib.sha256(body).hexdigest()
                assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        nursery.cancel_scope.cancel()
