"""Operations: each function checks its arguments and returns an inert `uring.op.Op`.

Nothing here touches the kernel. A function's result is submitted by ``Ring.submit`` or awaited with
``uring_trio.perform``; what the completion means is said by the function's docstring.
"""

from ..op import Op
from .base import close, nop
from .cancel import async_cancel, async_cancel_all, async_cancel_any, async_cancel_fd
from .file import read, write
from .poll import poll_add, poll_remove
from .socket import (
    accept,
    accept_multishot,
    bind,
    connect,
    listen,
    recv,
    recvmsg,
    send,
    sendmsg,
    shutdown,
    socket,
)
from .timeout import link_timeout, timeout

__all__ = [
    "Op",
    "accept",
    "accept_multishot",
    "async_cancel",
    "async_cancel_all",
    "async_cancel_any",
    "async_cancel_fd",
    "bind",
    "close",
    "connect",
    "link_timeout",
    "listen",
    "nop",
    "poll_add",
    "poll_remove",
    "read",
    "recv",
    "recvmsg",
    "send",
    "sendmsg",
    "shutdown",
    "socket",
    "timeout",
    "write",
]
