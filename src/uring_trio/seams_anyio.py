"""The one place that touches private names of AnyIO.

AnyIO finds a backend by name in a table, and what is not there as a module among its own. Inside a ring run
the library is Trio and AnyIO uses its Trio backend; only entering a run (``anyio.run``, the test runner) is
ours. Importing this imports AnyIO, and fails where AnyIO does not look as expected.
"""

from __future__ import annotations

import warnings
from importlib.metadata import version
from typing import Any

try:
    import anyio  # noqa: TC002 - first, to tell a missing AnyIO from one that looks different
except ModuleNotFoundError as _exc:
    raise ModuleNotFoundError(
        "AnyIO is not installed: install it, or this package as uring-trio[anyio]", name=_exc.name
    ) from _exc

__all__ = ["TESTED", "TestRunner", "TrioBackend", "UnsupportedAnyIO", "enter", "leave", "register"]

TESTED = ("4.14", "4.15", "4.16")
"""Minor versions of AnyIO whose own test-suite has passed on the ring."""


class UnsupportedAnyIO(ImportError):
    """The installed AnyIO lacks internals that the backend needs."""


_installed = version("anyio")

try:
    from anyio._backends._trio import TestRunner, TrioBackend
    from anyio._core._eventloop import (
        loaded_backends,
        reset_current_async_library,
        set_current_async_library,
    )

    TestRunner._call_in_runner_task  # noqa: B018 - overridden, so it has to be there
except (ImportError, AttributeError) as _exc:
    raise UnsupportedAnyIO(
        f"AnyIO {_installed} does not look as expected ({_exc}); "
        f"the backend is tested with AnyIO {', '.join(TESTED)}"
    ) from _exc


def register(name: str, backend: type[anyio.abc.AsyncBackend]) -> None:
    """Makes ``anyio.run(backend=name)`` use ``backend``; warns about a version of AnyIO never tested."""
    loaded_backends[name] = backend
    if ".".join(_installed.split(".")[:2]) not in TESTED:
        warnings.warn(
            f"AnyIO {_installed} was never tested on the ring, only {', '.join(TESTED)}",
            RuntimeWarning,
            stacklevel=3,
        )


def enter() -> Any:
    """Makes Trio the name of the running library, in this context; give what it returns to `leave`."""
    return set_current_async_library("trio")


def leave(token: Any) -> None:
    reset_current_async_library(token)
