"""``struct msghdr`` for sendmsg and recvmsg, and the control messages in it.

A message owns every piece of memory that the kernel reads or writes through it, so one object is the pin
of the whole request.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..abi.layouts import RECVMSG_OUT
from ..bounds import check_int
from .addresses import PeerName, decode_address
from .memory import LENGTH_MAX, Zeroed, pin, pin_writable, zeroed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from typing_extensions import Buffer

__all__ = ["MAX_IOVECS", "Message", "ReceivedMessage", "decode_control", "encode_control"]

MAX_IOVECS = 1024
"""``UIO_MAXIOV``: the kernel refuses longer vectors."""

MAX_EXTRA = 1 << 20
"""Bytes for an address or for control messages: more than any protocol takes."""

_MSGHDR = struct.Struct("=QI4xQQQQi4x")
_IOVEC = struct.Struct("=QQ")
_CMSGHDR = struct.Struct("=Qii")
_FLAGS_AT = 48


class Message:
    """A ``msghdr`` with its buffers.

    Args:
        buffers: the memory to send from or to receive into; at most 1024.
        writable: the buffers are to receive into.
        name: the destination address as bytes, or b"".
        name_size: bytes of room for the peer's address when receiving, 0 to 2**20.
        control: control messages to send, see `encode_control`.
        control_size: bytes of room for control messages when receiving, 0 to 2**20.
        selected: instead of buffers, one iovec without memory for a kernel-chosen buffer of at most this
            many bytes, 0 to 2**31 - 4096.

    Raises:
        TypeError, ValueError: a size is out of range, or a buffer is not usable as one.
    """

    __slots__ = ("_control", "_name", "_pins", "_rooms", "address", "header", "iovecs", "length")

    def __init__(
        self,
        buffers: Sequence[Buffer] = (),
        *,
        writable: bool = False,
        name: bytes = b"",
        name_size: int = 0,
        control: bytes = b"",
        control_size: int = 0,
        selected: int | None = None,
    ) -> None:
        check_int("name_size", name_size, 0, MAX_EXTRA)
        check_int("control_size", control_size, 0, MAX_EXTRA)
        if selected is not None:
            check_int("selected", selected, 0, LENGTH_MAX)
        if len(buffers) > MAX_IOVECS:
            raise ValueError(f"at most {MAX_IOVECS} buffers in one message, not {len(buffers)}")
        take = pin_writable if writable else pin
        pinned = [take(buffer) for buffer in buffers]
        vector = [(address, length) for address, length, _ in pinned]
        if selected is not None:
            vector = [(0, selected)]
        self.length: int = sum(length for _, length in vector)
        self._pins = [held for _, _, held in pinned]
        self.iovecs: Zeroed = zeroed(max(1, len(vector)) * 16)
        for i, (address, length) in enumerate(vector):
            _IOVEC.pack_into(self.iovecs.view, i * 16, address, length)
        name_room, room = max(len(name), name_size), max(len(control), control_size)
        self._rooms = (name_room, room, 0 if selected is None else LENGTH_MAX)
        self._name = zeroed(name_room) if name_room else None
        if self._name is not None and name:
            self._name.view[: len(name)] = name
        self._control = zeroed(room) if room else None
        if self._control is not None and control:
            self._control.view[: len(control)] = control
        self.header: Zeroed = zeroed(_MSGHDR.size)
        self.address: int = self.header.address
        _MSGHDR.pack_into(
            self.header.view,
            0,
            self._name.address if self._name else 0,
            len(name) or name_size,
            self.iovecs.address,
            len(vector),
            self._control.address if self._control else 0,
            len(control) or control_size,
            0,
        )

    def reset(self, name_size: int, control_size: int = 0, selected: int | None = None) -> None:
        """Makes a received message ready to receive again: the kernel overwrote the sizes.

        Args:
            name_size: bytes of room for the peer's address, up to those it was made with.
            control_size: bytes of room for control messages, likewise.
            selected: the most bytes of a kernel-chosen buffer; None leaves it.

        Raises:
            TypeError: not an int.
            ValueError: more than the message was made with, or ``selected`` for one that has buffers.
        """
        most, chosen = self._rooms, 0 if selected is None else selected
        for size in (name_size, control_size, chosen):
            if not isinstance(size, int):
                raise TypeError(f"the sizes of a message are ints, not {type(size).__name__}")
        if not (0 <= name_size <= most[0] and 0 <= control_size <= most[1] and 0 <= chosen <= most[2]):
            raise ValueError(
                f"the message has room for a name of {most[0]} bytes, {most[1]} of control messages and a "
                f"selected buffer of {most[2]}"
            )
        struct.pack_into("=I", self.header.view, 8, name_size)
        struct.pack_into("=Q", self.header.view, 40, control_size)
        if selected is not None:
            struct.pack_into("=Q", self.iovecs.view, 8, selected)

    @property
    def name(self) -> bytes:
        """The peer's address after a receive, as a ``sockaddr``."""
        (size,) = struct.unpack_from("=I", self.header.view, 8)
        return bytes(self._name.view[:size]) if self._name is not None else b""

    @property
    def peer(self) -> PeerName:
        """The same as the `socket` module gives it; None where there is none."""
        return decode_address(self.name)

    @property
    def control(self) -> bytes:
        """Control messages after a receive; see `decode_control`."""
        (size,) = struct.unpack_from("=Q", self.header.view, 40)
        return bytes(self._control.view[:size]) if self._control is not None else b""

    @property
    def flags(self) -> int:
        """``MSG_*`` flags after a receive."""
        (flags,) = struct.unpack_from("=i", self.header.view, _FLAGS_AT)
        return int(flags)


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A message of a multishot recvmsg in one buffer. Its parts are views: copy them before ``put``."""

    name: memoryview
    control: memoryview
    payload: memoryview
    flags: int

    @property
    def peer(self) -> PeerName:
        """The sender's address as the `socket` module gives it; None where there is none."""
        return decode_address(self.name)

    @classmethod
    def parse(cls, buffer: memoryview, message: Message) -> ReceivedMessage:
        """The parts of ``buffer``, cut to the completion's result, of a multishot armed with ``message``.

        Raises:
            ValueError: the buffer is too short to be one.
        """
        (name_room,) = struct.unpack_from("=I", message.header.view, 8)
        (control_room,) = struct.unpack_from("=Q", message.header.view, 40)
        start = RECVMSG_OUT.size + name_room + control_room
        if len(buffer) < start:
            raise ValueError(f"a received message has at least {start} bytes here, not {len(buffer)}")
        name_size, control_size, size, flags = RECVMSG_OUT.unpack_from(buffer)
        name = buffer[RECVMSG_OUT.size :][: min(name_size, name_room)]
        control = buffer[RECVMSG_OUT.size + name_room :][: min(control_size, control_room)]
        return cls(name, control, buffer[start:][:size], flags)


def _align(size: int) -> int:
    return (size + 7) & ~7


def encode_control(messages: Iterable[tuple[int, int, Buffer]]) -> bytes:
    """Control messages (level, type, data) as `socket.socket.sendmsg` takes them, laid out for the kernel.

    Raises:
        TypeError, ValueError: one of them is something else.
    """
    parts = []
    if not hasattr(messages, "__iter__"):
        raise TypeError(f"control messages are a list, not {type(messages).__name__}")
    for message in messages:
        try:
            level, kind, data = message
        except (TypeError, ValueError):
            raise TypeError(f"a control message is (level, type, data), not {message!r}") from None
        try:
            raw = bytes(memoryview(data).cast("B")) if not isinstance(data, bytes) else data
        except TypeError:
            raise TypeError(f"control data is bytes-like, not {type(data).__name__}") from None
        try:
            header = _CMSGHDR.pack(_CMSGHDR.size + len(raw), level, kind)
        except struct.error:
            raise ValueError(f"level and type are ints of 32 bits, not {level!r} and {kind!r}") from None
        parts.append(header + raw.ljust(_align(len(raw)), b"\0"))
    return b"".join(parts)


def decode_control(raw: bytes) -> list[tuple[int, int, bytes]]:
    """The inverse of `encode_control`, as `socket.socket.recvmsg` returns it; a truncated last one is cut."""
    found = []
    at = 0
    while at + _CMSGHDR.size <= len(raw):
        length, level, kind = _CMSGHDR.unpack_from(raw, at)
        if length < _CMSGHDR.size:
            break
        found.append((level, kind, raw[at + _CMSGHDR.size : at + length]))
        at += _align(length)
    return found
