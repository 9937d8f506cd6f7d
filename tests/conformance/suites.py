"""The test-suites that the ring is held to: where each is, how its authors run it, and what a run must show.

Trio's and pytest-trio's ship with the packages; the others come from the source distribution of the very
version that is installed, which pip downloads once into ``.cache``. Of it only the tests are unpacked, so
that what they import is what is installed.
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parents[1] / ".cache" / "suites"


@dataclass(frozen=True)
class Suite:
    """One suite.

    Args:
        name: of the distribution; also the key of its exceptions in ``expected.toml``.
        title: for people.
        paths: what to run, relative to the directory that `directory` returns.
        settings: the pytest settings file, relative to that directory; of ours if absolute.
        plugins: pytest plugins, also for the runs inside its tests. Nothing else is loaded.
        options: for pytest.
        whole, brief: more of them, for a run of all of it and for one without what takes long and says
            nothing about the ring.
        least_passed: fewer passes on stock Trio mean that the suite was not found or not collected.
        most_expected: exceptions that the list may have.
        must_submit: a file whose tests cannot pass on a ring without submitting anything to it.
        ways: to be on the ring: "installed" is `uring_trio.install`, "backend" is AnyIO's backend uring.
        enter_trio: tests that start Trio by that name whatever backend they are given, for the second way.
    """

    name: str
    title: str
    paths: tuple[str, ...]
    settings: str
    plugins: tuple[str, ...]
    least_passed: int
    most_expected: int
    must_submit: str
    options: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    brief: tuple[str, ...] = ()
    ships_with_package: bool = False
    ways: tuple[str, ...] = ("installed",)
    enter_trio: tuple[str, ...] = ()

    def directory(self) -> Path:
        """Where its paths start; downloads it if need be."""
        if self.ships_with_package:
            package = find_spec(self.paths[0].partition("/")[0])
            return Path(package.origin).parents[1]
        return unpacked(self.name, version(self.name))


TRIO = Suite(
    name="trio",
    title="Trio's test-suite",
    ships_with_package=True,
    paths=("trio",),
    settings=str(HERE / "pytest.ini"),
    plugins=(),
    options=("--no-header", "--tb=short", "-rfEX"),
    whole=("--run-slow",),
    brief=("-m", "not redistributors_should_skip"),
    least_passed=700,  # of some 870
    most_expected=3,
    must_submit="trio/_core/_tests/test_guest_mode.py",
)
ANYIO = Suite(
    name="anyio",
    title="AnyIO's test-suite",
    paths=("tests",),
    settings="pyproject.toml",
    plugins=(),
    # It may be imported before pytest gets to it, as the backend needs it.
    options=("-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"),
    least_passed=900,  # of some 1140, with IPv6 1200
    most_expected=5,
    must_submit="tests/test_sockets.py",
    ways=("installed", "backend"),
    enter_trio=(
        "tests/test_eventloop.py::TestTrioOptions::test_clock",
        "tests/test_sockets.py::TestUDPSocket::test_bind_failure_closes_socket[ipv4-trio]",
        "tests/test_sockets.py::TestUDPSocket::test_bind_failure_closes_socket[ipv6-trio]",
        "tests/test_taskgroups.py::test_run_natively[trio]",
    ),
)
PYTEST_TRIO = Suite(
    name="pytest-trio",
    title="pytest-trio's tests",
    ships_with_package=True,
    paths=("pytest_trio/_tests",),
    settings=str(HERE / "plain.ini"),
    plugins=("pytest_trio.plugin", "_hypothesis_pytestplugin", "pytest_timeout"),
    # One file imports what Trio no longer has; the others run all the same.
    options=("--continue-on-collection-errors",),
    least_passed=40,
    most_expected=0,
    must_submit="pytest_trio/_tests/test_basic.py",
)
TRIO_WEBSOCKET = Suite(
    name="trio-websocket",
    title="trio-websocket's tests",
    paths=("tests",),
    settings=str(HERE / "plain.ini"),
    plugins=("pytest_trio.plugin", "pytest_timeout"),
    options=("-o", "trio_mode=true"),
    least_passed=60,
    most_expected=0,
    must_submit="tests/test_connection.py",
)
HTTPCORE = Suite(
    name="httpcore",
    title="httpcore's asynchronous tests",
    paths=("tests/_async", "tests/test_cancellations.py"),
    settings="pyproject.toml",
    plugins=("anyio.pytest_plugin", "pytest_trio.plugin", "pytest_timeout", "pytest_httpbin.plugin"),
    options=("-p", "no:cacheprovider"),
    least_passed=60,
    most_expected=0,
    must_submit="tests/_async/test_integration.py",
)
SUITES = {suite.name: suite for suite in (TRIO, ANYIO, PYTEST_TRIO, TRIO_WEBSOCKET, HTTPCORE)}


def unpacked(name: str, number: str) -> Path:
    """The tests and the settings out of a source distribution, in a directory of the cache."""
    place = CACHE / f"{name}-{number}"
    if not place.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            download = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps", "--no-binary", name]
            subprocess.run([*download, "-d", scratch, f"{name}=={number}"], check=True)
            (archive,) = Path(scratch).glob("*.tar.gz")
            with tarfile.open(archive) as tar:
                tar.extractall(scratch, members=wanted(tar), filter="data")
            archive.unlink()
            (root,) = (path for path in Path(scratch).iterdir() if path.is_dir())
            shutil.move(root, place)
    return place


def wanted(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in tar:
        inside = member.name.partition("/")[2]
        if inside == "pyproject.toml" or inside.startswith("tests/"):
            yield member
