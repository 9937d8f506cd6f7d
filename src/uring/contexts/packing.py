"""Making contexts, and reading a slot's bytes as a `ctypes` type."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from ..bounds import check_int
from .context import FD_LEAST, FD_MASK, FD_MOST, USER_DATA_SIZE, ExtSQE, IndirectSQE, SQEContext

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["cast_user_data", "for_fd", "pack_direct", "pack_extended", "pack_indirect"]

T = TypeVar("T")


def for_fd(fd: int) -> SQEContext:
    """A direct context with only the descriptor set.

    Args:
        fd: the descriptor, 30 bits with their sign.

    Returns:
        The context.

    Raises:
        TypeError, ValueError: not such an int.
    """
    return pack_direct(0, 0, 0, fd)


def pack_direct(op: int, flags: int = 0, buf_group: int = 0, fd: int = 0) -> SQEContext:
    """A direct context.

    Args:
        op: ``IORING_OP_*``, 0 to 255.
        flags: ``IOSQE_*`` bits, 0 to 255.
        buf_group: the buffer group, 0 to 65535.
        fd: the descriptor, 30 bits with their sign.

    Returns:
        The context.

    Raises:
        TypeError, ValueError: a field is no int, or does not fit.
    """
    check_int("an opcode", op, 0, 0xFF)
    check_int("the byte of IOSQE flags", flags, 0, 0xFF)
    check_int("a buffer group", buf_group, 0, 0xFFFF)
    check_int("a descriptor in a context", fd, FD_LEAST, FD_MOST)
    return int.__new__(SQEContext, op | flags << 8 | buf_group << 16 | (fd & FD_MASK) << 32)


def pack_indirect(sqe: IndirectSQE) -> SQEContext:
    """The context that names an indirect slot.

    Args:
        sqe: the slot.

    Returns:
        The context.

    Raises:
        TypeError: ``sqe`` is no `IndirectSQE`.
    """
    if not isinstance(sqe, IndirectSQE) or isinstance(sqe, ExtSQE):
        raise TypeError(f"an IndirectSQE is needed, not {type(sqe).__name__}")
    return sqe.context


def pack_extended(sqe: ExtSQE) -> SQEContext:
    """The context that names an extended slot.

    Args:
        sqe: the slot.

    Returns:
        The context.

    Raises:
        TypeError: ``sqe`` is no `ExtSQE`.
    """
    if not isinstance(sqe, ExtSQE):
        raise TypeError(f"an ExtSQE is needed, not {type(sqe).__name__}")
    return sqe.context


def cast_user_data(ext: ExtSQE, kind: type[T]) -> T:
    """The caller's 64 bytes as a `ctypes` type, which shares them.

    Args:
        ext: the slot.
        kind: the type, of 64 bytes at most.

    Returns:
        An object of the type.

    Raises:
        TypeError: ``ext`` is no slot, or ``kind`` no ctypes type.
        ValueError: ``kind`` is larger than 64 bytes.
    """
    import ctypes

    if not isinstance(ext, ExtSQE):
        raise TypeError(f"an ExtSQE is needed, not {type(ext).__name__}")
    try:
        size = ctypes.sizeof(kind)  # type: ignore[arg-type]
        make: Callable[[bytearray], T] = kind.from_buffer  # type: ignore[attr-defined]
    except (TypeError, AttributeError):
        raise TypeError(f"a ctypes type is needed, not {kind!r}") from None
    if size > USER_DATA_SIZE:
        raise ValueError(f"{kind.__name__} has {size} bytes, the user data has {USER_DATA_SIZE}")
    return make(ext.user_data)
