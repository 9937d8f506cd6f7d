"""The reference of the site has every public name of both packages once, and each name has a docstring."""

import dataclasses
import importlib
import inspect
import re
from collections import Counter
from pathlib import Path

import pytest

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
DIRECTIVE = re.compile(r"^\.\. auto(function|class|exception|data|module):: ([\w.]+)$", re.MULTILINE)
MODULES = [
    "uring",
    "uring.abi",
    "uring.ops",
    "uring_trio",
    "uring_trio.anyio",
    "uring_trio.debug",
    "uring_trio.metrics",
    "uring_trio.testing",
]
# Modules with pages of their own, and names of `uring` that other modules export too.
APART = {
    "uring.abi",
    "uring.ops",
    "uring.ops.Op",
    "uring_trio.NoWorker",
    "uring_trio.OperationRestricted",
    "uring_trio.RingUnavailable",
}


def names(module: str) -> set[str]:
    return {f"{module}.{name}" for name in importlib.import_module(module).__all__} - APART


def documented() -> Counter[str]:
    """How often each name stands in the reference."""
    found: Counter[str] = Counter()
    for page in REFERENCE.glob("*.md"):
        for kind, name in DIRECTIVE.findall(page.read_text()):
            found.update(names(name) if kind == "module" else [name])
    return found


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_is_in_the_reference(module: str) -> None:
    missing = names(module) - documented().keys()
    assert missing == set(), "add them to a page in docs/reference"


def test_no_name_stands_there_twice() -> None:
    assert [name for name, times in documented().items() if times > 1] == []


def test_every_name_of_the_reference_exists() -> None:
    for name in documented():
        module, _, last = name.rpartition(".")
        assert hasattr(importlib.import_module(module), last), name


@pytest.mark.parametrize("module", MODULES)
def test_every_public_name_has_a_docstring(module: str) -> None:
    package = importlib.import_module(module)
    objects = {name: getattr(package, name) for name in package.__all__}
    has_text = {name: inspect.getdoc(value) for name, value in objects.items() if is_definition(value)}
    assert [name for name, text in has_text.items() if not text] == []


def is_definition(value: object) -> bool:
    return inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value)


RECORDS = [
    getattr(importlib.import_module(module), name)
    for module in MODULES
    if module.startswith("uring_trio")
    for name in importlib.import_module(module).__all__
    if dataclasses.is_dataclass(getattr(importlib.import_module(module), name))
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_field_is_explained(record: type) -> None:
    told = set(re.findall(r"^    (\w+): ", inspect.getdoc(record) or "", re.MULTILINE))
    fields = [field.name for field in dataclasses.fields(record) if not field.name.startswith("_")]
    assert [name for name in fields if name not in told] == []
