"""The state of a Trio socket in the ring run that uses it: its `Fd` there, and how it receives.

Invariant: ``_owner`` is the state for one run and one descriptor number; both are compared at each use,
because a descriptor can be closed without notice and its number given to another file.
"""

from __future__ import annotations

import socket as _stdlib
from typing import TYPE_CHECKING

import trio

from uring.kernel.memory import LENGTH_MAX

from .. import seams
from ..core.engine import Engine, current
from ..core.fd import Fd
from . import urgent_data

if TYPE_CHECKING:
    from ..core.operation import Operation

__all__ = ["AttachedSocket"]


class AttachedSocket(seams.SocketType):
    """A Trio socket that finds its `Fd` in a ring run. `uring_trio.net.socket` has the calls of sockets."""

    __slots__ = ("_idle", "_owner", "_plain", "_stamps", "_streaming")

    _sock: _stdlib.socket

    def __init__(self, sock: _stdlib.socket) -> None:
        super().__init__(sock)  # type: ignore[call-arg]  # of the class behind the public one
        self._plain = sock  # for C, which looks into slots
        self._owner: Fd | None = None
        self._streaming = False  # more data is likely to be there: try without waiting first
        self._stamps = False  # a message of it has filled the error queue, or is about to
        self._idle = False  # no connection was waiting: wait before trying

    # ---- its owner -----------------------------------------------------------------------------------

    def owner(self) -> Fd:
        """This descriptor's operations in the current ring run, for subscriptions on it.

        Raises:
            RuntimeError: outside a ring run.
            trio.ClosedResourceError: the socket is closed.
        """
        current()
        owner = self._attach()
        if owner is None:
            raise trio.ClosedResourceError("this socket is closed")
        return owner

    def receiving_owner(self) -> Fd:
        """As `owner`, for a subscription that takes what arrives: single receives are refused while it is
        the owner's ``receiving``.

        Raises:
            trio.BusyResourceError: another subscription or another task is receiving.
        """
        owner = self.owner()
        self._check_alone(owner)
        op = owner.reader
        if op is not None and op.task is not None:
            raise trio.BusyResourceError("another task is receiving from this socket")
        # The next single receive is set up anew, which checks ``receiving``.
        owner.receive_size = None
        self._streaming = False
        return owner

    def _end_operations(self) -> None:
        """Ends the operations in flight, which would keep the file open, and the waits for readiness."""
        self._owner = None
        fd = self._sock.fileno()
        engine = seams.manager_here()
        if fd >= 0 and isinstance(engine, Engine):
            trio.lowlevel.notify_closing(fd)

    def _attach(self) -> Fd | None:
        """The `Fd` of this descriptor in the current run; None where Trio's own code must do."""
        engine = seams.current_manager()
        fd = self._sock.fileno()
        owner = self._owner
        if owner is not None and owner.engine is engine and owner.fd == fd:
            return owner
        self._owner = None
        if not isinstance(engine, Engine) or type(self._sock) is not _stdlib.socket or fd < 0:
            return None
        self._owner = Fd.open(engine, fd)
        return self._owner

    # ---- how it receives -----------------------------------------------------------------------------

    def _check_alone(self, owner: Fd) -> None:
        if owner.receiving is not None:
            raise trio.BusyResourceError("another task or subscription is receiving from this socket")

    def _may_receive_in_kernel(self, owner: Fd) -> bool:
        """Whether this is a stream and nothing else."""
        if owner.in_kernel is None:
            try:
                owner.in_kernel = not (self._stamps or owner.engine.keeps_urgent) and urgent_data.has_no_more(
                    self._sock
                )
            except OSError:  # it is closed: the receive reports that
                return False
        return owner.in_kernel

    def _prepare_receive(self, owner: Fd, buflen: int) -> Operation:
        if owner.engine.closed:
            raise seams.OtherRun
        self._check_alone(owner)
        op = owner.to_read("recv")
        owner.receive = owner.engine.receive_from(op, owner.fd, min(buflen, LENGTH_MAX))
        owner.receive_size = buflen
        return op

    def prepared(self, buflen: int) -> Fd | None:
        """This descriptor's `Fd` with its reader set up to receive in the kernel; None: it may not."""
        owner = self._attach()
        if owner is None or not self._may_receive_in_kernel(owner) or owner.is_read():
            return None
        self._prepare_receive(owner, buflen)
        return owner

    def _take_buffer(self, owner: Fd, op: Operation, res: int) -> bytes:
        """Copies what arrived out of the buffer that the kernel chose, and gives the buffer back."""
        if not op.flags & 1:
            return b""
        bid = op.flags >> 16
        data = owner.views[bid][:res].tobytes()
        owner.give_back(bid)
        return data
