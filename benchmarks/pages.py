"""The tables of README.md and of the page on costs, as they stand there: ``make bench ARGS=--pages``.

The first column of a row, with its table's heading, is where the row stands on the page
(``tests/unit/test_benchmarks.py`` holds both to that).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .figures import Summary, in_user_space, samples

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .figures import Comparison

__all__ = ["CONTENDERS", "WORKLOADS", "tables"]

STREAMS = ("ring-sockets", "ring-streams", "uring-streams")
ECHOES = {
    "echo-20x1KiB": "20 connections, 1 KiB",
    "echo-200x1KiB": "200 connections, 1 KiB",
    "echo-20x100KiB": "20 connections, 100 KiB",
    "churn": "a new connection for each request",
    "latency": "p50, 1 connection, client idle 300 µs in between",
}
OPERATIONS = {
    "ring-checkpoint": "a checkpoint in a ring run",
    "ring-reused": "a socket's reused operation, every check",
    "ring-perform": "`perform(nop)`",
}
LIBRARIES = {
    "hypercorn-text": "hypercorn and Starlette, 13 bytes",
    "hypercorn-file": "hypercorn and Starlette, a file of 64 KiB",
    "hypercorn-large": "hypercorn and Starlette, a file of 1 MiB",
}
PEERS = ("trio-streams", "ring-streams", "asyncio-streams", "uvloop-streams", "uvloop-protocols", "c-ring")
TEXTS = (
    ("AnyIO on the ring against AnyIO on stock Trio", "anyio-50x1KiB", "anyio-uring", "anyio-trio"),
    ("AnyIO on the ring against AnyIO on asyncio", "anyio-50x1KiB", "anyio-uring", "anyio-asyncio"),
    ("`chunks()`, 1 GiB into one connection", "stream-in", "uring-chunks", "trio-streams"),
    ("`connections()`, a new one for each request", "churn", "uring-multishot", "trio-streams"),
    ("coredis, GET of 1 KiB", "redis-get", "ring-coredis", "trio-coredis"),
    ("hypercorn and Starlette, 13 bytes by HTTP/2", "hypercorn-http2", "hypercorn-uring", "hypercorn-trio"),
)
WORKLOADS = [*ECHOES, *LIBRARIES, "operation-1", "operation-50", "anyio-50x1KiB", "stream-in"]
"""What the pages have figures of."""
CONTENDERS = [
    *STREAMS,
    *PEERS,
    *OPERATIONS,
    "uring-multishot",
    "uring-chunks",
    "anyio-*",
    "hypercorn-*",
]
"""Whose figures these are; their baselines run too."""


def tables(comparisons: Sequence[Comparison]) -> str:
    """Markdown of what was measured, a part for each table; a figure that was not measured is a dash."""
    found = {comparison.workload: comparison for comparison in comparisons}
    parts = {
        "README.md, Measured": (
            ["echo", "Trio's sockets", "`trio.serve_tcp`, `SocketStream`", "`UringStream`"],
            [[label, *(_ratio(found, name, each) for each in STREAMS)] for name, label in ECHOES.items()],
        ),
        "docs/explanation/costs.md, One operation": (
            ["against a bare checkpoint of stock Trio", "50 tasks", "1 task"],
            [
                [label, *(_ratio(found, f"operation-{tasks}", kind) for tasks in (50, 1))]
                for kind, label in OPERATIONS.items()
            ],
        ),
        "docs/explanation/costs.md, Where a library dominates; README.md; docs/howto/apps/hypercorn.md": (
            ["program", "against stock Trio", "stock Trio", "on the ring"],
            [
                [
                    label,
                    _ratio(found, name, "hypercorn-uring"),
                    *(_figure(found, name, f"hypercorn-{where}") for where in ("trio", "uring")),
                ]
                for name, label in LIBRARIES.items()
            ],
        ),
        "README.md, a request at 20 connections and 1 KiB": (
            ["server", "µs", "of them in user space"],
            [
                [
                    f"`{name}`",
                    _figure(found, "echo-20x1KiB", name),
                    _median(in_user_space(found, "echo-20x1KiB", name)),
                ]
                for name in PEERS
            ],
        ),
        "README.md and docs/explanation/costs.md, in their text": (
            ["figure", "ratio"],
            [[label, _ratio(found, workload, name, against)] for label, workload, name, against in TEXTS],
        ),
    }
    return "\n".join(line for heading, table in parts.items() for line in _markdown(heading, *table))


def _markdown(heading: str, columns: list[str], rows: list[list[str]]) -> Iterator[str]:
    yield f"{heading}:\n"
    for cells in (columns, ["---"] * len(columns), *rows):
        yield f"| {' | '.join(cells)} |".replace("| --- ", "|---").replace("--- |", "---|")
    yield ""


def _ratio(found: dict[str, Comparison], workload: str, name: str, against: str | None = None) -> str:
    """Against the contender's own baseline, or another; within each round."""
    contenders = found[workload].contenders if workload in found else ()
    baselines = {contender.name: contender.baseline for contender in contenders}
    mine = samples(found, workload, name)
    its = samples(found, workload, against or baselines.get(name))
    if not mine or not its:
        return "–"
    ratio = Summary.of([one / other for one, other in zip(mine, its, strict=True)])
    return f"{ratio.median:.2f} × ({ratio.low:.2f}–{ratio.high:.2f})"


def _figure(found: dict[str, Comparison], workload: str, name: str) -> str:
    return _median(samples(found, workload, name))


def _median(values: Sequence[float]) -> str:
    if not values:
        return "–"
    middle = Summary.of(values).median
    return f"{middle:.0f} µs" if middle >= 100 else f"{middle:.1f} µs"
