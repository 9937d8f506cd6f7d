"""Files where the system says no: a full file system, another user's files; and other file systems than the
one that the tests are on. See `tests.trio.elsewhere`, which does it in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.trio.elsewhere import REFUSED

ROOT = Path(__file__).parents[3]
SECONDS = 60

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount and to become another user")


@needs_root
@pytest.mark.parametrize(
    "scenario", ["full", "failing", "tmpfs", "overlay", "unprivileged", "unreachable", "crowded"]
)
def test_as_the_standard_library(scenario: str) -> None:
    # Not in the test's own folder: above it are folders that another user may not enter.
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tests.trio.elsewhere", scenario, folder]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode == REFUSED:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
