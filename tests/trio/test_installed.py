"""The package as pip lays it out, in an environment of its own: beside the Trio of these tests, beside one
that is too old, and beside one that lacks a private name.

Nobody who has the package installed may notice it there before asking for a ring, and who asks is told which
versions of Trio do.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from zipfile import ZipFile

import pytest
import trio

from uring_trio.seams import TESTED

ROOT = Path(__file__).parents[2]
CACHE = ROOT / ".cache" / "wheels"
HERE = Path(sysconfig.get_path("purelib"))
# Trio 0.22 cannot be imported by Python 3.13 and later.
OLD, NEW = "0.22.2" if sys.version_info < (3, 13) else "0.32.0", "99.0"
BACKEND = """
import trio

async def main():
    print(getattr(trio.lowlevel.current_statistics().io_statistics, "backend", "epoll"))

if __name__ == "__main__":
    trio.run(main)
"""
# pytest-trio and pytest-httpbin need a Trio and a Flask of their time.
PYTEST = ("-m", "pytest", "-q", "-s", "-p", "no:trio", "-p", "no:httpbin", "-p", "no:cacheprovider")
TEST = (
    "-m",
    "pytest",
    "-q",
    "-s",
    "-W",
    "error",
    "-p",
    "no:trio",
    "-p",
    "no:httpbin",
    "-p",
    "no:cacheprovider",
)
TEST = """
import sys, trio

def test_it():
    async def main():
        await trio.sleep(0)
        print("backend", getattr(trio.lowlevel.current_statistics().io_statistics, "backend", "epoll"))
    trio.run(main)
    print("imported", "uring_trio" in sys.modules)
"""


@dataclass
class Environment:
    python: Path
    trio: str

    @property
    def reason(self) -> str:
        """What says that its Trio is not supported."""
        why = "is older" if self.trio == OLD else "lacks trio._socket._SocketType"
        return f"uring_trio supports Trio {', '.join(TESTED)}; Trio {self.trio} {why}"

    def run(self, *args: str, cwd: Path, variable: str | None = None) -> subprocess.CompletedProcess[str]:
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTEST_", "PYTHON", "URING_"))
        }
        if variable is not None:
            inherited["URING_TRIO"] = variable
        return subprocess.run(
            [self.python, *args],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd=cwd,
            env=inherited,
        )

    def python_says(self, program: str, cwd: Path, variable: str | None = None) -> str:
        done = self.run("-W", "error", "-c", program, cwd=cwd, variable=variable)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def environment(folder: Path, version: str) -> Environment:
    """A virtual environment with the package and a Trio; what else is needed comes from that of the tests."""
    venv.create(folder)
    python = folder / "bin" / "python"
    (site,) = (folder / "lib").glob("python*/site-packages")
    put_package(site)
    if version == OLD:
        put_old_trio(site)
    elif version == NEW:
        put_new_trio(site)
    (site / "rest.pth").write_text(f"{HERE}\n")
    return Environment(python, version)


def put_package(site: Path) -> None:
    source = ROOT / "src"
    for package in ("uring", "uring_trio"):
        shutil.copytree(source / package, site / package, ignore=shutil.ignore_patterns("__pycache__", "*.c"))
    for single in (*source.glob("_uring_trio_*.py"), source / "uring_trio.pth"):
        shutil.copy(single, site)
    here = distribution("uring-trio")
    about = site / f"uring_trio-{here.version}.dist-info"
    about.mkdir()
    for name in ("METADATA", "entry_points.txt"):
        (about / name).write_text(here.read_text(name) or "")
    files = [path.relative_to(site) for path in site.rglob("*") if path.is_file()]
    (about / "RECORD").write_text("".join(f"{file},,\n" for file in files))


def put_old_trio(site: Path) -> None:
    if not list(CACHE.glob(f"trio-{OLD}-*.whl")):
        download = [
            "download",
            "-q",
            "--disable-pip-version-check",
            "--no-deps",
            "-d",
            str(CACHE),
            f"trio=={OLD}",
        ]
        subprocess.run([sys.executable, "-m", "pip", *download], check=True)
    (wheel,) = CACHE.glob(f"trio-{OLD}-*.whl")
    with ZipFile(wheel) as archive:
        archive.extractall(site)


def put_new_trio(site: Path) -> None:
    """A Trio of the future: this one, with one of the private names gone."""
    shutil.copytree(
        Path(trio.__file__).parent, site / "trio", ignore=shutil.ignore_patterns("_tests", "__pycache__")
    )
    for path in (site / "trio").glob("_*.py"):
        path.write_text(re.sub(r"\b_SocketType\b", "_Socket", path.read_text()))
    (site / "trio" / "_version.py").write_text(f"__version__ = {NEW!r}\n")


@pytest.fixture(scope="module")
def supported(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return environment(tmp_path_factory.mktemp("supported"), trio.__version__)


@pytest.fixture(scope="module", params=[OLD, NEW])
def unsupported(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Environment:
    return environment(tmp_path_factory.mktemp("unsupported"), request.param)


# ---- a Trio that is supported ---------------------------------------------------------------------------


def test_it_is_what_is_installed_there(supported: Environment, tmp_path: Path) -> None:
    program = "import uring, uring_trio; print(uring.__file__, uring_trio.__file__)"
    for file in supported.python_says(program, tmp_path).split():
        assert file.startswith(str(supported.python.parents[1]))


def test_pytest_under_the_launcher_where_warnings_are_errors(supported: Environment, tmp_path: Path) -> None:
    """pytest means to rewrite the modules of a distribution with a plugin, and warns of the imported ones."""
    (tmp_path / "test_it.py").write_text(TEST)
    done = supported.run("-m", "uring_trio", *PYTEST, "-W", "error", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "backend io_uring" in done.stdout


def test_pytest_under_the_variable_where_warnings_are_errors(supported: Environment, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TEST)
    done = supported.run(*PYTEST, "-W", "error", cwd=tmp_path, variable="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "backend io_uring" in done.stdout


def test_plain_pytest_imports_nothing_of_it(supported: Environment, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TEST)
    done = supported.run(*PYTEST, "-W", "error", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "backend epoll\nimported False" in done.stdout


# ---- a Trio that is not ---------------------------------------------------------------------------------


def test_plain_pytest_does_not_notice(unsupported: Environment, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TEST)
    done = unsupported.run(*PYTEST, "-W", "error", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "backend epoll\nimported False" in done.stdout


def test_pytest_on_the_ring_names_the_versions(unsupported: Environment, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TEST)
    done = unsupported.run(*PYTEST, "-W", "error", "--uring", cwd=tmp_path)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"ERROR: --uring: {unsupported.reason}" in done.stderr


def test_pytest_can_fall_back(unsupported: Environment, tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(TEST)
    done = unsupported.run(*PYTEST, "--uring", "--uring-options=unavailable=epoll", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "backend epoll" in done.stdout
    assert f"running on epoll: {unsupported.reason}" in done.stdout + done.stderr


def test_the_variable_names_the_versions(unsupported: Environment, tmp_path: Path) -> None:
    done = unsupported.run("-c", BACKEND, cwd=tmp_path, variable="1")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"UnsupportedTrio: {unsupported.reason}" in done.stderr.splitlines()[-1]


def test_the_variable_can_fall_back(unsupported: Environment, tmp_path: Path) -> None:
    done = unsupported.run("-c", BACKEND, cwd=tmp_path, variable="unavailable=epoll")
    assert (done.returncode, done.stdout) == (0, "epoll\n"), done.stderr
    assert done.stderr.count(f"RuntimeWarning: running on epoll: {unsupported.reason}") == 1


@pytest.mark.parametrize("variable", [None, "", "0"])
def test_a_variable_that_says_no_is_no(
    unsupported: Environment, tmp_path: Path, variable: str | None
) -> None:
    assert unsupported.python_says(BACKEND, tmp_path, variable) == "epoll"


def test_the_launcher_names_the_versions_or_falls_back(unsupported: Environment, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(BACKEND)
    done = unsupported.run("-m", "uring_trio", "program.py", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"python -m uring_trio: {unsupported.reason}")
    done = unsupported.run("-m", "uring_trio", "--unavailable=epoll", "program.py", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "epoll\n"), done.stderr
    assert done.stderr.count(f"RuntimeWarning: running on epoll: {unsupported.reason}") == 1


def test_a_run_names_the_versions_or_falls_back(unsupported: Environment, tmp_path: Path) -> None:
    program = """
import warnings, trio, uring_trio

async def main():
    await trio.sleep(0)
    return "ran"

for start in (lambda: uring_trio.run(main), uring_trio.install):
    try:
        start()
    except uring_trio.UnsupportedTrio as exc:
        print(exc)
with warnings.catch_warnings(record=True, action="always") as caught:
    print(uring_trio.run(main, unavailable="epoll"), uring_trio.run(main, unavailable="epoll"))
    uring_trio.install(unavailable="epoll", files=True)
    print(trio.run(main))
    uring_trio.uninstall()
print(*(warning.message for warning in caught))
"""
    lines = unsupported.python_says(program, tmp_path).splitlines()
    reason = unsupported.reason
    assert [line[: len(reason)] for line in lines[:2]] == [reason, reason]
    assert lines[2:4] == ["ran ran", "ran"]
    assert lines[4].startswith(f"running on epoll: {reason}")
    assert len(lines) == 5


def test_the_rest_is_not_there(unsupported: Environment, tmp_path: Path) -> None:
    uses = (
        "uring_trio.serve_tcp",
        "from uring_trio import open_file",
        "from uring_trio import *",
        "import uring_trio.testing",
        "import uring_trio.debug",
    )
    program = f"""
import uring_trio

print(hasattr(uring_trio, "nonsense"))
for use in {uses!r}:
    try:
        exec(use)
    except uring_trio.UnsupportedTrio as exc:
        print(exc)
"""
    first, *rest = unsupported.python_says(program, tmp_path).splitlines()
    assert first == "False"
    assert [line[: len(unsupported.reason)] for line in rest] == [unsupported.reason] * len(uses)
