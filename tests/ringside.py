"""Completions of a ring's requests, waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uring import CQEView, Ring

PATIENCE = 60.0


def take(ring: Ring, n: int = 1) -> list[CQEView]:
    """The next ``n`` completions."""
    found: list[CQEView] = []
    while len(found) < n:
        cqes = ring.wait(n - len(found), timeout=PATIENCE)
        assert cqes, f"{n} completions were expected, {len(found)} came"
        found += cqes
    return found


def run(ring: Ring, context: int) -> Any:
    """What the one request in flight, submitted under this context, came to; or its exception."""
    (cqe,) = take(ring)
    assert cqe.user_data == context
    assert not cqe.has_more
    return ring.result(cqe)
