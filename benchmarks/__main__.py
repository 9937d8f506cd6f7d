"""`python -m benchmarks`: every workload, every contender, a table on the terminal and JSON for machines.

The server has one core and the load generator another. On each workload the contenders take turns, round
after round; CPU time of the server process per request is the main figure, because unlike requests per second
it does not depend on how well the two processes share the machine.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import boundary, counts, flows, kept, local, micro, pages, report
from .figures import Comparison, Contender
from .processes import BenchmarkError, Load, Server, cores, exit_on_terminate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# each contender and the one it is compared with
BASELINES: dict[str, str | None] = {
    "trio-sockets": None,
    "ring-sockets": "trio-sockets",
    "trio-streams": None,
    "again-trio-streams": "trio-streams",
    "ring-streams": "trio-streams",
    "uring-streams": "trio-streams",
    "uring-chunks": "uvloop-streams",
    "uring-multishot": "trio-streams",
    "uring-direct": "uring-multishot",
    "asyncio-streams": "trio-streams",
    "uvloop-streams": "trio-streams",
    "uvloop-protocols": "trio-streams",
    "c-ring": "trio-streams",
    "looking-50us": "ring-sockets",
    "looking-500us": "ring-sockets",
    "within-30s-cancel": "uring-streams",
    "within-30s-auto": "within-30s-cancel",
    "within-30s-link": "within-30s-cancel",
    "within-0.5s-auto": "within-30s-cancel",
    "within-0.05s-auto": "within-30s-cancel",
    "anyio-trio": None,
    "anyio-uring": "anyio-trio",
    "anyio-asyncio": "anyio-trio",
    "h11-trio": None,
    "h11-uring": "h11-trio",
    "hypercorn-trio": None,
    "hypercorn-uring": "hypercorn-trio",
}
LARGE = dict.fromkeys(("ring-sockets", "ring-streams", "uring-streams"), 1.05)
SMALL = {"ring-sockets": 0.75, "ring-streams": 0.80, "uring-streams": 0.60, "uring-chunks": 0.75}
LATENCY = LARGE
CHURN = {"uring-streams": 0.77, "uring-multishot": 0.77}

SPECIAL = ("again-", "anyio-", "h11-", "hypercorn-", "looking-", "within-")
PEERS = ("trio-streams", "ring-streams", "asyncio-", "uvloop-", "c-ring")


@dataclass(frozen=True)
class Workload:
    """What the clients do. `limits` are the aims by contender, as ratios; `metric` is what they are of."""

    name: str
    description: str
    load: dict[str, Any]
    limits: dict[str, float] = field(default_factory=dict)
    metric: str = "cpu"
    least_rounds: int = 1
    most_rounds: int = 100
    quick: bool = False
    only: tuple[str, ...] = ()  # prefixes of its contenders; those of `SPECIAL` run nowhere else
    also: tuple[str, ...] = ()  # prefixes out of `SPECIAL`

    def takes(self, name: str) -> bool:
        if self.only:
            return name.startswith(self.only)
        return name.startswith(self.also or ()) or not name.startswith(SPECIAL)


def workloads() -> list[Workload]:
    found = []
    for size in (1, 10, 100):
        for connections in (1, 20, 200):
            limits = LARGE if size == 100 else SMALL if size == 1 and connections > 1 else {}
            text = f"echo, {connections} connection{'s' * (connections > 1)}, {size} KiB"
            load = {"connections": connections, "size": size * 1024}
            quick = connections == 20 and size != 10
            also = ("again-",) if (connections, size) == (20, 1) else ()
            name = f"echo-{connections}x{size}KiB"
            found.append(Workload(name, text, load, limits, quick=quick, also=also))
    for size, label in ((64, "64 B"), (1 << 20, "1 MiB")):
        load = {"connections": 20, "size": size}
        name = f"echo-20x{label.replace(' ', '')}"
        found.append(Workload(name, f"echo, 20 connections, {label}", load, only=PEERS))
    for connections in (2_000, MOST):
        load = {"connections": connections, "size": 1024}
        text = f"echo, {connections:,} connections, 1 KiB"
        found.append(Workload(f"echo-{connections}x1KiB", text, load, only=PEERS, most_rounds=3))
    churn = {"connections": 20, "size": 1024, "churn": True}
    found.append(
        Workload("churn", "connect, one exchange of 1 KiB, close; 20 at a time", churn, CHURN, quick=True)
    )
    many = {"connections": 50, "size": 1024}
    plain = {"connections": 50, "http": "text"}
    text = "HTTP/1.1 by h11 on a stream, 50 connections kept alive, plain text"
    found.append(Workload("h11-text", text, plain, only=("h11-",)))
    text = "echo over AnyIO, 50 connections, 1 KiB"
    found.append(Workload("anyio-50x1KiB", text, many, {"anyio-uring": 0.70}, only=("anyio-",)))
    text = "echo, 50 connections, 1 KiB, each request under a deadline"
    only = ("within-", "uring-streams")
    found.append(Workload("deadlines-50x1KiB", text, many, {"within-30s-auto": 1.05}, only=only))
    for name, connections, limit, what in (
        ("text", 50, 1.0, "plain text"),
        ("file", 50, 0.6, "a file of 64 KiB"),
        ("large", 8, 0.6, "a file of 1 MiB"),
    ):
        kept = {"connections": connections, "http": name}
        text = f"hypercorn with Starlette, {connections} connections kept alive, {what}"
        aims = {"hypercorn-uring": limit}
        found.append(Workload(f"hypercorn-{name}", text, kept, aims, only=("hypercorn-",)))
    text = "hypercorn with Starlette, 20 connections kept alive, plain text by HTTP/2 without TLS"
    multiplexed = {"connections": 20, "http": "text", "http2": True}
    found.append(Workload("hypercorn-http2", text, multiplexed, only=("hypercorn-",)))
    idle = {"connections": 1, "size": 1024, "think": 300}
    text = "1 connection, 1 KiB, client idle 300 µs between requests"
    found.append(Workload("latency", text, idle, LATENCY, metric="p50", least_rounds=9))
    only = ("looking-", "ring-sockets", "trio-sockets")
    found.append(Workload("looking", text, idle, metric="p50", only=only))
    one = {"connections": 1, "size": 1024}
    text = "1 connection, 1 KiB, one request after the other"
    found.append(Workload("looking-busy", text, one, metric="p50", only=only))
    return found


PRINTED_WIDTH = 120
MOST = 18_000
"""As many connections as a process that may have 20 000 descriptors can hold, with some to spare."""
UNITS = {
    "cpu": "µs/request",
    "kernel": "µs/request",
    "p50": "µs",
    "p99": "µs",
    "rate": "per s",
    "client": "% busy",
}


def sample(server: Server, workload: Workload, seconds: float) -> dict[str, float]:
    """One round of one contender.

    Raises:
        BenchmarkError: an answer was wrong or missing; such a figure is worth nothing.
    """
    with Load(server.port, seconds=seconds, core=cores()[1], **workload.load) as load:
        before, ticks = server.cpu(), server.ticks()
        load.start()
        result = load.result()
        cpu = server.cpu() - before
        user, kernel = (after - start for after, start in zip(server.ticks(), ticks, strict=True))
    if result.errors or not result.requests:
        what = f"{result.requests} answers, {result.errors} errors, {result.mismatches} with wrong bytes"
        raise BenchmarkError(f"{server.name} on {workload.name}: {what}")
    return {
        "cpu": cpu / result.requests * 1e6,
        "kernel": cpu / result.requests * 1e6 * kernel / max(1, user + kernel),
        "p50": result.p50_us,
        "p99": result.p99_us,
        "rate": result.requests / result.seconds,
        "client": result.client_cpu_us / result.seconds / 1e4,
    }


def compare(
    workload: Workload, names: Sequence[str], rounds: int, seconds: float, tick: Callable[[], None]
) -> Comparison:
    """All contenders on one workload, in turns; each round starts with another one."""
    samples: dict[str, dict[str, list[float]]] = {name: {metric: [] for metric in UNITS} for name in names}
    with ExitStack() as stack:
        servers = [stack.enter_context(Server(name, cores()[0])) for name in names]
        for turn in range(rounds):
            first = turn % len(servers)
            for server in servers[first:] + servers[:first]:
                for metric, value in sample(server, workload, seconds).items():
                    samples[server.name][metric].append(value)
                tick()
    order = sorted(UNITS, key=lambda metric: metric != workload.metric)
    contenders = [Contender(n, samples[n], BASELINES[n], workload.limits.get(n)) for n in names]
    return Comparison(workload.name, workload.description, {m: UNITS[m] for m in order}, contenders)


async def ring_facts() -> dict[str, Any]:
    from uring import abi
    from uring_trio.core import engine

    ring: Any = engine.current().ring
    prefix = "IORING_SETUP_"
    names = [name for name in dir(abi) if name.startswith(prefix) and ring.flags & getattr(abi, name)]
    return {
        "flags": sorted(name.removeprefix(prefix) for name in names),
        "features": hex(ring.features),
        "entries": ring.sq_entries,
        "cq_entries": ring.cq_entries,
    }


def machine(with_ring: bool) -> dict[str, Any]:
    """What the figures depend on, and how the ring was set up."""
    facts = kept.machine()
    facts["instructions"] = {"with": counts.versions(), "figures": counts.kept_for(counts.versions())}
    if with_ring:
        import uring_trio

        facts["ring"] = uring_trio.run(ring_facts)
    return facts


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="fewer workloads, three short rounds: a look, not a result")
    add("--rounds", type=int, help="rounds (5; the latency workload has at least 9)")
    add("--seconds", type=float, help="seconds for each contender and round (1)")
    add("--only", action="append", metavar="PATTERN", help="workloads, as echo-20x* or operation-50")
    add("--contenders", action="append", metavar="PATTERN", help="as ring-*; their baselines run too")
    add("--pages", action="store_true", help="what the pages show; writes the page of benchmarks")
    add("--list", action="store_true", help="list workloads and contenders")
    add("--json", type=Path, metavar="FILE", help="keep every sample as JSON")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    if options.pages:
        options.only = [*pages.WORKLOADS, *report.WORKLOADS]
        options.contenders = [*pages.CONTENDERS, *report.CONTENDERS]
        options.json = options.json or report.PAGE.with_suffix(".json")
    rounds = options.rounds or (3 if options.quick else 5)
    seconds = options.seconds or (0.3 if options.quick else 0.5 if options.pages else 1.0)

    def wanted(name: str, patterns: list[str] | None) -> bool:
        return patterns is None or any(fnmatch(name, pattern) for pattern in patterns)

    def chosen_only(name: str) -> bool:
        return wanted(name, options.contenders)

    console = Console() if sys.stdout.isatty() else Console(width=PRINTED_WIDTH)
    chosen = {name for name in BASELINES if wanted(name, options.contenders)}
    names = [n for n in BASELINES if n in chosen or n in {BASELINES[c] for c in chosen}]
    all_sizes = options.only or not options.quick
    if find_spec("uvloop") is None:
        console.print("uvloop is not installed: its contenders are left out")
        names = [name for name in names if not name.startswith("uvloop")]
    served = [w for w in workloads() if wanted(w.name, options.only) and (w.quick or all_sizes)]
    if find_spec("h2") is None:
        console.print("h2 is not installed: HTTP/2 is left out")
        served = [w for w in served if not w.load.get("http2")]
    tasks = [n for n in (1, 50) if wanted(f"operation-{n}", options.only)]
    flowing = [flow for flow in flows.FLOWS if wanted(flow.name, options.only) and all_sizes]
    if not local.has_redis():
        console.print("redis-server or coredis is not installed: Redis is left out")
        flowing = [flow for flow in flowing if flow.measure is not local.commands]
    if find_spec("hypercorn") is None or find_spec("starlette") is None:
        console.print("hypercorn or Starlette is not installed: their workloads are left out")
        names = [name for name in names if not name.startswith("hypercorn")]
    if not boundary.has_liburing():
        console.print("liburing is not installed: it is left out of the workloads boundary-*")
    crossing = [each for each in boundary.BOUNDARIES if wanted(each.name, options.only) and all_sizes]
    by_itself: list[tuple[str, Callable[[], Iterator[int | Comparison]]]] = [
        *((f"operation-{n}", partial(micro.compare, n, rounds, chosen_only)) for n in tasks),
        *((each.name, partial(boundary.compare, each, rounds, chosen_only)) for each in crossing),
        *((flow.name, partial(flows.compare, flow, rounds, chosen_only)) for flow in flowing),
    ]
    if options.list:
        console.print("workloads:", *(name for name, _ in by_itself), *(w.name for w in served))
        console.print("contenders:", *names, "; for operation-*:", *(kind.name for kind in micro.KINDS))
        return

    exit_on_terminate()
    facts = machine(
        with_ring=any(name.startswith(("ring-", "uring-")) or name.endswith("-uring") for name in names)
    )
    comparisons: list[Comparison] = []
    failures: list[str] = []
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        for name, steps in by_itself:
            bar = progress.add_task(name, total=rounds)
            try:
                for step in steps():
                    if isinstance(step, Comparison):
                        comparisons.append(step)
                        if not options.pages:
                            progress.print(step.table())
                    else:
                        progress.advance(bar)
            except BenchmarkError as error:
                failures.append(f"{name}: {error}")
        for workload in served:
            takers = [name for name in names if workload.takes(name)]
            if options.pages and workload.name not in pages.ECHOES and not workload.only:
                takers = [name for name in takers if name.startswith(PEERS)]
            if not takers:
                continue
            turns = max(min(rounds, workload.most_rounds), 0 if options.quick else workload.least_rounds)
            bar = progress.add_task(workload.name, total=turns * len(takers))
            try:
                comparisons.append(compare(workload, takers, turns, seconds, partial(progress.advance, bar)))
            except BenchmarkError as error:
                failures.append(str(error))
                continue
            if not options.pages:
                progress.print(comparisons[-1].table())
    if options.json:
        kept.save(options.json, facts, comparisons)
    if options.pages:
        print(pages.tables(comparisons))
        report.write(options.json)
    if failures:
        raise BenchmarkError("; ".join(["left out, for their errors", *failures]))


def compare_kept(files: list[str]) -> None:
    """Print what differs between two kept runs."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks compare", description=kept.__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    options = parser.parse_args(files)
    verdicts = kept.compare(kept.load(options.before)[1], kept.load(options.after)[1])
    if not verdicts:
        raise BenchmarkError("the two runs have no figure in common")
    print(kept.told(verdicts))


if __name__ == "__main__":
    try:
        compare_kept(sys.argv[2:]) if sys.argv[1:2] == ["compare"] else main()
    except BenchmarkError as error:
        sys.exit(f"benchmarks: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
