"""``python -m uring_trio top PID``: a running service's ring in a terminal.

The service opted in, by ``RingOptions(monitor=True)``, ``URING_TRIO=monitor=1`` or ``--ring monitor=1``. This
side needs no ring and no Trio; rich draws the pictures.
"""

from __future__ import annotations

import argparse
import json
import socket
import sys
import time
from typing import TYPE_CHECKING, Any

from .socket_paths import sockets_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["main"]

PROG = "python -m uring_trio top"
_PATIENCE = 2.0
"""Seconds after which a run that has not answered is shown as busy."""
_WIDE = 116
"""Columns of a terminal from which everything is shown. With fewer the summary has two columns, operations
have no peers and files no folders."""


def main(argv: Sequence[str]) -> None:
    """Shows a process's runs until Ctrl-C, or once.

    Raises:
        SystemExit: 1 there is no such process or nothing to see, 2 wrong usage.
    """
    parser = argparse.ArgumentParser(prog=PROG, description="Shows what a service on io_uring is doing.")
    parser.add_argument(
        "pid", type=int, help="process of the service, which runs with RingOptions(monitor=True)"
    )
    parser.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="between looks")
    parser.add_argument("--once", action="store_true", help="print it once, after one interval")
    parser.add_argument("--json", action="store_true", help="print one look as JSON")
    options = parser.parse_args(argv)
    if not options.interval > 0:
        parser.error("--interval is more than 0 seconds")
    runs = _connect(options.pid)
    try:
        if options.json:
            for run in runs:
                print(json.dumps(run.ask()))
        else:
            _show(runs, options.interval, once=options.once)
    except KeyboardInterrupt:
        pass
    except ConnectionError:
        sys.exit(f"{PROG}: the run has ended")
    finally:
        for run in runs:
            run.close()


class Run:
    """One run of the process, with its last two looks."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(path))
        self._socket.settimeout(_PATIENCE)
        self._data = b""
        self._asked = 0
        self.now: dict[str, Any] = {}
        self.before: dict[str, Any] = {}
        self.busy: bool = False

    def ask(self) -> dict[str, Any]:
        """A look at the run. It may be an old one, where the run is `busy`.

        Raises:
            ConnectionError: the run has ended.
        """
        if not self._asked:
            self._socket.sendall(b"\n")
            self._asked = 1
        try:
            while b"\n" not in self._data:
                more = self._socket.recv(1 << 16)
                if not more:
                    raise ConnectionResetError
                self._data += more
        except TimeoutError:
            self.busy = True
            return self.now
        line, _, self._data = self._data.partition(b"\n")
        self._asked = 0
        self.busy = False
        self.before, self.now = self.now, json.loads(line)
        return self.now

    def close(self) -> None:
        self._socket.close()

    def rate(self, *path: str) -> float:
        """How much a count grew each second."""
        if not self.before or self.now["time"] <= self.before["time"]:
            return 0.0
        new, old = (self._value(each, path) for each in (self.now, self.before))
        return float((new - old) / (self.now["time"] - self.before["time"]))

    def _value(self, look: dict[str, Any], path: tuple[str, ...]) -> Any:
        value: Any = look
        for name in path:
            value = value.get(name, 0)
        return value


def _connect(pid: int) -> list[Run]:
    try:
        paths = sockets_of(pid)
    except ProcessLookupError as exc:
        sys.exit(f"{PROG}: {exc}")
    runs = []
    for path in paths:
        try:
            runs.append(Run(path))
        except PermissionError:
            sys.exit(f"{PROG}: process {pid} belongs to another user: be that user, or root")
        except OSError:
            continue  # left behind by a run that was killed
    if not runs:
        sys.exit(
            f"{PROG}: process {pid} shows nothing: start the service with RingOptions(monitor=True), "
            "URING_TRIO=monitor=1 in its environment, or python -m uring_trio --ring monitor=1"
        )
    return runs


def _show(runs: list[Run], interval: float, *, once: bool) -> None:
    try:
        from rich.console import Console
        from rich.live import Live
    except ImportError:
        sys.exit(f"{PROG} needs rich: pip install 'uring-trio[top]' (--json works without it)")
    console = Console()
    for run in runs:
        run.ask()
    if once:
        time.sleep(interval)
        for run in runs:
            run.ask()
        console.print(_picture(runs, None, console.width))
        return
    first = _picture(runs, console.height, console.width)
    with Live(first, console=console, screen=console.is_terminal) as live:
        while True:
            time.sleep(interval)
            for run in runs:
                run.ask()
            live.update(_picture(runs, console.height, console.width), refresh=True)


def _picture(runs: list[Run], height: int | None, width: int) -> Any:
    from rich.console import Group

    wide = width >= _WIDE
    room = None if height is None else max(4, height // len(runs) - (14 if wide else 17))
    return Group(*(_panel(run, room, wide) for run in runs))


def _panel(run: Run, room: int | None, wide: bool) -> Any:
    from rich.console import Group
    from rich.panel import Panel

    now = run.now
    title = f"{now['program']} · process {now['process']} · {now['thread']}"
    parts = (_summary(run, 4 if wide else 2), _kinds(run), _operations(run, room, wide))
    note = "busy: no answer" if run.busy else f"up {_duration(now['up'])}"
    return Panel(Group(*parts), title=title, subtitle=note, border_style="red" if run.busy else "green")


def _summary(run: Run, columns: int) -> Any:
    from rich.table import Table

    now = run.now
    ring, buffers, counts = now["ring"], now["buffers"], now["statistics"]
    operations = run.rate("statistics", "completed")
    cpu = run.rate("cpu")
    each = f"{1e6 * cpu / operations:.1f} µs" if operations >= 1 else "–"
    table = Table.grid(padding=(0, 3))
    for _ in range(columns):
        table.add_column(no_wrap=True)
    cells = [
        f"operations {operations:,.0f}/s",
        f"system calls {run.rate('statistics', 'enters'):,.0f}/s",
        f"CPU {100 * cpu:.1f} %, {each} each",
        f"tasks {now['tasks']}, {now['runnable']} runnable",
        f"in flight {ring['in_flight']}",
        f"queue {ring['queued']} of {ring['entries']}",
        f"completions overflowed {counts['overflows']} of {ring['cq_entries']}",
        f"late {counts['late']}",
        f"buffers {buffers['in_use']} of {buffers['most']}",
        f"groups {buffers['groups']}, {buffers['lent']} lent",
        f"cancels {counts['cancels_requested']}, won {counts['cancels_won']}, lost {counts['cancels_lost']}",
        f"ticks in C {run.rate('statistics', 'compiled_ticks'):,.0f}/s",
    ]
    for start in range(0, len(cells), columns):
        table.add_row(*cells[start : start + columns])
    return table


def _kinds(run: Run) -> Any:
    from rich.table import Table

    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("kind")
    for name in ("in flight", "a second", "since the look began"):
        table.add_column(name, justify="right")
    parked = run.now["in_flight_by_kind"]
    done = run.now["completed_by_kind"]
    about = "" if run.now["counted"] == 1 else "≈ "
    for name in sorted({*parked, *done}, key=lambda name: (-run.rate("completed_by_kind", name), name))[:6]:
        rate = run.rate("completed_by_kind", name)
        table.add_row(name, str(parked.get(name, 0)), f"{about}{rate:,.0f}", f"{about}{done.get(name, 0):,}")
    return table


def _operations(run: Run, room: int | None, wide: bool) -> Any:
    from rich.table import Table

    total = sum(run.now["in_flight_by_kind"].values())
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    names = ["operation", "fd", "peer", "state", "age", "task", "awaited at"]
    for name in names if wide else ["operation", "fd", "age", "task", "awaited at"]:
        table.add_column(name, no_wrap=name != ("awaited at" if wide else "task"), overflow="ellipsis")
    rows = sorted(run.now["in_flight"], key=lambda row: -(row["age"] or 0.0))[:room]
    for row in rows:
        age = "" if row["age"] is None else f"{'>' if row['parked_before'] else ''}{_duration(row['age'])}"
        task = row["task"] if "<" in row["task"] else row["task"].rpartition(".")[2]
        if wide:
            table.add_row(row["name"], str(row["fd"]), row["peer"], row["state"], age, task, row["where"])
        else:
            age = age if row["state"] in ("in flight", "waiting") else f"{row['state']} {age}"
            table.add_row(row["name"], str(row["fd"]), age, task, row["where"].rpartition("/")[2])
    if total > len(rows):
        table.add_row(f"… {total - len(rows):,} more")
    return table


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, hours = int(seconds) // 60 % 60, int(seconds) // 3600
    return f"{hours}:{minutes:02}:{int(seconds) % 60:02}"
