"""Failing system calls of the shim, in processes of their own: parts of `tests.faults`, and its suite."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.faults.__main__ import PASSING, begin, build
from tests.faults.programs import PROGRAMS
from tests.faults.suite import LEFT_OUT, LEFT_OUT_SHORT, ROOT

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.ring


@pytest.mark.parametrize(
    "name",
    [
        "sockets-small",
        "cancels-python",
        "chunks-small",
        "direct",
        "server",
        "datagrams",
        "files-python",
        "many",
        "guest",
        "ring",
        "ring-shared",
        "resized",
    ],
)
def test_faults(name: str) -> None:
    assert name in PROGRAMS
    done = begin(
        ["--only", name, "--step", "1" if name.startswith(("direct", "guest", "r")) else "3"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert " 0 failures" in done.stdout


DOCTOR = "from uring.__main__ import examine; r = examine(8); print(r['usable'], r['restrictions'])"
BUNDLES = "from uring_trio.net.chunks import bundles_work; print(bundles_work())"


@pytest.mark.parametrize("question", [DOCTOR, BUNDLES], ids=["doctor", "bundles"])
@pytest.mark.parametrize("call", range(1, 7))
def test_the_answer_of_a_trial_is_that_of_the_kernel(question: str, call: int, tmp_path: Path) -> None:
    """An answer is kept for the life of the process, and must not be that of one refused enter."""
    failed = tmp_path / "failed"
    failed.write_bytes(bytes(8))
    faults = {"LD_PRELOAD": build(str(tmp_path)), "FAULTS": f"{errno.EAGAIN} {call} 1000 1 {failed}"}
    answers = [
        subprocess.run(
            [sys.executable, "-c", question],
            env={**os.environ, **more},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for more in ({}, faults)
    ]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("every", [2, 3])
def test_a_file_is_held_from_the_call_on_though_an_enter_fails(every: int) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.faults.suite",
            f"--every={every}",
            "tests/trio/core/test_perform.py::test_the_file_is_held_from_the_call_on",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


WORK_LEFT = """
import errno, os, select
from tests.faults.__main__ import ENTER, Faults
from uring import abi
from uring.kernel.ring import KernelRing
from uring_trio.core.opening import SETUP

ring = KernelRing(64, SETUP, cq_entries=128)
readable, writable = os.pipe()
for i in range(51):  # one enter does not come as far as the one that is not silent
    flags = 0 if i == 0 else int(abi.IOSQE_CQE_SKIP_SUCCESS)
    ring.put(i, int(abi.IORING_OP_POLL_ADD), flags, readable, 0, 0, 0, select.POLLIN, 0, 0, 0)
assert ring.cycle(0) == 0
os.write(writable, b"x")
Faults().arm(ENTER, 2, errno.EAGAIN)
assert ring.cycle(0) == -errno.EAGAIN
Faults().none()
assert ring.cycle(0) == 1
"""


def test_work_that_a_refused_enter_left_is_not_called_none(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WORK_LEFT],
        cwd=ROOT,
        env={**os.environ, "LD_PRELOAD": build(str(tmp_path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_deadline_ends_a_run_whose_ring_cannot_be_entered() -> None:
    done = begin(["--refused"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "cancelled True, then ended" in done.stdout


@pytest.mark.parametrize("name", [name for names in (LEFT_OUT | LEFT_OUT_SHORT).values() for name in names])
def test_what_the_suite_leaves_out_is_there(name: str) -> None:
    path, _, function = name.partition("::")
    assert f"def {function}" in (ROOT / path).read_text()


@pytest.mark.parametrize("error", PASSING)
def test_the_suite_says_how_many_enters_failed(error: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.suite", "--error", error, "tests/kernel/test_requests.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(rf"^[1-9]\d* enters failed with {error}$", done.stdout, re.MULTILINE)
