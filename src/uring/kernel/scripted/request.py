"""One entry that a scripted ring took."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

from ... import abi

__all__ = ["FAKE_FD", "OnCancel", "Request", "Template"]

FAKE_FD = 1 << 20
"""The first descriptor number that stands for no real file."""

_POLL_ADD = int(abi.IORING_OP_POLL_ADD)
_ACCEPT = int(abi.IORING_OP_ACCEPT)
_RECV = frozenset((int(abi.IORING_OP_RECV), int(abi.IORING_OP_RECVMSG)))
_LINK = int(abi.IOSQE_IO_LINK | abi.IOSQE_IO_HARDLINK)
_FIXED = int(abi.IOSQE_FIXED_FILE)
_OPENS = frozenset(
    map(int, (abi.IORING_OP_ACCEPT, abi.IORING_OP_SOCKET, abi.IORING_OP_OPENAT, abi.IORING_OP_OPENAT2))
)

OnCancel = Literal["cancel", "running", "uncancellable"]


@dataclass(slots=True, eq=False)
class Request:
    """One entry that the ring took: the fields of ``struct io_uring_sqe``, and what a script may set.

    Attributes:
        user_data: what its completions carry.
        opcode: a member of ``uring.abi.Op``.
        flags: bits 0 to 7 are ``IOSQE_*``, bits 8 to 23 the field ``ioprio``, bits 24 and up the personality.
        fd: the descriptor, or the slot of the ring's table where ``fixed`` is true.
        off: an offset in a file, or what the operation has there instead, such as a second address.
        addr: the address of the memory.
        length: the size of the memory, or what the operation has there instead, such as flags of a poll.
        op_flags: the operation's own flags.
        buf_index: the registered buffer, or the group of buffers.
        file_index: the slot for the file that it opens, counted from 1; 0: none.
        addr3: a third address.
        on_cancel: how it answers a request to cancel it. ``"cancel"``: it ends with ``-ECANCELED``.
            ``"running"``: a kernel worker runs it, the cancel gets ``-EALREADY``, and the script completes
            it. ``"uncancellable"``: file I/O that no cancel finds, the cancel gets ``-ENOENT``.
        interrupted: how many cancels have found it.
        timeout: the ``link_timeout`` behind it, or None.
        followers: the requests that start when it has succeeded.
    """

    user_data: int
    opcode: int
    flags: int
    fd: int
    off: int = 0
    addr: int = 0
    length: int = 0
    op_flags: int = 0
    buf_index: int = 0
    file_index: int = 0
    addr3: int = 0
    on_cancel: OnCancel = field(default="cancel", init=False)
    interrupted: int = field(default=0, init=False)
    timeout: Request | None = field(default=None, init=False)
    followers: list[Request] = field(default_factory=list, init=False)

    @property
    def linked(self) -> bool:
        return bool(self.flags & _LINK)

    @property
    def multishot(self) -> bool:
        ioprio = self.flags >> 8 & 0xFFFF
        if self.opcode == _POLL_ADD:
            return bool(self.length & abi.IORING_POLL_ADD_MULTI)
        if self.opcode == _ACCEPT:
            return bool(ioprio & abi.IORING_ACCEPT_MULTISHOT)
        return self.opcode in _RECV and bool(ioprio & abi.IORING_RECV_MULTISHOT)

    @property
    def truthful(self) -> bool:
        """Whether it polls a real descriptor, whose state answers it."""
        return self.opcode == _POLL_ADD and 0 <= self.fd < FAKE_FD and not self.fixed

    @property
    def fixed(self) -> bool:
        """Whether ``fd`` is a slot of the ring's table."""
        return bool(self.flags & _FIXED)

    @property
    def direct(self) -> bool:
        """Whether it opens a file into the ring's table."""
        return self.opcode in _OPENS and self.file_index != 0


class Ring(Protocol):
    def put(self, user_data: int, opcode: int, flags: int, fd: int, *fields: int) -> int: ...


@dataclass(frozen=True, slots=True)
class Template:
    """The template that `ScriptedRing.template` returns."""

    ring: Ring
    fields: tuple[int, ...]
