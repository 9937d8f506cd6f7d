"""A pytest plugin of `make sanitize`: notes after which test a report came, for `take_reports` to tell.

A process that a test started may end after it, so the test may be one before. The report of pytest's own
process is opened before the first test, which would otherwise find one descriptor more.
"""

from __future__ import annotations

from tests.sanitize.interpreter import NAMED, REPORTS

_seen: set[str] = set()


def pytest_sessionstart() -> None:
    try:
        bytearray(1 << 62)
    except MemoryError:
        pass  # AddressSanitizer has said so in the report
    _seen.update(path.name for path in REPORTS.iterdir())


def pytest_runtest_logfinish(nodeid: str) -> None:
    new = [path.name for path in REPORTS.iterdir() if path.name not in _seen and path.name != NAMED]
    _seen.update(new)
    if new:
        with (REPORTS / NAMED).open("a") as named:
            named.writelines(f"{name} {nodeid}\n" for name in new)
