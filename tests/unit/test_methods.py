"""The methods of the ring come from the operations: their parameters, their text, their errors."""

import inspect
import pydoc
import re

import pytest

from uring import Ring, ops
from uring.session.methods import OperationMethods

METHODS = [
    name for name, value in vars(OperationMethods).items() if inspect.isfunction(inspect.unwrap(value))
]
OPERATIONS = {name: getattr(ops, name) for name in ops.__all__ if inspect.isfunction(getattr(ops, name))}
HAVE_NO_METHOD = {"release_provided"}
"""It makes no request."""
methods = pytest.mark.parametrize("name", METHODS)


def operation_of(name: str) -> str:
    return name.removeprefix("submit_")


def test_each_operation_has_its_method() -> None:
    assert sorted(map(operation_of, METHODS)) == sorted(OPERATIONS.keys() - HAVE_NO_METHOD)


@methods
def test_readers_see_the_operation(name: str) -> None:
    operation = OPERATIONS[operation_of(name)]
    method = getattr(Ring, name)
    ring, *rest, ctx = inspect.signature(method).parameters.values()
    assert (ring.name, ctx.name, ctx.kind) == ("self", "ctx", inspect.Parameter.KEYWORD_ONLY)
    assert rest == [*inspect.signature(operation).parameters.values()]
    assert inspect.getdoc(method).startswith(inspect.getdoc(operation))
    assert method.__qualname__ == f"OperationMethods.{name}"
    assert method.__code__.co_name == name  # in tracebacks and profiles
    # Newer Pythons break long lines there, and show annotations without quotes.
    shown = re.sub(r"[\s']", "", pydoc.plain(pydoc.render_doc(method)))
    assert f"{name}(self," in shown
    assert "ctx:int|None=" in shown


@methods
def test_each_has_the_options_of_every_entry(name: str) -> None:
    options = inspect.signature(getattr(Ring, name)).parameters
    for option in ("sqe_flags", "personality"):
        assert options[option].kind is inspect.Parameter.KEYWORD_ONLY
        assert options[option].default == 0


def test_options_of_the_entry() -> None:
    given = ops.fsync(3, fixed_file=True, sqe_flags=1 << 4, personality=7)
    assert given.fields == ops.fsync(3, fixed_file=True).with_flags(1 << 4).with_personality(7).fields
    assert type(ops.read_multishot(3, 1, sqe_flags=1)) is type(ops.read_multishot(3, 1))
    with pytest.raises(ValueError, match="the byte of IOSQE flags is 0 to 255, not 256"):
        ops.nop(sqe_flags=256)
    with pytest.raises(ValueError, match="a personality is 0 to 65535, not 65536"):
        ops.nop(personality=1 << 16)


def test_a_declaration_is_no_attribute_outside_of_a_class() -> None:
    from uring.session.methods import Method

    with pytest.raises(TypeError, match="declared in the body of a class"):
        Method(ops.nop).__get__(None, object)
