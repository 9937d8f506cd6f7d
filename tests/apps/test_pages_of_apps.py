"""The programs on the pages of FastAPI, MCP servers and websockets, with real clients."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
from mcp import StdioServerParameters
from mcp.client import Client
from mcp.client.stdio import stdio_client
from websockets.trio.client import connect

from tests.apps.launched import PROGRAMS, assert_on_ring, environment, hypercorn, server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[str]:
    """The address of the API of notes, kept in the test's folder."""
    with hypercorn("notes_api:app", NOTES=str(tmp_path)) as url:
        yield url


def test_fastapi(notes: str, tmp_path: Path) -> None:
    with httpx.Client(base_url=notes, trust_env=False) as client:
        assert client.get("/backend").json() == "io_uring"
        assert client.put("/notes/shopping", json={"text": "milk"}).status_code == 204
        assert (tmp_path / "shopping.txt").read_text() == "milk"
        assert client.get("/notes/shopping").json() == {"text": "milk"}
        assert client.get("/notes/shopping/file").content == b"milk"
        assert client.get("/names").json() == ["shopping"]
        missing = client.get("/notes/nothing")
        assert (missing.status_code, missing.json()["detail"]) == (404, "there is no note nothing")
        assert client.put("/notes/shopping", json={"txt": "milk"}).status_code == 422
        assert client.get("/notes/..%2Fetc").status_code in (404, 422)


def text(result: Any) -> str:
    """The one text that a tool answers with."""
    (content,) = result.content
    return str(content.text)


async def use(client: Client) -> None:
    async with client:
        names = {tool.name for tool in (await client.list_tools()).tools}
        assert names == {"write_note", "read_note", "backend"}
        assert text(await client.call_tool("backend", {})) == "io_uring"
        assert text(await client.call_tool("write_note", {"name": "todo", "text": "rest"})) == "4 characters"
        assert text(await client.call_tool("read_note", {"name": "todo"})) == "rest"
        assert (await client.call_tool("read_note", {"name": "../todo"})).is_error


async def test_mcp_over_pipes(tmp_path: Path) -> None:
    command = StdioServerParameters(
        command=sys.executable,
        args=[str(PROGRAMS / "notes_mcp.py")],
        env=environment(NOTES=str(tmp_path), PYTHONWARNINGS="default"),
    )
    with open(tmp_path / "errors", "w+") as errors:
        await use(Client(stdio_client(command, errlog=errors)))
        errors.seek(0)
        assert_on_ring(errors.readlines()[-1])
    assert (tmp_path / "todo.txt").read_text() == "rest"


async def test_mcp_over_http(tmp_path: Path) -> None:
    with hypercorn("notes_mcp:app", NOTES=str(tmp_path), PYTHONWARNINGS="default") as url:
        await use(Client(f"{url}/mcp"))
    assert (tmp_path / "todo.txt").read_text() == "rest"


async def test_websockets() -> None:
    members, texts = 10, [f"text {number}" for number in range(20)]
    heard: list[list[str | bytes]] = []

    async def member(url: str, task_status: trio.TaskStatus[None]) -> None:
        async with connect(url) as client:
            await client.ping()
            task_status.started()
            heard.append([await client.recv() for _ in texts])

    command = (sys.executable, "websockets_room.py", "--port", "0")
    with server(*command, listening=r"listening on (\S+)") as address:
        async with trio.open_nursery() as nursery:
            for _ in range(members):
                await nursery.start(member, f"ws://{address}")
            async with connect(f"ws://{address}") as speaker:
                for text in texts:
                    await speaker.send(text)
                assert [await speaker.recv() for _ in texts] == texts
        async with connect(f"ws://{address}") as late:
            await late.send(b"\0" * 100_000)
            assert await late.recv() == b"\0" * 100_000
    assert heard == [texts] * members
