"""Connections as they come, by one multishot request: the iterator of every kind of listener.

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
    """The connections of a listener: an async context manager, and the iterator of its block.

    Leaving the block in any way cancels the request, waits for its last completion and closes the connections
    in the queue. No generator, because iterating goes on after a cancel.
    """

    def __init__(
        self, begin: Callable[[], tuple[Subscription, Callable[[], int] | None]], make: Callable[[int], T_co]
    ) -> None:
        self._begin = begin  # the request, and what accepts one connection after a report of readiness
        self._make = make
        self._accepts: Subscription | None = None
        self._take: Callable[[], int] | None = None
        self._ready = False  # there may be more

    @enable_ki_protection
    async def __aenter__(self) -> Connections[T_co]:
        if self._accepts is not None:
            raise RuntimeError("this was entered before; call connections() again")
        await trio.lowlevel.checkpoint()
        self._accepts, self._take = self._begin()
        return self

    @enable_ki_protection
    async def __aexit__(self, *exc_info: object) -> None:
        await self._request().aclose()

    def __aiter__(self) -> Connections[T_co]:
        return self

    def _request(self) -> Subscription:
        if self._accepts is None:
            raise RuntimeError(
                "enter it first: async with listener.connections() as incoming, then async for stream in "
                "incoming"
            )
        return self._accepts

    @enable_ki_protection
    async def __anext__(self) -> T_co:
        accepts = self._request()
        while True:
            res = (await accepts.get())[0] if self._take is None else await self._accept(accepts, self._take)
            if res >= 0:
                return self._make(res)
            if -res in _NO_ROOM:
                _log.error("accept: %s; waiting %g s", os.strerror(-res), _PAUSE)
                await trio.sleep(_PAUSE)
            elif -res not in CONNECTION_LOST:
                accepts.check(res)
                raise error_from_result(res, "accept", accepts.owner.fd)

    async def _accept(self, accepts: Subscription, take: Callable[[], int]) -> int:
        """A connection's descriptor, or an errno, negative. The poll stays armed between the attempts, so
        that none is missed."""
        while True:
            if not self._ready or accepts.over:
                res, _ = await accepts.get()
                if res < 0:
                    return res
                self._ready = True
            try:
                return await seams.inline(take)
            except BlockingIOError:
                self._ready = False
            except OSError as exc:
                return -(exc.errno or errno.EIO)
