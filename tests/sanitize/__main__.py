"""`make sanitize`: random calls, the kernel tests and those of C under AddressSanitizer, UBSan and
LeakSanitizer.

``--suite`` runs one suite instead: "ours" is every test of this project that reaches the C, the others
are those of `tests.conformance`. ``--everything`` runs the random calls, "ours", and the suites of Trio
and AnyIO.

The extensions are built with the sanitizers, and so is the program that the interpreter is started by
(`launcher.c`). Whatever a process says at any time counts, those that tests start too. A leak counts
where C of this project allocated it (`tests.sanitize.interpreter`).
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.conformance.suites import SUITES as OTHERS
from tests.sanitize.interpreter import take_reports

ROOT = Path(__file__).parents[2]
CALLS = 240_000
LEAST = 100_000
USUAL = (
    "tests/kernel",
    "tests/property/test_ops_arguments.py",
    "tests/property/test_ring_contract.py",
    "tests/property/test_ring_stories.py",
    "tests/trio/seams/test_attempted_calls.py",
    "tests/trio/seams/test_calls.py",
    "tests/trio/seams/test_calls_protocol.py",
    "tests/trio/seams/test_checkpoints.py",
    "tests/trio/seams/test_first_and_last.py",
    "tests/trio/seams/test_flowing_calls.py",
    "tests/trio/seams/test_get_compiled.py",
    "tests/trio/seams/test_locks_and_channels.py",
    "tests/trio/seams/test_parks.py",
    "tests/trio/seams/test_perform_compiled.py",
    "tests/trio/seams/test_scope_ends.py",
    "tests/trio/seams/test_scopes.py",
    "tests/trio/seams/test_tasks.py",
    "tests/trio/seams/test_ticks.py",
)
OURS = tuple(
    f"tests/{name}"
    for name in ("kernel", "trio", "faults", "stress", "property", "differential", "model", "apps")
)
UNFIT = {
    "tests/kernel/test_doctor.py::test_says_why_the_variable_has_no_effect": "in a Python without sanitizers",
    "tests/trio/test_installed.py": "in environments of a Python without sanitizers",
    "tests/trio/launch/test_side_by_side.py::test_a_thousand_runs_do_not_grow": "freed memory is kept",
    "tests/trio/launch/test_unavailable.py::test_too_little_address_space": "sanitizers take terabytes",
    "tests/trio/launch/test_run_ends.py::test_a_child_that_goes_on_in_the_run_ends_with_the_reason": (
        "the child ends with operations of its parent's ring in flight, whose memory is kept by design"
    ),
    "tests/trio/fs/test_file_systems.py::test_as_the_standard_library[full]": "LeakSanitizer's tracer dies",
    "tests/trio/test_examples.py::test_two_threads": "LeakSanitizer's tracer dies",
    **{
        f"tests/apps/test_container.py::{test}": "LeakSanitizer traces its process, which the profile refuses"
        for test in (
            "test_a_service_runs_on_the_ring_under_it",
            "test_without_the_rings_rule_it_is_refused_with_eperm",
        )
    },
    "tests/kernel/test_parity_proved.py": "it traces calls by the files of src, which are not used here",
    "tests/trio/launch/test_restrictions.py::test_landlock_holds_for_operations_of_the_ring": (
        "LeakSanitizer opens files when its process ends, and spins where that is refused"
    ),
}
SECONDS = 900
"""For one test, and a suite of others has the fourfold: what runs here takes several times as long."""

SUMMARY = re.compile(r"calls=(\d+) accepted=(\d+) completions=(\d+)")

FREED = """
import ctypes
from uring.kernel.lib import lib
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = (ctypes.c_void_p,)
address = libc.malloc(64)
libc.free(address)
lib.ur_load(address)
"""
"""Reads freed memory through the shim: the sanitizers must be there and stop it."""

LEAKED = """
from uring.kernel.lib import ffi, lib
ring, params = ffi.new("struct ur_ring *"), ffi.new("struct ur_params *")
assert lib.ur_open(ring, 8, params, 16) == 0
assert lib.ur_track(ring) == 0
"""
"""Forgets a ring that is open: the table that counts by user_data stays behind."""


def check_armed() -> None:
    take_reports()
    for program, wanted, function in (
        (FREED, "heap-use-after-free", "ur_load"),
        (LEAKED, "leak of", "ur_track"),
    ):
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
        reports = "\n".join(take_reports())
        if wanted not in reports or function not in reports:
            sys.exit(f"sanitize: {wanted} went unseen (status {done.returncode}):\n{done.stderr}{reports}")


def random_calls(calls: int, seed: int, workers: int) -> list[str]:
    """Makes the calls in so many processes at once; returns what went wrong."""
    wrong, made, accepted, completions = [], 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        children = []
        for worker in range(workers):
            journal = Path(folder, str(worker))
            command = [sys.executable, "-m", "tests.sanitize.calls", "--journal", str(journal)]
            command += ["--calls", str(-(-calls // workers)), "--seed", str(seed + worker)]
            child = subprocess.Popen(
                command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            children.append((seed + worker, child, journal))
        for number, child, journal in children:
            out, err = child.communicate()
            found = SUMMARY.search(out)
            if found:
                made, accepted, completions = (
                    total + int(part)
                    for total, part in zip((made, accepted, completions), found.groups(), strict=True)
                )
            print(out, err, sep="", end="", flush=True)
            if child.returncode:
                last = journal.read_text().strip() if journal.exists() else "?"
                wrong.append(f"seed {number}: status {child.returncode}; episode, turn and call: {last}")
    print(f"random calls: {made:,} made, {accepted:,} accepted, {completions:,} completions")
    if made < min(calls, LEAST):
        wrong.append(f"{made} calls were made, {min(calls, LEAST)} are wanted")
    return wrong


def suite(name: str) -> list[str]:
    """Runs a suite; returns what went wrong."""
    if name in OTHERS:
        command = ["tests.conformance", "--brief", "--suite", name, "--limit", str(4 * SECONDS)]
    else:
        paths, extent = (USUAL, ["-x"]) if name == "usual" else (OURS, ["--timeout", str(SECONDS)])
        command = ["pytest", "-q", "-rfE", "-p", "no:cacheprovider", "-p", "tests.sanitize.naming"]
        command += [*extent, *paths]
        command += [f"--{'deselect' if '::' in each else 'ignore'}={each}" for each in UNFIT]
    done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT)
    return [f"the suite {name} came to status {done.returncode}"] if done.returncode else []


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.sanitize", description=__doc__)
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-suites", action="store_true", help="only the random calls")
    parser.add_argument(
        "--suite", action="append", choices=["ours", *OTHERS], help="only this one; may be repeated"
    )
    parser.add_argument(
        "--everything", action="store_true", help="the calls, ours, Trio's and AnyIO's: hours"
    )
    options = parser.parse_args()
    check_armed()
    before = time.monotonic()
    wrong = []
    if not options.suite:
        workers = max(1, len(os.sched_getaffinity(0)))
        wrong += random_calls(options.calls, options.seed, workers)
    usual = [] if options.no_suites else ["ours", "trio", "anyio"] if options.everything else ["usual"]
    for name in options.suite or usual:
        wrong += suite(name)
    wrong += take_reports()
    print(f"sanitize: {time.monotonic() - before:.0f} s")
    if wrong:
        sys.exit("\n".join(["sanitize:", *wrong]))


if __name__ == "__main__":
    main()
