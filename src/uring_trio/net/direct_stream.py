"""Direct descriptors: sockets in a table of the ring, which no other part of the process can name.

A stream over a slot costs no descriptor of the process and no socket object, and is out of reach of ``fork``
and ``exec``. The price: only the ring can use it. `DirectStream.install` makes an ordinary stream of it.
`uring_trio.net.direct_listener` has what accepts into slots.

Invariants
  - A slot is emptied when its owner closes, after the operations on it were cancelled by slot; so a number is
    not used again before the old connection has ended.
"""

from __future__ import annotations

import errno
import socket as _stdlib
from time import perf_counter
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import enable_ki_protection

from uring import abi, ops
from uring.errors import error_from_result
from uring.kernel.memory import LENGTH_MAX, pin, pin_writable

from .. import seams
from ..core.buffers import RECEIVE_GROUP, SCARCE
from ..core.fd import Fd
from ..core.perform import check_timeout, perform
from ..core.restrictions import check
from .receiver import ByteReceiver, stream_error
from .slots import Slots
from .socket import adopt
from .stream import UringStream

if TYPE_CHECKING:
    from ..core.engine import Engine
    from ..core.operation import Operation

__all__ = ["DirectStream"]

_RECV = int(abi.IORING_OP_RECV)
_SEND = int(abi.IORING_OP_SEND)
_FIXED = int(abi.IOSQE_FIXED_FILE)
_SELECT = int(abi.IOSQE_BUFFER_SELECT)
_ENOBUFS = -errno.ENOBUFS
_DEFAULT_SIZE = 65536


class DirectStream(ByteReceiver, trio.abc.HalfCloseableStream):
    """A connection in a slot, as `DirectListener` accepts it.

    Everything goes through the ring: a send waits for its completion, where `UringStream` sends at once
    what the socket takes. Methods that this has in common with `UringStream` behave as there, also in
    their errors and when cancelled.
    """

    __slots__ = ("_ending", "_eof", "_family", "_owner", "_sending")

    def __init__(self, engine: Engine, slot: int, family: int) -> None:
        super().__init__()
        self._owner: Fd | None = Fd.open(engine, slot, fixed=True)
        self._family = family
        self._sending = False
        self._ending = False  # a kernel worker has the slot's number, and may look it up late
        self._eof = False

    @property
    def slot(self) -> int:
        """Its place in the ring's table; -1 once it is closed."""
        return -1 if self._owner is None else self._owner.fd

    @enable_ki_protection
    async def receive_some(self, max_bytes: int | None = None, *, timeout: float | None = None) -> bytes:
        """See `UringStream.receive_some`.

        Args:
            max_bytes: how many bytes at most; None: 64 KiB.
            timeout: seconds to wait, held by the kernel; None: no limit.
        """
        if max_bytes is None:
            max_bytes = _DEFAULT_SIZE
        elif max_bytes < 1:
            raise ValueError(f"max_bytes is at least 1, not {max_bytes}")
        check_timeout(timeout)
        if self._unread is not None:
            return await self._receive_unread(max_bytes, timeout)
        attempts = 2
        while attempts:
            owner = self._open()
            op = owner.reader
            if op is None or owner.receive_size != max_bytes:
                op = self._reader(owner)
                flags = _SELECT | _FIXED
                length = min(max_bytes, LENGTH_MAX)
                op.template = owner.engine.ring.template(
                    op.user_data, _RECV, flags, owner.fd, 0, 0, length, 0, RECEIVE_GROUP
                )
                owner.receive_size = max_bytes
            res = await seams.transact_within(op, timeout)
            if res > 0:
                bid = op.flags >> 16
                data = owner.views[bid][:res].tobytes()
                owner.give_back(bid)
                return data
            if res == 0:
                return b""
            if res == _ENOBUFS:
                owner.engine.more_buffers()
                attempts -= 1
            elif res not in seams.CANCELLED:  # else other code of the process cancelled it
                raise stream_error(error_from_result(res, "recv"))
        memory = bytearray(min(max_bytes, SCARCE))
        return bytes(memory[: await self._receive(memory, timeout)])

    @enable_ki_protection
    async def receive_into(self, buffer: Any, *, timeout: float | None = None) -> int:
        """See `UringStream.receive_into`.

        Args:
            buffer: a writable buffer.
            timeout: seconds to wait, held by the kernel; None: no limit.
        """
        check_timeout(timeout)
        with memoryview(buffer) as view, view.cast("B") as octets:
            if self._unread is not None:
                data = await self._receive_unread(len(octets), timeout)
                octets[: len(data)] = data
                return len(data)
            return await self._receive(octets, timeout)

    @enable_ki_protection
    async def send_all(self, data: bytes | bytearray | memoryview, *, timeout: float | None = None) -> None:
        """See `UringStream.send_all`.

        Args:
            data: a buffer of bytes.
            timeout: seconds for all of it, held by the kernel; None: no limit.
        """
        check_timeout(timeout)
        until = None if timeout is None else perf_counter() + timeout
        self._start_sending()
        try:
            with memoryview(data) as view, view.cast("B") as octets:
                if not octets:
                    await trio.lowlevel.checkpoint()
                sent = 0
                while sent < len(octets):
                    with octets[sent:] as rest:
                        left = None if until is None else max(0.0, until - perf_counter())
                        sent += await self._send(rest, left)
        finally:
            self._sending = False

    @enable_ki_protection
    async def wait_send_all_might_not_block(self) -> None:
        """Waits until the socket takes some data; see `UringStream.wait_send_all_might_not_block`."""
        self._start_sending()
        try:
            await self._open().until_writable("wait_writable")
        except OSError as exc:
            raise stream_error(exc) from exc
        finally:
            self._sending = False

    @enable_ki_protection
    async def send_eof(self) -> None:
        """Ends this side's data; see `UringStream.send_eof`."""
        if self._eof:
            self._open()
            await trio.lowlevel.checkpoint()
            return
        self._start_sending()
        owner = self._open()
        slot = owner.fd
        self._ending = True
        try:
            await perform(ops.shutdown(slot, _stdlib.SHUT_WR, fixed_file=True))
            self._eof = True
        except OSError as exc:
            raise stream_error(exc) from exc
        finally:
            self._sending = self._ending = False
            if self._owner is None:
                Slots.of(owner.engine).empty(slot)

    @enable_ki_protection
    async def install(self) -> UringStream:
        """Makes an ordinary stream of it, with a descriptor and a socket: for socket options, the peer's
        address, `UringStream.send_file` and the like. This one is closed then.

        Cancelled, it has done nothing, or ends first and returns the stream.

        Raises:
            trio.BusyResourceError: a task is using it.
            trio.ClosedResourceError: it is closed.
            OSError: ``EMFILE``; it stays open.
        """
        owner = self._open()
        busy = (owner.reader, owner.writer)
        if self._sending or owner.receiving is not None or any(op and op.task is not None for op in busy):
            raise trio.BusyResourceError("another task is using this stream")
        fd = await perform(ops.fixed_fd_install(owner.fd))
        stream = UringStream(adopt(fd, self._family, _stdlib.SOCK_STREAM))
        stream._unread, self._unread = self._unread, None
        self.close()
        return stream

    def close(self) -> None:
        """Closes the connection; tasks that wait on it get `trio.ClosedResourceError`. Idempotent."""
        owner, self._owner = self._owner, None
        if owner is not None:
            slot, engine = owner.fd, owner.engine
            owner.close()
            if not self._ending:  # else `send_eof` empties the slot
                Slots.of(engine).empty(slot)

    async def aclose(self) -> None:
        """As `close`, and a checkpoint."""
        self.close()
        await trio.lowlevel.checkpoint()

    def _receiving_owner(self) -> Fd:
        """For a subscription that takes what arrives; see `RingSocket.receiving_owner`."""
        owner = self._open()
        if owner.receiving is not None:
            raise trio.BusyResourceError("another subscription is receiving from this stream")
        if owner.reader is not None and owner.reader.task is not None:
            raise trio.BusyResourceError("another task is receiving from this stream")
        owner.receive_size = None
        return owner

    # ---- inside --------------------------------------------------------------------------------------

    def _open(self) -> Fd:
        if self._owner is None:
            raise trio.ClosedResourceError("this stream is closed")
        return self._owner

    def _check_open(self) -> None:
        self._open()

    def _start_sending(self) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is currently sending data on this stream")
        self._open()
        if self._eof:
            raise trio.ClosedResourceError("can't send data after sending EOF")
        self._sending = True

    def _reader(self, owner: Fd) -> Operation:
        if owner.receiving is not None:
            raise trio.BusyResourceError("a subscription is receiving from this stream")
        return owner.to_read("recv")

    async def _receive(self, memory: Any, timeout: float | None) -> int:
        while True:
            await trio.lowlevel.checkpoint_if_cancelled()
            owner = self._open()
            op = self._reader(owner)
            address, length, held = pin_writable(memory)
            op.template = owner.engine.ring.template(
                op.user_data, _RECV, _FIXED, owner.fd, 0, address, min(length, LENGTH_MAX)
            )
            op.pins = held
            del held  # a traceback would keep it, and with it the caller's buffer from being resized
            res = await seams.transact_within(op, timeout)
            if res >= 0:
                return res
            if res not in seams.CANCELLED:
                raise stream_error(error_from_result(res, "recv"))

    async def _send(self, data: memoryview, timeout: float | None) -> int:
        """Sends what the socket takes at once, and waits where that is nothing: a send that waits in the
        kernel goes to a kernel worker where poll(2) reports a state that does not help."""
        until = None if timeout is None else perf_counter() + timeout
        while True:
            await trio.lowlevel.checkpoint_if_cancelled()
            owner = self._open()
            op = owner.to_write("send")
            address, length, held = pin(data)
            op.template = owner.engine.ring.template(
                op.user_data,
                _SEND,
                _FIXED,
                owner.fd,
                0,
                address,
                min(length, LENGTH_MAX),
                _stdlib.MSG_DONTWAIT,
            )
            op.pins = held
            del held
            res = await seams.transact(op)
            if res >= 0:
                return res
            if res == -errno.EAGAIN:
                left = None if until is None else max(0.0, until - perf_counter())
                try:
                    await self._open().until_writable("send", left)
                except OSError as exc:
                    raise stream_error(exc) from exc
            elif res not in seams.CANCELLED:
                check(owner.engine, _SEND, res)
                raise stream_error(error_from_result(res, "send"))

    def __repr__(self) -> str:
        return f"<DirectStream in slot {self.slot}>" if self._owner is not None else "<DirectStream, closed>"
