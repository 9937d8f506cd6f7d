"""The extensions keep state of the process: a subinterpreter does not load them, and is told so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HOST = """
import sys
try:
    import _interpreters as interpreters
    run = interpreters.exec
except ImportError:
    import _xxsubinterpreters as interpreters
    run = interpreters.run_string
import uring, uring_trio

def fresh():
    if hasattr(interpreters, "exec"):
        return interpreters.create({kind!r})
    return interpreters.create(isolated={kind!r} == "isolated")

program = {program!r}
for _ in range(2):
    there = fresh()
    failed = run(there, program)
    assert not failed, failed
    interpreters.destroy(there)
import os
uring.cached.find_stat("/", True)
assert type(uring.cached.find_stat("/", True)) in (os.stat_result, type(None))

async def main():
    import trio
    near, far = trio.socket.socketpair()
    with near, far, trio.move_on_after(60):
        for _ in range(100):
            await near.send(b"x")
            await far.recv(10)
            await trio.lowlevel.checkpoint()
    return "all is well"

print(uring_trio.run(main))
"""
MODULE = """
import importlib.machinery, importlib.util
loader = importlib.machinery.ExtensionFileLoader({name!r}, {path!r})
spec = importlib.util.spec_from_file_location({name!r}, {path!r}, loader=loader)
try:
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
except ImportError as error:
    assert "interpreter" in str(error) and {name!r} in str(error), error
else:
    raise AssertionError("it was loaded")
"""
RING = """
try:
    import uring
    uring.Ring(entries=8)
except ImportError as error:  # one with its own GIL cannot import ctypes either, in Python 3.12
    assert "interpreter" in str(error), error
except OSError as error:
    assert isinstance(error, uring.RingUnavailable), error
    assert "main interpreter of a process, and this is a subinterpreter" in str(error), error
else:
    raise AssertionError("it was opened")
"""


def program_of(name: str) -> str:
    import importlib

    return MODULE.format(name=name, path=importlib.import_module(name).__file__)


@pytest.mark.ring
@pytest.mark.parametrize("kind", ["legacy", "isolated"])
@pytest.mark.parametrize("what", ["uring._cached", "uring._requests", "uring_trio.seams._ticks", "ring"])
def test_it_is_refused(what: str, kind: str) -> None:
    program = RING if what == "ring" else program_of(what)
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", HOST.format(kind=kind, program=program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert "all is well" in ran.stdout
