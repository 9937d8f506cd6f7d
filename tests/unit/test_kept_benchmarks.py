"""Kept runs: they come back as they were, two are told apart where they differ, and the page is of one."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import pytest

from benchmarks import kept, plots, report
from benchmarks.__main__ import BASELINES, MOST, workloads
from benchmarks.figures import Comparison, Contender
from benchmarks.flows import FLOWS

ROOT = Path(__file__).parents[2]
STOCK = [10.0, 10.1, 10.2, 10.3, 10.4]


def comparison(stock: list[float], ring: list[float]) -> Comparison:
    contenders = [Contender("stock", {"cpu": stock}), Contender("ring", {"cpu": ring}, "stock", 0.6)]
    return Comparison("echo", "a test", {"cpu": "µs"}, contenders)


def test_a_run_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    run = [comparison(STOCK, [5.0, 5.1, 5.2, 5.3, 5.4])]
    kept.save(tmp_path / "run.json", {"kernel": "6.18"}, run)
    assert kept.load(tmp_path / "run.json") == ({"kernel": "6.18"}, run)


def test_the_machine_is_described() -> None:
    facts = kept.machine()
    assert {"commit", "kernel", "processor", "python", "packages", "date"} < facts.keys()
    assert facts["packages"]["trio"] == facts["trio"]


def by_all_ways(one: list[float], other: list[float]) -> float:
    """The rank-sum test, from its definition."""
    values = [*one, *other]
    ranks = [sum(v < x for v in values) + (sum(v == x for v in values) + 1) / 2 for x in values]
    middle = len(one) * (len(values) + 1) / 2
    seen = abs(sum(ranks[: len(one)]) - middle)
    sums = [abs(sum(chosen) - middle) for chosen in combinations(ranks, len(one))]
    return sum(each >= seen for each in sums) / len(sums)


@pytest.mark.parametrize("seed", range(30))
def test_chance_is_that_of_all_ways_to_choose(seed: int) -> None:
    numbers = random.Random(seed)
    one = [float(numbers.randrange(8)) for _ in range(numbers.randint(1, 6))]
    other = [float(numbers.randrange(8) + seed % 3) for _ in range(numbers.randint(1, 6))]
    assert math.isclose(kept.chance(one, other), by_all_ways(one, other))
    assert math.isclose(kept.chance(one, other), kept.chance(other, one))


def test_chance_of_many_rounds_takes_no_time() -> None:
    assert kept.chance([float(i) for i in range(40)], [i + 100.0 for i in range(40)]) < 1e-20


def verdicts(before: Comparison, after: Comparison) -> dict[str, str]:
    return {each.name: each.verdict for each in kept.compare([before], [after])}


@pytest.mark.parametrize(
    ("factor", "said"),
    [(0.8, "better"), (1.25, "worse"), (1.0, "same"), (1.02, "same")],
)
def test_a_ratio_is_told_apart_whatever_the_machine_does(factor: float, said: str) -> None:
    ring = [value / 2 + 0.01 * value**2 / 10 for value in STOCK]
    before = comparison(STOCK, ring)
    slower = comparison([value * 3 for value in STOCK], [value * 3 * factor for value in ring])
    assert verdicts(before, slower) == {"echo.stock": "worse", "echo.ring ×": said}


def test_rounds_that_overlap_are_the_same() -> None:
    before, after = comparison(STOCK, [5.0, 5.2, 5.4, 5.6, 9.0]), comparison(STOCK, [5.3, 5.5, 5.7, 8.0, 9.5])
    assert verdicts(before, after)["echo.ring ×"] == "same"


def test_too_few_rounds_say_nothing() -> None:
    few = comparison(STOCK[:3], [5.0, 5.1, 5.2])
    assert set(verdicts(few, few).values()) == {"unknown"}


def test_more_is_better_of_a_rate() -> None:
    before = Comparison("w", "", {"rate": "per s"}, [Contender("ring", {"rate": STOCK})])
    after = Comparison("w", "", {"rate": "per s"}, [Contender("ring", {"rate": [2 * x for x in STOCK]})])
    assert verdicts(before, after) == {"w.ring": "better"}


def test_compare_prints_what_differs_first(tmp_path: Path) -> None:
    ring = [5.0, 5.1, 5.2, 5.3, 5.4]
    kept.save(tmp_path / "a.json", {}, [comparison(STOCK, ring)])
    kept.save(tmp_path / "b.json", {}, [comparison(STOCK, [2 * value for value in ring])])
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "compare",
        str(tmp_path / "a.json"),
        str(tmp_path / "b.json"),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    first, *_, last = done.stdout.splitlines()
    assert first.split()[:3] == ["worse", "echo.ring", "×"]
    assert first.split()[5] == "+100.0%"
    assert last == "1 worse, 1 same"


# The page -----------------------------------------------------------------------------------------------


def test_the_page_asks_for_what_there_is() -> None:
    there = {workload.name for workload in workloads()} | {flow.name for flow in FLOWS}
    assert {name for name in report.WORKLOADS if not name.startswith("operation-")} <= there
    assert f"echo-{MOST}x1KiB" in report.WORKLOADS
    assert report.PEERS.keys() <= BASELINES.keys()
    flowing = {name for flow in FLOWS for name in flow.contenders}
    named = {name for _, workload, name in report.OPERATIONS + report.PROGRAMS if "operation" not in workload}
    assert named <= BASELINES.keys() | flowing


def test_the_page_of_this_project_is_what_its_run_says() -> None:
    facts, comparisons = kept.load(report.PAGE.with_suffix(".json"))
    run = {each.workload: each for each in comparisons}
    page = report.PAGE.read_text()
    assert page == report.text(facts, run)
    for name, (panels, _, _) in report.pictures(run).items():
        picture = report.PAGE.with_name(f"benchmarks-{name}.svg")
        assert f"({picture.name})" in page
        assert plots.shows(picture, panels)


def test_what_was_not_measured_is_a_dash(tmp_path: Path) -> None:
    stock = Contender("trio-streams", {"cpu": STOCK, "p50": STOCK, "p99": STOCK})
    run = {"echo-20x1KiB": Comparison("echo-20x1KiB", "a test", {"cpu": "µs/request", "p50": "µs"}, [stock])}
    rows = report.peers(run, {"1": "echo-1x1KiB", "20": "echo-20x1KiB"}, "cpu")
    assert rows == [["stock Trio, `SocketStream` (`trio-streams`)", "–", "10.2"]]
    assert report.ratios(run, report.PROGRAMS) == []


def test_a_picture_holds_its_data_apart() -> None:
    one = [plots.Bars("a", "b", {"c": (1.0, 0.9, 1.2)}, 1.0)]
    other = [plots.Bars("a", "b", {"c": (1.0, 0.9, 1.3)}, 1.0)]
    assert not plots.shows(Path("/nonexistent.svg"), one)
    assert plots._digest(one) != plots._digest(other)
