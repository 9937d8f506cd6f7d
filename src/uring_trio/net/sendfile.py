"""Sending a file on a socket: the kernel splices it, and its bytes do not enter this process.

A file that cannot be spliced is read and sent.
"""

from __future__ import annotations

import errno
import fcntl
import os
from mmap import mmap
from typing import TYPE_CHECKING, Any

import trio

from uring import abi, ops
from uring.errors import EXPLAINED

from ..core.perform import perform, persist
from .zerocopy import send_by_copy

if TYPE_CHECKING:
    from .socket import RingSocket

__all__ = ["SocketFailed", "send_file"]

_PIPE = 1 << 20
_PART = 1 << 16
_BLOCK = 4096


class SocketFailed(Exception):
    """It was the socket, not the file, that failed; ``cause`` says how."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(cause)
        self.cause = cause


async def send_file(sock: RingSocket, file: Any, offset: int, count: int | None) -> int:
    """Sends ``count`` bytes of a file from ``offset`` on, or all; returns how many there were.

    Splices run in kernel workers. The socket does not block, so that one which is full gives its worker
    back, and the task waits until it takes more.

    Raises:
        OSError: the file's errno.
        SocketFailed: with the socket's.
        trio.ClosedResourceError: the socket was closed.
    """
    fd = file if isinstance(file, int) else file.fileno()
    await trio.lowlevel.checkpoint_if_cancelled()
    _check_open(sock)
    # A worker looks its descriptor up late: by then the socket's own may be closed, and the number another
    # connection's.
    held = os.dup(sock.fileno())
    try:
        return await _send_file(sock, held, fd, offset, count)
    finally:
        os.close(held)


async def _send_file(sock: RingSocket, held: int, fd: int, offset: int, count: int | None) -> int:
    source, sink = os.pipe2(os.O_CLOEXEC)
    total = 0
    try:
        room = _enlarged(sink)
        while count is None or total < count:
            wanted = room if count is None else min(room, count - total)
            try:
                there = await persist(ops.splice(fd, sink, wanted, offset_in=offset + total))
            except OSError as exc:
                if exc.errno != errno.EINVAL:
                    raise
                return total + await _send_file_by_copy(sock, fd, offset + total, count and count - total)
            if not there:
                break
            await _splice_to_socket(source, sock, held, there)
            total += there
        if count == 0:
            await trio.lowlevel.checkpoint()
    finally:
        os.close(source)
        os.close(sink)
    return total


async def _splice_to_socket(source: int, sock: RingSocket, held: int, size: int) -> None:
    while size:
        _check_open(sock)
        try:
            size -= await persist(ops.splice(source, held, size))
        except EXPLAINED:
            raise
        except OSError as exc:
            if exc.errno != errno.EAGAIN:
                raise SocketFailed(exc) from exc
            _check_open(sock)
            await sock.wait_writable()


def _check_open(sock: RingSocket) -> None:
    """After a wait: another task may have closed the socket meanwhile."""
    if sock.fileno() < 0:
        raise trio.ClosedResourceError("this stream is closed")


async def _send_file_by_copy(sock: RingSocket, fd: int, offset: int, count: int | None) -> int:
    # A file with O_DIRECT is read in whole blocks, into memory that begins at one.
    align = await _alignment(fd)
    total = 0
    with mmap(-1, _PART) as memory, memoryview(memory) as view:
        while count is None or total < count:
            before = (offset + total) % align
            n = await persist(ops.read(fd, view, offset=offset + total - before)) - before
            if count is not None:
                n = min(n, count - total)
            if n <= 0:
                break
            with view[before : before + n] as part:
                try:
                    await send_by_copy(sock, part)
                except OSError as exc:
                    raise SocketFailed(exc) from exc
            total += n
    return total


async def _alignment(fd: int) -> int:
    """The number that the offsets of reads have to be multiples of."""
    if not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_DIRECT:
        return 1
    found = await perform(ops.statx("", flags=abi.AT_EMPTY_PATH, mask=abi.STATX_DIOALIGN, dir_fd=fd))
    return found.dio_offset_align or _BLOCK


def _enlarged(pipe: int) -> int:
    """Enlarges a pipe as far as that is useful and allowed; returns its size."""
    try:
        return fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE)
    except PermissionError:
        return fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
