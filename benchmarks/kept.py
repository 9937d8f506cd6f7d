"""Runs kept as JSON, and two of them compared: `python -m benchmarks compare A.json B.json`.

A kept run has every sample of every round. A figure with a baseline is compared as its ratio to that, within
each round, so that a slower machine on the second day changes nothing; one without is compared as it is. A
figure is `better` or `worse` where the medians differ by more than 3 %, and an exact rank test finds that
chance alone would part the rounds so in at most one of 100 cases. Else it is `same`, or `unknown` where there
are too few rounds for the test.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from math import comb
from statistics import median
from typing import TYPE_CHECKING, Any

from .figures import Comparison, Contender
from .processes import HERE, cores

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Verdict", "chance", "compare", "load", "machine", "save", "told"]

CHANCE = 0.01
DIFFERENCE = 0.03
MORE_IS_BETTER = {"rate"}
PACKAGES = ("trio", "anyio", "uvloop", "h11", "h2", "hypercorn", "starlette", "coredis", "liburing")


# Kept ---------------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """What the figures depend on, as far as this process can see it."""
    import uring

    return {
        "date": time.strftime("%Y-%m-%d"),
        "commit": _commit(),
        "uring": uring.__version__,
        "kernel": platform.release(),
        "machine": platform.machine(),
        "processor": _processor(),
        "processors": os.cpu_count() or 1,
        "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "python": sys.version,
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "trio": version("trio"),
        "cores": list(cores()),
        "load before": os.getloadavg()[0],
    }


def _commit() -> str:
    command = ["git", "-C", str(HERE.parent), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as text:
            return next(line.partition(":")[2].strip() for line in text if line.startswith("model name"))
    except (OSError, StopIteration):
        return "unknown"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def save(path: Path, facts: dict[str, Any], comparisons: Sequence[Comparison]) -> None:
    """The machine, and each workload on a few lines."""
    lines = [json.dumps(asdict(each), ensure_ascii=False) for each in comparisons]
    text = ",\n".join(line.replace('{"name": ', '\n {"name": ') for line in lines)
    head = json.dumps(facts, indent=1, ensure_ascii=False)
    path.write_text(f'{{"machine": {head},\n"comparisons": [\n{text}\n]}}\n')


def load(path: Path) -> tuple[dict[str, Any], list[Comparison]]:
    """What `save` kept."""
    kept = json.loads(path.read_text())
    comparisons = [
        Comparison(**{**each, "contenders": [Contender(**one) for one in each["contenders"]]})
        for each in kept["comparisons"]
    ]
    return kept["machine"], comparisons


# Compared -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """A figure in two runs: medians, and whether the second is `better`, `same`, `worse` or `unknown`."""

    name: str
    before: float
    after: float
    chance: float
    verdict: str

    def __str__(self) -> str:
        change = self.after / self.before - 1
        medians = f"{self.before:10.3f} {self.after:10.3f} {change:+7.1%}"
        return f"{self.verdict:8} {self.name:48} {medians}  p {self.chance:.3f}"


def chance(one: Sequence[float], other: Sequence[float]) -> float:
    """How often chance alone would part two samples at least as far: the exact two-sided rank-sum test.

    Counts, by sums of ranks, all ways to choose which of the values are the first sample. Equal values share
    their ranks.
    """
    values = sorted([*one, *other])
    ranks: dict[float, int] = {}  # doubled, so that shared ones are whole
    for value, group in groupby(values):
        first = 2 * values.index(value) + 2
        ranks[value] = first + len(list(group)) - 1
    ways = Counter({(0, 0): 1})
    for value in values:
        more = Counter({(n + 1, total + ranks[value]): found for (n, total), found in ways.items()})
        ways.update(more)
    middle = len(one) * (len(values) + 1)
    seen = abs(sum(ranks[value] for value in one) - middle)
    extreme = sum(
        found for (n, total), found in ways.items() if n == len(one) and abs(total - middle) >= seen
    )
    return extreme / comb(len(values), len(one))


def verdict(name: str, before: Sequence[float], after: Sequence[float], more_is_better: bool) -> Verdict:
    medians = median(before), median(after)
    p = chance(before, after)
    if 2 / comb(len(before) + len(after), len(before)) > CHANCE:
        said = "unknown"
    elif p > CHANCE or abs(medians[1] / medians[0] - 1) <= DIFFERENCE:
        said = "same"
    else:
        said = "better" if (medians[1] > medians[0]) == more_is_better else "worse"
    return Verdict(name, *medians, p, said)


def compare(before: Sequence[Comparison], after: Sequence[Comparison]) -> list[Verdict]:
    """Every main figure that both runs have."""
    firsts, seconds = _figures(before), _figures(after)
    return [
        verdict(name, samples, seconds[name][0], more)
        for name, (samples, more) in firsts.items()
        if name in seconds
    ]


def _figures(run: Sequence[Comparison]) -> dict[str, tuple[Sequence[float], bool]]:
    found: dict[str, tuple[Sequence[float], bool]] = {}
    for comparison in run:
        more = comparison.main in MORE_IS_BETTER
        for contender in comparison.contenders:
            name = f"{comparison.workload}.{contender.name}"
            ratios = comparison.ratios(contender)
            found[f"{name} ×" if ratios else name] = ratios or contender.samples[comparison.main], more
    return found


def told(verdicts: Sequence[Verdict]) -> str:
    """Those that differ first, and a line with how many there are of each."""
    order = {"worse": 0, "better": 1, "unknown": 2, "same": 3}
    lines = [str(each) for each in sorted(verdicts, key=lambda each: order[each.verdict])]
    found = Counter(each.verdict for each in verdicts)
    summary = ", ".join(f"{found[name]} {name}" for name in order if found[name])
    by_chance = (
        f"; by chance, up to {len(verdicts) * CHANCE:.0f} would differ" if len(verdicts) >= 100 else ""
    )
    return "\n".join([*lines, "", f"{summary}{by_chance}"])
