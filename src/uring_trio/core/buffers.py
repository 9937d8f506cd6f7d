"""The receive buffers of a run: when there are more of them, and when their memory is given back.

They are those of single-shot receives: a buffer goes back within the tick that its data arrived in.
Subscriptions have groups of their own, see `multishot.leases`.

It is independent of who receives.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from uring.kernel.ringlike import RingLike

    from ..options import RingOptions

__all__ = ["FIRST_BUFFERS", "IDLE_SECONDS", "RECEIVE_GROUP", "SCARCE", "STREAMING", "ReceiveBuffers"]

FIRST_BUFFERS = 16
"""Buffers of single-shot receives to begin with; there are twice as many whenever a receive finds none."""

SCARCE = 4096
"""Bytes of memory that a receive takes if it found no buffer: thousands may in one tick."""

IDLE_SECONDS = 10.0
"""How long added buffers must be idle before their memory is given back; those of subscriptions too."""

RECEIVE_GROUP = 0
"""The group that single-shot receives select from."""

STREAMING = 16384
"""After a receive of this size more of the kind is likely: the next one tries without waiting first, and
waits for readiness, which spares the copy out of a provided buffer."""

_log = logging.getLogger("uring_trio.run")


class ReceiveBuffers:
    """Attributes: ``ring``, the buffers as the kernel knows them."""

    def __init__(self, ring: RingLike, options: RingOptions, provide: Callable[..., Any]) -> None:
        self.ring: Any = provide(
            ring,
            RECEIVE_GROUP,
            options.buffers,
            options.buffer_size,
            first=min(options.buffers, FIRST_BUFFERS),
        )
        self._most = options.buffers
        self._exhausted = False  # whether receives found no buffer since the last `trim`
        self._told = False

    def grow(self) -> bool:
        """Adds buffers for a receive that found none; False: there are as many as the options allow."""
        self._exhausted = True
        if self.ring.grow():
            return True
        if not self._told:
            self._told = True
            _log.warning(
                "all %d receive buffers were in use: receives take a second request each, which more of "
                "RingOptions(buffers=) spare",
                self._most,
            )
        return False

    def trim(self) -> bool:
        """Gives back half of them, if no receive lacked one since the last call; whether a later call may
        give back more."""
        if not self._exhausted:
            self.ring.shrink(max(FIRST_BUFFERS, self.ring.in_use // 2))
        self._exhausted = False
        return bool(self.ring.in_use > FIRST_BUFFERS)
