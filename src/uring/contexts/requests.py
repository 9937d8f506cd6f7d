"""A request as an object: made by the ring's methods where no context is given.

It keeps its operation until the last completion, tells when that has come, and gives the decoded result once,
or raises its error. Completions carry the request that they belong to.

Invariants
  - The 64 bits that a request is queued under are its own, and are used again only after 2**44 others. So
    no completion of anything else, at the same time or late, is taken for its own.
  - Its memory is released with its last completion, whether the result is taken or not.
  - A result is given once. A descriptor of a request that a stopping ring ended is closed.
"""

from __future__ import annotations

import inspect
import types
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Protocol, final

from .. import abi
from ..errors import RingClosed, error_from_result
from ..kernel.op import Op, Whole, failure
from .compiled import C, usual
from .context import POOL_SHIFT, REQUEST_VALUES, SQEContext

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    T_co = TypeVar("T_co", covariant=True, default=object)
else:
    from typing import TypeVar

    T_co = TypeVar("T_co", covariant=True)

__all__ = ["Request", "Requester", "is_request", "meaning_of"]

_MORE = int(abi.IORING_CQE_F_MORE)
_NOTIF = int(abi.IORING_CQE_F_NOTIF)


class Requester(Protocol):
    """A ring as its requests use it."""

    @property
    def closed(self) -> bool: ...
    def _wait_for(self, request: Request[object], timeout: float | None = None) -> None: ...
    def _pass_over(self, value: int) -> None: ...
    def _cancel_request(self, request: Request[object]) -> Request[int]: ...


@final
class Request(Generic[T_co]):
    """One operation in flight, or ended.

    Args:
        ring: the ring.
        value: the 64 bits that its completions carry.
        op: the operation.

    Attributes:
        value: the 64 bits that its completions carry, as `context`.
        name: the name of its function in ``uring.ops``.
        fields: the entry that was submitted, as `uring.Op.fields`.
        res: the kernel's result, a negated errno for an error; if it completes several times, the last. 0
            before.
        flags: those of the last completion, ``IORING_CQE_F_*``.
    """

    __slots__ = ("__weakref__", "_op", "_ring", "_told", "fields", "flags", "name", "res", "value")

    valid: ClassVar[bool] = True
    """Its entry can be read for as long as it lives."""

    def __init__(self, ring: Requester, value: int, op: Op[T_co]) -> None:
        self._ring = ring
        self.value: int = value
        self._op: Op[T_co] | None = op
        self._told: Any = None
        self.name: str = op.name
        self.fields: tuple[int, ...] = op.fields
        self.res: int = 0
        self.flags: int = 0

    @property
    def context(self) -> SQEContext:
        """The context that its completions carry, for `uring.Ring.async_cancel` and the like."""
        return int.__new__(SQEContext, self.value)

    @usual("Request.done")
    def done(self) -> bool:
        """Whether its last completion was taken from the ring, by any wait."""
        return self._op is None

    @usual("Request.result")
    def result(self) -> T_co:
        """The result, once. The caller then owns what the kernel made (a descriptor, a pipe).

        For an operation that completes several times it is that of the last completion; each completion has
        its own: ``cqe.result()``. For a zero-copy send it is the number of bytes sent.

        Raises:
            OSError: it failed. The error names the operation, its descriptor, address and paths.
            RuntimeError: it is in flight, or its result was taken already.
            RingClosed: the ring was stopped before it ended.
        """
        if self._op is not None:
            if self._ring.closed:
                raise RingClosed(f"the ring was stopped before {self.name} ended")
            raise RuntimeError(f"{self.name} is in flight: use wait(), or a wait of the ring, before")
        told, self._told = self._told, _TAKEN
        if told is None and self.res >= 0:
            return self.res  # type: ignore[return-value]
        if told.__class__ is _Gone:
            self._told = told
            raise RingClosed(told.why) if told is _STOPPED else RuntimeError(f"{self.name}: {told.why}")
        result: T_co = _value_of(self.res, told)
        return result

    def wait(self, timeout: float | None = None) -> T_co:
        """Waits until it is done, then returns `result`. Other completions stay for the ring's next wait.

        Any thread may call it for a request that is done already.

        Args:
            timeout: seconds at most; None: no limit.

        Returns:
            The result.

        Raises:
            TimeoutError: not done in time. It stays in flight.
            OSError, RuntimeError, RingClosed: as `result`.
        """
        ring = self._ring
        if self._op is not None and not ring.closed:
            ring._wait_for(self, timeout)
            if self._op is not None and not ring.closed:
                raise TimeoutError(f"{self.name} has not ended within {timeout} seconds")
        ring._pass_over(self.value)
        return self.result()

    def cancel(self) -> Request[int]:
        """Queues a cancel of it, a request too, which fails with FileNotFoundError if it comes too late.

        The cancelled operation still completes: with ``ECANCELED``, or with its result if that came first.
        """
        return self._ring._cancel_request(self)

    def __repr__(self) -> str:
        if self._op is not None:
            state = "in flight"
        else:
            state = "taken" if self._told is _TAKEN else f"done, {self.res}"
        return f"<Request {self.name}: {state}>"

    # ---- for the ring --------------------------------------------------------------------------------

    @property
    def _pending(self) -> Op[T_co]:
        """The operation of a request that has not ended."""
        assert self._op is not None
        return self._op

    def _complete(self, res: int, flags: int) -> Any:
        """Takes a completion; returns what `meaning_of` returns."""
        op = self._op
        told = None if res >= 0 and op.decode is None else meaning_of(op, res)  # type: ignore[union-attr,arg-type]
        self.flags = flags
        if not flags:
            self.res, self._told, self._op = res, told, None
            return told
        if not flags & _NOTIF:
            self.res, self._told = res, told
        if not flags & _MORE:
            self._op = None
        return told

    def _end(self, res: int, flags: int) -> None:
        """Takes a completion of a ring that stops, and undoes its result."""
        op = self._pending
        self._complete(res, flags)
        if res >= 0 and op.discard is not None:
            try:
                op.discard(res)
            except OSError:
                pass  # other code closed the descriptor by its number
            self._told = _STOPPED

    def _abandon(self) -> None:
        """Ends a request that was not submitted."""
        self._op, self._told = None, _ABANDONED


class _Gone:
    """The reason why there is no result, in its place."""

    def __init__(self, why: str) -> None:
        self.why: str = why


_TAKEN: Final = _Gone("the result was taken already")
_STOPPED: Final = _Gone("the ring was stopped before the result was taken")
_ABANDONED: Final = _Gone("it was not submitted: its chain was left by an exception")


def is_request(value: int) -> bool:
    """Whether a value is that of a request without a context."""
    return value >> POOL_SHIFT == REQUEST_VALUES >> POOL_SHIFT


def meaning_of(op: Op[Any], res: int) -> Any:
    """How to read a result after the operation is gone: its decoder, None where the number is the result, or
    the arguments of `uring.kernel.op.failure` for an error."""
    if res < 0:
        return op.name, op.fields, op.address, op.paths
    if op.decode is None or not isinstance(op, Whole):
        return op.decode
    results = op.decode(0)
    return lambda _: results


def _value_of(res: int, told: Any) -> Any:
    if res < 0:
        raise error_from_result(res) if told is None else failure(res, *told)
    return res if told is None else told(res)


def _compiled(reference: Any) -> Any:
    """The type in C, with the reference's methods that are in Python."""
    made = C.Request
    for name in ("result", "done", "wait", "cancel", "context", "_pending", "_end", "_abandon"):
        setattr(made, name, vars(reference)[name])
    made.__doc__, made.__repr__, made.valid = reference.__doc__, reference.__repr__, reference.valid
    made.__signature__ = inspect.signature(reference)
    made.__class_getitem__ = classmethod(types.GenericAlias)
    C.describe(_TAKEN, meaning_of, Op)
    return made


if not TYPE_CHECKING and C is not None:
    Request = _compiled(Request)
