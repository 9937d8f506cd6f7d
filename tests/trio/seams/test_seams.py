"""The private names of Trio that a ring run relies on, and what happens without one."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest
import trio

import uring_trio
from uring_trio import seams


@pytest.mark.parametrize(
    "name",
    [
        *seams.NAMES,
        *seams.NAMES_OF_TICKS,
        *seams.NAMES_OF_SCOPES,
        *seams.NAMES_OF_TASKS,
        *seams.NAMES_OF_METHODS,
    ],
)
def test_trio_has(name: str) -> None:
    """Found here without the help of `seams`: as an attribute, or as one that instances get."""
    parts = name.split(".")
    module = importlib.import_module(".".join(parts[:3] if parts[1] == "_core" else parts[:2]))
    found = module
    for part in parts[len(module.__name__.split(".")) :]:
        fields = {*getattr(found, "__annotations__", ()), *getattr(found, "__slots__", ())}
        if inspect.isfunction(constructor := getattr(found, "__init__", None)):
            fields |= set(constructor.__code__.co_names)
        assert hasattr(found, part) or part in fields
        found = getattr(found, part, None)


def test_every_private_name_in_use_is_listed() -> None:
    here = Path(seams.__file__).parent
    text = "".join(path.read_text() for path in sorted(here.glob("*.py")) if path.name != "anyio.py")
    lists = seams.NAMES_OF_SCOPES, seams.NAMES_OF_TASKS, seams.NAMES_OF_METHODS
    names = (*seams.NAMES, *seams.NAMES_OF_TICKS, *(name for each in lists for name in each))
    listed = {part for name in names for part in name.split(".")}
    code = text[: text.index("NAMES = (")] + text[text.index("class UnsupportedTrio") :]
    modules = "context|core_run|core_traps|socket_module|subprocess_module"
    owners = f"{modules}|task|runner|sock|stream|_cancel_status|clock|deadlines"
    used = set(re.findall(rf"\b(?:{owners})\.(\w+)", code))
    used |= set(re.findall(rf'getattr\((?:{modules}), "(\w+)"', code))
    ours_or_public = {"SocketType", "task", "runner", "_sock", "coro", "custom_sleep_data"}
    assert used - ours_or_public <= listed


@pytest.mark.parametrize("name", seams.NAMES)
def test_a_trio_without_it_is_unsupported(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`run` and `install` refuse, and say what is missing and which versions are known to do."""
    monkeypatch.setattr(seams.names, "NAMES", (*seams.NAMES, f"{name}_of_the_future"))

    async def main() -> None:
        raise AssertionError("it ran")

    for start in (lambda: uring_trio.run(main), uring_trio.install):
        with pytest.raises(uring_trio.UnsupportedTrio) as caught:
            start()
        for part in (f"{name}_of_the_future", trio.__version__, *seams.TESTED):
            assert part in str(caught.value)


def test_a_trio_never_tested_is_warned_of_once() -> None:
    program = """
import trio
trio.__version__ = "0.99.0"
import uring_trio
for _ in range(2):
    uring_trio.run(trio.sleep, 0)
"""
    command = [sys.executable, "-W", "always", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert done.stderr.count("RuntimeWarning: Trio 0.99.0 was never tested on the ring, only 0.33") == 1


def test_the_installed_trio_has_been_tested() -> None:
    assert trio.__version__.rpartition(".")[0] in seams.TESTED
