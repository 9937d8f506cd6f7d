"""Notes kept in files, as tools of an MCP server.

Over standard input and output, as a client starts it:

    NOTES=/tmp URING_TRIO=1 python notes_mcp.py

Over HTTP, at /mcp:

    NOTES=/tmp URING_TRIO=1 hypercorn --worker-class trio notes_mcp:app
"""

import os

import anyio
import trio
from mcp.server import MCPServer

FOLDER = anyio.Path(os.environ.get("NOTES", "."))

server = MCPServer("notes")


@server.tool()
async def write_note(name: str, text: str) -> str:
    """Keep a text under a name."""
    await (FOLDER / f"{checked(name)}.txt").write_text(text)
    return f"{len(text)} characters"


@server.tool()
async def read_note(name: str) -> str:
    """The text of a note."""
    return await (FOLDER / f"{checked(name)}.txt").read_text()


@server.tool()
async def backend() -> str:
    """What waits for this server's sockets and files: io_uring or epoll."""
    return trio.lowlevel.current_statistics().io_statistics.backend


def checked(name: str) -> str:
    if not name.isalpha():
        raise ValueError("the name of a note has letters only")
    return name


app = server.streamable_http_app()

if __name__ == "__main__":
    anyio.run(server.run_stdio_async, backend="trio")
