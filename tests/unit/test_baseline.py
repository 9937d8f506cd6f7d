"""The checks in ``tests/conftest.py`` catch what they are there for, seen in a session of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]

LEAKY = """
import os, threading, time

def test_leaks_a_descriptor():
    os.open("/dev/null", os.O_RDONLY)

def test_closes_what_is_not_its_own():
    os.close(SHARED)

def test_leaves_a_thread():
    threading.Thread(target=threading.Event().wait, daemon=True).start()

def test_is_clean():
    os.close(os.open("/dev/null", os.O_RDONLY))
    thread = threading.Thread(target=time.sleep, args=[0.01])
    thread.start()

SHARED = os.open("/dev/zero", os.O_RDONLY)
"""

SKIPPING = """
import pytest

@pytest.mark.parametrize("n", [1, 2])
def test_listed(n):
    pytest.skip("known")

@pytest.mark.skipif(True, reason="surprise")
def test_unlisted(): pass
"""


def run(directory: Path, source: str, **environment: str) -> tuple[int, str]:
    shutil.copy(TESTS / "conftest.py", directory)
    (directory / "expected_skips.toml").write_text(
        '[[skip]]\nid = "test_it.py::test_listed"\nreason = "known"\n'
    )
    (directory / "test_it.py").write_text(source)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(directory),
        ".",
    ]
    ran = subprocess.run(
        command,
        cwd=directory,
        env={
            **os.environ,
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": str(TESTS.parent),  # conftest.py imports from the tests
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.returncode, ran.stdout


def test_leaks_are_errors(tmp_path: Path) -> None:
    code, output = run(tmp_path, LEAKY)
    assert code == 1
    assert "4 passed, 3 errors" in output
    for error in ("left open: {", "closed, though the test did not open it", "still running: [<Thread("):
        assert error in output
    assert "ERROR test_it.py::test_is_clean" not in output


def test_a_skip_that_is_not_expected_fails_in_ci(tmp_path: Path) -> None:
    code, output = run(tmp_path, SKIPPING, CI="true")
    assert code == 1
    assert "not in expected_skips.toml: test_it.py::test_unlisted: surprise" in output
    assert "test_listed" not in output


def test_elsewhere_a_skip_is_a_skip(tmp_path: Path) -> None:
    code, output = run(tmp_path, SKIPPING, CI="")
    assert code == 0
    assert "3 skipped" in output
