"""Submitting without contexts: requests as objects, many at once, chains as blocks.

Invariants
  - Each request is queued under another value, by which the ring finds it until its last completion.
  - A chain reaches the kernel in one piece, or not at all.

Requests with contexts are in `uring.session.submission`.
"""

from __future__ import annotations

import errno
from threading import get_ident
from typing import TYPE_CHECKING, TypeVar

from .. import abi, ops
from ..contexts.compiled import usual
from ..contexts.context import POOL_SHIFT, REQUEST_VALUES
from ..contexts.requests import Request
from ..errors import PoolExhausted
from .chains import Chain
from .checks import Checks
from .state import NO_THREAD

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..kernel.op import Op

__all__ = ["SPECIAL", "Requesting", "no_request"]

T = TypeVar("T")

_LINKS = int(abi.IOSQE_IO_LINK | abi.IOSQE_IO_HARDLINK)
_LINK = int(abi.IOSQE_IO_LINK)
_SKIP = int(abi.IOSQE_CQE_SKIP_SUCCESS)
_DRAIN = int(abi.IOSQE_IO_DRAIN)
_LAST_REQUEST = REQUEST_VALUES + (1 << POOL_SHIFT) - 1
SPECIAL = _LINKS | _SKIP | _DRAIN


class Requesting(Checks):
    """Submission without contexts."""

    @usual("Ring.request")
    def request(self, op: Op[T]) -> Request[T]:
        """Queues a request under a value of its own: `submit` without a context.

        In a ``with ring.chain():`` block it is queued when the block ends.

        Args:
            op: the request of ``uring.ops``.

        Returns:
            A `Request`, which has its result.

        Raises:
            NotSupported, PoolExhausted, ValueError, RingClosed, RuntimeError: as `submit`.
        """
        if get_ident() == self._owner:
            if self._chain or self._guarded or self._drained or self._linking:
                return self._queue_request(op)
            # The common case first, for speed.
            try:
                fields, entry = op.fields, op.entry
            except AttributeError:
                raise no_request(op) from None
            value = self._serial + 1
            if self._plain[fields[0]] and not fields[1] & SPECIAL and value < _LAST_REQUEST:
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
            return self._queue_all([*ops])

    def chain(self, *, hard: bool = False, drain: bool = False) -> Chain:
        """A block whose requests start one after the other: ``with ring.chain() as chain: ring.write(…);
        ring.fsync(…)``. They are queued at its end, as one; an exception in the block queues none of them.

        Each starts when the one before it has succeeded in full. A short read or write breaks the chain (a
        short receive or send only with ``MSG_WAITALL``): the requests behind it are cancelled
        (``ECANCELED``).

        Args:
            hard: each starts when the one before it has ended, even by an error.
            drain: the first one starts when everything queued before has ended (``IOSQE_IO_DRAIN``).
        """
        return Chain(self, hard, drain)

    def _chain_begins(self, chain: Chain) -> None:
        """Starts a block: collects this thread's requests without a context in its chain."""
        self._check_usable()
        if get_ident() in self._linking:
            raise RuntimeError("a chain is being made already: chains do not nest")
        self._linking[get_ident()] = chain

    def _chain_ends(self) -> None:
        """Ends the block."""
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

    def _linked(self, chain: list[Op], hard: bool) -> list[Op]:
        """The requests of a chain with their flags; makes room for all of them in the queue."""
        if not 1 <= len(chain) <= self._kernel.sq_entries:
            raise ValueError(f"a chain has 1 to {self._kernel.sq_entries} requests, not {len(chain)}")
        self._make_room(len(chain))
        link = int(abi.IOSQE_IO_HARDLINK) if hard else _LINK
        return [op.with_flags(link) for op in chain[:-1]] + chain[-1:]

    @usual("Ring._queue_all")
    def _queue_all(self, made: list[Op[T]]) -> list[Request[T]]:
        return [self._queue_request(op) for op in made]

    def _next_value(self) -> int:
        self._serial = value = self._serial + 1 if self._serial < _LAST_REQUEST else REQUEST_VALUES
        return value

    def _queue_request(self, op: Op[T]) -> Request[T]:
        try:
            request = Request(self, self._next_value(), op)
        except AttributeError:
            raise no_request(op) from None
        if self._linking and get_ident() in self._linking:
            self._linking[get_ident()].requests.append(request)
        else:
            self._put_request(op, request, False)
        return request

    def _put_request(self, op: Op, request: Request[object], linked: bool) -> None:
        fields = op.fields
        value = request.value
        if not self._plain[fields[0]] or fields[1] & SPECIAL or self._chain or self._guarded or self._drained:
            op, _ = self._check_special(op, value, None, linked)
            fields = op.fields
        self._requests[value] = request
        entry = op.entry
        result = self._put_packed(value, entry) if entry else self._put(value, *fields)
        if result:
            del self._requests[value]
            raise self._refused(result)

    def _refused(self, result: int) -> Exception:
        if result == -errno.EBUSY:
            return PoolExhausted(
                f"the submission queue ({self._kernel.sq_entries} entries) is full, and the kernel takes none"
            )
        if result == -errno.EEXIST:
            # Members of a volley have values of that form, by which alone a completion tells them.
            return ValueError(
                "a direct context that names a descriptor of 2**28 or more cannot be in flight beside a "
                "batch submitted as one"
            )
        return self._error(result, "submit")


def no_request(op: object) -> TypeError:
    return TypeError(f"a request made by a function of uring.ops is needed, not {type(op).__name__}")
