"""Urgent data and error queues, which a stream socket may have beside its stream, and how a receive in the
kernel treats them.

  - Urgent data wakes every wait for input, though poll(2) does not call a lone urgent byte input. A receive
    that begins at it skips it for good, unless ``SO_OOBINLINE`` is set. So an attempt after a wait looks
    first. A receive in the kernel cannot look: no socket receives there once the run has asked for urgent
    data, and none that signals it (``F_SETOWN``) does.
  - An error queue is reported by poll(2) for as long as it is not empty, and a receive would go to a kernel
    worker.

It uses sockets of the standard library alone.
"""

from __future__ import annotations

import fcntl
import select
import socket as _stdlib
import struct
from typing import TYPE_CHECKING, Any, TypeVar

from .. import seams

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["asks_for_urgent", "has_no_more", "makes_error_queue", "queues_errors", "unless_urgent"]

_SO_TIMESTAMPING = 37
_SO_ZEROCOPY = 60
_ERROR_QUEUES = (_SO_TIMESTAMPING, _SO_ZEROCOPY)
"""With these options a stream socket's error queue has something at times."""
_SIOCATMARK = 0x8905
_FLAGS_AT = {"recv": 1, "recvfrom": 1}
"""Where the flags are in the arguments of a receive; 2 in those of the others."""

T = TypeVar("T")

_type = _stdlib.SocketType.type.__get__


def asks_for_urgent(fn: Any, args: tuple[Any, ...]) -> bool:
    """Whether a receive with these arguments has the flag ``MSG_OOB``."""
    keywords: dict[str, Any] = getattr(fn, "keywords", {})
    at = _FLAGS_AT.get(getattr(fn, "__name__", ""), 2)
    flags = args[at] if len(args) > at else keywords.get("flags", 0)
    return isinstance(flags, int) and bool(flags & _stdlib.MSG_OOB)


def has_no_more(sock: _stdlib.socket) -> bool:
    """Whether this is a stream and nothing else, so that the kernel may receive from it.

    Raises:
        OSError: it is not open.
    """
    if _type(sock) != _stdlib.SOCK_STREAM:
        return False
    if seams.is_plain is not None:
        return seams.is_plain(sock.fileno())
    queues = any(sock.getsockopt(_stdlib.SOL_SOCKET, option) for option in _ERROR_QUEUES)
    return not queues and not fcntl.fcntl(sock.fileno(), fcntl.F_GETOWN)


def makes_error_queue(args: tuple[Any, ...]) -> bool:
    """Whether these arguments of ``setsockopt`` are about an option that fills the error queue."""
    return args[:1] == (_stdlib.SOL_SOCKET,) and args[1:2] in ((one,) for one in _ERROR_QUEUES)


def queues_errors(ancdata: Any) -> bool:
    """Whether a message with this ancillary data has its stamps put into the error queue."""
    try:
        return any(item[:2] == (_stdlib.SOL_SOCKET, _SO_TIMESTAMPING) for item in ancdata)
    except TypeError:
        return False


def unless_urgent(fn: Callable[..., T], sock: _stdlib.socket, *args: Any) -> T:
    """Receives after a wait.

    Raises:
        BlockingIOError: an urgent byte alone ended it, which stays where it is.
    """
    if _type(sock) == _stdlib.SOCK_STREAM and _at_lone_mark(sock.fileno()):
        raise BlockingIOError
    return fn(sock, *args)


def _at_lone_mark(fd: int) -> bool:
    if fd < 0:
        return False
    try:
        (at_mark,) = struct.unpack("i", fcntl.ioctl(fd, _SIOCATMARK, bytes(4)))
    except OSError:
        return False
    if not at_mark:
        return False
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return not poll.poll(0)
