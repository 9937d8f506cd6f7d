"""No `Any` in what checkers see of `uring`: parameters, results and attributes of its public names.

A type checker says nothing about a value whose type is `Any`. The annotations are read from the source, so
that overloads count, and attributes that a class or its ``__init__`` declares.
"""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, get_type_hints

import pytest

import uring
from uring import ops
from uring.options import OptionFields, Options

if TYPE_CHECKING:
    from collections.abc import Iterator

PLAIN_PROPERTY = "property"
"""Reading an attribute annotated so gives `Any`."""


def functions(node: ast.FunctionDef, name: str) -> Iterator[tuple[str, ast.expr]]:
    arguments = node.args
    for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
        if each.annotation is not None:
            yield f"{name}({each.arg})", each.annotation
    for more in (arguments.vararg, arguments.kwarg):
        if more is not None and more.annotation is not None:
            yield f"{name}(*{more.arg})", more.annotation
    if node.returns is not None:
        yield f"{name} ->", node.returns


def public(name: str) -> bool:
    return not name.startswith("_") or (name.startswith("__") and name.endswith("__"))


def implements_overloads(node: ast.FunctionDef, body: list[ast.stmt]) -> bool:
    """Checkers see its overloads instead."""
    names = [each.name for each in body if isinstance(each, ast.FunctionDef)]
    decorated = any(isinstance(each, ast.Name) and each.id == "overload" for each in node.decorator_list)
    return names.count(node.name) > 1 and not decorated and not node.decorator_list


def declared(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    for each in ast.walk(node):
        if not isinstance(each, ast.AnnAssign):
            continue
        target = each.target
        mine = isinstance(target, ast.Attribute) and getattr(target.value, "id", "") == "self"
        if (each in node.body and isinstance(target, ast.Name)) or mine:
            name = target.id if isinstance(target, ast.Name) else target.attr  # type: ignore[union-attr]
            if public(name):
                yield f"{node.name}.{name}", each.annotation
    for method in node.body:
        if (
            isinstance(method, ast.FunctionDef)
            and public(method.name)
            and not implements_overloads(method, node.body)
        ):
            yield from functions(method, f"{node.name}.{method.name}")


def annotations() -> dict[str, str]:
    """Every annotation of a public name, by what it is of."""
    wanted: dict[Path, set[str]] = {}
    for module in (uring, ops):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value):
                of = [each for each in value.__mro__ if each.__module__.startswith("uring.")]
            else:
                of = [inspect.unwrap(value)] if inspect.isroutine(value) else []
            for each in of:
                wanted.setdefault(Path(inspect.getfile(each)), set()).add(each.__name__)
    found: dict[str, str] = {}
    for path, names in wanted.items():
        body = ast.parse(path.read_text()).body
        for node in body:
            if isinstance(node, ast.ClassDef) and node.name in names:
                found |= {what: ast.unparse(each) for what, each in declared(node)}
            elif (
                isinstance(node, ast.FunctionDef)
                and node.name in names
                and not implements_overloads(node, body)
            ):
                found |= {what: ast.unparse(each) for what, each in functions(node, node.name)}
    return found


ANNOTATIONS = annotations()


def loose(annotation: str) -> bool:
    names = {each.id for each in ast.walk(ast.parse(annotation, mode="eval")) if isinstance(each, ast.Name)}
    texts = [each.value for each in ast.walk(ast.parse(annotation)) if isinstance(each, ast.Constant)]
    return "Any" in names or PLAIN_PROPERTY in names or any(loose(t) for t in texts if isinstance(t, str))


def test_no_public_annotation_is_any() -> None:
    assert {what: text for what, text in ANNOTATIONS.items() if loose(text)} == {}


def test_all_public_names_are_read() -> None:
    assert len(ANNOTATIONS) > 1500
    for what in (
        "Submission.submit(op)",
        "read(buffer)",
        "Completion.result ->",
        "Ctx.ref1",
        "Request.value",
    ):
        assert any(each.endswith(what) for each in ANNOTATIONS), what


@pytest.mark.parametrize("annotation", ["Any", "list[Any]", "'dict[str, Any]'", "property", "int | Any"])
def test_any_is_noticed(annotation: str) -> None:
    assert loose(annotation)
    assert not loose(annotation.replace("Any", "object").replace("property", "int"))


def test_keywords_of_a_ring_are_the_fields_of_its_options() -> None:
    assert OptionFields.__annotations__.keys() == Options.__dataclass_fields__.keys()
    assert get_type_hints(OptionFields) == {
        name: kind for name, kind in get_type_hints(Options).items() if name in Options.__dataclass_fields__
    }
