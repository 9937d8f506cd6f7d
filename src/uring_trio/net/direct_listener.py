"""Listeners whose sockets are direct descriptors, see `uring_trio.net.direct_stream`.

A listener is set up by operations one after the other: socket, options, bind, listen. They are not linked: a
kernel that is short of memory takes a part of a chain, and the rest starts without waiting for that part.
Accepted sockets go into free slots of the table.
"""

from __future__ import annotations

import errno
import socket as _stdlib
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import enable_ki_protection

from uring import abi, ops
from uring.errors import error_from_result

from .. import seams
from ..core.engine import Engine, current
from ..core.fd import Fd
from ..core.perform import perform
from ..core.restrictions import check
from ..multishot.subscription import Subscription
from .bind_errors import advise
from .connections import CONNECTION_LOST, Connections
from .direct_stream import DirectStream
from .slots import Slots

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uring.kernel.op import Op

__all__ = ["DirectListener", "open_direct_listener"]

_ACCEPT = int(abi.IORING_OP_ACCEPT)
_FIXED = int(abi.IOSQE_FIXED_FILE)
_ANY_SLOT = -1


class DirectListener(trio.abc.Listener[DirectStream]):
    """A listening socket in a slot, and what it accepts in others.

    The kernel accepts before it looks for a slot. Where all are taken (`RingOptions.direct_slots`) it closes
    the connection, which is logged, or raised by `accept`.

    `listen_tcp` starts one with ``direct=True``.

    Attributes:
        address: the address it listens on, as ``getsockname`` gives it.
    """

    def __init__(self, engine: Engine, slot: int, family: int, address: Any) -> None:
        self._owner: Fd | None = Fd.open(engine, slot, fixed=True)
        self._family = family
        self.address: Any = address

    @enable_ki_protection
    async def accept(self) -> DirectStream:
        """Waits for one connection; errors and cancellation as for `UringListener.accept`. ``ENFILE``: every
        slot was taken, and the connection was closed.
        """
        while True:
            owner = self._open()
            op = owner.reader
            if op is None:
                op = owner.reader = owner.operation("accept")
                fields = (_ACCEPT, _FIXED, owner.fd, 0, 0, 0, 0, 0, _ANY_SLOT)
                op.template = owner.engine.ring.template(op.user_data, *fields)
            slot = await seams.transact(op)
            if slot >= 0:
                return self._make(slot)
            if -slot not in CONNECTION_LOST and slot not in seams.CANCELLED:
                check(owner.engine, _ACCEPT, slot)
                raise error_from_result(slot, "accept")

    def connections(self) -> Connections[DirectStream]:
        """Connections as they come, each a `DirectStream`; see `UringListener.connections`."""
        return Connections(self._accepts, self._make)

    def _accepts(self) -> tuple[Subscription, None]:
        owner = self._open()
        slots = Slots.of(owner.engine)
        fields = ops.accept_direct_multishot(owner.fd, fixed_file=True).fields
        return Subscription(
            owner, "accept_direct_multishot", fields, lambda slot, flags: slots.empty(slot)
        ), None

    def close(self) -> None:
        """Closes the listener; tasks that accept get `trio.ClosedResourceError`. Idempotent."""
        owner, self._owner = self._owner, None
        if owner is not None:
            slot, engine = owner.fd, owner.engine
            owner.close()
            Slots.of(engine).empty(slot)

    async def aclose(self) -> None:
        """As `close`, and a checkpoint."""
        self.close()
        await trio.lowlevel.checkpoint()

    def _open(self) -> Fd:
        if self._owner is None:
            raise trio.ClosedResourceError("this listener is closed")
        return self._owner

    def _make(self, slot: int) -> DirectStream:
        return DirectStream(current(), slot, self._family)


async def open_direct_listener(
    family: int, address: Any, backlog: int, options: list[tuple[int, int, int]]
) -> DirectListener:
    """Socket, options (level, name, value), bind and listen.

    Raises:
        OSError: the message names the stage and the address.
    """
    engine = current()
    slots = Slots.of(engine)
    slot = slots.reserve()
    steps = [
        ops.socket_direct(family, _stdlib.SOCK_STREAM, file_index=slot),
        *(ops.setsockopt(slot, *option, fixed_file=True) for option in options),
        ops.bind(slot, family, address, fixed_file=True),
        ops.listen(slot, backlog, fixed_file=True),
        ops.fixed_fd_install(slot),  # only a descriptor can be asked for its address
    ]
    try:
        fd = await _run(engine, steps, address)
    except BaseException:
        slots.empty(slot)
        raise
    with _stdlib.socket(fileno=fd) as sock:
        return DirectListener(engine, slot, family, sock.getsockname())


async def _run(engine: Engine, steps: Sequence[Op], address: Any) -> int:
    """Runs operations one after the other; returns the result of the last one."""
    result = 0
    for op in steps:
        result = await _result(op)
        if result < 0:
            check(engine, op.fields[0], result)
            raise advise(error_from_result(result, op.name.removesuffix("_direct"), None, address), address)
    return result


async def _result(op: Op) -> int:
    try:
        result = await perform(op)
    except OSError as exc:
        return -(exc.errno or errno.EIO)
    return result if isinstance(result, int) else 0
