"""``python -m tools.under_load``: the tests again and again on a busy machine, and which of them ever failed.

Each round runs pytest beside processes that keep every processor busy. A test that failed in some rounds only
is a defect, in the test or in the package. The report names each with its rounds, and the output of a failing
round is kept.

    python -m tools.under_load                       30 rounds of all tests, one busy process a processor
    python -m tools.under_load --rounds 5 --busy 4 tests/trio/net -k accept
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["main", "round_of", "told"]

ROOT = Path(__file__).parents[1]
KEPT = ROOT / ".cache" / "under-load"
BUSY = "import hashlib\nwhile True: hashlib.sha256(bytes(1 << 20))"
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S.*?)(?: - .*)?$", re.MULTILINE)
NO_TESTS = 5
"""pytest's exit status where nothing was collected: a round that tests nothing says nothing."""


@contextmanager
def busy(number: int) -> Iterator[None]:
    """Keeps so many processors busy; the processes end with the block, whatever happens in it."""
    load = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(number)]
    try:
        yield
    finally:
        for process in load:
            process.kill()
        for process in load:
            process.wait()


def round_of(words: list[str]) -> tuple[int, str]:
    """Runs the tests once: pytest's exit status and its output."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--ignore=tests/conformance",
        "-q",
        "-rfE",
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [*command, *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    return done.returncode, done.stdout


def told(rounds: int, failures: dict[str, list[int]]) -> str:
    """The report."""
    red = {number for numbers in failures.values() for number in numbers}
    lines = [f"{rounds} rounds, {rounds - len(red)} green"]
    for test, numbers in sorted(failures.items(), key=lambda item: -len(item[1])):
        lines.append(f"  {len(numbers)} of {rounds}  {test}  (rounds {', '.join(map(str, numbers))})")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Prints the report; 1 if a round failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.under_load", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument(
        "--busy", type=int, default=os.cpu_count(), help="processes that keep a processor busy"
    )
    options, words = parser.parse_known_args(argv)
    failures = defaultdict[str, list[int]](list)
    done = 0
    try:
        with busy(options.busy):
            for done in range(1, options.rounds + 1):
                began = time.monotonic()
                status, output = round_of(words)
                failed = FAILED.findall(output) or ([f"pytest ended with status {status}"] if status else [])
                for test in failed:
                    failures[test].append(done)
                if failed:
                    KEPT.mkdir(parents=True, exist_ok=True)
                    (KEPT / f"round-{done}.log").write_text(output)
                load = os.getloadavg()[0]
                summary = (output.strip().splitlines() or ["no output"])[-1]
                print(f"{done:3} {summary} (load {load:.1f}, {time.monotonic() - began:.0f} s)", flush=True)
                if status == NO_TESTS:
                    break
    except KeyboardInterrupt:
        done -= 1  # the round that was interrupted
    print(told(done, failures))
    if failures:
        print(f"the output of failing rounds is in {KEPT.relative_to(ROOT)}")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
