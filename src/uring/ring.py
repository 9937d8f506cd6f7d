"""The class `Ring`: start and stop, submission, completion, registrations, buffers, operations."""

from __future__ import annotations

from .machines.multishot import MultishotMethods
from .machines.zcrx_methods import ZCRXMethods
from .session.methods import OperationMethods
from .session.multicast import MulticastMethods

__all__ = ["Ring"]


class Ring(OperationMethods, MulticastMethods, MultishotMethods, ZCRXMethods):
    """An io_uring of the running kernel.

    ``with Ring(entries=256) as ring:`` starts and stops it. A method per operation queues a request and
    returns a `Request`, or the context that the program passed. `wait` submits what is queued and takes
    completions. By default the thread that starts the ring is the only one to use it.

    Args:
        options: `Options`, or their fields as keyword arguments.

    Raises:
        RingUnavailable: this machine refuses io_uring; the message names the setting to change.
        TypeError, ValueError, OSError: options out of range, or refused by the kernel.
    """
