"""From samples to what is printed: medians with their spread, ratios paired by round, limits.

A ratio is taken within each round, where both contenders met the same machine, and the median of those ratios
is reported: a noisy neighbour then moves one sample and not the figure.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class Summary:
    """The median of the rounds and their extremes."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Summary:
        return cls(median(samples), min(samples), max(samples))

    def __str__(self) -> str:
        return f"{number(self.median)} ({number(self.low)}–{number(self.high)})"


@dataclass(frozen=True)
class Contender:
    """One line of a comparison: its samples by metric, one per round; `baseline` names another line."""

    name: str
    samples: Mapping[str, Sequence[float]]
    baseline: str | None = None
    limit: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Contenders on one workload. `metrics` maps a metric to its unit; ratios are of the first one."""

    workload: str
    description: str
    metrics: Mapping[str, str]
    contenders: Sequence[Contender]

    @property
    def main(self) -> str:
        return next(iter(self.metrics))

    def ratios(self, contender: Contender) -> list[float]:
        """The main metric against the baseline's, by round; none without a baseline in this run."""
        main = self.main
        for other in self.contenders:
            if other.name == contender.baseline:
                pairs = zip(contender.samples[main], other.samples[main], strict=True)
                return [mine / its for mine, its in pairs]
        return []

    def ratio(self, contender: Contender) -> Summary | None:
        """What `ratios` come to; None without a baseline in this run."""
        ratios = self.ratios(contender)
        return Summary.of(ratios) if ratios else None

    def table(self) -> Table:
        table = Table(title=f"{self.workload}: {self.description}", title_justify="left", title_style="bold")
        others = [metric for metric in self.metrics if metric != self.main]
        table.add_column("contender", no_wrap=True)
        for name in (f"{self.main}\n{self.metrics[self.main]}", "ratio", "against", "aim"):
            table.add_column(name, justify="right", no_wrap=True)
        for metric in others:
            table.add_column(f"{metric}\n{self.metrics[metric]}", justify="right", no_wrap=True)
        for contender in self.contenders:
            ratio = self.ratio(contender)
            table.add_row(
                contender.name,
                str(Summary.of(contender.samples[self.main])),
                "" if ratio is None else str(ratio),
                "" if ratio is None else contender.baseline,
                "" if ratio is None or contender.limit is None else aim(ratio.median, contender.limit),
                *(number(median(contender.samples[metric])) for metric in others),
            )
        return table


def samples(
    run: Mapping[str, Comparison], workload: str, name: str | None, metric: str | None = None
) -> Sequence[float]:
    """A contender's samples of the main metric, or another; none for what was not measured."""
    comparison = run.get(workload)
    for contender in comparison.contenders if comparison else ():
        if comparison and contender.name == name:
            return contender.samples.get(metric or comparison.main, ())
    return ()


def in_user_space(run: Mapping[str, Comparison], workload: str, name: str) -> list[float]:
    """The samples of its CPU time without the kernel's part; none for what was not measured."""
    kernel = samples(run, workload, name, "kernel")
    whole = samples(run, workload, name) if kernel else ()
    return [both - part for both, part in zip(whole, kernel, strict=True)]


def aim(value: float, limit: float) -> str:
    return f"[green]≤ {limit:.2f} ✓[/]" if value <= limit else f"[red]≤ {limit:.2f} ✗[/]"


def number(value: float) -> str:
    """Three significant figures, without an exponent."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"
