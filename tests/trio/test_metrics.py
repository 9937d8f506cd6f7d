"""The figures of a run as OpenMetrics text: its grammar, its numbers, and the ASGI app."""

from __future__ import annotations

import re
from typing import Any

import pytest
import trio

import uring_trio
from uring_trio import metrics

SAMPLE = re.compile(r'([a-z_]+)(\{[a-z]+="[^"\n]*"\})? (-?[0-9.e+-]+)')


def parse(text: str) -> dict[str, float]:
    """The samples, by name and labels, of a text whose every line is where it may be."""
    assert text.endswith("\n# EOF\n")
    found: dict[str, float] = {}
    family = kind = ""
    for line in text.splitlines()[:-1]:
        if line.startswith("# TYPE "):
            _, _, family, kind = line.split(" ")
            assert not any(name.startswith(f"{family}_total") or name == family for name in found)
        elif line.startswith("# HELP "):
            assert line.split(" ")[2] == family
            assert line.endswith(".")
        else:
            sample = SAMPLE.fullmatch(line)
            assert sample is not None, line
            assert sample[1] == family + {"counter": "_total", "gauge": ""}[kind]
            found[sample[1] + (sample[2] or "")] = float(sample[3])
    return found


async def test_tells_what_the_statistics_tell() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(uring_trio.perform, uring_trio_nap())
        await trio.testing.wait_all_tasks_blocked()
        samples = parse(metrics.openmetrics())
        counts = uring_trio.statistics()
        assert samples["uring_trio_entries_submitted_total"] == counts.submitted
        assert samples["uring_trio_enter_calls_total"] == counts.enters
        assert samples['uring_trio_operations_in_flight{operation="timeout"}'] == 1
        assert samples["uring_trio_submission_queue_entries"] == 256
        assert samples["uring_trio_tasks"] == trio.lowlevel.current_statistics().tasks_living
        assert samples["uring_trio_cpu_seconds_total"] > 0
        nursery.cancel_scope.cancel()
    assert parse(metrics.openmetrics())["uring_trio_cancel_requests_total"] == 1


def uring_trio_nap() -> Any:
    from uring import ops

    return ops.timeout(3600)


async def call(method: str) -> tuple[dict[str, Any], bytes]:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        raise AssertionError

    async def send(message: Any) -> None:
        sent.append(message)

    await metrics.app({"type": "http", "method": method, "path": "/metrics"}, receive, send)
    start, body = sent
    return start, body["body"]


async def test_the_app_answers() -> None:
    start, body = await call("GET")
    assert start["status"] == 200
    headers = dict(start["headers"])
    assert headers[b"content-type"] == metrics.CONTENT_TYPE.encode()
    assert headers[b"content-length"] == str(len(body)).encode()
    assert "uring_trio_tasks" in parse(body.decode())
    start, body = await call("HEAD")
    assert (start["status"], body) == (200, b"")
    start, body = await call("POST")
    assert start["status"] == 405
    assert (b"allow", b"GET, HEAD") in start["headers"]


async def test_the_app_starts_and_stops() -> None:
    messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    await metrics.app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    with pytest.raises(ValueError, match="not websocket"):
        await metrics.app({"type": "websocket"}, receive, send)


def test_there_are_none_on_epoll() -> None:
    async def main() -> None:
        metrics.openmetrics()

    with pytest.raises(RuntimeError, match="needs a ring run"):
        trio.run(main)
