"""Reading and writing through registered buffers, which the kernel has mapped once.

The memory has to be inside a buffer that is registered on the ring (``IORING_REGISTER_BUFFERS``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import abi
from ..kernel.memory import pin, pin_writable
from .base import Fd, check_fd, check_flags, check_int, limit, make, position, priority, vector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from ..kernel.op import Op

__all__ = ["read_fixed", "readv_fixed", "write_fixed", "writev_fixed"]


def read_fixed(
    fd: Fd,
    buffer: Buffer,
    buf_index: int,
    *,
    offset: int = -1,
    n: int | None = None,
    rw_flags: int = 0,
    ioprio: int = 0,
    ioprio_class: tuple[int, int] | None = None,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Reads into memory of a registered buffer, which the kernel has mapped already.

    Args:
        fd: a descriptor, or an object with ``fileno()``.
        buffer: writable memory inside the registered buffer, such as a slice of its memoryview.
        buf_index: the registered buffer, 0 to 65535.
        offset: where in the file, in bytes, 0 to 2**63 - 1; -1 is the file's position, which moves. Pipes,
            sockets and terminals ignore it.
        n: bytes to read at most, 0 to the size of ``buffer``; None is its size.
        rw_flags: ``RWF_*`` of preadv2(2), 0 to 2**32 - 1. ``RWF_NOWAIT`` does not wait.
        ioprio: the I/O priority of ioprio_set(2) as one number, 0 to 65535; 0 is the thread's.
        ioprio_class: the same as (class, level): 0 to 3, 0 to 7.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        How many bytes were read; 0 at the end of the file.

    Errors:
        - ``EFAULT``: the memory is not inside the registered buffer, or nothing is registered there.
        - Others as `read`.

    Cancellation:
        Of pipes, sockets and terminals `async_cancel` and `link_timeout` end it at once with ``ECANCELED``.
        I/O on a regular file cannot be stopped: the cancel request completes with ``ENOENT``, or with
        ``EALREADY`` where a kernel worker runs it, and this operation with its result.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.1.

    Source:
        io_uring_prep_read_fixed(3); io_uring_register(2), ``IORING_REGISTER_BUFFERS``.
    """
    address, size, held = pin_writable(buffer)
    return make(
        "read_fixed",
        abi.IORING_OP_READ_FIXED,
        check_fd(fd),
        off=position(offset),
        addr=address,
        length=limit(n, size),
        op_flags=check_flags("rw_flags", rw_flags),
        buf_index=_buf_index(buf_index),
        ioprio=priority(ioprio, ioprio_class),
        fixed_file=fixed_file,
        pins=held,
    ).with_options(sqe_flags, personality)


def write_fixed(
    fd: Fd,
    data: Buffer,
    buf_index: int,
    *,
    offset: int = -1,
    n: int | None = None,
    rw_flags: int = 0,
    ioprio: int = 0,
    ioprio_class: tuple[int, int] | None = None,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Writes from memory of a registered buffer, which the kernel has mapped already.

    Args:
        fd: a descriptor, or an object with ``fileno()``.
        data: memory inside the registered buffer, such as a slice of its memoryview.
        buf_index: the registered buffer, 0 to 65535.
        offset: where in the file, in bytes, 0 to 2**63 - 1; -1 is the file's position, which moves. Pipes,
            sockets and terminals ignore it.
        n: bytes to write at most, 0 to the size of ``data``; None is all of it.
        rw_flags: ``RWF_*`` of preadv2(2), 0 to 2**32 - 1. ``RWF_NOWAIT`` does not wait.
        ioprio: the I/O priority of ioprio_set(2) as one number, 0 to 65535; 0 is the thread's.
        ioprio_class: the same as (class, level): 0 to 3, 0 to 7.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        How many bytes were written, which may be fewer than given.

    Errors:
        - ``EFAULT``: the memory is not inside the registered buffer, or nothing is registered there.
        - Others as `write`.

    Cancellation:
        Of pipes, sockets and terminals `async_cancel` and `link_timeout` end it at once with ``ECANCELED``.
        I/O on a regular file cannot be stopped: the cancel request completes with ``ENOENT``, or with
        ``EALREADY`` where a kernel worker runs it, and this operation with its result.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.1.

    Source:
        io_uring_prep_write_fixed(3); io_uring_register(2), ``IORING_REGISTER_BUFFERS``.
    """
    address, size, held = pin(data)
    return make(
        "write_fixed",
        abi.IORING_OP_WRITE_FIXED,
        check_fd(fd),
        off=position(offset),
        addr=address,
        length=limit(n, size),
        op_flags=check_flags("rw_flags", rw_flags),
        buf_index=_buf_index(buf_index),
        ioprio=priority(ioprio, ioprio_class),
        fixed_file=fixed_file,
        pins=held,
    ).with_options(sqe_flags, personality)


def readv_fixed(
    fd: Fd,
    buffers: Sequence[Buffer],
    buf_index: int,
    *,
    offset: int = -1,
    rw_flags: int = 0,
    ioprio: int = 0,
    ioprio_class: tuple[int, int] | None = None,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Reads into several pieces of one registered buffer.

    Args:
        fd: a descriptor, or an object with ``fileno()``.
        buffers: writable memory inside the registered buffer, 1024 pieces at most.
        buf_index: the registered buffer, 0 to 65535.
        offset: where in the file, in bytes, 0 to 2**63 - 1; -1 is the file's position, which moves. Pipes,
            sockets and terminals ignore it.
        rw_flags: ``RWF_*`` of preadv2(2), 0 to 2**32 - 1. ``RWF_NOWAIT`` does not wait.
        ioprio: the I/O priority of ioprio_set(2) as one number, 0 to 65535; 0 is the thread's.
        ioprio_class: the same as (class, level): 0 to 3, 0 to 7.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        How many bytes were read; 0 at the end of the file.

    Errors:
        - ``EFAULT``: a piece is not inside the registered buffer, or nothing is registered there.
        - Others as `readv`.

    Cancellation:
        Of pipes, sockets and terminals `async_cancel` and `link_timeout` end it at once with ``ECANCELED``.
        I/O on a regular file cannot be stopped: the cancel request completes with ``ENOENT``, or with
        ``EALREADY`` where a kernel worker runs it, and this operation with its result.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.15.

    Source:
        io_uring_prep_readv_fixed(3); io_uring_register(2), ``IORING_REGISTER_BUFFERS``.
    """
    address, count, held = vector(buffers, writable=True)
    return make(
        "readv_fixed",
        abi.IORING_OP_READV_FIXED,
        check_fd(fd),
        off=position(offset),
        addr=address,
        length=count,
        op_flags=check_flags("rw_flags", rw_flags),
        buf_index=_buf_index(buf_index),
        ioprio=priority(ioprio, ioprio_class),
        fixed_file=fixed_file,
        pins=held,
    ).with_options(sqe_flags, personality)


def writev_fixed(
    fd: Fd,
    buffers: Sequence[Buffer],
    buf_index: int,
    *,
    offset: int = -1,
    rw_flags: int = 0,
    ioprio: int = 0,
    ioprio_class: tuple[int, int] | None = None,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Writes from several pieces of one registered buffer.

    Args:
        fd: a descriptor, or an object with ``fileno()``.
        buffers: memory inside the registered buffer, 1024 pieces at most.
        buf_index: the registered buffer, 0 to 65535.
        offset: where in the file, in bytes, 0 to 2**63 - 1; -1 is the file's position, which moves. Pipes,
            sockets and terminals ignore it.
        rw_flags: ``RWF_*`` of preadv2(2), 0 to 2**32 - 1. ``RWF_NOWAIT`` does not wait.
        ioprio: the I/O priority of ioprio_set(2) as one number, 0 to 65535; 0 is the thread's.
        ioprio_class: the same as (class, level): 0 to 3, 0 to 7.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        How many bytes were written, which may be fewer than given.

    Errors:
        - ``EFAULT``: a piece is not inside the registered buffer, or nothing is registered there.
        - Others as `writev`.

    Cancellation:
        Of pipes, sockets and terminals `async_cancel` and `link_timeout` end it at once with ``ECANCELED``.
        I/O on a regular file cannot be stopped: the cancel request completes with ``ENOENT``, or with
        ``EALREADY`` where a kernel worker runs it, and this operation with its result.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.15.

    Source:
        io_uring_prep_writev_fixed(3); io_uring_register(2), ``IORING_REGISTER_BUFFERS``.
    """
    address, count, held = vector(buffers, writable=False)
    return make(
        "writev_fixed",
        abi.IORING_OP_WRITEV_FIXED,
        check_fd(fd),
        off=position(offset),
        addr=address,
        length=count,
        op_flags=check_flags("rw_flags", rw_flags),
        buf_index=_buf_index(buf_index),
        ioprio=priority(ioprio, ioprio_class),
        fixed_file=fixed_file,
        pins=held,
    ).with_options(sqe_flags, personality)


def _buf_index(buf_index: object) -> int:
    return check_int("buf_index", buf_index, 0, 0xFFFF)
