"""Many requests made ready together: submitting them again and again is one call into C.

A batch keeps its requests, and with them all memory that they use, for as long as it lives; the ring keeps
them besides while they are in flight.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from . import abi
from .op import Op

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Batch"]

_SPECIAL = int(abi.IOSQE_IO_LINK | abi.IOSQE_IO_HARDLINK | abi.IOSQE_CQE_SKIP_SUCCESS)
_DIRECT_END = 1 << 62


class Batch:
    """Requests, each with a direct context that is carried as it is; made by ``Ring.batch``.

    Raises:
        TypeError, ValueError: a context that is not direct, or a request that is linked or silent.
    """

    __slots__ = ("holds", "pairs", "requests")

    def __init__(self, requests: Iterable[tuple[Op, int]]) -> None:
        self.requests: tuple[tuple[Op, int], ...] = tuple(requests)
        holds: dict[int, tuple[Op, ...]] = {}
        pairs = array("Q")
        for op, ctx in self.requests:
            if not isinstance(op, Op):
                raise TypeError(
                    f"a request made by a function of uring.ops is needed, not {type(op).__name__}"
                )
            if isinstance(ctx, bool) or not isinstance(ctx, int):
                raise TypeError(f"a batch takes direct contexts, not {type(ctx).__name__}")
            if not 0 <= ctx < _DIRECT_END:
                raise ValueError(f"a batch takes direct contexts, not {ctx!r}")
            if op.fields[1] & _SPECIAL:
                raise ValueError(f"a batch takes no linked or silent requests: {op!r}")
            pairs.append(op.pack().entry)
            pairs.append(ctx)
            if op.needed:
                holds[ctx] = (*holds.get(ctx, ()), op)
        self.holds: dict[int, tuple[Op, ...]] = holds
        """What must be kept, by context."""
        self.pairs: bytes = pairs.tobytes()
        """Address of the entry and context of each request."""

    def __len__(self) -> int:
        return len(self.requests)
