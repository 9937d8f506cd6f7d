"""Receive buffers of subscriptions: a group for each consumer, and leases on its buffers.

A multishot receive takes buffers as data arrives, and its consumer may keep them. So each consumer has its
own group. A consumer that holds all of its buffers stops receiving, others are unaffected, and the group
bounds the data that is received ahead. A group is made for a consumer and kept for the next one of the same
shape. It starts with a few buffers, and their number doubles each time the kernel finds none available, up to
the bound. When that has not happened for a while the group shrinks again, and an unused group is freed.

Invariants
  - A buffer is in one place: with the kernel (``available`` counts those), in a completion in the
    queue, or in a `Lease`.
  - The kernel takes buffers in the order they were given to it, which their ring still shows when a bundle is
    noted: a bundle names its first buffer only.
  - A group passes to another consumer once all of its buffers are available; until then a lease keeps it.
  - A lease that is garbage may go at any moment, in any thread: its buffer is recycled in a step of the run.
  - All of this belongs to the thread of the run, like the ring; once the run is over a lease is only memory.
"""

from __future__ import annotations

import sys
import weakref
from abc import ABC, abstractmethod
from collections import deque
from functools import partial
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING, Any
from warnings import warn_explicit

from uring import abi

from .. import seams

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType

    from ..core.engine import Engine

__all__ = ["Group", "Lease", "Lender", "borrow_group"]

_BUFFER = int(abi.IORING_CQE_F_BUFFER)
_SPARE = 16
"""Groups kept for the next consumer, for a while; each page that was used stays in memory."""

_FIRST_BYTES = 1 << 19
"""Bytes that a group starts with, in two buffers at least, if it may have as many."""

_GROUPS_MAX = 0xFFFF


_HERE = str(Path(__file__).parents[1])
_getframe = sys._getframe


class Lease:
    """Memory that the kernel filled, on loan: a context manager that gives it back. Items of
    `UringStream.chunks` and others are leases with ``copy=False``.

    A lease that is forgotten gives it back too, with a `ResourceWarning` that names the line which received
    it, once the run is under way again and nothing uses ``data`` any more.

    Attributes:
        data: the bytes that arrived. Copy what is to outlive the lease: slices of it would show whatever is
            received into that memory next.
    """

    __slots__ = ("_bid", "_code", "_data", "_group", "_instruction")

    def __init__(self, data: memoryview, group: Lender | None = None, bid: int = 0) -> None:
        self._data: memoryview | None = data
        self._group = group
        self._bid = bid
        if group is not None:
            frame: FrameType | None = _getframe(1)
            while frame is not None and (code := frame.f_code).co_filename.startswith(_HERE):
                frame = frame.f_back
            if frame is not None:
                # The number of the line is looked up where it is wanted.
                self._code = code
                self._instruction: int = frame.f_lasti

    @property
    def data(self) -> memoryview:
        """Raises ValueError once the lease was given back."""
        if self._data is None:
            raise ValueError("this lease was given back")
        return self._data

    def release(self) -> None:
        """Gives the memory back to the kernel, which may receive into it at once. Idempotent.

        Call it in the thread of the run; in another thread, by ``trio.from_thread.run_sync``. Leaving the
        ``with`` block of the lease does the same.

        Raises:
            BufferError: something still shares the memory of ``data``, such as an array made from it.
            RuntimeError: called in another thread while the run goes on; the lease stays out.
        """
        data = self._data
        if data is not None:
            group = self._group
            if group is not None and get_ident() != group.thread and not group.closed:
                raise _another_thread()
            data.release()
            self._data = None
            if group is not None:
                group.recycle(self._bid)

    def __len__(self) -> int:
        return len(self.data)

    def __bytes__(self) -> bytes:
        return self.data.tobytes()

    def __enter__(self) -> Lease:
        if self._data is None:
            raise ValueError("this lease was given back")
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def __repr__(self) -> str:
        return "<Lease, given back>" if self._data is None else f"<Lease of {len(self._data)} bytes>"

    def __del__(self) -> None:
        if self._data is not None and (group := self._group) is not None and not group.closed:
            text = f"{self!r} was not released"
            group.expect(self._data, self._bid)
            self._data = None
            code = self._code
            line = _line(code, self._instruction)
            warn_explicit(
                f"{text}: received at {code.co_filename}:{line}, in {code.co_qualname}",
                ResourceWarning,
                code.co_filename,
                line,
                source=self,
            )


class Lender(ABC):
    """The owner of memory that leases lend.

    Attributes:
        closed: nothing goes back any more.
        thread: the one that the run is in.
    """

    __slots__ = ("_lost", "_run_soon", "closed", "thread")

    def __init__(self, run_soon: Callable[[Callable[[], object]], None]) -> None:
        self._run_soon = run_soon
        self._lost: dict[int, weakref.ref[memoryview]] = {}  # memory in use whose lease is garbage
        self.thread: int = get_ident()
        self.closed: bool = False

    @abstractmethod
    def recycle(self, bid: int) -> None:
        """Gives a buffer to the kernel; after the run it does nothing."""

    def expect(self, data: memoryview, bid: int) -> None:
        """Recycles a buffer whose lease is garbage, as soon as its memory is not used any more."""
        lost, soon = self._lost, partial(self._run_soon, partial(self.recycle, bid))

        def unused(ref: weakref.ref[memoryview]) -> None:
            lost.pop(bid, None)
            soon()

        lost[bid] = weakref.ref(data, unused)


class Group(Lender):
    """The buffers of one consumer.

    Attributes:
        available: how many the kernel has.
        in_use: how many there are, so far.
        memory: what copies out of them in C.
        on_return: called after a buffer was recycled.
        idle: whether a trim found it as it is and nothing has changed since.
    """

    __slots__ = (
        "_bundles",
        "_give",
        "_groups",
        "available",
        "buffers",
        "first",
        "idle",
        "in_use",
        "memory",
        "on_return",
        "size",
        "used",
        "views",
    )

    def __init__(self, groups: Groups, buffers: Any) -> None:
        super().__init__(groups.run_soon)
        self._groups = groups
        self.buffers: Any = buffers
        self._give: Callable[[int], int] = buffers.put
        self.memory: Any = seams.make_memory(buffers)
        self.size: int = buffers.size
        self.views: list[memoryview] = buffers.views
        self.first: int = buffers.in_use
        self.in_use: int = self.first
        self.available: int = self.first
        self._bundles: dict[int, list[int]] = {}
        self.on_return: Callable[[], None] | None = None
        self.used: bool = True
        self.idle: bool = False

    @property
    def number(self) -> int:
        """The number by which entries name the group."""
        return int(self.buffers.group)

    def consume(self, res: int, flags: int) -> None:
        """Notes that the kernel handed out the buffers of a completion."""
        if not flags & _BUFFER:
            return
        if res <= self.size:
            self.available -= 1
            return
        bid = flags >> 16
        taken = self._bundles[bid] = self.buffers.run(bid, -(-res // self.size))
        self.available -= len(taken)

    def bundle(self, bid: int, res: int) -> list[tuple[int, int]]:
        """The buffers of a completion that names ``bid``, with the bytes in each."""
        size = self.size
        taken = self._bundles.pop(bid) if res > size else [bid]
        return [(each, min(size, res - i * size)) for i, each in enumerate(taken)]

    def put_bundle(self, parts: list[tuple[int, int]]) -> None:
        """Undoes `bundle`."""
        self._bundles[parts[0][0]] = [each for each, _ in parts]

    def recycle(self, bid: int) -> None:
        """Gives a buffer to the kernel; after the run it does nothing."""
        if self.closed:
            return
        self._give(bid)
        self.available += 1
        if self.on_return is not None:
            self.on_return()
        elif not self.used and self.available == self.in_use:
            self._groups.keep(self)

    def copy(self, bid: int, size: int) -> bytes:
        """The bytes of a buffer, which is recycled."""
        view = self.views[bid]
        data: bytes = view.tobytes() if size == self.size else view[:size].tobytes()
        self.recycle(bid)
        return data

    def lease(self, bid: int, size: int) -> Lease:
        """The bytes of a buffer, on loan."""
        return Lease(self.views[bid][:size], self, bid)

    def take(self) -> int:
        """The buffer that was recycled last, which the processor's cache still has, for a receive of the
        consumer's own; negative: all are out. Only while nothing is armed that selects from this group."""
        if not self.available:
            self.grow()
        bid: int = self.buffers.take() if self.available else -1
        if bid >= 0:
            self.available -= 1
        return bid

    def give_back(self) -> None:
        """The consumer is done; leases that are out keep the group until they are released."""
        self.on_return = None
        self.used = False
        if self.available == self.in_use:
            self._groups.keep(self)

    def grow(self) -> None:
        """Adds buffers, if it may have more: the kernel found none left."""
        new = self.buffers.grow()
        self.idle = False
        if new:
            self.available += len(new)
            self.in_use += len(new)
            self._groups.changed()

    def shrink(self) -> None:
        """Halves the buffers, down to as many as it started with, as far as they are available."""
        gone = self.buffers.shrink(max(self.first, self.in_use // 2))
        self.available -= len(gone)
        self.in_use -= len(gone)

    def close(self) -> None:
        """Unregisters the buffers; the memory of a lease stays as long as the lease."""
        self.closed = True
        self.buffers.close()


seams.describe_groups(Group)


class Groups:
    """All groups of a run. The manager closes them at its end."""

    def __init__(self, engine: Engine) -> None:
        self._ring: Any = engine.ring
        self._provide = engine.provide
        self.changed: Callable[[], None] = engine.schedule_trim
        self.run_soon: Callable[[Callable[[], object]], None] = engine.run_soon
        self._limit = engine.options.group_memory
        self._spare: deque[Group] = deque()
        self.open: set[Group] = set()
        self._numbers: list[int] = []
        self._next = 1  # 0 is the group of single receives

    def borrow(self, count: int, size: int) -> Group:
        for group in self._spare:
            if (group.buffers.count, group.buffers.size) == (count, size):
                self._spare.remove(group)
                group.used, group.idle = True, False
                return group
        if count * size > self._limit:
            raise ValueError(
                f"{count} buffers of {size} bytes are more than one consumer may have ({self._limit} bytes, "
                "RingOptions.group_memory)"
            )
        if self._numbers:
            number = self._numbers.pop()
        elif self._next <= _GROUPS_MAX:
            number = self._next
            self._next += 1
        else:
            raise MemoryError(f"more than {_GROUPS_MAX} buffer groups")
        try:
            first = min(count, max(2, _FIRST_BYTES // size))
            buffers = self._provide(self._ring, number, count, size, first=first)
        except BaseException:
            self._numbers.append(number)
            raise
        group = Group(self, buffers)
        self.open.add(group)
        return group

    def keep(self, group: Group) -> None:
        """Takes a group whose buffers are all available; the one that was spare longest makes room for it."""
        group.idle = False
        self._spare.append(group)
        self.changed()
        if len(self._spare) > _SPARE:
            self._give_up(self._spare.popleft())

    def trim(self) -> bool:
        """Gives back memory of groups that have not changed since the last trim; whether there may be
        more."""
        for group in [group for group in self.open if group.idle]:
            if group.used:
                group.shrink()
            elif group in self._spare:
                self._spare.remove(group)
                self._give_up(group)
        waiting = [group for group in self.open if group.in_use > group.first or not group.used]
        for group in waiting:
            group.idle = True
        return bool(waiting)

    def _give_up(self, group: Group) -> None:
        self.open.remove(group)
        self._numbers.append(group.number)
        group.close()

    def close(self) -> None:
        """Frees every group; the ring has nothing in flight any more."""
        for group in self.open:
            group.close()
        self.open.clear()
        self._spare.clear()


def borrow_group(engine: Engine, count: int, size: int) -> Group:
    """``count`` buffers of ``size`` bytes for one consumer, until ``give_back``.

    Raises:
        TypeError, ValueError: no such sizes, or more memory than `RingOptions.group_memory`.
        OSError: the kernel has no memory for it; ``RLIMIT_MEMLOCK`` bounds that of unprivileged processes.
    """
    for name, value, most in (("a number of buffers", count, 32768), ("a chunk size", size, 1 << 30)):
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name} is an int, not {type(value).__name__}")
        if not 1 <= value <= most:
            raise ValueError(f"{name} is 1 to {most}, not {value}")
    if engine.groups is None:
        engine.groups = Groups(engine)
    return engine.groups.borrow(count, size)


def _another_thread() -> RuntimeError:
    return RuntimeError(
        "a lease is given back in the thread of its run: use trio.from_thread.run_sync(lease.release), or "
        "copy the data before it goes to another thread"
    )


def _line(code: CodeType, instruction: int) -> int:
    for start, end, line in code.co_lines():
        if start <= instruction < end and line is not None:
            return line
    return code.co_firstlineno
