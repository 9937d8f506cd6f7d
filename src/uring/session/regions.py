"""Memory that a ring and this process share, and the wait arguments in it.

A region lives as long as a view of it: its memory belongs to a mapping object that every view references.
"""

from __future__ import annotations

import mmap

from .. import abi
from ..abi.layouts import KERNEL_TIMESPEC, REG_WAIT
from ..kernel.memory import pin_writable

__all__ = ["MemRegion", "WaitRegion", "aligned_mem_block"]

_PAGE = mmap.PAGESIZE


def aligned_mem_block(size: int = _PAGE) -> memoryview:
    """Memory that starts at a page boundary.

    Args:
        size: bytes, from 1 on.

    Returns:
        A view of zero bytes. The memory is freed with its last view.

    Raises:
        ValueError: ``size`` is not an int of 1 or more.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ValueError(f"a size is 1 byte or more, not {size!r}")
    return memoryview(mmap.mmap(-1, size))


class MemRegion:
    """Whole pages of this process's memory, registered with a ring by `uring.Ring.register_mem_region`.

    Args:
        size: bytes, rounded up to whole pages.

    Attributes:
        address: where the memory is.
        size: bytes.
        view: the memory.
    """

    __slots__ = ("_held", "address", "size", "view")

    def __init__(self, size: int) -> None:
        self.size: int = -(-size // _PAGE) * _PAGE
        self.view: memoryview = aligned_mem_block(self.size)
        address, _, self._held = pin_writable(self.view)
        self.address: int = address


class WaitRegion(MemRegion):
    """Sets of wait arguments that the kernel reads in place; see ``Ring.wait_registered``.

    Args:
        entries: how many sets.
    """

    __slots__ = ("entries",)

    def __init__(self, entries: int) -> None:
        super().__init__(entries * REG_WAIT.size)
        self.entries: int = entries

    def set(self, index: int, timeout: float | None, *, min_wait: float = 0.0) -> None:
        """Stores the arguments of waits with this index.

        Args:
            index: the entry, from 0 on.
            timeout: seconds at most, 0 to 2**31; None: until a completion comes.
            min_wait: seconds to collect more completions after the first, 0 to 4294 (Linux 6.12).

        Raises:
            IndexError: there is no such entry.
            ValueError: a time is negative or too long.
        """
        if not 0 <= index < self.entries:
            raise IndexError(f"entry {index} of {self.entries} does not exist")
        if not 0 <= (timeout or 0) < 1 << 31 or not 0 <= min_wait < 4294:
            raise ValueError("times are 0 or more seconds, min_wait less than 4294")
        seconds, flags = timeout or 0.0, 0 if timeout is None else int(abi.IORING_REG_WAIT_TS)
        REG_WAIT.pack_into(
            self.view,
            index * REG_WAIT.size,
            int(seconds),
            int(seconds % 1 * 1e9),
            int(min_wait * 1e6),
            flags,
            0,
            0,
        )

    def timeout(self, index: int) -> float | None:
        """The time limit that `set` stored.

        Args:
            index: the entry, from 0 on.

        Returns:
            Seconds; None without a limit.

        Raises:
            IndexError: there is no such entry.
        """
        if not 0 <= index < self.entries:
            raise IndexError(f"entry {index} of {self.entries} does not exist")
        _, _, _, flags, *_ = REG_WAIT.unpack_from(self.view, index * REG_WAIT.size)
        seconds, nanoseconds = KERNEL_TIMESPEC.unpack_from(self.view, index * REG_WAIT.size)
        return float(seconds + nanoseconds / 1e9) if flags else None
