"""Completions as objects, with the decoders of their results, and the release of pins and slots.

Invariants
  - The pins of an operation are dropped on the last completion that can touch them. Contexts in direct mode
    are not unique: their pins are kept by value, and dropped together when nothing is in flight under that
    value.
  - A completion gets the decoder of its result before the memory of its operation is released: its result can
    be asked for at any time, on any thread.
  - A signal's handler may raise, or wait on this ring, between any two calls. A completion is in the kernel's
    ring, in its ``unseen`` part, or in the backlog. In C (`uring.contexts.compiled`) it moves to the backlog,
    and what it ends is released, by one call that no handler interrupts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ..abi import IORING_CQE_F_MORE, IORING_OP_PIPE
from ..contexts.compiled import usual
from ..contexts.requests import meaning_of
from ..contexts.views import Completion
from ..kernel.op import descriptor
from .state import RingState

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..kernel.op import Op

__all__ = ["WAKE", "Delivery"]

WAKE = (1 << 64) - 1
"""The value of completions that only wake the ring's thread."""
_MORE = int(IORING_CQE_F_MORE)
_OP_PIPE = int(IORING_OP_PIPE)

C = TypeVar("C", bound=Completion)


class Delivery(RingState):
    """The delivery of completions."""

    @usual("Ring._collect")
    def _collect(self, kind: type[C], most: int) -> list[C] | None:
        """Moves completions from the kernel's ring to the backlog, as objects, and releases what they end.

        Returns:
            None. In C the backlog, if it is these completions alone and at most ``most``.
        """
        kernel, size = self._kernel, self._cqe_size
        while raw := kernel.unseen[:size]:
            (fields,) = self._unpack(raw)
            made = self._made(fields)
            if made is not None:
                self._backlog += (kind(made),)
            kernel.seen(1)
        self._release()
        if self._batches:
            self._settle_batches()
        return None

    def _made(self, raw: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """A completion with its request and the meaning of its result; None for one not to be handed out."""
        value, res, flags = raw[:3]
        request = self._requests.get(value)
        slot = self._slots.get(value)
        if request is None:
            if value == WAKE and self._waking:
                self._waking -= 1
                return None
            if value >> 62 in (1, 2) and slot is None:
                self._late += 1
                return None
            self._settle(value, flags)
            told = self._told(value, res) if res < 0 or value in self._decoding else None
        else:
            told = request._complete(res, flags)
            if not flags & _MORE:
                del self._requests[value]
        if slot is not None and not flags & _MORE:
            slot.res = res
        if told is not None or (request is not None and len(raw) > 3):
            raw = (value, res, flags, *(raw[3:] or (0, 0)), told)
        return raw if request is None else (*raw, request)

    def _told(self, value: int, res: int) -> Any:
        """The decoder of a result, for an error the arguments of `failure`; None where there is neither."""
        slot = self._slots.get(value)
        if slot is not None:
            ops: tuple[Op, ...] = () if slot.op is None else (slot.op,)
        else:
            ops = self._kept(self._renamed.get(value, value))
        if not ops:
            return None
        return _place(ops) if res < 0 else self._meaning(ops)

    def _meaning(self, ops: tuple[Op, ...]) -> Callable[[int], Any] | None:
        """The decoder of a result of one of these requests; None where the number is all."""
        op = ops[0]
        if len(ops) == 1:
            decode: Callable[[int], Any] | None = meaning_of(op, 0)
            return decode
        if all(each.fields[0] == _OP_PIPE for each in ops):
            # Their memory tells which have succeeded; each success gets another pair.
            for op in ops:
                if op not in self._given and op.decode is not None:
                    ends: Any = op.decode(0)
                    if ends[0] != ends[1]:
                        self._given.add(op)
                        return op.decode
        return _ambiguous if any(each.decode is not None for each in ops) else None

    def _kept(self, value: int) -> tuple[Op, ...]:
        """The requests in flight under a direct context, without plain no-ops."""
        ops = self._held.get(value, ())
        for batch in self._batches:
            ops += batch.holds.get(value, ())
        return ops

    @usual("Ring._release")
    def _release(self) -> None:
        """Releases what is kept for operations that have ended."""
        for value in self._kernel.ended():
            if self._kernel.count(value) > 0:
                continue  # queued again since
            if self._held.pop(value, None) is None and value in self._slots:
                slot = self._slots.pop(value)
                slot.in_flight = False
                slot.op = None
            self._guarded.discard(value)
            self._decoding.discard(value)
            for name, own in list(self._renamed.items()):
                if own == value:
                    del self._renamed[name]
                    self._guarded.discard(name)
        if self._given and not self._decoding:
            self._given.clear()

    def _settle(self, value: int, flags: int) -> None:
        """Ends the count of a poll that ended under the value that an update gave it."""
        own = self._renamed.get(value)
        if own is not None and not flags & _MORE:
            self._kernel.settle(own)

    def _settle_batches(self) -> None:
        """Drops the batches of which nothing is in flight."""
        for each in self._batches[:]:
            if not self._kernel.any_in_flight(each.pairs, len(each.requests)):
                self._batches.remove(each)


def _ambiguous(res: int) -> Any:
    raise LookupError(
        "several requests were in flight under this direct context, so that the request of this result is "
        "not known: leave the context out, or use slots"
    )


def _place(ops: tuple[Op, ...]) -> tuple[Any, ...] | None:
    """The arguments of `uring.kernel.op.failure` for one of these requests, as far as they are the same."""
    first = ops[0]
    if len(ops) == 1:
        return first.name, first.fields, first.address, first.paths
    if len({(op.name, descriptor(op.fields)) for op in ops}) > 1:
        return None
    return first.name, first.fields, None, ()
