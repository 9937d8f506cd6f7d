"""Reading and writing descriptors of any kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import abi
from ..memory import pin, pin_writable
from .base import check_fd, check_int, make

if TYPE_CHECKING:
    from ..op import Op

__all__ = ["read", "write"]

_LENGTH_MAX = 0x7FFF_F000
_OFFSET_MAX = (1 << 63) - 1
_CURRENT = (1 << 64) - 1


def read(fd: int, buffer: Any, *, offset: int = -1) -> Op:
    """Reads into a writable buffer at ``offset``, or with -1 at the file's position, which moves
    (Linux 5.6); completes with the number of bytes, 0 at the end. See pread(2).

    Pipes, sockets and ttys wait until something can be read, whatever ``O_NONBLOCK`` says.
    """
    address, length, held = pin_writable(buffer)
    return make(
        "read",
        abi.IORING_OP_READ,
        check_fd(fd),
        off=position(offset),
        addr=address,
        length=min(length, _LENGTH_MAX),
        pins=held,
    )


def write(fd: int, data: Any, *, offset: int = -1) -> Op:
    """Writes bytes at ``offset``, or with -1 at the file's position, which moves (Linux 5.6); completes
    with the number written. See pwrite(2).

    On a pipe or socket without a reader the process gets ``SIGPIPE`` besides ``EPIPE``, as with write(2).
    """
    address, length, held = pin(data)
    return make(
        "write",
        abi.IORING_OP_WRITE,
        check_fd(fd),
        off=position(offset),
        addr=address,
        length=min(length, _LENGTH_MAX),
        pins=(held, data),
    )


def position(offset: int) -> int:
    """A file offset as the entry holds it; -1 is the file's own position.

    Raises:
        TypeError, ValueError: not an int, or outside -1 to 2**63 - 1.
    """
    check_int("offset", offset, -1, _OFFSET_MAX)
    return offset if offset >= 0 else _CURRENT
