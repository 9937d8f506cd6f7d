"""pytest on the ring: ``pytest --uring`` makes every Trio run of the session a ring run.

That covers pytest-trio (marks, fixtures, hypothesis), AnyIO's plugin on its backend ``trio``, and tests which
call ``trio.run`` themselves. Without the option nothing changes but that AnyIO knows the backend ``uring``,
for an ``anyio_backend`` fixture to name.
"""

from __future__ import annotations

import pytest

from uring.errors import RingUnavailable

from .launch.run import install, uninstall
from .options import RingOptions
from .seams import UnsupportedTrio, announce_backend

__all__: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("uring", "Trio on io_uring")
    group.addoption("--uring", action="store_true", help="run Trio on io_uring (fails where there is none)")
    group.addoption(
        "--uring-options",
        metavar="NAME=VALUE,…",
        default="",
        help="with --uring, settings of the ring: the fields of uring_trio.RingOptions, e.g. entries=512",
    )


def pytest_configure(config: pytest.Config) -> None:
    announce_backend("uring", "uring_trio.anyio")
    if not config.getoption("--uring"):
        return
    try:
        install(ring=_options(config.getoption("--uring-options")))
    except (RingUnavailable, UnsupportedTrio) as exc:
        raise pytest.UsageError(f"--uring: {exc}") from None
    config.add_cleanup(uninstall)


def pytest_report_header(config: pytest.Config) -> str | None:
    return "uring: Trio runs on io_uring" if config.getoption("--uring") else None


def _options(text: str) -> RingOptions:
    try:
        return RingOptions.parse(text)
    except ValueError as exc:
        raise pytest.UsageError(f"--uring-options: {exc}") from None
