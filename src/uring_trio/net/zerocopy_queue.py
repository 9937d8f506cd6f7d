"""Zero-copy receives as a program has them: the memory that they arrive in, and leases of it as chunks."""

from __future__ import annotations

import mmap
from functools import partial
from typing import TYPE_CHECKING

import trio
from trio.lowlevel import enable_ki_protection

from uring import abi
from uring.errors import OperationRestricted
from uring.kernel.ring import KernelRing

from ..core.engine import current
from ..core.opening import SETUP
from ..multishot.leases import Lease
from .chunks import ByteItems, recv_fields
from .receiver import stream_error
from .zerocopy_feed import OFFSET_SHIFT, RECV_ZC, Feed

if TYPE_CHECKING:
    from uring.machines.zcrx_parts import ZCRXConfig
    from uring.machines.zcrx_queue import ZCRXQueue

    from ..multishot.subscription import Subscription
    from .receiver import ByteReceiver

__all__ = ["ZeroCopyChunks", "ZeroCopyQueue"]

_PAGE = mmap.PAGESIZE
_ENTRIES = 64
_LEFT_OVER = 65536
_SETUP = SETUP | int(abi.IORING_SETUP_CQE32)


def _open(config: ZCRXConfig, entries: int) -> tuple[KernelRing, ZCRXQueue]:
    """A ring with a queue, or the error that says why there is none."""
    from uring.machines.zcrx_parts import open_queue
    from uring.machines.zcrx_queue import register_queue  # few programs receive so

    ring = KernelRing(_ENTRIES, _SETUP, cq_entries=entries, enter_flags=int(abi.IORING_ENTER_NO_IOWAIT))
    try:
        return ring, open_queue(partial(register_queue, ring), config)
    except BaseException:
        ring.close()
        raise


class ZeroCopyQueue:
    """Memory that `UringStream.zero_copy_chunks` receives into, while the block of this async context manager
    runs.

    With an interface, the card puts data of the connections that it steers to its receive queue there, and
    no other program receives by that queue meanwhile (see iou-zcrx.rst in the kernel's documentation).
    Without one the kernel copies the data of any TCP connection into this memory.

    Several streams may share a queue. A consumer that keeps all of its memory stops the others too.

    Leaving the block closes the ``chunks`` that are open. Leases stay readable.

    Args:
        interface: the name of a network interface; None: no card (Linux 7.1).
        rx_queue: which of its receive queues, from 0 on.
        size: bytes of memory, in whole pages, 4 KiB to 1 GiB.

    Raises:
        TypeError, ValueError: no such interface name, number or size.
        NotSupported: on entering; the kernel, the card or its driver cannot do it: the message says which.
        PermissionError: on entering, without CAP_NET_ADMIN.
        OSError: on entering, no such interface (``ENODEV``), a queue in use (``EEXIST``), or no memory.
        OperationRestricted: on entering, the run's restrictions leave out ``recv_zc``.
        RuntimeError: outside a ring run, or entered twice.
    """

    __slots__ = ("_config", "_entered", "_feed")

    def __init__(self, interface: str | None = None, rx_queue: int = 0, *, size: int = 4 << 20) -> None:
        from uring.machines.zcrx_parts import ZCRXConfig  # few programs receive so

        if isinstance(size, int) and size > 1 << 30:
            raise ValueError(f"size is at most {1 << 30}, not {size}")
        pages = max(1, size // _PAGE) if isinstance(size, int) else 1
        entries = min(32768, 1 << (2 * pages - 1).bit_length())
        self._config = ZCRXConfig(interface, rx_queue, area_size=size, rq_entries=entries)
        self._feed: Feed | None = None
        self._entered = False

    @property
    def feed(self) -> Feed:
        """The open queue, while its block runs.

        Raises:
            trio.ClosedResourceError: the block was left, or not entered.
        """
        if self._feed is None:
            raise trio.ClosedResourceError("the block of this queue is not entered, or was left")
        return self._feed

    def open(self) -> Feed:
        """Opens it in this run."""
        if self._entered:
            raise RuntimeError("this queue was entered before; make a new one")
        engine = current()
        if engine.allowed is not None and RECV_ZC not in engine.allowed:
            raise OperationRestricted("recv_zc")
        entries = max(2 * _ENTRIES, 2 * self._config.rq_entries)
        self._feed = Feed(engine, *_open(self._config, entries))
        self._entered = True
        return self._feed

    @enable_ki_protection
    async def aclose(self) -> None:
        """Closes the queue as leaving the block does, in a cancelled scope too. Idempotent."""
        feed, self._feed = self._feed, None
        if feed is not None:
            await feed.aclose()

    @enable_ki_protection
    async def __aenter__(self) -> ZeroCopyQueue:
        await trio.lowlevel.checkpoint()
        self.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        where = self._config.if_name or "no card"
        return f"<ZeroCopyQueue of {where}, {'open' if self._feed else 'not open'}>"


class ZeroCopyChunks(ByteItems[Lease]):
    """The iterator; see `UringStream.zero_copy_chunks`.

    Args:
        stream: what to receive from.
        queue: receives into its memory; None: a new queue without a card, for this stream alone.
    """

    __slots__ = ("_feed", "_own", "_queue", "_stream")

    def __init__(self, stream: ByteReceiver, queue: ZeroCopyQueue | None) -> None:
        super().__init__(stream._receiving_owner, recv_fields, "recv_zero_copy", 0, 0, False, stream._keep)
        self._stream = stream
        self._own = ZeroCopyQueue() if queue is None else None
        self._queue = queue
        self._feed: Feed | None = None

    def _open(self) -> Subscription:
        owner = self._open_owner()
        try:
            self._feed = self._own.open() if self._own is not None else self._queue.feed  # type: ignore[union-attr]
        except BaseException:
            owner.forget()
            raise
        subscription = self._feed.subscribe(owner, self._discard)
        owner.receiving = subscription
        return subscription

    @enable_ki_protection
    async def __anext__(self) -> Lease:
        if self._stream._unread is not None and self._subscription is not None and not self._done:
            return Lease(memoryview(await self._stream._receive_unread(_LEFT_OVER)))
        return await super().__anext__()

    def _item(self, res: int, flags: int) -> Lease:
        feed, offset = self._feed, flags >> OFFSET_SHIFT
        assert feed is not None  # since entering
        lease = Lease(feed.views[offset], feed, offset)
        del feed.views[offset]
        return lease

    def _discard(self, res: int, flags: int) -> None:
        feed, offset = self._feed, flags >> OFFSET_SHIFT
        if res > 0 and feed is not None:
            self._stream._keep(bytes(feed.views[offset]))
            feed.recycle(offset)

    def _last(self, res: int) -> Lease:
        try:
            return super()._last(res)
        except OSError as exc:
            raise stream_error(exc) from exc

    @enable_ki_protection
    async def __aexit__(self, *exc_info: object) -> None:
        try:
            await super().__aexit__(*exc_info)
        finally:
            if self._own is not None:
                await self._own.aclose()
