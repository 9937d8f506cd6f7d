"""pytest on the ring: ``pytest --uring`` makes every Trio run of the session a ring run, files included.

That covers pytest-trio (marks, fixtures, hypothesis), AnyIO's plugin on its backend ``trio``, and tests which
call ``trio.run`` themselves. Without the option AnyIO finds the backend ``uring``, for an ``anyio_backend``
fixture to name, and nothing else changes. Neither Trio nor `uring_trio` is imported, so that tests of other
projects run the same in an environment that has this package.

PYTEST_DONT_REWRITE: there is nothing to rewrite.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from _uring_trio_startup import announce_backend

if TYPE_CHECKING:
    from collections.abc import Callable

__all__: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("uring", "Trio on io_uring")
    group.addoption(
        "--uring",
        action="store_true",
        default=None,
        help="run Trio on io_uring, files included (fails where there is none)",
    )
    group.addoption(
        "--no-uring", dest="uring", action="store_false", help="do not, though the configuration file says so"
    )
    group.addoption(
        "--uring-options",
        metavar="NAME=VALUE,…",
        help="settings of the ring run, as in the variable URING_TRIO: fields of uring_trio.RingOptions, "
        "files=0 to leave files to threads, unavailable=epoll",
    )
    parser.addini("uring", "run Trio on io_uring, as --uring does", "bool", False)
    parser.addini("uring_options", "settings of the ring run, as for --uring-options", default="")


def pytest_configure(config: pytest.Config) -> None:
    announce_backend()
    if _wanted(config):
        config.add_cleanup(_switch_on(config))
    elif config.getoption("uring_options") is not None:
        raise pytest.UsageError("--uring-options has no effect without --uring")


def pytest_report_header(config: pytest.Config) -> str | None:
    return "uring: Trio runs on io_uring" if _wanted(config) else None


def _wanted(config: pytest.Config) -> bool:
    chosen: bool | None = config.getoption("uring")
    return config.getini("uring") if chosen is None else chosen


def _switch_on(config: pytest.Config) -> Callable[[], None]:
    """Puts the process on the ring, and returns what takes it off."""
    from uring_trio import RingUnavailable, UnsupportedTrio, uninstall
    from uring_trio.launch.environment import Switch

    source, text = "--uring-options", config.getoption("uring_options")
    if text is None:
        source, text = "uring_options", config.getini("uring_options")
    try:
        switch = Switch.parse_settings(text, source)
    except ValueError as exc:
        raise pytest.UsageError(str(exc)) from None
    try:
        switch.install()
    except (RingUnavailable, UnsupportedTrio) as exc:
        raise pytest.UsageError(f"--uring: {exc}") from None
    return uninstall
