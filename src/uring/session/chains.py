"""Chains of requests as blocks: the requests of a block start one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from ..contexts.requests import Request

__all__ = ["Chain"]


class ChainSubmitter(Protocol):
    """A ring as its chains use it."""

    def _chain_begins(self, chain: Chain) -> None: ...
    def _chain_ends(self) -> None: ...
    def _submit_chain(self, requests: list[Request[object]], *, hard: bool, drain: bool) -> None: ...


class Chain:
    """The requests of a ``with ring.chain():`` block, in their order. It is for one block.

    Args:
        ring: the ring.
        hard: each starts when the one before it has ended, even by an error.
        drain: the first one starts when everything queued before has ended.

    Attributes:
        requests: those that this thread made in the block; they are queued at its end.
    """

    def __init__(self, ring: ChainSubmitter, hard: bool, drain: bool) -> None:
        self._ring = ring
        self._hard = hard
        self._drain = drain
        self.requests: list[Request[object]] = []

    def __enter__(self) -> Chain:
        if self.requests:
            raise RuntimeError("a chain is for one block, and this one has its requests: make another")
        self._ring._chain_begins(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ring._chain_ends()
        if kind is not None:
            for request in self.requests:
                request._abandon()
        elif self.requests:
            self._ring._submit_chain(self.requests, hard=self._hard, drain=self._drain)

    def __iter__(self) -> Iterator[Request[object]]:
        return iter(self.requests)

    def __len__(self) -> int:
        return len(self.requests)
