"""The form of the C: no function is long, and one that hands references on says whose they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
LONGEST = 80
FILES = sorted(
    path
    for folder in ("src/uring/_shim", "src/uring_trio/seams", "tests/faults", "tests/sanitize")
    for path in (ROOT / folder).glob("*.[ch]")
    if path.name != "_ffi.c"
)
HEAD = re.compile(
    r"(?:PyMODINIT_FUNC |static |inline )*(?P<result>[\w ]+?[ *]+)(?P<name>\w+)\((?P<parameters>[^;{}]*)\)"
)
SAID_ELSEWHERE = re.compile(
    r"(?:PyObject|PyTypeObject) \*(?:self|obj|module|type)\b"  # the interpreter calls it, and CPython says it
    r"|Call \*c, .*PyObject \*\*(?:message|result)$"  # at `struct kind`
    # at `usual_case`
    r"|(?:Ticks \*t, |const struct kind \*kind, )?PyObject \*const \*args, .*PyObject \*\*result$"
)
"""Parameters of functions that are called through a pointer, at whose type the rule stands."""

WORDS = re.compile(
    r"\b(own(s|ed|ers)?|borrow(s|ed)?|new reference|takes?|gives?|given away|steals?)\b", re.IGNORECASE
)


class Function(NamedTuple):
    name: str
    result: str
    parameters: str
    comment: str
    lines: int


def functions(text: str) -> list[Function]:
    """Those that are defined in a file, each with the comment that stands before it."""
    lines, found, start = text.split("\n"), [], None
    for number, line in enumerate(lines):
        if start is None and line and line[0] not in " \t#/}" and "(" in line and not line.endswith(";"):
            start = number
        if start is None:
            continue
        ends = line == "}" or (number == start and line.endswith("}"))
        if ends or (line.endswith(";") and line[0] not in " \t"):
            head = HEAD.match(" ".join(part.strip() for part in lines[start : number + 1]))
            if ends and head:
                comment = before(lines, start)
                found.append(
                    Function(head["name"], head["result"], head["parameters"], comment, number - start + 1)
                )
            start = None
    return found


def before(lines: list[str], start: int) -> str:
    first = start
    while first and lines[first - 1].startswith(("/*", " *")):
        first -= 1
    return " ".join(lines[first:start])


def test_functions_are_found() -> None:
    found = {each.name: each for each in functions((ROOT / "src/uring_trio/seams/_ticks.c").read_text())}
    assert {"schedule", "deliver_to", "run_ticks", "fill", "PyInit__ticks"} <= set(found)
    assert found["PyInit__ticks"].lines == 1
    assert "completion" in found["deliver_to"].comment
    assert len({path.name for path in FILES}) > 15


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_function_is_long(path: Path) -> None:
    long = {each.name: each.lines for each in functions(path.read_text()) if each.lines > LONGEST}
    assert not long


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_owner_of_a_reference_is_named(path: Path) -> None:
    """Where a function returns an object, or stores one through a pointer."""
    unsaid = [
        each.name
        for each in functions(path.read_text())
        if ("PyObject *" in each.result or "PyObject **" in each.parameters)
        and not SAID_ELSEWHERE.match(each.parameters)
        and not WORDS.search(each.comment)
    ]
    assert not unsaid
