"""Instruction counts: reading callgrind's files, the difference of rounds, and when the gate fails."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import counts
from benchmarks.processes import BenchmarkError

ROOT = Path(__file__).parents[2]
DUMP = "version: 1\ndesc: Trigger: Client Request: {name}\nevents: Ir\n16 {total}\ntotals: {total}\n"


def test_figure_is_what_twice_the_rounds_cost_more() -> None:
    fixed, each = 1234, 20
    assert counts.figure(fixed + 100 * each, fixed + 200 * each, 100) == each


@pytest.mark.parametrize(("once", "twice", "rounds"), [(10, 10, 1), (10, 9, 1), (10, 20, 0)])
def test_figure_that_cannot_be_is_an_error(once: int, twice: int, rounds: int) -> None:
    with pytest.raises(BenchmarkError, match="instructions, and twice as many"):
        counts.figure(once, twice, rounds)


def test_totals_are_those_of_marks() -> None:
    ended = DUMP.format(name="x", total=7).replace("Client Request: x", "Program termination")
    dumps = [
        DUMP.format(name="a_b", total=5),
        DUMP.format(name="c", total=3),
        DUMP.format(name="a_b", total=9),
    ]
    assert counts.totals([*dumps, ended]) == {"a_b": [5, 9], "c": [3]}


def test_growth_beyond_the_allowance_fails() -> None:
    kept = {"a": 1000, "b": 1000, "c": 1000, "gone": 1}
    found = counts.changes(kept, {"a": 900, "b": 1051, "c": 1050, "new": 1})
    assert [(change.name, change.failed) for change in found] == [("b", True), ("c", False), ("a", False)]
    assert found[0].ratio == 1.051


def test_figures_are_kept_by_version(tmp_path: Path) -> None:
    path = tmp_path / "counts.json"
    assert counts.kept_for("one", path) == {}
    counts.keep("one", {"b": 2, "a": 1}, path)
    counts.keep("other", {"a": 5}, path)
    counts.keep("one", {"a": 3}, path)
    assert counts.kept_for("one", path) == {"a": 3, "b": 2}
    assert counts.kept_for("other", path) == {"a": 5}


def test_every_kept_figure_is_counted() -> None:
    known = {*counts.names(stock=True)}
    for figures in json.loads(counts.KEPT.read_text()).values():
        assert figures.keys() == known


def run(*arguments: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.counts", *arguments],
        cwd=ROOT,
        env=None if path is None else {"PATH": path},
        capture_output=True,
        text=True,
    )


def test_without_valgrind_the_gate_says_that_it_is_skipped(tmp_path: Path) -> None:
    done = run(path=str(tmp_path))
    assert (done.returncode, done.stdout) == (
        0,
        "skipped: instruction counts, because valgrind is not installed\n",
    )


def test_outside_of_valgrind_nothing_is_counted() -> None:
    if shutil.which("valgrind") is None:
        pytest.skip("needs valgrind's headers")
    library = counts.build("marks", "-shared", "-fPIC")
    done = run("--inside", str(library))
    assert done.returncode == 1
    assert "valgrind does not count this process" in done.stderr
