"""The figures of a ring run as OpenMetrics text, for Prometheus and other readers of that format.

    text = uring_trio.metrics.openmetrics()     # in a task of the run
    app = uring_trio.metrics.app                # the same as an ASGI app, to be served or mounted

The run keeps the figures in any case, so that only reading them costs something.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import trio

from .core.engine import current
from .core.statistics import process_totals

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, MutableMapping

__all__ = ["CONTENT_TYPE", "app", "openmetrics"]

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
"""The media type of `openmetrics`."""


def openmetrics() -> str:
    """The figures of this run, and of the ring runs of this process that have ended.

    Returns:
        OpenMetrics 1.0 text. Counters begin with the run. Names begin with ``uring_trio_``.

    Raises:
        RuntimeError: outside a ring run.
    """
    return "".join(f"{line}\n" for line in (*_lines(), "# EOF"))


async def app(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    """An ASGI app that answers GET and HEAD with `openmetrics`, under every path, and others with 405.

    The server has to run on the ring: hypercorn on its worker class ``trio``, for one. Errors as for
    `openmetrics`. Cancelled, it has sent nothing, the head, or everything.

    Args:
        scope: the ASGI connection, of type ``http`` or ``lifespan``; any other is a ValueError.
        receive: the server's callable to get events.
        send: the server's callable to send events.
    """
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["type"] == "http":
        allowed = scope["method"] in ("GET", "HEAD")
        body = openmetrics().encode() if allowed else b"Method Not Allowed"
        headers = [
            (b"content-type", (CONTENT_TYPE if allowed else "text/plain").encode()),
            (b"content-length", str(len(body)).encode()),
        ]
        if not allowed:
            headers.append((b"allow", b"GET, HEAD"))
        status = 200 if allowed else 405
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
    else:
        raise ValueError(f"this app answers HTTP, not {scope['type']}")


async def _lifespan(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


def _lines() -> Iterator[str]:
    engine = current()
    whole: Any = trio.lowlevel.current_statistics()
    run = whole.io_statistics
    ring: Any = engine.ring
    for name, value, text in (
        ("entries_submitted", run.submitted, "Entries handed to the kernel."),
        ("completions", run.completed, "Completions taken from the kernel."),
        ("enter_calls", run.enters, "Calls of io_uring_enter."),
        ("completion_overflows", run.overflows, "Completions that found the completion queue full."),
        ("late_completions", run.late, "Completions that belonged to no operation."),
        ("compiled_ticks", run.compiled_ticks, "Scheduler ticks that ran in C."),
    ):
        yield from _family(name, "counter", text, [("", value)])
    yield from _family("cpu_seconds", "counter", "CPU time of the run's thread.", [("", time.thread_time())])
    yield from _family(
        "cancels",
        "counter",
        "Requests to cancel an operation, by their outcome.",
        [
            (f'{{outcome="{outcome}"}}', getattr(run, f"cancels_{outcome}"))
            for outcome in ("won", "lost", "running", "unsent")
        ],
    )
    yield from _family(
        "cancel_requests", "counter", "Requests to cancel, sent.", [("", run.cancels_requested)]
    )
    yield from _family(
        "operations_in_flight",
        "gauge",
        "Operations with a task parked on them.",
        [(f'{{operation="{_escaped(name)}"}}', count) for name, count in sorted(run.in_flight.items())],
    )
    for name, value, text in (
        ("tasks", whole.tasks_living, "Tasks of the run."),
        ("tasks_runnable", whole.tasks_runnable, "Tasks that are ready to run."),
        ("submission_queue_entries", ring.sq_entries, "Size of the submission queue."),
        ("submission_queue_queued", ring.pending, "Entries in the submission queue."),
        ("completion_queue_entries", ring.cq_entries, "Size of the completion queue."),
        ("receive_buffers", engine.buffers.in_use, "Receive buffers that hold memory."),
        ("receive_buffers_limit", engine.options.buffers, "Receive buffers at most."),
        ("kernel_workers_limit", run.workers, "Kernel workers for files and paths at most."),
    ):
        yield from _family(name, "gauge", text, [("", value)])
    for name, count in process_totals().items():
        yield from _family(
            f"ended_{name}", "counter", f"Over the runs that have ended: {name}.", [("", count)]
        )


def _family(name: str, kind: str, text: str, samples: list[tuple[str, float]]) -> Iterator[str]:
    full = f"uring_trio_{name}"
    yield f"# TYPE {full} {kind}"
    yield f"# HELP {full} {text}"
    for labels, value in samples:
        yield f"{full}{'_total' if kind == 'counter' else ''}{labels} {value}"


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
