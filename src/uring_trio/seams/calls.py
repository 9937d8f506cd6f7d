"""Methods of sockets and streams whose usual way is in C.

`compiled` puts a `Method` of the C text in the place of a coroutine function. Where ticks run in C its calls
are awaitables that need no frame; elsewhere, and for everything uncommon, they are the function's own. The
function stays the reference: the method has its name, signature and docstring.

`describe_sockets` says where the C text finds the fields that it looks at. As long as it has not, or where a
field is not as expected, every call is the function's.
"""

from __future__ import annotations

import socket as _stdlib
from typing import TYPE_CHECKING, Any, TypeVar

from trio.lowlevel import enable_ki_protection

from .names import NAMES_OF_TICKS, present, tested
from .ticks import C, find_offsets
from .waits import DONE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    import outcome

__all__ = ["compiled", "describe_sockets", "make_receive"]

F = TypeVar("F", bound="Callable[..., Coroutine[Any, Any, Any]]")


def compiled(
    kind: str,
    again: Callable[..., Coroutine[Any, Any, Any]] | None = None,
    *,
    socket: str | None = None,
    guard: str | None = None,
    flag: str | None = None,
    unread: str | None = None,
    usual: int | None = None,
    every: bool = False,
) -> Callable[[F], F]:
    """A decorator of coroutine functions with one argument besides ``self``.

    Args:
        kind: ``receive``, ``send`` or ``send_all``.
        again: goes on after a result that is not usual, with self, the argument, the `Fd` (None for a
            send) and the result: a negative errno, or how much was sent.
        socket: the attribute that holds the socket; None: ``self`` is it.
        guard, flag: ``flag`` is true while a task is here: an attribute of ``self`` or of its ``guard``.
        unread: an attribute that has to be None.
        usual: the argument where there is none.
        every: ``again`` takes the end of a stream too, and the outcome of an interruption.
    """

    def decorate(function: F) -> F:
        if C is None:
            return function
        if again is not None:
            enable_ki_protection(again)
        return C.Method(kind, every, function, again, socket, guard, flag, unread, usual)  # type: ignore[no-any-return]

    return decorate


@enable_ki_protection
def _unwrap(result: outcome.Outcome[Any]) -> Any:
    return result.unwrap()


def describe_sockets(sockets: type, descriptors: type, operations: type) -> None:
    """Says of which classes sockets, their descriptors and their operations are, once for the process."""
    if C is None or not tested() or not all(map(present, NAMES_OF_TICKS)):
        return
    offsets = find_offsets(
        [
            *((sockets, name) for name in ("_owner", "_plain", "_streaming")),
            *((descriptors, name) for name in ("reader", "receive_size", "receive", "receiving")),
            *((operations, name) for name in ("reach", "park")),
        ]
    )
    plain = _stdlib.socket()
    with plain:
        there = C.descriptor(plain) == plain.fileno()
    if offsets is not None and there and C.descriptor(plain) == -1:
        C.describe(sockets, descriptors, type(plain), DONE, _unwrap, offsets)


def make_receive(ticks: Any, op: Any, size: int, fd: int, ring: Any, buffers: Any) -> Any:
    """What receives in C, by an operation whose template is set up to receive so much into these buffers."""
    entry = op.template, ring.address_of(op.template)
    return C.Receive(
        ticks, op, size, size, fd, entry, ring.queue_addresses(), (buffers, *buffers.addresses())
    )
