"""The receive queue of a network card over the process's memory: registration and the refill ring.

The card writes received data into an area, and a completion tells where. An entry in the refill ring gives
the memory back. Only the process writes the refill ring, and only the kernel reads it.

Invariants
  - The tail never passes the head by more entries than there are.
  - An entry is written before the tail that publishes it.
  - Area and refill ring stay where they are until the ring is gone: only its end frees the card's queue.
"""

from __future__ import annotations

import errno
import socket
import sys
from typing import TYPE_CHECKING, NamedTuple

from .. import abi
from ..abi.layouts import REGION_DESC, ZCRX_AREA_REG, ZCRX_CTRL, ZCRX_IFQ_REG, ZCRX_RQE
from ..errors import NotSupported
from ..kernel.memory import load, pin_writable, store, zeroed
from ..ops.base import check_int
from ..session.queries import query_opcodes
from ..session.registration import Registrations

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ..kernel.memory import Pin

__all__ = ["ZCRXMethods", "ZCRXOffsets", "ZCRXQueue"]

_UINT_MAX = (1 << 32) - 1
_OFFSET_MASK = ~int(abi.IORING_ZCRX_AREA_MASK)
_RX_BUF_LEN_AT = 68
_EXPORTED_FD_AT = 24


class ZCRXOffsets(NamedTuple):
    """The places of the refill ring's head, tail and entries in the region, in bytes."""

    head: int
    tail: int
    rqes: int


class ZCRXQueue:
    """A registered receive queue: the area that data arrives in, and the ring that gives it back.

    Attributes:
        zcrx_id: the number by which `uring.ops.recv_zero_copy` names it.
        area: the memory that data arrives in.
        offsets: where the refill ring is in the region.
        entries: how many entries the refill ring has.

    Args:
        zcrx_id: the number by which the kernel knows the queue.
        area: writable memory that data arrives in.
        region: writable memory with the refill ring.
        entries: a power of two, 1 to 2**20.
        offsets: where the refill ring is in ``region``.
        token: the area's token, 0 to 2**64 - 1.

    Raises:
        ValueError: the refill ring is not inside the region, or its entries are no power of two.
        TypeError: memory that is read-only.
    """

    __slots__ = (
        "_area_pin",
        "_head_at",
        "_region",
        "_region_pin",
        "_tail",
        "_tail_at",
        "_token",
        "area",
        "entries",
        "offsets",
        "zcrx_id",
    )

    def __init__(
        self, zcrx_id: int, area: Buffer, region: Buffer, entries: int, offsets: ZCRXOffsets, token: int = 0
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

    @property
    def room(self) -> int:
        """Free entries of the refill ring."""
        return self.entries - (self._tail - load(self._head_at) & _UINT_MAX)

    def locate(self, offset: int, length: int) -> memoryview:
        """The memory that a completion names.

        Args:
            offset: as the completion has it, with the area's token.
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
        return self.area[start : start + length]

    def refill(self, offset: int, length: int) -> None:
        """Gives memory back to the card.

        Args:
            offset: as the completion had it.
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


class ZCRXMethods(Registrations):
    """Receive queues of network cards."""

    def _prepare(self) -> None:
        super()._prepare()
        self._queues: list[ZCRXQueue] = []

    def register_zcrx_ifq(
        self, if_index: int, rx_queue: int, rq_entries: int, area: Buffer, region: Buffer, rx_buf_len: int = 0
    ) -> ZCRXQueue:
        """Takes over a receive queue of a network card until the ring stops.

        Args:
            if_index: of the interface: `socket.if_nametoindex`.
            rx_queue: of the interface.
            rq_entries: of the refill ring; a power of two.
            area: writable memory for data: whole pages, at a page boundary.
            region: writable memory for the refill ring, the same: a page and 16 bytes an entry are enough.
            rx_buf_len: size of the pieces that the card fills; 0 for a page. Others need Linux 7.0.

        Returns:
            The queue.

        Raises:
            NotSupported: the ring's completions have 16 bytes, or the card or its driver cannot do it.
            OSError: ``EPERM`` without CAP_NET_ADMIN, ``ENODEV`` for an unknown interface, ``EINVAL`` for
                sizes that the kernel does not take, ``EEXIST`` for a queue in use.

        Since:
            Linux 6.15.

        Source:
            io_uring_register(2), ``IORING_REGISTER_ZCRX_IFQ``.
        """
        self._check_owner()
        check_zcrx_mode(self)
        numbers = (
            check_int("if_index", if_index, 1, _UINT_MAX),
            check_int("rx_queue", rx_queue, 0, _UINT_MAX),
            check_int("rq_entries", rq_entries, 1, 32768),
        )
        check_int("rx_buf_len", rx_buf_len, 0, 1 << 30)
        area_address, area_size, area_pin = pin_writable(area)
        region_address, region_size, region_pin = pin_writable(region)
        area_reg, descriptor = zeroed(ZCRX_AREA_REG.size), zeroed(REGION_DESC.size)
        ZCRX_AREA_REG.pack_into(area_reg.view, 0, area_address, area_size, 0, 0, 0)
        user = int(abi.IORING_MEM_REGION_TYPE_USER)
        REGION_DESC.pack_into(descriptor.view, 0, region_address, region_size, user, 0, 0)
        argument = zeroed(ZCRX_IFQ_REG.size)
        ZCRX_IFQ_REG.pack_into(
            argument.view, 0, *numbers, 0, area_reg.address, descriptor.address, 0, 0, 0, 0
        )
        argument.view[_RX_BUF_LEN_AT : _RX_BUF_LEN_AT + 4] = rx_buf_len.to_bytes(4, sys.byteorder)
        what = f"receive without copies from interface {_named(if_index)}, queue {rx_queue}"
        try:
            self._kernel.register(int(abi.IORING_REGISTER_ZCRX_IFQ), argument.address, 1, what)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            raise NotSupported(what, "a network card and driver with queues for zero-copy receive") from error
        _, _, entries, _, _, _, head, tail, rqes, zcrx_id = ZCRX_IFQ_REG.unpack_from(argument.view)
        token = ZCRX_AREA_REG.unpack_from(area_reg.view)[2]
        queue = ZCRXQueue(zcrx_id, area_pin, region_pin, entries, ZCRXOffsets(head, tail, rqes), token)
        self._queues.append(queue)
        return queue

    def zcrx_flush_rq(self, zcrx_id: int) -> None:
        """Makes the kernel take what is in the refill ring.

        Args:
            zcrx_id: the queue, ``ZCRXQueue.zcrx_id``.

        Raises:
            NotSupported: the kernel is older.

        Since:
            Linux 6.19.

        Source:
            io_uring_register(2), ``IORING_REGISTER_ZCRX_CTRL``.
        """
        self._control(zcrx_id, int(abi.ZCRX_CTRL_FLUSH_RQ), "flush a refill ring")

    def zcrx_export(self, zcrx_id: int) -> int:
        """Makes a descriptor by which another ring can share the queue.

        Args:
            zcrx_id: the queue, ``ZCRXQueue.zcrx_id``.

        Returns:
            The descriptor; the caller closes it.

        Raises:
            NotSupported: the kernel is older.

        Since:
            Linux 6.19.

        Source:
            io_uring_register(2), ``IORING_REGISTER_ZCRX_CTRL``.
        """
        answer = self._control(zcrx_id, int(abi.ZCRX_CTRL_EXPORT), "export a receive queue")
        return int.from_bytes(answer[_EXPORTED_FD_AT : _EXPORTED_FD_AT + 4], sys.byteorder, signed=True)

    def _control(self, zcrx_id: int, control: int, what: str) -> bytes:
        self._check_owner()
        check_int("zcrx_id", zcrx_id, 0, _UINT_MAX)
        opcode = int(abi.IORING_REGISTER_ZCRX_CTRL)
        if query_opcodes().nr_register_opcodes <= opcode:
            raise NotSupported("IORING_REGISTER_ZCRX_CTRL", "Linux 6.19")
        argument = zeroed(ZCRX_CTRL.size)
        ZCRX_CTRL.pack_into(argument.view, 0, zcrx_id, control)
        self._kernel.register(opcode, argument.address, 0, what)
        return bytes(argument.view)

    def _release_resources(self, leak: bool) -> None:
        super()._release_resources(leak)
        if not leak:
            self._queues.clear()


def check_zcrx_mode(ring: Registrations) -> None:
    """Raises NotSupported unless the ring can have receive queues."""
    if not (ring.options.cqe32 or ring.options.cqe_mixed):
        raise NotSupported("zero-copy receive on a ring with 16-byte completions", "Options(cqe32=True)")


def _named(if_index: int) -> str:
    try:
        return f"{socket.if_indextoname(if_index)!r}"
    except (OSError, OverflowError):
        return str(if_index)
