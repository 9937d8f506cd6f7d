"""Reading and writing descriptors of any kind.

Offsets: -1 is the file's own position, which moves; pipes, sockets and terminals ignore offsets and wait
until there is something, whatever ``O_NONBLOCK`` says (``RWF_NOWAIT`` makes them complete with ``EAGAIN``).
``n`` uses no more than that many bytes of the buffer.
Block I/O on a regular file cannot be cancelled; a buffered write of most file systems runs in a kernel worker
and can be cancelled only while it is queued there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from .. import abi
from ..kernel.memory import pin, pin_writable
from .base import (
    LENGTH_MAX,
    Fd,
    check_fd,
    check_flags,
    check_group,
    check_int,
    limit,
    make,
    position,
    priority,
    vector,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from typing_extensions import Buffer

    from ..kernel.op import Multishot, Op

__all__ = [
    "read",
    "read_fixed",
    "read_multishot",
    "readv",
    "readv_fixed",
    "write",
    "write_fixed",
    "writev",
    "writev_fixed",
]

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
    """Reads into a writable buffer, or into one that the kernel chooses from ``buffer_group`` (Linux 5.6);
    completes with the number of bytes, 0 at the end. See pread(2), preadv2(2) for ``rw_flags``.

    With a group ``n`` bounds the read, the completion's flags say which buffer was taken, and ``ENOBUFS``
    that none was left.
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
    """Writes bytes (Linux 5.6); completes with the number written. See pwrite(2), pwritev2(2).

    On a pipe or socket without a reader the process gets ``SIGPIPE`` besides ``EPIPE``, as with write(2).

    Without ``offset`` it writes at the file's position and moves it. Where the file system gets full, or
    another error follows after some bytes, it completes with their number, but Linux 6.18 does not move the
    position as write(2) does: move it before the next write.
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
    """Reads into buffers one after the other (Linux 5.1); completes with the number of bytes. See
    preadv2(2)."""
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
    """Writes buffers one after the other (Linux 5.1); completes with the number of bytes. See pwritev2(2).

    ``SIGPIPE`` as with `write`.
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
    """`read` into memory of the registered buffer ``buf_index`` (Linux 5.1): the kernel need not map it.

    ``EFAULT`` if the memory is not inside that buffer or nothing is registered there.
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
    """`write` from memory of the registered buffer ``buf_index`` (Linux 5.1); ``EFAULT`` as `read_fixed`."""
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
    """`readv` into pieces of the one registered buffer ``buf_index`` (Linux 6.15); ``EFAULT`` if one is
    outside it."""
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
    """`writev` from pieces of the one registered buffer ``buf_index`` (Linux 6.15)."""
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


def read_multishot(
    fd: Fd, buffer_group: int, *, fixed_file: bool = False, sqe_flags: int = 0, personality: int = 0
) -> Multishot[int]:
    """Reads whenever there is something into buffers of a group, until cancelled (Linux 6.7): a completion
    each, with the number of bytes.

    Only for what can be polled (pipes, sockets, terminals, eventfds); a regular file is ``EBADFD``. Ends
    without ``F_MORE`` at the end (0), on an error, on ``ENOBUFS``, on cancel and when the completion queue
    overflows.
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


def _buf_index(buf_index: Any) -> int:
    return check_int("buf_index", buf_index, 0, 0xFFFF)
