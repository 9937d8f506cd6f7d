"""Unix sockets whose peer has no room, which poll(2) does not report.

For a stream socket it does not report when the backlog of the listener has room; a datagram socket that is
not connected it reports as writable whether the receiver is full or not. These calls try again, with growing
pauses, or look at the receiver.
"""

from __future__ import annotations

import socket as _stdlib
from typing import TYPE_CHECKING, Any

import trio

from ..core.operation import CLOSED_FD

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..core.fd import Fd

__all__ = ["connect", "send_to"]

_SHORTEST_PAUSE = 0.001
_LONGEST_PAUSE = 0.05


async def connect(owner: Fd, attempt: Callable[[], object]) -> None:
    """Connects to a socket whose backlog was full a moment ago; it is tried at most 20 times a second. Stock
    Trio returns unconnected."""
    pause = _SHORTEST_PAUSE
    while True:
        await _pause(owner, pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
        try:
            attempt()
            return
        except BlockingIOError:
            pass


async def send_to(owner: Fd, name: str, address: Any, attempt: Callable[[], int]) -> int:
    """Sends a datagram to a receiver that was full a moment ago; how many bytes."""
    pause = _SHORTEST_PAUSE
    while True:
        await owner.until_writable(name)
        try:
            return attempt()
        except BlockingIOError:
            pass
        try:
            await _until_receiver_has_room(owner, name, address)
            pause = _SHORTEST_PAUSE
        except OSError:
            await _pause(owner, pause)
            pause = min(2 * pause, _LONGEST_PAUSE)


async def _until_receiver_has_room(owner: Fd, name: str, address: Any) -> None:
    """Waits until the socket at this address takes more, which poll(2) reports for one connected to it.

    Raises:
        OSError: no such socket can be had.
    """
    with _stdlib.socket(_stdlib.AF_UNIX, _stdlib.SOCK_DGRAM) as probe:
        probe.connect(address)
        await owner.wait_elsewhere(name, probe.fileno())


async def _pause(owner: Fd, seconds: float) -> None:
    await trio.sleep(seconds)
    if owner.fd < 0:
        raise trio.ClosedResourceError(CLOSED_FD)
