"""Submitting: requests one by one, in chains, in batches.

Invariants
  - A request that cannot be sent is refused before anything is queued.
  - A chain of linked requests reaches the kernel in one piece: the queue is never flushed inside one.
  - The pins of an operation are stored before it is queued.
"""

from __future__ import annotations

import errno
from threading import get_ident
from typing import TYPE_CHECKING

from .. import abi, ops
from ..contexts.context import SQEContext
from ..errors import PoolExhausted
from ..kernel.op import Op
from .batch import Batch
from .chains import GUARDED, Chains, is_context, no_context
from .state import NO_THREAD

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..contexts.context import IndirectSQE

__all__ = ["Submission"]

_LINKS = int(abi.IOSQE_IO_LINK | abi.IOSQE_IO_HARDLINK)
_LINK = int(abi.IOSQE_IO_LINK)
_SKIP = int(abi.IOSQE_CQE_SKIP_SUCCESS)
_DRAIN = int(abi.IOSQE_IO_DRAIN)
_SPECIAL = _LINKS | _SKIP | _DRAIN
_BUFFER_SELECT = int(abi.IOSQE_BUFFER_SELECT)
_RESERVED = 3 << 62
_DIRECT_END = 1 << 62
_CONTEXTS = frozenset({int, SQEContext})
_NOP = ops.nop()
_FD_LEAST, _FD_MOST = -(1 << 29), (1 << 29) - 1


class Submission(Chains):
    """The ways into a ring."""

    def submit(self, op: Op, ctx: int | None = None) -> SQEContext:
        """Queues a request made by ``uring.ops``; `wait` and `flush` send the queue to the kernel.

        Args:
            ctx: comes back with every completion. A direct `SQEContext` that names no opcode gets the
                request's; an integer is carried as it is; None makes a direct context of the request.

        Returns: the context that completions carry: the way to name this request to `async_cancel`.

        Raises:
            NotSupported: the kernel, or this ring's mode, lacks the operation.
            ValueError: the value is ambiguous where it names a target, or reserved.
            PoolExhausted: the submission queue is full and the kernel takes nothing now.
            RingClosed, RuntimeError: the ring is stopped, not started, or another thread's.
        """
        try:
            entry = op.entry
        except AttributeError:
            raise _no_request(op) from None
        if get_ident() == self._owner:
            # The common case by itself: a request packed before that needs nothing kept.
            if not entry or ctx is None or op.pins is not None or ctx.__class__ not in _CONTEXTS:
                return self._enqueue(op, ctx)
            fields = op.fields
            unusual = self._chain or self._guarded or self._drained or self._decoding
            if fields[0] or fields[1] or not 0 <= ctx < _DIRECT_END or unusual:
                return self._enqueue(op, ctx)
            result = self._put_packed(ctx, entry)
            if result:
                raise self._refused(result)
            return ctx  # type: ignore[return-value]
        if self._owner != NO_THREAD:
            raise self._unusable()
        with self._lock:
            self._check_open()
            return self._enqueue(op, ctx)

    def submit_many(self, requests: Iterable[tuple[Op, int]]) -> int:
        """Queues many requests, each with its context, and returns how many: `submit` in a loop.

        Raises:
            As `submit`; requests before the one refused stay queued.
        """
        with self._lock:
            self._check_usable()
            n = 0
            for op, ctx in requests:
                if not isinstance(op, Op):
                    raise _no_request(op)
                self._enqueue(op, ctx)
                n += 1
            return n

    def batch(self, requests: Iterable[tuple[Op, int]]) -> Batch:
        """Makes requests under direct contexts ready to be submitted together, any number of times.

        Raises:
            NotSupported: the kernel, or this ring's mode, lacks an operation. ValueError: a request that
                names another one by its value, is linked or silent, or has no direct context.
        """
        self._check_open()
        batch = Batch(requests)
        for op, _ in batch.requests:
            opcode = op.fields[0]
            if self._plain[opcode] is not True:
                self._check_supported(opcode)
                raise ValueError(f"{op.name} needs checks each time: submit it by itself")
        return batch

    def submit_batch(self, batch: Batch) -> int:
        """Queues the requests of a batch in one call into C and returns how many.

        Raises:
            PoolExhausted: the submission queue is full and the kernel takes nothing now; requests before
                stay queued. As `submit` otherwise.
        """
        if not isinstance(batch, Batch):
            raise TypeError(f"a batch made by Ring.batch is needed, not {type(batch).__name__}")
        if get_ident() == self._owner:
            return self._put_batch(batch)
        with self._lock:
            self._check_usable()
            return self._put_batch(batch)

    def submit_as_one(self, batch: Batch, ctx: int) -> SQEContext:
        """Queues the requests of a batch; one completion, under ``ctx``, follows the last of them.

        `uring.Ring.result` of that completion is the list of their results in their order, errors as errnos
        negated; their own contexts are not used. Waking up once for many requests, and making one object
        for all their completions, is the cheapest way through a ring.

        Raises:
            RuntimeError: the batch is in flight as one already.
            ValueError: more requests than the submission queue has entries; a multishot, or a request that
                carries a command; a linked request stands before it.
            PoolExhausted: the queue has no room for all of them now; nothing is queued. As `submit`
                otherwise.
        """
        if not isinstance(batch, Batch):
            raise TypeError(f"a batch made by Ring.batch is needed, not {type(batch).__name__}")
        if get_ident() == self._owner:
            return self._put_as_one(batch, ctx)
        with self._lock:
            self._check_usable()
            return self._put_as_one(batch, ctx)

    def submit_linked(
        self, requests: Iterable[tuple[Op, int | None]], *, hard: bool = False
    ) -> list[SQEContext]:
        """Queues a chain: each request starts when the one before it has succeeded (``hard``: has ended).

        The chain reaches the kernel in one piece. A `link_timeout` behind a request bounds that request.
        An operation may appear in a chain of its own contexts only once.

        Raises:
            ValueError: an empty chain, or longer than the submission queue; on a ring of several issuers,
                one whose last request is linked further. As `submit` otherwise; nothing is queued then.
        """
        chain = list(requests)
        for op, _ in chain:
            if not isinstance(op, Op):
                raise _no_request(op)
        link = int(abi.IOSQE_IO_HARDLINK) if hard else _LINK
        with self._lock:
            self._check_usable()
            if not 1 <= len(chain) <= self._kernel.sq_entries:
                raise ValueError(f"a chain has 1 to {self._kernel.sq_entries} requests, not {len(chain)}")
            self._make_room(len(chain))
            linked = [op.with_flags(link) for op, _ in chain[:-1]] + [chain[-1][0]]
            contexts = [_context_of(op) if ctx is None else ctx for op, ctx in chain]
            self._check_chain(linked, contexts)
            return [self._enqueue(op, ctx, True) for op, ctx in zip(linked, contexts, strict=True)]

    def submit_extended(self, ctx: SQEContext) -> SQEContext:
        """Submits the request that was prepared in an extended slot: ``ext.prepare(op)``.

        Raises:
            ValueError: the context is not extended, nothing was prepared, or its opcode was changed since.
        """
        slot = ctx.ext_sqe if isinstance(ctx, SQEContext) and ctx.is_extended else None
        if slot is None or slot.op is None:
            raise ValueError("an extended context with a prepared request is needed")
        if slot.fields != slot.op.fields:
            if slot.fields[:1] != slot.op.fields[:1] or slot.fields[2:] != slot.op.fields[2:]:
                raise ValueError(
                    "the slot's record no longer is the request prepared in it: prepare it again"
                )
            changed = slot.fields[1] & 0xFF
            slot.op = slot.op.with_flags(changed)
        return self.submit(slot.op, ctx)

    def flush(self) -> None:
        """Sends everything queued to the kernel without waiting."""
        with self._lock:
            self._check_usable()
            result = self._kernel.flush(0)
            self._end_chain()
            if result < 0 and result not in (-errno.EINTR, -errno.EBUSY, -errno.EAGAIN):
                raise self._error(result, "submit")

    def _enqueue(self, op: Op, ctx: int | None, linked: bool = False) -> SQEContext:
        fields = op.fields
        opcode = fields[0]
        slot: IndirectSQE | None = None
        if ctx is None:
            ctx = _context_of(op)
        elif ctx.__class__ not in _CONTEXTS and not is_context(ctx):
            raise no_context(ctx)
        elif not 0 <= ctx < _DIRECT_END:
            slot = self._slot_for(ctx)
        elif opcode and not ctx & 0xFF and type(ctx) is SQEContext:
            ctx = int.__new__(SQEContext, ctx | opcode)
        if not self._plain[opcode] or fields[1] & _SPECIAL or self._chain or self._guarded or self._drained:
            op, ctx = self._check_special(op, ctx, slot, linked)
            fields = op.fields
        entry = op.entry
        # All but plain requests that do nothing, for what their results mean. Silent ones have no completion
        # on success that would release them.
        needs = slot is not None or opcode or op.needed or ctx in self._decoding
        if needs and ctx < _RESERVED:
            self._hold(op, ctx, slot)
        result = self._put_packed(ctx, entry) if entry else self._put(ctx, *fields)
        if result:
            if needs and ctx < _RESERVED:
                self._let_go(op, ctx, slot)
            raise self._refused(result)
        return ctx  # type: ignore[return-value]

    def _put_batch(self, batch: Batch) -> int:
        if self._chain or self._guarded or self._drained:
            for op, ctx in batch.requests:
                self._enqueue(op, ctx)
            return len(batch.requests)
        if batch.decoding or self._decoding:
            for op, ctx in batch.requests:
                self._enqueue(op, ctx)
            return len(batch.requests)
        # What the requests need is kept as one, for as long as any of their values is in flight.
        if batch.holds:
            self._batches.append(batch)
        n = len(batch.requests)
        done = self._kernel.put_many(batch.pairs, n)
        if done < n:
            if batch.holds:
                self._batches.pop()
            for op, ctx in batch.requests[:done]:
                if op.fields[0] or op.needed:
                    self._hold(op, ctx, None)
            raise self._refused(-errno.EBUSY)
        return n

    def _put_as_one(self, batch: Batch, ctx: int) -> SQEContext:
        if not is_context(ctx):
            raise no_context(ctx)
        if self._chain:
            raise ValueError("the request before it is linked to its successor: a batch cannot be that")
        if ctx in self._guarded:
            raise ValueError(GUARDED)
        n = len(batch.requests)
        if n > self._kernel.sq_entries:
            raise ValueError(f"the submission queue has {self._kernel.sq_entries} entries, the batch {n}")
        slot = None if 0 <= ctx < _DIRECT_END else self._slot_for(ctx)
        for op, _ in batch.requests if self._drained else ():
            self._check_drain(op.fields[0], 0)
        op, volley = batch._as_one(self._kernel)
        self._make_room(n)
        self._hold(op, ctx, slot)
        result = volley.queue(ctx)
        if result:
            self._let_go(op, ctx, slot)
            raise self._refused(result)
        return ctx if type(ctx) is SQEContext else SQEContext(ctx)

    def _hold(self, op: Op, ctx: int, slot: IndirectSQE | None) -> None:
        """Keeps what a request needs, from before it is queued."""
        if slot is not None:
            self._slots[ctx] = slot
            slot.fields = op.fields
            slot.op = op
            slot.in_flight = True
        else:
            held = self._held
            others = held.get(ctx, ())
            if op.decode is not None and self._kernel.count(ctx) > len(others):
                others = (*others, _NOP)  # not alone: nothing is to take their results for its own
            held[ctx] = (*others, op)
        if op.decode is not None:
            self._decoding.add(ctx)
            self._given.discard(op)

    def _let_go(self, op: Op, ctx: int, slot: IndirectSQE | None) -> None:
        """Undoes `_hold` for a request that was not queued."""
        if slot is not None:
            slot.in_flight = False
            slot.op = None
            del self._slots[ctx]
            self._decoding.discard(ctx)
            return
        left = list(self._held.pop(ctx))
        left.remove(op)
        if left:
            self._held[ctx] = tuple(left)
        else:
            self._decoding.discard(ctx)

    def _refused(self, result: int) -> Exception:
        if result == -errno.EBUSY:
            return PoolExhausted(
                f"the submission queue ({self._kernel.sq_entries} entries) is full, the kernel takes none now"
            )
        if result == -errno.EEXIST:
            # Members of a volley have values of that form, and the kernel's completions tell no more.
            return ValueError(
                "a direct context that names a descriptor of 2**28 or more cannot be in flight beside a "
                "batch submitted as one"
            )
        return self._error(result, "submit")


def _no_request(op: object) -> TypeError:
    return TypeError(f"a request made by a function of uring.ops is needed, not {type(op).__name__}")


def _context_of(op: Op) -> SQEContext:
    """A direct context with what the request says: opcode, flags, buffer group, descriptor."""
    opcode, flags, fd, *_ = op.fields
    group = op.fields[7] & 0xFFFF if flags & _BUFFER_SELECT else 0
    if not _FD_LEAST <= fd <= _FD_MOST:
        fd = -1
    raw = opcode | (flags & 0xFF) << 8 | group << 16 | (fd & (1 << 30) - 1) << 32
    return int.__new__(SQEContext, raw)
