"""Starting and stopping a ring, the end of operations in flight, borrowing slots.

Invariant: memory of operations that ``stop`` cannot drain is leaked: the kernel may still write there.
"""

from __future__ import annotations

import errno
import time
import warnings
from threading import get_ident
from typing import TYPE_CHECKING, Self, TypeVar

from .. import abi
from ..abi.layouts import SYNC_CANCEL_REG
from ..contexts.context import CTX_MODE_RESERVED, ExtSQE, IndirectSQE
from ..contexts.pools import ScopedExtSQE
from ..errors import PoolExhausted
from ..kernel.memory import zeroed
from ..kernel.refusals import PASSING, PAUSE
from .batch_submission import BatchSubmission
from .completion import Waiting
from .state import NO_THREAD, NOT_STARTED, STOPPED

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["RingCore"]

T = TypeVar("T")

_MORE = int(abi.IORING_CQE_F_MORE)
_OP_ASYNC_CANCEL = int(abi.IORING_OP_ASYNC_CANCEL)
_OP_PIPE = int(abi.IORING_OP_PIPE)
_CANCEL_EVERYTHING = int(abi.IORING_ASYNC_CANCEL_ANY | abi.IORING_ASYNC_CANCEL_ALL)

_CANCEL_AGAIN = 0.05
"""Seconds after which a ring that stops cancels again what is in flight."""

_leaked: list[object] = []
"""Rings that could not be drained, with all memory that the kernel may still write to."""


class RingCore(BatchSubmission, Waiting):
    """The ring without its operations and registrations; see `uring.Ring`."""

    def start(self) -> None:
        """Enables the ring and makes the buffers that its options name. This thread becomes the submitter.

        Raises:
            RuntimeError: started before. RingClosed: stopped. OSError: there is no memory for the buffers;
                the ring is then stopped.
        """
        if self._owner != NOT_STARTED:
            self._check_open()
            raise RuntimeError("the ring was started before")
        try:
            self._make_resources()
            self._kernel.register(int(abi.IORING_REGISTER_ENABLE_RINGS), None, 0, "enable the ring")
        except BaseException:
            self.stop()
            raise
        self._owner = NO_THREAD if self.options.multi_issuers else get_ident()

    def stop(self) -> None:
        """Cancels what is in flight, waits for its last completions, frees everything. Idempotent.

        Completions that were not taken are dropped. A descriptor in one is closed if the request alone had
        its context. Operations that do not end within ``drain_timeout`` are leaked with a ResourceWarning,
        together with all memory that they may touch.

        With `Options.sqpoll` that happens where a kernel worker waits (in a splice, or opening a FIFO) and a
        request with ``IO_DRAIN`` waits for it. A queued cancel waits as well, and one from outside the queue
        does not reach the workers of the kernel's thread (Linux 6.18). A timeout that repeats without a pause
        escapes every cancel.

        Where a signal's handler raises meanwhile, as Ctrl-C does, the ring is not stopped: call this again.

        Raises:
            RuntimeError: another thread owns the ring.
        """
        owner = self._owner
        if owner == STOPPED:
            return
        if owner not in (NOT_STARTED, NO_THREAD, get_ident()) and not self._kernel.closed:
            raise self._thread_error()
        left, stopping = 0, False
        try:
            with self._lock:
                if self._stopping:
                    return
                self._stopping = stopping = True
            if owner != NOT_STARTED and not self._kernel.closed:
                self._end_waits()
                left = self._drain()
            self._owner = STOPPED
            self._release_resources(leak=bool(left))
            if left:
                self._leak(left)
            else:
                self._kernel.close()
            self._backlog.clear()
            stopping = False
        finally:
            if stopping:  # a signal's handler raised: the next call goes on
                self._owner, self._stopping = owner, False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        if self.closed:
            return "<Ring stopped>"
        state = "started" if self.started else "not started"
        return f"<Ring {state} fd={self._kernel.fd} in_flight={self.in_flight}>"

    def __del__(self) -> None:
        if getattr(self, "_owner", STOPPED) == STOPPED or not hasattr(self, "_wait_entries"):
            return
        kernel = self._kernel
        if not kernel.closed:
            warnings.warn(f"unstopped {self!r}", ResourceWarning, stacklevel=1, source=self)
            self._owner = STOPPED
            if kernel.inflight:
                self._leak(kernel.inflight)
            else:
                kernel.close()

    def ext_sqe(self) -> ExtSQE:
        """Borrows an extended slot until `put_ext_sqe`. Raises PoolExhausted when all are taken."""
        self._check_open()
        return self.pools.extended()

    def must_ext_sqe(self) -> ExtSQE:
        """Borrows an extended slot, where it is a mistake of the program that all are taken.

        Returns:
            The slot.

        Raises:
            RuntimeError: all are taken.
        """
        try:
            return self.ext_sqe()
        except PoolExhausted as error:
            raise RuntimeError(str(error)) from error

    def put_ext_sqe(self, ext: ExtSQE) -> None:
        """Gives an extended slot back, after its last completion.

        Args:
            ext: the slot.

        Raises:
            TypeError: ``ext`` is no extended slot.
            RuntimeError: its operation is in flight.
        """
        if not isinstance(ext, ExtSQE):
            raise TypeError(f"an ExtSQE is needed, not {type(ext).__name__}")
        ext.pool.put_extended(ext)

    def indirect_sqe(self) -> IndirectSQE:
        """Borrows an indirect slot until `put_indirect_sqe`. Raises PoolExhausted when all are taken."""
        self._check_open()
        return self.pools.indirect()

    def put_indirect_sqe(self, indirect: IndirectSQE) -> None:
        """Gives an indirect slot back, after its last completion.

        Args:
            indirect: the slot.

        Raises:
            TypeError: ``indirect`` is no indirect slot.
            RuntimeError: its operation is in flight.
        """
        if not isinstance(indirect, IndirectSQE) or isinstance(indirect, ExtSQE):
            raise TypeError(f"an IndirectSQE is needed, not {type(indirect).__name__}")
        indirect.pool.put_indirect(indirect)

    def new_scoped_ext_sqe(self) -> ScopedExtSQE:
        """An extended slot that goes back by itself unless it was submitted."""
        return ScopedExtSQE(self.ext_sqe())

    def with_ext_sqe(self, fn: Callable[[ExtSQE], T]) -> T:
        """Calls a function with an extended slot. The receiver of the completion gives the slot back; if the
        function raises, it goes back at once.

        Args:
            fn: the function.

        Returns:
            What the function returns.

        Raises:
            PoolExhausted: all slots are taken.
            Exception: what the function raises.
        """
        ext = self.ext_sqe()
        try:
            return fn(ext)
        except BaseException:
            if not ext.in_flight and ext.valid:
                self.pools.put_extended(ext)
            raise

    def _make_resources(self) -> None:
        """Registers what the options require at the start; `uring.Ring` adds the buffers."""

    def _release_resources(self, leak: bool) -> None:
        """Undoes `_make_resources`; with ``leak`` memory must stay, since the kernel may write there."""

    def _drain(self) -> int:
        """Cancels and waits until nothing is in flight; returns how many are left after ``drain_timeout``."""
        kernel = self._kernel
        values = {*self._held, *(value for batch in self._batches for value in batch.holds)}
        known = {value for value in values if kernel.total(value) == len(self._kept(value))}
        deadline = time.monotonic() + self.options.drain_timeout
        kernel.flush(0)  # the cancel is no part of a chain that was begun
        self._drop(known)  # completions of a wait that a signal's handler broke off
        cancelled, before = 0.0, 0
        while (left := kernel.inflight) > 0:
            now = time.monotonic()
            # Again when something ended, because requests behind it may have started. Not each time: a cancel
            # completes at once, and this would spin while an operation does not end.
            if left < before or now - cancelled >= _CANCEL_AGAIN:
                self._cancel_everything(again=cancelled > 0)
                cancelled = now
            before = left
            if now >= deadline:
                break
            n = kernel.reap(min(deadline - now, _CANCEL_AGAIN))
            if n > 0:
                self._drop(known)
            elif n in PASSING:
                time.sleep(PAUSE)
            elif n < 0 and n != -errno.EINTR:
                break
        return kernel.inflight

    def _drop(self, known: set[int]) -> None:
        """Ends requests by the completions that the kernel's ring holds."""
        seen = self._kernel.seen
        for value, res, flags, *_ in self._unpack(bytes(self._kernel.unseen)):
            request = self._requests.get(value)
            if request is None or flags & _MORE:
                seen(1)  # first: a descriptor must not be closed twice where a signal's handler raises
            if request is None:
                self._discard(value, res, known)
                self._settle(value, flags)
                continue
            if not request.done():
                request._end(res, flags)
            if not flags & _MORE:
                seen(1)
                self._requests.pop(value, None)
        self._release()

    def _discard(self, value: int, res: int, known: set[int]) -> None:
        """Closes a descriptor that arrives while the ring stops.

        ``known`` are the values under which only held requests were queued. Under other values, and under
        those of several kinds of requests, the result may not be a descriptor. It is then left alone: a
        descriptor left open is better than another file's closed.
        """
        if res < 0:
            return
        slot = self._slots.get(value)
        ops = self._kept(value) if slot is None else (slot.op,)
        # One kind of request has both kinds of descriptors: of the process, and in the ring's table.
        kinds = {(op.fields[0], op.discard is None) for op in ops if op is not None}
        if (slot is None and value not in known) or len(kinds) != 1:
            return
        for op in ops:
            if op is not None and op.discard is not None and op not in self._given:
                try:
                    op.discard(res)
                except OSError:
                    pass  # other code closed the descriptor by its number
                if op.fields[0] != _OP_PIPE:  # a pipe's descriptors are in the memory of its request
                    return

    def _cancel_everything(self, again: bool) -> None:
        """Cancels all that is in flight; ``again`` also outside the queue, where a request with ``IO_DRAIN``
        holds back everything behind it, a cancel as well."""
        if not self.options.iopoll:
            self._kernel.put(CTX_MODE_RESERVED, _OP_ASYNC_CANCEL, 0, -1, 0, 0, 0, _CANCEL_EVERYTHING, 0, 0, 0)
            if not again:
                return
        memory = zeroed(SYNC_CANCEL_REG.size)
        SYNC_CANCEL_REG.pack_into(memory.view, 0, 0, -1, _CANCEL_EVERYTHING, 0, 1_000_000, 0)
        try:
            self._kernel.register(int(abi.IORING_REGISTER_SYNC_CANCEL), memory.address, 1, "cancel")
        except OSError:
            pass  # `_drain` counts what is left

    def _end_waits(self) -> None:
        """Ends the waits of other threads; they find the ring stopping."""
        with self._lock:
            while self._waiters:
                self._kernel.put(CTX_MODE_RESERVED, 0, 0, -1, 0, 0, 0, 0, 0, 0, 0)
                self._kernel.flush(0)
                self._quiet.wait(0.01)

    def _leak(self, left: int) -> None:
        kept = (self._requests, self._held, self._slots, self._batches)
        _leaked.append((self._kernel, *kept, self.__dict__))
        warnings.warn(
            f"{left} operations did not end within {self.options.drain_timeout:g} s; their memory and the "
            "ring are leaked because the kernel may still write there",
            ResourceWarning,
            stacklevel=3,
        )
