"""File names as the kernel's workers and exceptions need them.

A relative path starts at the working directory at the time of the call. Kernel workers share the working
directory with the process and run later, so the path is made absolute first. Where no absolute path exists
(the working directory was removed, is deeper than a path can name, or is below one that this user may not
search), the worker gets the relative path, which works as long as no code calls ``chdir`` meanwhile.

An exception has the name that the caller gave, as those of `os` have.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

from uring.errors import EXPLAINED

from ..core.perform import perform
from .waiting_opens import open_descriptor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from uring import ops
    from uring.ops.base import Path

__all__ = ["absolute", "error_of", "named", "open_named", "perform_named", "with_paths"]

T = TypeVar("T")

_PATH_MAX = 4096
"""Bytes of a path, the NUL at its end included."""


def absolute(path: Any) -> Any:
    """The same path from the root on, as str or bytes, if one leads there. Nothing in it is resolved or
    tidied, since with symbolic links that would change what it means.

    Raises:
        ValueError: a NUL byte in it.
        TypeError: not a path.
    """
    path = os.fspath(path)
    if isinstance(path, bytes):
        if b"\0" in path:
            raise ValueError("embedded null byte")
        return path if path[:1] in (b"/", b"") else _from_root(os.getcwdb, b"/", path)
    if "\0" in path:
        raise ValueError("embedded null byte")
    return path if path[:1] in ("/", "") else _from_root(os.getcwd, "/", path)


def _from_root(where: Callable[[], Any], slash: Any, path: Any) -> Any:
    """A relative path from the root on; as it is, where that would find something else or nothing."""
    try:
        here = where()
    except OSError:
        return path
    whole = here + slash + path
    if len(os.fsencode(whole)) >= _PATH_MAX or not os.access(here, os.X_OK, effective_ids=True):
        return path
    return whole


def open_named(name: Path, path: Path, flags: int, mode: int = 0o666) -> Coroutine[Any, Any, int]:
    """`open_descriptor` of an absolute name; errors are of ``path``, as the caller was given it."""
    return named(open_descriptor(name, flags, mode), path)


def perform_named(
    op: ops.Op, path: Any, other: Any = None, run: Callable[..., Any] = perform
) -> Coroutine[Any, Any, Any]:
    """Runs an operation; its exception is the one that `os` raises for these paths."""
    return named(run(op), path, other)


async def named(call: Awaitable[T], path: Any, other: Any = None) -> T:
    """Awaits a call; its exception is the one that `os` raises for these paths, without a context."""
    try:
        return await call
    except OSError as exc:
        error = with_paths(exc, path, other)
    try:
        raise error  # here, so that it has no context
    finally:
        del error  # its traceback keeps this frame


def with_paths(exc: OSError, path: Any, other: Any = None) -> OSError:
    """The exception as `os` raises it for these paths."""
    if isinstance(exc, EXPLAINED):
        exc.filename = path
        if other is not None:
            exc.filename2 = other
        return exc
    return error_of(exc.errno or 0, path, other)


def error_of(number: int, path: Any, other: Any = None) -> OSError:
    """The exception of `os` for an errno."""
    first = path if isinstance(path, int) else os.fspath(path)
    if other is None:
        return OSError(number, os.strerror(number), first)
    return OSError(number, os.strerror(number), first, None, os.fspath(other))
