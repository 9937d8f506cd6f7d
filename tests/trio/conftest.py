"""Tests that are ``async`` functions run on a ring of their own, under a deadline.

When one returns, nothing is in flight but what the run itself needs, and every receive buffer is back with
the kernel; the run leaks nothing. Files and threads are looked after by the fixture above.
"""

from __future__ import annotations

import inspect

import pytest
import trio

import uring_trio
from tests.trio.helpers import PATIENCE, settled
from uring_trio.core.statistics import process_totals


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(test).parameters}

    async def main() -> None:
        with trio.fail_after(PATIENCE):
            await test(**arguments)
            await settled()

    before = process_totals()
    uring_trio.run(main)
    after = process_totals()
    assert after["runs"] == before["runs"] + 1
    assert after["leaked"] == before["leaked"]
    return True
