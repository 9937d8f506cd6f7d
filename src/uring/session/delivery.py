"""Completions as objects, with the decoders of their results, and the release of pins and slots.

Invariants
  - The pins of an operation are dropped on the last completion that can touch them. Contexts in direct mode
    are not unique: their pins are kept by value, and dropped together when nothing is in flight under that
    value.
  - A completion gets the decoder of its result before the memory of its operation is released: its result can
    be asked for at any time, on any thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from ..abi import IORING_CQE_F_MORE, IORING_OP_PIPE
from ..contexts.compiled import usual
from ..contexts.requests import meaning_of
from ..contexts.views import Completion
from ..kernel.op import descriptor
from ..kernel.ring import CQE
from .state import RingState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..kernel.op import Op

__all__ = ["WAKE", "Delivery"]

WAKE = (1 << 64) - 1
"""The value of completions that only wake the ring's thread."""
_MORE = int(IORING_CQE_F_MORE)
_OP_PIPE = int(IORING_OP_PIPE)

C = TypeVar("C", bound=Completion)


class Delivery(RingState):
    """The delivery of the completions of a cycle."""

    def _collect(self, kind: type[C], n: int) -> list[C]:
        """Completions of the last cycle as objects; operations that they end are released."""
        cqes = self._deliver(kind, n)
        if self._waking:
            found = len(cqes)
            cqes = [cqe for cqe in cqes if cqe[0] != WAKE]
            with self._lock:  # another thread may add to it
                self._waking -= found - len(cqes)
        if self._held or self._slots or self._guarded or self._batches:
            out = self._kernel.out[: n * self._cqe_size]
            if self._decoding or min(out.cast("i")[2 :: self._cqe_size // 4].tolist()) < 0:
                self._tell(kind, cqes)
            ended = self._release(cqes)
            if self._batches:
                self._settle_batches()
            if self._kernel.strays != self._strays:
                cqes = self._drop_late(cqes, ended)
        elif self._kernel.strays != self._strays:
            cqes = self._drop_late(cqes, ())
        return cqes

    @usual("Ring._deliver")
    def _deliver(self, kind: type[C], n: int) -> list[C]:
        """Completions as objects; each is given to its request where that has no context."""
        out, requests = self._kernel.out[: n * self._cqe_size], self._requests
        if not requests:
            return list(map(kind, self._unpack(out)))
        take = requests.pop
        narrow = self._cqe_size == CQE.size
        cqes: list[Any] = []
        for raw in self._unpack(out):
            request = take(raw[0], None)
            if request is not None:
                res, flags = raw[1], raw[2]
                op, told = request._op, None
                if not flags and res >= 0 and op is not None and op.decode is None:
                    request.res, request.flags, request._op = res, 0, None  # the common case first, for speed
                else:
                    told = request._complete(res, flags)
                    if flags & _MORE:
                        requests[raw[0]] = request
                if not narrow:
                    raw = (*raw, told, request)
                elif told is None:
                    raw = (raw[0], res, flags, request)
                else:
                    raw = (raw[0], res, flags, 0, 0, told, request)
            cqes.append(raw)
        return list(map(kind, cqes))

    def _tell(self, kind: type[C], cqes: list[C]) -> None:
        """Gives completions their decoders, or for errors the arguments of `failure`."""
        decoding, slots, renamed = self._decoding, self._slots, self._renamed
        for i, cqe in enumerate(cqes):
            value, res = cqe[0], cqe[1]
            if res >= 0 and value not in decoding:
                continue
            slot = slots.get(value)
            if slot is not None:
                ops: tuple[Op, ...] = () if slot.op is None else (slot.op,)
            else:
                ops = self._kept(renamed.get(value, value))
            if ops:
                told: Any = _place(ops) if res < 0 else self._meaning(ops)
                if told is not None:
                    cqes[i] = kind((*cqe[:3], *cqe.big_cqe, told))

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

    def _release(self, cqes: Iterable[tuple[Any, ...]]) -> list[int]:
        ended = self._kernel.ended()
        if self._renamed:
            ended += self._settle(cqes, ended)
        slots = self._slots
        take = self._held.pop
        results: dict[int, int] | None = None
        for value in ended:
            if take(value, None) is None and value in slots:
                slot = slots.pop(value)
                slot.in_flight = False
                slot.op = None
                if results is None:
                    results = {} if self._stopping else {cqe[0]: cqe[1] for cqe in cqes}
                slot.res = results.get(value)
        if self._guarded:
            self._guarded.difference_update(ended)
        if self._decoding:
            self._decoding.difference_update(ended)
            if self._given and not self._decoding:
                self._given.clear()
        return ended

    def _settle(self, cqes: Iterable[tuple[Any, ...]], ended: list[int]) -> list[int]:
        """The own values of polls that ended under the value that an update gave them."""
        renamed = self._renamed
        settled = []
        for value, _, flags, *_ in cqes:
            own = renamed.get(value)
            if own is not None and not flags & _MORE and self._kernel.settle(own):
                settled.append(own)
        for value, own in list(renamed.items()):
            if own in settled or own in ended:
                del renamed[value]
                self._guarded.discard(value)
        return settled

    def _settle_batches(self) -> None:
        """Drops the batches of which nothing is in flight."""
        in_flight = self._kernel.any_in_flight
        self._batches = [each for each in self._batches if in_flight(each.pairs, len(each.requests))]

    def _drop_late(self, cqes: list[C], ended: Iterable[int]) -> list[C]:
        self._strays = self._kernel.strays
        known = set(ended)
        kept = [
            c for c in cqes if c[0] >> 62 not in (1, 2) or c[0] in known or c[0] in self._slots or c.request
        ]
        self._late += len(cqes) - len(kept)
        return kept


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
