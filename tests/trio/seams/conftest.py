"""The fixtures of the tests of cancel scopes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from uring_trio.seams import scopes

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def exchanged() -> Iterator[None]:
    """The test begins with Trio's methods; the first compiled run brings the others."""
    scopes.restore()
    yield
    scopes.restore()
