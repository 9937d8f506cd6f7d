"""The common parts of all operations: argument checks and the entry's fields by name; nop and close.

Every check happens while the operation is made, so that a wrong argument is an exception of the caller
and nothing reaches the queue. ``fixed_file=True`` says that a descriptor is an index into the ring's
registered files; ``file_index`` that a new descriptor goes into that table instead of the process.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeAlias

from .. import abi
from ..kernel.addresses import Address, PeerName
from ..kernel.memory import pin, pin_writable, zeroed
from ..kernel.messages import MAX_IOVECS
from ..kernel.op import MULTISHOT_BIT, Multishot, Op, Path, is_multishot

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer, TypeVar

    from ..kernel.memory import Zeroed

    R = TypeVar("R")
    T = TypeVar("T", default=int)

P = ParamSpec("P")

__all__ = [
    "Address",
    "Fd",
    "Path",
    "PeerName",
    "check_c_string",
    "check_dir",
    "check_fd",
    "check_file_index",
    "check_flags",
    "check_group",
    "check_int",
    "check_sequence",
    "check_user_data",
    "close",
    "close_direct",
    "close_fd",
    "limit",
    "make",
    "new_file",
    "nop",
    "nop128",
    "position",
    "priority",
    "renamed",
    "vector",
]


class HasFileno(Protocol):
    """Sockets, files, selectors: whatever knows its descriptor."""

    def fileno(self) -> int: ...


Fd: TypeAlias = "int | HasFileno"
"""A descriptor, something that has one, or (``fixed_file=True``) an index into the registered files."""

INT_MAX = (1 << 31) - 1
UINT_MAX = (1 << 32) - 1
OFFSET_MAX = (1 << 63) - 1
USER_DATA_MAX = (1 << 64) - 1
LENGTH_MAX = 0x7FFF_F000
"""``MAX_RW_COUNT``: no read or write transfers more at once."""

_CURRENT = (1 << 64) - 1
_ALLOC = abi.IORING_FILE_INDEX_ALLOC
_SLOTS_MAX = 1 << 20
_FIXED_FILE = int(abi.IOSQE_FIXED_FILE)
_PERSONALITY_SHIFT = 24


_PLAIN_NOP: Op[int] = Op("nop", (int(abi.IORING_OP_NOP), 0, -1, 0, 0, 0, 0, 0, 0, 0))


def nop(
    *,
    result: int | None = None,
    file: Fd | None = None,
    fixed_file: bool = False,
    buf_index: int | None = None,
    task_work: bool = False,
    extra: tuple[int, int] | None = None,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Does nothing; completes with 0 (Linux 5.1). The cheapest way through the ring and back.

    Args:
        result: completes with this instead, an errno negated (6.6).
        file: a descriptor that must be open, else ``EBADF`` (6.13); with ``fixed_file`` a registered one.
        buf_index: a registered buffer that must exist, else ``EFAULT`` (6.13).
        task_work: completes from deferred work, not while it is submitted (6.14).
        extra: two 64-bit numbers for the second half of a 32-byte completion (6.18); ``EINVAL`` on a
            ring without them.
    """
    if (
        result is None
        and file is None
        and buf_index is None
        and extra is None
        and not fixed_file
        and not task_work
        and not sqe_flags
        and not personality
    ):
        return _PLAIN_NOP
    op = _nop("nop", abi.IORING_OP_NOP, result, file, fixed_file, buf_index, task_work, extra)
    return op.with_options(sqe_flags, personality)


def nop128(*, result: int | None = None, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """`nop` in a 128-byte entry (Linux 6.19): the ring needs ``IORING_SETUP_SQE128``."""
    return _nop("nop128", abi.IORING_OP_NOP128, result, None, False, None, False, None).with_options(
        sqe_flags, personality
    )


def close(fd: Fd, *, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Closes a descriptor (Linux 5.6); completes with 0. See close(2).

    Operations in flight on it are not ended: they hold the file. Cancel them first. The ring's own
    descriptor is refused with ``EBADF``.
    """
    return make("close", abi.IORING_OP_CLOSE, check_fd(fd)).with_options(sqe_flags, personality)


def close_direct(file_index: int, *, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Empties a slot of the registered files (Linux 5.15); completes with 0, or ``EBADF`` if it was empty.

    Operations in flight on it keep the file until they end.
    """
    check_int("file_index", file_index, 0, _SLOTS_MAX - 1)
    return make("close_direct", abi.IORING_OP_CLOSE, 0, file_index=file_index + 1).with_options(
        sqe_flags, personality
    )


def make(
    name: str,
    opcode: int,
    fd: int = -1,
    *,
    off: int = 0,
    addr: int = 0,
    length: int = 0,
    op_flags: int = 0,
    flags: int = 0,
    ioprio: int = 0,
    buf_index: int = 0,
    file_index: int = 0,
    addr3: int = 0,
    fixed_file: bool = False,
    pins: object = None,
    decode: Callable[[int], T] | None = None,
    discard: Callable[[int], None] | None = None,
    command: bytes = b"",
    address: object = None,
    paths: tuple[Path, ...] = (),
) -> Op[T]:
    """An `Op` from the entry's fields; those not named are zero, as the kernel demands of unused ones."""
    if flags or ioprio or fixed_file:
        flags = int(flags) | int(ioprio) << 8 | (_FIXED_FILE if fixed_file else 0)
    else:
        flags = 0
    fields = (
        opcode + 0,  # a plain int
        flags,
        fd,
        off,
        addr,
        length,
        int(op_flags) if op_flags else 0,
        buf_index,
        file_index,
        addr3,
    )
    kind = Multishot if opcode in MULTISHOT_BIT and is_multishot(name, fields) else Op
    return kind(name, fields, pins, decode, discard, command, address, paths)


def renamed(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorates a function whose keywords had other names (old="new"): calls by the old ones go on working.

    Type checkers and readers see the new ones alone.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **options: P.kwargs) -> R:
            for old in names.keys() & options.keys():
                if names[old] in options:
                    raise TypeError(f"{old} is the earlier name of {names[old]}: give one of them")
                options[names[old]] = options.pop(old)
            return function(*args, **options)

        return call

    return decorate


def check_int(name: str, value: object, least: int, most: int) -> int:
    """The value as an int within bounds.

    Raises:
        TypeError, ValueError: saying what was given and what is allowed.
    """
    if value.__class__ is int and least <= value <= most:
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is an int, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"{name} is {least} to {most}, not {value}")
    return int(value)


def check_flags(name: str, value: object) -> int:
    """Flags of 32 bits; which of them mean something is the kernel's to say (``EINVAL``)."""
    return 0 if value.__class__ is int and not value else check_int(name, value, 0, UINT_MAX)


def check_sequence(name: str, value: object, length: int | None = None) -> Sequence[Any]:
    """A list or the like, of any length or of this one; bytes and str are none.

    Raises:
        TypeError, ValueError: saying what was given.
    """
    if isinstance(value, (str, bytes, bytearray, memoryview)) or not isinstance(value, Sequence):
        raise TypeError(f"{name} is a list or tuple, not {type(value).__name__}")
    if length is not None and len(value) != length:
        raise ValueError(f"{name} has {length} items, not {len(value)}")
    return value


def check_fd(fd: Any) -> int:
    """A descriptor from an int or anything with ``fileno()``."""
    if fd.__class__ is int and 0 <= fd <= INT_MAX:
        return fd
    if not isinstance(fd, int) and hasattr(fd, "fileno"):
        fd = fd.fileno()
    return check_int("a file descriptor", fd, 0, INT_MAX)


def check_dir(dir_fd: Fd | None) -> int:
    """The directory that a relative path starts from; None is the current one."""
    return abi.AT_FDCWD if dir_fd is None else check_fd(dir_fd)


def check_group(buffer_group: object) -> int:
    """The number of a group of provided buffers."""
    return check_int("buffer_group", buffer_group, 0, 0xFFFF)


def check_user_data(user_data: object) -> int:
    """The value that identifies a request to the kernel."""
    return check_int("user_data", user_data, 0, USER_DATA_MAX)


def check_file_index(file_index: object) -> int:
    """A slot for a new descriptor as the entry holds it: one more than the slot, or -1 to allocate one."""
    if file_index == _ALLOC:
        return -1
    return check_int("file_index (or IORING_FILE_INDEX_ALLOC)", file_index, 0, _SLOTS_MAX - 1) + 1


def new_file(
    file_index: int | None,
) -> tuple[int, Callable[[int], int] | None, Callable[[int], None] | None]:
    """For an operation that opens something: the entry's file_index, the decoder of its result, and the
    disposal of a result that no task receives. A slot of the table is not closed: its number is known.
    """
    if file_index is None:
        return 0, None, close_fd
    encoded = check_file_index(file_index)
    if encoded == -1:
        return encoded, None, None
    return encoded, lambda _: file_index, None


def check_c_string(name: str, value: Any) -> Zeroed:
    """A path or name as the kernel reads it, in memory of its own.

    Raises:
        TypeError, ValueError: not a path, or with a NUL byte inside.
    """
    try:
        raw = os.fsencode(value)
    except TypeError:
        raise TypeError(f"{name} is str, bytes or os.PathLike, not {type(value).__name__}") from None
    if b"\0" in raw:
        raise ValueError(f"{name} has no NUL byte: {value!r}")
    memory = zeroed(len(raw) + 1)
    memory.view[: len(raw)] = raw
    return memory


def position(offset: object) -> int:
    """A file offset as the entry holds it; -1 is the file's own position.

    Raises:
        TypeError, ValueError: not an int, or outside -1 to 2**63 - 1.
    """
    place = check_int("offset", offset, -1, OFFSET_MAX)
    return place if place >= 0 else _CURRENT


def limit(n: object, length: int, most: int = LENGTH_MAX) -> int:
    """How many bytes of a buffer to use: ``n``, or all of it when None."""
    return min(length if n is None else check_int("n", n, 0, length), most)


def priority(ioprio: object, ioprio_class: tuple[int, int] | None) -> int:
    """The I/O priority of a file operation, given as the number or as (class, level); see ioprio_set(2)."""
    if ioprio_class is None:
        return 0 if ioprio.__class__ is int and not ioprio else check_int("ioprio", ioprio, 0, 0xFFFF)
    if ioprio:
        raise TypeError("give either ioprio or ioprio_class")
    kind, level = check_sequence("ioprio_class (class, level)", ioprio_class, 2)
    return check_int("the priority class", kind, 0, 3) << abi.IOPRIO_CLASS_SHIFT | check_int(
        "the priority level", level, 0, 7
    )


def vector(buffers: Sequence[Buffer], *, writable: bool) -> tuple[int, int, object]:
    """Address and length of an iovec array over the buffers, and what to pin.

    Raises:
        TypeError, ValueError: not buffers, read-only where the kernel writes, or more than it takes.
    """
    if len(check_sequence("buffers", buffers)) > MAX_IOVECS:
        raise ValueError(f"at most {MAX_IOVECS} buffers in one operation, not {len(buffers)}")
    take = pin_writable if writable else pin
    pinned = [take(buffer) for buffer in buffers]
    memory = zeroed(max(1, len(pinned)) * 16)
    words = memory.view.cast("Q")
    for i, (address, length, _) in enumerate(pinned):
        words[2 * i] = address
        words[2 * i + 1] = length
    return memory.address, len(pinned), (memory, pinned)


def close_fd(fd: int) -> None:
    """Discards a descriptor that no task will receive."""
    os.close(fd)


def _nop(
    name: str,
    opcode: int,
    result: int | None,
    file: Fd | None,
    fixed_file: bool,
    buf_index: int | None,
    task_work: bool,
    extra: tuple[int, int] | None,
) -> Op[int]:
    flags = int(abi.IORING_NOP_TW) if task_work else 0
    if result is not None:
        flags |= abi.IORING_NOP_INJECT_RESULT
        result = check_int("result", result, -INT_MAX - 1, INT_MAX)
    if file is not None:
        flags |= abi.IORING_NOP_FILE | (abi.IORING_NOP_FIXED_FILE if fixed_file else 0)
    elif fixed_file:
        raise TypeError("fixed_file says what file is: give a file")
    if buf_index is not None:
        flags |= abi.IORING_NOP_FIXED_BUFFER
        check_int("buf_index", buf_index, 0, 0xFFFF)
    first = second = 0
    if extra is not None:
        flags |= abi.IORING_NOP_CQE32
        pair = check_sequence("extra (two numbers)", extra, 2)
        first, second = (check_int("extra", number, 0, USER_DATA_MAX) for number in pair)
    return make(
        name,
        opcode,
        -1 if file is None else check_fd(file),
        off=first,
        addr=second,
        length=(result or 0) & UINT_MAX,
        op_flags=flags,
        buf_index=buf_index or 0,
    )
