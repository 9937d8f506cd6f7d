"""Inventories for intersphinx, from lists of the names that the pages and docstrings mention.

Sphinx downloads an inventory from each site that it links to. A build without the network cannot, so the
names stand in ``inventories/NAME.txt``, one a line: role, name, and the page with the name's anchor.
"""

from __future__ import annotations

import zlib
from pathlib import Path

LISTS = Path(__file__).parent / "inventories"


def written(name: str, folder: Path) -> Path:
    """The inventory of the list ``name``, in the format of Sphinx."""
    lines = (LISTS / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    entries = []
    for line in lines:
        if line and not line.startswith("#"):
            role, target, page = line.split()
            entries.append(f"{target} {role} 1 {page}#$ -\n")
    header = f"# Sphinx inventory version 2\n# Project: {name}\n# Version: \n"
    header += "# The remainder of this file is compressed using zlib.\n"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.inv"
    path.write_bytes(header.encode() + zlib.compress("".join(entries).encode()))
    return path
