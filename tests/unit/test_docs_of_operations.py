"""The docstring of each operation says what its manual page would: `uring.ops` has the shape of one."""

import builtins
import errno
import inspect
import re

import pytest

import uring
from uring import abi, ops
from uring.opcodes import by_name

FUNCTIONS = {name: getattr(ops, name) for name in ops.__all__ if inspect.isfunction(getattr(ops, name))}
REQUESTS = {name: function for name, function in FUNCTIONS.items() if name != "release_provided"}
"""`release_provided` makes no request."""
ORDER = ["Args", "Result", "Errors", "Ends", "Cancellation", "Raises", "Since", "Source"]
MANY = {name for name, function in REQUESTS.items() if "Multishot" in function.__annotations__["return"]}
MANY |= {"poll_add", "timeout", "send_zc", "sendto_zc", "sendmsg_zc"}
"""What completes more than once, or can."""
functions = pytest.mark.parametrize("name", FUNCTIONS)
requests = pytest.mark.parametrize("name", REQUESTS)


def sections(function: object) -> dict[str, str]:
    """The parts of a docstring by their headings, the text before the first under ``""``."""
    text = inspect.getdoc(function)
    assert text, f"{function} has no docstring"
    found = {"": []}
    heading = ""
    for line in text.splitlines():
        if re.fullmatch(r"[A-Z]\w+:", line):
            heading = line[:-1]
            assert heading not in found, f"{heading} stands twice"
            found[heading] = []
        else:
            assert not heading or not line or line.startswith("    "), line
            found[heading].append(line)
    return {heading: inspect.cleandoc("\n".join(lines)) for heading, lines in found.items()}


def items(text: str) -> dict[str, str]:
    """The ``name: text`` entries of a section."""
    entries = re.split(r"^(\w+): ", text, flags=re.MULTILINE)
    assert not entries[0], text
    return dict(zip(entries[1::2], entries[2::2]))


@functions
def test_starts_with_one_sentence(name: str) -> None:
    summary = sections(FUNCTIONS[name])[""].partition("\n\n")[0]
    assert re.match(r"[A-Z][a-z]+s\b", summary), "what it does, in the third person"
    assert summary.endswith((".", "not copy."))
    assert len(summary) < 250


@functions
def test_tells_every_parameter(name: str) -> None:
    told = items(sections(FUNCTIONS[name])["Args"])
    assert [*told] == [*inspect.signature(FUNCTIONS[name]).parameters]
    assert all(len(text.split()) >= 3 for text in told.values())


@functions
def test_tells_the_range_of_every_number(name: str) -> None:
    told = items(sections(FUNCTIONS[name])["Args"])
    for parameter in inspect.signature(FUNCTIONS[name]).parameters.values():
        if str(parameter.annotation).partition(" ")[0] in ("int", "float"):
            assert re.search(r"\d|``[A-Z]", told[parameter.name]), f"{parameter.name} has no range"


@functions
def test_tells_the_unit_of_every_amount(name: str) -> None:
    told = items(sections(FUNCTIONS[name])["Args"])
    for parameter in inspect.signature(FUNCTIONS[name]).parameters.values():
        if "float" in str(parameter.annotation):
            assert "second" in told[parameter.name], parameter.name
        elif re.fullmatch(r"(offset|length|size)(_\w+)?|\w+_size", parameter.name):
            assert re.search(r"\bbytes?\b|\bslot\b", told[parameter.name]), parameter.name


@functions
def test_raises_what_there_is(name: str) -> None:
    text = sections(FUNCTIONS[name])["Raises"]
    told = re.findall(r"^([A-Z].*?): ", text, re.MULTILINE)
    assert text.startswith(f"{told[0]}: ")
    for each in ", ".join(told).split(", "):
        kind = getattr(builtins, each, None) or getattr(uring, each)
        assert issubclass(kind, Exception), each


@requests
def test_has_every_section_in_one_order(name: str) -> None:
    found = sections(REQUESTS[name])
    assert [*found] == ["", *(heading for heading in ORDER if heading in found)]
    missing = {*ORDER} - {*found} - {"Ends"}
    assert not missing
    assert all(found.values()), "an empty section"


@requests
def test_tells_how_it_ends_if_it_completes_again(name: str) -> None:
    assert name not in MANY or "Ends" in sections(REQUESTS[name])


@requests
def test_names_its_errors(name: str) -> None:
    text = sections(REQUESTS[name])["Errors"]
    assert text.startswith(("- ``E", "None of its own."))
    named = re.findall(r"``(E[A-Z0-9]+)``", text)
    assert all(hasattr(errno, error) for error in named)
    for line in text.splitlines():
        assert line.startswith(("- ", "  ", "None")), line
    for constant in re.findall(r"``((?:IORING|IOSQE)_\w+)``", text):
        assert hasattr(abi, constant)


@requests
def test_tells_what_cancels_it(name: str) -> None:
    text = sections(REQUESTS[name])["Cancellation"]
    assert re.search(r"async_cancel|timeout|nothing to cancel|ends with its operation", text)


@requests
def test_tells_since_which_kernel(name: str) -> None:
    text = sections(REQUESTS[name])["Since"]
    told = re.match(r"Linux (\d+)\.(\d+)", text)
    assert told is not None
    opcodes = re.findall(r"abi\.IORING_OP_(\w+)", inspect.getsource(inspect.unwrap(REQUESTS[name])))
    for opcode in opcodes:
        oldest = tuple(map(int, by_name(opcode).since.split(".")))
        assert tuple(map(int, told.groups())) >= oldest, f"{opcode} is newer"


@requests
def test_names_its_source(name: str) -> None:
    text = sections(REQUESTS[name])["Source"]
    assert re.search(r"\w\([237]\)|Documentation/", text)
    for constant in re.findall(r"``((?:IORING|SOCKET_URING)_\w+)``", text):
        assert hasattr(abi, constant), constant


@functions
def test_names_only_operations_that_exist(name: str) -> None:
    text = inspect.getdoc(FUNCTIONS[name]) or ""
    for reference in re.findall(r"(?<!`)`(\w+)`(?!`)", text):
        assert hasattr(ops, reference), reference


def test_a_docstring_without_a_parameter_fails() -> None:
    def f(fd: int, n: int) -> None:
        """Does.

        Args:
            fd: the descriptor.
        """

    assert [*items(sections(f)["Args"])] != [*inspect.signature(f).parameters]
