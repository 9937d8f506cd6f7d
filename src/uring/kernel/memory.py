"""Addresses of Python buffers, and the pins that keep them where they are.

A ``Pin`` is a memoryview: while it lives the object cannot be freed, and Python refuses to resize it
(``BufferError``). The code that gives the address to the kernel keeps the pin until the last completion that
can touch the memory.

The cffi object that tells the address is dropped at once: CPython crashes when its garbage collector
finds such an object and the memoryview under it in one cycle.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any

from .lib import ffi, lib

__all__ = [
    "LENGTH_MAX",
    "Pin",
    "Zeroed",
    "bytes_address",
    "clear",
    "load",
    "new_bytes",
    "pin",
    "pin_writable",
    "store",
    "zeroed",
]

Pin = memoryview
"""Dropping the last reference to it releases the memory."""

LENGTH_MAX = 0x7FFF_F000
"""``MAX_RW_COUNT``: no read or write transfers more at once."""

_cast: Any = getattr(ffi, "cast", None)
_from_buffer: Any = getattr(ffi, "from_buffer", None)


def pin(data: Any) -> tuple[int, int, Pin]:
    """Address, length in bytes and pin of an object that the kernel only reads.

    Raises:
        TypeError: the object has no contiguous buffer.
    """
    view = _contiguous(data)
    return int(_cast("uintptr_t", _from_buffer(view))), view.nbytes, view


def pin_writable(data: Any) -> tuple[int, int, Pin]:
    """As `pin`, for memory that the kernel writes.

    Raises:
        TypeError: the object has no contiguous buffer, or is read-only.
    """
    view = _contiguous(data)
    if view.readonly:
        raise TypeError(f"a writable buffer is needed, {type(data).__name__} is read-only")
    return int(_cast("uintptr_t", _from_buffer(view))), view.nbytes, view


_CONTENTS = bytes.__basicsize__ - 1
"""Offset of the contents of a ``bytes`` object from its address; `_checked` checks it."""

_new_bytes: Any = ctypes.pythonapi.PyBytes_FromStringAndSize
_new_bytes.restype = ctypes.py_object
_new_bytes.argtypes = (ctypes.c_void_p, ctypes.c_ssize_t)
_LARGE = 32768
"""From this size on it is cheaper not to have the memory zeroed."""


def new_bytes(size: int) -> bytes:
    """A new ``bytes`` object for the kernel to fill in.

    The interpreter allows that until other code has the object, and makes the results of its reads so. Not
    for sizes of 0 and 1, whose objects are shared.
    """
    if size < _LARGE:
        return bytes(size)
    if size > sys.maxsize:  # ctypes would cut it
        raise OverflowError(f"{size} bytes are more than an object can have")
    made: bytes = _new_bytes(None, size)
    return made


def clear(address: int, length: int) -> None:
    """Sets memory to zeros."""
    ctypes.memset(address, 0, length)


def bytes_address(data: bytes) -> int:
    """The address of the contents of a ``bytes`` object, which the caller keeps while the kernel uses it."""
    return id(data) + _CONTENTS


def _checked() -> None:
    sample = b"where the contents begin"
    if _from_buffer is not None and bytes_address(sample) != pin(sample)[0]:
        raise ImportError("this interpreter keeps the contents of bytes elsewhere than CPython does")


class Zeroed:
    """Memory for the kernel to read or write: its ``address``, and a ``view`` of it."""

    __slots__ = ("_held", "address", "view")

    def __init__(self, size: int) -> None:
        self._held = ffi.new("uint64_t[]", (size + 7) // 8)
        self.address: int = int(ffi.cast("uintptr_t", self._held))
        self.view: memoryview[int] = memoryview(ffi.buffer(self._held, size))


def zeroed(size: int) -> Zeroed:
    """``size`` zero bytes, aligned to 8."""
    return Zeroed(size)


def load(address: int) -> int:
    """The 32-bit word at an aligned address, before anything that is read after it."""
    word: int = lib.ur_load(address)
    return word


def store(address: int, value: int) -> None:
    """Writes the 32-bit word at an aligned address, after everything that was written before it."""
    lib.ur_store(address, value)


def _contiguous(data: Any) -> memoryview:
    if data.__class__ is bytearray or data.__class__ is bytes:
        return memoryview(data)
    try:
        view = memoryview(data)
    except TypeError:
        raise TypeError(f"a bytes-like object is needed, not {type(data).__name__}") from None
    if not view.c_contiguous:
        raise TypeError("a contiguous buffer is needed")
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


_checked()
