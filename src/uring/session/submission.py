"""Submitting: requests one by one, in chains, in batches.

Invariants
  - A request that cannot be sent is refused before anything is queued.
  - A chain of linked requests reaches the kernel in one piece: the queue is never flushed inside one.
  - The pins of an operation are stored before it is queued.
"""

from __future__ import annotations

import errno
from array import array
from threading import get_ident
from typing import TYPE_CHECKING, Final, TypeVar, overload

from .. import abi, ops
from ..contexts.context import POOL_SHIFT, REQUEST_VALUES, SQEContext
from ..contexts.requests import Request
from ..errors import PoolExhausted
from ..kernel.op import Op
from .chains import Chains, is_context, no_context
from .linking import Chain
from .state import NO_THREAD

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..contexts.context import IndirectSQE

__all__ = ["ABSENT", "Submission"]

T = TypeVar("T")


class _Absent:
    """The context of a call that gives none."""


ABSENT: Final = _Absent()

_LINKS = int(abi.IOSQE_IO_LINK | abi.IOSQE_IO_HARDLINK)
_LINK = int(abi.IOSQE_IO_LINK)
_SKIP = int(abi.IOSQE_CQE_SKIP_SUCCESS)
_DRAIN = int(abi.IOSQE_IO_DRAIN)
_LAST_REQUEST = REQUEST_VALUES + (1 << POOL_SHIFT) - 1
_SPECIAL = _LINKS | _SKIP | _DRAIN
_BUFFER_SELECT = int(abi.IOSQE_BUFFER_SELECT)
_RESERVED = 3 << 62
_DIRECT_END = 1 << 62
_CONTEXTS = frozenset({int, SQEContext})
_NOP = ops.nop()
_FD_LEAST, _FD_MOST = -(1 << 29), (1 << 29) - 1


class Submission(Chains):
    """The ways into a ring."""

    @overload
    def submit(self, op: Op[T], /) -> Request[T]: ...
    @overload
    def submit(self, op: Op, ctx: int | None) -> SQEContext: ...
    def submit(self, op: Op, ctx: int | _Absent | None = ABSENT) -> SQEContext | Request[object]:
        """Queues a request made by ``uring.ops``; `wait` and `flush` send the queue to the kernel.

        Args:
            op: the request.
            ctx: comes back with every completion. A direct `SQEContext` that names no opcode gets the
                request's; an integer is carried as it is; None makes a direct context of the request. Without
                it the request has a value of its own.

        Returns:
            Without a context a `Request`, which knows its result. Else the context that completions carry:
            the way to name this request to `async_cancel`.

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
        if isinstance(ctx, _Absent):
            return self.request(op)
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

    def request(self, op: Op[T]) -> Request[T]:
        """Queues a request under a value of its own: `submit` without a context.

        In a ``with ring.chain():`` block it is queued with the block's end.

        Args:
            op: the request of ``uring.ops``.

        Returns:
            A `Request`, which knows its result.

        Raises:
            NotSupported, PoolExhausted, ValueError, RingClosed, RuntimeError: as `submit`.
        """
        if get_ident() == self._owner:
            if self._chain or self._guarded or self._drained or self._linking:
                return self._queue_request(op)
            # The common case by itself, for speed.
            try:
                fields, entry = op.fields, op.entry
            except AttributeError:
                raise _no_request(op) from None
            value = self._serial + 1
            if self._plain[fields[0]] and not fields[1] & _SPECIAL and value < _LAST_REQUEST:
                self._serial = value
                request = Request(self, value, op)
                self._requests[value] = request
                result = self._put_packed(value, entry) if entry else self._put(value, *fields)
                if result:
                    del self._requests[value]
                    raise self._refused(result)
                return request
            return self._queue_request(op)
        if self._owner != NO_THREAD:
            raise self._unusable()
        with self._lock:
            self._check_open()
            return self._queue_request(op)

    def submit_all(self, ops: Iterable[Op[T]]) -> list[Request[T]]:
        """Queues many requests, each under a value of its own; the next wait submits them in one call.

        Args:
            ops: the requests of ``uring.ops``.

        Returns:
            A `Request` for each, in their order.

        Raises:
            NotSupported, PoolExhausted, ValueError, RingClosed, RuntimeError: as `submit`; requests before
                the one refused stay queued, and their completions carry them.
        """
        with self._lock:
            self._check_usable()
            made = [*ops]
            unusual = self._chain or self._guarded or self._drained or self._linking
            try:
                packed = not unusual and all(
                    op.entry and self._plain[op.fields[0]] and not op.fields[1] & _SPECIAL for op in made
                )
            except AttributeError:
                packed = False
            if not packed or self._serial + len(made) >= _LAST_REQUEST:
                return [self._queue_request(op) for op in made]
            # Entries that were written before are copied by one call into C.
            first = self._serial + 1
            requests = [Request(self, first + i, op) for i, op in enumerate(made)]
            self._serial += len(made)
            pairs = array("Q")
            for op, request in zip(made, requests, strict=True):
                self._requests[request.value] = request
                pairs.append(op.entry)
                pairs.append(request.value)
            done = self._kernel.put_many(pairs.tobytes(), len(made))
            if done < len(made):
                for request in requests[done:]:
                    del self._requests[request.value]
                raise self._refused(-errno.EBUSY)
            return requests

    def chain(self, *, hard: bool = False, drain: bool = False) -> Chain:
        """A block whose requests start one after the other: ``with ring.chain() as chain: ring.write(…);
        ring.fsync(…)``. They are queued at its end, as one; an exception in the block queues none of them.

        Each starts when the one before it has succeeded and came whole: a short read or write breaks the
        chain (a short receive or send with ``MSG_WAITALL`` alone), and what follows is cancelled
        (``ECANCELED``).

        Args:
            hard: each starts when the one before it has ended, however.
            drain: the first one starts when everything queued before has ended (``IOSQE_IO_DRAIN``).
        """
        return Chain(self, hard, drain)

    def _chain_begins(self, chain: Chain) -> None:
        """Collects this thread's requests without a context in a chain: the start of its block."""
        self._check_usable()
        if get_ident() in self._linking:
            raise RuntimeError("a chain is being made already: chains do not nest")
        self._linking[get_ident()] = chain

    def _chain_ends(self) -> None:
        """The end of the block."""
        self._linking.pop(get_ident(), None)

    def _submit_chain(self, requests: list[Request[object]], *, hard: bool, drain: bool) -> None:
        """Queues the requests of a chain, all or none; those that were not queued are abandoned."""
        try:
            with self._lock:
                self._check_usable()
                ops = self._linked([request._pending for request in requests], hard)
                if drain:
                    ops[0] = ops[0].with_flags(_DRAIN)
                self._check_chain(ops, [request.context for request in requests])
                for op, request in zip(ops, requests, strict=True):
                    self._put_request(op, request, True)
        except BaseException:
            for request in requests:
                if request.value not in self._requests:
                    request._abandon()
            raise

    def _cancel_request(self, request: Request[object]) -> Request[int]:
        """Queues a cancel of a request, by its value."""
        return self.request(ops.async_cancel(request.context))

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
            for op, ctx in requests:
                if not isinstance(op, Op):
                    raise _no_request(op)
                self._enqueue(op, ctx)
                n += 1
            return n

    def submit_linked(
        self, requests: Iterable[tuple[Op, int | None]], *, hard: bool = False
    ) -> list[SQEContext]:
        """Queues a chain: each request starts when the one before it has succeeded and came whole.

        A short read or write breaks the chain: what follows completes with ``ECANCELED``.

        The chain reaches the kernel in one piece. A `link_timeout` behind a request bounds that request. An
        operation may appear in a chain of its own contexts only once.

        Args:
            requests: pairs of a request of ``uring.ops`` and its context, or None.
            hard: each starts when the one before it has ended, however.

        Returns:
            The contexts, in their order.

        Raises:
            ValueError: an empty chain, or longer than the submission queue; on a ring of several issuers, one
                whose last request is linked further.
            TypeError, NotSupported, PoolExhausted, RingClosed, RuntimeError: as `submit`; nothing is queued
                then.
        """
        chain = list(requests)
        for op, _ in chain:
            if not isinstance(op, Op):
                raise _no_request(op)
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
            ValueError: the context is not extended, nothing was prepared, or its opcode was changed since.
            PoolExhausted, RingClosed, RuntimeError: as `submit`.
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
        """Sends everything queued to the kernel without waiting.

        Raises:
            RingClosed, RuntimeError: as `submit`.
            OSError: the kernel refuses the submission as a whole.
        """
        with self._lock:
            self._check_usable()
            result = self._kernel.flush(0)
            self._end_chain()
            if result < 0 and result not in (-errno.EINTR, -errno.EBUSY, -errno.EAGAIN):
                raise self._error(result, "submit")

    def _linked(self, chain: list[Op], hard: bool) -> list[Op]:
        """The requests of a chain with their flags, and room for all of them in the queue."""
        if not 1 <= len(chain) <= self._kernel.sq_entries:
            raise ValueError(f"a chain has 1 to {self._kernel.sq_entries} requests, not {len(chain)}")
        self._make_room(len(chain))
        link = int(abi.IOSQE_IO_HARDLINK) if hard else _LINK
        return [op.with_flags(link) for op in chain[:-1]] + chain[-1:]

    def _next_value(self) -> int:
        self._serial = value = self._serial + 1 if self._serial < _LAST_REQUEST else REQUEST_VALUES
        return value

    def _queue_request(self, op: Op[T]) -> Request[T]:
        try:
            request = Request(self, self._next_value(), op)
        except AttributeError:
            raise _no_request(op) from None
        if self._linking and get_ident() in self._linking:
            self._linking[get_ident()].requests.append(request)
        else:
            self._put_request(op, request, False)
        return request

    def _put_request(self, op: Op, request: Request[object], linked: bool) -> None:
        fields = op.fields
        value = request.value
        if (
            not self._plain[fields[0]]
            or fields[1] & _SPECIAL
            or self._chain
            or self._guarded
            or self._drained
        ):
            op, _ = self._check_special(op, value, None, linked)
            fields = op.fields
        self._requests[value] = request
        entry = op.entry
        result = self._put_packed(value, entry) if entry else self._put(value, *fields)
        if result:
            del self._requests[value]
            raise self._refused(result)

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

    def _hold(self, op: Op, ctx: int, slot: IndirectSQE | None) -> None:
        """Keeps what a request needs, from before it is queued."""
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
