"""The docstrings of `uring`'s public names, besides operations: arguments, errors, first kernel, source.

What operations say is in ``test_docs_of_operations.py``.
"""

import inspect
import re

import pytest

import uring
from uring import ops
from uring.session.methods import OperationMethods


def unwrapped(value: object) -> object:
    """What a function with its usual case in C stands for."""
    return inspect.unwrap(value) if callable(value) else value


def public() -> dict[str, tuple[type | None, object]]:
    """Each public function, method and property defined here, with its class, by its name."""
    found: dict[str, tuple[type | None, object]] = {}
    for name in uring.__all__:
        value = getattr(uring, name)
        if inspect.isfunction(value):
            found[name] = (None, value)
        elif inspect.isclass(value):
            for member in dir(value):
                raw = inspect.getattr_static(value, member)
                function = raw.fget if isinstance(raw, property) else getattr(raw, "__func__", raw)
                if not inspect.isfunction(unwrapped(function)) or (
                    member.startswith("_") and member != "__init__"
                ):
                    continue
                if function.__module__.startswith("uring") and member not in vars(OperationMethods):
                    found[f"{function.__module__}.{function.__qualname__}"] = (value, raw)
    return found


def function_of(entry: tuple[type | None, object]) -> object:
    raw = entry[1]
    return inspect.unwrap(raw.fget if isinstance(raw, property) else getattr(raw, "__func__", raw))


def text_of(entry: tuple[type | None, object]) -> str:
    """The docstring; that of a class tells of its ``__init__``."""
    owner, raw = entry
    if owner is not None and function_of(entry).__name__ == "__init__":
        return inspect.getdoc(owner) or ""
    return inspect.getdoc(raw) or ""


def section(text: str, heading: str) -> str:
    found = re.search(rf"^{heading}:\n((?:    .*\n|\n)+)", text + "\n", re.MULTILINE)
    return inspect.cleandoc(found[1]) if found else ""


PUBLIC = public()
names = pytest.mark.parametrize("name", PUBLIC)


@names
def test_has_a_docstring(name: str) -> None:
    assert len(text_of(PUBLIC[name]).split()) >= 3


@names
def test_tells_every_parameter(name: str) -> None:
    entry = PUBLIC[name]
    if isinstance(entry[1], property):
        return
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = inspect.signature(function_of(entry)).parameters.values()
    wanted = [p.name for p in parameters if p.name not in ("self", "cls") and p.kind not in kinds]
    text = text_of(entry)
    told = re.findall(r"^(\w+): ", section(text, "Args") or section(text, "Attributes"), re.MULTILINE)
    if entry[0] is not None and function_of(entry).__name__ == "__init__":
        assert {*wanted} <= {*told, *re.findall(r"^(\w+): ", section(text, "Attributes"), re.MULTILINE)}
    else:
        assert told == wanted


@names
def test_tells_what_it_raises(name: str) -> None:
    entry = PUBLIC[name]
    try:
        source = inspect.getsource(function_of(entry))
    except OSError:  # written by `dataclass`
        return
    if re.search(r"^\s+raise (?!AttributeError)", source, re.MULTILINE):
        assert section(text_of(entry), "Raises")


@names
def test_tells_the_kernel_and_the_source_of_a_registration(name: str) -> None:
    entry = PUBLIC[name]
    function = function_of(entry)
    if isinstance(entry[1], property) or not re.match(
        r"(un)?register_|query_|resize_|sync_", function.__name__
    ):
        return
    assert re.match(r"Linux \d+\.\d+", section(text_of(entry), "Since"))
    assert re.search(r"io_uring_register\(2\), ``IORING_", section(text_of(entry), "Source"))


def test_public_signatures_have_no_any() -> None:
    functions = {name: function_of(entry) for name, entry in PUBLIC.items()}
    functions |= {
        name: inspect.unwrap(f) for name, f in vars(ops).items() if inspect.isfunction(unwrapped(f))
    }
    found = {
        f"{name}({parameter})"
        for name, function in functions.items()
        for parameter, annotation in function.__annotations__.items()
        if re.search(r"\bAny\b", str(annotation))
    }
    assert not found
