"""``python -m tests.model``: every state of the larger worlds; ``--small``: those of the test."""

from __future__ import annotations

import argparse
import sys
from time import monotonic

from .search import explore
from .worlds import LARGE, SMALL


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.model", description=__doc__)
    parser.add_argument("--small", action="store_true", help="the sizes of the test only")
    worlds = SMALL if parser.parse_args().small else {**SMALL, **LARGE}
    states = 0
    for name, make in worlds.items():
        began = monotonic()
        found = explore(make())
        states += found.states
        print(
            f"{name}: {found.states} states, {found.steps} steps, {found.ends} ends, "
            f"{monotonic() - began:.0f} s",
            flush=True,
        )
    print(f"{states} states, each promise holds in each of them")
    return 0


if __name__ == "__main__":
    sys.exit(main())
