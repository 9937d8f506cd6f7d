"""The table of registered files, and how a ring registers a table of any kind.

A table is registered once, whole or sparse, and updated in place. Memory that an update takes out is kept
until all operations that were in flight at that time have ended.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

from .. import abi
from ..abi import layouts
from ..kernel.memory import zeroed
from ..ops.base import check_int
from .arrays import packed
from .blocks import Registered
from .start_stop import RingCore

if TYPE_CHECKING:
    from collections.abc import Sequence


__all__ = ["FileTable"]

_FILES_MOST = 1 << 20
_UINT_MAX = (1 << 32) - 1


class FileTable(RingCore):
    """Registered files. Only the ring's own thread may register, unless it has several."""

    def _prepare(self) -> None:
        super()._prepare()
        self._files = 0
        self._retired: list[object] = []

    @property
    def registered_file_count(self) -> int:
        """Slots of the file table; 0 without one."""
        return self._files

    def register_files(self, fds: Sequence[int], tags: Sequence[int] = ()) -> Registered:
        """Registers descriptors, so that operations name them by slot.

        Args:
            fds: 1 to 1048576 descriptors, fd i for slot i; -1 leaves a slot empty.
            tags: a number for each, 0 to 2**62 - 1. One other than 0 comes back as a completion
                (`uring.SQEContext.message`) once its file is gone from the table and unused (Linux 5.13).

        Raises:
            FileExistsError: there is a table already.
            ValueError: no descriptor, too many, or another number of tags.
            OSError: ``EBADF`` for one that is not open, or a ring's; ``EMFILE`` past ``RLIMIT_NOFILE``.

        Since:
            Linux 5.1.

        Source:
            io_uring_register(2), ``IORING_REGISTER_FILES2``.
        """
        self._check_owner()
        numbers = [check_int("a descriptor", fd, -1, (1 << 31) - 1) for fd in fds]
        self._register_table("register files", int(abi.IORING_REGISTER_FILES2), "i", numbers, tags)
        self._files = len(numbers)
        return Registered(self, self.unregister_files)

    def register_files_sparse(self, count: int) -> Registered:
        """Registers a file table of empty slots.

        Args:
            count: how many, 1 to 1048576.

        Raises:
            FileExistsError: there is a table already.
            ValueError: ``count`` is out of range.
            OSError: ``EMFILE`` past ``RLIMIT_NOFILE``.

        Since:
            Linux 5.19.

        Source:
            io_uring_register(2), ``IORING_REGISTER_FILES2``.
        """
        self._check_owner()
        check_int("count", count, 1, _FILES_MOST)
        self._register_sparse("register files", int(abi.IORING_REGISTER_FILES2), count)
        self._files = count
        return Registered(self, self.unregister_files)

    def register_files_update(self, offset: int, fds: Sequence[int], tags: Sequence[int] = ()) -> int:
        """Replaces slots of the file table. Operations in flight keep the files that they have.

        Args:
            offset: the first slot, from 0 on.
            fds: at least one: a descriptor, -1 to empty a slot, -2 to leave it as it is.
            tags: as for `register_files`.

        Returns:
            How many slots were updated; fewer than given where a descriptor after the first is bad.

        Raises:
            ValueError: past the end of the table, or there is none.
            OSError: ``EBADF`` for a first descriptor that is not open.

        Since:
            Linux 5.5.

        Source:
            io_uring_register(2), ``IORING_REGISTER_FILES_UPDATE2``.
        """
        self._check_owner()
        numbers = [check_int("a descriptor", fd, -2, (1 << 31) - 1) for fd in fds]
        self._check_range(offset, len(numbers), self._files, "file table")
        return self._update_table(
            "update files", int(abi.IORING_REGISTER_FILES_UPDATE2), offset, "i", numbers, tags
        )

    def register_file_alloc_range(self, offset: int, count: int) -> None:
        """Sets the slots that ``IORING_FILE_INDEX_ALLOC`` chooses from.

        Args:
            offset: the first slot, from 0 on.
            count: how many, from 1 on.

        Raises:
            ValueError: past the end of the table, or there is none.

        Since:
            Linux 6.0.

        Source:
            io_uring_register(2), ``IORING_REGISTER_FILE_ALLOC_RANGE``.
        """
        self._check_owner()
        self._check_range(offset, count, self._files, "file table")
        memory = zeroed(layouts.FILE_INDEX_RANGE.size)
        layouts.FILE_INDEX_RANGE.pack_into(memory.view, 0, offset, count)
        self._kernel.register(int(abi.IORING_REGISTER_FILE_ALLOC_RANGE), memory.address, 0, "set file range")

    def unregister_files(self) -> None:
        """Removes the file table. Operations in flight keep their files.

        Raises:
            OSError: ``ENXIO`` without a table.

        Since:
            Linux 5.1.

        Source:
            io_uring_register(2), ``IORING_UNREGISTER_FILES``.
        """
        self._check_owner()
        self._kernel.register(int(abi.IORING_UNREGISTER_FILES), None, 0, "unregister files")
        self._files = 0

    def _register_table(
        self, what: str, opcode: int, kind: str, items: Sequence[Any], tags: Sequence[int]
    ) -> None:
        if not items:
            raise ValueError(f"{what}: at least one is needed")
        data, tagged = packed(kind, items, tags)
        memory = zeroed(layouts.RSRC_REGISTER.size)
        layouts.RSRC_REGISTER.pack_into(
            memory.view, 0, len(items), 0, data.address, tagged.address if tagged else 0
        )
        self._register_once(what, opcode, memory)

    def _register_sparse(self, what: str, opcode: int, count: int) -> None:
        memory = zeroed(layouts.RSRC_REGISTER.size)
        layouts.RSRC_REGISTER.pack_into(memory.view, 0, count, int(abi.IORING_RSRC_REGISTER_SPARSE), 0, 0)
        self._register_once(what, opcode, memory)

    def _register_once(self, what: str, opcode: int, memory: Any) -> None:
        try:
            self._kernel.register(opcode, memory.address, layouts.RSRC_REGISTER.size, what)
        except OSError as error:
            if error.errno == errno.ENOMEM:
                from ..advice import advice  # loaded with what fails

                raise OSError(
                    errno.ENOMEM, f"{error.strerror}: {what}: {advice(errno.ENOMEM, what, 0)}"
                ) from None
            if error.errno != errno.EBUSY:
                raise
            raise FileExistsError(
                errno.EEXIST, f"{what}: there is a table already, unregister it first"
            ) from None

    def _update_table(
        self, what: str, opcode: int, offset: int, kind: str, items: Sequence[Any], tags: Sequence[int]
    ) -> int:
        data, tagged = packed(kind, items, tags)
        memory = zeroed(layouts.RSRC_UPDATE2.size)
        layouts.RSRC_UPDATE2.pack_into(
            memory.view, 0, offset, data.address, tagged.address if tagged else 0, len(items)
        )
        return self._kernel.register(opcode, memory.address, layouts.RSRC_UPDATE2.size, what)

    def _check_range(self, offset: int, count: int, size: int, table: str) -> None:
        check_int("offset", offset, 0, _UINT_MAX)
        check_int("count", count, 1, _UINT_MAX)
        if offset + count > size:
            raise ValueError(f"{offset} to {offset + count} is past the end of the {table} ({size})")

    def _retire(self, *pins: object) -> None:
        """Keeps memory that was taken out of a table while operations may be in flight on it."""
        if self._kernel.inflight == 0:
            self._retired.clear()
        else:
            self._retired += [each for each in pins if each is not None]
