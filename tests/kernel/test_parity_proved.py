"""The test that the table of Go names gives for a name reaches that name."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_every_name_is_reached_by_its_test():
    done = subprocess.run(
        [sys.executable, "-m", "tools.parity", "prove"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=1000,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
