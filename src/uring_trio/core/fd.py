"""Descriptors: who waits for one, and what closing it does.

A `Channel` gathers every operation of this run that may be in flight on a descriptor, so that closing
can end them. A descriptor that a ring socket owns keeps its channel until the socket closes; for any
other it lives as long as something waits.

Closing, in one step without a yield: what has not reached the kernel is taken back, what has is cancelled
by descriptor, one enter runs the deferred work that makes the kernel drop its reference to the file, and
every task wakes with `trio.ClosedResourceError`. Only then may the descriptor be closed.
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING, Any

import trio

from uring import abi

from .. import seams

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..multishot.subscription import Subscription
    from .manager import Manager
    from .operation import Operation

__all__ = ["Channel", "wait_ready"]

_POLL_ADD = int(abi.IORING_OP_POLL_ADD)
_POLL_MULTI = int(abi.IORING_POLL_ADD_MULTI)
_ALWAYS = select.POLLERR | select.POLLHUP | select.POLLNVAL


class Channel:
    """The operations of one descriptor in one run.

    ``reader`` and ``writer`` belong to a ring socket and are reused; ``poll_read`` and ``poll_write`` are
    there while a task waits for readiness; ``others`` are subscriptions. ``receiving`` is what takes all that
    arrives at a ring socket, if not ``reader``: one of the subscriptions, or the socket itself while it waits
    until there is something to receive. ``views`` and ``give_back`` are the run's receive buffers.
    ``fixed``: it is no descriptor of the process but a slot of the ring's table.
    """

    __slots__ = (
        "fd",
        "fixed",
        "give_back",
        "manager",
        "others",
        "owned",
        "poll_read",
        "poll_write",
        "reader",
        "receiving",
        "views",
        "writer",
    )

    def __init__(self, manager: Manager, fd: int, *, owned: bool, fixed: bool = False) -> None:
        self.manager: Manager = manager
        self.fd: int = fd
        self.fixed: bool = fixed
        self.owned: bool = owned
        self.views: list[memoryview[int]] = manager.buffers.views
        self.give_back: Callable[[int], int] = manager.buffers.put
        self.reader: Operation | None = None
        self.writer: Operation | None = None
        self.poll_read: Operation | None = None
        self.poll_write: Operation | None = None
        self.others: list[Subscription] = []
        self.receiving: object = None

    @classmethod
    def open(cls, manager: Manager, fd: int, *, fixed: bool = False) -> Channel:
        """The channel of a descriptor that the caller owns from now on; one left behind by an owner that
        went away without closing is retired."""
        channel = cls(manager, fd, owned=True, fixed=fixed)
        stale = manager.channels.get(channel.key)
        if stale is not None:
            if stale.owned:
                stale.abandon()
            else:
                channel.poll_read, channel.poll_write = stale.poll_read, stale.poll_write
                channel.others = stale.others
        manager.channels[channel.key] = channel
        return channel

    @classmethod
    def borrow(cls, manager: Manager, fd: int) -> Channel:
        """The channel of a descriptor that somebody else owns; call `forget` when done with it."""
        channel = manager.channels.get(fd)
        if channel is None:
            channel = manager.channels[fd] = cls(manager, fd, owned=False)
        return channel

    @property
    def key(self) -> int:
        """What the manager knows it by: slots are below every descriptor, and below the -1 of none."""
        return -2 - self.fd if self.fixed else self.fd

    def forget(self) -> None:
        """Lets go of a borrowed channel that nothing waits on any more."""
        busy = self.poll_read or self.poll_write or self.others
        if not self.owned and not busy and self.manager.channels.get(self.fd) is self:
            del self.manager.channels[self.fd]

    def operation(self, name: str) -> Operation:
        return self.manager.acquire(name, -1 if self.fixed else self.fd)

    def close(self) -> None:
        """Ends every operation; the file may be closed as soon as this returns."""
        if self.manager.closed:
            return
        active = []
        for op in (self.reader, self.writer, self.poll_read, self.poll_write):
            if op is not None and op.task is not None and op.close():
                active.append(op)
        for subscription in self.others:
            subscription.close()
            if subscription.op is not None:
                active.append(subscription.op)
        if active:
            self.manager.cancels.cancel_fd(self.fd, active, fixed=self.fixed)
        self.retire()

    def abandon(self) -> None:
        """Ends every operation of a descriptor that was closed behind our back, its number given to another
        file: each is cancelled by what it is, not by the number."""
        for op in (self.reader, self.writer, self.poll_read, self.poll_write):
            if op is not None and op.close():
                self.manager.cancels.cancel(op)
        for subscription in self.others:
            subscription.close()
            if subscription.op is not None:
                self.manager.cancels.cancel(subscription.op)
        self.retire()

    def retire(self) -> None:
        """Gives the reusable operations back, now or when the last completion of one has come."""
        for op in (self.reader, self.writer):
            if op is not None:
                if op.task is None:
                    self.manager.release(op)
                else:
                    op.retired = True
        self.reader = self.writer = None
        if self.manager.channels.get(self.key) is self:
            del self.manager.channels[self.key]
        # Whoever still has this channel must not use it: closing the descriptor would no longer find it.
        self.fd = -1


async def wait_ready(manager: Manager, fd: int | Any, attribute: str, name: str, mask: int) -> None:
    """Waits until poll(2) reports one of ``mask`` (or an error or hang-up) for the descriptor.

    Raises:
        trio.BusyResourceError: another task waits for the same.
        trio.ClosedResourceError: the descriptor was closed meanwhile.
        OSError: the descriptor cannot be polled, e.g. is not open.
    """
    if not isinstance(fd, int):
        fd = fd.fileno()
    if fd < 0:
        raise ValueError(f"file descriptor cannot be a negative integer ({fd})")
    channel = Channel.borrow(manager, fd)
    if getattr(channel, attribute) is not None:
        raise trio.BusyResourceError("another task is already reading / writing this fd")
    op = manager.acquire(name, fd)
    setattr(channel, attribute, op)
    try:
        res = await seams.perform_fields(op, (_POLL_ADD, 0, fd, 0, 0, 0, mask, 0, 0, 0))
        if res > 0 and not res & (mask | _ALWAYS):
            res = await _wait_for_change(op, mask)
    finally:
        manager.release(op)
        _forget(manager, fd, attribute, op)
    if res < 0:
        raise OSError(-res, os.strerror(-res))


async def _wait_for_change(op: Operation, mask: int) -> int:
    """Waits for ``mask`` on a descriptor that the kernel reports as half-closed for ever.

    The kernel adds ``POLLRDHUP`` to every poll, so a one-shot wait for writability would end at once as
    long as the peer has shut down its side. A multishot poll reports changes only.
    """
    seen: list[int] = []

    def watch(op: Operation, res: int, flags: int) -> None:
        if res & (mask | _ALWAYS) and not seen:
            seen.append(res)
            op.manager.cancels.cancel(op)

    op.handler = watch
    while True:
        res = await seams.perform_fields(op, (_POLL_ADD, 0, op.fd, 0, 0, _POLL_MULTI, mask, 0, 0, 0))
        if seen:
            return seen[0]
        if res < 0 or res & (mask | _ALWAYS):
            return res


def _forget(manager: Manager, fd: int, attribute: str, op: Operation) -> None:
    channel = manager.channels.get(fd)
    if channel is None or getattr(channel, attribute) is not op:
        return
    setattr(channel, attribute, None)
    channel.forget()
