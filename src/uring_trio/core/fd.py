"""Descriptors: who waits for one, and what closing it does.

An `Fd` is the one owner, in one run, of all that is in flight on a descriptor: closing it ends every
operation. A descriptor that a ring socket owns keeps its `Fd` until the socket closes; that of a
subscription on a foreign descriptor lives as long as the subscription.

Waiting: the ring waits, the task acts. An operation that does both in the kernel has rules of its own, which
readiness does not have: it goes to a kernel worker, or fails with ``EAGAIN``, where poll(2) keeps reporting a
state that does not help. So a task tries, waits by ``POLL_ADD`` on the reusable operation of its direction,
and tries again.

  - Most waits are one one-shot poll: it completes at once if the state is there when it is armed, so that
    nothing is lost between the attempt and the poll.
  - The kernel adds ``POLLERR``, ``POLLHUP`` and ``POLLRDHUP`` to every mask. A poll that reports nothing
    helpful, or an attempt that would block although the poll reported readiness, is followed by a multishot
    poll, which reports changes. Each helpful report is followed by an attempt while the poll stays armed.

Closing is one step without a yield. Entries that have not reached the kernel are taken back, the others are
cancelled by their ``user_data``. One enter runs the deferred work that makes the kernel drop its reference to
the file. Every task wakes with `trio.ClosedResourceError`. Only then may the descriptor be closed. Operations
on a duplicate of the descriptor go on.
"""

from __future__ import annotations

import errno
import os
import select
from time import perf_counter
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import outcome
import trio

from uring import abi

from .. import seams
from .operation import BUSY, CLOSED_FD

if TYPE_CHECKING:
    from collections.abc import Callable

    from .engine import Engine
    from .operation import Operation

__all__ = ["CLOSED", "Fd"]

CLOSED = frozenset((errno.EBADF, errno.ENOTSOCK))
"""Errors of a socket that was closed without notice: its number is free, or another file's."""

_POLL_ADD = int(abi.IORING_OP_POLL_ADD)
_POLL_MULTI = int(abi.IORING_POLL_ADD_MULTI)
_FIXED = int(abi.IOSQE_FIXED_FILE)
_BAD = select.POLLERR | select.POLLHUP | select.POLLNVAL
_READABLE = select.POLLIN | _BAD
_WRITABLE = select.POLLOUT | _BAD

T = TypeVar("T")


class Multishot(Protocol):
    """The part of a `Subscription` that an `Fd` uses."""

    @property
    def op(self) -> Operation | None:
        """The operation in flight, if one is."""

    def close(self) -> None:
        """Marks it as closed; its operation is cancelled by the caller."""

    def abandon(self) -> None:
        """Ends it where the run is over."""


class Fd:
    """The operations of one descriptor in one run.

    Attributes:
        fixed: it is no descriptor of the process but a slot of the ring's table.
        owned: whether `open` made it; else other code owns the descriptor.
        reader, writer: the reused operations, one for each direction.
        others: subscriptions. ``receiving``: the one of them that takes all that arrives, or None.
        in_kernel: whether a receive into provided buffers is possible here; None: not known yet.
        receive_size: how many bytes the reader is set up to receive so, or the entry by which it waits for
            input; None: it is set up for something else. ``receive`` does either in C, while this is its own.
        views, give_back: the run's receive buffers.
        exclusive: no other process and no other descriptor accepts from this listener.
    """

    __slots__ = (
        "_leaving",
        "_poll_in",
        "_poll_out",
        "engine",
        "exclusive",
        "fd",
        "fixed",
        "give_back",
        "in_kernel",
        "others",
        "owned",
        "reader",
        "receive",
        "receive_size",
        "receiving",
        "views",
        "writer",
    )

    def __init__(self, engine: Engine, fd: int, *, owned: bool, fixed: bool = False) -> None:
        self.engine: Engine = engine
        self.fd: int = fd
        self.fixed: bool = fixed
        self.owned: bool = owned
        self.views: list[memoryview[int]] = engine.buffers.views
        self.give_back: Callable[[int], int] = engine.buffers.put
        self.reader: Operation | None = None
        self.writer: Operation | None = None
        self.others: list[Multishot] = []
        self.receiving: object = None
        self.receive_size: Any = None
        self.receive: Any = None
        self.in_kernel: bool | None = None
        self.exclusive: bool = False
        self._poll_in: Any = None
        self._poll_out: Any = None
        self._leaving = False  # an operation that was replaced may still be in the kernel

    @classmethod
    def open(cls, engine: Engine, fd: int, *, fixed: bool = False) -> Fd:
        """The `Fd` of a descriptor that the caller owns from now on; one left behind by an owner that
        went away without closing is retired. Where a task waits on that one, both owners share it, as on
        stock Trio, which finds waits by their number alone."""
        owner = cls(engine, fd, owned=True, fixed=fixed)
        stale = engine.owners.get(owner.key)
        if isinstance(stale, cls) and stale.owned and stale.is_waited_for() and not (fixed or stale.others):
            stale.receive_size = stale.in_kernel = None
            stale.exclusive = False
            return stale
        if stale is not None:
            if stale.owned:
                stale.close()
            else:
                owner.others = stale.others
        engine.owners[owner.key] = owner
        return owner

    @classmethod
    def borrow(cls, engine: Engine, fd: int) -> Fd:
        """The `Fd` of a descriptor that other code owns; call `forget` when done with it."""
        owner = engine.owners.get(fd)
        if owner is None:
            owner = engine.owners[fd] = cls(engine, fd, owned=False)
        assert isinstance(owner, cls)
        return owner

    @property
    def key(self) -> int:
        """Its key in ``engine.owners``: slots are below every descriptor, and below the -1 of none."""
        return -2 - self.fd if self.fixed else self.fd

    def forget(self) -> None:
        """Forgets a borrowed descriptor that nothing waits on any more."""
        if not self.owned and not self.others and self.engine.owners.get(self.fd) is self:
            del self.engine.owners[self.fd]

    def operation(self, name: str) -> Operation:
        return self.engine.acquire(name, -1 if self.fixed else self.fd)

    # ---- waiting -------------------------------------------------------------------------------------

    def to_read(self, name: str) -> Operation:
        """The operation of the receiving direction, about to be set up for something else than before.

        Raises:
            trio.BusyResourceError: a task is using it.
            trio.ClosedResourceError: the descriptor was closed.
        """
        op = self.reader
        if op is None:
            self._check_open()
            op = self.reader = self.operation(name)
        elif op.task is not None:
            op = self.reader = self._instead_of(op, name)
            self._poll_in = None
        if not self.fixed and seams.reads_by(self.engine.foreign, self.fd):
            raise trio.BusyResourceError(BUSY)
        op.name = name
        op.discard = None
        self.receive_size = None
        return op

    def to_write(self, name: str) -> Operation:
        """The operation of the sending direction; see `to_read`."""
        op = self.writer
        if op is None:
            self._check_open()
            op = self.writer = self.operation(name)
        elif op.task is not None:
            op = self.writer = self._instead_of(op, name)
            self._poll_out = None
        if not self.fixed and seams.writes_by(self.engine.foreign, self.fd):
            raise trio.BusyResourceError(BUSY)
        op.name = name
        return op

    def _instead_of(self, op: Operation, name: str) -> Operation:
        """An operation in the place of one whose task is cancelled and has not resumed yet: as on stock Trio
        the direction is free from the cancellation on. The other one goes with its last completion.

        Raises:
            trio.BusyResourceError: that task is not cancelled.
        """
        if op.interrupt is None:
            op.refuse(op.runner)
        op.retired = True
        self._leaving = True
        return self.operation(name)

    def is_read(self) -> bool:
        """Whether a task waits for input here."""
        op = self.reader
        if op is not None and op.task is not None and op.interrupt is None:
            return True
        return not self.fixed and seams.reads_by(self.engine.foreign, self.fd)

    def forget_receive(self) -> None:
        """Makes the next receive check again whether the kernel may do it. One in the kernel ends, and its
        task waits for readiness instead."""
        op = self.reader
        if op is not None and op.task is not None and op.interrupt is None and self.receive_size is not None:
            self.engine.cancels.cancel(op)
        self.in_kernel = self.receive_size = None

    def is_waited_for(self) -> bool:
        """Whether a task waits by the reader or the writer."""
        return any(op is not None and op.task is not None for op in (self.reader, self.writer))

    def wait_beside(self, op: Operation | None) -> None:
        """Before a task waits for this descriptor by its number; ``op`` is the operation of that direction.

        Raises:
            trio.BusyResourceError: a task is using it.
        """
        if op is not None and op.task is not None and op.interrupt is None:
            op.refuse(op.runner)
        # The next receive looks at who waits.
        self.receive_size = None

    async def wait_readable(self, name: str, timeout: float | None = None, tried: bool = True) -> int:
        """Waits by the reader until poll(2) reports input; returns what it reports: that, an error, a
        hang-up, or a state that is no help.

        ``timeout``: seconds, held by the kernel. ``tried``: the descriptor was open when the caller's attempt
        would have blocked; otherwise a bad one is an error.

        Raises:
            trio.BusyResourceError: a task is receiving.
            trio.ClosedResourceError: the descriptor was closed.
            trio.TooSlowError: ``timeout`` passed.
            OSError: the descriptor cannot be polled.
        """
        op = self.to_read(name)
        if self._poll_in is None:
            self._poll_in = self._poll(op, select.POLLIN)
        if op.receive is not None:
            ring: Any = self.engine.ring  # the kernel's, which alone is received from in C
            op.receive.wait_by(self._poll_in, ring.address_of(self._poll_in))
        self.receive_size = self._poll_in
        return await self._wait(op, self._poll_in, timeout, tried)

    def wait_in_c(self, name: str) -> None:
        """Lets later waits for input be in C, where the run has ticks there; errors as for `to_read`."""
        op = self.to_read(name)
        if self.receive is None or self.receive is not op.receive:
            self.receive = self.engine.wait_in_c(op, self.fd)

    async def wait_writable(self, name: str, timeout: float | None = None) -> int:
        """As `wait_readable`, by the writer, for room to send."""
        op = self.to_write(name)
        if self._poll_out is None:
            self._poll_out = self._poll(op, select.POLLOUT)
        return await self._wait(op, self._poll_out, timeout)

    async def until_writable(self, name: str, timeout: float | None = None) -> None:
        """As `wait_writable`, until there is room, an error or a hang-up."""
        until = None if timeout is None else perf_counter() + timeout
        if not await self.wait_writable(name, timeout) & _WRITABLE:
            await self._watch(self.to_write(name), select.POLLOUT, lambda res: bool(res & _WRITABLE), until)

    async def lost(self) -> None:
        """Waits where the descriptor was closed without notice before its operation reached the kernel.
        Nothing reports any more, as on stock Trio: a cancel ends it."""
        self._check_open()
        await trio.sleep_forever()

    async def wait_elsewhere(self, name: str, fd: int) -> None:
        """Waits by the writer until another descriptor has room to send: closing this one ends it."""
        op = self.to_write(name)
        await self._wait(op, self._poll(op, select.POLLOUT, fd), None)

    async def when_readable(
        self, name: str, fn: Callable[..., T], *args: Any, timeout: float | None = None, tried: bool = True
    ) -> T:
        """Waits until ``fn(*args)`` does not raise BlockingIOError, as it just did if ``tried``; its result.

        Errors as for `wait_readable`, and those of ``fn``. Cancelled, it has not called ``fn`` with success.
        """
        until = None if timeout is None else perf_counter() + timeout
        if await self.wait_readable(name, timeout, tried) & _READABLE:
            try:
                return fn(*args)
            except BlockingIOError:
                pass
        return await self._attempt_on_change(self.to_read(name), select.POLLIN, until, fn, args)

    async def when_writable(
        self, name: str, fn: Callable[..., T], *args: Any, timeout: float | None = None
    ) -> T:
        """As `when_readable`, for a function that sends."""
        until = None if timeout is None else perf_counter() + timeout
        if await self.wait_writable(name, timeout) & _WRITABLE:
            try:
                return fn(*args)
            except BlockingIOError:
                pass
        return await self._attempt_on_change(self.to_write(name), select.POLLOUT, until, fn, args)

    async def _attempt_on_change(
        self, op: Operation, mask: int, until: float | None, fn: Callable[..., T], args: tuple[Any, ...]
    ) -> T:
        result: outcome.Outcome[T] | None = None
        helpful = mask | _BAD

        def attempt(res: int) -> bool:
            nonlocal result
            if not res & helpful:
                return False  # some room, but less than poll(2) reports: stock Trio is not woken by it either
            result = outcome.capture(fn, *args)
            return not (isinstance(result, outcome.Error) and isinstance(result.error, BlockingIOError))

        await self._watch(op, mask, attempt, until)
        assert result is not None
        try:
            return result.unwrap()
        finally:
            del result, attempt  # the error's traceback keeps this frame

    def _poll(self, op: Operation, mask: int, fd: int | None = None, multi: int = 0) -> Any:
        flags = _FIXED if self.fixed and fd is None else 0
        number = self.fd if fd is None else fd
        return self.engine.ring.template(op.user_data, _POLL_ADD, flags, number, 0, 0, multi, mask)

    async def _wait(self, op: Operation, poll: Any, timeout: float | None, tried: bool = True) -> int:
        until = None if timeout is None else perf_counter() + timeout
        while True:
            op.template = poll
            if until is None:
                res = await seams.transact(op)
            else:
                try:
                    res = await seams.transact_within(op, until - perf_counter())
                except trio.TooSlowError:
                    if until <= perf_counter():
                        raise
                    res = -errno.ECANCELED
            if res >= 0:
                return res
            # It may have been cancelled from elsewhere: it is armed again.
            self._check_open()
            if res not in seams.CANCELLED:
                if res == -errno.EBADF and until is None and tried:
                    await self.lost()
                raise OSError(-res, os.strerror(-res))

    async def _watch(
        self, op: Operation, mask: int, attempt: Callable[[int], bool], until: float | None
    ) -> None:
        """Arms a multishot poll and calls ``attempt`` with what it reports until that says True.

        The first report is of the present state, later ones are of changes: no wake-up is lost while the
        poll stays armed, and nothing spins on a state that is no help. ``attempt`` does not raise.
        """
        poll, user_data, handler = self._poll(op, mask, multi=_POLL_MULTI), op.user_data, op.handler

        def report(op: Operation, res: int, flags: int) -> None:
            if not op.acted and op.interrupt is None and res > 0 and attempt(res):
                op.acted = True
                op.engine.cancels.cancel(op)

        deadline = trio.CancelScope()
        if until is not None:
            deadline.deadline = trio.current_time() + max(0.0, until - perf_counter())
        with deadline:
            while True:
                op.template, op.handler = poll, report
                try:
                    res = await seams.transact_unlimited(op)
                    if op.acted:
                        return
                finally:
                    if op.user_data == user_data:  # else it was closed, and may have its next use
                        op.handler, op.acted = handler, False
                if res > 0 and attempt(res):  # the completion queue was full: this report ended the poll
                    return
                if res < 0 and res not in seams.CANCELLED:
                    raise OSError(-res, os.strerror(-res))
                self._check_open()
                if op.task is not None:
                    op.refuse(op.runner)
        raise trio.TooSlowError

    def _check_open(self) -> None:
        if self.fd < 0:
            raise trio.ClosedResourceError(CLOSED_FD)

    # ---- closing -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Ends every operation; the file may be closed as soon as this returns."""
        if self.engine.closed:
            return
        waits = self._poll_in, self._poll_out
        active = [
            op
            for op in (self.reader, self.writer)
            if op is not None and op.close(op.template is not None and op.template in waits)
        ]
        for subscription in self.others:
            subscription.close()
            if subscription.op is not None:
                active.append(subscription.op)
        if active:
            self.engine.cancels.end(active)
        elif self._leaving:
            self.engine.ring.flush(1)  # with its cancel, which makes the kernel drop the file
        self.retire()

    def retire(self) -> None:
        """Gives the reusable operations back, now or when the last completion of one has come."""
        for op in (self.reader, self.writer):
            if op is not None:
                if op.task is None:
                    self.engine.release(op)
                else:
                    op.retired = True
        self.reader = self.writer = self._poll_in = self._poll_out = None
        self.receive_size = self.receive = None
        if self.engine.owners.get(self.key) is self:
            del self.engine.owners[self.key]
        # This object must not be used any more: closing the descriptor would not find it.
        self.fd = -1
