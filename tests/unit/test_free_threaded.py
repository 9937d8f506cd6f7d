"""A Python without the GIL is refused by a sentence: by the build, by the doctor and by a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = """
import runpy, sysconfig
sysconfig.get_config_vars()["Py_GIL_DISABLED"] = 1
runpy.run_path("setup.py")
"""
OFF = "import sys; sys._is_gil_enabled = lambda: False; import uring, uring_trio"


@pytest.mark.parametrize(
    "program",
    [
        BUILD,
        f"{OFF}; from uring.__main__ import main; sys.exit(main([]))",
        f"{OFF}; uring_trio.run(print)",
        f"{OFF}; uring.Ring(entries=8)",
    ],
)
def test_it_is_refused(program: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 1
    said = ran.stdout + ran.stderr
    assert (
        "this is a free-threaded Python, without the GIL that guards a ring: use a CPython with the GIL"
        in said
    )
