"""Methods of sockets and streams whose fast path is in C.

`compiled` puts a `Method` of the C code in the place of a coroutine function. Where ticks run in C its calls
are awaitables that need no frame; elsewhere, and for everything uncommon, they are the function's own. The
function stays the reference: the method has its name, signature and docstring.

`describe_sockets`, `describe_requests`, `describe_subscriptions`, `describe_groups` and `describe_chunks` say
where the C code finds the fields that it looks at. Before that, and where a field is not as expected, every
call is the function's.
"""

from __future__ import annotations

import socket as _stdlib
from typing import TYPE_CHECKING, Any, TypeVar

from trio.lowlevel import enable_ki_protection

from uring.kernel.buffers import BufferRing

from .names import NAMES_OF_TICKS, present, tested
from .ticks import C, find_offsets
from .waits import DONE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    import outcome

__all__ = [
    "closing",
    "compiled",
    "describe_chunks",
    "describe_groups",
    "describe_requests",
    "describe_sockets",
    "describe_subscriptions",
    "is_plain",
    "make_memory",
    "make_receive",
]

S = TypeVar("S", bound="Callable[..., None]")
F = TypeVar("F", bound="Callable[..., Coroutine[Any, Any, Any]]")

is_plain: Callable[[int], bool] | None = None if C is None else C.is_plain
"""Whether a stream socket has nothing beside its stream, see `uring_trio.net.urgent_data`. None: no C."""

_REQUEST = ("fields", "decode", "address", "paths", "name", "pins", "discard", "command")
_SUBSCRIPTION = ("queue", "state", "task", "_taking", "park", "group", "_limit", "_merge", "coalescing")
_GROUP = ("available", "size", "closed", "used", "on_return", "memory")
_CHUNKS = ("_subscription", "_done", "_copy", "_inline", "_stream")
_DESCRIPTOR = ("reader", "writer", "others", "_leaving", "receive_size", "receive", "receiving", "in_kernel")


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
    """A decorator of coroutine functions with one argument besides ``self``; ``send_to`` has two.

    Args:
        kind: ``receive``, ``receive_from``, ``receive_into``, ``send``, ``send_all``, ``send_to`` or
            ``accept``; ``get`` of subscriptions, ``next`` of a stream's chunks; or ``perform``, which is a
            function.
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


def closing(function: S) -> S:
    """A decorator of a socket's methods that close it, and do nothing else."""
    return function if C is None else C.closing(function)


@enable_ki_protection
def _unwrap(result: outcome.Outcome[Any]) -> Any:
    return result.unwrap()


def describe_sockets(
    sockets: type,
    descriptors: type,
    operations: type,
    prepare: Callable[[Any, int], Any],
    adopt: Callable[[Any, int], Any],
) -> None:
    """Names the classes of sockets, their descriptors and their operations, once for the process.

    Args:
        prepare: sets a socket's reader up for a size, and returns its owner; None: not for this socket.
        adopt: makes the socket of a connection, from the stdlib socket of its listener and its descriptor.
    """
    if C is None or not tested() or not all(map(present, NAMES_OF_TICKS)):
        return
    offsets = find_offsets(
        [
            *((sockets, name) for name in ("_owner", "_plain", "_streaming", "_idle")),
            *((descriptors, name) for name in _DESCRIPTOR),
            *((operations, name) for name in ("reach", "park", "template")),
        ]
    )
    plain = _stdlib.socket()
    with plain:
        there = C.numbers(plain) == (plain.fileno(), plain.family)
    if offsets is not None and there and C.numbers(plain) == (-1, plain.family):
        C.describe(sockets, descriptors, type(plain), DONE, _unwrap, prepare, adopt, offsets)


def describe_requests(
    requests: type,
    operations: type,
    refused: int,
    fail: Callable[..., object],
    decode: Callable[[Callable[[int], Any], int], Any],
) -> None:
    """Says of which classes requests and their operations are, once for the process. `describe_sockets` is
    needed besides.

    Args:
        refused: the flags of an entry that are for the function to refuse.
        fail: raises the exception of a result, with the request's name, fields, address and paths.
        decode: calls a request's decoder with a result.
    """
    if C is None or not tested() or not all(map(present, NAMES_OF_TICKS)):
        return
    wanted = [
        *((requests, name) for name in _REQUEST),
        *((operations, name) for name in ("name", "fd", "discard")),
    ]
    offsets = find_offsets(wanted)
    if offsets is not None:
        C.describe_requests(
            requests, enable_ki_protection(fail), enable_ki_protection(decode), _release, refused, offsets
        )


def describe_subscriptions(subscriptions: type, armed: object, resting: object) -> None:
    """Says of which class subscriptions are, and two of their states, once for the process."""
    if C is None or not tested() or not all(map(present, NAMES_OF_TICKS)):
        return
    offsets = find_offsets((subscriptions, name) for name in _SUBSCRIPTION)
    if offsets is not None:
        C.describe_subscriptions(subscriptions, armed, resting, offsets)


def describe_groups(groups: type) -> None:
    """Says of which class the buffers of subscriptions are, once for the process."""
    offsets = None if C is None else find_offsets((groups, name) for name in _GROUP)
    if offsets is not None:
        C.describe_groups(groups, offsets)


def describe_chunks(chunks: type, pacers: type, limit: int) -> None:
    """Says of which classes the chunks of a stream and what coalesces them are, once for the process.

    Args:
        limit: the bytes of a flow after which the latter may begin to hold data back.
    """
    wanted = [*((chunks, name) for name in _CHUNKS), *((pacers, name) for name in ("_active", "_count"))]
    offsets = None if C is None else find_offsets(wanted)
    if offsets is not None:
        C.describe_chunks(chunks, pacers, limit, offsets)


def _release(op: Any) -> None:
    op.engine.release(op)


def make_receive(ticks: Any, op: Any, template: Any, ring: Any, buffers: Any) -> Any:
    """An object that receives in C by an operation, with an entry that selects from these buffers; ``aim``
    sets the descriptor and the size."""
    entry = template, ring.address_of(template)
    return C.Receive(ticks, op, entry, ring.queue_addresses(), make_memory(buffers))


def make_memory(buffers: Any) -> Any:
    """Where C finds the memory of a ring of provided buffers. None: no C, or a scripted ring."""
    if C is None or not isinstance(buffers, BufferRing):
        return None
    return C.Memory(buffers, buffers.addresses())
