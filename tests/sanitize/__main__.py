"""`make sanitize`: random calls and the kernel tests with a shim built by AddressSanitizer and UBSan.

The interpreter is not built with sanitizers: libasan comes first by LD_PRELOAD, so that every access of the
shim is checked, and Python's objects come from malloc, so that libasan knows where each begins and ends.
Leaks are not looked for: CPython leaves much behind at its end.
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

ROOT = Path(__file__).parents[2]
CALLS = 240_000
LEAST = 100_000
SUITES = (
    "tests/kernel",
    "tests/property/test_ops_arguments.py",
    "tests/property/test_ring_contract.py",
    "tests/property/test_ring_stories.py",
    "tests/trio/seams/test_calls.py",
    "tests/trio/seams/test_calls_protocol.py",
    "tests/trio/seams/test_checkpoints.py",
    "tests/trio/seams/test_scope_ends.py",
    "tests/trio/seams/test_scopes.py",
    "tests/trio/seams/test_ticks.py",
)
IGNORED = "tests/kernel/test_parity_proved.py"  # it traces calls by the files of src, which are not used here
SUMMARY = re.compile(r"calls=(\d+) accepted=(\d+) completions=(\d+)")
REPORT = re.compile(r"AddressSanitizer|runtime error:|UndefinedBehaviorSanitizer")

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


def environment() -> dict[str, str]:
    libraries = []
    for name in ("libasan.so", "libubsan.so"):
        command = [os.environ.get("CC", "gcc"), f"-print-file-name={name}"]
        path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        if not Path(path).is_absolute():
            sys.exit(f"sanitize: {name} is not installed (Debian, Ubuntu: it comes with gcc)")
        libraries.append(path)
    return {
        **os.environ,
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0:exitcode=99:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
    }


def check_armed(env: dict[str, str]) -> None:
    done = subprocess.run([sys.executable, "-c", FREED], env=env, capture_output=True, text=True, cwd=ROOT)
    if done.returncode != 99 or "heap-use-after-free" not in done.stderr or "ur_load" not in done.stderr:
        sys.exit(f"sanitize: a read of freed memory went unseen (status {done.returncode}):\n{done.stderr}")


def random_calls(env: dict[str, str], calls: int, seed: int, workers: int) -> list[str]:
    """Makes the calls in so many processes at once; returns what went wrong."""
    wrong, made, accepted, completions = [], 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        children = []
        for worker in range(workers):
            journal = Path(folder, str(worker))
            command = [sys.executable, "-m", "tests.sanitize.calls", "--journal", str(journal)]
            command += ["--calls", str(-(-calls // workers)), "--seed", str(seed + worker)]
            child = subprocess.Popen(
                command, env=env, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
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
            if child.returncode or REPORT.search(err):
                last = journal.read_text().strip() if journal.exists() else "?"
                wrong.append(f"seed {number}: status {child.returncode}; episode, turn and call: {last}")
    print(f"random calls: {made:,} made, {accepted:,} accepted, {completions:,} completions")
    if made < min(calls, LEAST):
        wrong.append(f"{made} calls were made, {min(calls, LEAST)} are wanted")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.sanitize", description=__doc__)
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-suites", action="store_true", help="only the random calls")
    options = parser.parse_args()
    env = environment()
    check_armed(env)
    before = time.monotonic()
    wrong = random_calls(env, options.calls, options.seed, max(1, len(os.sched_getaffinity(0))))
    if not options.no_suites:
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *SUITES]
        command.append(f"--ignore={IGNORED}")
        done = subprocess.run(command, env=env, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        print(done.stderr, end="")
        if done.returncode or REPORT.search(done.stderr):
            wrong.append(f"the suites came to status {done.returncode}")
    print(f"sanitize: {time.monotonic() - before:.0f} s")
    if wrong:
        sys.exit("\n".join(["sanitize:", *wrong]))


if __name__ == "__main__":
    main()
