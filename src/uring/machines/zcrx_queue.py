"""The receive queue of a network card over the process's memory: its registration, and the refill ring.

The card writes received data into an area, and a completion tells where. An entry in the refill ring gives
the memory back. Only the process writes the refill ring, and only the kernel reads it. With a queue without a
card (Linux 7.1) the kernel copies the data of any TCP connection into the area.

Invariants
  - The tail is never ahead of the head by more than the number of entries.
  - An entry is written before the tail that publishes it.
  - Area and refill ring stay where they are until the ring is gone: only its end frees the card's queue.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, NamedTuple

from .. import abi
from ..abi.layouts import (
    REGION_DESC,
    ZCRX_AREA_REG,
    ZCRX_CTRL,
    ZCRX_EVENT_DESC,
    ZCRX_IFQ_REG,
    ZCRX_RQE,
    ZCRX_STATS,
)
from ..contexts.context import CTX_MODE_RESERVED
from ..errors import NotSupported
from ..kernel.memory import load, pin_writable, store, zeroed
from ..ops.base import check_int
from ..session.queries import query_opcodes, query_zcrx

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Buffer

    from ..kernel.memory import Pin
    from ..kernel.ring import KernelRing

__all__ = ["ZCRXCopies", "ZCRXOffsets", "ZCRXQueue", "control_queue", "register_queue"]

_UINT_MAX = (1 << 32) - 1
_OFFSET_MASK = ~int(abi.IORING_ZCRX_AREA_MASK)
_NODEV = int(abi.ZCRX_REG_NODEV)
_NEEDS = {
    int(abi.ZCRX_CTRL_FLUSH_RQ): "Linux 6.19",
    int(abi.ZCRX_CTRL_EXPORT): "Linux 6.19",
    int(abi.ZCRX_CTRL_ARM_EVENT): "Linux 7.2",
}
"""The kernel that each ``ZCRX_CTRL_*`` came with."""


class ZCRXCopies(NamedTuple):
    """The copies of the kernel into a queue's area."""

    pieces: int
    """How many pieces were copied."""
    size: int
    """Their bytes."""


class ZCRXOffsets(NamedTuple):
    """The places of the refill ring's head, tail and entries in the region, in bytes."""

    head: int
    tail: int
    rqes: int


class ZCRXQueue:
    """A registered receive queue: the area that data arrives in, and the ring that gives memory back.

    Attributes:
        zcrx_id: the number by which `uring.ops.recv_zero_copy` names it.
        area: the memory that data arrives in.
        offsets: the offsets of the refill ring in the region.
        entries: how many entries the refill ring has.
        on_loan: how many pieces of data were located and not given back.
        refilled: how many were given back, in all.

    Args:
        zcrx_id: the kernel's number of the queue.
        area: writable memory that data arrives in.
        region: writable memory with the refill ring.
        entries: a power of two, 1 to 2**20.
        offsets: the offsets of the refill ring in ``region``.
        token: the area's token, 0 to 2**64 - 1.
        stats_at: the offset in ``region`` of the kernel's counts of copies; None: it does not count.
        flush: makes the kernel take the entries of the refill ring; None: it takes them only as data arrives.

    Raises:
        ValueError: the refill ring is not inside the region, or its entries are no power of two.
        TypeError: memory that is read-only.
    """

    __slots__ = (
        "_area_pin",
        "_flush",
        "_head_at",
        "_region",
        "_region_pin",
        "_stats_at",
        "_tail",
        "_tail_at",
        "_token",
        "_waiting",
        "area",
        "entries",
        "offsets",
        "on_loan",
        "refilled",
        "zcrx_id",
    )

    def __init__(
        self,
        zcrx_id: int,
        area: Buffer,
        region: Buffer,
        entries: int,
        offsets: ZCRXOffsets,
        token: int = 0,
        *,
        stats_at: int | None = None,
        flush: Callable[[], object] | None = None,
    ) -> None:
        self.zcrx_id: int = zcrx_id
        self.area: memoryview = memoryview(area).cast("B")
        self.entries: int = entries
        self.offsets: ZCRXOffsets = offsets
        address, size, self._region_pin = pin_writable(region)
        self._area_pin: Pin = pin_writable(area)[2]
        check_int("entries", entries, 1, 1 << 20)
        for name, offset, room in (
            ("head", offsets.head, 4),
            ("tail", offsets.tail, 4),
            ("rqes", offsets.rqes, entries * ZCRX_RQE.size),
        ):
            check_int(name, offset, 0, _UINT_MAX)
            if offset % 4 or address % 4 or offset + room > size:
                raise ValueError(f"{room} bytes at {offset} ({name}) do not fit into a region of {size}")
        if entries & (entries - 1):
            raise ValueError(f"entries is a power of two, not {entries}")
        check_int("token", token, 0, (1 << 64) - 1)
        self._region = memoryview(region).cast("B")
        self._head_at = address + offsets.head
        self._tail_at = address + offsets.tail
        self._token = token
        self._tail = load(self._tail_at)
        self._stats_at = stats_at
        self._flush = flush
        self._waiting: list[Callable[[], object]] = []
        self.on_loan: int = 0
        self.refilled: int = 0

    @property
    def room(self) -> int:
        """Free entries of the refill ring. If there is none, the kernel is first made to take the entries,
        where it can be (Linux 6.19)."""
        free = self._free()
        if not free and self._flush is not None:
            self._flush()
            free = self._free()
        return free

    def _free(self) -> int:
        return self.entries - (self._tail - load(self._head_at) & _UINT_MAX)

    def flush(self) -> None:
        """Makes the kernel take the entries of the refill ring, where it can be (Linux 6.19). For a card's
        queue it does that by itself; a queue without a card needs this before the memory is used again."""
        if self._flush is not None and self._free() < self.entries:
            self._flush()

    def when_refilled(self, then: Callable[[], object]) -> None:
        """Calls a function once, when the next piece is given back.

        Args:
            then: the function; it must not raise.
        """
        self._waiting.append(then)

    @property
    def copies(self) -> ZCRXCopies:
        """The kernel's copies so far. It copies data that did not come through the card's queue.

        Raises:
            ValueError: the queue was registered without ``count_copies``.
        """
        if self._stats_at is None:
            raise ValueError("the kernel counts its copies where the queue is registered with count_copies")
        return ZCRXCopies(*ZCRX_STATS.unpack_from(self._region, self._stats_at))

    def locate(self, offset: int, length: int) -> memoryview:
        """The memory that a completion names, which is on loan until `refill`.

        Args:
            offset: the completion's offset, with the area's token.
            length: bytes.

        Returns:
            A view of it.

        Raises:
            OSError: ``EFAULT`` when it is not in the area.
        """
        start = offset & _OFFSET_MASK
        if start + length > self.area.nbytes:
            raise OSError(
                errno.EFAULT, f"the completion names {length} bytes at {start} of {self.area.nbytes}"
            )
        self.on_loan += 1
        return self.area[start : start + length]

    def refill(self, offset: int, length: int) -> None:
        """Gives memory back to the card.

        Args:
            offset: the completion's offset.
            length: bytes.

        Raises:
            BlockingIOError: the refill ring is full until the kernel has taken entries.
        """
        if not self.room:
            raise BlockingIOError(errno.EAGAIN, f"the refill ring ({self.entries} entries) is full")
        place = self.offsets.rqes + (self._tail & self.entries - 1) * ZCRX_RQE.size
        ZCRX_RQE.pack_into(self._region, place, offset & _OFFSET_MASK | self._token, length)
        self._tail = self._tail + 1 & _UINT_MAX
        store(self._tail_at, self._tail)
        self.on_loan -= 1
        self.refilled += 1
        if self._waiting:
            waiting, self._waiting = self._waiting, []
            for then in waiting:
                then()


def register_queue(
    kernel: KernelRing,
    if_index: int,
    rx_queue: int,
    rq_entries: int,
    area: Buffer,
    region: Buffer,
    rx_buf_len: int = 0,
    *,
    flags: int = 0,
    events: int = 0,
    event_message: int = 0,
    count_copies: bool = False,
) -> ZCRXQueue:
    """Registers a queue with a ring. Arguments and errors are those of `uring.Ring.register_zcrx_ifq`."""
    without_card = flags == _NODEV
    numbers = (
        check_int("if_index", if_index, 0 if without_card else 1, 0 if without_card else _UINT_MAX),
        check_int("rx_queue", rx_queue, 0, 0 if without_card else _UINT_MAX),
        check_int("rq_entries", rq_entries, 1, 32768),
    )
    check_int("rx_buf_len", rx_buf_len, 0, 1 << 30)
    check_int("events", events, 0, sum(1 << event for event in abi.ZcrxEvent))
    check_int("event_message", event_message, 0, (1 << 62) - 1)
    area_address, area_size, area_pin = pin_writable(area)
    region_address, region_size, region_pin = pin_writable(region)
    _check_known(check_int("flags", flags, 0, _UINT_MAX), events, count_copies)
    area_reg, descriptor = zeroed(ZCRX_AREA_REG.size), zeroed(REGION_DESC.size)
    ZCRX_AREA_REG.pack_into(area_reg.view, 0, area_address, area_size, 0, 0, 0)
    user = int(abi.IORING_MEM_REGION_TYPE_USER)
    REGION_DESC.pack_into(descriptor.view, 0, region_address, region_size, user, 0, 0)
    stats_at = _stats_at(rq_entries, region_size) if count_copies else None
    event_desc = zeroed(ZCRX_EVENT_DESC.size)
    counted = int(abi.ZCRX_EVENT_DESC_FLAG_STATS) if count_copies else 0
    ZCRX_EVENT_DESC.pack_into(
        event_desc.view, 0, event_message | CTX_MODE_RESERVED, events, counted, stats_at or 0
    )
    argument = zeroed(ZCRX_IFQ_REG.size)
    pointers = area_reg.address, descriptor.address
    told = event_desc.address if events or count_copies else 0
    ZCRX_IFQ_REG.pack_into(argument.view, 0, *numbers, flags, *pointers, 0, 0, 0, 0, rx_buf_len, told)
    where = "TCP by a queue without a card" if without_card else f"{_named(if_index)}, queue {rx_queue}"
    what = f"receive without copies from {where}"
    try:
        kernel.register(int(abi.IORING_REGISTER_ZCRX_IFQ), argument.address, 1, what)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        raise NotSupported(what, "a network card and driver with queues for zero-copy receive") from error
    _, _, entries, _, _, _, head, tail, rqes, zcrx_id, *_ = ZCRX_IFQ_REG.unpack_from(argument.view)
    token = ZCRX_AREA_REG.unpack_from(area_reg.view)[2]

    def flush() -> None:
        control_queue(kernel, zcrx_id, int(abi.ZCRX_CTRL_FLUSH_RQ), "flush a refill ring")

    return ZCRXQueue(
        zcrx_id,
        area_pin,
        region_pin,
        entries,
        ZCRXOffsets(head, tail, rqes),
        token,
        stats_at=stats_at,
        flush=flush if _has_control(int(abi.ZCRX_CTRL_FLUSH_RQ)) else None,
    )


def control_queue(kernel: KernelRing, zcrx_id: int, control: int, what: str, value: int = 0) -> int:
    """Sends one ``ZCRX_CTRL_*`` request of a queue; returns the first word of its answer.

    Raises:
        NotSupported: the kernel is older.
        OSError: ``ENXIO`` for a queue that the ring has not.
    """
    check_int("zcrx_id", zcrx_id, 0, _UINT_MAX)
    if not _has_control(control):
        raise NotSupported(abi.ZcrxCtrl(control).name, _NEEDS[control])
    argument = zeroed(ZCRX_CTRL.size)
    ZCRX_CTRL.pack_into(argument.view, 0, zcrx_id, control, value)
    kernel.register(int(abi.IORING_REGISTER_ZCRX_CTRL), argument.address, 0, what)
    answer: int = ZCRX_CTRL.unpack_from(argument.view)[2]
    return answer


def _has_control(control: int) -> bool:
    try:
        if query_opcodes().nr_register_opcodes <= int(abi.IORING_REGISTER_ZCRX_CTRL):
            return False
        return control < query_zcrx().nr_ctrl_opcodes
    except NotSupported:
        return False


def _check_known(flags: int, events: int, count_copies: bool) -> None:
    """Raises NotSupported for a flag or an event that this kernel's registration lacks."""
    if flags & ~_NODEV:
        raise ValueError(f"flags are ZCRX_REG_NODEV or 0, not {flags:#x}")
    if not (flags or events or count_copies):
        return
    try:
        known = query_zcrx()
    except NotSupported:
        known = None
    if flags and not (known and known.register_flags & flags):
        raise NotSupported("ZCRX_REG_NODEV, zero-copy receive without a network card,", "Linux 7.1")
    if (events or count_copies) and not (known and known.features & int(abi.ZCRX_FEATURE_EVENT)):
        raise NotSupported("ZCRX_FEATURE_EVENT, telling what zero-copy receive copied,", "Linux 7.2")


def _stats_at(rq_entries: int, region_size: int) -> int:
    """The offset of the counts of copies: behind the refill ring, whose entries the kernel rounds up."""
    entries = 1 << (rq_entries - 1).bit_length()
    known = query_zcrx()
    header = -(-known.rq_hdr_size // known.rq_hdr_alignment) * known.rq_hdr_alignment
    at = header + entries * ZCRX_RQE.size
    if at + ZCRX_STATS.size > region_size:
        raise ValueError(
            f"a region of {region_size} bytes has no room for counts behind {entries} entries: "
            f"{at + ZCRX_STATS.size} are needed"
        )
    return at


def _named(if_index: int) -> str:
    try:
        return f"interface {socket.if_indextoname(if_index)!r}"
    except (OSError, OverflowError):
        return f"interface {if_index}"
