"""``python -m tests.stress``: every part for its share of the time, each in a process of its own.

A part that fails says the command with its seed. The parts and their results are a table at the end, and with
``--report`` a page.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic
from typing import Any

from . import cuts, faulty, processes  # noqa: F401 - they add their parts
from .parts import BESIDE, PARTS, SAMPLES
from .report import Report, Result, load, replaced, told, write

ROOT = Path(__file__).parents[2]
GRACE = 180
"""Seconds after its time in which a part has to end."""

TESTED = ("programs", "faults", "power-cuts")
"""Parts of which `make test` plays a part by itself."""

DEV = ("threads", "forks")
"""Parts that run under ``python -X dev``, whose allocator finds what writes where it must not."""


def play(name: str, seed: int, seconds: float) -> int:
    # A shell that starts this in the background has SIGINT ignored, and Trio leaves that as it is.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print(json.dumps(PARTS[name](random.Random(f"{name} {seed}"), seconds)))
    return 0


def run(name: str, seed: int, seconds: float, *, stock: bool = False) -> tuple[str, dict[str, Any]]:
    """What is wrong, and what was counted."""
    command = ["-m", "tests.stress", "--inside", name, "--seed", str(seed), "--seconds", f"{seconds:.1f}"]
    if name in DEV:
        command = ["-X", "dev", *command]
    environment = {**os.environ, "STRESS_STOCK": str(int(stock))}
    try:
        done = subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=seconds + GRACE,
        )
    except subprocess.TimeoutExpired as late:
        return f"hangs\n{late.stderr or ''}", {}
    if done.returncode:
        return f"status {done.returncode}\n{done.stderr[-6000:]}", {}
    return "", json.loads(done.stdout.splitlines()[-1])


def trial(name: str, seed: int, seconds: float) -> Result:
    began = monotonic()
    beside = name in BESIDE
    failure, counts = run(name, seed, seconds * (0.65 if beside else 1))
    samples = {"ring": counts.pop(SAMPLES)} if SAMPLES in counts else {}
    result = Result(name, first_sentence(name), monotonic() - began, failure, counts, samples=samples)
    if beside and not failure:
        failure, result.stock = run(name, seed, seconds * 0.35, stock=True)
        if failure:
            result.stock = {"fails:": failure.splitlines()[-1]}
        if SAMPLES in result.stock:
            samples["stock"] = result.stock.pop(SAMPLES)
    return result


def first_sentence(name: str) -> str:
    return " ".join((PARTS[name].__doc__ or "").split()).partition(". ")[0].rstrip(".")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20, help="for all parts together")
    parser.add_argument("--seed", type=int, help="decides every choice; a new one each time by default")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="this part; may be repeated")
    parser.add_argument(
        "--gate", action="store_true", help="the same choices each time, and no part that the tests have too"
    )
    parser.add_argument(
        "--report", type=Path, help="writes this page, and its JSON; with --only, the other parts stay in it"
    )
    parser.add_argument("--inside", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    seed = options.seed
    if seed is None:
        seed = 1 if options.gate else random.SystemRandom().randrange(1 << 32)
    if options.inside:
        return play(options.inside, seed, options.seconds)
    names = options.only or [name for name in PARTS if not (options.gate and name in TESTED)]
    share = options.minutes * 60 / len(names)
    print(f"seed {seed}, {len(names)} parts of {share:.0f} s", flush=True)
    results = []
    for name in names:
        result = trial(name, seed, share)
        results.append(result)
        state = "FAILED" if result.failure else "held"
        beside = f"; stock: {told(result.stock)}" if result.stock else ""
        print(f"{name:12} {state:6} {result.seconds:4.0f} s  {told(result.counts)}{beside}", flush=True)
        if result.failure:
            print(result.failure)
            again = f"--only {name} --seed {seed} --minutes {share / 60:.2f}"
            print(f'again: make stress ARGS="{again}"', flush=True)
    if options.report:
        report, kept = Report(seed, options.minutes, results), options.report.with_suffix(".json")
        if options.only and kept.exists():
            words = " ".join(f"--only {name}" for name in names)
            words += f" --minutes {options.minutes:g} --seed {seed}"
            report = replaced(load(kept), results, f'make stress ARGS="{words}"')
        write(options.report, report)
    return int(any(result.failure for result in results))


if __name__ == "__main__":
    sys.exit(main())
