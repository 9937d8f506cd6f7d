"""Requests that are queued by one call and answered by one completion.

A program that reads sixty-four pieces of a file needs one wake-up, not sixty-four. The members of a volley
are queued together; the shim takes their completions, and hands out one, under the volley's ``user_data``,
after the last of them.

Invariants
  - Nothing else in flight has a value like a member's; where the user chooses values, ``-EEXIST`` keeps that.
  - The memory of a volley lives until its completion: the caller keeps the object and the pins of its
    members.
  - Each member has a result when the volley's completion comes, if only ``-ECANCELED``.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from .lib import ffi, lib

if TYPE_CHECKING:
    from array import array
    from collections.abc import Sequence

    from .op import Fields
    from .ring import KernelRing

__all__ = ["MEMBERS_MAX", "Volley"]

MEMBERS_MAX = 1 << 20
_UNFINISHED = -(1 << 31)
_SQE = struct.Struct("=BBHiQQIIQHHiQQ")


class Volley:
    """``count`` requests of one ring, which `queue` queues.

    Raises:
        ValueError: none, or more than `MEMBERS_MAX`.
    """

    __slots__ = ("_handle", "_memory", "count")

    def __init__(self, ring: KernelRing, count: int) -> None:
        if not 1 <= count <= MEMBERS_MAX:
            raise ValueError(f"a volley has 1 to {MEMBERS_MAX} members, not {count}")
        handle = ffi.new("struct ur_volley *")
        self._memory = (ffi.new("struct ur_sqe[]", count), ffi.new("int32_t[]", count))
        handle.ring = ring._handle
        handle.sqes, handle.results = self._memory
        handle.count = count
        self._handle: Any = handle
        self.count: int = count

    def fill(self, opcode: int, fd: int, places: array[int], op_flags: int = 0) -> None:
        """Makes all members the same read or write, each with its own place: ``places`` has the offset,
        address and length of each in turn, in an array of type ``Q``."""
        if places.typecode != "Q" or len(places) != 3 * self.count:
            raise ValueError(f"{self.count} members need {3 * self.count} numbers of type Q")
        lib.ur_volley_fill(self._handle, opcode, fd, op_flags, ffi.from_buffer("uint64_t[]", places))

    def set(self, members: Sequence[Fields]) -> None:
        """Sets the members' requests, each given as its ``Op.fields``."""
        room = ffi.buffer(self._memory[0])
        for i, (opcode, flags, fd, off, addr, length, op_flags, index, file_index, addr3) in enumerate(
            members
        ):
            _SQE.pack_into(
                room, i * _SQE.size, opcode, flags & 0xFF, flags >> 8 & 0xFFFF, fd, off, addr, length,
                op_flags, 0, index, flags >> 24, file_index, addr3, 0,
            )  # fmt: skip

    def queue(self, user_data: int) -> int:
        """Queues the members that are not queued: 0, or ``-EBUSY`` when the kernel takes no more; call again.

        After its completion a volley may be queued again. ``-EEXIST`` on a ring that counts by ``user_data``:
        something is in flight there under a value like those of members.
        """
        self._handle.user_data = user_data
        return int(lib.ur_volley_queue(self._handle))

    @property
    def in_flight(self) -> bool:
        """Whether its completion is still to come."""
        return bool(self._handle.tag)

    def unqueue(self) -> int:
        """Takes back members that the kernel has not seen, which complete as cancelled; returns how many."""
        return int(lib.ur_volley_unqueue(self._handle))

    def unfinished(self) -> list[int]:
        """The ``user_data`` of each member that has not completed."""
        tag = self._handle.tag
        return [tag | i for i, res in enumerate(self.results()) if res == _UNFINISHED]

    def results(self) -> list[int]:
        """The members' results in their order; before the volley's completion some may be missing."""
        return memoryview(ffi.buffer(self._memory[1])).cast("i").tolist()
