"""The tables of a scripted ring: of direct descriptors, and of registered buffers.

A request that completes into a slot of the first fills it. Errors that the kernel returns at once come from
here: a slot is empty, a table is full or registered twice.
"""

from __future__ import annotations

import errno

from ... import abi
from ...abi.layouts import FILE_INDEX_RANGE, IOVEC, RSRC_REGISTER, RSRC_UPDATE2
from ...errors import error_from_result
from ..lib import ffi

__all__ = ["Tables"]

_FILES2 = int(abi.IORING_REGISTER_FILES2)
_ALLOC_RANGE = int(abi.IORING_REGISTER_FILE_ALLOC_RANGE)
_BUFFERS2 = int(abi.IORING_REGISTER_BUFFERS2)
_BUFFERS_UPDATE = int(abi.IORING_REGISTER_BUFFERS_UPDATE)
_SPARSE = int(abi.IORING_RSRC_REGISTER_SPARSE)
_ANY = (int(abi.IORING_FILE_INDEX_ALLOC), -1)


class Tables:
    """The tables of one ring.

    Attributes:
        files: for each slot of the table of direct descriptors whether something is in it; None: no table.
        buffers: for each registered buffer its address and length; None: no table.
    """

    def __init__(self) -> None:
        self.files: list[bool] | None = None
        self.buffers: list[tuple[int, int] | None] | None = None
        self._range = range(0)

    def register(self, opcode: int, address: int | None, nr_args: int, what: str) -> int:
        """Sparse tables, the range of slots that the kernel chooses from, and updates of buffers.

        Raises:
            OSError: the kernel's error; ``EINVAL`` for all other opcodes.
        """
        result = -errno.EINVAL
        if opcode == _FILES2:
            count, flags, *_ = RSRC_REGISTER.unpack(_memory(address, RSRC_REGISTER.size))
            result = -errno.EBUSY if self.files is not None else 0 if flags & _SPARSE else -errno.EINVAL
            if not result:
                self.files, self._range = [False] * count, range(count)
        elif opcode == _ALLOC_RANGE:
            start, count = FILE_INDEX_RANGE.unpack(_memory(address, FILE_INDEX_RANGE.size))
            if self.files is not None and start + count <= len(self.files):
                self._range, result = range(start, start + count), 0
        elif opcode == _BUFFERS2:
            count, flags, *_ = RSRC_REGISTER.unpack(_memory(address, RSRC_REGISTER.size))
            result = -errno.EBUSY if self.buffers is not None else 0 if flags & _SPARSE else -errno.EINVAL
            if not result:
                self.buffers = [None] * count
        elif opcode == _BUFFERS_UPDATE:
            slot, vectors, _, count = RSRC_UPDATE2.unpack(_memory(address, RSRC_UPDATE2.size))
            if self.buffers is None:
                result = -errno.ENXIO
            elif slot + count <= len(self.buffers):
                for i in range(count):
                    base, length = IOVEC.unpack(_memory(vectors + i * IOVEC.size, IOVEC.size))
                    self.buffers[slot + i] = (base, length) if base else None
                result = count
        if result < 0:
            raise error_from_result(result, what or "register")
        return result

    def place(self, file_index: int) -> int:
        """Fills the slot that an entry names, as one more than its number, or a free one; returns the result
        of the operation."""
        if self.files is None:
            return -errno.ENXIO
        if file_index in _ANY:
            slot = next((i for i in self._range if not self.files[i]), -1)
            if slot < 0:
                return -errno.ENFILE
            self.files[slot] = True
            return slot
        if not 0 < file_index <= len(self.files):
            return -errno.EINVAL
        self.files[file_index - 1] = True
        return 0

    def empty(self, file_index: int) -> int:
        """Empties a slot, named as in `place`."""
        if self.files is None:
            return -errno.ENXIO
        if not 0 < file_index <= len(self.files):
            return -errno.EINVAL
        if not self.files[file_index - 1]:
            return -errno.EBADF
        self.files[file_index - 1] = False
        return 0

    def filled(self, slot: int) -> bool:
        """Whether something is in that slot."""
        return self.files is not None and 0 <= slot < len(self.files) and self.files[slot]

    def buffer_holds(self, index: int, address: int, length: int) -> bool:
        """Whether these bytes lie in that registered buffer."""
        found = self.buffers[index] if self.buffers is not None and 0 <= index < len(self.buffers) else None
        return found is not None and found[0] <= address and address + length <= found[0] + found[1]


def _memory(address: int | None, size: int) -> bytes:
    return bytes(ffi.buffer(ffi.cast("char *", address or 0), size))
