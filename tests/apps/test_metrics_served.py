"""`uring_trio.metrics.app`, served by hypercorn on the ring and parsed by prometheus_client."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from tests.apps.launched import hypercorn as launched
from tests.apps.serving import hypercorn
from uring_trio import metrics

if TYPE_CHECKING:
    from starlette.requests import Request

NAMES = {
    "uring_trio_entries_submitted",
    "uring_trio_completions",
    "uring_trio_enter_calls",
    "uring_trio_cpu_seconds",
    "uring_trio_operations_in_flight",
    "uring_trio_tasks",
}


def read(answer: httpx.Response) -> dict[tuple[str, str], float]:
    """The samples by name and kind of operation, where they have one."""
    assert answer.status_code == 200
    assert answer.headers["content-type"] == metrics.CONTENT_TYPE
    families = [*text_string_to_metric_families(answer.text)]
    assert {family.name for family in families} >= NAMES
    assert all(family.documentation and family.type in ("counter", "gauge") for family in families)
    return {
        (sample.name, sample.labels.get("operation", "")): sample.value
        for family in families
        for sample in family.samples
    }


def test_served_alone() -> None:
    with launched("uring_trio.metrics:app") as url, httpx.Client(trust_env=False) as client:
        first = read(client.get(f"{url}/metrics"))
        for _ in range(10):
            read(client.get(url))
        last = read(client.get(f"{url}/metrics"))
        assert client.post(url).status_code == 405
    for name in ("entries_submitted", "completions", "enter_calls", "cpu_seconds"):
        key = (f"uring_trio_{name}_total", "")
        assert last[key] > first[key] >= 0  # what was there at once takes no completion


async def test_mounted_beside_an_app() -> None:
    async def hello(request: Request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    app = Starlette(routes=[Route("/", hello), Mount("/metrics", metrics.app)])
    async with hypercorn(app) as url, httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(url)).text == "hello"
        # The app, asked by a client of its own run: that client waits, in a receive.
        samples = read(await client.get(f"{url}/metrics/"))
        assert samples["uring_trio_operations_in_flight", "recv"] >= 1
        assert samples["uring_trio_tasks", ""] > 2
