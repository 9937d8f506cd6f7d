"""The page of benchmarks, from a kept run: `python -m benchmarks.report` writes it, and its pictures.

`make bench ARGS=--pages` measures, keeps the run beside the page and calls this. The page shows what the JSON
holds; ``tests/unit/test_kept_benchmarks.py`` holds them to that.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

from . import counts, kept, pages
from .figures import Summary, in_user_space, number, samples
from .plots import Bars, Lines, draw

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .figures import Comparison

__all__ = ["CONTENDERS", "PAGE", "WORKLOADS", "pictures", "text", "write"]

PAGE = Path(__file__).parents[1] / "docs/explanation/benchmarks.md"
PEERS = {
    "trio-streams": "stock Trio, `SocketStream`",
    "ring-streams": "the same program on the ring",
    "asyncio-streams": "asyncio, streams",
    "uvloop-streams": "uvloop, streams",
    "uvloop-protocols": "uvloop, protocols without tasks",
    "c-ring": "a server in C on io_uring",
}
SOCKETS = {
    "trio-sockets": "stock Trio, Trio's sockets",
    "ring-sockets": "the same program on the ring",
}
CONNECTIONS = {
    1: "echo-1x1KiB",
    20: "echo-20x1KiB",
    200: "echo-200x1KiB",
    2_000: "echo-2000x1KiB",
    18_000: "echo-18000x1KiB",
}
SIZES = {
    64: "echo-20x64B",
    1 << 10: "echo-20x1KiB",
    10 << 10: "echo-20x10KiB",
    100 << 10: "echo-20x100KiB",
    1 << 20: "echo-20x1MiB",
}
SIZE_NAMES: dict[float, str] = {
    64: "64 B",
    1 << 10: "1 KiB",
    10 << 10: "10 KiB",
    100 << 10: "100 KiB",
    1 << 20: "1 MiB",
}
# label, workload, contender; against the contender's own baseline
OPERATIONS = [
    ("checkpoint, 50 tasks", "operation-50", "ring-checkpoint"),
    ("memory channel, a value", "memory-channel", "ring-channel"),
    ("4 KiB of a cached file", "read-4KiB", "uring-files"),
    ("UDP echo, Trio's socket", "udp-echo", "ring-sockets"),
    ("UDP echo, `UringDatagrams`", "udp-echo", "uring-datagrams"),
    ("new connection, `trio.serve_tcp`", "churn", "ring-streams"),
    ("new connection, `uring_trio.serve_tcp`", "churn", "uring-streams"),
    ("new connection, `connections()`", "churn", "uring-multishot"),
]
PROGRAMS = [
    ("HTTP/1.1, h11 alone", "h11-text", "h11-uring"),
    ("hypercorn, 13 bytes", "hypercorn-text", "hypercorn-uring"),
    ("hypercorn, 64 KiB file", "hypercorn-file", "hypercorn-uring"),
    ("hypercorn, 1 MiB file", "hypercorn-large", "hypercorn-uring"),
    ("hypercorn, HTTP/2, 13 bytes", "hypercorn-http2", "hypercorn-uring"),
    ("coredis, GET of 1 KiB", "redis-get", "ring-coredis"),
    ("AnyIO, echo of 1 KiB", "anyio-50x1KiB", "anyio-uring"),
]
WORKLOADS = sorted(
    {
        *CONNECTIONS.values(),
        *SIZES.values(),
        *(workload for _, workload, _ in OPERATIONS + PROGRAMS),
        "latency",
    }
)
"""What the page has figures of, beside those of `pages`."""
CONTENDERS = ["again-*", "h11-*", *sorted({name for _, _, name in OPERATIONS + PROGRAMS})]
"""Whose, beside the same."""

BUSY = 1.0
"""A load average before the run that the page tells of."""

Run = dict[str, "Comparison"]


def ratio(run: Run, workload: str, name: str) -> Summary | None:
    comparison = run.get(workload)
    for contender in comparison.contenders if comparison else ():
        if comparison and contender.name == name:
            return comparison.ratio(contender)
    return None


# Pictures -----------------------------------------------------------------------------------------------


def series(run: Run, places: Mapping[int, str], metric: str, scale: float = 1) -> dict[str, Any]:
    found = {}
    for name in PEERS:
        points = []
        for x, workload in places.items():
            if values := samples(run, workload, name, metric):
                middle = Summary.of(values)
                points.append((x, middle.median / scale, middle.low / scale, middle.high / scale))
        if points:
            found[name] = points
    return found


def bars(title: str, run: Run, rows: Sequence[tuple[str, str, str]]) -> Bars:
    found = {}
    for label, workload, name in rows:
        if one := ratio(run, workload, name):
            found[label.replace("`", "")] = (one.median, one.low, one.high)
    return Bars(title, "× stock Trio", found, 1.0)


def pictures(run: Run) -> dict[str, tuple[list[Lines | Bars], int, tuple[float, float]]]:
    """By the end of their names: panels, columns, and the size of a panel."""
    counted: dict[float, str] = {x: f"{x:,}" for x in CONNECTIONS}
    cpu = "CPU µs a request"
    by_size = Lines(
        "By the size of a message, 20 connections",
        "bytes",
        cpu,
        series(run, SIZES, "cpu"),
        True,
        True,
        SIZE_NAMES,
    )
    by_number = Lines(
        "By connections, 1 KiB", "connections", cpu, series(run, CONNECTIONS, "cpu"), True, False, counted
    )
    latencies: list[Lines | Bars] = [
        Lines(
            f"{metric} by connections, 1 KiB",
            "connections",
            "ms",
            series(run, CONNECTIONS, metric, 1000),
            True,
            True,
            counted,
        )
        for metric in ("p50", "p99")
    ]
    ratios: list[Lines | Bars] = [bars("Operations", run, OPERATIONS), bars("Programs", run, PROGRAMS)]
    return {
        "cpu": ([by_number, by_size], 2, (5, 3.6)),
        "latency": (latencies, 2, (5, 3.4)),
        "ratios": (ratios, 1, (8, 2.8)),
    }


# Text ---------------------------------------------------------------------------------------------------


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def peers(run: Run, places: Mapping[str, str], metric: str, scale: float = 1) -> list[list[str]]:
    rows = []
    for name, what in PEERS.items():
        found = [samples(run, workload, name, metric) for workload in places.values()]
        if any(found):
            rows.append(
                [f"{what} (`{name}`)", *(number(median(each) / scale) if each else "–" for each in found)]
            )
    return rows


def parts(run: Run) -> list[list[str]]:
    """CPU time of an echo, and what of it the kernel takes and user space."""
    rows = []
    for name, what in {**SOCKETS, **PEERS}.items():
        whole, kernel = (samples(run, CONNECTIONS[20], name, metric) for metric in ("cpu", "kernel"))
        if whole and kernel:
            user = in_user_space(run, CONNECTIONS[20], name)
            rows.append([f"{what} (`{name}`)", *(number(median(each)) for each in (whole, kernel, user))])
    return rows


def ratios(run: Run, rows: Sequence[tuple[str, str, str]]) -> list[list[str]]:
    found = []
    for label, workload, name in rows:
        comparison = run.get(workload)
        one = ratio(run, workload, name)
        if comparison and one:
            unit = comparison.metrics[comparison.main].replace("/", " per ")
            stock = next(each.baseline for each in comparison.contenders if each.name == name) or ""
            figures = [number(median(samples(run, workload, each))) for each in (stock, name)]
            found.append([label, *figures, unit, f"{one.median:.2f} × ({one.low:.2f}–{one.high:.2f})"])
    return found


def noise(run: Run) -> list[str]:
    """How far the rounds of a figure lie apart, over all figures of this run."""
    apart: list[float] = []
    ratios_apart: list[float] = []
    for comparison in run.values():
        for contender in comparison.contenders:
            for found, values in (
                (apart, contender.samples[comparison.main]),
                (ratios_apart, comparison.ratios(contender)),
            ):
                if len(values) > 1:
                    middle = Summary.of(values)
                    found.append((middle.high - middle.low) / middle.median)
    again = ratio(run, "echo-20x1KiB", "again-trio-streams")
    lines = [
        "From the lowest to the highest round, half of the figures spread over less than",
        f"{median(apart):.0%} of their median, and nine in ten over less than",
        f"{quantiles(apart, n=10)[8]:.0%}. For the ratios, which are taken within a round, it is",
        f"{median(ratios_apart):.0%} and {quantiles(ratios_apart, n=10)[8]:.0%}.",
    ]
    if again:
        lines += [
            "A second process of stock Trio's server, as a contender against the first, came to",
            f"{again.median:.2f} × ({again.low:.2f}–{again.high:.2f}) at 20 connections and 1 KiB: smaller",
            "differences mean nothing.",
        ]
    return lines


def instructions(figures: Mapping[str, int]) -> list[list[str]]:
    rows = []
    for name, ring in figures.items():
        if not name.startswith(counts.STOCK):
            stock = figures.get(counts.STOCK + name)
            rows.append(
                [name, f"{stock:,}" if stock else "–", f"{ring:,}", f"{ring / stock:.2f} ×" if stock else "–"]
            )
    return rows


def text(facts: Mapping[str, Any], run: Run) -> str:
    """The page, in Markdown."""
    packages = ", ".join(f"{name} {found}" for name, found in facts["packages"].items())
    size_places = {SIZE_NAMES[size]: workload for size, workload in SIZES.items()}
    number_places = {f"{count:,}": workload for count, workload in CONNECTIONS.items()}
    lines = [
        "# Benchmarks",
        "",
        "<!-- written by python -m benchmarks.report from the JSON beside it -->",
        "",
        "One command measures everything on this page, and writes it:",
        "",
        "```sh",
        "make bench ARGS=--pages",
        "```",
        "",
        "The main figure is the CPU time of the server for each request, its kernel workers included. The",
        "server has one core, the clients another; clients compare every byte. Contenders take turns, round",
        "after round. A figure is the median of the rounds. A ratio is the median of the rounds' ratios,",
        "with the lowest and the highest in brackets. [benchmarks/README.md](../../benchmarks/README.md)",
        "describes the contenders and the method.",
        "",
        "## Echo",
        "",
        "![CPU time of a request by connections and by size](benchmarks-cpu.svg)",
        "",
        "CPU µs a request of 1 KiB, by connections:",
        "",
        *table(["server", *number_places], peers(run, number_places, "cpu")),
        "",
        "CPU µs a request over 20 connections, by size:",
        "",
        *table(["server", *size_places], peers(run, size_places, "cpu")),
        "",
        "The parts of that time at 20 connections and 1 KiB. In the kernel a request is a receive and a send",
        "over TCP:",
        "",
        *table(["server", "CPU µs", "in the kernel", "in user space"], parts(run)),
        "",
        "## Latency",
        "",
        "Every client sends its next request when it has the answer, so the server is never idle: the",
        "latency of many connections is the time that a request of each of them takes.",
        "",
        "![p50 and p99 by connections](benchmarks-latency.svg)",
        "",
        "One client that waits 300 µs before each request, in µs:",
        "",
        *table(
            ["server", "p50", "p99"],
            [
                [one[0], one[1], other[1]]
                for one, other in zip(
                    *(peers(run, {"": "latency"}, metric) for metric in ("p50", "p99")), strict=True
                )
            ],
        ),
        "",
        "## Against stock Trio",
        "",
        "![Ratios to stock Trio](benchmarks-ratios.svg)",
        "",
        *table(["what", "stock Trio", "on the ring", "unit", "ratio"], ratios(run, OPERATIONS + PROGRAMS)),
        "",
        "The read on stock Trio is `trio.open_file` with `seek` and `read`, in a thread. Programs that",
        "spend their time in a library gain little: see [Where the microseconds go](costs.md).",
        "",
        "## Instructions",
        "",
        "valgrind counts user-space instructions, which neighbours on the machine do not change.",
        f"`make count` fails where one has grown by more than {counts.GROWTH:.0%}.",
        f"With {facts['instructions']['with']}:",
        "",
        *table(
            ["what", "stock Trio", "on the ring", "ratio"], instructions(facts["instructions"]["figures"])
        ),
        "",
        "The kernel's part is not in them: a read or a receive also costs its system call. The echo has one",
        "connection, whose next message always comes after the server has begun to wait.",
        "",
        "## The machine",
        "",
        *table(
            ["", ""],
            [
                [
                    "processor",
                    f"{facts['processors']} × {facts['processor']}, {facts['memory'] / (1 << 30):.0f} GiB",
                ],
                ["kernel", f"Linux {facts['kernel']}"],
                ["Python", facts["python"].split()[0]],
                ["packages", packages],
                [
                    "measured",
                    f"{facts['date']}, commit {facts['commit']}, load before {facts['load before']:.1f}",
                ],
            ],
        ),
        "",
        "## The noise",
        "",
        *(
            [
                f"The load average before this run was {facts['load before']:.1f}: other work had just "
                "ended, or went on beside it.",
                "",
            ]
            if facts["load before"] > BUSY
            else []
        ),
        *noise(run),
        "",
        '`make bench ARGS="--json FILE"` keeps every sample of a run.',
        "`python -m benchmarks compare A.json B.json` tells for each figure of two runs whether it is",
        "better, the same or worse. A difference is one where the medians differ by more than 3 %, and an",
        "exact rank test finds that chance alone would part the rounds so in at most one of 100 cases.",
    ]
    return "\n".join([*lines, ""])


def write(json: Path, page: Path = PAGE) -> None:
    """The page and its pictures, from a kept run."""
    facts, comparisons = kept.load(json)
    run = {comparison.workload: comparison for comparison in comparisons}
    page.write_text(text(facts, run))
    for name, (panels, columns, size) in pictures(run).items():
        draw(page.with_name(f"{page.stem}-{name}.svg"), panels, columns=columns, size=size)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("json", type=Path, nargs="?", default=PAGE.with_suffix(".json"))
    parser.add_argument("--tables", action="store_true", help="print the tables of README.md and costs.md")
    options = parser.parse_args()
    if options.tables:
        print(pages.tables(kept.load(options.json)[1]))
        return
    write(options.json)


if __name__ == "__main__":
    main()
