"""``python -m tests.differential``: plays programs of fixed seeds on stock Trio and on the ring."""

from __future__ import annotations

import argparse
import os
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor

from .comparing import Difference, Pair, side_by_side
from .programs import generate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.differential", description=__doc__)
    parser.add_argument("--programs", type=int, default=10_000, help="how many seeds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="plays this one alone, and prints both transcripts")
    parser.add_argument(
        "--cushion", type=float, default=0.01, help="with --seed: seconds that count as settled"
    )
    parser.add_argument("--small", action="store_true", help="with --seed: as few steps as still differ")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="pairs of processes")
    parser.add_argument("--most", type=int, default=20, help="differences after which it stops")
    parser.add_argument("--whole", action="store_true", help="does not make failing programs small")
    options = parser.parse_args()
    if options.seed is not None:
        with Pair() as pair:
            program = generate(options.seed)
            if options.small:
                difference = pair.compare(program)
                print("no difference" if difference is None else pair.shrink(difference))
                return int(difference is not None)
            stock, ring = pair.play(program, options.cushion)
            print(side_by_side(program, stock, ring))
            return int(stock != ring)
    found: list[Difference] = []
    kinds: defaultdict[tuple[str, str, str], list[int]] = defaultdict(list)
    unsettled: list[int] = []
    reordered: list[int] = []

    def work(share: int) -> None:
        with Pair() as pair:
            for seed in range(options.first + share, options.first + options.programs, options.jobs):
                if len(found) >= options.most:
                    break
                difference = pair.compare(generate(seed))
                if difference is None:
                    continue
                found.append(difference)
                alike = kinds[difference.kind()]
                alike.append(seed)
                if len(alike) > 1:
                    continue
                if not options.whole:
                    difference = pair.shrink(difference)
                print(f"\n{difference}", flush=True)
            unsettled.extend(pair.unsettled)
            reordered.extend(pair.reordered)

    with ThreadPoolExecutor(options.jobs) as threads:
        list(threads.map(work, range(options.jobs)))
    print(f"\n{options.programs} programs from seed {options.first}: {len(found)} differ")
    for (do, stock, ring), seeds in sorted(kinds.items(), key=lambda kind: -len(kind[1])):
        print(f"{len(seeds):4} x {do}, seeds {seeds[:8]}\n       stock {stock}\n       ring  {ring}")
    if unsettled:
        print(f"differed at the first look alone: {len(unsettled)}, seeds {sorted(unsettled)[:30]}")
    if reordered:
        print(f"as stock Trio in another order: {len(reordered)}, seeds {sorted(reordered)[:30]}")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
