"""Trio on Linux io_uring: ``uring_trio.run`` is ``trio.run`` with a ring in place of epoll."""

import os
import sys

from uring.errors import RingUnavailable

from .core.perform import perform, perform_many
from .fs import BufferedFile, DirectFile, RawFile, TextFile, open_direct, open_file
from .fs.functions import (
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
from .fs.path import Path
from .fs.registered import RegisteredBuffer, RegisteredBuffers
from .ipc.channels import RingReceiveChannel, RingSendChannel, futex_wait, futex_wake, open_ring_channel
from .ipc.processes import wait_process
from .launch import environment
from .launch.run import install, run, start_guest_run, uninstall
from .multishot.events import poll_events, ticks
from .multishot.leases import Lease
from .multishot.subscription import subscribe
from .net.chunks import read_chunks
from .net.direct import DirectListener, DirectStream
from .net.listener import UringListener, listen_tcp, serve_tcp
from .net.stream import UringStream, open_tcp_stream
from .net.udp import Datagram, UringDatagrams, open_udp
from .net.unix import listen_unix, open_unix_stream, serve_unix
from .options import RingOptions
from .seams import UnsupportedTrio

if "_uring_trio_startup" in sys.modules:
    environment.follow(os.environ)

__all__ = [
    "BufferedFile",
    "Datagram",
    "DirectFile",
    "DirectListener",
    "DirectStream",
    "Lease",
    "Path",
    "RawFile",
    "RegisteredBuffer",
    "RegisteredBuffers",
    "RingOptions",
    "RingReceiveChannel",
    "RingSendChannel",
    "RingUnavailable",
    "TextFile",
    "UnsupportedTrio",
    "UringDatagrams",
    "UringListener",
    "UringStream",
    "copy_file",
    "futex_wait",
    "futex_wake",
    "getxattr",
    "install",
    "link",
    "listen_tcp",
    "listen_unix",
    "mkdir",
    "open_direct",
    "open_file",
    "open_ring_channel",
    "open_tcp_stream",
    "open_udp",
    "open_unix_stream",
    "perform",
    "perform_many",
    "poll_events",
    "read_chunks",
    "read_dir_stats",
    "rename",
    "rmdir",
    "run",
    "serve_tcp",
    "serve_unix",
    "setxattr",
    "splice",
    "start_guest_run",
    "stat",
    "subscribe",
    "symlink",
    "sync_file_range",
    "tee",
    "ticks",
    "uninstall",
    "unlink",
    "wait_process",
]
