"""Trio on Linux io_uring: ``uring_trio.run`` is ``trio.run`` with a ring in place of epoll."""

from .options import RingOptions
from .perform import perform
from .run import install, run, start_guest_run, uninstall

__all__ = ["RingOptions", "install", "perform", "run", "start_guest_run", "uninstall"]
