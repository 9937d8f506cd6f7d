"""The programs of `examples/apps`, started as their first lines say, on the ring by the variable."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = Path(__file__).parents[2] / "examples" / "apps"
SECONDS = 60
TOTALS = re.compile(r"uring_trio \(process \d+\): runs (\d+), submitted (\d+), .*, leaked (\d+)\n")


def environment(**more: str) -> dict[str, str]:
    """That of this process, with the ring and its totals at the exit."""
    return {**os.environ, "URING_TRIO": "stats=1", "PYTHONWARNINGS": "error", **more}


def run(program: str, *arguments: str) -> str:
    """What a program prints that ends by itself, after one run on the ring that leaked nothing."""
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / program), *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert_on_ring(done.stderr)
    return done.stdout


def assert_on_ring(errors: str) -> None:
    """Standard error is one line of totals, of a run that used its ring and leaked nothing."""
    totals = TOTALS.fullmatch(errors)
    assert totals is not None, errors
    assert (totals[1], totals[3]) == ("1", "0")
    assert int(totals[2]) > 0


@contextmanager
def server(*command: str, listening: str, **variables: str) -> Iterator[str]:
    """The first group of `listening` in the output of a server, which Ctrl-C ends."""
    process = subprocess.Popen(
        command,
        cwd=PROGRAMS,
        env=environment(PYTHONDONTWRITEBYTECODE="1", **variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if found := re.search(listening, line):
                    break
            else:
                pytest.fail("".join(lines))
            yield found[1]
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert "Traceback" not in "".join(lines), lines
    totals = TOTALS.search(rest)
    assert totals is not None, rest
    assert totals[3] == "0"


@contextmanager
def hypercorn(app: str, **variables: str) -> Iterator[str]:
    """The base URL of an app that hypercorn serves by its Trio worker."""
    program = str(Path(sysconfig.get_path("scripts"), "hypercorn"))
    command = (program, "--worker-class", "trio", "--bind", "127.0.0.1:0", app)
    with server(*command, listening=r"Running on (http://\S+)", **variables) as url:
        yield url
