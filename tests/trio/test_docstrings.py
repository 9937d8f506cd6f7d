"""The code in docstrings of both packages runs, each block on a ring run, with a peer that it needs.

A block is an indented part of a docstring that is Python. It runs as it stands, as the body of a function
whose global names are those of its case below.
"""

from __future__ import annotations

import ast
import os
import re
import select
import socket
import tempfile
import textwrap
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

import uring_trio
from tests.newer import since
from tests.trio.helpers import streams
from uring import ops
from uring_trio import metrics
from uring_trio.testing import no_leaks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

SOURCES = Path(__file__).parents[2] / "src"
SECONDS = 60
HEADING = re.compile(r"[A-Z]\w+:$")


def indented(text: str) -> Iterator[str]:
    """The indented parts of a docstring after an empty line, as `Args:` and the like have none."""
    for before, part in re.findall(r"^(.*)\n\n((?:    .*\n|\n)+)", text + "\n", re.MULTILINE):
        if not HEADING.match(before) and not before.startswith("    "):
            yield textwrap.dedent(part).strip()


def is_python(text: str) -> bool:
    try:
        compile(text, "block", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    except SyntaxError:
        return False
    return True


def found() -> dict[str, str]:
    """Each block by the module and name that has it."""
    blocks: dict[str, str] = {}
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                name = f"{path.relative_to(SOURCES).with_suffix('')}:{getattr(node, 'name', '')}"
                for block in filter(is_python, indented(ast.get_docstring(node) or "")):
                    assert name not in blocks, f"two blocks in {name}"
                    blocks[name] = block
    return blocks


BLOCKS = found()


class Used:
    """`use` of a block: keeps what it is given, and ends the block after so many."""

    def __init__(self, most: int = 1000) -> None:
        self.values: list[Any] = []
        self.names: dict[str, Any] = {}
        self.scope = trio.CancelScope()
        self.most = most

    def __call__(self, value: Any) -> None:
        self.values.append(value)
        if len(self.values) == self.most:
            self.scope.cancel()


async def run(block: str, used: Used, **names: Any) -> None:
    space: dict[str, Any] = {"uring_trio": uring_trio, "select": select, "ops": ops, "use": used, **names}
    body = textwrap.indent(block, "    ")
    exec(compile(f"async def block():\n{body}\n    return locals()\n", "block", "exec"), space)
    with used.scope:
        used.names = await space["block"]()


async def figures(block: str) -> None:
    use = Used()
    await run(block, use)
    assert use.names["text"].endswith("# EOF\n")
    assert use.names["app"] is metrics.app


async def registered(block: str) -> None:
    with tempfile.NamedTemporaryFile() as made:
        made.write(b"0123456789")
        made.flush()
        taken: list[bytes] = []
        async with await uring_trio.open_file(made.name, "rb") as file:
            await run(block, Used(), file=file, offset=4, use=lambda data: taken.append(bytes(data)))
    assert taken == [b"456789"]


async def ticks(block: str) -> None:
    use = Used(3)
    await run(block, use)
    assert len(use.values) == 3
    assert min(use.values) >= 1


async def readiness(block: str) -> None:
    near, far = socket.socketpair()
    with near, far:
        far.send(b"x")
        use = Used(1)
        await run(block, use, fd=near.fileno())
        assert use.values[0] & select.POLLIN


async def pipe(block: str) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"through a pipe")
    os.close(writing)
    use = Used()
    with closing(open(reading, "rb", buffering=0)) as pipe:
        await run(block, use, pipe=pipe)
    assert b"".join(use.values) == b"through a pipe"


@asynccontextmanager
async def listening() -> AsyncIterator[uring_trio.UringListener]:
    async with trio.open_nursery() as nursery:
        yield await nursery.start(uring_trio.listen_tcp, "127.0.0.1", 0)
        nursery.cancel_scope.cancel()


async def connections(block: str) -> None:
    use = Used(2)

    async def handle(stream: uring_trio.UringStream) -> None:
        async with stream:
            use(await stream.receive_some())

    async def client(address: Any) -> None:
        async with await uring_trio.open_tcp_stream(*address[:2]) as stream:
            await stream.send_all(b"hello")
            await trio.sleep_forever()

    async with listening() as listener, trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(client, listener.address)
        await run(block, use, listener=listener, nursery=nursery, handle=handle)
        nursery.cancel_scope.cancel()
    assert use.values == [b"hello"] * 2


async def received(block: str) -> None:
    use = Used()
    async with listening() as listener:
        async with await uring_trio.open_tcp_stream(*listener.address[:2]) as far:
            async with await listener.accept() as stream:
                await far.send_all(b"over TCP")
                await far.send_eof()
                await run(block, use, stream=stream)
    assert b"".join(use.values) == b"over TCP"


@since(7, 1, r"ZCRX_REG_NODEV.*Linux 7\.1")
async def received_without_copies(block: str) -> None:
    taken: list[bytes] = []
    near, far = await streams()
    async with near, far:
        await near.send_all(b"over TCP")
        await near.send_eof()
        await run(block, Used(), stream=far, queue=None, use=lambda data: taken.append(bytes(data)))
    assert b"".join(taken) == b"over TCP"


async def datagrams(block: str) -> None:
    async with await uring_trio.open_udp(("127.0.0.1", 0)) as udp, trio.open_nursery() as nursery:
        nursery.start_soon(partial(run, block, Used(), udp=udp))
        async with await uring_trio.open_udp(("127.0.0.1", 0), udp.address) as client:
            for text in (b"there", b"and back"):
                await client.send(text)
                assert (await client.receive()).data == text
        nursery.cancel_scope.cancel()


CASES: dict[str, Callable[[str], Awaitable[None]]] = {
    "uring_trio/fs/registered:RegisteredBuffers": registered,
    "uring_trio/metrics:": figures,
    "uring_trio/multishot/events:poll_events": readiness,
    "uring_trio/multishot/events:ticks": ticks,
    "uring_trio/multishot/items:subscribe": readiness,
    "uring_trio/net/chunks:read_chunks": pipe,
    "uring_trio/net/listener:connections": connections,
    "uring_trio/net/receiver:chunks": received,
    "uring_trio/net/stream:zero_copy_chunks": received_without_copies,
    "uring_trio/net/udp:datagrams": datagrams,
}


def test_every_block_has_a_case() -> None:
    assert BLOCKS.keys() == CASES.keys()


def test_finds_what_is_marked_as_code() -> None:
    """No docstring has code in a form that the search above does not know."""
    for path in SOURCES.rglob("*.py"):
        assert not re.search(r"^\s*(>>> |```|\.\. code)|::$", path.read_text(), re.MULTILINE), path


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_runs(name: str) -> None:
    async def main() -> None:
        with trio.fail_after(SECONDS):
            await CASES[name](BLOCKS[name])

    with no_leaks():
        uring_trio.run(main)
