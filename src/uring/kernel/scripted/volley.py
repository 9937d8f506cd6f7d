"""Volleys of a scripted ring, with the rules of `uring.kernel.volley`: the script completes each member."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any, Protocol

from ..volley import MEMBERS_MAX
from .request import Request

if TYPE_CHECKING:
    from array import array
    from collections.abc import Sequence

    from ..op import Fields

__all__ = ["ScriptedVolley", "is_member"]

_UNFINISHED = -(1 << 31)
_GENERATION_SHIFT = 30
_GENERATIONS = (1 << 30) - 1
_MEMBER = 1 << 60
_F_MORE = 2


class Queue(Protocol):
    """A ring as its volleys use it."""

    closed: bool
    eager: bool
    volleys: dict[int, ScriptedVolley]
    queued: tuple[Request, ...]

    def queue_member(self, request: Request) -> int: ...
    def unqueue(self, user_data: int) -> int: ...
    def flush(self, run_work: int) -> int: ...


class ScriptedVolley:
    """``count`` requests of a `ScriptedRing`, with the interface of `uring.kernel.volley.Volley`."""

    _generation = 0

    def __init__(self, ring: Any, count: int) -> None:
        if not 1 <= count <= MEMBERS_MAX:
            raise ValueError(f"a volley has 1 to {MEMBERS_MAX} members, not {count}")
        self._ring: Queue = ring
        self._members: list[tuple[int, ...]] = [(0,) * 10] * count
        self._results = [0] * count
        self._tag = self._queued = self._left = 0
        self.user_data: int = 0
        self.count: int = count

    def fill(self, opcode: int, fd: int, places: array[int], op_flags: int = 0) -> None:
        if places.typecode != "Q" or len(places) != 3 * self.count:
            raise ValueError(f"{self.count} members need {3 * self.count} numbers of type Q")
        threes = zip(*[iter(places)] * 3, strict=True)
        self._members = [(opcode, 0, fd, *three, op_flags, 0, 0, 0) for three in threes]

    def set(self, members: Sequence[Fields]) -> None:
        self._members = [tuple(fields) for fields in members]

    def queue(self, user_data: int) -> int:
        ring = self._ring
        if ring.closed:
            return -errno.EBADF
        self.user_data = user_data
        if not self._tag:
            ScriptedVolley._generation = ScriptedVolley._generation + 1 & _GENERATIONS
            self._tag = _MEMBER | self._generation << _GENERATION_SHIFT
            self._results = [_UNFINISHED] * self.count
            self._left, self._queued = self.count, 0
            ring.volleys[self._tag] = self
        while self._queued < self.count:
            error = ring.queue_member(Request(self._tag | self._queued, *self._members[self._queued]))
            if error:
                return error
            self._queued += 1
        if ring.eager:
            ring.flush(0)
        return 0

    @property
    def in_flight(self) -> bool:
        return bool(self._tag)

    def unqueue(self) -> int:
        ring = self._ring
        if ring.closed:
            return -errno.EBADF
        if not self._tag:
            return 0
        members = [r.user_data for r in ring.queued if r.user_data & ~(MEMBERS_MAX - 1) == self._tag]
        return sum(ring.unqueue(member) > 0 for member in members)

    def unfinished(self) -> list[int]:
        return [self._tag | i for i, res in enumerate(self._results) if res == _UNFINISHED]

    def results(self) -> list[int]:
        return list(self._results)

    def take(self, user_data: int, res: int, flags: int) -> bool:
        """Takes a member's completion; whether it was the last of the volley."""
        place = user_data & (MEMBERS_MAX - 1)
        if self._results[place] == _UNFINISHED:  # the first one of a zero-copy send has the result
            self._results[place] = res
        if flags & _F_MORE:
            return False
        self._left -= 1
        if self._left:
            return False
        del self._ring.volleys[self._tag]
        self._tag = 0
        return True


def is_member(user_data: int) -> bool:
    """Whether this names a member of a volley, not an operation."""
    return user_data >> 60 == 1
