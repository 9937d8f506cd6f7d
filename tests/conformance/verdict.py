"""What two records of Trio's test-suite, one on stock Trio and one on the ring, say about the ring.

The rule: what passes on stock Trio on this machine passes on the ring, except at most ``MOST_EXPECTED`` tests
listed by name with a reason; and the run on the ring really was one.
"""

from typing import Any

MOST_EXPECTED = 3
# Fewer passes on stock Trio than this mean that the suite was not found or not collected. It has some 870.
LEAST_PASSED = 700
GUEST_MODE = "trio/_core/_tests/test_guest_mode.py"

Record = dict[str, Any]


def judge(stock: Record, ring: Record, expected: list[dict[str, str]]) -> list[str]:
    """What is wrong, one sentence each; empty when the ring conforms."""
    return [
        *_about_the_runs(stock, ring),
        *_about_the_list(stock["outcomes"], expected),
        *_about_the_tests(stock["outcomes"], ring["outcomes"], {entry["id"] for entry in expected}),
    ]


def summary(stock: Record, ring: Record) -> str:
    """Both runs in one line."""
    passed = [name for name, outcome in stock["outcomes"].items() if outcome == "passed"]
    same = sum(ring["outcomes"].get(name) == "passed" for name in passed)
    guest = ring["submitted_by_file"].get(GUEST_MODE, 0)
    return (
        f"{same} of the {len(passed)} tests that pass on stock Trio pass on the ring; "
        f"{ring['submitted']} SQEs submitted, {guest} of them by the guest-mode tests; "
        f"{len(ring['fallbacks'])} runs fell back to epoll"
    )


def _about_the_runs(stock: Record, ring: Record) -> list[str]:
    wrong = []
    for name, record in (("stock Trio", stock), ("the ring", ring)):
        if record["exit"] not in (0, 1):
            wrong.append(f"on {name} pytest ended with status {record['exit']}, not at the suite's end")
    passed = sum(outcome == "passed" for outcome in stock["outcomes"].values())
    if passed < LEAST_PASSED:
        wrong.append(f"only {passed} tests pass on stock Trio, not {LEAST_PASSED}: nothing to compare with")
    if not ring["submitted"]:
        wrong.append("the ring run submitted no SQE: it did not run on a ring")
    elif not ring["submitted_by_file"].get(GUEST_MODE):
        wrong.append(f"{GUEST_MODE} submitted no SQE: guest mode did not run on a ring")
    if ring["leaked"]:
        wrong.append(f"{ring['leaked']} operations did not end with their run and were leaked")
    if ring["fallbacks"]:
        tests = ", ".join(sorted(set(ring["fallbacks"])))
        wrong.append(f"{len(ring['fallbacks'])} runs fell back to epoll: {tests}")
    return wrong


def _about_the_list(stock: dict[str, str], expected: list[dict[str, str]]) -> list[str]:
    wrong = []
    if len(expected) > MOST_EXPECTED:
        wrong.append(f"{len(expected)} tests are expected to fail, more than {MOST_EXPECTED}")
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
