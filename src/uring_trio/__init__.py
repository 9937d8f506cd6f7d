"""Trio on Linux io_uring: ``uring_trio.run`` is ``trio.run`` with a ring in place of epoll."""

from uring.errors import RingUnavailable

from .channels import RingReceiveChannel, RingSendChannel, futex_wait, futex_wake, open_ring_channel
from .files import BufferedFile, DirectFile, RawFile, TextFile, open_direct, open_file
from .listener import UringListener, listen_tcp, serve_tcp
from .options import RingOptions
from .path import Path
from .paths import (
    copy_file,
    getxattr,
    link,
    mkdir,
    read_dir_stats,
    rename,
    rmdir,
    setxattr,
    splice,
    stat,
    symlink,
    sync_file_range,
    tee,
    unlink,
)
from .perform import perform, perform_many
from .processes import wait_process
from .run import install, run, start_guest_run, uninstall
from .seams import UnsupportedTrio
from .streams import UringStream, open_tcp_stream

__all__ = [
    "BufferedFile",
    "DirectFile",
    "Path",
    "RawFile",
    "RingOptions",
    "RingReceiveChannel",
    "RingSendChannel",
    "RingUnavailable",
    "TextFile",
    "UnsupportedTrio",
    "UringListener",
    "UringStream",
    "copy_file",
    "futex_wait",
    "futex_wake",
    "getxattr",
    "install",
    "link",
    "listen_tcp",
    "mkdir",
    "open_direct",
    "open_file",
    "open_ring_channel",
    "open_tcp_stream",
    "perform",
    "perform_many",
    "read_dir_stats",
    "rename",
    "rmdir",
    "run",
    "serve_tcp",
    "setxattr",
    "splice",
    "start_guest_run",
    "stat",
    "symlink",
    "sync_file_range",
    "tee",
    "uninstall",
    "unlink",
    "wait_process",
]
