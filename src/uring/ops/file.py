"""Operations on an open file besides reads and writes: allocation, advice, sync.

They run in a kernel worker and can be cancelled only while they are queued there.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

from .. import abi
from ..kernel.memory import pin, pin_writable
from .base import (
    OFFSET_MAX,
    UINT_MAX,
    Fd,
    check_fd,
    check_flags,
    check_int,
    make,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ..kernel.op import Op

__all__ = [
    "fadvise",
    "fallocate",
    "fsync",
    "ftruncate",
    "madvise",
    "sync_file_range",
]

_SELECT = int(abi.IOSQE_BUFFER_SELECT)


def fsync(
    fd: Fd,
    *,
    datasync: bool = False,
    offset: int = 0,
    length: int = 0,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Writes a file's data and metadata to storage (Linux 5.1), or with ``datasync`` what reading the data
    back needs; ``length`` 0 is the whole file. Completes with 0. See fsync(2)."""
    return make(
        "fsync",
        abi.IORING_OP_FSYNC,
        check_fd(fd),
        off=check_int("offset", offset, 0, OFFSET_MAX),
        length=check_int("length", length, 0, UINT_MAX),
        op_flags=abi.IORING_FSYNC_DATASYNC if datasync else 0,
        fixed_file=fixed_file,
    ).with_options(sqe_flags, personality)


def sync_file_range(
    fd: Fd,
    offset: int,
    length: int,
    *,
    sync_flags: int,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Starts or awaits writing part of a file to storage, without its metadata (Linux 5.2); ``length`` 0 is
    up to the end. Completes with 0. ``sync_flags``: see sync_file_range(2)."""
    return make(
        "sync_file_range",
        abi.IORING_OP_SYNC_FILE_RANGE,
        check_fd(fd),
        off=check_int("offset", offset, 0, OFFSET_MAX),
        length=check_int("length", length, 0, UINT_MAX),
        op_flags=check_flags("sync_flags", sync_flags),
        fixed_file=fixed_file,
    ).with_options(sqe_flags, personality)


def fallocate(
    fd: Fd,
    mode: int,
    offset: int,
    length: int,
    *,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Allocates, punches or moves part of a file (Linux 5.6); completes with 0. See fallocate(2)."""
    return make(
        "fallocate",
        abi.IORING_OP_FALLOCATE,
        check_fd(fd),
        off=check_int("offset", offset, 0, OFFSET_MAX),
        addr=check_int("length", length, 0, OFFSET_MAX),
        length=check_flags("mode", mode),
        fixed_file=fixed_file,
    ).with_options(sqe_flags, personality)


def ftruncate(
    fd: Fd, length: int, *, fixed_file: bool = False, sqe_flags: int = 0, personality: int = 0
) -> Op[int]:
    """Makes a file exactly ``length`` bytes long (Linux 6.9); completes with 0. See ftruncate(2)."""
    return make(
        "ftruncate",
        abi.IORING_OP_FTRUNCATE,
        check_fd(fd),
        off=check_int("length", length, 0, OFFSET_MAX),
        fixed_file=fixed_file,
    ).with_options(sqe_flags, personality)


def fadvise(
    fd: Fd,
    advice: int,
    *,
    offset: int = 0,
    length: int = 0,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Says how part of a file will be used (Linux 5.6); ``length`` 0 is up to the end. Completes with 0.
    See posix_fadvise(2)."""
    # The 64-bit length goes into addr; len, where it once was, has room for 32 bits only.
    return make(
        "fadvise",
        abi.IORING_OP_FADVISE,
        check_fd(fd),
        off=check_int("offset", offset, 0, OFFSET_MAX),
        addr=check_int("length", length, 0, OFFSET_MAX),
        op_flags=check_int("advice", advice, 0, UINT_MAX),
        fixed_file=fixed_file,
    ).with_options(sqe_flags, personality)


def madvise(memory: Buffer, advice: int, *, sqe_flags: int = 0, personality: int = 0) -> Op[int]:
    """Says how mapped memory will be used (Linux 5.6); completes with 0. See madvise(2).

    Advice works on whole pages and some of it empties them: so ``memory`` is an `mmap.mmap`, or a writable
    buffer of whole pages, such as part of a mapping.

    Raises:
        ValueError: the memory is not whole pages.
    """
    mapping = isinstance(memory, mmap.mmap)
    address, length, held = (pin if mapping else pin_writable)(memory)
    if mapping:
        length = -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
    if address % mmap.PAGESIZE or length % mmap.PAGESIZE or not length:
        raise ValueError(
            f"madvise takes whole pages of {mmap.PAGESIZE} bytes, not {length} bytes at {address:#x}"
        )
    # The 64-bit length goes into off, as with fadvise.
    return make(
        "madvise",
        abi.IORING_OP_MADVISE,
        off=length,
        addr=address,
        op_flags=check_int("advice", advice, 0, UINT_MAX),
        pins=(held, memory),
    ).with_options(sqe_flags, personality)
