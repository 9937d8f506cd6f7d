"""Waiting for completions: for some, for all, for those of one request, on one thread or on several.

Invariants
  - A wait goes on where the kernel refuses an enter for now: its error would be taken for a request's.
  - Completions that were taken from the kernel and not given to the caller stay in the backlog.
  - A signal's handler may raise, or wait on this ring, after any call here. Where completions leave the
    backlog no call stands between that and the ``return``: the interpreter runs handlers after calls, at the
    start of a function and at the end of a loop's body, and nowhere else.
  - With several issuers only the blocking happens outside the lock.
"""

from __future__ import annotations

import errno
import time
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
                ``ENOMEM``. Queued requests stay queued.
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
        if self._posted:
            self._submit_posted()
        started = time.monotonic() if timeout else 0.0
        while True:
            left = 0.0 if self._backlog else timeout
            n = self._reap(left) if left == 0.0 else self._reap_until(left)
            if self._chain:
                self._end_chain()
            if n < 0:
                if not self._passes(n):
                    raise self._error(n, "wait")
                n = 0
            if not n and not self._backlog and left == timeout:
                return []
            found = self._collect(kind, max_cqes)
            if found is not None and self._backlog is found:
                self._backlog = []
            else:
                found = self._take_some(kind, max_cqes)
            if found or timeout == 0.0:
                return found
            # Another thread woke this one, to submit a request, or a signal's handler took them.
            if self._posted:
                self._submit_posted()
            if timeout is not None:
                timeout = max(0.0, timeout - (time.monotonic() - started))
                started = time.monotonic()

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
        deadline = _deadline(timeout)
        while self._is_due():
            left = _SLEEP_MOST if deadline is None else max(0.0, deadline - time.monotonic())
            cqes = self.wait(timeout=min(left, _SLEEP_MOST))
            if not cqes:
                if left == 0:
                    return
                continue  # a signal's handler may have taken the last one
            try:
                while cqes:
                    cqe = cqes[0]
                    del cqes[0]
                    yield cqe
            finally:
                self._backlog = [*cqes, *self._backlog]
            deadline = _deadline(timeout)

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
        try:
            while self._is_due():
                left = _SLEEP_MOST if deadline is None else max(0.0, deadline - time.monotonic())
                # Not for ever: a signal's handler may have taken the last one.
                cqes = self.wait(timeout=min(left, _SLEEP_MOST))
                found += cqes
                if not cqes and left == 0:
                    raise TimeoutError(f"{self.in_flight} requests are in flight after {timeout} seconds")
        except BaseException:
            self._backlog = [*found, *self._backlog]
            raise
        return found

    def _is_due(self) -> bool:
        """Whether completions are to be taken, or to come."""
        return bool(self._backlog or self._kernel.unseen or self.in_flight)

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
            if self._kernel.unseen:
                self._collect(CQEView, 0)
            found = self._split_backlog(ctx)
            if found:
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
            n = self._reap(0.0 if shared else most)
            self._end_chain()
            if n < 0 and not self._passes(n):
                raise self._error(n, "wait")
            if n > 0:
                self._collect(CQEView, 0)
                return True
        if n in PASSING:
            time.sleep(PAUSE)
        elif shared and timeout:
            self._sleep(timeout)
        return False

    def _passes(self, n: int) -> bool:
        """Whether an enter that failed is made again: it was interrupted, or is refused for now."""
        return n == -errno.EINTR or (n in PASSING and self._refusals.endured(self._kernel))

    def _take_some(self, kind: type[C], max_cqes: int) -> list[C]:
        while True:
            found = self._backlog[:max_cqes]
            taken = [cqe if type(cqe) is kind else kind(cqe) for cqe in found]
            if self._backlog[:max_cqes] == found:  # a signal's handler has not waited meanwhile
                del self._backlog[:max_cqes]
                return taken

    def _reap_until(self, timeout: float | None) -> int:
        """A reap that waits. It continues after signals, and where a submission hid why the wait ended."""
        deadline = _deadline(timeout)
        left = _SLEEP_MOST if timeout is None else timeout
        while True:
            n = self._reap(min(left, _SLEEP_MOST))
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
        taken: list[C] = []
        try:
            while True:
                with self._lock:
                    self._check_open()
                    n = self._reap(0.0)
                    if n < 0 and not self._passes(n):
                        raise self._error(n, "wait")
                    if n > 0:
                        self._collect(kind, 0)
                    taken = self._take_some(kind, max_cqes)
                    left = -1.0 if deadline is None else deadline - time.monotonic()
                if taken or (deadline is not None and left <= 0):
                    return taken
                if n in PASSING:
                    time.sleep(PAUSE)
                else:
                    self._sleep(left)
        except BaseException:  # a signal's handler raised at the release of the lock
            self._backlog = [*taken, *self._backlog]
            raise

    def _sleep(self, left: float) -> None:
        """Waits without the lock until there is a completion to take, or for ``left`` seconds."""
        counted = 0
        try:
            with self._lock:
                self._check_open()
                # No other thread submits the queue while this one sleeps.
                self._kernel.eager = True
                counted = 1
                self._waiters += counted
            n = self._kernel.wait(_SLEEP_MOST if left < 0 else min(left, _SLEEP_MOST))
            if n in PASSING:
                if not self._refusals.endured(self._kernel):
                    raise self._error(n, "wait")
                time.sleep(PAUSE)
        finally:
            self._waiters -= counted  # without the lock, whose acquiring a signal's handler may end
            with self._lock:
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
