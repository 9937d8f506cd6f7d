"""A listener and the manager that starts listeners; `uring.machines.listener_setup` has their set-up."""

from __future__ import annotations

import socket
from socket import SOCK_CLOEXEC
from typing import TYPE_CHECKING

from ..bounds import check_int
from ..contexts.packing import for_fd
from ..errors import ListenerNotReady
from .dispatch import CompletionOwner
from .listener_setup import (
    OP_BIND,
    OP_SOCKET,
    Action,
    Event,
    ListenerHandler,
    ListenerState,
    ListenerStep,
    decode_listener_cqe,
    prepare_listener_bind,
    prepare_listener_listen,
    prepare_listener_socket,
    set_listener_ready,
    setup_of,
    state_of,
)

if TYPE_CHECKING:
    from types import TracebackType

    from ..contexts.context import ExtSQE
    from ..contexts.pools import ContextPools
    from ..contexts.views import Completion
    from ..kernel.addresses import Address
    from .multishot import MultishotMethods, MultishotSubscription
    from .steps import MultishotHandler

__all__ = [
    "ListenerHandler",
    "ListenerManager",
    "ListenerOp",
    "ListenerState",
    "ListenerStep",
    "decode_listener_cqe",
    "prepare_listener_bind",
    "prepare_listener_listen",
    "prepare_listener_socket",
    "set_listener_ready",
]


class ListenerOp:
    """A listener being set up, or ready: its descriptor, accepting, closing.

    Args:
        ring: the ring.
        ext: the slot of the set-up.
    """

    def __init__(self, ring: MultishotMethods, ext: ExtSQE) -> None:
        self._ring = ring
        self._ext = ext
        self._setup = setup_of(ext)

    @property
    def ext(self) -> ExtSQE:
        """The slot, for the ``prepare_…`` functions and `uring.Ring.submit_extended`."""
        return self._ext

    @property
    def state(self) -> ListenerState:
        """The state of the set-up."""
        return self._setup.state

    @property
    def fd(self) -> int:
        """The socket's descriptor; -1 before it exists, and after the close."""
        return self._setup.fd

    def set_fd(self, fd: int) -> None:
        """Replaces the descriptor that `decode_listener_cqe` stored; the caller then owns the one before.

        Args:
            fd: the descriptor, from 0 on.

        Raises:
            TypeError, ValueError: no descriptor.
            ListenerNotReady: the listener is closed.
        """
        check_int("a descriptor", fd, 0, (1 << 31) - 1)
        if self.state in (ListenerState.CLOSING, ListenerState.CLOSED):
            raise ListenerNotReady("the listener is closed")
        self._setup.fd = fd

    def accept_multishot(
        self,
        handler: MultishotHandler,
        *,
        flags: int = SOCK_CLOEXEC,
        poll_first: bool = False,
        sqe_flags: int = 0,
        personality: int = 0,
    ) -> MultishotSubscription:
        """Accepts connections until cancelled.

        Args:
            handler: is called with each connection, and at the end.
            flags: ``SOCK_CLOEXEC`` and ``SOCK_NONBLOCK`` for the new sockets.
            poll_first: waits for readiness before the first attempt (Linux 6.10).
            sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
            personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

        Returns:
            The subscription.

        Raises:
            ListenerNotReady: `set_listener_ready` was not called, or the listener is closed.
        """
        if self.state is not ListenerState.READY or self.fd < 0:
            raise ListenerNotReady(f"the listener cannot accept: its state is {self.state.name}")
        return self._ring.accept_multishot(
            for_fd(self.fd),
            handler,
            flags=flags,
            poll_first=poll_first,
            sqe_flags=sqe_flags,
            personality=personality,
        )

    def close(self) -> None:
        """Closes the descriptor at once, and gives the slot back unless one of its completions is pending.

        If one is, the state is CLOSING: take that completion, decode it or not, and close again. A socket
        that it brought is closed as well. More closes do nothing. Cancel other operations on the listener,
        such as an accept, before.
        """
        pending = self._pending()
        if not pending:
            self._setup.settle(self._ext)
        if pending:
            # The queued request names the descriptor by its number, which another file may get.
            self._ring.flush()
        action = self._setup.advance(Event.CLOSE_PENDING if pending else Event.CLOSE)
        try:
            if Action.CLOSE_FD in action or action is Action.RELEASE_SLOT:
                self._setup.close_fd()
        finally:
            # A ring that could not be drained never gives the slot back.
            if Action.RELEASE_SLOT in action and not self._ext.in_flight:
                self._ext.pool.put_extended(self._ext)

    def _pending(self) -> bool:
        """Whether a request was submitted whose completion was not decoded."""
        if self._ring.closed:
            return False
        # A slot keeps its request until the completion is taken. Without one the completion was taken, and
        # may still be decoded, but not after the second close.
        ext, closing = self._ext, self.state is ListenerState.CLOSING
        return ext.in_flight or (not closing and self._setup.awaited and ext.op is None)

    def __enter__(self) -> ListenerOp:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes it, and waits for a pending completion of its set-up."""
        self.close()
        if self.state is ListenerState.CLOSING:
            self._ring._finish(self._ext.context)
            self.close()

    def __repr__(self) -> str:
        return f"<ListenerOp {self.state.name} fd={self.fd}>"


class ListenerManager(CompletionOwner):
    """Starts listeners on a ring, with slots of a pool.

    Drive each set-up with the functions of this module, or give its completions to `uring.dispatch`: the
    manager then calls the handler and submits the next request.

    Args:
        ring: the ring.
        pool: the pool of its slots, such as the ring's ``pools``.
    """

    def __init__(self, ring: MultishotMethods, pool: ContextPools) -> None:
        self._ring = ring
        self._pool = pool

    @property
    def ring(self) -> MultishotMethods:
        """The ring of its listeners."""
        return self._ring

    @property
    def pool(self) -> ContextPools:
        """The pool of its slots."""
        return self._pool

    def listen_tcp4(
        self, address: tuple[str, int], backlog: int = 128, handler: ListenerHandler | None = None
    ) -> ListenerOp:
        """Submits the socket of a TCP listener over IPv4.

        Args:
            address: (host, port); the host is numeric.
            backlog: how many connections may wait to be accepted, 0 to 2**31 - 1.
            handler: is called at each step; None does nothing.

        Returns:
            The listener; it accepts once its set-up is done.

        Raises:
            PoolExhausted: no slot, or no room in the queue.
            TypeError, ValueError, OverflowError: ``address`` or ``backlog`` is invalid.
        """
        return self._listen(socket.AF_INET, socket.IPPROTO_TCP, address, backlog, handler)

    def listen_tcp6(
        self,
        address: tuple[str, int] | tuple[str, int, int] | tuple[str, int, int, int],
        backlog: int = 128,
        handler: ListenerHandler | None = None,
    ) -> ListenerOp:
        """Submits the socket of a TCP listener over IPv6.

        Args:
            address: (host, port[, flowinfo[, scope_id]]); the host is numeric.
            backlog: how many connections may wait to be accepted, 0 to 2**31 - 1.
            handler: is called at each step; None does nothing.

        Returns:
            The listener; it accepts once its set-up is done.

        Raises:
            PoolExhausted: no slot, or no room in the queue.
            TypeError, ValueError, OverflowError: ``address`` or ``backlog`` is invalid.
        """
        return self._listen(socket.AF_INET6, socket.IPPROTO_TCP, address, backlog, handler)

    def listen_unix(
        self, path: str | bytes, backlog: int = 128, handler: ListenerHandler | None = None
    ) -> ListenerOp:
        """Submits the socket of a Unix stream listener.

        Args:
            path: the path, or bytes with a leading NUL of the abstract namespace.
            backlog: how many connections may wait to be accepted, 0 to 2**31 - 1.
            handler: is called at each step; None does nothing.

        Returns:
            The listener; it accepts once its set-up is done.

        Raises:
            PoolExhausted: no slot, or no room in the queue.
            TypeError, ValueError: ``path`` or ``backlog`` is invalid.
        """
        return self._listen(socket.AF_UNIX, 0, path, backlog, handler)

    def handle_cqe(self, cqe: Completion) -> bool:
        """Does the next step of the set-up that a completion belongs to.

        Args:
            cqe: the completion, of any of the ring's ``wait`` functions.

        Returns:
            False when it belongs to none.

        Raises:
            PoolExhausted: no room in the queue; the next request is prepared, submit it again with
                `uring.Ring.submit_extended`.
            Exception: what the handler raises.
        """
        step = decode_listener_cqe(cqe)
        if step is None:
            return False
        if step.state in (ListenerState.CLOSING, ListenerState.CLOSED):
            return True
        if step.error is not None:
            step.handler.on_error(step.op, step.error)
        elif step.op == OP_SOCKET:
            if (
                step.handler.on_socket_created(step.fd) is not False
                and state_of(step) is ListenerState.SOCKET
            ):
                prepare_listener_bind(step.ext, setup_of(step.ext).fd)
                self._ring.submit_extended(step.ext.context)
        elif step.op == OP_BIND:
            if step.handler.on_bound() is not False and state_of(step) is ListenerState.BIND:
                prepare_listener_listen(step.ext, setup_of(step.ext).fd)
                self._ring.submit_extended(step.ext.context)
        else:
            set_listener_ready(step.ext)
            step.handler.on_listening()
        return True

    def _listen(
        self, family: int, protocol: int, address: Address, backlog: int, handler: ListenerHandler | None
    ) -> ListenerOp:
        ext = self._pool.extended()
        try:
            kind = int(socket.SOCK_STREAM)
            prepare_listener_socket(ext, int(family), kind, int(protocol), address, backlog, handler)
            ext.sidecar[0] = self
            listener = ListenerOp(self._ring, ext)
            self._ring.submit_extended(ext.context)
        except BaseException:
            self._pool.put_extended(ext)
            raise
        return listener
