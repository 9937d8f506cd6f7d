"""Files of unmodified programs: the ring behind the file functions and classes of Trio and AnyIO.

A program may have imported the names before, so no function or class is replaced. The code inside
``trio.open_file`` and ``anyio.open_file`` is exchanged, and so are methods of ``trio.Path``, ``anyio.Path``
and AnyIO's file streams. The code of ``anyio.to_thread.run_sync`` is exchanged for one call that needs no
thread here: ``os.stat`` of a path, with which servers start a response with a file.

The new code checks where it is called. In a task of a ring run it uses the ring; anywhere else (another loop,
a run on epoll, no run) it runs the old code. So it does while a program has replaced `os.stat`, `io.open` or
another function that the old code calls: a test's fake must not meet real files. `uninstall` restores all of
it. Both may be called beside runs in other threads, at any time: a call that has begun goes on with the code
that it found.

Invariant: nothing is imported under the lock for the first time, because an import may end in `patch_anyio`.
"""

from __future__ import annotations

import builtins
import functools
import inspect
import io
import os
import pathlib
import sys
import threading
import types
from typing import TYPE_CHECKING, Any

import trio

from _uring_trio_startup import when_imported

from .. import seams
from ..core.manager import Manager
from ..fs import RingFile, open_file
from ..fs.path import PathMethods, is_mount_point
from ..fs.stats import stat

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["install", "uninstall"]

_PLACE = "the function that chooses"
_OPENS = ((io, "open"),)
_CALLED = {
    **dict.fromkeys(("open", "read_bytes", "read_text", "write_bytes", "write_text"), _OPENS),
    "mkdir": ((os, "mkdir"),),
    "rename": ((os, "rename"),),
    "replace": ((os, "replace"),),
    "unlink": ((os, "unlink"),),
    "rmdir": ((os, "rmdir"),),
    "symlink_to": ((os, "symlink"),),
    "hardlink_to": ((os, "link"),),
    "touch": ((os, "open"), (os, "utime")),
}
"""The functions of the interpreter that methods of paths call."""
_STATS = (os, "stat"), (os, "lstat")
"""Those that all other methods of paths call."""
_open_path: Any = pathlib.Path.open
_lock = threading.RLock()
_undo: list[Callable[[], None]] = []
_on_anyio = False


def install() -> None:
    """Puts the files of Trio, and of AnyIO once the program has imported it, on the ring in ring runs.
    Idempotent."""
    _import_anyio()
    with _lock:
        if _undo:
            return
        try:
            _exchange_open_file(trio.open_file, open_file, io)
            _exchange_path_methods(trio.Path, {})
            _undo.append(when_imported("anyio", patch_anyio))
        except BaseException:
            uninstall()
            raise


def patch_anyio() -> None:
    """Puts the files of AnyIO on the ring if those of Trio are and AnyIO has been imported. Idempotent."""
    global _on_anyio
    if not _undo or _on_anyio or (anyio := _import_anyio()) is None:
        return
    with _lock:
        if _undo and not _on_anyio:
            _on_anyio = True
            _put_on_anyio(anyio)


def _import_anyio() -> Any:
    """AnyIO, with the modules whose functions are exchanged; None: the program has not imported it."""
    if "anyio" not in sys.modules:
        return None
    try:
        import anyio
        import anyio.streams.file
        import anyio.to_thread
    except ImportError:
        return None
    return anyio


def uninstall() -> None:
    """Restores what `install` has changed. Open files are not affected."""
    global _on_anyio
    with _lock:
        while _undo:
            _undo.pop()()
        _on_anyio = False


def _in_ring_run() -> bool:
    return seams.runs_on(Manager)


def _as_ever(called: tuple[tuple[Any, str], ...]) -> bool:
    """Whether these are the interpreter's own functions, and not those of a program."""
    for module, name in called:
        if type(getattr(module, name)) is not types.BuiltinFunctionType:
            return False
    return called is not _OPENS or pathlib.Path.open is _open_path


def _exchange_open_file(function: Any, ring_open: Callable[..., Any], module: Any) -> None:
    """Makes a function of the signature of `open`, which calls that of ``module``, call ``ring_open`` in ring
    runs."""
    called = ((module, "open"),)
    _exchange_function(function, ring_open, lambda *_: _as_ever(called))


def _exchange_function(function: Any, ring_function: Callable[..., Any], wanted: Callable[..., bool]) -> None:
    """Makes a function call another in ring runs, with the positional arguments that are ``wanted``."""
    stock = types.FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    stock.__kwdefaults__ = function.__kwdefaults__
    code = function.__code__

    async def choose(*args: Any, **kwargs: Any) -> Any:
        if _in_ring_run() and wanted(*args):
            return await ring_function(*args, **kwargs)
        return await stock(*args, **kwargs)

    def undo() -> None:
        function.__code__ = code
        del function.__signature__

    function.__signature__ = inspect.signature(function)
    constants = tuple(choose if each == _PLACE else each for each in _chooses.__code__.co_consts)
    function.__code__ = _chooses.__code__.replace(co_consts=constants)
    _undo.append(undo)


async def _chooses(*args: Any, **kwargs: Any) -> Any:
    # The constant is replaced: this code runs with the globals of the function that it is put into.
    function: Any = "the function that chooses"
    return await function(*args, **kwargs)


def _exchange(cls: type, name: str, ring_method: Callable[..., Any], on_ring: Callable[[Any], bool]) -> None:
    """Makes a method of ``cls`` be ``ring_method`` for the objects that ``on_ring`` accepts."""
    absent = name not in vars(cls)
    before = vars(cls).get(name)
    stock = getattr(cls, name)

    @functools.wraps(stock)
    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await (ring_method if on_ring(self) else stock)(self, *args, **kwargs)

    def undo() -> None:
        if absent:
            delattr(cls, name)
        else:
            setattr(cls, name, before)

    setattr(cls, name, method)
    _undo.append(undo)


def _exchange_path_methods(cls: type, instead: dict[str, Callable[..., Any]]) -> None:
    methods: dict[str, Any] = {
        name: fn for name, fn in vars(PathMethods).items() if isinstance(fn, types.FunctionType)
    }
    for name, method in {**methods, **instead}.items():
        if hasattr(cls, name):
            called = _CALLED.get(name, _STATS)
            _exchange(cls, name, method, lambda _, called=called: _in_ring_run() and _as_ever(called))  # type: ignore[misc]


def _put_on_anyio(anyio: Any) -> None:
    class RingAsyncFile(anyio.AsyncFile):  # type: ignore[misc]
        """AnyIO's asynchronous file, on a file of the ring."""

        @property
        def wrapped(self) -> Any:
            return self._fp.wrapped

        def __aiter__(self) -> Any:
            return self._fp

    for name in (
        "aclose", "flush", "peek", "read", "read1", "readinto", "readinto1", "readline", "readlines", "seek",
        "tell", "truncate", "write", "writelines",
    ):  # fmt: skip
        setattr(RingAsyncFile, name, _forward("_fp", name, getattr(anyio.AsyncFile, name, None)))

    def limited_as(path: Any) -> dict[str, Any]:
        """The limiter of a path, which an AnyIO before 4.16 does not know."""
        limiter = getattr(path, "limiter", None)
        return {} if limiter is None else {"limiter": limiter}

    async def ring_open(*args: Any, limiter: Any = None, **kwargs: Any) -> Any:
        file = await open_file(*args, **kwargs)  # without a thread, so that the limiter does not count it
        return RingAsyncFile(file) if limiter is None else RingAsyncFile(file, limiter=limiter)

    async def open_path(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await ring_open(self, *args, **limited_as(self), **kwargs)

    async def rename(self: Any, target: Any) -> Any:
        return type(self)(await PathMethods.rename(self, target), **limited_as(self))

    async def replace(self: Any, target: Any) -> Any:
        return type(self)(await PathMethods.replace(self, target), **limited_as(self))

    async def is_mount(self: Any) -> bool:
        return await is_mount_point(os.fspath(self))

    async def stat_path(call: object, path: Any, **of_threads: Any) -> os.stat_result:
        return await stat(path)

    def is_stat(call: object = None, *args: Any) -> bool:
        return call is os.stat and len(args) == 1 and not isinstance(args[0], int)

    _exchange_open_file(anyio.open_file, ring_open, builtins)
    _exchange_function(anyio.to_thread.run_sync, stat_path, is_stat)
    methods: dict[str, Any] = {
        "open": open_path,
        "is_mount": is_mount,
        "rename": rename,
        "replace": replace,
    }
    _exchange_path_methods(anyio.Path, methods)

    streams = sys.modules["anyio.streams.file"]
    reader, writer = streams.FileReadStream, streams.FileWriteStream
    for cls, names in ((reader, ("aclose", "receive", "seek", "tell")), (writer, ("aclose", "send"))):
        for name in names:
            _exchange(cls, name, _stream_method(anyio, name), _is_ring_stream)
    _exchange_attributes(streams)
    _exchange_from_path(reader, lambda *_: "rb")
    _exchange_from_path(writer, lambda _, append=False: "ab" if append else "wb")


def _forward(attribute: str, name: str, stock: Any) -> Any:
    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await getattr(getattr(self, attribute), name)(*args, **kwargs)

    if stock is None:
        return method
    return functools.wraps(stock)(method)


def _is_ring_stream(stream: Any) -> bool:
    return isinstance(stream._file, RingFile)


def _stream_method(anyio: Any, name: str) -> Callable[..., Any]:
    """The method of a file stream of AnyIO, for a file of the ring."""

    async def receive(self: Any, max_bytes: int = 65536) -> bytes:
        if max_bytes < 1:
            raise ValueError("max_bytes must be a positive integer")
        try:
            data: bytes = await self._file.read(max_bytes)
        except ValueError:
            raise anyio.ClosedResourceError from None
        except OSError as exc:
            raise anyio.BrokenResourceError from exc
        if data:
            return data
        raise anyio.EndOfStream

    async def send(self: Any, item: bytes) -> None:
        try:
            await self._file.write(item)
        except ValueError:
            raise anyio.ClosedResourceError from None
        except OSError as exc:
            raise anyio.BrokenResourceError from exc

    if name == "receive":
        return receive
    return send if name == "send" else _forward("_file", name, None)


def _exchange_attributes(streams: Any) -> None:
    """Makes the attribute ``file`` of AnyIO's file streams the standard library's file."""
    name = "extra_attributes"
    base = next(cls for cls in streams.FileReadStream.__mro__ if name in vars(cls))
    before = vars(base)[name]

    @functools.wraps(before.fget)
    def extra_attributes(self: Any) -> Any:
        found = before.fget(self)
        if not _is_ring_stream(self):
            return found
        return {**found, streams.FileStreamAttribute.file: lambda: self._file.wrapped}

    setattr(base, name, property(extra_attributes))
    _undo.append(lambda: setattr(base, name, before))


def _exchange_from_path(cls: Any, mode: Callable[..., str]) -> None:
    before = vars(cls)["from_path"]

    @functools.wraps(before.__func__)
    async def from_path(cls: Any, path: Any, *args: Any, **kwargs: Any) -> Any:
        if _in_ring_run():
            return cls(await open_file(path, mode(path, *args, **kwargs)))
        return await before.__get__(None, cls)(path, *args, **kwargs)

    cls.from_path = classmethod(from_path)
    _undo.append(lambda: setattr(cls, "from_path", before))
