"""Operations on an open file besides reads and writes: allocation, advice, sync.

Most run in a kernel worker, and can be cancelled only while they are queued there.
"""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

from .. import abi
from ..kernel.memory import pin, pin_writable
from .base import OFFSET_MAX, UINT_MAX, Fd, check_fd, check_flags, check_int, make

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ..kernel.op import Op

__all__ = ["fadvise", "fallocate", "fsync", "ftruncate", "madvise", "sync_file_range"]


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
    """Writes a file's data and metadata to storage.

    It does not wait for writes that were submitted before it and are still in flight.

    Args:
        fd: a descriptor, or an object with ``fileno()``.
        datasync: leaves out metadata that reading the data does not need, as fdatasync(2).
        offset: start of the range in bytes, 0 to 2**63 - 1.
        length: bytes of the range, 0 to 2**32 - 1; 0 with ``offset`` 0 is the whole file.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0.

    Errors:
        - ``EBADF``: ``fd`` is not open, or the slot is empty.
        - ``EINVAL``: the file cannot be synchronised, such as a pipe or a socket.
        - ``EIO``, ``ENOSPC``, ``EDQUOT``: this write or an earlier one failed.

    Cancellation:
        It runs in a kernel worker. `async_cancel` ends it with ``ECANCELED`` only while it is queued there;
        once it runs it goes on to its result. `link_timeout` does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.1.

    Source:
        fsync(2); io_uring_enter(2), ``IORING_OP_FSYNC``.
    """
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
    """Starts or awaits writing part of a file to storage. Metadata is not written, nor the storage's cache
    flushed.

    Args:
        fd: a descriptor, or an object with ``fileno()``.
        offset: start of the range in bytes, 0 to 2**63 - 1.
        length: bytes of the range, 0 to 2**32 - 1; 0 is up to the end.
        sync_flags: ``SYNC_FILE_RANGE_WAIT_BEFORE``, ``_WRITE`` and ``_WAIT_AFTER``.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0.

    Errors:
        - ``EBADF``: ``fd`` is not open, or the slot is empty.
        - ``EINVAL``: an unknown flag.
        - ``ESPIPE``: the file has no positions, such as a pipe.
        - ``EIO``, ``ENOSPC``: this write or an earlier one failed.

    Cancellation:
        It runs in a kernel worker. `async_cancel` ends it with ``ECANCELED`` only while it is queued there;
        once it runs it goes on to its result. `link_timeout` does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.2.

    Source:
        sync_file_range(2); io_uring_enter(2), ``IORING_OP_SYNC_FILE_RANGE``.
    """
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
    """Allocates, empties, removes or inserts part of a file.

    Args:
        fd: a descriptor, or an object with ``fileno()``.
        mode: 0 to allocate, else ``FALLOC_FL_*`` bits, 0 to 2**32 - 1.
        offset: start of the range in bytes, 0 to 2**63 - 1.
        length: bytes of the range, 0 to 2**63 - 1. The kernel refuses 0.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0.

    Errors:
        - ``EBADF``: ``fd`` is not open for writing.
        - ``EINVAL``: ``length`` is 0, or the mode does not go with the range.
        - ``ENODEV``, ``ESPIPE``: no regular file.
        - ``ENOSPC``: the device is full.
        - ``EOPNOTSUPP``: the file system does not have this mode.

    Cancellation:
        It runs in a kernel worker. `async_cancel` ends it with ``ECANCELED`` only while it is queued there;
        once it runs it goes on to its result. `link_timeout` does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.6.

    Source:
        fallocate(2); io_uring_enter(2), ``IORING_OP_FALLOCATE``.
    """
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
    """Makes a file exactly ``length`` bytes long.

    Args:
        fd: a descriptor, or an object with ``fileno()``.
        length: the new size in bytes, 0 to 2**63 - 1.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0.

    Errors:
        - ``EBADF``: ``fd`` is not open.
        - ``EINVAL``: it is not open for writing, or no regular file.
        - ``EFBIG``: larger than the file system's largest file.

    Cancellation:
        It runs in a kernel worker. `async_cancel` ends it with ``ECANCELED`` only while it is queued there;
        once it runs it goes on to its result. `link_timeout` does not end it.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.9.

    Source:
        ftruncate(2); io_uring_prep_ftruncate(3).
    """
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
    """Tells the kernel how part of a file will be used.

    Args:
        fd: a descriptor, or an object with ``fileno()``.
        advice: ``POSIX_FADV_*``, 0 to 2**32 - 1.
        offset: start of the range in bytes, 0 to 2**63 - 1.
        length: bytes of the range, 0 to 2**63 - 1; 0 is up to the end.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0.

    Errors:
        - ``EBADF``: ``fd`` is not open, or the slot is empty.
        - ``EINVAL``: unknown advice.
        - ``ESPIPE``: a pipe.

    Cancellation:
        ``POSIX_FADV_NORMAL``, ``_RANDOM`` and ``_SEQUENTIAL`` complete while they are submitted. Other advice
        runs in a kernel worker, and `async_cancel` reaches it only while it is queued there.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.6.

    Source:
        posix_fadvise(2); io_uring_enter(2), ``IORING_OP_FADVISE``.
    """
    # The 64-bit length goes into addr, because len has only 32 bits.
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
    """Tells the kernel how mapped memory will be used.

    Args:
        memory: an `mmap.mmap`, or a writable buffer of whole pages, such as part of a mapping. Some advice
            empties the pages.
        advice: ``MADV_*``, 0 to 2**32 - 1.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        0.

    Errors:
        - ``EINVAL``: unknown advice, or advice that does not go with this memory.
        - ``ENOMEM``: part of the range is not mapped.

    Cancellation:
        It runs in a kernel worker. `async_cancel` ends it with ``ECANCELED`` only while it is queued there;
        once it runs it goes on to its result. `link_timeout` does not end it.

    Raises:
        TypeError: ``memory`` is no buffer, or is read-only and no `mmap.mmap`.
        ValueError: ``memory`` is not whole pages, or ``advice`` is out of range.

    Since:
        Linux 5.6.

    Source:
        madvise(2); io_uring_enter(2), ``IORING_OP_MADVISE``.
    """
    mapping = isinstance(memory, mmap.mmap)
    address, length, held = (pin if mapping else pin_writable)(memory)
    if mapping:
        length = -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
    if address % mmap.PAGESIZE or length % mmap.PAGESIZE or not length:
        raise ValueError(
            f"madvise takes whole pages of {mmap.PAGESIZE} bytes, not {length} bytes at {address:#x}"
        )
    # The 64-bit length goes into off, for the same reason.
    return make(
        "madvise",
        abi.IORING_OP_MADVISE,
        off=length,
        addr=address,
        op_flags=check_int("advice", advice, 0, UINT_MAX),
        pins=(held, memory),
    ).with_options(sqe_flags, personality)
