"""Unix stream sockets: connecting, and listeners that own the file they are found by.

A listener's file is removed when it closes, if it is still the listener's own. A file that a dead process
left behind is told from a living one by connecting to it, and replaced.
"""

from __future__ import annotations

import errno
import os
import socket as _stdlib
import stat
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import enable_ki_protection

from uring import ops
from uring.errors import error_from_result
from uring.kernel.addresses import encode_address

from ..core.manager import current
from ..core.perform import perform
from .listener import UringListener, check_backlog, open_listener, serve
from .socket import adopt
from .stream import UringStream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]

__all__ = ["listen_unix", "open_unix_stream", "serve_unix"]


@enable_ki_protection
async def open_unix_stream(path: Path) -> UringStream:
    """Connects to a Unix socket.

    Args:
        path: the socket's file; bytes that start with NUL name one in the abstract namespace.

    Raises:
        TypeError, ValueError: not a path, or one too long for an address (107 bytes).
        OSError: the message names the path.
        RuntimeError: outside a ring run.
    """
    current()
    address = _address(path)
    # One that does not block would fail at once where the backlog is full, with nothing to wait for.
    fd = await perform(ops.socket(_stdlib.AF_UNIX, _stdlib.SOCK_STREAM))
    try:
        await perform(ops.connect(fd, _stdlib.AF_UNIX, address))
    except OSError as exc:
        os.close(fd)
        raise error_from_result(-(exc.errno or errno.EIO), "connect", fd, address) from None
    except BaseException:
        os.close(fd)
        raise
    return UringStream(adopt(fd, _stdlib.AF_UNIX, _stdlib.SOCK_STREAM))


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
    a process that is gone is replaced.

    Args:
        path: where the socket's file is to be, as for `open_unix_stream`.
        backlog: connections the kernel keeps for us, by default as many as it allows.
        mode: the file's permissions; by default what the umask leaves. Connecting needs write permission.

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

    Arguments and errors as for `listen_unix` and `serve_tcp`.
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

    async def aclose(self) -> None:
        self.close()
        await trio.lowlevel.checkpoint()


async def _open(path: Path, backlog: int | None, mode: int | None) -> _UnixListener:
    current()
    check_backlog(backlog)
    address = _address(path)
    abstract = isinstance(address, bytes) and address.startswith(b"\0")
    try:
        plain = await open_listener(_stdlib.AF_UNIX, address, backlog)
    except OSError as exc:
        if exc.errno != errno.EADDRINUSE or abstract or not await _is_stale(address):
            raise
        os.unlink(address)
        plain = await open_listener(_stdlib.AF_UNIX, address, backlog)
    listener = _UnixListener(plain.socket, None if abstract else os.path.abspath(address))
    try:
        if mode is not None and not abstract:
            os.chmod(address, mode)
    except BaseException:
        listener.close()
        raise
    return listener


async def _is_stale(address: str | bytes) -> bool:
    """Whether the file is a socket that nobody listens on."""
    try:
        if not stat.S_ISSOCK(os.lstat(address).st_mode):
            return False
        stream = await open_unix_stream(address)
    except FileNotFoundError:
        return False
    except OSError as exc:
        return exc.errno == errno.ECONNREFUSED
    stream.socket.close()
    return False


def _address(path: Path) -> str | bytes:
    """The path as an address; raises what is wrong with it before anything is opened."""
    address = os.fspath(path)
    encode_address(_stdlib.AF_UNIX, address)
    if not address:
        raise ValueError("a Unix socket path is not empty")
    return address


def _identity(path: str | bytes) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino
