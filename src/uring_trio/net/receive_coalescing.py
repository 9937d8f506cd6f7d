"""Receive coalescing: a fast flow is received in fewer and larger pieces, by the socket's low-water mark.

A wake-up costs a task's step and the system calls around it, for any amount of data, and a bulk flow over a
fast network wakes its reader for every few segments. So after `COALESCE_AFTER` bytes without a pause
``SO_RCVLOWAT`` makes the socket hold back its data, until about as much is there as arrives in
``RingOptions.gather_us``. Plain calls then read it: directly into bytes, which saves the copy out of a
multishot's buffer, or into the buffer that was recycled last, which is still in the processor's cache.

Bounds
  - Only this socket waits longer. Other operations, deadlines and wake-ups are not delayed.
  - Data is held back for ``gather_us`` at most, counted from the next tick. When that time has passed the
    flow is over, or slower than before: the option is restored, and the count starts anew.
  - The kernel reports the end of the stream, an error and a nearly full receive buffer at once.
  - The option is restored to 1 before other code can use the socket: when the block is left, the socket is
    closed or detached, or the run is over. A socket whose option is not 1 was set by the program, and is not
    changed.

It is independent of what a subscription does with the bytes.
"""

from __future__ import annotations

import socket as _stdlib
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..core.engine import Engine

__all__ = ["COALESCE_AFTER", "Coalescing"]

COALESCE_AFTER = 8 << 20
"""Bytes that come in one go before anything is held back: at any rate they take longer than one delay."""

_LEAST = 65536
"""A smaller piece is not worth waiting for."""

_MOST = 524288
"""A larger one is not cheaper, and falls out of the processor's cache."""


class Coalescing:
    """The coalescing of one flow.

    Args:
        engine: the run's, which calls `on_timeout`.
        sock: the socket that it arrives in.
        room: bytes of all buffers that it is received into.

    Attributes:
        receive, receive_into: take the data in the socket; BlockingIOError if there is none.
    """

    __slots__ = ("_active", "_count", "_engine", "_most", "_since", "_sock", "receive", "receive_into")

    def __init__(self, engine: Engine, sock: _stdlib.socket, room: int) -> None:
        self._engine = engine
        self._sock = sock
        self.receive: Callable[[int], bytes] = sock.recv
        self.receive_into: Callable[[memoryview], int] = sock.recv_into
        self._most = min(_MOST, room // 2)
        self._active = False
        self._count = 0
        self._since = monotonic()

    @property
    def active(self) -> bool:
        """Whether the socket holds back what it has."""
        return self._active

    def consumed(self, size: int) -> None:
        """Notes that the consumer took ``size`` bytes."""
        if self._active:
            self._engine.delay(self)
            return
        self._count += size
        if self._count >= COALESCE_AFTER:
            self._consider()

    def on_timeout(self) -> None:
        """The delay expired: the flow is over, or slower than it was."""
        self.stop()

    def stop(self) -> None:
        """Restores the low-water mark. Idempotent."""
        if not self._active:
            return
        self._active = False
        self._engine.end_delay(self)
        self._start_anew()
        try:
            self._sock.setsockopt(_stdlib.SOL_SOCKET, _stdlib.SO_RCVLOWAT, 1)
        except OSError:
            pass  # closed meanwhile

    def close(self) -> None:
        """Stops for good: the data that the consumer takes after this was received before."""
        self._most = 0
        self.stop()

    def _start_anew(self) -> None:
        self._count = 0
        self._since = monotonic()

    def _consider(self) -> None:
        """Begins to hold back if the bytes counted came fast enough. The mark is three quarters of the bytes
        that come within one delay, so that a short pause does not end it."""
        rate = self._count / max(monotonic() - self._since, 1e-6)
        self._start_anew()
        at_least = min(self._most, int(rate * self._engine.delay_seconds * 0.75))
        if at_least < _LEAST:
            return
        try:
            at_least = min(at_least, self._may_coalesce())
            if at_least < _LEAST or not self._engine.delay(self):
                return
            self._active = True
            self._sock.setsockopt(_stdlib.SOL_SOCKET, _stdlib.SO_RCVLOWAT, at_least)
        except OSError:
            self.stop()

    def _may_coalesce(self) -> int:
        """How much may be held back while the peer goes on sending: a quarter of the receive buffer, whose
        size counts the overhead of segments too. 0: not in this socket."""
        option = self._sock.getsockopt
        if option(_stdlib.SOL_SOCKET, _stdlib.SO_PROTOCOL) != _stdlib.IPPROTO_TCP:
            return 0
        if option(_stdlib.SOL_SOCKET, _stdlib.SO_RCVLOWAT) != 1:
            return 0
        return option(_stdlib.SOL_SOCKET, _stdlib.SO_RCVBUF) // 4
