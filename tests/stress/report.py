"""The page of what was tried: a table, and how the memory of a soak goes, ring beside stock, as a picture.

The results are kept as JSON beside the page. ``python -m tests.stress.report`` writes
the page from them.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.plots import Lines, draw

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["PAGE", "Report", "Result", "image", "load", "panels", "replaced", "told", "write"]

PAGE = Path(__file__).parents[2] / "docs/explanation/promises.md"


@dataclass
class Result:
    """What became of a part."""

    name: str
    promise: str
    seconds: float
    failure: str = ""
    counts: dict[str, Any] = field(default_factory=dict)
    stock: dict[str, Any] = field(default_factory=dict)
    samples: Mapping[str, Mapping[str, Sequence[float]]] = field(default_factory=dict)


@dataclass
class Report:
    """A run of the trials; ``note`` says what of it was not of this one run."""

    seed: int
    minutes: float
    results: list[Result]
    note: str = ""
    load: float = field(default_factory=lambda: os.getloadavg()[2])
    kernel: str = field(default_factory=lambda: os.uname().release)
    processors: int = field(default_factory=lambda: os.cpu_count() or 0)
    python: str = field(default_factory=lambda: sys.version.split()[0])
    trio: str = field(default_factory=lambda: version("trio"))


def load(kept: Path) -> Report:
    """A report that `write` has kept."""
    fields = json.loads(kept.read_text())
    return Report(**{**fields, "results": [Result(**each) for each in fields["results"]]})


def replaced(report: Report, results: list[Result], command: str) -> Report:
    """The report with the results of these parts, which were played by themselves."""
    apart = {result.name: result for result in results}
    note = f"Played by {'itself' if len(apart) == 1 else 'themselves'}: {', '.join(apart)}, by `{command}`."
    return replace(
        report,
        results=[apart.get(result.name, result) for result in report.results],
        note=" ".join([report.note, note]).strip(),
    )


def told(counts: dict[str, Any]) -> str:
    return ", ".join(f"{what} {value}" for what, value in counts.items())


def write(page: Path, report: Report) -> None:
    """The page, its pictures and the JSON beside it."""
    page.with_suffix(".json").write_text(json.dumps(asdict(report), indent=1) + "\n")
    page.write_text(text(report))
    for result in report.results:
        if result.samples:
            draw(page.parent / image(result), panels(result), columns=2, size=(3.6, 2.8))


def image(result: Result) -> str:
    return f"promises-{result.name}.svg"


def text(report: Report) -> str:
    lines = [
        "# What was tried",
        "",
        "<!-- written by python -m tests.stress.report from the JSON beside it -->",
        "",
        "A run of the long trials wrote this page. Anyone can repeat it:",
        "",
        "```sh",
        f'make stress ARGS="--minutes {report.minutes:g} --seed {report.seed}"',
        "```",
        "",
        f"Linux {report.kernel}, {report.processors} processors, Python {report.python}, Trio {report.trio};",
        f"load average at the end: {report.load:.1f}. The seed decides every choice of the programs, and not",
        "the times at which kernel and processor act. Counts depend on the machine and on what else it does:",
        "they say how much was tried, and not how fast it is. A trial that fails is named with its error.",
        *(["", report.note] if report.note else []),
        "",
        "| trial | promise | seconds | on the ring | on stock Trio |",
        "|---|---|---|---|---|",
    ]
    for result in report.results:
        ring = f"**failed**: {result.failure.splitlines()[-1]}" if result.failure else told(result.counts)
        cells = (result.name, result.promise, f"{result.seconds:.0f}", ring, told(result.stock) or "–")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    for result in report.results:
        if result.samples:
            what = f"Memory, descriptors, slots and threads of the {result.name}"
            lines += ["", f"## {result.name.capitalize()}", "", f"![{what}]({image(result)})"]
    return "\n".join([*lines, ""])


def panels(result: Result) -> list[Lines]:
    """A panel for each measure: a line for the ring, and one for stock Trio where it has any."""
    found = []
    for what in [name for name in next(iter(result.samples.values())) if name != "seconds"]:
        scale = 1 << 20 if what == "memory" else 1
        series = {}
        for who, samples in result.samples.items():
            values = [value / scale for value in samples[what]]
            if any(values):
                times = samples["seconds"]
                series[who] = [(time, value, value, value) for time, value in zip(times, values, strict=True)]
        found.append(Lines(what, "seconds", "MiB" if what == "memory" else "number", series))
    return found


if __name__ == "__main__":
    write(PAGE, load(PAGE.with_suffix(".json")))
