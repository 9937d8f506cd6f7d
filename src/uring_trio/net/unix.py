"""Unix stream sockets: connecting, and listeners that own their file.

Closing a listener removes its file, unless the file has been replaced. A connection attempt tells the file of
a dead process from that of a living one, and the file of a dead process is replaced.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket as _stdlib
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import enable_ki_protection

from uring import ops
from uring.errors import error_from_result
from uring.kernel.addresses import encode_address

from ..core.engine import current
from ..core.perform import perform
from .listener import UringListener, check_backlog, open_listener, serve
from .socket import adopt
from .stream import UringStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

__all__ = ["listen_unix", "open_unix_stream", "serve_unix"]

_TRIES = 5
"""How often an address is tried that became free meanwhile."""

_LOCK_SECONDS = 5.0
"""How long to wait for the lock of a directory; it is held for as long as binding takes."""


@enable_ki_protection
async def open_unix_stream(path: Path) -> UringStream:
    """Connects to a Unix socket. While the listener's backlog is full it is tried again, at most 20 times a
    second.

    Cancelled, it leaves no socket behind.

    Args:
        path: the socket's file; bytes that start with NUL name one in the abstract namespace.

    Raises:
        TypeError, ValueError: not a path, or one too long for an address (107 bytes).
        OSError: the message names the path.
        RuntimeError: outside a ring run.
    """
    current()
    address = _address(path)
    fd = await perform(ops.socket(_stdlib.AF_UNIX, _stdlib.SOCK_STREAM | _stdlib.SOCK_NONBLOCK))
    sock = adopt(fd, _stdlib.AF_UNIX, _stdlib.SOCK_STREAM)
    try:
        await sock.connect(address)
    except OSError as exc:
        sock.close()
        raise error_from_result(-(exc.errno or errno.EIO), "connect", fd, address) from None
    except BaseException:
        sock.close()
        raise
    return UringStream(sock)


@enable_ki_protection
async def listen_unix(
    path: Path,
    backlog: int | None = None,
    *,
    mode: int | None = None,
    task_status: trio.TaskStatus[UringListener] = trio.TASK_STATUS_IGNORED,
) -> None:
    """A listener as a nursery task: ``listener = await nursery.start(listen_unix, path)``.

    The task holds the listener until it is cancelled, then closes it and removes its file. A file left by
    a process that is gone is replaced; of several that try so at once one listens. For that the file's
    directory is locked (flock(2)) while the socket is bound.

    Args:
        path: where the socket's file is to be, as for `open_unix_stream`.
        backlog: connections that wait in the kernel, by default as many as it allows.
        mode: the file's permissions, from its first moment; by default what the umask leaves. Connecting
            needs write permission.
        task_status: given by ``nursery.start``, which returns the listener.

    Raises:
        TypeError, ValueError: not a path, or one too long for an address (107 bytes).
        OSError: ``EADDRINUSE``: another process listens there, or the file is not a socket. The message
            names the stage and the path.
        RuntimeError: outside a ring run.
    """
    listener = await _open(path, backlog, mode)
    try:
        task_status.started(listener)
        await trio.sleep_forever()
    finally:
        listener.close()


@enable_ki_protection
async def serve_unix(
    handler: Callable[[UringStream], Awaitable[object]],
    path: Path,
    *,
    backlog: int | None = None,
    mode: int | None = None,
    handler_nursery: trio.Nursery | None = None,
    task_status: trio.TaskStatus[list[UringListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Runs ``handler(stream)`` in a task for each connection to a Unix socket, as `serve_tcp` does.

    Args:
        handler: an async function that takes a `UringStream`.
        path: where the socket's file is to be.
        backlog: connections that wait in the kernel, by default as many as it allows.
        mode: the file's permissions, as for `listen_unix`.
        handler_nursery: where the handlers run; by default in a nursery of this call.
        task_status: given by ``nursery.start``, which returns a list of the listener.

    Errors and cancellation as for `listen_unix` and `serve_tcp`.
    """
    listener = await _open(path, backlog, mode)
    try:
        await serve([listener], handler, handler_nursery, task_status)
    finally:
        listener.close()


class _UnixListener(UringListener):
    """A listener with a file; ``close`` removes it."""

    def __init__(self, socket: Any, path: str | bytes | None) -> None:
        super().__init__(socket)
        self._path = path
        self._identity = None if path is None else _identity(path)

    def close(self) -> None:
        """Removes the file, unless it is another's by now, and closes the socket. Idempotent."""
        path, self._path = self._path, None
        try:
            if path is not None and _identity(path) == self._identity:
                os.unlink(path)
        except FileNotFoundError:
            pass
        finally:
            self.socket.close()


async def _open(path: Path, backlog: int | None, mode: int | None) -> _UnixListener:
    current()
    check_backlog(backlog)
    address = _address(path)
    if isinstance(address, bytes) and address.startswith(b"\0"):
        return _UnixListener((await open_listener(_stdlib.AF_UNIX, address, backlog)).socket, None)
    lock = await _lock_directory(address)
    try:
        return await _listen(address, backlog, mode)
    finally:
        if lock >= 0:
            # Unlocked by name: a child that was forked meanwhile has the descriptor too.
            fcntl.flock(lock, fcntl.LOCK_UN)
            os.close(lock)


async def _listen(address: str | bytes, backlog: int | None, mode: int | None) -> _UnixListener:
    """Binds to the address, and replaces the file of a dead listener."""
    for _ in range(_TRIES):
        try:
            plain = await open_listener(_stdlib.AF_UNIX, address, backlog, mode=mode)
            break
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE or not _is_free(address):
                raise
            in_use = exc
    else:
        raise in_use
    try:
        listener = _UnixListener(plain.socket, os.path.abspath(address))
    except BaseException:
        plain.socket.close()
        raise
    try:
        if mode is not None and stat.S_IMODE(os.lstat(address).st_mode) != mode:
            os.chmod(address, mode)  # what the umask took away
    except BaseException:
        listener.close()
        raise
    return listener


async def _lock_directory(address: str | bytes) -> int:
    """Locks the socket's directory, so that a bound socket there that does not listen is dead and not about
    to listen; -1 where the directory cannot be opened, or another process holds the lock. The kernel removes
    the lock of a process that dies."""
    here: str | bytes = b"." if isinstance(address, bytes) else "."
    try:
        fd = os.open(os.path.dirname(address) or here, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return -1  # the bind reports the error
    try:
        with trio.move_on_after(_LOCK_SECONDS):
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return fd
                except BlockingIOError:
                    await trio.sleep(0.001)
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return -1


def _is_free(address: str | bytes) -> bool:
    """Whether the address is free, after the file of a dead listener was removed."""
    try:
        if not stat.S_ISSOCK(os.lstat(address).st_mode):
            return False
        with _stdlib.socket(_stdlib.AF_UNIX) as probe:
            probe.setblocking(False)  # with a full backlog this fails, and a process listens there
            probe.connect(address)
        return False
    except FileNotFoundError:
        return True
    except ConnectionRefusedError:
        pass
    except OSError:
        return False
    with suppress(FileNotFoundError):
        os.unlink(address)
    return True


def _address(path: Path) -> str | bytes:
    """The path as an address; raises TypeError or ValueError before anything is opened."""
    address = os.fspath(path)
    encode_address(_stdlib.AF_UNIX, address)
    if not address:
        raise ValueError("a Unix socket path is not empty")
    return address


def _identity(path: str | bytes) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino
