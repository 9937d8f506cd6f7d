"""The page of what was tried: a table, and how a soak's memory goes, ring beside stock, as a picture."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Result", "write"]


@dataclass
class Result:
    """What became of a part."""

    name: str
    promise: str
    seconds: float
    failure: str = ""
    counts: dict[str, Any] = field(default_factory=dict)
    stock: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, dict[str, list[int]]] = field(default_factory=dict)


def told(counts: dict[str, Any]) -> str:
    return ", ".join(f"{what} {value}" for what, value in counts.items())


def write(page: Path, results: list[Result], seed: int, minutes: float) -> None:
    """The page, and its pictures beside it."""
    lines = [
        "# What was tried",
        "",
        '<!-- written by make stress ARGS="--report docs/explanation/promises.md" -->',
        "",
        "This page is written by a run of the long trials; anyone can repeat it:",
        "",
        "```sh",
        f'make stress ARGS="--minutes {minutes:g} --seed {seed}"',
        "```",
        "",
        f"Linux {os.uname().release}, {os.cpu_count()} processors, Python {sys.version.split()[0]}, "
        f"Trio {version('trio')}. The seed decides every choice of the programs; the times at which kernel "
        "and processor act are their own. A trial that fails says so here, with its error.",
        "",
        "| trial | promise | seconds | on the ring | on stock Trio |",
        "|---|---|---|---|---|",
    ]
    for result in results:
        ring = f"**failed**: {result.failure.splitlines()[-1]}" if result.failure else told(result.counts)
        cells = (result.name, result.promise, f"{result.seconds:.0f}", ring, told(result.stock) or "–")
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    for result in results:
        if result.samples:
            image = page.parent / "images" / f"promises-{result.name}.svg"
            image.parent.mkdir(exist_ok=True)
            image.write_text(picture(result))
            text = f"Memory, descriptors and slots of the {result.name}"
            lines += ["", f"## {result.name.capitalize()}", "", f"![{text}](images/{image.name})"]
    page.write_text("\n".join([*lines, ""]))


WIDTH, HEIGHT, LEFT, TOP = 640, 110, 90, 30
COLOURS = {"ring": "#0b6e4f", "stock": "#b5651d"}


def picture(result: Result) -> str:
    """A plot for each thing that was measured, from 0 up, one line for the ring and one for stock Trio."""
    measured = list(next(iter(result.samples.values())))
    tall = TOP + len(measured) * (HEIGHT + 50)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH + LEFT + 20}" height="{tall}" '
        'font-family="sans-serif" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for row, what in enumerate(measured):
        top = TOP + row * (HEIGHT + 50)
        lines = {who: samples[what] for who, samples in result.samples.items() if any(samples[what])}
        most = max((max(samples) for samples in lines.values()), default=1)
        scale, unit = (1 << 20, " MiB") if what == "memory" else (1, "")
        bottom = top + HEIGHT
        parts += [
            f'<text x="{LEFT}" y="{top - 8}">{what} over {result.seconds:.0f} s</text>',
            f'<text x="{LEFT - 8}" y="{top + 10}" text-anchor="end">{most / scale:.0f}{unit}</text>',
            f'<text x="{LEFT - 8}" y="{bottom}" text-anchor="end">0</text>',
            f'<path d="M{LEFT} {top}V{bottom}H{LEFT + WIDTH}" fill="none" stroke="#888"/>',
        ]
        for place, (who, samples) in enumerate(lines.items()):
            step = WIDTH / max(1, len(samples) - 1)
            points = " ".join(
                f"{LEFT + number * step:.1f},{bottom - sample / most * HEIGHT:.1f}"
                for number, sample in enumerate(samples)
            )
            parts += [
                f'<polyline points="{points}" fill="none" stroke="{COLOURS[who]}" stroke-width="2"/>',
                f'<text x="{LEFT + WIDTH - 120 * (place + 1)}" y="{top - 8}" '
                f'fill="{COLOURS[who]}">{who}</text>',
            ]
    return "\n".join([*parts, "</svg>", ""])
