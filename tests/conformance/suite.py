"""One run of a test-suite, on stock Trio or on the ring; run as a script, in a directory of its own.

The outcome of each test, and for the ring what was submitted, is written to a JSON file. On the ring every
run and every guest run of the suite must be a ring run: the ring is chosen before the suite's tests are
imported, and a run that is set up on an epoll manager nevertheless is counted.

Tests that do not pass on stock Trio on this machine say nothing about the ring. There they are not run, for
they may leave behind what spoils the tests that follow.
"""

import argparse
import json
import os
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

# As a script this has its own directory on the path: the modules beside it are found without their package.
import anyio_names
import pytest
import suites
from trio._core import _io_epoll, _run

HERE = Path(__file__).parent
PATIENCE = 15.0


class Recorder:
    """A pytest plugin which keeps one outcome for each test: passed, failed, skipped or xfailed."""

    def __init__(self, marks: dict[str, pytest.MarkDecorator], totals: Callable[[], dict[str, int]]) -> None:
        self.outcomes: dict[str, str] = {}
        self.submitted_by_file: dict[str, int] = {}
        self._marks = marks
        self._totals = totals

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = filter(anyio_names.is_on_trio, items)
        for item in items:
            if (mark := self._marks.get(anyio_names.as_on_trio(item.nodeid))) is not None:
                item.add_marker(mark)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item):
        before = self._totals().get("submitted", 0)
        result = yield
        after = self._totals().get("submitted", 0)
        file = item.nodeid.partition("::")[0]
        self.submitted_by_file[file] = self.submitted_by_file.get(file, 0) + after - before
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        outcome = "xfailed" if report.skipped and hasattr(report, "wasxfail") else report.outcome
        name = anyio_names.as_on_trio(report.nodeid)
        # A test is as good as its worst phase: set-up and tear-down count too.
        if self.outcomes.get(name, "passed") == "passed":
            self.outcomes[name] = outcome


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--suite", choices=list(suites.SUITES), required=True)
    parser.add_argument("--way", choices=["stock", "installed", "backend"], required=True)
    parser.add_argument("--record", type=Path, required=True, help="where the outcomes go")
    parser.add_argument("--stock", type=Path, help="the record of the stock run, for a ring run")
    parser.add_argument("--brief", action="store_true", help="without slow tests and static tools")
    options, more = parser.parse_known_args()
    suite = suites.SUITES[options.suite]

    fallbacks: list[str] = []
    totals: Callable[[], dict[str, int]] = dict
    marks: dict[str, pytest.MarkDecorator] = {}
    if options.way != "stock":
        # Not for a stock run: there Trio is as its authors left it.
        from uring_trio.core.statistics import process_totals as totals

        count_epoll_managers(fallbacks)
        use_ring(options.way)
        marks = marks_for_ring(suite.name, json.loads(options.stock.read_text())["outcomes"])

    be_patient()
    recorder = Recorder(marks, totals)
    root = suite.directory()
    where = ["-c", str(root / suite.settings), "--rootdir", str(root), *(str(root / p) for p in suite.paths)]
    extent = suite.brief if options.brief else suite.whole
    code = pytest.main([*where, *suite.options, *extent, *more], plugins=[recorder])
    record = {
        "way": options.way,
        "exit": int(code),
        "outcomes": recorder.outcomes,
        "submitted": totals().get("submitted", 0),
        "submitted_by_file": recorder.submitted_by_file,
        "fallbacks": fallbacks,
        "leaked": totals().get("leaked", 0),
    }
    options.record.write_text(json.dumps(record, indent=1))
    return int(code)


def be_patient() -> None:
    """Give the pytests that tests start longer than the three seconds that some allow, which starting one
    alone may take on a busy machine and with sanitizers. What hangs is still found."""
    original = pytest.Pytester.run

    def run(self: pytest.Pytester, *args: object, timeout: float | None = None, **kwargs: object) -> object:
        return original(self, *args, timeout=timeout and max(timeout, PATIENCE), **kwargs)

    pytest.Pytester.run = run


def use_ring(way: str) -> None:
    if way == "installed":
        import uring_trio

        uring_trio.install()
    else:
        anyio_names.use_backend()


def marks_for_ring(suite: str, stock: dict[str, str]) -> dict[str, pytest.MarkDecorator]:
    marks = {
        name: pytest.mark.xfail(reason="does not pass on stock Trio on this machine either", run=False)
        for name, outcome in stock.items()
        if outcome == "failed"
    }
    for entry in tomllib.loads((HERE / "expected.toml").read_text()).get(suite, []):
        marks[entry["id"]] = pytest.mark.xfail(reason=entry["reason"], strict=True)
    return marks


def count_epoll_managers(made: list[str]) -> None:
    """Note, in ``made``, the test during which a run was set up on Trio's own epoll manager."""
    original = _run.setup_runner

    def setup_runner(*args: object, **kwargs: object) -> object:
        runner = original(*args, **kwargs)
        if type(runner.io_manager) is _io_epoll.EpollIOManager:
            made.append(os.environ.get("PYTEST_CURRENT_TEST", "outside of any test"))
        return runner

    _run.setup_runner = setup_runner


if __name__ == "__main__":
    sys.exit(main())
