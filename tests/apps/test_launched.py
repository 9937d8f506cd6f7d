"""Programs as they are started: hypercorn, put on the ring by the launcher or by its environment, with
workers that it spawns and without; and a command-line program."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import httpx
import pytest

PROGRAM = Path(sysconfig.get_path("scripts"), "hypercorn")

APPLICATION = """
import trio
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def backend(request):
    return PlainTextResponse(trio.lowlevel.current_statistics().io_statistics.backend)

app = Starlette(routes=[Route("/", backend)])
"""


@pytest.mark.parametrize("workers", [0, 1, 2])
@pytest.mark.parametrize(
    ("command", "variable", "backend"),
    [
        pytest.param(
            (sys.executable, "-m", "uring_trio", "--stats", "hypercorn"), None, "io_uring", id="launched"
        ),
        pytest.param((str(PROGRAM),), "stats=1", "io_uring", id="environment"),
        pytest.param((str(PROGRAM),), None, "epoll", id="plain"),
    ],
)
def test_hypercorn(
    tmp_path: Path, command: tuple[str, ...], variable: str | None, backend: str, workers: int
) -> None:
    (tmp_path / "application.py").write_text(APPLICATION)
    environment = {key: value for key, value in os.environ.items() if key != "URING_TRIO"}
    if variable is not None:
        environment["URING_TRIO"] = variable
    server = subprocess.Popen(
        [*command, "-k", "trio", "--workers", str(workers), "-b", "127.0.0.1:0", "application:app"],
        cwd=tmp_path,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    with server:
        try:
            assert server.stderr is not None
            lines, found = [], []
            for line in server.stderr:
                lines.append(line)
                found += re.findall(r"Running on (http://\S+)", line)
                if len(found) == max(workers, 1):
                    break
            else:
                pytest.fail("".join(lines))
            for _ in range(20):
                with httpx.Client(trust_env=False) as client:
                    assert client.get(found[0]).text == backend
            server.send_signal(signal.SIGINT)
            rest = server.stderr.read()
            # Without workers Ctrl-C goes to the task that runs, and hypercorn lets it through in a group.
            assert server.wait(timeout=60) in ((0,) if workers else (0, 1)), rest
        finally:
            server.kill()
    counted = [int(count) for count in re.findall(r"uring_trio \(process \d+\): .*submitted (\d+)", rest)]
    if backend == "epoll":
        assert counted == []
    elif workers:
        assert counted  # hypercorn terminates workers, often before their own exit
    else:
        assert counted[0] > 20


COMMAND_LINE = """
import asyncclick as click, anyio, anyio.to_process, trio

@click.group()
async def cli():
    pass

@cli.command()
@click.option("--times", type=int, default=1)
@click.argument("path", type=click.Path(exists=True))
async def digits(times, path):
    async with await anyio.open_file(path) as file:
        text = await file.read()
    async with anyio.create_task_group() as group:
        for _ in range(times):
            group.start_soon(count, text)

async def count(text):
    number = await anyio.to_process.run_sync(sum, [int(digit) for digit in text.strip()])
    backend = trio.lowlevel.current_statistics().io_statistics.backend
    click.echo(f"{number} {backend}")

if __name__ == "__main__":
    cli(_anyio_backend="trio")
"""


def test_a_command_line_program_with_worker_processes(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(COMMAND_LINE)
    (tmp_path / "digits").write_text("12345\n")
    environment = {key: value for key, value in os.environ.items() if key != "URING_TRIO"}
    for arguments, status, output in (
        (["digits", "--times", "3", "digits"], 0, "15 io_uring\n" * 3),
        (["digits", "missing"], 2, ""),
    ):
        done = subprocess.run(
            [sys.executable, "-m", "uring_trio", "program.py", *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout) == (status, output), done.stderr
    assert "does not exist" in done.stderr


def test_hypercorn_has_no_worker_class_of_others() -> None:
    """Its worker classes are a fixed list: `trio`, with the launcher or the variable, is the way."""
    done = subprocess.run(
        [str(PROGRAM), "--worker-class", "uring", "-b", "127.0.0.1:0", "application:app"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "No worker of class uring exists" in done.stderr
