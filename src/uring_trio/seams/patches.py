"""The replacements of parts of Trio: classes, functions, AnyIO's backend.

Nothing of it is undone: objects of a run that goes on elsewhere stay what they are, and outside a ring run
they behave as Trio's own.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import trio

from .names import socket_module, stream_class, subprocess_module

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = [
    "Subclassable",
    "anyio_is_on_trio",
    "patch_forceful_close",
    "patch_pipe_type",
    "patch_socket_type",
    "patch_stream_methods",
    "resolve",
    "sending",
    "stdlib_socket",
]


_OURS = "__uring_trio__"


def patch_socket_type(cls: Any) -> None:
    """Makes every constructor of Trio's sockets build ``cls``."""
    socket_module._SocketType = cls


class Subclassable:
    """A first base, before a class of Trio's that refuses subclasses in its ``__init_subclass__``."""

    def __init_subclass__(cls) -> None:
        pass


def patch_pipe_type(cls: Any) -> None:
    """Makes Trio build ``cls``, a stream over a descriptor, for the parent's ends of the pipes of child
    processes."""

    def to_child() -> tuple[Any, int]:
        source, sink = os.pipe()
        return cls(sink), source

    def from_child() -> tuple[Any, int]:
        source, sink = os.pipe()
        return cls(source), sink

    subprocess_module.create_pipe_to_child_stdin = to_child
    subprocess_module.create_pipe_from_child_output = from_child


def patch_stream_methods(receive_some: Any, send_all: Any) -> None:
    """Makes every `trio.SocketStream` receive and send with these methods."""
    stream_class.receive_some = receive_some
    stream_class.send_all = send_all


def patch_forceful_close(replace: Callable[[Any], Any]) -> None:
    """Makes Trio's servers close streams by what ``replace`` makes of `trio.aclose_forcefully`. A program
    that has imported the function before keeps Trio's."""
    function = trio.aclose_forcefully
    if not hasattr(function, _OURS):
        instead = replace(function)
        setattr(instead, _OURS, True)
        trio.aclose_forcefully = instead


def sending(stream: trio.SocketStream) -> Any:
    """The context manager that Trio's stream is in while a task sends; it raises for a second task."""
    return stream._send_conflict_detector


def resolve(sock: Any, address: Any, *, local: bool) -> Awaitable[Any]:
    """Trio's own address resolution, without its checkpoint."""
    answer: Awaitable[Any] = sock._resolve_address_nocp(address, local=local)
    return answer


def stdlib_socket(sock: Any) -> Any:
    """The non-blocking ``socket.socket`` inside a Trio socket."""
    return sock._sock


def anyio_is_on_trio() -> bool:
    """Whether this process has come to use AnyIO on its backend ``trio``."""
    return "anyio._backends._trio" in sys.modules
