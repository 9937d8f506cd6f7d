"""Bytes as they arrive, by one multishot request into buffers of the consumer's own group.

A stream's ``chunks()`` is a multishot receive; `read_chunks` does the same for pipes and terminals. When the
block is left, ``keep`` gets the data that was not taken, in order, so that a stream loses no byte to a break,
an exception or a cancel.
"""

from __future__ import annotations

import socket as _stdlib
from functools import cache
from operator import not_
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from trio.lowlevel import checkpoint_if_cancelled, enable_ki_protection

from uring import abi
from uring.errors import error_from_result
from uring.kernel.buffers import BufferRing
from uring.kernel.refusals import first_completions
from uring.kernel.ring import CQE, KernelRing

from ..core.engine import current
from ..core.fd import Fd
from ..multishot.items import Items
from ..multishot.leases import Group, Lease, borrow_group
from ..multishot.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ByteItems", "bundles_work", "read_chunks", "recv_fields"]

_RECV = int(abi.IORING_OP_RECV)
_READ_MULTISHOT = int(abi.IORING_OP_READ_MULTISHOT)
_SELECT = int(abi.IOSQE_BUFFER_SELECT)
_FIXED = int(abi.IOSQE_FIXED_FILE)
_RECV_MULTISHOT = int(abi.IORING_RECV_MULTISHOT) << 8
_BUNDLE = int(abi.IORING_RECVSEND_BUNDLE) << 8
_BUFFER = int(abi.IORING_CQE_F_BUFFER)
_CURRENT_POSITION = (1 << 64) - 1

T_co = TypeVar("T_co", covariant=True)


class ByteItems(Items[T_co]):
    """Chunks of bytes: copies, or leases of the memory they arrived in.

    Args:
        open_owner: what to receive from.
        fields: the entry for the owner's descriptor and a buffer group.
        name: the operation's name.
        size, count: bytes of a buffer, and how many of them.
        copy: items are bytes; else each is a `Lease`.
        keep: takes each chunk that is left at the end, and then the error that was not raised.
    """

    __slots__ = ("_copy", "_count", "_fields", "_group", "_keep", "_name", "_open_owner", "_rest", "_size")

    def __init__(
        self,
        open_owner: Callable[[], Fd],
        fields: Callable[[Fd, int], tuple[int, ...]],
        name: str,
        size: int,
        count: int,
        copy: bool,
        keep: Callable[[bytes | OSError], None] | None = None,
    ) -> None:
        super().__init__()
        self._open_owner = open_owner
        self._fields = fields
        self._name = name
        self._size = size
        self._count = count
        self._copy = copy
        self._keep = keep
        self._group: Any = None
        self._rest: list[Any] = []  # what is left of a bundle, last first

    def _open(self) -> Subscription:
        owner = self._open_owner()
        try:
            group: Group = borrow_group(owner.engine, self._count, self._size)
        except BaseException:
            owner.forget()
            raise
        self._group = group
        fields = self._fields(owner, group.number)
        return Subscription(
            owner, self._name, fields, self._discard, limit=self._count, group=group, ends=not_
        )

    @enable_ki_protection
    async def __anext__(self) -> T_co:
        if self._rest:
            # In memory already: no other checkpoint than the one for cancellation.
            await checkpoint_if_cancelled()
            item: T_co = self._rest.pop()
            return item
        return await super().__anext__()

    def _item(self, res: int, flags: int) -> Any:
        group = self._group
        bid = flags >> 16
        if res <= group.size:
            return group.copy(bid, res) if self._copy else Lease(group.views[bid][:res], group, bid)
        parts = group.bundle(bid, res)
        if self._copy:
            try:
                data = b"".join([group.views[each][:size] for each, size in parts])
            except MemoryError:
                group.put_bundle(parts)
                raise
            for each, _ in parts:
                group.recycle(each)
            return data
        leases = [group.lease(each, size) for each, size in parts]
        self._rest = leases[:0:-1]
        return leases[0]

    def _discard(self, res: int, flags: int) -> None:
        if flags & _BUFFER:
            for bid, size in self._group.bundle(flags >> 16, res):
                data = self._group.copy(bid, size)
                if self._keep is not None:
                    self._keep(data)

    @enable_ki_protection
    async def __aexit__(self, *exc_info: object) -> None:
        while self._rest:
            lease = self._rest.pop()
            if self._keep is not None:
                self._keep(bytes(lease))
            lease.release()
        await super().__aexit__(*exc_info)
        subscription = self._subscription
        assert subscription is not None
        failure = subscription.failure
        if failure and self._keep is not None:
            self._keep(error_from_result(failure, self._name))


@overload
def read_chunks(
    fd: Any, *, copy: Literal[True] = True, chunk_size: int = 65536, buffers: int = 8
) -> ByteItems[bytes]: ...
@overload
def read_chunks(
    fd: Any, *, copy: Literal[False], chunk_size: int = 65536, buffers: int = 8
) -> ByteItems[Lease]: ...
@overload
def read_chunks(fd: Any, *, copy: bool, chunk_size: int = 65536, buffers: int = 8) -> ByteItems[Any]: ...
def read_chunks(fd: Any, *, copy: bool = True, chunk_size: int = 65536, buffers: int = 8) -> ByteItems[Any]:
    """Reads of a pipe, a terminal or another file that can be polled, by one multishot request:

        async with uring_trio.read_chunks(pipe) as chunks:
            async for data in chunks:
                use(data)

    The descriptor stays the caller's. Data that was read and not taken when the block is left is lost.

    Args:
        fd: a descriptor, or an object that has one.
        copy: items are bytes; False: each is a `Lease` of the memory that the data arrived in.
        chunk_size: bytes in each buffer: the most that an item has.
        buffers: the number of buffers. While all of them are taken nothing more is read.

    Raises:
        TypeError, ValueError: no such sizes; nothing is armed.
        OSError: while iterating, the kernel's errno, ``EBADFD`` for a regular file.
        trio.ClosedResourceError: while iterating, after ``trio.lowlevel.notify_closing``.
        RuntimeError: outside a ring run.
    """
    number = fd if isinstance(fd, int) else fd.fileno()
    if number < 0:
        raise ValueError(f"a file descriptor is not negative ({number})")
    return ByteItems(
        lambda: Fd.borrow(current(), number), _read_fields, "read_multishot", chunk_size, buffers, copy
    )


def recv_fields(owner: Fd, group: int, *, bundle: bool = False) -> tuple[int, ...]:
    """The entry of a multishot receive."""
    return _recv(owner.fd, group, (_FIXED if owner.fixed else 0) | (_BUNDLE if bundle else 0))


def _recv(fd: int, group: int, flags: int) -> tuple[int, ...]:
    return _RECV, _SELECT | _RECV_MULTISHOT | flags, fd, 0, 0, 0, 0, group, 0, 0


@cache
def bundles_work() -> bool:
    """Whether this kernel receives bundles as it should: fewer completions than buffers, bytes in order."""
    near, far = _stdlib.socketpair()
    ring = KernelRing(4, 0)
    buffers = BufferRing(ring, 0, 4, 16)
    with near, far:
        try:
            sent = bytes(range(64))
            near.send(sent)
            ring.put(1, *_recv(far.fileno(), 0, _BUNDLE))
            n = first_completions(ring, 1.0)
            completions = list(CQE.iter_unpack(ring.out[: max(0, n) * CQE.size]))
            received, next_bid = b"", 0
            for _, res, flags in completions:
                if res > 0 and flags >> 16 == next_bid:
                    received += b"".join(buffers.views[next_bid:])[:res]
                    next_bid += -(-res // buffers.size)
            return received == sent and sum(res > 0 for _, res, _ in completions) < buffers.count
        finally:
            buffers.close()
            ring.close()


def _read_fields(owner: Fd, group: int) -> tuple[int, ...]:
    return _READ_MULTISHOT, _SELECT, owner.fd, _CURRENT_POSITION, 0, 0, 0, group, 0, 0
