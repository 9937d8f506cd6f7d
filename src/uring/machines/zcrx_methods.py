"""The methods of a ring for zero-copy receives: queues of network cards, and queues without a card.

The refill ring of a queue is in `uring.machines.zcrx_queue`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import abi
from ..errors import NotSupported
from ..ops.base import check_int
from ..session.registration import Registrations
from .zcrx_queue import ZCRXQueue, control_queue, register_queue

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["ZCRXMethods", "check_zcrx_mode"]


class ZCRXMethods(Registrations):
    """Receive queues of network cards."""

    def _prepare(self) -> None:
        super()._prepare()
        self._queues: list[ZCRXQueue] = []

    def register_zcrx_ifq(
        self,
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
        """Takes over a receive queue of a network card until the ring stops, or makes one without a card.

        Args:
            if_index: the interface, from `socket.if_nametoindex`; 0 with ``ZCRX_REG_NODEV``.
            rx_queue: the queue of the interface; 0 with ``ZCRX_REG_NODEV``.
            rq_entries: entries of the refill ring; a power of two, 1 to 32768.
            area: writable memory for data: whole pages, at a page boundary.
            region: writable memory for the refill ring, the same: a page and 16 bytes an entry are enough.
            rx_buf_len: size of the pieces that the card fills; 0 for a page. Others need Linux 7.0 and a
                card.
            flags: ``ZCRX_REG_NODEV``: the queue has no card, and the kernel copies the data of any TCP
                connection into the area (Linux 7.1). Memory that was given back is used again after
                `zcrx_flush_rq`.
            events: which events complete on this ring, as ``1 << ZCRX_EVENT_ALLOC_FAIL`` (the card found no
                memory in the area) and ``1 << ZCRX_EVENT_COPY`` (data was copied) (Linux 7.2). Each completes
                once, until `zcrx_arm_event`; the result of the completion is ``ZCRX_EVENT_*``.
            event_message: 0 to 2**62 - 1: ``cqe.context.message`` of their completions, which are in reserved
                mode.
            count_copies: the kernel counts its copies, for `ZCRXQueue.copies` (Linux 7.2); 16 bytes more in
                ``region``.

        Returns:
            The queue.

        Raises:
            NotSupported: the ring's completions have 16 bytes, the card or its driver cannot do it, or the
                kernel lacks the flag or the events; the message says which.
            ValueError: a number out of range, other flags, or a region without room for the counts.
            OSError: ``EPERM`` without CAP_NET_ADMIN, ``ENODEV`` for an unknown interface, ``EINVAL`` for
                sizes that the kernel does not take, ``EEXIST`` for a queue in use.

        Since:
            Linux 6.15.

        Source:
            io_uring_register(2), ``IORING_REGISTER_ZCRX_IFQ``; linux/io_uring/zcrx.h.
        """
        self._check_owner()
        check_zcrx_mode(self)
        queue = register_queue(
            self._kernel,
            if_index,
            rx_queue,
            rq_entries,
            area,
            region,
            rx_buf_len,
            flags=flags,
            events=events,
            event_message=event_message,
            count_copies=count_copies,
        )
        self._queues.append(queue)
        return queue

    def zcrx_flush_rq(self, zcrx_id: int) -> None:
        """Makes the kernel take the entries of the refill ring.

        Args:
            zcrx_id: the queue, ``ZCRXQueue.zcrx_id``.

        Raises:
            NotSupported: the kernel is older.
            OSError: ``ENXIO`` for a queue that the ring has not.

        Since:
            Linux 6.19.

        Source:
            io_uring_register(2), ``IORING_REGISTER_ZCRX_CTRL``.
        """
        self._check_owner()
        control_queue(self._kernel, zcrx_id, int(abi.ZCRX_CTRL_FLUSH_RQ), "flush a refill ring")

    def zcrx_export(self, zcrx_id: int) -> int:
        """Makes a descriptor by which another ring can share the queue.

        Args:
            zcrx_id: the queue, ``ZCRXQueue.zcrx_id``.

        Returns:
            The descriptor; the caller closes it.

        Raises:
            NotSupported: the kernel is older.
            OSError: ``ENXIO`` for a queue that the ring has not.

        Since:
            Linux 6.19.

        Source:
            io_uring_register(2), ``IORING_REGISTER_ZCRX_CTRL``.
        """
        self._check_owner()
        return control_queue(self._kernel, zcrx_id, int(abi.ZCRX_CTRL_EXPORT), "export a receive queue")

    def zcrx_arm_event(self, zcrx_id: int, event: int) -> None:
        """Lets an event of a queue complete again, after it has completed.

        Args:
            zcrx_id: the queue, ``ZCRXQueue.zcrx_id``.
            event: ``ZCRX_EVENT_ALLOC_FAIL`` or ``ZCRX_EVENT_COPY``.

        Raises:
            NotSupported: the kernel is older.
            ValueError: no such event.
            OSError: ``ENXIO`` for a queue that the ring has not, ``EINVAL`` for an event that is armed
                already, or that the queue was not registered for.

        Since:
            Linux 7.2.

        Source:
            io_uring_register(2), ``IORING_REGISTER_ZCRX_CTRL``; linux/io_uring/zcrx.h.
        """
        self._check_owner()
        check_int("event", event, 0, max(abi.ZcrxEvent))
        control_queue(self._kernel, zcrx_id, int(abi.ZCRX_CTRL_ARM_EVENT), "arm an event", event)

    def _release_resources(self, leak: bool) -> None:
        super()._release_resources(leak)
        if not leak:
            self._queues.clear()


def check_zcrx_mode(ring: Registrations) -> None:
    """Raises NotSupported unless the ring can have receive queues."""
    if not (ring.options.cqe32 or ring.options.cqe_mixed):
        raise NotSupported("zero-copy receive on a ring with 16-byte completions", "Options(cqe32=True)")
