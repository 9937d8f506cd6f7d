"""The verdict on the ring from two records of a test-suite, one on stock Trio and one on the ring.

The rule: a test that passes on stock Trio on this machine passes on the ring, except a few tests listed by
name with a reason; and the run on the ring really was one.
"""

from typing import Any

from tests.conformance.suites import Suite

Record = dict[str, Any]


def judge(suite: Suite, stock: Record, ring: Record, expected: list[dict[str, str]]) -> list[str]:
    """What is wrong, one sentence each; empty when the ring conforms."""
    return [
        *_about_the_runs(suite, stock, ring),
        *_about_the_list(suite, stock["outcomes"], expected),
        *_about_the_tests(stock["outcomes"], ring["outcomes"], {entry["id"] for entry in expected}),
    ]


def summary(suite: Suite, stock: Record, ring: Record) -> str:
    """Both runs in one line."""
    passed = [name for name, outcome in stock["outcomes"].items() if outcome == "passed"]
    same = sum(ring["outcomes"].get(name) == "passed" for name in passed)
    there = ring["submitted_by_file"].get(suite.must_submit, 0)
    return (
        f"{same} of the {len(passed)} tests that pass on stock Trio pass on the ring; "
        f"{ring['submitted']} SQEs submitted, {there} of them by {suite.must_submit}; "
        f"{len(_fallbacks(suite, ring))} runs fell back to epoll"
    )


def _about_the_runs(suite: Suite, stock: Record, ring: Record) -> list[str]:
    wrong = []
    for name, record in (("stock Trio", stock), ("the ring", ring)):
        if record["exit"] not in (0, 1):
            wrong.append(f"on {name} pytest ended with status {record['exit']}, not at the suite's end")
    passed = sum(outcome == "passed" for outcome in stock["outcomes"].values())
    if passed < suite.least_passed:
        wrong.append(
            f"only {passed} tests pass on stock Trio, not {suite.least_passed}: nothing to compare with"
        )
    if not ring["submitted"]:
        wrong.append("the ring run submitted no SQE: it did not run on a ring")
    elif not ring["submitted_by_file"].get(suite.must_submit):
        wrong.append(f"{suite.must_submit} submitted no SQE: it did not run on a ring")
    if ring["leaked"]:
        wrong.append(f"{ring['leaked']} operations did not end with their run and were leaked")
    if fallbacks := _fallbacks(suite, ring):
        wrong.append(f"{len(fallbacks)} runs fell back to epoll: {', '.join(sorted(set(fallbacks)))}")
    return wrong


def _fallbacks(suite: Suite, ring: Record) -> list[str]:
    """The tests that were on epoll, though nothing in them asks for it."""
    may = suite.enter_trio if ring["way"] == "backend" else ()
    return [test for test in ring["fallbacks"] if test.rpartition(" (")[0] not in may]


def _about_the_list(suite: Suite, stock: dict[str, str], expected: list[dict[str, str]]) -> list[str]:
    wrong = []
    if len(expected) > suite.most_expected:
        wrong.append(f"{len(expected)} tests are expected to fail, more than {suite.most_expected}")
    for entry in expected:
        if not entry.get("reason"):
            wrong.append(f"{entry['id']} is expected to fail without a reason")
        if stock.get(entry["id"]) != "passed":
            wrong.append(f"{entry['id']} is expected to fail but does not pass on stock Trio either")
    return wrong


def _about_the_tests(stock: dict[str, str], ring: dict[str, str], expected: set[str]) -> list[str]:
    wrong = []
    for name, outcome in stock.items():
        found = ring.get(name, "not run")
        if name in expected:
            if found != "xfailed":
                wrong.append(f"{name} is expected to fail on the ring but {found}: take it off the list")
        elif outcome == "passed" and found != "passed":
            wrong.append(f"{name} passes on stock Trio; on the ring: {found}")
    return wrong
