"""Registrations that end with a ``with`` block."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Registered"]


class Closable(Protocol):
    """A ring as its registrations use it."""

    @property
    def closed(self) -> bool: ...


class Registered:
    """A table that was registered; ``with ring.register_files(…):`` unregisters it at the end of the block.

    Outside of a ``with`` statement it does nothing: the table stays until it is unregistered, or the ring
    stops.
    """

    def __init__(self, ring: Closable, unregister: Callable[[], None]) -> None:
        self._ring = ring
        self._unregister = unregister

    def __enter__(self) -> Registered:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._ring.closed:
            self._unregister()
