"""Many requests prepared together: each submission of all of them is one call into C.

Submitted as one, they have one common completion, after the last of them, and a list of results.

A batch keeps its requests and their memory for as long as it lives; the ring also keeps them while they are
in flight.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from .. import abi
from ..contexts.context import CTX_MODE_INDIRECT
from ..kernel.op import Multishot, Op, Whole
from ..kernel.volley import MEMBERS_MAX, Volley

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..kernel.ring import KernelRing

__all__ = ["Batch"]

_SPECIAL = int(abi.IOSQE_IO_LINK | abi.IOSQE_IO_HARDLINK | abi.IOSQE_CQE_SKIP_SUCCESS | abi.IOSQE_IO_DRAIN)


class Batch:
    """Requests, each with a direct context that is carried as it is; made by ``Ring.batch``.

    Args:
        requests: requests of ``uring.ops``, whose contexts are their numbers in the batch, from 0 on; or
            pairs of a request and its context.

    Raises:
        TypeError, ValueError: a context that is not direct, or a request that is linked, silent or draining.
    """

    __slots__ = ("_one", "_ring", "_volley", "decoding", "holds", "pairs", "requests")

    def __init__(self, requests: Iterable[Op | tuple[Op, int]]) -> None:
        self.requests: tuple[tuple[Op, int], ...] = tuple(
            (each, i) if isinstance(each, Op) else _pair(each) for i, each in enumerate(requests)
        )
        holds: dict[int, tuple[Op, ...]] = {}
        pairs = array("Q")
        for op, ctx in self.requests:
            if isinstance(ctx, bool) or not isinstance(ctx, int):
                raise TypeError(f"a batch takes direct contexts, not {type(ctx).__name__}")
            if not 0 <= ctx < CTX_MODE_INDIRECT:
                raise ValueError(f"a batch takes direct contexts, not {ctx!r}")
            if op.fields[1] & _SPECIAL:
                raise ValueError(f"a batch takes no linked, silent or draining requests: {op!r}")
            pairs.append(op.pack().entry)
            pairs.append(ctx)
            if op.needed or op.fields[0]:
                holds[ctx] = (*holds.get(ctx, ()), op)
        self.holds: dict[int, tuple[Op, ...]] = holds
        """The requests to keep, by context: all but those that do nothing."""
        self.decoding: frozenset[int] = frozenset(
            ctx for ctx, each in holds.items() if any(op.decode is not None for op in each)
        )
        """The contexts under which results are decoded."""
        self.pairs: bytes = pairs.tobytes()
        """Address of the entry and context of each request."""
        self._volley: Volley | None = None
        self._ring: KernelRing | None = None
        self._one: Op[list[int]] | None = None

    def _as_one(self, ring: KernelRing) -> tuple[Op[list[int]], Volley]:
        """The batch as one request, whose result is the list of the requests' results, and its volley.

        Raises:
            RuntimeError: it is in flight as one already.
            ValueError: no request, or too many; a multishot, or one that carries a command.
        """
        if self._ring is ring and self._one is not None and self._volley is not None:
            if self._volley.in_flight:
                raise RuntimeError("the batch is in flight as one: its results would be mixed up")
            return self._one, self._volley
        if not 1 <= len(self.requests) <= MEMBERS_MAX:
            raise ValueError(f"one to {MEMBERS_MAX} requests are submitted as one, not {len(self.requests)}")
        for op, _ in self.requests:
            if isinstance(op, Multishot):
                raise ValueError(f"{op.name} has many completions: submit it by itself")
            if op.command:
                raise ValueError(f"{op.name} carries a command: submit it by itself")
        volley = Volley(ring, len(self.requests))
        volley.set([op.fields for op, _ in self.requests])
        # The request that stands for all of them keeps them, the volley, and all memory of both.
        kept = (self.requests, volley)
        fields = (int(abi.IORING_OP_NOP), 0, -1, 0, 0, 0, 0, 0, 0, 0)
        one = Whole(
            "batch", fields, kept, lambda _: volley.results(), lambda _: self._discard(volley.results())
        )
        self._ring, self._volley, self._one = ring, volley, one
        return one, volley

    def _discard(self, results: list[int]) -> None:
        for (op, _), res in zip(self.requests, results, strict=True):
            if res >= 0 and op.discard is not None:
                op.discard(res)

    def __len__(self) -> int:
        return len(self.requests)


def _pair(item: Any) -> tuple[Op, int]:
    try:
        op, ctx = item
    except (TypeError, ValueError):
        op, ctx = item, None
    if not isinstance(op, Op):
        raise TypeError(f"a request of uring.ops, or a pair of one and its context, is needed, not {item!r}")
    return op, ctx
