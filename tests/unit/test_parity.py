"""The table of the Go package's names: each row has its object, number and test; the page is fresh."""

from __future__ import annotations

import pytest

from tools import parity

TABLE = parity.rows()
TEST = "tests/unit/test_parity.py::test_every_row_holds"
ROW = parity.Row("Name", "const", "", "uring.abi.KIB", TEST, "", "")


def test_every_row_holds() -> None:
    assert parity.problems(TABLE) == []


def test_the_page_is_made_of_the_table() -> None:
    assert parity.PAGE.read_text(encoding="utf-8") == parity.page(TABLE), "run: python -m tools.parity"


def test_constants_have_the_values_of_the_table() -> None:
    numbers = [row for row in TABLE if row.value]
    assert len(numbers) > 200
    for row in numbers:
        assert int(parity.resolve(row.python).value) & (1 << 64) - 1 == int(row.value, 0), row.go


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"python": "uring.Ring.receive"}, "there is no receive"),
        ({"python": "uring.Ring.recv(size)"}, "it takes no size"),
        ({"python": "uring.abi.layouts.STRUCTS[iovec].fields[size]"}, "there is no [size]"),
        ({"value": "1025"}, "is 1025, not 0x400"),
        ({"test": ""}, "has no test"),
        ({"test": "tests/unit/test_parity.py::test_nothing"}, "has no test_nothing"),
        ({"test": "tests/unit/test_parity.py::no_test"}, "has no test"),
        ({"test": "tests/unit/test_gone.py::test_gone"}, "has no test"),
        ({"kind": "thing"}, "of no kind"),
    ],
)
def test_a_row_that_does_not_hold(change: dict[str, str], complaint: str) -> None:
    assert parity.problems([ROW]) == []
    (found,) = parity.problems([ROW._replace(**change)])
    assert complaint in found


def test_a_name_that_stands_there_twice() -> None:
    assert parity.problems([ROW, ROW]) == ["Name stands there twice"]


def test_a_test_that_does_not_reach_its_row() -> None:
    row = ROW._replace(kind="method", python="uring.Ring.recv")
    code = parity.code_of(parity.resolve("uring.Ring.recv"))
    assert "does not run" in parity.unreached(row, {row.test: set()})
    assert "did not run" in parity.unreached(row, {})
    assert parity.unreached(row, {row.test: code}) == ""
    by_parameter = row._replace(python="uring.Ring.recv(fixed_file)")
    assert "does not mention fixed_file" in parity.unreached(by_parameter, {row.test: code})
    looked_at = row._replace(kind="field", python="uring.Features.sq_entries")
    assert "does not mention sq_entries" in parity.unreached(looked_at, {row.test: set()})
