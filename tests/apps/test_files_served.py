"""Files that frameworks serve and store with names they imported before the ring came: all are the ring's."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import pytest
import quart
import trio
from quart_trio import QuartTrio
from starlette.applications import Starlette
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

import uring_trio
from tests.apps.serving import MIB, data, hypercorn
from uring_trio.fs.descriptor import Descriptor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.requests import Request


@pytest.fixture
def installed() -> Iterator[None]:
    uring_trio.install(files=True)
    yield
    uring_trio.uninstall()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were opened on the ring."""
    names: list[str] = []
    make = Descriptor.__init__

    def note(self: Descriptor, raw: Any) -> None:
        names.append(str(raw.name))
        make(self, raw)

    monkeypatch.setattr(Descriptor, "__init__", note)
    return names


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "file.bin"
    found.write_bytes(data(2 * MIB + 1))
    return found


def client() -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False)


async def test_starlette(installed: None, opened: list[str], file: Path) -> None:
    async def send(request: Request) -> FileResponse:
        return FileResponse(file)

    app = Starlette(routes=[Route("/file", send), Mount("/static", StaticFiles(directory=file.parent))])
    content = file.read_bytes()
    async with hypercorn(app) as url, client() as http:
        for number in range(3):
            answer = await http.get(f"{url}/file")
            assert answer.content == content
            assert len(opened) == number + 1
        for asked, status, expected in (
            ("bytes=1000000-1000999", 206, content[1_000_000:1_001_000]),
            ("bytes=-7", 206, content[-7:]),
            ("bytes=9999999-", 416, None),
        ):
            answer = await http.get(f"{url}/file", headers={"Range": asked})
            assert answer.status_code == status
            assert expected is None or answer.content == expected
        assert (await http.get(f"{url}/static/file.bin")).content == content
        assert (await http.get(f"{url}/static/missing")).status_code == 404
        assert (await http.head(f"{url}/file")).headers["content-length"] == str(len(content))
    assert opened == [str(file)] * 6


async def test_starlette_client_goes_away(installed: None, opened: list[str], file: Path) -> None:
    async def send(request: Request) -> FileResponse:
        return FileResponse(file)

    async with hypercorn(Starlette(routes=[Route("/", send)])) as url:
        address = urlsplit(url)
        for _ in range(5):
            async with await trio.open_tcp_stream(address.hostname, address.port) as stream:
                await stream.send_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (await stream.receive_some(1000)).startswith(b"HTTP/1.1 200")
        async with client() as http:
            assert (await http.get(url)).content == file.read_bytes()
    assert 1 <= len(opened) <= 6  # a client may be gone before its file is opened


async def test_quart(installed: None, opened: list[str], file: Path, tmp_path: Path) -> None:
    app = QuartTrio(__name__, root_path=str(tmp_path))
    stored = tmp_path / "stored"

    @app.get("/file")
    async def send() -> Any:
        return await quart.send_file(file, conditional=True)

    @app.get("/resource")
    async def resource() -> Any:
        async with await app.open_resource("file.bin") as opened_file:
            return hashlib.sha256(await opened_file.read()).hexdigest()

    @app.post("/store")
    async def store() -> Any:
        files = await quart.request.files
        await files["upload"].save(stored)
        return {}

    content = file.read_bytes()
    async with hypercorn(app) as url, client() as http:
        assert (await http.get(f"{url}/file")).content == content
        answer = await http.get(f"{url}/file", headers={"Range": "bytes=5-104"})
        assert (answer.status_code, answer.content) == (206, content[5:105])
        assert opened == [str(file)] * 2
        assert (await http.get(f"{url}/resource")).text == hashlib.sha256(content).hexdigest()
        answer = await http.post(f"{url}/store", files={"upload": content[: MIB // 2]})
        assert answer.status_code == 200
    assert stored.read_bytes() == content[: MIB // 2]
    assert opened == [str(file)] * 3 + [str(stored)]


async def test_anyio_paths_and_uploads(installed: None, opened: list[str], tmp_path: Path) -> None:
    """What applications do with AnyIO themselves."""
    import anyio

    async def keep(request: Request) -> JSONResponse:
        place = anyio.Path(tmp_path) / "kept" / "part"
        await place.parent.mkdir(parents=True, exist_ok=True)
        async with await place.open("wb") as sink:
            async for chunk in request.stream():
                await sink.write(chunk)
        return JSONResponse({"size": (await place.stat()).st_size})

    body = data(MIB + 3)
    async with hypercorn(Starlette(routes=[Route("/", keep, methods=["POST"])])) as url, client() as http:
        answer = await http.post(url, content=body)
    assert answer.json() == {"size": len(body)}
    assert (tmp_path / "kept" / "part").read_bytes() == body
    assert opened == [str(tmp_path / "kept" / "part")]


def test_nothing_of_it_is_left(file: Path) -> None:
    before = trio.open_file.__code__
    uring_trio.install(files=True)
    assert trio.open_file.__code__ is not before
    uring_trio.uninstall()
    assert trio.open_file.__code__ is before
