"""One prepared request: the fields of its entry, what it pins and how its result decodes.

Making an `Op` does not call the kernel. The same object may not be in flight twice, because its memory would
be shared. The functions in ``uring.ops`` make them.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any, Generic, Self, TypeAlias

from .. import abi
from ..bounds import check_int
from ..errors import error_from_result
from .memory import zeroed

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import TypeVar

    T_co = TypeVar("T_co", covariant=True, default=object)
else:
    from typing import TypeVar

    T_co = TypeVar("T_co", covariant=True)

__all__ = ["MULTISHOT_BIT", "Fields", "Multishot", "Op", "Whole", "descriptor", "failure", "is_multishot"]

Path: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"

Fields: TypeAlias = "tuple[int, int, int, int, int, int, int, int, int, int]"

_ENTRY = struct.Struct("=BBHiQQIIQHHIQ")
"""An entry: opcode, flags, ioprio, fd, off, addr, len, op_flags, user_data, buf_index, personality,
file_index, addr3."""

_ENTRY_SIZE = 128
_COMMAND_AT = 48

_NO_DESCRIPTOR = frozenset(
    int(opcode)
    for opcode in (
        abi.IORING_OP_SOCKET,  # a family
        abi.IORING_OP_WAITID,  # a process
        abi.IORING_OP_FUTEX_WAIT,  # flags
        abi.IORING_OP_FUTEX_WAKE,
        abi.IORING_OP_FUTEX_WAITV,
        abi.IORING_OP_PROVIDE_BUFFERS,  # a number of buffers
        abi.IORING_OP_REMOVE_BUFFERS,
        abi.IORING_OP_PIPE,  # nothing
    )
)
"""Operations whose entry has something else in the place of the descriptor."""

MULTISHOT_BIT: dict[int, tuple[int, int]] = {
    abi.IORING_OP_ACCEPT: (1, int(abi.IORING_ACCEPT_MULTISHOT) << 8),
    abi.IORING_OP_RECV: (1, int(abi.IORING_RECV_MULTISHOT) << 8),
    abi.IORING_OP_RECVMSG: (1, int(abi.IORING_RECV_MULTISHOT) << 8),
    abi.IORING_OP_RECV_ZC: (1, int(abi.IORING_RECV_MULTISHOT) << 8),
    abi.IORING_OP_POLL_ADD: (5, int(abi.IORING_POLL_ADD_MULTI)),
    abi.IORING_OP_TIMEOUT: (6, int(abi.IORING_TIMEOUT_MULTISHOT)),
    abi.IORING_OP_URING_CMD: (6, int(abi.IORING_URING_CMD_MULTISHOT)),
    abi.IORING_OP_URING_CMD128: (6, int(abi.IORING_URING_CMD_MULTISHOT)),
    abi.IORING_OP_READ_MULTISHOT: (0, int(abi.IORING_OP_READ_MULTISHOT)),  # by its opcode
}
"""The mark of a multishot operation: the index of the field, and the bit."""

_MULTISHOT_COMMAND = "tx_timestamp"
"""The multishot command that no bit marks."""

_FIXED_FILE = int(abi.IOSQE_FIXED_FILE)
_CLOSE = int(abi.IORING_OP_CLOSE)
_IOPRIO = 0xFFFF << 8
_PERSONALITY = 0xFFFF << 24


class Op(Generic[T_co]):
    """A request ready to be queued under any ``user_data``.

    To type checkers ``Op[int]`` is a request whose result decodes to an int, ``Op`` one of any result.

    Attributes:
        name: the name of its function in ``uring.ops``.
        fields: opcode, flags (``IOSQE_*``; ioprio from bit 8 on, personality from bit 24 on), fd, off, addr,
            len, op_flags, buf_index, file_index, addr3: the arguments of ``KernelRing.put`` after
            ``user_data``.
        pins: objects that stay alive until the last completion.
        decode: makes the Python result of a result of zero or more; None leaves the integer.
        discard: undoes a result that no task will receive, e.g. closes an accepted descriptor.
        entry: address of the entry as `pack` wrote it; 0 before.
        command: bytes for the end of the entry, from addr3 on: 16, or 80 where entries have 128 bytes.
            ``KernelRing.put_op`` writes them; ``put`` does not.
        address: its socket address, for error messages.
        paths: its paths, at most two, for error messages.
    """

    __slots__ = (
        "_memory",
        "address",
        "command",
        "decode",
        "discard",
        "entry",
        "fields",
        "name",
        "paths",
        "pins",
    )

    def __init__(
        self,
        name: str,
        fields: Fields,
        pins: object = None,
        decode: Callable[[int], T_co] | None = None,
        discard: Callable[[int], None] | None = None,
        command: bytes = b"",
        address: object = None,
        paths: tuple[Path, ...] = (),
    ) -> None:
        self.name: str = name
        self.fields: Fields = fields
        self.pins: object = pins
        self.decode: Callable[[int], T_co] | None = decode
        self.discard: Callable[[int], None] | None = discard
        self.command: bytes = command
        self.address: object = address
        self.paths: tuple[Path, ...] = paths
        self.entry: int = 0
        self._memory: object = None

    def pack(self) -> Self:
        """Writes the entry once: a request that is submitted repeatedly is then queued by a copy.

        Returns:
            This request.
        """
        if not self.entry:
            opcode, flags, fd, off, addr, length, op_flags, buf_index, file_index, addr3 = self.fields
            memory = zeroed(_ENTRY_SIZE)
            _ENTRY.pack_into(
                memory.view,
                0,
                opcode,
                flags & 0xFF,
                flags >> 8 & 0xFFFF,
                fd,
                off,
                addr,
                length,
                op_flags,
                0,
                buf_index & 0xFFFF,
                flags >> 24 & 0xFFFF,
                file_index & 0xFFFF_FFFF,
                addr3,
            )
            if self.command:
                memory.view[_COMMAND_AT : _COMMAND_AT + len(self.command)] = self.command
            self._memory = memory
            self.entry = memory.address
        return self

    @property
    def opcode(self) -> int:
        """The opcode, ``IORING_OP_*``."""
        return self.fields[0]

    @property
    def needed(self) -> bool:
        """Whether the request has to be kept until it ends, for its memory or its result."""
        return self.pins is not None or self.decode is not None or self.discard is not None

    @property
    def fd(self) -> int:
        """The descriptor the operation works on; -1 for none, and for a registered file."""
        return descriptor(self.fields)

    def error(self, res: int) -> OSError:
        """The exception for a negative result; it names the operation, its descriptor, address and paths.

        Args:
            res: the result, an errno negated.

        Returns:
            The exception, as `uring.error_from_result` makes it.
        """
        return failure(res, self.name, self.fields, self.address, self.paths)

    def with_flags(self, flags: int) -> Self:
        """The same request with more flags.

        Args:
            flags: ``IOSQE_*`` bits of io_uring_enter(2), 0 to 255.

        Returns:
            A request of the same kind; this one stays as it is.

        Raises:
            TypeError, ValueError: not such an int.
        """
        check_int("the byte of IOSQE flags", flags, 0, 0xFF)
        return self._with(self.fields[1] | int(flags))

    def with_ioprio(self, ioprio: int) -> Self:
        """The same request with another ``ioprio`` field in the place of its own.

        Args:
            ioprio: an I/O priority, or the flags of an operation that keeps some there, 0 to 65535.

        Returns:
            A request of the same kind; this one stays as it is.

        Raises:
            TypeError, ValueError: not such an int.
        """
        check_int("ioprio", ioprio, 0, 0xFFFF)
        return self._with(self.fields[1] & ~_IOPRIO | int(ioprio) << 8)

    def with_personality(self, personality: int) -> Self:
        """The same request under registered credentials. It completes with ``EINVAL`` for an unknown one.

        Args:
            personality: the id of io_uring_register(2), ``IORING_REGISTER_PERSONALITY``, 1 to 65535; 0 is the
                submitter's own.

        Returns:
            A request of the same kind; this one stays as it is.

        Raises:
            TypeError, ValueError: not such an int.
        """
        check_int("a personality", personality, 0, 0xFFFF)
        return self._with(self.fields[1] & ~_PERSONALITY | int(personality) << 24)

    def with_options(self, sqe_flags: int, personality: int) -> Self:
        """The same request `with_flags` and `with_personality`; this one where both are 0.

        Args:
            sqe_flags: ``IOSQE_*`` bits, 0 to 255.
            personality: the id of registered credentials, 0 to 65535.

        Returns:
            The request.
        """
        op = self
        if sqe_flags:
            op = op.with_flags(sqe_flags)
        if personality:
            op = op.with_personality(personality)
        return op

    def _with(self, flags: int) -> Self:
        opcode, _, *rest = self.fields
        fields: Any = (opcode, flags, *rest)
        return type(self)(
            self.name, fields, self.pins, self.decode, self.discard, self.command, self.address, self.paths
        )

    def __repr__(self) -> str:
        return f"<Op {self.name} fd={self.fd}>"


class Multishot(Op[T_co]):
    """A request that completes repeatedly; the completion without ``F_MORE`` is its last."""

    __slots__ = ()


class Whole(Op[T_co]):
    """A request that stands for a batch. Its result is decoded as it completes: the batch may be submitted
    again before the result is taken, and then has other results in the same memory."""

    __slots__ = ()


def is_multishot(name: str, fields: Fields) -> bool:
    """True if an entry with these fields completes more than once."""
    place = MULTISHOT_BIT.get(fields[0])
    return place is not None and (fields[place[0]] & place[1] != 0 or name == _MULTISHOT_COMMAND)


def descriptor(fields: Fields) -> int:
    """The descriptor among the fields of an entry; -1 where there is none, or a registered file instead."""
    fd = fields[2]
    if fd < 0 or fields[1] & _FIXED_FILE or fields[0] in _NO_DESCRIPTOR:
        return -1
    return -1 if fields[0] == _CLOSE and fields[8] else fd


def failure(res: int, name: str, fields: Fields, address: object, paths: tuple[Path, ...]) -> OSError:
    """The exception for a negative result: it names the operation, its descriptor, address and paths.

    Paths are its ``filename`` and ``filename2``, as in exceptions of the `os` module. The arguments are parts
    of the operation, so that the caller need not hold the operation's memory.
    """
    fd = descriptor(fields)
    error = error_from_result(res, name, fd if fd >= 0 else None, address)
    if paths:
        error.filename = os.fspath(paths[0])
        if len(paths) > 1:
            error.filename2 = os.fspath(paths[1])
    return error
