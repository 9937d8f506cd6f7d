"""The rules for every test: it leaves no open file descriptor and no thread behind.

Tests that need a ring on the running kernel carry the marker ``ring``; those in ``tests/apps``,
``tests/kernel`` and ``tests/trio`` get it by their place. Without io_uring they are skipped by name, and
under ``CI=true`` a skip that is not listed in ``expected_skips.toml`` fails the session: a green run has
tested something.
"""

import ctypes
import gc
import os
import tempfile
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import page_cache

if page_cache.in_memory(tempfile.gettempdir()) and not page_cache.in_memory("/var/tmp"):
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/var/tmp")  # tests of the page cache need a disk below

HERE = Path(__file__).parent
NEEDS_RING = ("tests/apps/", "tests/kernel/", "tests/trio/")
OLDEST_KERNEL = (6, 18)
# A thread that was told to end may take a moment to do so.
JOIN_SECONDS = 30

skipped = pytest.StashKey[dict[str, str]]()


@pytest.fixture
def slow_disk(tmp_path: Path) -> Iterator[None]:
    """What is not in the page cache stays out of it for a while; see `tests.page_cache.slow_disk`."""
    with page_cache.slow_disk(tmp_path):
        yield


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """File descriptors and threads after the test are those from before it."""
    files, threads = open_files(), set(threading.enumerate())
    yield
    if open_files() != files:
        gc.collect()
    now = open_files()
    opened = {fd: name for fd, name in now.items() if files.get(fd) != name}
    closed = {fd: name for fd, name in files.items() if now.get(fd) != name}
    assert not opened, f"left open: {opened}"
    assert not closed, f"closed, though the test did not open it: {closed}"
    left = [thread for thread in threading.enumerate() if thread not in threads and not ends(thread)]
    assert not left, f"still running: {left}"


def open_files() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the descriptor that listed the directory
    return found


def ends(thread: threading.Thread) -> bool:
    # Trio keeps idle worker threads for some seconds, to use them again; they belong to the process.
    if thread.daemon and thread.name.startswith("Trio thread"):
        return True
    thread.join(JOIN_SECONDS)
    return not thread.is_alive()


def why_no_ring() -> str | None:
    """Why this machine cannot run the ring tests; asks the kernel itself, not the code under test."""
    release = tuple(
        int("".join(filter(str.isdigit, part)) or 0) for part in os.uname().release.split(".")[:2]
    )
    if release < OLDEST_KERNEL:
        return f"Linux {os.uname().release} is older than {'.'.join(map(str, OLDEST_KERNEL))}"
    setup, params = 425, ctypes.create_string_buffer(120)
    fd = ctypes.CDLL(None, use_errno=True).syscall(setup, 4, params)
    if fd < 0:
        return f"io_uring is refused here: {os.strerror(ctypes.get_errno())}"
    os.close(fd)
    return None


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ring: needs io_uring on the running kernel")
    config.stash[skipped] = {}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    reason = why_no_ring()
    for item in items:
        if item.nodeid.startswith(NEEDS_RING):
            item.add_marker(pytest.mark.ring)
        if reason is not None and item.get_closest_marker("ring"):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        item.config.stash[skipped][item.nodeid] = str(report.longrepr[2]).removeprefix("Skipped: ")
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report = yield
    if report.outcome == "skipped":
        collector.config.stash[skipped][collector.nodeid] = str(report.longrepr[2]).removeprefix("Skipped: ")
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    if unexpected_skips(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for name, reason in unexpected_skips(config).items():
        terminalreporter.line(f"SKIPPED, but not in expected_skips.toml: {name}: {reason}", red=True)


def unexpected_skips(config: pytest.Config) -> dict[str, str]:
    if os.environ.get("CI") != "true":
        return {}
    expected = {
        entry["id"] for entry in tomllib.loads((HERE / "expected_skips.toml").read_text()).get("skip", [])
    }
    return {
        name: reason
        for name, reason in config.stash[skipped].items()
        if name not in expected and name.partition("[")[0] not in expected
    }
