"""The Python programs of the README and of the pages.

`python -m tools.pages FOLDER` writes each to a file there, for type checkers. The tests take them from here
and run them.
"""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PAGES", "PROGRAM", "ROOT", "line", "name", "write"]

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROGRAM = re.compile(r"^```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)
"""A program, and the text that it prints if the page says so."""


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def line(match: re.Match[str]) -> int:
    """The line of the page on which a program begins."""
    return match.string.count("\n", 0, match.start()) + 1


def write(folder: Path) -> Iterator[Path]:
    """Writes the programs, in place of those that were there, under names that tell page and line."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for page in PAGES:
        for match in PROGRAM.finditer(page.read_text()):
            stem = re.sub(r"\W", "_", name(page).removesuffix(".md"))
            file = folder / f"{stem}_{line(match)}.py"
            file.write_text(match[1])
            yield file


if __name__ == "__main__":
    (folder,) = sys.argv[1:]
    print(f"{len([*write(Path(folder))])} programs of the pages")
