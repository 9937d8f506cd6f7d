"""Zero-copy sends: the kernel reads the caller's memory until its notification comes.

Memory that the socket does not take by reference is sent by copy.
"""

from __future__ import annotations

import errno
import socket as _stdlib
from typing import TYPE_CHECKING, Any

import trio

from uring import abi
from uring.errors import error_from_result
from uring.kernel.memory import LENGTH_MAX, pin

from .. import seams
from ..core.operation import COPIED
from ..core.restrictions import check

if TYPE_CHECKING:
    from .socket import RingSocket

__all__ = ["send_by_copy", "send_zero_copy"]

_SEND_ZC = int(abi.IORING_OP_SEND_ZC)
_REPORT_USAGE = int(abi.IORING_SEND_ZC_REPORT_USAGE) << 8
_REFUSED = frozenset((errno.EOPNOTSUPP, errno.ENOMEM, errno.EINVAL))


async def send_zero_copy(sock: RingSocket, data: Any) -> bool:
    """Sends all; returns whether the kernel copied any of it.

    Raises:
        OSError: the socket's errno.
        trio.ClosedResourceError: the socket was closed.
    """
    copied = False
    with memoryview(data) as view, view.cast("B") as octets:
        sent = 0
        while sent < len(octets):
            with octets[sent:] as rest:
                res, by_copy = await _send_by_reference(sock, rest)
                if res == -errno.EAGAIN:
                    await sock.owner().until_writable("send_zc")
                    continue
                if res in seams.CANCELLED:
                    continue  # cancelled by other code of the process
                if -res in _REFUSED:
                    await send_by_copy(sock, rest)
                    return True
                if res < 0:
                    check(sock.owner().engine, _SEND_ZC, res)
                    raise error_from_result(res, "send_zc", sock.fileno())
                copied |= by_copy
                sent += res
        if not sent:
            await trio.lowlevel.checkpoint()
    return copied


async def _send_by_reference(sock: RingSocket, data: memoryview) -> tuple[int, bool]:
    await trio.lowlevel.checkpoint_if_cancelled()
    owner = sock.owner()
    op = owner.to_write("send_zc")
    address, length, held = pin(data)
    op.template = owner.engine.ring.template(
        op.user_data,
        _SEND_ZC,
        _REPORT_USAGE,
        owner.fd,
        0,
        address,
        min(length, LENGTH_MAX),
        _stdlib.MSG_DONTWAIT,  # else it goes to a kernel worker where poll(2) reports what does not help
    )
    op.pins = held
    del held  # a traceback would keep it, and with it the caller's buffer from being resized
    res = await seams.transact(op)
    return res, bool(op.flags & COPIED)


async def send_by_copy(sock: RingSocket, data: memoryview) -> None:
    """Sends all, as a copy."""
    sent = 0
    while sent < len(data):
        with data[sent:] as rest:
            sent += await sock.send(rest, _stdlib.MSG_NOSIGNAL)
