"""hypercorn as it is deployed: a console program of its own, put on the ring by the launcher."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from pathlib import Path

APPLICATION = """
import trio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def backend(request):
    return PlainTextResponse(trio.lowlevel.current_statistics().io_statistics.backend)

app = Starlette(routes=[Route("/", backend)])
"""


@pytest.mark.parametrize(
    ("launcher", "backend"), [(("-m", "uring_trio", "--stats"), "io_uring"), ((), "epoll")]
)
def test_hypercorn(tmp_path: Path, launcher: tuple[str, ...], backend: str) -> None:
    (tmp_path / "application.py").write_text(APPLICATION)
    program = (*launcher, "hypercorn") if launcher else ("-m", "hypercorn")
    server = subprocess.Popen(
        [sys.executable, *program, "-k", "trio", "--workers", "0", "-b", "127.0.0.1:0", "application:app"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    with server:
        try:
            assert server.stderr is not None
            lines = []
            for line in server.stderr:
                lines.append(line)
                if found := re.search(r"Running on (http://\S+)", line):
                    break
            else:
                pytest.fail("".join(lines))
            with httpx.Client(trust_env=False) as client:
                assert {client.get(found[1]).text for _ in range(20)} == {backend}
            server.send_signal(signal.SIGINT)
            rest = server.stderr.read()
            server.wait(timeout=20)
        finally:
            server.kill()
    counted = re.search(r"uring_trio: .*submitted (\d+)", rest)
    if launcher:
        assert counted is not None, rest
        assert int(counted[1]) > 20
    else:
        assert counted is None
