"""A method of the ring for each operation, declared by the operation.

``read: Final = Method(ops.read)`` declares one: its parameters, checks and text are those of
`uring.ops.read`. Called like that function, it queues the operation and returns its `uring.Request`. With a
context before the arguments, or as ``ctx=``, it calls `uring.Ring.submit` with that context, and returns it.
``Final`` lets every type checker infer the same type.

A context is an int, an `SQEContext` or None. The number of arguments tells the two forms apart; where an
operation has optional arguments, their types do. Where these are ints too (``ring.listen(a, b)``) the first
is the context: without a context give optional arguments by keyword.
"""

from __future__ import annotations

import inspect
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from .. import ops
from ..contexts.compiled import usual
from ..contexts.context import SQEContext
from .start_stop import RingCore

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..contexts.requests import Request
    from ..kernel.op import Op
    from ..ops.signatures import Accept, Fgetxattr, FilesUpdate, Getsockopt, Getxattr

__all__ = ["Method", "OperationMethods"]

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_RING = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
_CTX = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation="int | None", default=...)
_DOC = """{text}

Queues the operation and returns its `uring.Request`, which has its result. With a context, before the other
arguments or as ``ctx``, it returns the context, which completions carry: see `uring.Ring.submit`."""


class Queue(Protocol[P, T_co]):
    """A method of a ring for type checkers."""

    @overload
    def __call__(self, *args: P.args, **options: P.kwargs) -> Request[T_co]: ...
    @overload
    def __call__(self, ctx: int | None, /, *args: P.args, **options: P.kwargs) -> SQEContext: ...


class UnboundQueue(Protocol[P, T_co]):
    """The method of the class."""

    @overload
    def __call__(self, ring: RingCore, /, *args: P.args, **options: P.kwargs) -> Request[T_co]: ...
    @overload
    def __call__(
        self, ring: RingCore, ctx: int | None, /, *args: P.args, **options: P.kwargs
    ) -> SQEContext: ...


class Method(Generic[P, T]):
    """Declares the method that queues the requests of an operation's function.

    A plain function takes its place in the class, with its own name in tracebacks and profiles, and with the
    operation's signature and text.
    """

    def __init__(self, op: Callable[P, Op[T]]) -> None:
        self.op: Callable[P, Op[T]] = op

    def __set_name__(self, owner: type, name: str) -> None:
        setattr(owner, name, usual(name)(_function(self.op, owner, name)))

    # For type checkers; the function that replaces a declaration has none of it.
    @overload
    def __get__(self, ring: None, owner: type) -> UnboundQueue[P, T]: ...
    @overload
    def __get__(self, ring: RingCore, owner: type) -> Queue[P, T]: ...
    def __get__(self, ring: RingCore | None, owner: type) -> Any:
        raise TypeError("a Method is declared in the body of a class")


def _function(op: Callable[..., Op[Any]], owner: type, name: str) -> Callable[..., Any]:
    parameters = [*inspect.signature(op).parameters.values()]
    positional = [each for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD]
    names = [each.name for each in positional]
    needed = frozenset(each.name for each in positional if each.default is each.empty)
    least, most = len(needed), len(names)
    of_fd = bool(positional) and positional[0].annotation == "Fd"
    of_family = names[1:2] == ["family"]
    of_number = len(positional) > 1 and positional[1].annotation == "int"

    def queue(self: RingCore, *args: Any, **options: Any) -> Any:
        n = len(args)
        try:
            if not options and n <= least:
                made = op(*args)  # the common case first, for speed
            else:
                named = 0 if not options or needed.isdisjoint(options) else len(needed & options.keys())
                if n + named <= least:
                    with_context = False
                elif n > most or (options and not options.keys().isdisjoint(names[:n])):
                    with_context = True
                elif of_fd and of_number and n > 2 and not isinstance(args[2], int):
                    with_context = False  # with a context the number would be third
                else:
                    with_context = _starts_with_context(args, of_fd, of_family)
                if with_context:
                    return self.submit(op(*args[1:], **options), args[0])
                if "ctx" in options:
                    ctx = options.pop("ctx")
                    return self.submit(op(*args, **options), ctx)
                made = op(*args, **options)
        except TypeError as error:
            error.add_note(note)
            raise
        return self.request(made)

    qualname = f"{owner.__qualname__}.{name}"
    made: Any = queue
    made.__code__ = queue.__code__.replace(co_name=name, co_qualname=qualname)
    made.__name__, made.__qualname__ = name, qualname
    made.__doc__ = _DOC.format(text=inspect.cleandoc(op.__doc__ or ""))
    made.__wrapped__ = op
    made.__signature__ = inspect.Signature(
        [_RING, *parameters, _CTX], return_annotation="Request | SQEContext"
    )
    listed = ", ".join([*(each for each in names if each in needed), "…"])
    note = (
        f"ring.{name}({listed}) returns a request; with a context it is ring.{name}(ctx, {listed}), and the "
        "context is an int, an SQEContext or None"
    )
    return queue


def _starts_with_context(args: tuple[Any, ...], of_fd: bool, of_family: bool) -> bool:
    """Whether the first of enough arguments for both forms is a context."""
    first = args[0]
    if first is None:
        return True
    if first.__class__ is not int and first.__class__ is not SQEContext:
        return False
    if not of_fd or len(args) < 2:
        return True
    second = args[1]
    if of_family and len(args) == 3 and first.__class__ is second.__class__ is int:
        raise TypeError(
            "the first of two numbers may be a context or a descriptor, the second a descriptor or a family: "
            "give the context by keyword (ctx=…), or the family as socket.AF_…"
        )
    return hasattr(second, "fileno") or (isinstance(second, int) and not isinstance(second, Enum))


class OperationMethods(RingCore):
    """The methods that queue one operation each."""

    # Sockets: make, bind, listen, accept, connect, shut down, and their commands.
    tcp4_socket: Final = Method(ops.tcp4_socket)
    tcp4_socket_direct: Final = Method(ops.tcp4_socket_direct)
    tcp6_socket: Final = Method(ops.tcp6_socket)
    tcp6_socket_direct: Final = Method(ops.tcp6_socket_direct)
    udp4_socket: Final = Method(ops.udp4_socket)
    udp4_socket_direct: Final = Method(ops.udp4_socket_direct)
    udp6_socket: Final = Method(ops.udp6_socket)
    udp6_socket_direct: Final = Method(ops.udp6_socket_direct)
    udplite4_socket: Final = Method(ops.udplite4_socket)
    udplite4_socket_direct: Final = Method(ops.udplite4_socket_direct)
    udplite6_socket: Final = Method(ops.udplite6_socket)
    udplite6_socket_direct: Final = Method(ops.udplite6_socket_direct)
    sctp4_socket: Final = Method(ops.sctp4_socket)
    sctp4_socket_direct: Final = Method(ops.sctp4_socket_direct)
    sctp6_socket: Final = Method(ops.sctp6_socket)
    sctp6_socket_direct: Final = Method(ops.sctp6_socket_direct)
    unix_socket: Final = Method(ops.unix_socket)
    unix_socket_direct: Final = Method(ops.unix_socket_direct)
    socket: Final = Method(ops.socket)
    socket_raw: Final = Method(ops.socket_raw)
    socket_direct: Final = Method(ops.socket_direct)
    bind: Final = Method(ops.bind)
    listen: Final = Method(ops.listen)
    connect: Final = Method(ops.connect)
    accept: Final = Method(cast("Accept", ops.accept))
    accept_direct: Final = Method(ops.accept_direct)
    submit_accept_multishot: Final = Method(ops.accept_multishot)
    submit_accept_direct_multishot: Final = Method(ops.accept_direct_multishot)
    shutdown: Final = Method(ops.shutdown)
    uring_cmd: Final = Method(ops.uring_cmd)
    uring_cmd128: Final = Method(ops.uring_cmd128)
    siocinq: Final = Method(ops.siocinq)
    siocoutq: Final = Method(ops.siocoutq)
    getsockopt: Final = Method(cast("Getsockopt", ops.getsockopt))
    setsockopt: Final = Method(ops.setsockopt)
    getsockname: Final = Method(ops.getsockname)
    tx_timestamp: Final = Method(ops.tx_timestamp)

    # Sending and receiving.
    recv: Final = Method(ops.recv)
    submit_recv_multishot: Final = Method(ops.recv_multishot)
    recv_bundle: Final = Method(ops.recv_bundle)
    submit_recv_bundle_multishot: Final = Method(ops.recv_bundle_multishot)
    recv_zero_copy: Final = Method(ops.recv_zero_copy)
    recvmsg: Final = Method(ops.recvmsg)
    submit_recvmsg_multishot: Final = Method(ops.recvmsg_multishot)
    send: Final = Method(ops.send)
    sendto: Final = Method(ops.sendto)
    sendv: Final = Method(ops.sendv)
    send_bundle: Final = Method(ops.send_bundle)
    send_zc: Final = Method(ops.send_zc)
    sendto_zc: Final = Method(ops.sendto_zc)
    sendmsg: Final = Method(ops.sendmsg)
    sendmsg_zc: Final = Method(ops.sendmsg_zc)
    msg_ring: Final = Method(ops.msg_ring)
    msg_ring_fd: Final = Method(ops.msg_ring_fd)

    # Files by descriptor, and moving data between descriptors.
    read: Final = Method(ops.read)
    write: Final = Method(ops.write)
    readv: Final = Method(ops.readv)
    writev: Final = Method(ops.writev)
    read_fixed: Final = Method(ops.read_fixed)
    write_fixed: Final = Method(ops.write_fixed)
    readv_fixed: Final = Method(ops.readv_fixed)
    writev_fixed: Final = Method(ops.writev_fixed)
    submit_read_multishot: Final = Method(ops.read_multishot)
    fsync: Final = Method(ops.fsync)
    sync_file_range: Final = Method(ops.sync_file_range)
    fallocate: Final = Method(ops.fallocate)
    ftruncate: Final = Method(ops.ftruncate)
    fadvise: Final = Method(ops.fadvise)
    madvise: Final = Method(ops.madvise)
    splice: Final = Method(ops.splice)
    tee: Final = Method(ops.tee)
    pipe: Final = Method(ops.pipe)

    # Files by name, extended attributes, the registered file table.
    openat: Final = Method(ops.openat)
    openat2: Final = Method(ops.openat2)
    statx: Final = Method(ops.statx)
    renameat: Final = Method(ops.renameat)
    unlinkat: Final = Method(ops.unlinkat)
    mkdirat: Final = Method(ops.mkdirat)
    symlinkat: Final = Method(ops.symlinkat)
    linkat: Final = Method(ops.linkat)
    getxattr: Final = Method(cast("Getxattr", ops.getxattr))
    fgetxattr: Final = Method(cast("Fgetxattr", ops.fgetxattr))
    setxattr: Final = Method(ops.setxattr)
    fsetxattr: Final = Method(ops.fsetxattr)
    files_update: Final = Method(cast("FilesUpdate", ops.files_update))
    fixed_fd_install: Final = Method(ops.fixed_fd_install)

    # Doing nothing, closing, time, cancelling, readiness, waiting, provided buffers.
    nop: Final = Method(ops.nop)
    nop128: Final = Method(ops.nop128)
    close: Final = Method(ops.close)
    close_direct: Final = Method(ops.close_direct)
    timeout: Final = Method(ops.timeout)
    timeout_remove: Final = Method(ops.timeout_remove)
    timeout_update: Final = Method(ops.timeout_update)
    link_timeout: Final = Method(ops.link_timeout)
    link_timeout_update: Final = Method(ops.link_timeout_update)
    async_cancel: Final = Method(ops.async_cancel)
    async_cancel_fd: Final = Method(ops.async_cancel_fd)
    async_cancel_opcode: Final = Method(ops.async_cancel_opcode)
    async_cancel_any: Final = Method(ops.async_cancel_any)
    async_cancel_all: Final = Method(ops.async_cancel_all)
    async_cancel_matching: Final = Method(ops.async_cancel_matching)
    poll_add: Final = Method(ops.poll_add)
    poll_add_multishot: Final = Method(ops.poll_add_multishot)
    poll_add_level: Final = Method(ops.poll_add_level)
    poll_add_multishot_level: Final = Method(ops.poll_add_multishot_level)
    poll_remove: Final = Method(ops.poll_remove)
    poll_update: Final = Method(ops.poll_update)
    epoll_ctl: Final = Method(ops.epoll_ctl)
    epoll_wait: Final = Method(ops.epoll_wait)
    futex_wait: Final = Method(ops.futex_wait)
    futex_wake: Final = Method(ops.futex_wake)
    futex_waitv: Final = Method(ops.futex_waitv)
    waitid: Final = Method(ops.waitid)
    provide_buffers: Final = Method(ops.provide_buffers)
    remove_buffers: Final = Method(ops.remove_buffers)
