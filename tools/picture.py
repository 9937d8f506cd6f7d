"""The picture of the layers in docs/explanation/architecture.md, from the imports.

    python -m tools.picture           writes it between the two markers of the page, and layers.svg beside it
    python -m tools.picture --check   exits with status 1 if the page is not up to date

A room is a folder of a package, or a module outside of all folders. A room is one floor above the highest
room of its package that it imports from, inside functions and for annotations too. The modules of a folder
stand in the same order: each imports only from those behind a later arrow.
"""

from __future__ import annotations

import argparse
import ast
import sys
from graphlib import TopologicalSorter
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
PAGE = ROOT / "docs" / "explanation" / "architecture.md"
BEGIN = "<!-- picture: written by python -m tools.picture -->"
END = "<!-- end of the picture -->"
PACKAGES = ("uring_trio", "uring")
EXTENSIONS = {"uring._cached", "uring._ffi", "uring._requests", "uring_trio.seams._ticks"}
WIDTH = 110
IMAGE = PAGE.with_name("layers.svg")
# Of the drawing, in pixels.
DRAWING, LEFT, TITLE, ROW, MARGIN = 760, 44, 32, 38, 8
STYLE = """<style>
text { font: 13px monospace; fill: #1f2328; text-anchor: middle }
.title { font-weight: bold; text-anchor: start } .floor { fill: #6e7781; text-anchor: start }
.package { fill: #f6f8fa; stroke: #8c959f } .folder { fill: #d5e8fb; stroke: #5b9bd5 }
.module { fill: #ffffff; stroke: #8c959f }
</style>"""

Graph = dict[str, set[str]]


def modules() -> dict[str, Path]:
    """The modules of both packages by name, without the shim's build script and earlier names of modules."""
    found = {}
    for package in PACKAGES:
        for path in sorted((SRC / package).rglob("*.py")):
            if not {"_shim", "_moved"} & {*path.parts}:
                name = ".".join(path.relative_to(SRC).with_suffix("").parts)
                found[name.removesuffix(".__init__")] = path
    return found


def imported(module: str, path: Path, known: Iterable[str]) -> Iterator[str]:
    """The modules of ``known`` that ``module`` imports anywhere in its text."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parts, *filter(None, [base])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                if inner in known or base in known:
                    yield inner if inner in known else base


def room(module: str, paths: Mapping[str, Path]) -> str:
    """The folder of a module as "package.folder/", or the module itself."""
    parts = module.split(".")
    inside = len(parts) > 2 or (len(parts) == 2 and module in paths and paths[module].name == "__init__.py")
    return ".".join(parts[:2]) + "/" if inside else module


def floors(graph: Graph) -> dict[str, int]:
    """The floor of each node: 1 where it imports nothing. Raises `graphlib.CycleError` for a circle."""
    at: dict[str, int] = {}
    for node in TopologicalSorter(graph).static_order():
        at[node] = 1 + max((at[below] for below in graph[node]), default=0)
    return at


def built() -> tuple[Graph, dict[str, dict[int, list[str]]]]:
    """The imports of each module, and the rooms of each package by floor."""
    paths = modules()
    known = {*paths, *EXTENSIONS}
    graph: Graph = {name: set() for name in EXTENSIONS}
    graph |= {name: {*imported(name, path, known)} - {name} for name, path in paths.items()}
    rooms: Graph = {room(name, paths): set() for name in graph}
    for name, below in graph.items():
        own = room(name, paths)
        rooms[own] |= {room(other, paths) for other in below} - {own}
    storeys: dict[str, dict[int, list[str]]] = {}
    for package in PACKAGES:
        here = {name for name in rooms if name.partition(".")[0] == package}
        at = floors({name: rooms[name] & here for name in here})
        storeys[package] = {
            floor: sorted(name for name in here if at[name] == floor)
            for floor in sorted({at[name] for name in here}, reverse=True)
        }
    return graph, storeys


def picture() -> str:
    """The text between the markers."""
    paths = modules()
    graph, storeys = built()
    lines = ["```text"]
    for package, by_floor in storeys.items():
        lines.append(package)
        for floor, on in by_floor.items():
            flat = [label(name) for name in on if not name.endswith("/")]
            if flat:
                lines += wrapped(f"{floor:4}  ", [", ".join(flat)])
            for name in (name for name in on if name.endswith("/")):
                inside = {m: below for m, below in graph.items() if room(m, paths) == name}
                lines += wrapped(f"{floor:4}  {name.partition('.')[2]:<13}", ordered(name, inside))
    return "\n".join([*lines, "```"])


def label(name: str) -> str:
    """A room's name below its package."""
    return name.partition(".")[2] or f"{name} itself"


def drawing() -> str:
    """The rooms on their floors, as SVG."""
    parts: list[str] = []
    top = MARGIN
    for package, by_floor in built()[1].items():
        height = TITLE + ROW * len(by_floor) + MARGIN
        parts.append(box("package", 1, top, DRAWING - 2, height))
        parts.append(f'<text class="title" x="{2 * MARGIN}" y="{top + 21}">{package}</text>')
        for row, (floor, on) in enumerate(by_floor.items()):
            y = top + TITLE + ROW * row
            parts.append(f'<text class="floor" x="{2 * MARGIN}" y="{y + 20}">{floor}</text>')
            width = (DRAWING - LEFT - MARGIN) / len(on)
            for i, name in enumerate(on):
                x = LEFT + width * i
                parts.append(box("folder" if name.endswith("/") else "module", x, y, width - 6, ROW - 8))
                parts.append(f'<text x="{x + width / 2 - 3:.0f}" y="{y + 20}">{label(name)}</text>')
        top += height + MARGIN
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {DRAWING} {top}" role="img">'
    title = "<title>The rooms of both packages on their floors</title>"
    return "\n".join([head, title, STYLE, *parts, "</svg>", ""])


def box(kind: str, x: float, y: int, width: float, height: int) -> str:
    return f'<rect class="{kind}" x="{x:.0f}" y="{y}" width="{width:.0f}" height="{height}" rx="5"/>'


def ordered(folder: str, graph: Graph) -> list[str]:
    """The modules of a folder, those of the same floor joined, top first."""
    prefix = folder[:-1].replace("/", ".")
    inside = {
        name: {b for b in below if b in graph} - {prefix} for name, below in graph.items() if name != prefix
    }
    at = floors(inside)
    top_first = sorted(inside, key=lambda name: (-at[name], name))
    return [
        ", ".join(name.removeprefix(prefix + ".") for name in group)
        for _, group in groupby(top_first, key=lambda name: at[name])
    ]


def wrapped(head: str, groups: list[str]) -> list[str]:
    """``groups`` behind ``head`` with arrows in between, broken where a line would be too long."""
    lines, line = [], head
    for i, group in enumerate(groups):
        words = [f"{word}," for word in group.split(", ")]
        words[-1] = words[-1][:-1]
        for word in ["→", *words] if i else words:
            if len(line) + len(word) > WIDTH:
                lines.append(line.rstrip())
                line = " " * len(head)
            line += word + " "
    return [*lines, line.rstrip()]


def page(text: str) -> str:
    """The page ``text`` with the picture of today."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"{PAGE.name} lacks the marker {BEGIN!r} or {END!r}")
    return f"{before}{begin}\n{picture()}\n{end}{after}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.picture", description="The picture of the layers.")
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    old = PAGE.read_text()
    new = page(old)
    if parser.parse_args().check:
        return int(old != new or IMAGE.read_text() != drawing())
    PAGE.write_text(new)
    IMAGE.write_text(drawing())
    return 0


if __name__ == "__main__":
    sys.exit(main())
