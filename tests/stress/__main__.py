"""``python -m tests.stress``: every part for its share of the time, each in a process of its own.

A part that fails says the command with its seed. The parts and their results are a table at the end.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from pathlib import Path
from time import monotonic

from .parts import PARTS

ROOT = Path(__file__).parents[2]
GRACE = 120
"""Seconds after its time in which a part has to end."""


def play(name: str, seed: int, seconds: float) -> int:
    print(json.dumps(PARTS[name](random.Random(f"{name} {seed}"), seconds)))
    return 0


def run(name: str, seed: int, seconds: float) -> tuple[bool, str]:
    command = ["-m", "tests.stress", "--inside", name, "--seed", str(seed), "--seconds", f"{seconds:.1f}"]
    try:
        done = subprocess.run(
            [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=seconds + GRACE
        )
    except subprocess.TimeoutExpired as late:
        return False, f"hangs\n{late.stderr or ''}"
    if done.returncode:
        return False, f"status {done.returncode}\n{done.stderr[-6000:]}"
    counts = json.loads(done.stdout.splitlines()[-1])
    return True, ", ".join(f"{what} {value}" for what, value in counts.items())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.stress", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20, help="for all parts together")
    parser.add_argument("--seed", type=int, help="decides everything; a new one each time by default")
    parser.add_argument("--only", action="append", choices=list(PARTS), help="this part; may be repeated")
    parser.add_argument("--inside", choices=list(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    if options.inside:
        return play(options.inside, seed, options.seconds)
    names = options.only or list(PARTS)
    share = options.minutes * 60 / len(names)
    print(f"seed {seed}, {len(names)} parts of {share:.0f} s", flush=True)
    failed, rows = 0, []
    for name in names:
        began = monotonic()
        held, told = run(name, seed, share)
        failed += not held
        rows.append(
            (name, "held" if held else "FAILED", f"{monotonic() - began:.0f} s", told.partition("\n")[0])
        )
        if not held:
            print(f"\n{name} failed: {told}")
            print(
                f"again: python -m tests.stress --only {name} --seed {seed} --minutes {share / 60:.2f}\n",
                flush=True,
            )
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)) + f"  {row[3]}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
