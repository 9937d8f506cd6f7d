"""The loop that runs the tests on a busy machine names what failed in some rounds, and ends its load."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any

from tools import under_load

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

TEST = """
import os, pathlib
import pytest

def test_steady():
    pass

@pytest.mark.parametrize("which", ["a b", "c"])
def test_flaky(which):
    count = pathlib.Path(__file__).with_name("count" + which)
    count.write_text(count.read_text() + "x" if count.exists() else "x")
    assert which == "c" or len(count.read_text()) != 2, "now - and then"
"""


def test_a_test_that_fails_in_one_round_of_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started: list[subprocess.Popen[Any]] = []

    class Noted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Noted)
    monkeypatch.setattr(under_load, "KEPT", under_load.ROOT / ".cache" / "under-load-tested")
    file = tmp_path / "test_some.py"
    file.write_text(TEST)
    try:
        assert under_load.main(["--rounds", "2", "--busy", "1", "--rootdir", str(tmp_path), str(file)]) == 1
        told = capsys.readouterr().out
        assert "2 rounds, 1 green" in told
        assert "1 of 2  " in told
        assert "test_some.py::test_flaky[a b]  (rounds 2)" in told
        assert "now - and then" in (under_load.KEPT / "round-2.log").read_text()
        assert not (under_load.KEPT / "round-1.log").exists()
        assert all(process.poll() is not None for process in started)
    finally:
        for log in under_load.KEPT.glob("*.log"):
            log.unlink()
        under_load.KEPT.rmdir()


def test_a_round_without_tests_is_no_green_one(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "test_none.py"
    file.write_text("")
    assert under_load.main(["--busy", "0", "--rootdir", str(tmp_path), str(file)]) == 1
    assert "1 rounds, 0 green" in capsys.readouterr().out
