"""The programs on the page of databases, with a Redis and a PostgreSQL that a test starts and stops."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.apps.launched import SECONDS, run

if TYPE_CHECKING:
    from collections.abc import Iterator

POSTGRES_USER = "postgres"


def postgres_programs() -> Path | None:
    """The folder of the newest server's programs: Debian has them outside of PATH."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if not found and (program := shutil.which("initdb")):
        found = [Path(program)]
    return max(found, key=lambda path: (len(path.parts[-3]), path)).parent if found else None


def identity() -> dict[str, str]:
    """PostgreSQL does not run as root."""
    return {"user": POSTGRES_USER, "group": POSTGRES_USER, "extra_groups": []} if os.geteuid() == 0 else {}


@contextmanager
def running(*command: str, log: Path, **options: object) -> Iterator[subprocess.Popen[bytes]]:
    """A server, which is told to stop and awaited."""
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, **options)
    with process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(SECONDS)
            finally:
                process.kill()


def until(answers: list[str], log: Path, process: subprocess.Popen[bytes]) -> None:
    """Waits for a server's own client to say that it is ready."""
    while subprocess.run(answers, capture_output=True, check=False, timeout=SECONDS).returncode:
        if process.poll() is not None:
            pytest.fail(log.read_text())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="needs redis-server")
def test_coredis(tmp_path: Path) -> None:
    log, port = tmp_path / "log", str(free_port())
    settings = ("--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", str(tmp_path))
    with running("redis-server", *settings, log=log) as redis:
        until(["redis-cli", "-p", port, "ping"], log, redis)
        output = run("redis_visits.py", port)
    assert output == "{'about': '20', 'news': '20', 'start': '20'}\n10 kept\nby io_uring\n"


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="triopg is tested on Python 3.11 only")
@pytest.mark.skipif(postgres_programs() is None, reason="needs a PostgreSQL server")
def test_triopg() -> None:
    programs = postgres_programs()
    assert programs is not None
    # The path of a socket in pytest's own folder would be too long, and that of root's is closed to others.
    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp") as made:
        folder = Path(made)
        if os.geteuid() == 0:
            owner = pwd.getpwnam(POSTGRES_USER)
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        data, log = str(folder / "data"), folder / "log"
        settings = ("-D", data, "-k", made, "-c", "listen_addresses=", "-c", "fsync=off")
        initdb = [str(programs / "initdb"), "-D", data, "-U", "tester", "-A", "trust", "--no-sync"]
        subprocess.run(initdb, cwd=made, check=True, capture_output=True, timeout=SECONDS, **identity())
        with running(str(programs / "postgres"), *settings, log=log, cwd=made, **identity()) as postgres:
            until([str(programs / "pg_isready"), "-h", made], log, postgres)
            output = run("postgres_notes.py", f"postgresql://tester@/postgres?host={made}")
    assert output == "20 notes\ncancelled: True\nnote 0\nby io_uring\n"
