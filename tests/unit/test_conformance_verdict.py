"""The judge of the conformance run finds each way in which a run can be wrong, and accepts a right one."""

from typing import Any

import pytest

from tests.conformance.suites import ANYIO, TRIO
from tests.conformance.verdict import judge, summary

NAMES = [f"trio/test_a.py::test_{number}" for number in range(TRIO.least_passed)]


def record(**changes: Any) -> dict[str, Any]:
    good = {
        "way": "installed",
        "exit": 0,
        "outcomes": dict.fromkeys(NAMES, "passed"),
        "submitted": 7,
        "submitted_by_file": {TRIO.must_submit: 2},
        "fallbacks": [],
        "leaked": 0,
    }
    return good | changes


def outcomes(**changes: str) -> dict[str, str]:
    return dict.fromkeys(NAMES, "passed") | {NAMES[int(key[1:])]: value for key, value in changes.items()}


def expect(*numbers: int) -> list[dict[str, str]]:
    return [{"id": NAMES[number], "reason": "why"} for number in numbers]


@pytest.mark.parametrize(
    ("stock", "ring", "expected"),
    [
        (record(), record(), []),
        (record(), record(outcomes=outcomes(n3="xfailed")), expect(3)),
        (
            record(exit=1, outcomes={**outcomes(), "x": "failed"}),
            record(outcomes={**outcomes(), "x": "xfailed"}),
            [],
        ),
    ],
    ids=["all pass", "one is expected to fail", "one fails on both"],
)
def test_accepts(stock: dict[str, Any], ring: dict[str, Any], expected: list[dict[str, str]]) -> None:
    assert judge(TRIO, stock, ring, expected) == []


@pytest.mark.parametrize(
    ("stock", "ring", "expected", "complaint"),
    [
        (record(), record(outcomes=outcomes(n1="failed"), exit=1), [], "on the ring: failed"),
        (record(), record(outcomes=outcomes(n1="skipped")), [], "on the ring: skipped"),
        (record(), record(outcomes=dict.fromkeys(NAMES[1:], "passed")), [], "on the ring: not run"),
        (record(), record(outcomes=outcomes(n1="failed"), exit=1), expect(1), "take it off the list"),
        (record(), record(), [{"id": "gone", "reason": "why"}], "does not pass on stock"),
        (
            record(),
            record(outcomes=outcomes(n1="xfailed")),
            [{"id": NAMES[1], "reason": ""}],
            "without a reason",
        ),
        (
            record(),
            record(outcomes=outcomes(n0="xfailed", n1="xfailed", n2="xfailed", n3="xfailed")),
            expect(*range(TRIO.most_expected + 1)),
            "more than",
        ),
        (record(), record(submitted=0), [], "no SQE"),
        (record(), record(submitted_by_file={}), [], "submitted no SQE: it did not run"),
        (record(), record(leaked=2), [], "2 operations did not end"),
        (record(), record(fallbacks=["t"]), [], "fell back to epoll: t"),
        (record(outcomes={"x": "passed"}), record(outcomes={"x": "passed"}), [], "nothing to compare with"),
        (record(exit=2), record(), [], "on stock Trio pytest ended with status 2"),
        (record(), record(exit=3), [], "on the ring pytest ended with status 3"),
    ],
)
def test_complains(
    stock: dict[str, Any], ring: dict[str, Any], expected: list[dict[str, str]], complaint: str
) -> None:
    (sentence,) = judge(TRIO, stock, ring, expected)
    assert complaint in sentence


def test_tests_that_name_trio_may_be_on_epoll_beside_the_backend() -> None:
    entering = [f"{name} (call)" for name in ANYIO.enter_trio]
    names = dict.fromkeys([f"{ANYIO.must_submit}::{n}" for n in range(ANYIO.least_passed)], "passed")
    ring = record(outcomes=names, submitted_by_file={ANYIO.must_submit: 1}, fallbacks=entering, way="backend")
    stock = record(outcomes=names, way="stock")
    assert judge(ANYIO, stock, ring, []) == []
    (sentence,) = judge(ANYIO, stock, ring | {"way": "installed"}, [])
    assert f"{len(entering)} runs fell back" in sentence
    (sentence,) = judge(ANYIO, stock, ring | {"fallbacks": [*entering, "another (call)"]}, [])
    assert "1 runs fell back to epoll: another" in sentence


def test_summary_counts_what_both_pass() -> None:
    line = summary(TRIO, record(), record(outcomes=outcomes(n1="failed")))
    assert f"{TRIO.least_passed - 1} of the {TRIO.least_passed} tests" in line
    assert f"7 SQEs submitted, 2 of them by {TRIO.must_submit}; 0 runs fell back" in line
