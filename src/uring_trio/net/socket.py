"""Trio's sockets on the ring.

Every socket that Trio makes is a `RingSocket` once a ring run was started in this process. In a ring run
its waiting calls are ring operations; anywhere else, and for the rare forms named below, Trio's own code
runs (in a ring run that code waits by ``POLL_ADD``).

  - Sends try once without blocking, as Trio does, then yield: the bytes are in the kernel before the
    first yield, so their order with ``shutdown`` and with other senders holds. The ring takes over when
    the socket's buffer is full.
  - Receives take memory when data arrives, from the run's provided buffers; a parked ``recv`` holds none.
    Where the buffers are used up it goes on with memory of its own.
  - Nothing is read ahead: ``is_readable``, ``MSG_PEEK``, ``detach`` and ``dup`` see what they should.
  - Calls with flags, sizes of zero and families without an address codec take Trio's path.

Invariant: ``_channel`` is the state for one run and one descriptor number; both are compared at each use,
because a descriptor can be closed behind our back and its number given to another file.
"""

from __future__ import annotations

import errno
import os
import socket as _stdlib
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import checkpoint_if_cancelled, enable_ki_protection

from uring import abi
from uring.errors import error_from_result
from uring.kernel.addresses import SOCKADDR_SIZE, decode_address, encode_address
from uring.kernel.memory import pin, pin_writable
from uring.kernel.messages import Message, decode_control, encode_control
from uring.ops.socket import PeerAddress, SocketAddress

from .. import seams
from ..core.fd import Channel
from ..core.manager import RECEIVE_GROUP, Manager, current

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..core.operation import Operation

__all__ = ["RingSocket"]

_RECV = int(abi.IORING_OP_RECV)
_SEND = int(abi.IORING_OP_SEND)
_RECVMSG = int(abi.IORING_OP_RECVMSG)
_SENDMSG = int(abi.IORING_OP_SENDMSG)
_ACCEPT = int(abi.IORING_OP_ACCEPT)
_CONNECT = int(abi.IORING_OP_CONNECT)
_SELECT = int(abi.IOSQE_BUFFER_SELECT)
_NONEMPTY = int(abi.IORING_CQE_F_SOCK_NONEMPTY)
_LENGTH_MAX = 0x7FFF_F000
_ENOBUFS = -errno.ENOBUFS
_IP_MESSAGE_MAX = 65535
_ADDRESSABLE = frozenset(map(int, (_stdlib.AF_INET, _stdlib.AF_INET6, _stdlib.AF_UNIX)))
_STREAMING = 16384
"""After a receive of this size more of the kind is likely: the next one tries without waiting first, and
waits for readiness, which spares the copy out of a provided buffer."""

# The plain numbers: making a member of an enumeration for each look costs as much as a system call.
_family = _stdlib.SocketType.family.__get__
_type = _stdlib.SocketType.type.__get__
_proto = _stdlib.SocketType.proto.__get__


class RingSocket(seams.SocketType):
    """A Trio socket; see `trio.socket.SocketType` for what its methods do."""

    _sock: _stdlib.socket
    _channel: Channel | None = None
    _receive_size = 0  # what the reader's entry is set up to receive into provided buffers; 0: something else
    _streaming = False  # more data or connections are likely to be there: try without waiting first
    _backlogged = False
    _peer: PeerAddress | None = None
    _message: Message | None = None

    # ---- receiving -----------------------------------------------------------------------------------

    @enable_ki_protection
    async def recv(self, buflen: int, flags: int = 0, /) -> bytes:
        channel = self._channel
        if (
            channel is None
            or channel.fd != self._sock.fileno()
            or self._streaming
            or flags
            or buflen.__class__ is not int
        ):
            return await self._recv_slowly(buflen, flags)
        op = channel.reader
        try:
            if op is None or self._receive_size != buflen:
                if buflen <= 0:
                    return await self._recv_slowly(buflen, flags)
                if self._may_be_cut(channel, buflen):
                    memory = bytearray(buflen)
                    return bytes(memory[: await self._receive(channel, memory)])
                op = self._prepare_receive(channel, buflen)
            res = await seams.transact(op)
        except seams.OtherRun:
            return await self._recv_slowly(buflen, flags)
        if res > 0:
            bid = op.flags >> 16
            data = channel.views[bid][:res].tobytes()
            channel.give_back(bid)
            if res >= _STREAMING:
                self._streaming = True
            return data
        if res == 0:
            return b""
        if res == _ENOBUFS:
            return await self._recv_exhausted(channel, buflen)
        raise error_from_result(res, "recv", channel.fd)

    @enable_ki_protection
    async def recv_within(self, buflen: int, timeout: float) -> bytes:
        """As `recv`, at most ``timeout`` seconds, held by the kernel.

        Raises:
            trio.TooSlowError: nothing arrived in that time; what comes later stays in the socket.
        """
        channel = self.channel()
        op = channel.reader
        if op is None or self._receive_size != buflen:
            op = self._prepare_receive(channel, buflen)
        res = await seams.transact_within(op, timeout)
        if res == _ENOBUFS:
            _check_open(channel)
            channel.manager.more_buffers()
            memory = bytearray(min(buflen, channel.manager.options.buffer_size))
            return bytes(memory[: await self._receive(channel, memory, timeout)])
        if res < 0:
            raise error_from_result(res, "recv", channel.fd)
        return self._take_buffer(channel, op, res)

    @enable_ki_protection
    async def recv_into(self, /, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        channel = self._attach()
        if channel is None or flags:
            return await super().recv_into(buffer, nbytes, flags)
        with memoryview(buffer) as view, view.cast("B") as octets:
            if nbytes < 0 or nbytes > len(octets) or octets.readonly or not len(octets):
                return await super().recv_into(buffer, nbytes)
            with octets[: nbytes or None] as wanted:
                return await self._receive(channel, wanted)

    @enable_ki_protection
    async def recv_into_within(self, buffer: Any, timeout: float) -> int:
        """As `recv_into`, at most ``timeout`` seconds; see `recv_within`."""
        channel = self.channel()
        with memoryview(buffer) as view, view.cast("B") as octets:
            if not len(octets):
                return await super().recv_into(octets)
            return await self._receive(channel, octets, timeout)

    @enable_ki_protection
    async def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        channel = self._channel
        alone = channel is None or channel.receiving is None
        if self._streaming and alone and not flags and bufsize.__class__ is int:
            try:
                return await seams.inline(self._sock.recvfrom, bufsize)
            except BlockingIOError:
                self._streaming = False
        data, _, _, address = await self._recvmsg(bufsize, 0, flags, super().recvmsg)
        # A datagram seldom comes alone, and waiting in the ring costs more than one that is there.
        self._streaming = self._channel is not None and _type(self._sock) == _stdlib.SOCK_DGRAM
        return data, address

    @enable_ki_protection
    async def recvmsg(
        self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
        return await self._recvmsg(bufsize, ancbufsize, flags, super().recvmsg)

    @enable_ki_protection
    async def recvmsg_within(
        self, bufsize: int, ancbufsize: int, timeout: float
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
        """As `recvmsg`, at most ``timeout`` seconds; see `recv_within`."""
        self.channel()
        return await self._recvmsg(bufsize, ancbufsize, 0, super().recvmsg, timeout)

    @enable_ki_protection
    async def recvfrom_into(self, /, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        with memoryview(buffer) as view, view.cast("B") as octets:
            if nbytes < 0 or nbytes > len(octets) or flags:
                return await super().recvfrom_into(buffer, nbytes, flags)
            with octets[: nbytes or None] as wanted:
                received, _, _, address = await self.recvmsg_into([wanted])
                return received, address

    @enable_ki_protection
    async def recvmsg_into(
        self, buffers: Iterable[Any], ancbufsize: int = 0, flags: int = 0, /
    ) -> tuple[int, list[tuple[int, int, bytes]], int, Any]:
        buffers = list(buffers)
        channel = self._attach()
        if (
            channel is None
            or flags
            or not 0 <= ancbufsize < 1 << 31
            or _family(self._sock) not in _ADDRESSABLE
        ):
            return await super().recvmsg_into(buffers, ancbufsize, flags)
        return await self._recvmsg_into(channel, buffers, ancbufsize)

    async def _recvmsg_into(
        self, channel: Channel, buffers: list[Any], ancbufsize: int, timeout: float | None = None
    ) -> tuple[int, list[tuple[int, int, bytes]], int, Any]:
        await checkpoint_if_cancelled()
        message = Message(buffers, writable=True, name_size=SOCKADDR_SIZE, control_size=ancbufsize)
        op = self._reader(channel)
        op.name = "recvmsg"
        op.template = channel.manager.ring.template(
            op.user_data, _RECVMSG, 0, channel.fd, 0, message.address, 1
        )
        op.pins = message
        res = await self._finish(op, "recvmsg", timeout)
        return res, decode_control(message.control), message.flags, decode_address(message.name)

    async def _recv_slowly(self, buflen: int, flags: int) -> bytes:
        fresh = self._channel is None
        channel = self._attach()
        if channel is None or flags or buflen.__class__ is not int or buflen <= 0:
            return await super().recv(buflen, flags)
        if fresh:
            # Whoever connects speaks first, mostly, and has done so by now.
            try:
                return await seams.inline(self._sock.recv, buflen)
            except BlockingIOError:
                pass
        elif self._streaming and channel.receiving is None:
            self._streaming = False
            try:
                data = await seams.inline(self._sock.recv, buflen)
            except BlockingIOError:
                found = await self._recv_when_ready(channel, buflen)
                if found is None:
                    return await self.recv(buflen)
                data = found
            self._streaming = len(data) >= _STREAMING
            return data
        self._streaming = False
        return await self.recv(buflen)

    async def _recv_when_ready(self, channel: Channel, buflen: int) -> bytes | None:
        """Waits until there is something to receive, then takes it; None if nothing was there after all.

        Nobody else receives meanwhile.
        """
        self._reader(channel)
        channel.receiving = self
        try:
            await channel.manager.wait_readable(channel.fd)
            return self._sock.recv(buflen)
        except BlockingIOError:
            return None
        finally:
            channel.receiving = None

    async def _recv_exhausted(self, channel: Channel, buflen: int) -> bytes:
        """More arrived in one tick than there are buffers; they are back by now. Once more, then with
        memory of our own."""
        _check_open(channel)
        channel.manager.more_buffers()
        op = self._prepare_receive(channel, buflen)
        res = await seams.transact(op)
        if res >= 0:
            return self._take_buffer(channel, op, res)
        if res != _ENOBUFS:
            raise error_from_result(res, "recv", channel.fd)
        _check_open(channel)
        memory = bytearray(min(buflen, channel.manager.options.buffer_size))
        return bytes(memory[: await self._receive(channel, memory)])

    def _prepare_receive(self, channel: Channel, buflen: int) -> Operation:
        if channel.manager.closed:
            raise seams.OtherRun
        op = self._reader(channel)
        op.name = "recv"
        op.template = channel.manager.ring.template(
            op.user_data, _RECV, _SELECT, channel.fd, 0, 0, min(buflen, _LENGTH_MAX), 0, RECEIVE_GROUP
        )
        self._receive_size = buflen
        return op

    async def _receive(self, channel: Channel, memory: Any, timeout: float | None = None) -> int:
        """Receives into memory of the caller's, which stays pinned until the kernel is done with it."""
        await checkpoint_if_cancelled()
        op = self._reader(channel)
        address, length, held = pin_writable(memory)
        op.name = "recv"
        op.template = channel.manager.ring.template(
            op.user_data, _RECV, 0, channel.fd, 0, address, min(length, _LENGTH_MAX)
        )
        op.pins = held
        del held  # a traceback would keep it, and with it the caller's buffer from being resized
        return await self._finish(op, "recv", timeout)

    def _may_be_cut(self, channel: Channel, size: int) -> bool:
        """Whether a message of up to this many bytes may be larger than a provided buffer, which would cut
        it off. Those of IP have a 16-bit length."""
        room = channel.manager.options.buffer_size
        if size <= room or _type(self._sock) == _stdlib.SOCK_STREAM:
            return False
        return room < _IP_MESSAGE_MAX or _family(self._sock) == _stdlib.AF_UNIX

    def _take_buffer(self, channel: Channel, op: Operation, res: int) -> bytes:
        """Copies what arrived out of the buffer that the kernel chose, and gives the buffer back."""
        if not op.flags & 1:
            return b""
        bid = op.flags >> 16
        data = channel.views[bid][:res].tobytes()
        channel.give_back(bid)
        return data

    async def _recvmsg(
        self, bufsize: int, ancbufsize: int, flags: int, stock: Any, timeout: float | None = None
    ) -> tuple[bytes, list[tuple[int, int, bytes]], int, Any]:
        channel = self._attach()
        plain = bufsize.__class__ is int and ancbufsize.__class__ is int and bufsize > 0 and ancbufsize >= 0
        if channel is None or flags or not plain or _family(self._sock) not in _ADDRESSABLE:
            return await stock(bufsize, ancbufsize, flags)  # type: ignore[no-any-return]
        if self._may_be_cut(channel, bufsize):
            memory = bytearray(bufsize)
            received = await self._recvmsg_into(channel, [memory], ancbufsize, timeout)
            return bytes(memory[: received[0]]), *received[1:]
        await checkpoint_if_cancelled()
        op = self._reader(channel)
        # Taken while in use: another task may receive before this one has read the address.
        message, self._message = self._message, None
        if message is None or ancbufsize:
            message = Message(name_size=SOCKADDR_SIZE, control_size=ancbufsize, selected=bufsize)
        else:
            message.reset(SOCKADDR_SIZE, 0, bufsize)
        op.name = "recvmsg"
        op.template = channel.manager.ring.template(
            op.user_data, _RECVMSG, _SELECT, channel.fd, 0, message.address, 1, 0, RECEIVE_GROUP
        )
        op.pins = message
        try:
            res = await self._finish(op, "recvmsg", timeout)
        except OSError as exc:
            if exc.errno != errno.ENOBUFS:
                raise
            _check_open(channel)
            channel.manager.more_buffers()
            memory = bytearray(bufsize)
            received = await self._recvmsg_into(channel, [memory], ancbufsize, timeout)
            return bytes(memory[: received[0]]), *received[1:]
        data = self._take_buffer(channel, op, res)
        result = data, decode_control(message.control), message.flags, decode_address(message.name)
        if not ancbufsize:
            self._message = message
        return result

    # ---- accepting and connecting --------------------------------------------------------------------

    @enable_ki_protection
    async def accept(self) -> tuple[Any, Any]:
        channel = self._attach()
        if channel is None or _family(self._sock) not in _ADDRESSABLE:
            return await super().accept()
        if self._backlogged:
            try:
                sock, address = await seams.inline(self._sock.accept)
            except BlockingIOError:
                self._backlogged = False
            else:
                return trio.socket.from_stdlib_socket(sock), address
        op = self._reader(channel)
        # Taken while in use: another task may accept before this one has read the address.
        peer, self._peer = self._peer, None
        if peer is None or op.name != "accept":
            peer = PeerAddress()
            op.name = "accept"
            op.template = channel.manager.ring.template(
                op.user_data,
                _ACCEPT,
                0,
                channel.fd,
                peer.size_address,
                peer.address,
                0,
                _stdlib.SOCK_CLOEXEC | _stdlib.SOCK_NONBLOCK,
            )
        else:
            peer.reset()
        template = op.template
        op.pins = peer
        op.discard = os.close
        fd = await seams.transact(op)
        if fd < 0:
            raise error_from_result(fd, "accept", channel.fd)
        self._backlogged = bool(op.flags & _NONEMPTY)
        address = peer.get()
        if op.template is template:
            self._peer = peer
        sock = self._sock
        return adopt(fd, _family(sock), _type(sock), _proto(sock)), address

    @enable_ki_protection
    async def connect(self, address: Any) -> None:
        channel = self._attach()
        if channel is None or _family(self._sock) not in _ADDRESSABLE:
            await super().connect(address)
            return
        try:
            address = await seams.resolve(self, address, local=False)
            await checkpoint_if_cancelled()
            raw = SocketAddress(encode_address(_family(self._sock), address))
            op = self.writing_operation(channel)
            op.name = "connect"
            op.template = channel.manager.ring.template(
                op.user_data, _CONNECT, 0, channel.fd, raw.length, raw.address
            )
            op.pins = raw
            res = await seams.transact(op)
        except trio.Cancelled:
            # The socket's state is undefined after a cancelled connect: close it, as Trio does.
            self.close()
            raise
        if res < 0:
            raise OSError(-res, f"Error connecting to {address!r}: {os.strerror(-res)}")

    # ---- sending -------------------------------------------------------------------------------------

    @enable_ki_protection
    async def send(self, data: Any, flags: int = 0, /) -> int:
        try:
            if flags:
                return await seams.inline(self._sock.send, data, flags)
            return await seams.inline(self._sock.send, data)
        except BlockingIOError:
            return await self.send_in_ring(data, flags)

    @enable_ki_protection
    async def send_in_ring(self, data: Any, flags: int = 0, /, timeout: float | None = None) -> int:
        """As `send`, without the attempt to send at once; for what is known not to fit.

        Raises:
            trio.TooSlowError: ``timeout`` seconds, held by the kernel, have passed and nothing was sent.
        """
        channel = self._attach()
        if channel is None:
            return await super().send(data, flags)
        await checkpoint_if_cancelled()
        op = self.writing_operation(channel)
        address, length, held = pin(data)
        op.name = "send"
        op.template = channel.manager.ring.template(
            op.user_data,
            _SEND,
            0,
            channel.fd,
            0,
            address,
            min(length, _LENGTH_MAX),
            flags & ~_stdlib.MSG_DONTWAIT,
        )
        op.pins = held
        del held
        return await self._finish(op, "send", timeout)

    @enable_ki_protection
    async def sendto(self, *args: Any) -> int:
        arguments = list(args)
        if len(arguments) in (2, 3):
            arguments[-1] = await seams.resolve(self, arguments[-1], local=False)
        try:
            return await seams.inline(self._sock.sendto, *arguments)
        except BlockingIOError:
            pass
        flags = arguments[1] if len(arguments) == 3 else 0
        return await self._sendmsg([arguments[0]], (), flags, arguments[-1])

    @enable_ki_protection
    async def sendmsg(
        self, buffers: Iterable[Any], ancdata: Iterable[Any] = (), flags: int = 0, address: Any = None, /
    ) -> int:
        buffers, ancdata = list(buffers), list(ancdata)
        if address is not None:
            address = await seams.resolve(self, address, local=False)
        try:
            return await seams.inline(self._sock.sendmsg, buffers, ancdata, flags, address)
        except BlockingIOError:
            pass
        return await self._sendmsg(buffers, ancdata, flags, address)

    async def _sendmsg(self, buffers: list[Any], ancdata: Iterable[Any], flags: int, address: Any) -> int:
        channel = self._attach()
        if channel is None or _family(self._sock) not in _ADDRESSABLE:
            return await super().sendmsg(buffers, ancdata, flags, address)
        await checkpoint_if_cancelled()
        op = self.writing_operation(channel)
        name = b"" if address is None else encode_address(_family(self._sock), address)
        message = Message(buffers, name=name, control=encode_control(ancdata))
        op.name = "sendmsg"
        op.template = channel.manager.ring.template(
            op.user_data, _SENDMSG, 0, channel.fd, 0, message.address, 1, flags & ~_stdlib.MSG_DONTWAIT
        )
        op.pins = message
        return await self._finish(op, "sendmsg")

    # ---- closing -------------------------------------------------------------------------------------

    def close(self) -> None:
        self._channel = None
        super().close()

    def detach(self) -> int:
        self._let_go()
        return super().detach()

    def shutdown(self, flag: int) -> None:
        channel = self._channel
        if channel is not None and channel.writer is not None and channel.writer.task is not None:
            # What is queued must be in the kernel before the end of the stream is.
            channel.manager.ring.flush(0)
        super().shutdown(flag)

    def __exit__(self, *exc_info: Any) -> None:
        self._let_go()
        super().__exit__(*exc_info)

    def channel(self) -> Channel:
        """This descriptor's operations in the current ring run, for subscriptions on it.

        Raises:
            RuntimeError: outside a ring run.
            trio.ClosedResourceError: the socket is closed.
        """
        current()
        channel = self._attach()
        if channel is None:
            raise trio.ClosedResourceError("this socket is closed")
        return channel

    def receiving_channel(self) -> Channel:
        """As `channel`, for a subscription that takes what arrives: single receives are refused while it is
        the channel's ``receiving``.

        Raises:
            trio.BusyResourceError: another subscription or another task is receiving.
        """
        channel = self.channel()
        if channel.receiving is not None:
            raise trio.BusyResourceError("another task or subscription is receiving from this socket")
        op = channel.reader
        if op is not None and op.task is not None:
            raise trio.BusyResourceError("another task is receiving from this socket")
        # Single receives go through what looks at ``receiving``.
        self._receive_size = 0
        self._streaming = False
        return channel

    def writing_operation(self, channel: Channel) -> Operation:
        """The operation of the sending direction, about to be set up.

        Raises:
            trio.BusyResourceError: a task is sending.
        """
        op = channel.writer
        if op is None:
            op = channel.writer = channel.operation("send")
        elif op.task is not None:
            op.refuse(op.runner)
        return op

    # ---- inside --------------------------------------------------------------------------------------

    def _let_go(self) -> None:
        """Ends what is in flight here, waits for readiness included, which would keep the file open."""
        self._channel = None
        fd = self._sock.fileno()
        manager = seams.manager_here()
        if fd >= 0 and type(manager) is Manager:
            manager.notify_closing(fd)

    def _attach(self) -> Channel | None:
        """The channel of this descriptor in the current run; None where Trio's own code must do."""
        manager = seams.current_manager()
        fd = self._sock.fileno()
        channel = self._channel
        if channel is not None and channel.manager is manager and channel.fd == fd:
            return channel
        self._channel = self._peer = None
        self._receive_size = 0
        if type(manager) is not Manager or type(self._sock) is not _stdlib.socket or fd < 0:
            return None
        self._channel = Channel.open(manager, fd)
        return self._channel

    def _reader(self, channel: Channel) -> Operation:
        """The operation of this direction, about to be set up for something else than before."""
        if channel.receiving is not None:
            raise trio.BusyResourceError("another task or subscription is receiving from this socket")
        op = channel.reader
        if op is None:
            op = channel.reader = channel.operation("recv")
        elif op.task is not None:
            op.refuse(op.runner)
        self._receive_size = 0
        op.discard = None
        return op

    async def _finish(self, op: Operation, name: str, timeout: float | None = None) -> int:
        """Runs an operation that pins memory for this one use.

        The caller has checked for cancellation before it set the operation up: with no yield in between,
        what it pins is in the kernel or the operation was never queued.
        """
        res = await seams.transact_within(op, timeout)
        if res < 0:
            raise error_from_result(res, name, op.fd)
        return res


def _check_open(channel: Channel) -> None:
    """Before a task uses its channel a second time: it may have been closed between result and resumption."""
    if channel.reader is None:
        raise trio.ClosedResourceError("another task closed this fd")


def adopt(fd: int, family: int, type: int, proto: int = 0) -> Any:
    """The Trio socket of a descriptor that the ring made, which is closed if that fails."""
    try:
        sock = _stdlib.socket(family, type, proto, fileno=fd)
    except BaseException:
        os.close(fd)
        raise
    return trio.socket.from_stdlib_socket(sock)
