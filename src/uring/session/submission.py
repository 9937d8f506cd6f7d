"""Submitting under contexts: requests one by one, many, in chains.

Invariants
  - A request that cannot be sent is refused before anything is queued.
  - A chain of linked requests reaches the kernel in one piece: the queue is never flushed inside one.
  - The pins of an operation are stored before it is queued.
"""

from __future__ import annotations

import errno
import time
from threading import get_ident
from typing import TYPE_CHECKING, Final, TypeVar, overload

from .. import abi, ops
from ..contexts.context import CTX_MODE_INDIRECT, CTX_MODE_RESERVED, SQEContext
from ..kernel.op import Op
from ..kernel.refusals import PASSING, PAUSE
from .checks import is_context, no_context
from .requesting import SPECIAL, Requesting, no_request
from .state import NO_THREAD

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..contexts.context import IndirectSQE
    from ..contexts.requests import Request

__all__ = ["ABSENT", "Submission"]

T = TypeVar("T")


class _Absent:
    """The type of the default for a context."""


ABSENT: Final = _Absent()

_BUFFER_SELECT = int(abi.IOSQE_BUFFER_SELECT)
_CONTEXTS = frozenset({int, SQEContext})
_NOP = ops.nop()
_FD_LEAST, _FD_MOST = -(1 << 29), (1 << 29) - 1


class Submission(Requesting):
    """Submission under contexts."""

    @overload
    def submit(self, op: Op[T], /) -> Request[T]: ...
    @overload
    def submit(self, op: Op, ctx: int | None) -> SQEContext: ...
    def submit(self, op: Op, ctx: int | _Absent | None = ABSENT) -> SQEContext | Request[object]:
        """Queues a request made by ``uring.ops``; `wait` and `flush` send the queue to the kernel.

        Args:
            op: the request.
            ctx: comes back with every completion. A direct `SQEContext` without an opcode gets the request's;
                an integer stays as it is; None makes a direct context of the request. Without the argument
                the request has a value that the ring chooses.

        Returns:
            Without a context a `Request`, which has the result. Else the context that completions carry,
            which names this request to `async_cancel`.

        Raises:
            NotSupported: the kernel, or this ring's mode, lacks the operation.
            ValueError: the value is ambiguous where it names a target, or reserved.
            PoolExhausted: the submission queue is full, and the kernel takes none of it.
            RingClosed, RuntimeError: the ring is stopped, not started, or another thread's.
        """
        try:
            entry = op.entry
        except AttributeError:
            raise no_request(op) from None
        if isinstance(ctx, _Absent):
            return self.request(op)
        if get_ident() == self._owner:
            # The common case first: a packed request that needs nothing kept.
            if not entry or ctx is None or op.pins is not None or ctx.__class__ not in _CONTEXTS:
                return self._enqueue(op, ctx)
            fields = op.fields
            unusual = self._chain or self._guarded or self._drained or self._decoding
            if fields[0] or fields[1] or not 0 <= ctx < CTX_MODE_INDIRECT or unusual:
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
        """Queues many requests, each with its context: `submit` in a loop.

        Args:
            requests: pairs of a request of ``uring.ops`` and its context.

        Returns:
            How many were queued.

        Raises:
            TypeError: an item is no such pair.
            NotSupported, PoolExhausted, ValueError, RingClosed, RuntimeError: as `submit`; requests before
                the one refused stay queued.
        """
        with self._lock:
            self._check_usable()
            n = 0
            for pair in requests:
                try:
                    op, ctx = pair
                except (TypeError, ValueError):
                    raise TypeError(
                        "submit_many takes pairs of a request and its context, submit_all requests"
                    ) from None
                if not isinstance(op, Op):
                    raise no_request(op)
                self._enqueue(op, ctx)
                n += 1
            return n

    def submit_linked(
        self, requests: Iterable[tuple[Op, int | None]], *, hard: bool = False
    ) -> list[SQEContext]:
        """Queues a chain: each request starts when the one before it has succeeded in full.

        A short read or write breaks the chain: the requests behind it complete with ``ECANCELED``.

        The chain is submitted in one piece. A kernel that is short of memory may take only a part of it. The
        kernel then starts the rest as a second chain, and completes a `link_timeout` at the head of that
        chain with ``EINVAL``. A `link_timeout` behind a request bounds that request. The context of a slot
        may be in a chain only once.

        Args:
            requests: pairs of a request of ``uring.ops`` and its context, or None.
            hard: each starts when the one before it has ended, even by an error.

        Returns:
            The contexts, in their order.

        Raises:
            ValueError: an empty chain, or longer than the submission queue; on a ring of several issuers, one
                whose last request is linked further.
            TypeError, NotSupported, PoolExhausted, RingClosed, RuntimeError: as `submit`; nothing is queued.
        """
        chain = list(requests)
        for pair in chain:
            if not isinstance(pair, tuple) or len(pair) != 2:
                raise TypeError(f"a chain is pairs of a request and its context or None, not {pair!r}")
            if not isinstance(pair[0], Op):
                raise no_request(pair[0])
        with self._lock:
            self._check_usable()
            linked = self._linked([op for op, _ in chain], hard)
            contexts = [_context_of(op) if ctx is None else ctx for op, ctx in chain]
            self._check_chain(linked, contexts)
            return [self._enqueue(op, ctx, True) for op, ctx in zip(linked, contexts, strict=True)]

    def submit_extended(self, ctx: SQEContext) -> SQEContext:
        """Submits the request that was prepared in an extended slot: ``ext.prepare(op)``.

        Args:
            ctx: the slot's context.

        Returns:
            The context.

        Raises:
            ValueError: the context is not extended, nothing was prepared, or the slot was changed since.
            PoolExhausted, RingClosed, RuntimeError: as `submit`.
        """
        slot = ctx.ext_sqe if isinstance(ctx, SQEContext) and ctx.is_extended else None
        if slot is None or slot.op is None:
            raise ValueError("an extended context with a prepared request is needed")
        if slot.fields != slot.op.fields:
            if slot.fields[:1] != slot.op.fields[:1] or slot.fields[2:] != slot.op.fields[2:]:
                raise ValueError("the slot's entry was changed after prepare(): prepare it again")
            changed = slot.fields[1] & 0xFF
            slot.op = slot.op.with_flags(changed)
        return self.submit(slot.op, ctx)

    def flush(self) -> None:
        """Submits everything queued without waiting. Requests that the kernel refuses for now (``EAGAIN``,
        ``EBUSY``, ``ENOMEM``) stay queued for the next submission or wait.

        Raises:
            RingClosed, RuntimeError: as `submit`.
            OSError: the kernel refuses the submission as a whole.
        """
        with self._lock:
            self._check_usable()
            self._flush()

    def _flush(self) -> int:
        result = self._kernel.flush(0)
        self._end_chain()
        if result < 0 and result != -errno.EINTR and result not in PASSING:
            raise self._error(result, "submit")
        return result

    def _flush_all(self) -> None:
        """As `flush`, until the kernel has taken all that is queued; with SQPOLL its thread takes it
        later."""
        with self._lock:
            self._check_usable()
            while (result := self._flush()) < 0 or self._kernel.pending:
                if self.options.sqpoll and result >= 0:
                    return
                if result in PASSING and not self._refusals.endured(self._kernel):
                    raise self._error(result, "submit")
                time.sleep(PAUSE)

    def _enqueue(self, op: Op, ctx: int | None, linked: bool = False) -> SQEContext:
        fields = op.fields
        opcode = fields[0]
        slot: IndirectSQE | None = None
        if ctx is None:
            ctx = _context_of(op)
        elif ctx.__class__ not in _CONTEXTS and not is_context(ctx):
            raise no_context(ctx)
        elif not 0 <= ctx < CTX_MODE_INDIRECT:
            slot = self._slot_for(ctx)
        elif opcode and not ctx & 0xFF and type(ctx) is SQEContext:
            ctx = int.__new__(SQEContext, ctx | opcode)
        if not self._plain[opcode] or fields[1] & SPECIAL or self._chain or self._guarded or self._drained:
            op, ctx = self._check_special(op, ctx, slot, linked)
            fields = op.fields
        entry = op.entry
        # All but plain no-ops are kept, to decode their results. But not those that complete on failure only:
        # no completion would release them.
        needs = slot is not None or opcode or op.needed or ctx in self._decoding
        if needs and ctx < CTX_MODE_RESERVED:
            self._hold(op, ctx, slot)
        result = self._put_packed(ctx, entry) if entry else self._put(ctx, *fields)
        if result:
            if needs and ctx < CTX_MODE_RESERVED:
                self._undo_hold(op, ctx, slot)
            raise self._refused(result)
        return ctx  # type: ignore[return-value]

    def _hold(self, op: Op, ctx: int, slot: IndirectSQE | None) -> None:
        """Keeps a request, or its slot, before it is queued."""
        if slot is not None:
            self._slots[ctx] = slot
            slot.fields = op.fields
            slot.op = op
            slot.in_flight = True
            slot.res = None
        else:
            held = self._held
            others = held.get(ctx, ())
            if op.decode is not None and self._kernel.count(ctx) > len(others):
                others = (*others, _NOP)  # for those not kept, whose results are not decoded as this one's
            held[ctx] = (*others, op)
        if op.decode is not None:
            self._decoding.add(ctx)
            self._given.discard(op)

    def _undo_hold(self, op: Op, ctx: int, slot: IndirectSQE | None) -> None:
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


def _context_of(op: Op) -> SQEContext:
    """A direct context with the request's opcode, flags, buffer group and descriptor."""
    opcode, flags, fd, *_ = op.fields
    group = op.fields[7] & 0xFFFF if flags & _BUFFER_SELECT else 0
    if not _FD_LEAST <= fd <= _FD_MOST:
        fd = -1
    raw = opcode | (flags & 0xFF) << 8 | group << 16 | (fd & (1 << 30) - 1) << 32
    return int.__new__(SQEContext, raw)
