"""The table of registered files: putting descriptors into it, and making descriptors of its files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

from .. import abi
from ..kernel.memory import zeroed
from .base import INT_MAX, UINT_MAX, check_int, check_sequence, close_fd, make

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..kernel.op import Op

__all__ = ["files_update", "fixed_fd_install"]


@overload
def files_update(
    fds: Sequence[int], offset: Literal[0xFFFFFFFF], *, sqe_flags: int = ..., personality: int = ...
) -> Op[list[int]]: ...
@overload
def files_update(
    fds: Sequence[int], offset: int = 0, *, sqe_flags: int = ..., personality: int = ...
) -> Op[int | list[int]]: ...
def files_update(
    fds: Sequence[int], offset: int = 0, *, sqe_flags: int = 0, personality: int = 0
) -> Op[int | list[int]]:
    """Puts descriptors into the table of registered files.

    Args:
        fds: at least one descriptor; -1 empties a slot.
        offset: the first slot, 0 to 2**32 - 2. ``IORING_FILE_INDEX_ALLOC``: takes free slots (Linux 5.15).
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        How many slots were updated, fewer than given if an error follows after the first. With
        ``IORING_FILE_INDEX_ALLOC``: the list of the slots.

    Errors:
        - ``EBADF``: the first descriptor is not open, or is a ring's.
        - ``EINVAL``: the table ends before the last slot.
        - ``ENFILE``: no slot is free.
        - ``ENXIO``: the ring has no table of files.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.6.

    Source:
        io_uring_register(2), ``IORING_REGISTER_FILES_UPDATE``; io_uring_prep_files_update(3).
    """
    if not check_sequence("fds", fds):
        raise ValueError("files_update takes at least one descriptor")
    numbers = zeroed(4 * len(fds))
    slots = numbers.view.cast("i")
    for i, fd in enumerate(fds):
        slots[i] = check_int("a file descriptor (-1: none)", fd, -1, INT_MAX)
    allocate = offset == abi.IORING_FILE_INDEX_ALLOC
    return make(
        "files_update",
        abi.IORING_OP_FILES_UPDATE,
        off=UINT_MAX if allocate else check_int("offset", offset, 0, UINT_MAX - 1),
        addr=numbers.address,
        length=len(fds),
        pins=numbers,
        decode=(lambda res: slots[:res].tolist()) if allocate else None,
    ).with_options(sqe_flags, personality)


def fixed_fd_install(
    file_index: int, *, cloexec: bool = True, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Makes a descriptor of a registered file. The slot keeps the file.

    Args:
        file_index: the slot, 0 to 2**31 - 1.
        cloexec: the descriptor is closed by exec(2).
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        The descriptor.

    Errors:
        - ``EBADF``: the slot is empty, or there is no such slot.
        - ``EMFILE``: too many descriptors are open.
        - ``EPERM``: the operation has registered credentials.

    Cancellation:
        It completes while it is submitted: there is nothing to cancel.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.8.

    Source:
        io_uring_prep_fixed_fd_install(3).
    """
    return make(
        "fixed_fd_install",
        abi.IORING_OP_FIXED_FD_INSTALL,
        check_int("file_index", file_index, 0, INT_MAX),
        op_flags=0 if cloexec else abi.IORING_FIXED_FD_NO_CLOEXEC,
        fixed_file=True,
        discard=close_fd,
    ).with_options(sqe_flags, personality)
