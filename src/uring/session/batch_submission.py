"""Submitting batches: many requests by one call into C, and as one."""

from __future__ import annotations

import errno
from threading import get_ident
from typing import TYPE_CHECKING, Any, overload

from ..contexts.context import CTX_MODE_INDIRECT, SQEContext
from ..contexts.requests import Request
from .batch import Batch
from .checks import GUARDED, is_context, no_context
from .submission import ABSENT, Submission

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..kernel.op import Op

__all__ = ["BatchSubmission"]


class BatchSubmission(Submission):
    """Submission of batches."""

    def batch(self, requests: Iterable[Op | tuple[Op, int]]) -> Batch:
        """Prepares requests to be submitted together, any number of times.

        Args:
            requests: requests of ``uring.ops``, or pairs of a request and its direct context. Without a
                context that is the request's number in the batch, from 0 on.

        Returns:
            The batch.

        Raises:
            NotSupported: the kernel, or this ring's mode, lacks an operation.
            ValueError: a request that names another one by its value, is linked, silent or draining, or has a
                context that is not direct.
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
        """Queues the requests of a batch in one call into C.

        Args:
            batch: the batch.

        Returns:
            How many were queued.

        Raises:
            TypeError: ``batch`` was not made by `batch`.
            PoolExhausted: the submission queue is full, and the kernel takes none of it; requests before stay
                queued.
            RingClosed, RuntimeError: as `submit`.
        """
        if not isinstance(batch, Batch):
            raise TypeError(f"a batch made by Ring.batch is needed, not {type(batch).__name__}")
        if get_ident() == self._owner:
            return self._put_batch(batch)
        with self._lock:
            self._check_usable()
            return self._put_batch(batch)

    @overload
    def submit_as_one(self, batch: Batch, /) -> Request[list[int]]: ...
    @overload
    def submit_as_one(self, batch: Batch, ctx: int) -> SQEContext: ...
    def submit_as_one(self, batch: Batch, ctx: object = ABSENT) -> SQEContext | Request[list[int]]:
        """Queues the requests of a batch; one completion follows the last of them.

        `uring.Ring.result` of that completion is the list of their results in their order, errors as negated
        errnos; their own contexts are not used. This is the cheapest way through a ring: there is one wake-up
        and one object for all completions.

        Args:
            batch: the batch.
            ctx: the context that the completion carries; without it a `Request` is made.

        Returns:
            The context, or without one the request.

        Raises:
            TypeError: ``batch`` was not made by `batch`.
            RuntimeError: the batch is in flight as one already.
            ValueError: more requests than the submission queue has entries; a multishot, or a request that
                carries a command; the request before it is linked.
            PoolExhausted: the queue has no room for all of them; nothing is queued.
        """
        if not isinstance(batch, Batch):
            raise TypeError(f"a batch made by Ring.batch is needed, not {type(batch).__name__}")
        if get_ident() == self._owner:
            return self._put_as_one(batch, ctx)
        with self._lock:
            self._check_usable()
            return self._put_as_one(batch, ctx)

    def _put_batch(self, batch: Batch) -> int:
        if self._chain or self._guarded or self._drained or batch.decoding or self._decoding:
            for op, ctx in batch.requests:
                self._enqueue(op, ctx)
            return len(batch.requests)
        # The batch is kept as a whole, for as long as any of its values is in flight.
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

    def _put_as_one(self, batch: Batch, ctx: Any) -> SQEContext | Request[list[int]]:
        if ctx is not ABSENT and not is_context(ctx):
            raise no_context(ctx)
        if self._chain:
            raise ValueError("the request before it is linked to its successor: a batch cannot be that")
        if ctx in self._guarded:
            raise ValueError(GUARDED)
        if ctx is ABSENT and get_ident() in self._linking:
            raise ValueError("a batch is no part of a chain: submit it outside of the block")
        n = len(batch.requests)
        if n > self._kernel.sq_entries:
            raise ValueError(f"the submission queue has {self._kernel.sq_entries} entries, the batch {n}")
        slot = None if ctx is ABSENT or 0 <= ctx < CTX_MODE_INDIRECT else self._slot_for(ctx)
        for op, _ in batch.requests if self._drained else ():
            self._check_drain(op.fields[0], 0)
        whole, volley = batch._as_one(self._kernel)
        self._make_room(n)
        if ctx is ABSENT:
            request = Request(self, self._next_value(), whole)
            self._requests[request.value] = request
            result = volley.queue(request.value)
            if result:
                del self._requests[request.value]
                raise self._refused(result)
            return request
        self._hold(whole, ctx, slot)
        result = volley.queue(ctx)
        if result:
            self._undo_hold(whole, ctx, slot)
            raise self._refused(result)
        return ctx if type(ctx) is SQEContext else SQEContext(ctx)
