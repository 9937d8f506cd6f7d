"""The docstrings of `uring_trio`'s public names: parameters, units, errors, what a cancellation does.

What a class says of all of its methods holds for each of them: `RingFile` names the exceptions of its
methods, and when they can be cancelled.
"""

import dataclasses
import importlib
import inspect
import re

import pytest

from tests.unit.test_docs_of_uring import section

MODULES = ["uring_trio", *(f"uring_trio.{name}" for name in ("anyio", "debug", "metrics", "testing"))]
# Their ``__init__`` is for the package: others get them from the function that the docstring names.
MADE = {
    "BufferedFile": "open_file",
    "Connections": "connections",
    "DirectFile": "open_direct",
    "DirectListener": "listen_tcp",
    "DirectStream": "DirectListener",
    "Lease": "chunks",
    "RawFile": "open_file",
    "RegisteredBuffer": "RegisteredBuffers",
    "RingFile": "open_file",
    "RingReceiveChannel": "open_ring_channel",
    "RingSendChannel": "open_ring_channel",
    "TextFile": "open_file",
    "UringTestRunner": "anyio",
}
UNITS = r"\d|``[A-Z_a-z.]*[A-Z]|byte|character|second|connection|descriptor|permission|port\b|number|signal"


def public() -> dict[str, tuple[type | None, object]]:
    """Each public function, method and property defined in `uring_trio`, with its class, by its name."""
    found: dict[str, tuple[type | None, object]] = {}
    for module in MODULES:
        for name in importlib.import_module(module).__all__:
            value = getattr(importlib.import_module(module), name)
            if inspect.isfunction(inspect.unwrap(value)):
                found[f"{module}.{name}"] = (None, value)
            elif inspect.isclass(value):
                for member in dir(value):
                    raw = inspect.getattr_static(value, member)
                    if member.startswith("_") and (member != "__init__" or value.__name__ in MADE):
                        continue
                    function = function_of(raw)
                    if inspect.isfunction(function) and function.__module__.startswith("uring_trio"):
                        found[f"{module}.{name}.{member}"] = (value, raw)
    return found


def function_of(raw: object) -> object:
    inner = raw.fget if isinstance(raw, property) else getattr(raw, "__func__", raw)
    return inspect.unwrap(inner) if callable(inner) else inner


def text_of(entry: tuple[type | None, object]) -> str:
    """The docstring; that of a class tells of its ``__init__``."""
    owner, raw = entry
    return inspect.getdoc(owner if owner and function_of(raw).__name__ == "__init__" else raw) or ""


def around(entry: tuple[type | None, object]) -> str:
    """The docstring, and those of the classes that the method is in."""
    owners = [] if entry[0] is None else [base for base in entry[0].__mro__ if "uring" in base.__module__]
    return "\n".join([text_of(entry), *(inspect.getdoc(owner) or "" for owner in owners)])


def told(text: str) -> dict[str, str]:
    """The entries of the sections on arguments and attributes; one may have several names."""
    found: dict[str, str] = {}
    for heading in ("Args", "Attributes"):
        entries = re.split(r"^((?:\*{0,2}\w+,\s+)*\*{0,2}\w+):\s", section(text, heading), flags=re.MULTILINE)
        for keys, meaning in zip(entries[1::2], entries[2::2]):
            found |= {key.strip("*"): meaning for key in re.split(r",\s+", keys)}
    return found


def parameters(entry: tuple[type | None, object]) -> list[inspect.Parameter]:
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    found = inspect.signature(function_of(entry[1])).parameters.values()
    return [p for p in found if p.name not in ("self", "cls") and p.kind not in kinds]


PUBLIC = public()
CALLS = [name for name, entry in PUBLIC.items() if not isinstance(entry[1], property)]
AWAITED = [name for name in CALLS if inspect.iscoroutinefunction(function_of(PUBLIC[name][1]))]


@pytest.mark.parametrize("name", PUBLIC)
def test_has_a_docstring(name: str) -> None:
    assert len(text_of(PUBLIC[name]).split()) >= 3


@pytest.mark.parametrize("name", CALLS)
def test_tells_every_parameter(name: str) -> None:
    wanted = [p.name for p in parameters(PUBLIC[name])]
    found = told(text_of(PUBLIC[name]))
    assert [parameter for parameter in wanted if parameter not in found] == []
    assert all(found[parameter].strip() for parameter in wanted)


@pytest.mark.parametrize("name", CALLS)
def test_tells_units_and_ranges(name: str) -> None:
    if dataclasses.is_dataclass(PUBLIC[name][0]):  # counts of what their names say
        return
    found = told(text_of(PUBLIC[name]))
    for parameter in parameters(PUBLIC[name]):
        kind = str(parameter.annotation).partition(" ")[0]
        if kind == "float":
            assert "second" in found[parameter.name], parameter.name
        elif kind == "int":
            assert re.search(UNITS, found[parameter.name]), parameter.name


@pytest.mark.parametrize("name", [name for name in CALLS if not name.endswith(".aclose")])
def test_tells_what_it_raises(name: str) -> None:
    try:
        source = inspect.getsource(function_of(PUBLIC[name][1]))
    except OSError:  # written by `dataclass`
        return
    raises = re.search(r"^\s+raise (?!AttributeError)", source, re.MULTILINE)
    if raises or name in AWAITED:
        assert re.search(r"^Raises:|[Ee]rrors|exceptions|[Rr]aise", around(PUBLIC[name]), re.MULTILINE)


@pytest.mark.parametrize("name", AWAITED)
def test_tells_what_a_cancellation_does(name: str) -> None:
    assert re.search(r"[Cc]ancel|checkpoint", around(PUBLIC[name]))


@pytest.mark.parametrize("name", MADE)
def test_names_where_it_comes_from(name: str) -> None:
    owners = [getattr(importlib.import_module(module), name, None) for module in MODULES]
    text = inspect.getdoc(next(filter(None, owners))) or ""
    assert MADE[name] in text.replace("AnyIO", "anyio")


def test_a_docstring_without_a_parameter_or_a_unit_fails() -> None:
    def f(fd: int, timeout: float) -> None:
        """Does it.

        Args:
            fd, other: the descriptor.
        """

    assert told(inspect.getdoc(f)).keys() == {"fd", "other"}
    assert [p.name for p in parameters((None, f))] == ["fd", "timeout"]


def test_records_are_told_by_their_fields() -> None:
    record = dataclasses.make_dataclass("Record", [("x", int)])
    record.__doc__ = "One.\n\nAttributes:\n    x: its place."
    assert told(text_of((record, record.__init__))) == {"x": "its place."}
