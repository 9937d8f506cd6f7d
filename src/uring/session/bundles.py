"""The buffers of a bundle: one completion that filled several provided buffers.

The kernel takes buffers in the order in which they were added to the ring. That is the order of their numbers
only until one is recycled out of turn. A `BufferRing` records the order. Over bare memory the numbers are
assumed to be consecutive, and to continue at 0 after the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, overload

from ..contexts.views import Completion

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Buffer

    from ..kernel.buffers import BufferRing

__all__ = ["BundleIterator"]


class BundleIterator(Sequence[memoryview]):
    """A sequence of the buffers filled, the last perhaps in part. Views are good until `recycle`.

    ``with BundleIterator.of(cqe, group) as bundle:`` recycles them at the end of the block.

    Args:
        cqe: the completion, with a buffer and a result above 0.
        buf_backing: the memory of all buffers.
        buf_size: bytes of each, from 1 on.
        ring_entries: how many there are, a power of two.

    Raises:
        TypeError: ``cqe`` is no completion.
        ValueError: the completion brought no data, or memory and sizes do not fit together.
    """

    __slots__ = ("_ids", "_ring", "_size", "_total", "_views")

    def __init__(self, cqe: Completion, buf_backing: Buffer, buf_size: int, ring_entries: int) -> None:
        if not isinstance(cqe, Completion):
            raise TypeError(f"a completion is needed, not {type(cqe).__name__}")
        if not cqe.has_buffer or cqe.res <= 0:
            raise ValueError("the completion brought no data")
        if buf_size < 1 or ring_entries < 1 or ring_entries & (ring_entries - 1):
            raise ValueError(
                f"buffers have 1 byte or more and a ring 2**n of them, not {buf_size}, {ring_entries}"
            )
        backing = memoryview(buf_backing).cast("B")
        if backing.nbytes < buf_size * ring_entries:
            raise ValueError(
                f"{ring_entries} buffers of {buf_size} bytes need more than {backing.nbytes} bytes"
            )
        count = -(-cqe.res // buf_size)
        if count > ring_entries:
            raise ValueError(f"{cqe.res} bytes do not fit into {ring_entries} buffers of {buf_size}")
        first, mask = cqe.buf_id, ring_entries - 1
        self._set([first + i & mask for i in range(count)], backing, buf_size, cqe.res, None)

    @classmethod
    def of(cls, cqe: Completion, ring: BufferRing) -> BundleIterator:
        """The buffers of a bundle that came out of a group, in the order in which the kernel took them.

        Args:
            cqe: the completion.
            ring: the group.

        Returns:
            The sequence.

        Raises:
            TypeError: ``cqe`` is no completion.
            ValueError: the completion brought no data from this group.
        """
        if not isinstance(cqe, Completion):
            raise TypeError(f"a completion is needed, not {type(cqe).__name__}")
        if not cqe.has_buffer or not 0 < cqe.res <= ring.size * ring.count:
            raise ValueError("the completion brought no data from this group")
        self = cls.__new__(cls)
        ids = ring.run(cqe.buf_id, -(-cqe.res // ring.size))
        self._set(ids, ring.backing, ring.size, cqe.res, ring)
        return self

    def _set(
        self, ids: list[int], backing: memoryview, size: int, total: int, ring: BufferRing | None
    ) -> None:
        self._ids = ids
        self._size = size
        self._total = total
        self._ring = ring
        self._views = []
        for i, bid in enumerate(ids):
            length = min(size, total - i * size)
            self._views.append(backing[bid * size : bid * size + length])

    @property
    def count(self) -> int:  # type: ignore[override]
        """How many buffers were filled."""
        return len(self._ids)

    @property
    def total_bytes(self) -> int:
        """Bytes of all buffers together: the completion's result."""
        return self._total

    def buffer(self, index: int) -> memoryview:
        """The data of one buffer.

        Args:
            index: which, 0 to `count` - 1.

        Returns:
            A view of the data.

        Raises:
            IndexError: there is no such buffer.
        """
        return self._views[self._checked(index)]

    def slot_id(self, index: int) -> int:
        """The number of one buffer.

        Args:
            index: which, 0 to `count` - 1.

        Returns:
            Its number in the group.

        Raises:
            IndexError: there is no such buffer.
        """
        return self._ids[self._checked(index)]

    def all(self) -> Iterator[memoryview]:
        """The data, buffer by buffer."""
        return iter(self._views)

    def all_with_slot_id(self) -> Iterator[tuple[int, memoryview]]:
        """Number and data of each buffer."""
        return zip(self._ids, self._views, strict=True)

    def collect(self) -> list[memoryview]:
        """The data as a list of views, buffer by buffer."""
        return list(self._views)

    def copy_to(self, destination: Buffer) -> int:
        """Copies the data, as far as it fits.

        Args:
            destination: a writable buffer.

        Returns:
            How many bytes were copied.
        """
        target = memoryview(destination).cast("B")
        done = 0
        for view in self._views:
            n = min(len(view), target.nbytes - done)
            target[done : done + n] = view[:n]
            done += n
        return done

    def recycle(self, ring: BufferRing | None = None) -> None:
        """Gives every buffer back to the kernel, once, and releases the views.

        Args:
            ring: the `BufferRing`, for an iterator over bare memory.

        Raises:
            ValueError: no ring is known, or the buffers were given back already.
        """
        target = self._ring if ring is None else ring
        if target is None or not self._ids:
            raise ValueError("there is no buffer ring to give to, or nothing to give back")
        for view in self._views:
            view.release()
        self._views = []
        for bid in self._ids:
            target.put(bid)
        self._ids = []

    def __enter__(self) -> BundleIterator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Gives the buffers back, unless the block did."""
        if self._ids:
            self.recycle()

    def _checked(self, index: int) -> int:
        if not 0 <= index < len(self._ids):
            raise IndexError(f"buffer {index} of {len(self._ids)} does not exist")
        return index

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, index: int) -> memoryview: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[memoryview]: ...
    def __getitem__(self, index: int | slice) -> memoryview | Sequence[memoryview]:
        return self._views[index]
