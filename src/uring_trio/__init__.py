"""Trio on Linux io_uring: ``uring_trio.run`` is ``trio.run`` with a ring in place of epoll."""

from uring.errors import RingUnavailable

from .channels import RingReceiveChannel, RingSendChannel, futex_wait, futex_wake, open_ring_channel
from .listener import UringListener, listen_tcp, serve_tcp
from .options import RingOptions
from .perform import perform
from .run import install, run, start_guest_run, uninstall
from .seams import UnsupportedTrio
from .streams import UringStream, open_tcp_stream

__all__ = [
    "RingOptions",
    "RingReceiveChannel",
    "RingSendChannel",
    "RingUnavailable",
    "UnsupportedTrio",
    "UringListener",
    "UringStream",
    "futex_wait",
    "futex_wake",
    "install",
    "listen_tcp",
    "open_ring_channel",
    "open_tcp_stream",
    "perform",
    "run",
    "serve_tcp",
    "start_guest_run",
    "uninstall",
]
