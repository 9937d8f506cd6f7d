"""Connections as they come, by one multishot request: what every kind of listener iterates.

The request is an accept, or a poll where others may accept from the same socket. It is armed again when it
ends for a passing reason. Without descriptors or memory it waits, as Trio's own listeners do; a connection
that died in the backlog is passed over.
"""

from __future__ import annotations

import errno
import logging
import os
from typing import TYPE_CHECKING, Generic, TypeVar

import trio
from trio.lowlevel import enable_ki_protection

from uring.errors import error_from_result

from .. import seams

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..multishot.subscription import Subscription

__all__ = ["CONNECTION_LOST", "Connections"]

_log = logging.getLogger("uring_trio.net.listener")
_NO_ROOM = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS))
_PAUSE = 0.1
"""Seconds until accepting is tried again when descriptors or memory ran out, as Trio waits."""

CONNECTION_LOST = frozenset(
    getattr(errno, name)
    for name in (
        "ECONNABORTED",
        "ECONNRESET",
        "EHOSTDOWN",
        "EHOSTUNREACH",
        "ENETDOWN",
        "ENETUNREACH",
        "ENONET",
        "ENOPROTOOPT",
        "EOPNOTSUPP",
        "EPERM",
        "EPROTO",
        "ETIMEDOUT",
    )
)
"""Errors of one connection that died in the backlog, see accept(2); the listener goes on."""

T_co = TypeVar("T_co", covariant=True)


class Connections(Generic[T_co]):
    """The iterator of a listener's ``connections()``: no generator, because it goes on after a cancel."""

    def __init__(
        self, accepts: Subscription, make: Callable[[int], T_co], take: Callable[[], int] | None = None
    ) -> None:
        self._accepts = accepts
        self._make = make
        self._take = take  # accepts one, after a report of readiness
        self._ready = False  # there may be more

    def __aiter__(self) -> Connections[T_co]:
        return self

    @enable_ki_protection
    async def __anext__(self) -> T_co:
        while True:
            res = (await self._accepts.get())[0] if self._take is None else await self._accept(self._take)
            if res >= 0:
                return self._make(res)
            if -res in _NO_ROOM:
                _log.error("accept: %s; waiting %g s", os.strerror(-res), _PAUSE)
                await trio.sleep(_PAUSE)
            elif -res not in CONNECTION_LOST:
                raise error_from_result(res, "accept", self._accepts.owner.fd)

    async def _accept(self, take: Callable[[], int]) -> int:
        """A connection's descriptor, or an errno, negative. The poll stays armed between the attempts, so
        that none is missed."""
        while True:
            if not self._ready or self._accepts.over:
                res, _ = await self._accepts.get()
                if res < 0:
                    return res
                self._ready = True
            try:
                return await seams.inline(take)
            except BlockingIOError:
                self._ready = False
            except OSError as exc:
                return -(exc.errno or errno.EIO)
