"""The common parts of all operations: argument checks and the entry's fields by name.

All checks happen while the operation is made, so that a wrong argument raises before anything is queued. With
``fixed_file=True`` a descriptor is an index into the ring's registered files; with ``file_index`` a new
descriptor goes into that table instead of the process.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeAlias

from .. import abi
from ..bounds import check_int
from ..kernel.addresses import Address, PeerName
from ..kernel.memory import LENGTH_MAX, pin, pin_writable, zeroed
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
    "close_fd",
    "limit",
    "make",
    "new_file",
    "position",
    "priority",
    "renamed",
    "vector",
]


class HasFileno(Protocol):
    """Sockets, files, selectors: any object with a descriptor."""

    def fileno(self) -> int: ...


Fd: TypeAlias = "int | HasFileno"
"""A descriptor, something that has one, or (``fixed_file=True``) an index into the registered files."""

INT_MAX = (1 << 31) - 1
UINT_MAX = (1 << 32) - 1
OFFSET_MAX = (1 << 63) - 1
USER_DATA_MAX = (1 << 64) - 1
MODE_MAX = 0o7777

_CURRENT = (1 << 64) - 1
_ALLOC = abi.IORING_FILE_INDEX_ALLOC
SLOTS_MAX = 1 << 20
_FIXED_FILE = int(abi.IOSQE_FIXED_FILE)


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
    """An `Op` from the entry's fields; the others are zero, as the kernel requires of unused ones."""
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
    """Decorates a function whose keywords have earlier names too (old="new"), which still work.

    Type checkers and help see only the new ones.
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


def check_flags(name: str, value: object) -> int:
    """Flags of 32 bits; the kernel refuses those that it does not know (``EINVAL``)."""
    return 0 if value.__class__ is int and not value else check_int(name, value, 0, UINT_MAX)


def check_sequence(name: str, value: object, length: int | None = None) -> Sequence[Any]:
    """A list or tuple, of any length or of this one; not bytes or str.

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
    return check_int("file_index (or IORING_FILE_INDEX_ALLOC)", file_index, 0, SLOTS_MAX - 1) + 1


def new_file(file_index: int | None) -> tuple[int, Callable[[int], int] | None, Callable[[int], None] | None]:
    """For an operation that opens something: the entry's file_index, the decoder of its result, and the
    function that discards a result. A slot of the table is not discarded: its number is known.
    """
    if file_index is None:
        return 0, None, close_fd
    encoded = check_file_index(file_index)
    if encoded == -1:
        return encoded, None, None
    return encoded, lambda _: file_index, None


def check_c_string(name: str, value: Any) -> Zeroed:
    """A path or name in memory, as the kernel reads it.

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
