"""A view of the submitted entry that a slot or a request keeps."""

from __future__ import annotations

from .context import ExtSQE, IndirectSQE
from .requests import Request

__all__ = ["SQEView", "view_ext_sqe", "view_sqe"]


class SQEView:
    """The fields of an entry that a slot keeps, to read.

    Args:
        slot: the slot, or None for an entry that was not kept.

    Raises:
        TypeError: ``slot`` is no slot.
        LookupError: on reading a field of a view that is not `valid`.
    """

    __slots__ = ("_slot",)

    def __init__(self, slot: IndirectSQE | Request[object] | None) -> None:
        if slot is not None and not isinstance(slot, (IndirectSQE, Request)):
            raise TypeError(f"a slot is needed, not {type(slot).__name__}")
        self._slot = slot

    @property
    def valid(self) -> bool:
        """Whether there is an entry: its slot is borrowed."""
        return self._slot is not None and self._slot.valid

    def _borrowed(self) -> IndirectSQE | Request[object]:
        if self._slot is None:
            raise LookupError("no entry is kept: the context is direct, or its slot was given back")
        if not self._slot.valid:
            raise LookupError("the slot was given back, and its entry with it")
        return self._slot

    def _field(self, place: int) -> int:
        return self._borrowed().fields[place]

    @property
    def opcode(self) -> int:
        """The opcode, ``IORING_OP_*``."""
        return self._field(0)

    @property
    def flags(self) -> int:
        """The ``IOSQE_*`` flags."""
        return self._field(1) & 0xFF

    @property
    def ioprio(self) -> int:
        """The I/O priority, or flags of the operation."""
        return self._field(1) >> 8 & 0xFFFF

    @property
    def personality(self) -> int:
        """The registered credentials; 0 is the submitter's own."""
        return self._field(1) >> 24 & 0xFFFF

    @property
    def fd(self) -> int:
        """The descriptor, or the slot of a registered file."""
        return self._field(2)

    raw_fd = fd

    @property
    def off(self) -> int:
        """An offset, or what the operation has there instead."""
        return self._field(3)

    @property
    def addr(self) -> int:
        """An address, to compare and print; or what the operation has there instead."""
        return self._field(4)

    @property
    def len(self) -> int:
        """A length or count, or what the operation has there instead."""
        return self._field(5)

    @property
    def uflags(self) -> int:
        """The flags of the operation: ``MSG_*``, ``RWF_*``, poll events, …"""
        return self._field(6)

    @property
    def user_data(self) -> int:
        """The context it was submitted under."""
        return int(self._borrowed().context)

    @property
    def buf_index(self) -> int:
        """The registered buffer."""
        return self._field(7) & 0xFFFF

    @property
    def buf_group(self) -> int:
        """The buffer group, with `has_buffer_select`."""
        return self._field(7) & 0xFFFF

    @property
    def splice_fd_in(self) -> int:
        """The descriptor that `uring.ops.splice` and ``tee`` read from."""
        return self._field(8)

    @property
    def file_index(self) -> int:
        """The slot of the file table as the entry holds it: one more than its number."""
        return self._field(8) & 0xFFFF_FFFF

    @property
    def addr3(self) -> int:
        """A third address, or what the operation has there instead."""
        return self._field(9)

    @property
    def has_fixed_file(self) -> bool:
        """Whether ``IOSQE_FIXED_FILE`` is among the flags."""
        return self.flags & 1 << 0 != 0

    @property
    def has_io_drain(self) -> bool:
        """Whether ``IOSQE_IO_DRAIN`` is among the flags."""
        return self.flags & 1 << 1 != 0

    @property
    def has_io_link(self) -> bool:
        """Whether ``IOSQE_IO_LINK`` is among the flags."""
        return self.flags & 1 << 2 != 0

    @property
    def has_io_hardlink(self) -> bool:
        """Whether ``IOSQE_IO_HARDLINK`` is among the flags."""
        return self.flags & 1 << 3 != 0

    @property
    def has_async(self) -> bool:
        """Whether ``IOSQE_ASYNC`` is among the flags."""
        return self.flags & 1 << 4 != 0

    @property
    def has_buffer_select(self) -> bool:
        """Whether ``IOSQE_BUFFER_SELECT`` is among the flags."""
        return self.flags & 1 << 5 != 0

    @property
    def has_cqe_skip_success(self) -> bool:
        """Whether ``IOSQE_CQE_SKIP_SUCCESS`` is among the flags."""
        return self.flags & 1 << 6 != 0


def view_sqe(indirect: IndirectSQE) -> SQEView:
    """The entry of an indirect slot.

    Args:
        indirect: the slot.

    Raises:
        TypeError: ``indirect`` is no slot.
    """
    if not isinstance(indirect, IndirectSQE):
        raise TypeError(f"an IndirectSQE is needed, not {type(indirect).__name__}")
    return SQEView(indirect)


def view_ext_sqe(ext: ExtSQE) -> SQEView:
    """The entry of an extended slot.

    Args:
        ext: the slot.

    Raises:
        TypeError: ``ext`` is no extended slot.
    """
    if not isinstance(ext, ExtSQE):
        raise TypeError(f"an ExtSQE is needed, not {type(ext).__name__}")
    return SQEView(ext)
