"""Pictures for the pages, by matplotlib, as SVG that can be read on light and on dark paper.

The paper is transparent, and text follows the reader's colour scheme. One version of matplotlib draws the
same data as the same file. A picture holds a digest of its data (`shows`), so that a test sees without
drawing whether it is up to date. matplotlib is imported when something is drawn.
"""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Bars", "Lines", "draw", "shows"]

AXES = "#80868d"
COLOURS = {
    "trio-streams": "#c2701c",
    "stock": "#c2701c",
    "ring-streams": "#12936c",
    "ring": "#12936c",
    "asyncio-streams": "#8a6fd1",
    "uvloop-streams": "#c74a7b",
    "uvloop-protocols": "#3d85c6",
    "c-ring": "#80868d",
}
OTHERS = ("#12936c", "#3d85c6", "#8a6fd1", "#c74a7b")
MARKERS = "osD^vP"
STYLE = """<style>
text { font-family: sans-serif; fill: #24292f }
@media (prefers-color-scheme: dark) { text { fill: #d0d7de } }
</style>"""

Point = tuple[float, float, float, float]
"""x, and y with its lowest and its highest."""


@dataclass(frozen=True)
class Lines:
    """A panel with a line for each series."""

    title: str
    x: str
    y: str
    series: Mapping[str, Sequence[Point]]
    log_x: bool = False
    log_y: bool = False
    ticks: Mapping[float, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Bars:
    """A panel with a bar for each row: a value, its lowest and its highest. A line stands at `mark`."""

    title: str
    x: str
    rows: Mapping[str, tuple[float, float, float]]
    mark: float | None = None


def draw(path: Path, panels: Sequence[Lines | Bars], *, columns: int, size: tuple[float, float]) -> None:
    """Write a picture.

    Args:
        path: where to, as SVG.
        panels: what is in it, row by row.
        columns: panels in a row.
        size: width and height of a panel, in inches of 72 units.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows = -(-len(panels) // columns)
    look: Any = {
        "axes.edgecolor": AXES,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlelocation": "left",
        "axes.titlesize": 11,
        "font.size": 10,
        "grid.alpha": 0.3,
        "grid.color": AXES,
        "legend.frameon": False,
        "legend.fontsize": 9,
        "svg.fonttype": "none",
        "svg.hashsalt": "uring",
        "xtick.color": AXES,
        "xtick.labelcolor": "black",
        "ytick.color": AXES,
        "ytick.labelcolor": "black",
    }
    with mpl.rc_context(look):
        picture = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
        for place, panel in enumerate(panels):
            axes = picture.add_subplot(rows, columns, place + 1)
            axes.set_title(panel.title)
            axes.set_xlabel(panel.x)
            if isinstance(panel, Lines):
                _lines(axes, panel)
            else:
                _bars(axes, panel)
        _legend(picture)
        path.write_text(_svg(picture, _digest(panels)))


def shows(path: Path, panels: Sequence[Lines | Bars]) -> bool:
    """Whether the picture was drawn from these panels."""
    return path.exists() and f"data {_digest(panels)}<" in path.read_text()


def _digest(panels: Sequence[Lines | Bars]) -> str:
    plain = json.dumps([asdict(panel) for panel in panels], sort_keys=True)
    return hashlib.sha256(plain.encode()).hexdigest()[:16]


def _lines(axes: Axes, panel: Lines) -> None:
    axes.set_ylabel(panel.y)
    for place, (name, points) in enumerate(panel.series.items()):
        x, y, low, high = zip(*points, strict=True)
        colour = COLOURS.get(name) or OTHERS[place % len(OTHERS)]
        few = len(points) <= 12
        marker: dict[str, Any] = {"marker": MARKERS[place % len(MARKERS)], "markersize": 4} if few else {}
        axes.plot(x, y, color=colour, label=name, linewidth=1.6, gid=f"{panel.title}: {name}", **marker)
        if few:
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    if panel.log_x:
        axes.set_xscale("log")
    if panel.log_y:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    else:
        axes.set_ylim(bottom=0)
    if panel.ticks:
        axes.set_xticks([*panel.ticks], [*panel.ticks.values()])
        axes.set_xticks([], minor=True)


def _bars(axes: Axes, panel: Bars) -> None:
    names = [*panel.rows][::-1]  # the first one at the top
    values = [panel.rows[name] for name in names]
    spread = [[value - low for value, low, _ in values], [high - value for value, _, high in values]]
    colours = [COLOURS["ring"] if value < (panel.mark or 0) else COLOURS["stock"] for value, _, _ in values]
    axes.barh(names, [value for value, _, _ in values], color=colours, height=0.6)
    axes.errorbar(
        [value for value, _, _ in values], names, xerr=spread, fmt="none", ecolor=AXES, elinewidth=1.5
    )
    for name, (value, _, high) in zip(names, values, strict=True):
        axes.annotate(f"{value:.2f}", (high, name), (4, 0), textcoords="offset points", va="center")
    if panel.mark is not None:
        axes.axvline(panel.mark, color=AXES, linewidth=1, linestyle="--")
    axes.grid(visible=False)
    axes.set_xlim(left=0)


def _legend(picture: Figure) -> None:
    """One for all panels with lines; their series have the same colours."""
    entries: dict[str, Any] = {}
    for axes in picture.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        picture.legend(
            [*entries.values()], [*entries], loc="outside lower center", ncols=min(6, len(entries))
        )


def _svg(picture: Figure, digest: str) -> str:
    text = io.StringIO()
    facts = {"Date": None, "Creator": None, "Description": f"data {digest}"}
    picture.savefig(text, format="svg", transparent=True, metadata=facts)
    head, tag, body = text.getvalue().partition("<defs>")
    lines = f"{head}{STYLE}\n {tag}{body}".splitlines()
    return "\n".join(line.rstrip() for line in lines) + "\n"
