"""Waiting: completions as objects, and the release of pins and slots.

Invariants
  - The pins of an operation are dropped on the last completion that can touch them. Contexts in direct mode
    are not unique: their pins are kept by value, and dropped together when nothing is in flight under that
    value.
  - With several issuers only the blocking itself happens outside the lock.
"""

from __future__ import annotations

import errno
import time
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar

from ..abi import IORING_CQE_F_MORE
from ..contexts.context import SQEContext
from ..contexts.views import Completion, CQEView, DirectCQE, ExtCQE
from ..errors import error_from_result
from ..opcodes import by_number
from .state import NO_THREAD, RingState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..kernel.op import Op

__all__ = ["Waiting"]

_MORE = int(IORING_CQE_F_MORE)
_SLEEP_MOST = 0.5
"""Seconds. A signal that comes between Python's last look for one and the kernel's sleep ends neither, so
that no sleep may last: Ctrl-C would go unseen for ever."""

C = TypeVar("C", bound=Completion)


class Waiting(RingState):
    """The way out of a ring."""

    def wait(self, max_cqes: int = 64, timeout: float | None = 0.0) -> list[CQEView]:
        """Submits what is queued and takes completions, at most ``max_cqes``; an empty list when there are
        none within ``timeout`` seconds (None: no limit).

        Raises:
            CQOverflow: the kernel had no memory to keep completions in, and dropped some.
            RingClosed, RuntimeError: as `submit`.
        """
        return self._take(CQEView, max_cqes, timeout)

    def wait_direct(self, max_cqes: int = 64, timeout: float | None = 0.0) -> list[DirectCQE]:
        """As `wait`, where every submission has a direct context."""
        return self._take(DirectCQE, max_cqes, timeout)

    def wait_extended(self, max_cqes: int = 64, timeout: float | None = 0.0) -> list[ExtCQE]:
        """As `wait`, where every submission has an extended context."""
        return self._take(ExtCQE, max_cqes, timeout)

    def wait_registered(self, index: int = 0, max_cqes: int = 64) -> list[CQEView]:
        """As `wait`, for as long as entry ``index`` of the registered wait region says (Linux 6.13).

        Raises:
            IndexError: the region has no such entry, or there is no region.
        """
        self._check_usable()
        if isinstance(index, bool) or not isinstance(index, int):
            raise TypeError(f"an entry of the wait region is an int, not {type(index).__name__}")
        if not 0 <= index < self._wait_entries:
            raise IndexError(
                f"entry {index} of {self._wait_entries} does not exist: see register_wait_region"
            )
        result = self._kernel.wait_registered(index * 64)
        if result < 0 and result not in (-errno.ETIME, -errno.EINTR):
            raise self._error(result, "wait as registered")
        return self._take(CQEView, max_cqes, 0.0)

    def result(self, cqe: Completion) -> Any:
        """What a successful completion means: a pair of descriptors, an address, a `StatxResult`, bytes; the
        number itself where there is no more to it. To be asked before the next wait that brings completions.

        Raises:
            OSError: the completion is an error.
            LookupError: too late, or several requests were in flight under one direct context.
        """
        if not isinstance(cqe, Completion):
            raise TypeError(f"a completion is needed, not {type(cqe).__name__}")
        if cqe.res < 0:
            raise error_from_result(cqe.res, *self._named(cqe[0]))
        value = cqe[0]
        op = self._decodable.get(value)
        if op is not None:
            held: tuple[Op, ...] = (op,)
        else:
            slot = self._slots.get(value)
            held = self._held.get(value, ()) if slot is None else (slot.op,) if slot.op else ()
        for batch in self._lately:
            held += batch.holds.get(value, ())
        if len(held) > 1 and any(each.decode is not None for each in held):
            raise LookupError("several requests share this direct context: only slots tell their results")
        op = held[0] if held else None
        return cqe.res if op is None or op.decode is None else op.decode(cqe.res)

    @staticmethod
    def _named(value: int) -> tuple[str, int | None]:
        """The operation and descriptor that a context names."""
        context = SQEContext(value)
        try:
            name = by_number(context.op).name.lower()
        except LookupError:
            name = ""
        return name, context.fd if context.fd >= 0 else None

    def _take(self, kind: type[C], max_cqes: int, timeout: float | None) -> list[C]:
        if max_cqes.__class__ is not int or max_cqes < 1:
            raise ValueError(f"max_cqes is an int of 1 or more, not {max_cqes!r}")
        if get_ident() != self._owner:
            if self._owner != NO_THREAD:
                raise self._unusable()
            return self._take_shared(kind, max_cqes, timeout)
        if self._backlog:
            timeout = 0.0
        n = self._cycle(timeout) if timeout == 0.0 else self._cycle_until(timeout)
        if self._chain:
            self._end_chain()
        if n < 0:
            if n != -errno.EINTR:
                raise self._error(n, "wait")
            n = 0
        if max_cqes < n or self._backlog:
            return self._take_some(kind, n, max_cqes)
        return self._collect(kind, n) if n else []

    def _collect(self, kind: type[C], n: int) -> list[C]:
        """Completions of the last cycle as objects; whatever ended by them is released."""
        if self._decodable:
            self._decodable.clear()
        if self._batches or self._lately:
            self._settle_batches()
        cqes = list(map(kind, self._unpack(self._kernel.out[: n * self._cqe_size])))
        if self._held or self._slots or self._guarded:
            ended = self._release(cqes)
            if self._kernel.strays != self._strays:
                cqes = self._drop_late(cqes, ended)
        elif self._kernel.strays != self._strays:
            cqes = self._drop_late(cqes, ())
        return cqes

    def _release(self, cqes: Iterable[tuple[int, ...]]) -> list[int]:
        ended = self._kernel.ended()
        if self._renamed:
            ended += self._settle(cqes, ended)
        slots = self._slots
        take = self._held.pop
        for value in ended:
            held = take(value, None)
            if held is not None:
                if held[0].decode is not None and len(held) == 1:
                    self._decodable[value] = held[0]
            elif value in slots:
                slot = slots.pop(value)
                slot.in_flight = False
                if slot.op is not None and slot.op.decode is not None:
                    self._decodable[value] = slot.op
                slot.op = None
        if self._guarded:
            self._guarded.difference_update(ended)
        return ended

    def _settle(self, cqes: Iterable[tuple[int, ...]], ended: list[int]) -> list[int]:
        """The values of polls that ended under another one, given to them by an update."""
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
        """Lets go of the batches of which nothing is in flight any more."""
        batches = self._batches
        in_flight = self._kernel.any_in_flight
        self._lately = [each for each in batches if each.decodes]
        self._batches = [each for each in batches if in_flight(each.pairs, len(each.requests))]

    def _drop_late(self, cqes: list[C], ended: Iterable[int]) -> list[C]:
        self._strays = self._kernel.strays
        known = set(ended)
        kept = [c for c in cqes if c[0] >> 62 not in (1, 2) or c[0] in known or c[0] in self._slots]
        self._late += len(cqes) - len(kept)
        return kept

    def _take_some(self, kind: type[C], n: int, max_cqes: int) -> list[C]:
        if n:
            self._backlog += self._collect(kind, n)
        taken = self._backlog[:max_cqes]
        del self._backlog[:max_cqes]
        return [c if type(c) is kind else kind(c) for c in taken]

    def _cycle_until(self, timeout: float | None) -> int:
        """A cycle that waits; it goes on after signals, and after submissions that hid why the wait ended."""
        deadline = _deadline(timeout)
        left = _SLEEP_MOST if timeout is None else timeout
        while True:
            n = self._cycle(min(left, _SLEEP_MOST))
            if n > 0 or (n < 0 and n != -errno.EINTR):
                return n
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return 0

    def _take_shared(self, kind: type[C], max_cqes: int, timeout: float | None) -> list[C]:
        """`_take` for several threads: only the blocking is done without the lock."""
        deadline = _deadline(timeout)
        while True:
            with self._lock:
                self._check_open()
                n = self._cycle(0.0)
                if n < 0 and n != -errno.EINTR:
                    raise self._error(n, "wait")
                if n > 0 or self._backlog:
                    return self._take_some(kind, max(n, 0), max_cqes)
                left = -1.0 if deadline is None else deadline - time.monotonic()
                if deadline is not None and left <= 0:
                    return []
                self._waiters += 1
                # Nobody else sends what is queued while this thread sleeps.
                self._kernel.eager = True
            try:
                self._kernel.wait(_SLEEP_MOST if left < 0 else min(left, _SLEEP_MOST))
            finally:
                with self._lock:
                    self._waiters -= 1
                    if not self._waiters and not self._kernel.closed:
                        self._kernel.eager = False
                    self._quiet.notify_all()


def _deadline(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(f"a timeout is a number of seconds or None, not {type(timeout).__name__}")
    if not timeout >= 0:
        raise ValueError(f"a timeout is 0 or more seconds, not {timeout}")
    return time.monotonic() + min(timeout, 1e9)
