"""The names of the Go package `uring` and where they are here: a table, the page made of it, and its proof.

    python -m tools.parity           writes docs/reference/parity.md from docs/reference/parity.csv
    python -m tools.parity prove     runs the tests that the table names: do they reach their rows?

The table is data: a Go name, what kind of name it is, the number that it stands for where it stands for one,
the Python object, the test that shows it works, the kernel it needs, and what is to be said about it. An
object is written as a path, ``uring.Ring.recv``; ``[key]`` looks into a mapping, and ``(name)`` means a
parameter of what can be called.
"""

from __future__ import annotations

import ast
import csv
import functools
import importlib
import inspect
import re
import sys
import threading
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs/reference/parity.csv"
PAGE = ROOT / "docs/reference/parity.md"
SOURCE = f"{ROOT / 'src' / 'uring'}/"

KINDS = {
    "const": "Constants",
    "var": "Errors and options",
    "func": "Functions",
    "type": "Types",
    "field": "Fields",
    "method": "Methods",
}


class Row(NamedTuple):
    """One Go name. ``value`` is a number or empty, ``kernel`` empty for any that this package runs on."""

    go: str
    kind: str
    value: str
    python: str
    test: str
    kernel: str
    note: str


def rows() -> list[Row]:
    with TABLE.open(newline="", encoding="utf-8") as file:
        return [Row(**line) for line in csv.DictReader(file)]


class Target(NamedTuple):
    """A Python object: what it is, how its class holds it, and the parameter that is meant, if one is."""

    value: Any
    raw: Any
    parameter: str


def resolve(path: str) -> Target:
    """The object that a path names.

    Raises:
        LookupError: there is none.
    """
    place, _, parameter = path.rstrip(")").partition("(")
    first, *parts = re.findall(r"\w+|\[\w+\]", place)
    if first == "uring":
        value = importlib.import_module("uring")
    else:
        value, parts = importlib.import_module("builtins"), [first, *parts]
    raw = value
    for part in parts:
        try:
            if part[0] == "[":
                value = raw = value[part[1:-1]]
            elif isinstance(value, ModuleType):
                value = raw = getattr(value, part)
            else:
                raw, value = inspect.getattr_static(value, part), getattr(value, part)
        except (AttributeError, KeyError):
            try:
                value = raw = importlib.import_module(f"{value.__name__}.{part}")
            except (AttributeError, ImportError):
                raise LookupError(f"{path}: there is no {part}") from None
    if parameter and parameter not in inspect.signature(value).parameters:
        raise LookupError(f"{path}: it takes no {parameter}")
    return Target(value, raw, parameter)


@functools.cache
def parts_of(file: Path) -> dict[str, ast.AST]:
    """The named parts of a test module: functions and classes, those inside of others too, and values."""
    found: dict[str, ast.AST] = {}
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found[name] = node
            case ast.Assign(targets=[ast.Name(id=name)]) if name.isupper():
                found[name] = node
    return found


def problems(table: list[Row]) -> list[str]:
    """The mistakes in the table: names twice, objects that are not there, other values, missing tests."""
    found = []
    seen = set()
    for row in table:
        if row.go in seen:
            found.append(f"{row.go} stands there twice")
        seen.add(row.go)
        if row.kind not in KINDS:
            found.append(f"{row.go} is of no kind: {row.kind!r}")
        try:
            target = resolve(row.python)
        except LookupError as error:
            found.append(f"{row.go}: {error}")
            continue
        if row.value and int(target.value) & (1 << 64) - 1 != int(row.value, 0):
            found.append(f"{row.go} is {row.value}, not {target.value:#x}")
        file, _, name = row.test.partition("::")
        if not name.startswith("test_") or not (ROOT / file).is_file():
            found.append(f"{row.go} has no test: {row.test!r}")
        elif name not in parts_of(ROOT / file):
            found.append(f"{row.go}: {file} has no {name}")
    return found


INTRODUCTION = """\
# The names of the Go package

Every public name of the Go package `uring`, whose design this package carries to Python: the Python object in
its place, a test that shows that it works, and the kernel it needs where that is newer than Linux 6.18.
Numbers are those that both have. [From Go to Python](from-go.md) says how names were turned into Python's,
and what is different on purpose.

`python -m tools.parity` makes this page from `parity.csv`. A test holds every row to the code, and `python -m
tools.parity prove` runs the tests and sees whether they reach what they stand for.
"""


def page(table: list[Row]) -> str:
    """The table as Markdown."""
    lines = [INTRODUCTION]
    for kind, title in KINDS.items():
        some = [row for row in table if row.kind == kind]
        lines += [f"## {title} ({len(some)})", ""]
        lines += ["| Go | Python | test | kernel | note |", "|---|---|---|---|---|"]
        lines += [_line(row) for row in some]
        lines.append("")
    return "\n".join(lines)


def _line(row: Row) -> str:
    file, _, name = row.test.partition("::")
    value = f" = {row.value}" if row.value else ""
    test = f"[{name.removeprefix('test_')}](../../{file})"
    return f"| `{row.go}` | `{row.python}`{value} | {test} | {row.kernel} | {row.note} |"


# The proof.


def code_of(target: Target) -> set[CodeType]:
    """The code that runs when the object is used; of a class any of its own. Empty for objects that are only
    looked up: attributes, numbers, classes without a function."""
    descriptor = vars(type(target.raw))
    candidates = [target.raw, target.value, descriptor.get("__get__"), descriptor.get("__set__")]
    if isinstance(target.value, type):
        candidates = list(vars(target.value).values())
    found = set()
    for candidate in candidates:
        inner = candidate.fget if isinstance(candidate, property) else candidate
        code = getattr(getattr(inner, "__func__", inner), "__code__", None)
        if code is not None and code.co_filename.startswith(SOURCE):
            found.add(code)
    return found


class Witness:
    """A pytest plugin that notes which of the package's functions run during each test."""

    def __init__(self) -> None:
        self.ran: dict[str, set[CodeType]] = {}
        self.failed: list[str] = []
        self._now: set[CodeType] | None = None

    def _see(self, frame: FrameType, event: str, _: object) -> None:
        if event == "call" and self._now is not None and frame.f_code.co_filename.startswith(SOURCE):
            self._now.add(frame.f_code)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self._now = self.ran.setdefault(item.nodeid.partition("[")[0], set())
        threading.setprofile(self._see)
        sys.setprofile(self._see)
        try:
            return (yield)
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
            self._now = None

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome != "passed":
            self.failed.append(f"{report.nodeid}: {report.outcome}")


def unreached(row: Row, ran: dict[str, set[CodeType]]) -> str:
    """Why the row's test does not show that its object works; empty if it does."""
    if row.kind == "const":
        return ""  # the value was compared
    if row.test not in ran:
        return "its test did not run"
    target = resolve(row.python)
    code = code_of(target)
    if code and not code & ran[row.test]:
        return f"{row.python} does not run in {row.test}"
    name = target.parameter or re.findall(r"\w+", row.python)[-1]
    if row.python.startswith("uring.abi."):
        return ""  # numbers and layouts are compared as a whole
    if (not code or target.parameter) and not mentions(row.test, name, target.value):
        return f"{row.test} does not mention {name}"
    return ""


def mentions(test: str, name: str, value: object) -> bool:
    """Whether the test, or what it uses of its module, has this name in it, or the object's own."""
    file, _, function = test.partition("::")
    there = parts_of(ROOT / file)
    names: set[str] = set()
    todo = [function]
    while todo:
        new = {name for node in ast.walk(there[todo.pop()]) for name in _names(node)} - names
        todo += new & there.keys()
        names |= new
    return name in names or getattr(value, "__name__", name) in names


def _names(node: ast.AST) -> list[str]:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
            return [name]
        case ast.Constant(value=str(name)):
            return [name]
    return []


def prove(table: list[Row]) -> int:
    """Runs the tests of the table; 0 if all of them pass and reach their rows."""
    witness = Witness()
    tests = sorted({row.test for row in table})
    # Before anything of the package is imported: pytest wants to see that itself.
    status = pytest.main(["-q", "-p", "no:cacheprovider", *tests], plugins=[witness])
    wrong = [f"{row.go}: {why}" for row in table if (why := unreached(row, witness.ran))]
    print(*witness.failed, *wrong, sep="\n")
    print(f"{len(table) - len(wrong)} of {len(table)} names are reached by their tests")
    return int(status) or bool(wrong)


def main(arguments: list[str]) -> int | str:
    table = rows()
    if arguments == ["prove"]:
        return prove(table)
    if found := problems(table):
        return "\n".join(found)
    PAGE.write_text(page(table), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
