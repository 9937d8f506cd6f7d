"""State diagrams on the site: a table for each, since a browser draws no Mermaid.

The pages keep the text that the viewer of a repository draws, and that tests hold to the table of states.
"""

from __future__ import annotations

import re

from docutils import nodes

STATE = re.compile(r"^ *(\w+) : \w+<br/>(.*)$", re.MULTILINE)
ARROW = re.compile(r"^ *(\w+) --> (\w+) : (.*)$", re.MULTILINE)


def as_table(text: str) -> nodes.table:
    """The states of a Mermaid state diagram, each with its meaning and the events that end it."""
    meanings = dict(STATE.findall(text))
    rows = [["state", "meaning", "what ends it"]]
    for state, meaning in meanings.items():
        leaves = [f"{event} → {after}" for before, after, event in ARROW.findall(text) if before == state]
        rows.append([state, meaning, *["; ".join(leaves)]])
    body = nodes.tbody("", *(row(cells) for cells in rows[1:]))
    group = nodes.tgroup("", *(nodes.colspec(colwidth=width) for width in (15, 40, 45)), cols=3)
    group += nodes.thead("", row(rows[0]))
    group += body
    return nodes.table("", group)


def row(cells: list[str]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", cell)) for cell in cells))
