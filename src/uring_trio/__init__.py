"""Trio on Linux io_uring: ``uring_trio.run`` is ``trio.run`` with a ring in place of epoll.

Importing it works with every Trio. With one that is not supported `run` and `install` say so or fall back to
epoll, and names that need a ring run raise `UnsupportedTrio`.

PYTEST_DONT_REWRITE: the launcher imports it before pytest.
"""

import os
from typing import TYPE_CHECKING

import _uring_trio_startup
from uring import __version__ as __version__
from uring._names import names_on_demand
from uring.errors import NoWorker, OperationRestricted, RingUnavailable

if TYPE_CHECKING:
    from .core.manager import statistics
    from .core.perform import perform, perform_many
    from .core.statistics import RingStatistics
    from .fs import BufferedFile, DirectFile, RawFile, RingFile, TextFile, open_direct, open_file
    from .fs.copying import copy_file, splice, tee
    from .fs.functions import getxattr, link, mkdir, rename, rmdir, setxattr, symlink, sync_file_range, unlink
    from .fs.path import Path
    from .fs.registered import RegisteredBuffer, RegisteredBuffers
    from .fs.stats import read_dir_stats, stat
    from .ipc.channels import RingReceiveChannel, RingSendChannel, futex_wait, futex_wake, open_ring_channel
    from .ipc.processes import wait_process
    from .launch.run import install, run, start_guest_run, uninstall
    from .multishot.events import poll_events, ticks
    from .multishot.items import Items, subscribe
    from .multishot.leases import Lease
    from .net.chunks import read_chunks
    from .net.connections import Connections
    from .net.direct_listener import DirectListener
    from .net.direct_stream import DirectStream
    from .net.listener import UringListener, listen_tcp, serve_tcp
    from .net.stream import UringStream, open_tcp_stream
    from .net.udp import Datagram, UringDatagrams, open_udp
    from .net.unix import listen_unix, open_unix_stream, serve_unix
    from .net.zerocopy_queue import ZeroCopyQueue
    from .options import RingOptions
    from .seams import UnsupportedTrio

__all__ = [
    "BufferedFile",
    "Connections",
    "Datagram",
    "DirectFile",
    "DirectListener",
    "DirectStream",
    "Items",
    "Lease",
    "NoWorker",
    "OperationRestricted",
    "Path",
    "RawFile",
    "RegisteredBuffer",
    "RegisteredBuffers",
    "RingFile",
    "RingOptions",
    "RingReceiveChannel",
    "RingSendChannel",
    "RingStatistics",
    "RingUnavailable",
    "TextFile",
    "UnsupportedTrio",
    "UringDatagrams",
    "UringListener",
    "UringStream",
    "ZeroCopyQueue",
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
    "statistics",
    "subscribe",
    "symlink",
    "sync_file_range",
    "tee",
    "ticks",
    "uninstall",
    "unlink",
    "wait_process",
]

_HOMES = {
    "core.manager": "statistics",
    "core.perform": "perform perform_many",
    "core.statistics": "RingStatistics",
    "fs": "BufferedFile DirectFile RawFile RingFile TextFile open_direct open_file",
    "fs.copying": "copy_file splice tee",
    "fs.functions": "getxattr link mkdir rename rmdir setxattr symlink sync_file_range unlink",
    "fs.path": "Path",
    "fs.registered": "RegisteredBuffer RegisteredBuffers",
    "fs.stats": "read_dir_stats stat",
    "ipc.channels": "RingReceiveChannel RingSendChannel futex_wait futex_wake open_ring_channel",
    "ipc.processes": "wait_process",
    "launch.run": "install run start_guest_run uninstall",
    "multishot.events": "poll_events ticks",
    "multishot.items": "Items subscribe",
    "multishot.leases": "Lease",
    "net.connections": "Connections",
    "net.chunks": "read_chunks",
    "net.direct_listener": "DirectListener",
    "net.direct_stream": "DirectStream",
    "net.listener": "UringListener listen_tcp serve_tcp",
    "net.stream": "UringStream open_tcp_stream",
    "net.udp": "Datagram UringDatagrams open_udp",
    "net.unix": "listen_unix open_unix_stream serve_unix",
    "net.zerocopy_queue": "ZeroCopyQueue",
    "options": "RingOptions",
    "seams": "UnsupportedTrio",
}

if not TYPE_CHECKING:  # to a checker, a name that is not here is a mistake
    __getattr__, __dir__ = names_on_demand(__name__, _HOMES, "anyio debug metrics testing")

if _uring_trio_startup.is_watching():
    from .launch import environment

    environment.follow(os.environ)
