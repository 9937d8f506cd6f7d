"""Faults in the system calls of the shim, in processes of their own: a part of ``python -m tests.faults``."""

from __future__ import annotations

import subprocess

import pytest

from tests.faults.__main__ import begin
from tests.faults.programs import PROGRAMS

pytestmark = pytest.mark.ring


@pytest.mark.parametrize(
    "name",
    [
        "sockets-small",
        "cancels-python",
        "chunks-small",
        "files-python",
        "many",
        "guest",
        "ring",
        "ring-shared",
    ],
)
def test_faults(name: str) -> None:
    assert name in PROGRAMS
    done = begin(
        ["--only", name, "--step", "1" if name.startswith(("guest", "ring")) else "3"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert " 0 failures" in done.stdout


def test_a_deadline_ends_a_run_whose_ring_cannot_be_entered() -> None:
    done = begin(["--refused"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "cancelled True, then ended" in done.stdout
