"""Reading and writing descriptors of any kind.

Offset -1 is the file's own position, which moves. Pipes, sockets and terminals ignore offsets, and wait even
with ``O_NONBLOCK`` (``RWF_NOWAIT`` makes them complete with ``EAGAIN``). Block I/O on a regular file cannot
be cancelled; a buffered write of most file systems runs in a kernel worker, and can be cancelled only while
it is queued there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from .. import abi
from ..kernel.memory import LENGTH_MAX, pin, pin_writable
from .base import Fd, check_fd, check_flags, check_group, check_int, limit, make, position, priority, vector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from ..kernel.op import Multishot, Op

__all__ = ["read", "read_multishot", "readv", "write", "writev"]

_SELECT = int(abi.IOSQE_BUFFER_SELECT)


def read(
    fd: Fd,
    buffer: Buffer | None = None,
    *,
    offset: int = -1,
    n: int | None = None,
    rw_flags: int = 0,
    ioprio: int = 0,
    ioprio_class: tuple[int, int] | None = None,
    buffer_group: int | None = None,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Reads into a buffer.

    A pipe, socket or terminal waits until there is something to read, even with ``O_NONBLOCK``.

    Args:
        fd: a descriptor, or an object with ``fileno()``.
        buffer: a writable buffer, not to be used otherwise until the completion.
        offset: where in the file, in bytes, 0 to 2**63 - 1; -1 is the file's position, which moves. Pipes,
            sockets and terminals ignore it.
        n: bytes to read at most, 0 to the buffer's size; None is its size. With a group: 0 to 2**31 - 4096,
            where None and 0 are the size of the chosen buffer.
        rw_flags: ``RWF_*`` of preadv2(2), 0 to 2**32 - 1. ``RWF_NOWAIT`` does not wait.
        ioprio: the I/O priority of ioprio_set(2) as one number, 0 to 65535; 0 is the thread's.
        ioprio_class: the same as (class, level): 0 to 3, 0 to 7.
        buffer_group: takes memory from this group of provided buffers instead of ``buffer``, 0 to 65535. The
            completion's flags tell which.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        How many bytes were read; 0 at the end of the file.

    Errors:
        - ``EBADF``: ``fd`` is not open for reading.
        - ``EISDIR``: a directory.
        - ``EINVAL``: alignment that ``O_DIRECT`` refuses.
        - ``EOPNOTSUPP``: a flag that the file does not support.
        - ``EAGAIN``: it would wait, and ``rw_flags`` has ``RWF_NOWAIT``.
        - ``ENOBUFS``: the group is empty or unknown. It fails at once, even where there is nothing to read
          yet.
        - ``EIO``, ``ECONNRESET`` and others as read(2).

    Cancellation:
        Of pipes, sockets and terminals `async_cancel` and `link_timeout` end it at once with ``ECANCELED``.
        I/O on a regular file cannot be stopped: the cancel request completes with ``ENOENT``, or with
        ``EALREADY`` where a kernel worker runs it, and this operation with its result.

    Raises:
        TypeError: neither or both of ``buffer`` and ``buffer_group``, a read-only buffer, or a wrong type.
        ValueError: an argument is out of range.

    Since:
        Linux 5.6; ``buffer_group`` 5.7.

    Source:
        pread(2), preadv2(2); io_uring_prep_read(3).
    """
    if (buffer is None) == (buffer_group is None):
        raise TypeError("read takes either a buffer or a buffer_group")
    if buffer is None:
        address, held = 0, None
        length = 0 if n is None else check_int("n", n, 0, LENGTH_MAX)
    else:
        address, size, held = pin_writable(buffer)
        length = limit(n, size)
    return make(
        "read",
        abi.IORING_OP_READ,
        check_fd(fd),
        off=position(offset),
        addr=address,
        length=length,
        op_flags=check_flags("rw_flags", rw_flags),
        flags=0 if buffer_group is None else _SELECT,
        buf_index=0 if buffer_group is None else check_group(buffer_group),
        ioprio=priority(ioprio, ioprio_class),
        fixed_file=fixed_file,
        pins=held,
    ).with_options(sqe_flags, personality)


def write(
    fd: Fd,
    data: Buffer,
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
    """Writes bytes.

    A broken pipe or connection sends ``SIGPIPE`` besides the error, as write(2) does; `send` does not.
    Without ``offset`` it writes at the file's position and moves it. If an error follows after some bytes, it
    completes with their number, but Linux 6.18 does not move the position, as write(2) does: move it before
    the next write.

    Args:
        fd: a descriptor, or an object with ``fileno()``.
        data: bytes, or any buffer. It has to stay as it is until the completion.
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
        - ``EBADF``: ``fd`` is not open for writing.
        - ``EPIPE``: the reader is gone.
        - ``EAGAIN``: it would wait, and ``rw_flags`` has ``RWF_NOWAIT``.
        - ``EFBIG``, ``ENOSPC``, ``EDQUOT``: there is no room for it.
        - ``EINVAL``: alignment that ``O_DIRECT`` refuses.
        - ``EOPNOTSUPP``: a flag that the file does not support.
        - ``EIO``, ``ECONNRESET`` and others as write(2).

    Cancellation:
        Of pipes, sockets and terminals `async_cancel` and `link_timeout` end it at once with ``ECANCELED``.
        I/O on a regular file cannot be stopped: the cancel request completes with ``ENOENT``, or with
        ``EALREADY`` where a kernel worker runs it, and this operation with its result.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.6.

    Source:
        pwrite(2), pwritev2(2); io_uring_prep_write(3).
    """
    address, size, held = pin(data)
    return make(
        "write",
        abi.IORING_OP_WRITE,
        check_fd(fd),
        off=position(offset),
        addr=address,
        length=limit(n, size),
        op_flags=check_flags("rw_flags", rw_flags),
        ioprio=priority(ioprio, ioprio_class),
        fixed_file=fixed_file,
        pins=(held, data),
    ).with_options(sqe_flags, personality)


def readv(
    fd: Fd,
    buffers: Sequence[Buffer],
    *,
    offset: int = -1,
    rw_flags: int = 0,
    ioprio: int = 0,
    ioprio_class: tuple[int, int] | None = None,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Reads into several buffers, one after the other.

    Args:
        fd: a descriptor, or an object with ``fileno()``.
        buffers: writable buffers, 1024 at most.
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
        - ``EBADF``: ``fd`` is not open for reading.
        - ``EISDIR``: a directory.
        - ``EINVAL``: alignment that ``O_DIRECT`` refuses.
        - ``EOPNOTSUPP``: a flag that the file does not support.
        - ``EAGAIN``: it would wait, and ``rw_flags`` has ``RWF_NOWAIT``.
        - ``EIO``, ``ECONNRESET`` and others as readv(2).

    Cancellation:
        Of pipes, sockets and terminals `async_cancel` and `link_timeout` end it at once with ``ECANCELED``.
        I/O on a regular file cannot be stopped: the cancel request completes with ``ENOENT``, or with
        ``EALREADY`` where a kernel worker runs it, and this operation with its result.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.1.

    Source:
        preadv2(2); io_uring_prep_readv2(3).
    """
    address, count, held = vector(buffers, writable=True)
    return make(
        "readv",
        abi.IORING_OP_READV,
        check_fd(fd),
        off=position(offset),
        addr=address,
        length=count,
        op_flags=check_flags("rw_flags", rw_flags),
        ioprio=priority(ioprio, ioprio_class),
        fixed_file=fixed_file,
        pins=held,
    ).with_options(sqe_flags, personality)


def writev(
    fd: Fd,
    buffers: Sequence[Buffer],
    *,
    offset: int = -1,
    rw_flags: int = 0,
    ioprio: int = 0,
    ioprio_class: tuple[int, int] | None = None,
    fixed_file: bool = False,
    sqe_flags: int = 0,
    personality: int = 0,
) -> Op[int]:
    """Writes several buffers, one after the other.

    A broken pipe or connection sends ``SIGPIPE`` besides the error, as writev(2) does. The file's position is
    not moved by a write that an error ends early: see `write`.

    Args:
        fd: a descriptor, or an object with ``fileno()``.
        buffers: buffers, 1024 at most.
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
        - ``EBADF``: ``fd`` is not open for writing.
        - ``EPIPE``: the reader is gone.
        - ``EAGAIN``: it would wait, and ``rw_flags`` has ``RWF_NOWAIT``.
        - ``EFBIG``, ``ENOSPC``, ``EDQUOT``: there is no room for it.
        - ``EINVAL``: alignment that ``O_DIRECT`` refuses.
        - ``EOPNOTSUPP``: a flag that the file does not support.
        - ``EIO``, ``ECONNRESET`` and others as writev(2).

    Cancellation:
        Of pipes, sockets and terminals `async_cancel` and `link_timeout` end it at once with ``ECANCELED``.
        I/O on a regular file cannot be stopped: the cancel request completes with ``ENOENT``, or with
        ``EALREADY`` where a kernel worker runs it, and this operation with its result.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 5.1.

    Source:
        pwritev2(2); io_uring_prep_writev2(3).
    """
    address, count, held = vector(buffers, writable=False)
    return make(
        "writev",
        abi.IORING_OP_WRITEV,
        check_fd(fd),
        off=position(offset),
        addr=address,
        length=count,
        op_flags=check_flags("rw_flags", rw_flags),
        ioprio=priority(ioprio, ioprio_class),
        fixed_file=fixed_file,
        pins=(held, buffers),
    ).with_options(sqe_flags, personality)


def read_multishot(
    fd: Fd, buffer_group: int, *, fixed_file: bool = False, sqe_flags: int = 0, personality: int = 0
) -> Multishot[int]:
    """Reads into provided buffers as data comes, until the end of the stream.

    Args:
        fd: a pipe, socket, terminal or eventfd, or an object with ``fileno()``.
        buffer_group: the group that the kernel takes buffers from, 0 to 65535. A completion's flags tell
            which.
        fixed_file: ``fd`` is an index into the registered files.
        sqe_flags: bits of ``IOSQE_*`` for the entry, 0 to 255.
        personality: the id of registered credentials, 1 to 65535; 0 is the submitter's own.

    Result:
        Of each completion: how many bytes were read; 0 at the end of the stream.

    Errors:
        - ``EBADF``: ``fd`` is not open for reading.
        - ``EBADFD``: the file cannot be polled, as regular files cannot.
        - ``ENOBUFS``: the group is empty or unknown. Unread data stays in the file.
        - Others as `read`.

    Ends:
        At the end of the stream, on an error, on ``ENOBUFS``, on a cancel and when the completion queue
        overflows: the completion without ``F_MORE`` is the last, and may carry data.

    Cancellation:
        `async_cancel` ends it at once with ``ECANCELED``; no data is lost.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range.

    Since:
        Linux 6.7.

    Source:
        io_uring_prep_read_multishot(3).
    """
    return cast(
        "Multishot[int]",
        make(
            "read_multishot",
            abi.IORING_OP_READ_MULTISHOT,
            check_fd(fd),
            off=position(-1),
            flags=_SELECT,
            buf_index=check_group(buffer_group),
            fixed_file=fixed_file,
        ).with_options(sqe_flags, personality),
    )
