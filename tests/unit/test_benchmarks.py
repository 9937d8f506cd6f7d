"""The benchmark harness itself: it checks bytes, measures, and leaves no process behind."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import boundary, pages
from benchmarks.demo import check_ring
from benchmarks.figures import Comparison, Contender, Summary
from benchmarks.processes import BenchmarkError, Load, LoadResult, Server, body, build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LOAD: dict[str, Any] = {"seconds": 0.1, "size": 3000, "connections": 3}


@contextmanager
def tiny_server(change: Callable[[bytes], bytes]) -> Iterator[int]:
    """Echo what `change` makes of the data, from threads; yield the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def echo(client: socket.socket) -> None:
        with client:
            try:
                while data := client.recv(65536):
                    client.sendall(change(data))
            except OSError:
                return

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threads.append(threading.Thread(target=echo, args=(client,)))
            threads[-1].start()

    threads = [threading.Thread(target=accept)]
    threads[0].start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        listener.close()


def exchange(port: int, **options: Any) -> LoadResult:
    with Load(port, **(LOAD | options)) as load:
        load.start()
        return load.result()


@pytest.mark.parametrize("options", [{}, {"churn": True}, {"think": 200, "connections": 1}])
def test_load_counts_right_answers(options: dict[str, object]) -> None:
    with tiny_server(bytes) as port:
        result = exchange(port, **options)
    assert (result.errors, result.mismatches) == (0, 0)
    assert result.requests > 0
    assert result.bytes == result.requests * 3000
    assert 0 < result.p50_us <= result.p99_us


@contextmanager
def http_server(answer: bytes) -> Iterator[int]:
    """The port of a server that takes one connection after another and answers each request so."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client, suppress(ConnectionResetError):  # who is content has gone, with answers unread
                    asked = b""
                    while part := client.recv(4096):
                        asked += part
                        while b"\r\n\r\n" in asked:
                            request, _, asked = asked.partition(b"\r\n\r\n")
                            assert request == b"GET /text HTTP/1.1\r\nHost: 127.0.0.1"
                            try:
                                # In parts, so that heads and bodies are cut anywhere.
                                for at in range(0, len(answer), 7):
                                    client.sendall(answer[at : at + 7])
                            except OSError:
                                break

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


HEAD = b"HTTP/1.1 200 \r\nserver: x\r\nContent-Length: %d\r\n\r\n"
TEXT = body("text").read_bytes()


def test_load_speaks_http() -> None:
    with http_server(HEAD % len(TEXT) + TEXT) as port:
        result = exchange(port, http="text", connections=1)
    assert (result.errors, result.mismatches) == (0, 0)
    assert result.requests > 1
    assert result.bytes == result.requests * len(TEXT)


@pytest.mark.parametrize(
    "answer",
    [
        HEAD % len(TEXT) + TEXT[:-1] + b"?",
        HEAD % len(TEXT) + TEXT + b"more",
        HEAD % (len(TEXT) + 1) + TEXT + b"?",
        HEAD.replace(b"200", b"404") % len(TEXT) + TEXT,
        b"HTTP/1.1 200 OK\r\n\r\n" + TEXT,
    ],
)
def test_a_wrong_http_answer_is_detected(answer: bytes) -> None:
    with http_server(answer) as port:
        result = exchange(port, http="text", connections=1)
    assert result.mismatches > 0


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("one bit", lambda data: data[:-1] + bytes([data[-1] ^ 1])),
        ("a byte too many", lambda data: data + data[:1]),
        ("other bytes", lambda data: bytes(len(data))),
    ],
)
def test_corrupting_server_is_detected(what: str, change: Callable[[bytes], bytes]) -> None:
    with tiny_server(change) as port:
        result = exchange(port, churn=True)
    assert result.mismatches > 0, what
    assert result.errors >= result.mismatches


def test_wrong_bytes_while_connecting_are_not_forgotten() -> None:
    """Without churn, connections make an exchange before the measured part: its errors count too."""
    with tiny_server(lambda data: bytes(len(data))) as port:
        assert exchange(port).mismatches > 0


def test_load_refuses_all_but_loopback() -> None:
    command = [str(build("load")), "--host", "192.0.2.1", "--port", "9"]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    assert done.returncode == 2
    assert "only 127.0.0.0/8" in done.stderr


def test_server_process_serves_is_measured_and_is_gone() -> None:
    with Server("trio-streams") as server:
        before = server.cpu()
        result = exchange(server.port)
        assert result.requests > 0
        assert result.errors == 0
        assert server.cpu() > before
        assert server.statistics()["backend"] == "epoll"
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)


@pytest.mark.ring
def test_c_server_on_the_ring_answers_right() -> None:
    with Server("c-ring") as server:
        for options in ({}, {"size": 200_000, "connections": 20}, {"churn": True}):
            result = exchange(server.port, **options)
            assert result.requests > 0
            assert result.errors == 0


def test_demo_does_not_take_epoll_for_the_ring() -> None:
    with (
        Server("trio-streams") as server,
        pytest.raises(BenchmarkError, match="ring was not used: backend epoll"),
    ):
        check_ring(server)


@pytest.mark.ring
def test_demo_sees_that_the_ring_was_used() -> None:
    with Server("ring-streams") as server:
        assert exchange(server.port).errors == 0
        assert "operations submitted" in check_ring(server)


def test_server_that_cannot_start_is_an_error() -> None:
    with pytest.raises(BenchmarkError, match="ended with status 1"), Server("no-such-contender"):
        pass


def test_missing_compiler_names_the_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("benchmarks.processes.CACHE", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BenchmarkError, match="apt install gcc libc6-dev"):
        build("load")


def test_the_tables_of_the_pages_have_these_rows() -> None:
    root = Path(__file__).parents[2]
    text = "".join((root / name).read_text() for name in ("README.md", "docs/explanation/costs.md"))
    for labels in (pages.ECHOES, pages.OPERATIONS, pages.LIBRARIES):
        for label in labels.values():
            assert re.search(rf"^\| {re.escape(label)} \|.*\d × \(\d", text, re.MULTILINE), label


def test_the_tables_of_the_pages_are_what_was_measured() -> None:
    stock = Contender("trio-streams", {"cpu": [10.0, 20.0, 40.0]})
    samples = {"cpu": [5.0, 16.0, 20.0], "kernel": [4.0, 12.0, 19.0]}
    ring = Contender("ring-streams", samples, baseline="trio-streams")
    tables = pages.tables([Comparison("echo-20x1KiB", "a test", {"cpu": "µs"}, [stock, ring])])
    assert "\n| 20 connections, 1 KiB | – | 0.50 × (0.50–0.80) | – |\n" in tables
    assert "\n| `trio-streams` | 20.0 µs | – |\n" in tables
    assert "\n| `ring-streams` | 16.0 µs | 1.0 µs |\n" in tables
    assert "\n|---|---|---|---|\n" in tables


def test_the_pages_name_workloads_and_contenders_that_there_are() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--pages", "--list"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    listed = set(done.stdout.split())
    contenders = {*pages.STREAMS, *pages.PEERS, "uring-multishot", "anyio-uring", "hypercorn-uring"}
    if importlib.util.find_spec("uvloop") is None:  # it comes with the dependency group of the benchmarks
        contenders = {name for name in contenders if not name.startswith("uvloop-")}
    workloads = set(pages.WORKLOADS)
    if shutil.which("redis-server") is None:
        workloads.discard("redis-get")
    assert listed >= workloads | contenders


def test_ratio_is_the_median_of_the_rounds_ratios() -> None:
    stock = Contender("stock", {"cpu": [10.0, 20.0, 40.0]})
    ring = Contender("ring", {"cpu": [5.0, 16.0, 20.0]}, baseline="stock", limit=0.6)
    comparison = Comparison("echo", "a test", {"cpu": "µs"}, [stock, ring])
    assert comparison.ratio(ring) == Summary(0.5, 0.5, 0.8)
    assert comparison.ratio(stock) is None


@pytest.mark.ring
@pytest.mark.parametrize(
    ("workload", "name"),
    [(each, name) for each in boundary.BOUNDARIES for name in each.chosen(lambda _: True)],
    ids=lambda value: value if isinstance(value, str) else value.name,
)
def test_contenders_at_the_boundary_do_their_work(workload: boundary.Boundary, name: str) -> None:
    """Each looks at its results itself, and raises where one is wrong."""
    steps = workload.contenders[name]()
    turn = next(steps)
    turn()
    turn()
    assert next(steps, None) is None
    assert workload.aims.keys() <= workload.contenders.keys()


def test_handles_are_compared_with_liburing_too(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = {"liburing": 2.0, "uring-many": 5.0, "uring-many-handles": 3.0}
    monkeypatch.setattr(boundary, "has_liburing", lambda: True)
    monkeypatch.setattr(boundary, "sample", lambda _, name: costs[name])
    *_, comparison = boundary.compare(boundary.BOUNDARIES[0], 2, "uring-many-handles".__eq__)
    assert isinstance(comparison, Comparison)
    ratios = {
        each.name: (each.baseline, comparison.ratios(each), each.limit) for each in comparison.contenders
    }
    assert ratios["uring-many-handles"] == ("uring-many", [0.6, 0.6], 1.25)
    assert ratios["uring-many-handles, again"] == ("liburing", [1.5, 1.5], 1.0)


def test_handles_bring_their_twins(monkeypatch: pytest.MonkeyPatch) -> None:
    nops = boundary.BOUNDARIES[0]
    monkeypatch.setattr(boundary, "has_liburing", lambda: True)
    assert nops.chosen("uring-each-handles".__eq__) == ["liburing", "uring-each", "uring-each-handles"]
    monkeypatch.setattr(boundary, "has_liburing", lambda: False)
    assert nops.chosen("uring-each-handles".__eq__) == ["uring-each", "uring-each-handles"]
    assert nops.baseline("uring-each-handles") == "uring-each"
