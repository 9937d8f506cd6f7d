"""The parts of a zero-copy receive: the configuration of its queue, the data, and the handler."""

from __future__ import annotations

import errno
import mmap
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .. import abi
from ..abi.layouts import ZCRX_RQE
from ..ops.base import check_int

if TYPE_CHECKING:
    from collections.abc import Callable

    from .zcrx_queue import ZCRXQueue

__all__ = ["ZCRXBuffer", "ZCRXConfig", "ZCRXHandler", "open_queue"]

_PAGE = mmap.PAGESIZE
_HUGE_PAGE = 2 << 20
_MAP_HUGETLB = 0x40000


@dataclass(frozen=True, slots=True)
class ZCRXConfig:
    """A receive queue of a network card, and the memory for it.

    Attributes:
        if_name: the interface; None: a queue without a card, into which the kernel copies the data of any TCP
            connection (Linux 7.1).
        rx_queue: the queue of the interface; 0 without one.
        area_size: bytes for received data: whole chunks.
        rq_entries: entries of the refill ring; a power of two.
        chunk_size: bytes that the card fills at a time: a page, or a power of two times that (Linux 7.0,
            with a card).
        use_huge_pages: makes the area of whole huge pages.

    Raises:
        TypeError, ValueError: a field out of range.
    """

    if_name: str | None
    rx_queue: int = 0
    area_size: int = 16 << 20
    rq_entries: int = 4096
    chunk_size: int = _PAGE
    use_huge_pages: bool = False

    def __post_init__(self) -> None:
        if self.if_name is not None and not isinstance(self.if_name, str):
            raise TypeError(f"if_name is a str or None, not {type(self.if_name).__name__}")
        if self.if_name == "":
            raise ValueError("if_name is the name of an interface, not empty")
        check_int("rx_queue", self.rx_queue, 0, (1 << 32) - 1)
        if self.if_name is None and (self.rx_queue, self.chunk_size) != (0, _PAGE):
            raise ValueError(f"a queue without a card is number 0 with chunks of {_PAGE} bytes")
        check_int("rq_entries", self.rq_entries, 1, 32768)
        check_int("chunk_size", self.chunk_size, _PAGE, 1 << 30)
        for name, value in (("rq_entries", self.rq_entries), ("chunk_size", self.chunk_size)):
            if value & (value - 1):
                raise ValueError(f"{name} is a power of two, not {value}")
        unit = max(self.chunk_size, _HUGE_PAGE) if self.use_huge_pages else self.chunk_size
        check_int("area_size", self.area_size, unit, 1 << 40)
        if self.area_size % unit:
            raise ValueError(f"area_size is a multiple of {unit}, not {self.area_size}")


class ZCRXBuffer:
    """Received data where the card put it: the caller's until `release`.

    Args:
        view: the data.
        queue: the queue that the memory goes back to.
        offset: the data's offset in the queue's area.
    """

    __slots__ = ("_offset", "_queue", "_size", "_view")

    def __init__(self, view: memoryview, queue: ZCRXQueue | None, offset: int) -> None:
        self._view: memoryview | None = view
        self._queue = queue
        self._offset = offset
        self._size = view.nbytes

    @property
    def bytes(self) -> memoryview:
        """The data, valid until `release`.

        Raises:
            ValueError: the buffer was released.
        """
        if self._view is None:
            raise ValueError("the buffer was released")
        return self._view

    @property
    def released(self) -> bool:
        """Whether the memory was given back."""
        return self._view is None

    def release(self) -> None:
        """Gives the memory back to the kernel; more releases do nothing. On the ring's thread only.

        Raises:
            BlockingIOError: the refill ring is full; the buffer is still the caller's, release it later.
            BufferError: another object exports the view's memory; the buffer is still the caller's.
        """
        view = self._view
        if view is None:
            return
        if self._queue is not None and not self._queue.room:
            raise BlockingIOError(errno.EAGAIN, "the refill ring is full: release the buffer later")
        view.release()
        self._view = None
        if self._queue is not None:
            self._queue.refill(self._offset, self._size)

    def __len__(self) -> int:
        return self._size

    def __repr__(self) -> str:
        return f"<ZCRXBuffer {self._size} bytes{' released' if self._view is None else ''}>"


class ZCRXHandler:
    """The callbacks of a receive; by default data is released and an error stops it."""

    def on_data(self, buffer: ZCRXBuffer) -> bool | None:
        """Data came; the handler releases the buffer, at once or later.

        Args:
            buffer: the data; empty at the end of the stream.

        Returns:
            False, and nothing else, stops the receive, if a cancel can be queued.
        """
        buffer.release()
        return True

    def on_error(self, error: OSError) -> bool | None:
        """The receive failed, or named memory that is not in the area.

        Args:
            error: the reason.

        Returns:
            False, and nothing else, stops the receive.
        """
        return False

    def on_stopped(self) -> None:
        """The last completion was seen. Once, before the state is STOPPED."""

    @classmethod
    def from_callbacks(
        cls,
        on_data: Callable[[ZCRXBuffer], bool | None] | None = None,
        on_error: Callable[[OSError], bool | None] | None = None,
        on_stopped: Callable[[], None] | None = None,
    ) -> ZCRXHandler:
        """Makes a handler of functions.

        Args:
            on_data: as the method of this name; None does as this class.
            on_error: as the method of this name; None does as this class.
            on_stopped: as the method of this name; None does as this class.

        Returns:
            The handler.
        """
        return _Callbacks(on_data, on_error, on_stopped)


class _Callbacks(ZCRXHandler):
    def __init__(
        self,
        on_data: Callable[[ZCRXBuffer], bool | None] | None,
        on_error: Callable[[OSError], bool | None] | None,
        on_stopped: Callable[[], None] | None,
    ) -> None:
        self._data = on_data
        self._error = on_error
        self._stopped = on_stopped

    def on_data(self, buffer: ZCRXBuffer) -> bool | None:
        return super().on_data(buffer) if self._data is None else self._data(buffer)

    def on_error(self, error: OSError) -> bool | None:
        return super().on_error(error) if self._error is None else self._error(error)

    def on_stopped(self) -> None:
        if self._stopped is not None:
            self._stopped()


def open_queue(register: Callable[..., ZCRXQueue], config: ZCRXConfig) -> ZCRXQueue:
    """Registers a queue with new memory, by `uring.Ring.register_zcrx_ifq` or a function like it."""
    try:
        index = 0 if config.if_name is None else socket.if_nametoindex(config.if_name)
    except OSError as error:
        raise OSError(errno.ENODEV, f"there is no network interface {config.if_name!r}") from error
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | (_MAP_HUGETLB if config.use_huge_pages else 0)
    try:
        area = mmap.mmap(-1, config.area_size, flags=flags)
    except OSError as error:
        pages = " in huge pages (sysctl vm.nr_hugepages reserves them)" if config.use_huge_pages else ""
        raise OSError(error.errno, f"no memory for {config.area_size} bytes{pages}") from error
    region = mmap.mmap(-1, _PAGE + -(-config.rq_entries * ZCRX_RQE.size // _PAGE) * _PAGE)
    chunk = 0 if config.chunk_size == _PAGE else config.chunk_size
    kind = int(abi.ZCRX_REG_NODEV) if config.if_name is None else 0
    return register(index, config.rx_queue, config.rq_entries, area, region, chunk, flags=kind)
