"""The replacements of Trio's I/O manager, sockets, pipes and streams in ring runs; of files on request."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from .. import seams
from ..core.manager import Manager
from ..ipc.pipes import RingPipe
from ..net import trio_stream
from ..net.socket import RingSocket
from . import dropin
from .dropin import patch_anyio

if TYPE_CHECKING:
    from ..options import RingOptions

__all__ = ["RingSocket", "create_manager", "files", "patch_anyio", "swap"]


def swap() -> None:
    """Makes Trio set up its runs with `Manager` and build ring sockets, pipes and streams. Idempotent."""
    seams.use_manager_class(Manager)
    seams.patch_socket_type(RingSocket)
    seams.patch_pipe_type(RingPipe)
    seams.patch_stream_methods(trio_stream.receive_some, trio_stream.send_all)
    seams.patch_forceful_close(trio_stream.forceful_close)


def create_manager(ring: RingOptions | None) -> Manager:
    """Opens a ring, with the manager of a run on it.

    Raises:
        RingUnavailable: no ring can be opened here.
    """
    manager = Manager.create(ring)
    if manager.options.monitor:
        from ..live.server import start

        manager.on_start = partial(start, manager)
    return manager


def files(*, on_ring: bool) -> None:
    """Puts the file functions of Trio and AnyIO on the ring, or restores them."""
    if on_ring:
        dropin.install()
    else:
        dropin.uninstall()
