"""Waiting for completions: for some, for all, for those of one request, on one thread or on several.

Invariants
  - A wait goes on where the kernel refuses an enter for now: its error would be taken for a request's.
  - Completions that were taken from the kernel and not given to the caller stay in the backlog.
  - With several issuers only the blocking happens outside the lock.
"""

from __future__ import annotations

import errno
import time
from collections import deque
from threading import get_ident
from typing import TYPE_CHECKING, Any, TypeVar

from ..contexts.views import Completion, CQEView, DirectCQE, ExtCQE
from ..errors import PoolExhausted
from ..kernel.refusals import PASSING, PAUSE
from .delivery import WAKE, Delivery
from .queries import send_msg_ring
from .state import NO_THREAD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..contexts.requests import Request
    from ..kernel.op import Op

__all__ = ["Waiting"]

_MESSAGE_MASK = (1 << 62) - 1
_SLEEP_MOST = 0.5
"""Seconds. A signal between Python's last check for signals and the kernel's sleep does not end the sleep, so
that a longer one would delay Ctrl-C."""

C = TypeVar("C", bound=Completion)


class Waiting(Delivery):
    """Waits."""

    def wait(self, max_cqes: int = 64, timeout: float | None = 0.0) -> list[CQEView]:
        """Submits the queue and takes completions.

        Args:
            max_cqes: how many completions at most, from 1 on.
            timeout: seconds to wait for the first one; None: no limit.

        Returns:
            The completions; an empty list when none came in time.

        Raises:
            CQOverflow: the kernel had no memory to keep completions in, and dropped some.
            RingClosed, RuntimeError: the ring is stopped, not started, or another thread's.
            OSError: the kernel has refused each enter for half a minute, by ``EAGAIN``, ``EBUSY`` or
                ``ENOMEM``. What is queued stays queued.
        """
        return self._take(CQEView, max_cqes, timeout)

    def wait_direct(self, max_cqes: int = 64, timeout: float | None = 0.0) -> list[DirectCQE]:
        """As `wait`, where every submission has a direct context.

        Args:
            max_cqes: how many completions at most, from 1 on.
            timeout: seconds to wait for the first one; None: no limit.
        """
        return self._take(DirectCQE, max_cqes, timeout)

    def wait_extended(self, max_cqes: int = 64, timeout: float | None = 0.0) -> list[ExtCQE]:
        """As `wait`, where every submission has an extended context.

        Args:
            max_cqes: how many completions at most, from 1 on.
            timeout: seconds to wait for the first one; None: no limit.
        """
        return self._take(ExtCQE, max_cqes, timeout)

    def wait_registered(self, index: int = 0, max_cqes: int = 64) -> list[CQEView]:
        """As `wait`, with the timeout of an entry of the registered wait region.

        Args:
            index: the entry, from 0 on.
            max_cqes: how many completions at most, from 1 on.

        Returns:
            The completions.

        Raises:
            TypeError: ``index`` is no int.
            IndexError: the region has no such entry, or there is no region.

        Since:
            Linux 6.13.

        Source:
            io_uring_enter(2), ``IORING_ENTER_EXT_ARG_REG``.
        """
        self._check_usable()
        if isinstance(index, bool) or not isinstance(index, int):
            raise TypeError(f"an entry of the wait region is an int, not {type(index).__name__}")
        if not 0 <= index < self._wait_entries:
            raise IndexError(
                f"entry {index} of {self._wait_entries} does not exist: see register_wait_region"
            )
        while (result := self._kernel.wait_registered(index * 64)) in PASSING and self._passes(result):
            time.sleep(PAUSE)
        if result < 0 and result not in (-errno.ETIME, -errno.EINTR):
            raise self._error(result, "wait as registered")
        return self._take(CQEView, max_cqes, 0.0)

    def result(self, cqe: Completion) -> object:
        """The decoded result of a completion: the same as ``cqe.result()``.

        Args:
            cqe: the completion.

        Returns:
            The result.

        Raises:
            TypeError: ``cqe`` is no completion.
            OSError: the completion is an error. It names the operation, its descriptor, address and paths.
            LookupError: several requests were in flight under one direct context, so that the request of this
                result is not known.
        """
        if not isinstance(cqe, Completion):
            raise TypeError(f"a completion is needed, not {type(cqe).__name__}")
        return cqe.result()

    def _take(self, kind: type[C], max_cqes: int, timeout: float | None) -> list[C]:
        if max_cqes.__class__ is not int or max_cqes < 1:
            raise ValueError(f"max_cqes is an int of 1 or more, not {max_cqes!r}")
        if get_ident() != self._owner:
            if self._owner != NO_THREAD:
                raise self._unusable()
            return self._take_shared(kind, max_cqes, timeout)
        if self._backlog:
            timeout = 0.0
        if self._posted:
            self._submit_posted()
        started = time.monotonic() if timeout else 0.0
        n = self._cycle(timeout) if timeout == 0.0 else self._cycle_until(timeout)
        if self._chain:
            self._end_chain()
        if n < 0:
            if not self._passes(n):
                raise self._error(n, "wait")
            n = 0
        if max_cqes < n or self._backlog:
            return self._take_some(kind, n, max_cqes)
        cqes = self._collect(kind, n) if n else []
        if n and not cqes and timeout != 0.0:  # another thread woke this one, to submit a request
            left = None if timeout is None else max(0.0, timeout - (time.monotonic() - started))
            return self._take(kind, max_cqes, left)
        return cqes

    def completions(self, timeout: float | None = None) -> Iterator[CQEView]:
        """Completions as they come, until nothing is in flight, or none has come in time.

        The loop's body may queue requests, and may leave the loop: the others stay for the next wait.

        Args:
            timeout: seconds to wait for each; None: no limit.

        Returns:
            An iterator of the completions.

        Raises:
            CQOverflow, RingClosed, RuntimeError, OSError: as `wait`.
        """
        self._check_usable()
        while self._backlog or self.in_flight:
            cqes = deque(self.wait(timeout=timeout))
            if not cqes:
                return
            try:
                while cqes:
                    yield cqes.popleft()
            finally:
                self._backlog[:0] = cqes

    def drain(self, timeout: float | None = None) -> list[CQEView]:
        """Waits until nothing is in flight.

        Args:
            timeout: seconds at most; None: no limit.

        Returns:
            All completions.

        Raises:
            TimeoutError: something is still in flight; completions that came stay for the next wait.
            CQOverflow, RingClosed, RuntimeError, OSError: as `wait`.
        """
        self._check_usable()
        deadline = _deadline(timeout)
        found: list[CQEView] = []
        while self._backlog or self.in_flight:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            cqes = self.wait(timeout=left)
            found += cqes
            if not cqes and left == 0:
                self._backlog[:0] = found
                raise TimeoutError(f"{self.in_flight} requests are in flight after {timeout} seconds")
        return found

    def _wait_for(self, request: Request[object], timeout: float | None = None) -> None:
        self._check_usable()
        made_here = self._linking.get(get_ident())
        if made_here is not None and any(request is each for each in made_here):
            raise RuntimeError(f"{request.name} is queued at the end of its chain's block: wait after it")
        deadline = _deadline(timeout)
        while not request.done():
            left = -1.0 if deadline is None else deadline - time.monotonic()
            if deadline is not None and left <= 0:
                left = 0.0
            if not self._advance(left) and left == 0:
                return

    def _finish(self, ctx: int) -> list[Completion]:
        """Waits for completions under one context, and takes those; others stay for `wait`. Empty if nothing
        is in flight under it."""
        self._check_usable()
        while True:
            found = [cqe for cqe in self._backlog if cqe[0] == ctx]
            if found:
                self._backlog[:] = [cqe for cqe in self._backlog if cqe[0] != ctx]
                return found
            if self._kernel.count(ctx) < 1:
                return []
            self._advance(-1.0)

    def _post(self, op: Op[Any]) -> None:
        """Leaves a request that is silent on success to the ring's own thread, which submits it in its next
        wait, and wakes a wait in progress. Any thread may call it.

        Args:
            op: the request of ``uring.ops``.

        Raises:
            RingClosed: the ring was stopped.
            ValueError: a ring without a descriptor cannot be woken.
        """
        with self._lock:
            self._check_open()
            self._posted.append(op)
            self._waking += 1
            try:
                send_msg_ring(self.fileno(), WAKE & _MESSAGE_MASK)
            except BaseException:
                self._posted.pop()
                self._waking -= 1
                raise

    def _submit_posted(self) -> None:
        while self._posted:
            try:
                self.submit(self._posted[0], None)  # type: ignore[attr-defined]
            except PoolExhausted:
                return  # the next wait tries again
            self._posted.popleft()

    def _advance(self, timeout: float) -> bool:
        """Keeps completions that come in time (negative: no limit) for later waits; whether any came."""
        shared = self._owner == NO_THREAD
        with self._lock:
            self._check_open()
            if self._posted:
                self._submit_posted()
            most = _SLEEP_MOST if timeout < 0 else min(timeout, _SLEEP_MOST)
            n = self._cycle(0.0 if shared else most)
            self._end_chain()
            if n < 0 and not self._passes(n):
                raise self._error(n, "wait")
            if n > 0:
                self._backlog += self._collect(CQEView, n)
                return True
        if n in PASSING:
            time.sleep(PAUSE)
        elif shared and timeout:
            self._sleep(timeout)
        return False

    def _passes(self, n: int) -> bool:
        """Whether an enter that failed is made again: it was interrupted, or is refused for now."""
        return n == -errno.EINTR or (n in PASSING and self._refusals.endured())

    def _take_some(self, kind: type[C], n: int, max_cqes: int) -> list[C]:
        if n:
            self._backlog += self._collect(kind, n)
        taken = self._backlog[:max_cqes]
        del self._backlog[:max_cqes]
        return [c if type(c) is kind else kind(c) for c in taken]

    def _cycle_until(self, timeout: float | None) -> int:
        """A cycle that waits. It continues after signals, and where a submission hid why the wait ended."""
        deadline = _deadline(timeout)
        left = _SLEEP_MOST if timeout is None else timeout
        while True:
            n = self._cycle(min(left, _SLEEP_MOST))
            if n > 0 or (n < 0 and not self._passes(n)):
                return n
            if n in PASSING:
                time.sleep(PAUSE)
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    return 0

    def _take_shared(self, kind: type[C], max_cqes: int, timeout: float | None) -> list[C]:
        """`_take` for several threads."""
        deadline = _deadline(timeout)
        while True:
            with self._lock:
                self._check_open()
                n = self._cycle(0.0)
                if n < 0 and not self._passes(n):
                    raise self._error(n, "wait")
                if n > 0 or self._backlog:
                    return self._take_some(kind, max(n, 0), max_cqes)
                left = -1.0 if deadline is None else deadline - time.monotonic()
                if deadline is not None and left <= 0:
                    return []
            if n in PASSING:
                time.sleep(PAUSE)
            else:
                self._sleep(left)

    def _sleep(self, left: float) -> None:
        """Waits without the lock until there is a completion to take, or for ``left`` seconds."""
        with self._lock:
            self._check_open()
            self._waiters += 1
            # No other thread submits the queue while this one sleeps.
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
