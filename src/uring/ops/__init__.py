"""Operations: each function checks its arguments and returns a prepared request, a `uring.kernel.op.Op`.

None calls the kernel. Submit the request by ``Ring.submit``, or await it with ``uring_trio.perform``; the
function's docstring explains its completion. Options are keywords, and an option that an operation does not
have is a ``TypeError``. All have ``sqe_flags``, bits of ``IOSQE_*`` for the entry (io_uring_enter(2)), and
``personality``, registered credentials to work under (0: the submitter's own). `uring.Ring` has each function
as a method.

A docstring has the parts of a manual page:

- Args: each argument, its unit and range.
- Result: the meaning of the completion, which has the type of the `Op`.
- Errors: errors of the completion. Any operation may also complete with ``EINVAL`` for an unknown
  ``personality`` or on a ring with ``iopoll`` that cannot have it, and with ``EACCES`` where restrictions of
  the ring forbid it.
- Ends: how a request that completes more than once ends.
- Cancellation: what ends it early, and how it then completes.
- Raises: exceptions of the function itself, before anything reaches the kernel.
- Since: the first kernel that has it.
- Source: the manual pages. Where Linux 6.18 differs from a page, the docstring says what the kernel does.
"""

from ..kernel.op import Multishot, Op
from .accepting import accept, accept_direct, accept_direct_multishot, accept_multishot
from .buffers import provide_buffers, release_provided, remove_buffers
from .cancel import (
    async_cancel,
    async_cancel_all,
    async_cancel_any,
    async_cancel_fd,
    async_cancel_matching,
    async_cancel_opcode,
)
from .command import uring_cmd, uring_cmd128
from .file import fadvise, fallocate, fsync, ftruncate, madvise, sync_file_range
from .filetable import files_update, fixed_fd_install
from .fixed import read_fixed, readv_fixed, write_fixed, writev_fixed
from .message import msg_ring, msg_ring_fd
from .nop_close import close, close_direct, nop, nop128
from .opening import openat, openat2
from .path import StatxResult, linkat, mkdirat, renameat, statx, symlinkat, unlinkat
from .poll import (
    poll_add,
    poll_add_level,
    poll_add_multishot,
    poll_add_multishot_level,
    poll_remove,
    poll_update,
)
from .protocols import (
    sctp4_socket,
    sctp4_socket_direct,
    sctp6_socket,
    sctp6_socket_direct,
    tcp4_socket,
    tcp4_socket_direct,
    tcp6_socket,
    tcp6_socket_direct,
    udp4_socket,
    udp4_socket_direct,
    udp6_socket,
    udp6_socket_direct,
    udplite4_socket,
    udplite4_socket_direct,
    udplite6_socket,
    udplite6_socket_direct,
    unix_socket,
    unix_socket_direct,
)
from .readwrite import read, read_multishot, readv, write, writev
from .receive import recv, recv_bundle, recvmsg
from .receive_multishot import recv_bundle_multishot, recv_multishot, recv_zero_copy, recvmsg_multishot
from .send import send, send_bundle, sendmsg, sendto, sendv
from .socket import bind, connect, listen, shutdown, socket, socket_direct, socket_raw
from .sockopt import getsockname, getsockopt, setsockopt, siocinq, siocoutq, tx_timestamp
from .sync import epoll_ctl, epoll_wait, futex_wait, futex_waitv, futex_wake, waitid
from .timeout import link_timeout, link_timeout_update, timeout, timeout_remove, timeout_update
from .transfer import pipe, splice, tee
from .xattr import fgetxattr, fsetxattr, getxattr, setxattr
from .zerocopy import send_zc, sendmsg_zc, sendto_zc

__all__ = [
    "Multishot",
    "Op",
    "StatxResult",
    "accept",
    "accept_direct",
    "accept_direct_multishot",
    "accept_multishot",
    "async_cancel",
    "async_cancel_all",
    "async_cancel_any",
    "async_cancel_fd",
    "async_cancel_matching",
    "async_cancel_opcode",
    "bind",
    "close",
    "close_direct",
    "connect",
    "epoll_ctl",
    "epoll_wait",
    "fadvise",
    "fallocate",
    "fgetxattr",
    "files_update",
    "fixed_fd_install",
    "fsetxattr",
    "fsync",
    "ftruncate",
    "futex_wait",
    "futex_waitv",
    "futex_wake",
    "getsockname",
    "getsockopt",
    "getxattr",
    "link_timeout",
    "link_timeout_update",
    "linkat",
    "listen",
    "madvise",
    "mkdirat",
    "msg_ring",
    "msg_ring_fd",
    "nop",
    "nop128",
    "openat",
    "openat2",
    "pipe",
    "poll_add",
    "poll_add_level",
    "poll_add_multishot",
    "poll_add_multishot_level",
    "poll_remove",
    "poll_update",
    "provide_buffers",
    "read",
    "read_fixed",
    "read_multishot",
    "readv",
    "readv_fixed",
    "recv",
    "recv_bundle",
    "recv_bundle_multishot",
    "recv_multishot",
    "recv_zero_copy",
    "recvmsg",
    "recvmsg_multishot",
    "release_provided",
    "remove_buffers",
    "renameat",
    "sctp4_socket",
    "sctp4_socket_direct",
    "sctp6_socket",
    "sctp6_socket_direct",
    "send",
    "send_bundle",
    "send_zc",
    "sendmsg",
    "sendmsg_zc",
    "sendto",
    "sendto_zc",
    "sendv",
    "setsockopt",
    "setxattr",
    "shutdown",
    "siocinq",
    "siocoutq",
    "socket",
    "socket_direct",
    "socket_raw",
    "splice",
    "statx",
    "symlinkat",
    "sync_file_range",
    "tcp4_socket",
    "tcp4_socket_direct",
    "tcp6_socket",
    "tcp6_socket_direct",
    "tee",
    "timeout",
    "timeout_remove",
    "timeout_update",
    "tx_timestamp",
    "udp4_socket",
    "udp4_socket_direct",
    "udp6_socket",
    "udp6_socket_direct",
    "udplite4_socket",
    "udplite4_socket_direct",
    "udplite6_socket",
    "udplite6_socket_direct",
    "unix_socket",
    "unix_socket_direct",
    "unlinkat",
    "uring_cmd",
    "uring_cmd128",
    "waitid",
    "write",
    "write_fixed",
    "writev",
    "writev_fixed",
]
