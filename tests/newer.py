"""Tests of what a newer kernel than the oldest supported one has.

On an older one the same test has to end with the refusal that names the feature and the kernel: there is
nothing to skip.
"""

from __future__ import annotations

import functools
import inspect
import platform
import re
from typing import TYPE_CHECKING, Any

import pytest

from uring import NotSupported

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["KERNEL", "since"]

KERNEL = tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2])


def since(major: int, minor: int, refusal: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A test of something that Linux ``major.minor`` brought; before, it raises `NotSupported` with a message
    that matches ``refusal``."""
    if (major, minor) <= KERNEL:
        return lambda test: test

    def refused(test: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(test):

            @functools.wraps(test)
            async def run_async(*args: Any, **kwargs: Any) -> None:
                with pytest.raises(NotSupported, match=refusal):
                    await test(*args, **kwargs)

            return run_async

        @functools.wraps(test)
        def run(*args: Any, **kwargs: Any) -> None:
            with pytest.raises(NotSupported, match=refusal):
                test(*args, **kwargs)

        return run

    return refused
