"""Any public callable with any arguments: it works, or a specific exception says what is wrong.

In a process of its own, because random calls may close or change any descriptor that they are given.
`make sanitize` makes many more calls, with a shim that is built to notice wrong accesses.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sanitize.calls import RAW, Caller, surface

ROOT = Path(__file__).parents[2]
CALLS = 4000


@pytest.mark.parametrize("seed", [0, 1, 2, 11])
def test_any_arguments(seed: int) -> None:
    command = [sys.executable, "-m", "tests.sanitize.calls", "--seed", str(seed), "--calls", str(CALLS)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    found = re.search(r"calls=(\d+) accepted=(\d+) completions=(\d+)", done.stdout)
    assert found, done.stdout
    calls, accepted, completions = map(int, found.groups())
    assert calls >= CALLS
    assert accepted > calls / 3
    assert completions > 100


def test_what_may_not_be_raised_is_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    class World:
        pass

    def broken() -> None:
        raise AttributeError("an accident")

    caller = Caller(0, None)
    callee = caller.surface[0]
    callee.function, callee.owner, callee.parameters = broken, None, []
    caller.call(World(), callee)  # type: ignore[arg-type]
    assert len(caller.wrong) == 1
    assert "an accident" in capsys.readouterr().err


def test_the_surface_is_what_is_public() -> None:
    import uring

    labels = {each.label for each in surface()}
    assert {"Ring.read", "read", "pack_direct", "ContextPools.extended", "Ring.submit_as_one"} <= labels
    assert len(labels) > 400
    for name in RAW:
        assert hasattr(uring, name)
