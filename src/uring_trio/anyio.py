"""AnyIO's backend ``uring``: ``anyio.run(main, backend="uring")``, registered when this is imported.

A ring run is a Trio run: inside, the library is "trio" and AnyIO works through its own Trio backend, whose
sockets are ring sockets. This backend changes how a run starts: for ``anyio.run``, for portals, and for
AnyIO's test runner, which is a guest run in the thread of the tests.

`uring_trio.install` makes AnyIO find this backend without importing it first.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import trio

from .launch.run import check_arguments, chosen_ring
from .net.socket import RingSocket
from .seams import anyio as seams_anyio

if TYPE_CHECKING:
    import types
    from collections.abc import Awaitable, Callable, Mapping

__all__ = ["UringBackend", "UringTestRunner", "backend_class"]

NAME = "uring"
_RING = ("ring", "unavailable")


class UringBackend(seams_anyio.TrioBackend):
    """AnyIO's Trio backend, entered on a ring.

    ``backend_options`` are ``ring`` (a `uring_trio.RingOptions`) and ``unavailable`` (``"raise"``,
    ``"epoll"`` or None) as `uring_trio.run` takes them, and the keywords of `trio.run`.

    Raises:
        TypeError: an unknown option.
        RingUnavailable: no io_uring here, and ``unavailable`` is not ``"epoll"``.
    """

    @classmethod
    def run(
        cls,
        func: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: dict[str, Any],
    ) -> Any:
        """Runs a function on a ring, as ``anyio.run(…, backend="uring")`` asks for.

        Args:
            func, args, kwargs: the function and its arguments.
            options: the ``backend_options``, see above.
        """
        ring, more = _split(options)
        token = seams_anyio.enter()
        try:
            with chosen_ring(**ring):
                return super().run(func, args, kwargs, more)
        finally:
            seams_anyio.leave(token)

    @classmethod
    def create_test_runner(cls, options: dict[str, Any]) -> UringTestRunner:
        """Makes the runner of AnyIO's pytest plugin.

        Args:
            options: the ``backend_options``, see above.
        """
        ring, more = _split(options)
        return UringTestRunner(ring, more)


class UringTestRunner(seams_anyio.TestRunner):
    """AnyIO's test runner for Trio, with its guest run on a ring that belongs to the thread of the tests."""

    def __init__(self, ring: Mapping[str, Any], options: Mapping[str, Any]) -> None:
        super().__init__(**options)
        self._ring = ring
        self._token: Any = None

    def __enter__(self) -> UringTestRunner:
        self._token = seams_anyio.enter()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: types.TracebackType | None,
    ) -> None:
        try:
            super().__exit__(exc_type, exc_val, exc_tb)
        finally:
            seams_anyio.leave(self._token)

    def _call_in_runner_task(self, func: Callable[..., Awaitable[Any]], /, *args: Any, **kwargs: Any) -> Any:
        if self._send_stream is not None:
            return super()._call_in_runner_task(func, *args, **kwargs)
        # The first call starts the guest run.
        with chosen_ring(**self._ring):
            return super()._call_in_runner_task(func, *args, **kwargs)


def _split(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The options of the ring, checked, and those for Trio."""
    parameters = inspect.signature(trio.run).parameters.values()
    known = [*_RING, *(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)]
    for name in options:
        if name not in known:
            raise TypeError(f"backend_options of {NAME!r} are {', '.join(known)}, not {name!r}")
    ring = {"ring": options.get("ring"), "unavailable": options.get("unavailable")}
    check_arguments(**ring)
    return ring, {name: value for name, value in options.items() if name not in _RING}


backend_class = UringBackend
seams_anyio.shorten_streams(RingSocket)
seams_anyio.register(NAME, UringBackend)
