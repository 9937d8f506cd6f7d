"""`make demo`: the same echo service on stock Trio and on the ring, with real clients, checked byte for byte.

The two servers take turns, so that both meet the same machine. Every answer is compared with what was sent.
The exit status is 1 if a byte differs, an answer is missing, or the ring server did not in fact use io_uring.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from .figures import number
from .processes import BenchmarkError, Load, LoadResult, Server, cores, exit_on_terminate

if TYPE_CHECKING:
    from collections.abc import Callable

STOCK, RING = "trio-streams", "uring-multishot"
TITLES = {STOCK: "stock Trio, epoll", RING: "uring_trio, io_uring"}
ROUNDS = 3
SECONDS = 1.2
CLIENTS = 2
CONNECTIONS = 25  # of each client
SIZE = 1024
PROGRESS_MS = 100


class Tally:
    """What one server has done in all its turns."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.cpu = 0.0
        self.results: list[LoadResult] = []

    def total(self, name: str) -> float:
        return float(sum(getattr(result, name) for result in self.results))

    def middle(self, name: str) -> float:
        return float(median(getattr(result, name) for result in self.results))

    @property
    def rate(self) -> float:
        return self.total("requests") / (self.total("seconds") / CLIENTS)

    @property
    def cpu_us(self) -> float:
        return self.cpu / self.total("requests") * 1e6


def take_turn(server: Server, tally: Tally, on_progress: Callable[[int], None]) -> None:
    """One turn of one server, with all clients at once; `on_progress` gets the requests so far in this turn.

    Raises:
        BenchmarkError: an answer was wrong or missing.
    """
    options: dict[str, Any] = {
        "connections": CONNECTIONS,
        "size": SIZE,
        "seconds": SECONDS,
        "progress_ms": PROGRESS_MS,
    }
    so_far = [0] * CLIENTS

    def follow(index: int, load: Load) -> LoadResult:
        def report(requests: int) -> None:
            so_far[index] = requests
            on_progress(sum(so_far))

        return load.result(report)

    # the pool is left last: when something fails, the clients are ended first, and that ends its threads
    with ThreadPoolExecutor(CLIENTS) as pool, ExitStack() as stack:
        loads = [stack.enter_context(Load(server.port, core=cores()[1], **options)) for _ in range(CLIENTS)]
        before = server.cpu()
        for load in loads:
            load.start()
        results = list(pool.map(follow, range(CLIENTS), loads))
        tally.cpu += server.cpu() - before
    tally.results += results
    for result in results:
        if result.errors or not result.requests:
            what = f"{result.mismatches} answers with wrong bytes, {result.errors} failed connections"
            raise BenchmarkError(f"{tally.title}: {what} after {result.requests} right answers")


def check_ring(server: Server) -> str:
    """Say how the ring was used.

    Raises:
        BenchmarkError: it was not.
    """
    statistics = server.statistics()
    backend, submitted = statistics.get("backend"), statistics.get("submitted", 0)
    if backend != "io_uring" or submitted <= 0:
        raise BenchmarkError(f"the ring was not used: backend {backend}, {submitted} operations submitted")
    return f"{submitted:,} operations submitted to the kernel in {statistics['enters']:,} system calls"


def table(stock: Tally, ring: Tally) -> Table:
    result = Table(title=f"Echo of {SIZE} bytes, {CLIENTS} clients with {CONNECTIONS} connections each")
    result.add_column("")
    for title in (stock.title, ring.title, "ratio"):
        result.add_column(title, justify="right")
    figures = {
        "requests/s": (stock.rate, ring.rate),
        "server CPU µs/request": (stock.cpu_us, ring.cpu_us),
        "p50 µs": (stock.middle("p50_us"), ring.middle("p50_us")),
        "p99 µs": (stock.middle("p99_us"), ring.middle("p99_us")),
    }
    for name, (ours, theirs) in figures.items():
        result.add_row(name, number(ours), number(theirs), f"{theirs / ours:.2f} ×")
    return result


def main() -> None:
    exit_on_terminate()
    console = Console()
    tallies = {name: Tally(title) for name, title in TITLES.items()}
    columns = (
        TextColumn("{task.description:20}"),
        BarColumn(),
        TextColumn("{task.fields[requests]:>9,} requests"),
    )
    with ExitStack() as stack:
        servers = [stack.enter_context(Server(name, cores()[0])) for name in TITLES]
        progress = stack.enter_context(Progress(*columns, TimeElapsedColumn(), console=console))
        steps = ROUNDS * SECONDS * CLIENTS * 1000 / PROGRESS_MS
        bars = {name: progress.add_task(title, total=steps, requests=0) for name, title in TITLES.items()}
        for _ in range(ROUNDS):
            for server in servers:
                tally, bar = tallies[server.name], bars[server.name]
                before = int(tally.total("requests"))

                def show(requests: int, bar: TaskID = bar, before: int = before) -> None:
                    progress.update(bar, advance=1, requests=before + requests)

                take_turn(server, tally, show)
                progress.update(bar, requests=int(tally.total("requests")))
        for bar in bars.values():
            progress.update(bar, completed=steps)
        ring = check_ring(servers[1])
    answers = sum(int(tally.total("requests")) for tally in tallies.values())
    volume = sum(tally.total("bytes") for tally in tallies.values()) / 1e6
    console.print(table(tallies[STOCK], tallies[RING]))
    console.print(f"All {answers:,} answers ({volume:,.0f} MB) were right, byte for byte. The ring: {ring}.")


if __name__ == "__main__":
    try:
        main()
    except BenchmarkError as error:
        sys.exit(f"demo: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
