"""Starting Trio on a ring: one run, a guest run, or every run of the process.

This can be imported with every Trio. With an unsupported one a run raises `UnsupportedTrio`, or falls back to
epoll. `uring_trio.launch.swap`, which needs a supported one, is imported when a ring is requested.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeVar, TypeVarTuple

import trio

from _uring_trio_startup import announce_backend
from uring.errors import RingUnavailable

from .. import seams
from ..options import RingOptions

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from contextlib import AbstractContextManager

    import outcome

__all__ = ["install", "run", "start_guest_run", "uninstall"]

_log = logging.getLogger("uring_trio.run")
_log.addHandler(logging.NullHandler())

RetT = TypeVar("RetT")
PosArgT = TypeVarTuple("PosArgT")
Unavailable = Literal["raise", "epoll"]


def run(
    async_fn: Callable[[*PosArgT], Awaitable[RetT]],
    *args: *PosArgT,
    ring: RingOptions | None = None,
    unavailable: Unavailable | None = None,
    clock: trio.abc.Clock | None = None,
    instruments: Sequence[trio.abc.Instrument] = (),
    restrict_keyboard_interrupt_to_checkpoints: bool = False,
    strict_exception_groups: bool = True,
) -> RetT:
    """`trio.run` with an io_uring in place of epoll.

    Args:
        async_fn, args: as for `trio.run`.
        ring: sizes and behaviour of the ring; None: those of `install`, the launcher or ``URING_TRIO``, else
            the defaults.
        unavailable: what to do where this machine has no usable io_uring, or the installed Trio is not
            supported: ``"raise"`` explains why, ``"epoll"`` warns once and runs stock Trio; None: what
            `install`, the launcher or ``URING_TRIO`` says, else ``"raise"``.
        clock, instruments, restrict_keyboard_interrupt_to_checkpoints, strict_exception_groups: as for
            `trio.run`.

    Raises:
        RingUnavailable: no io_uring here; the message names the setting to change.
        UnsupportedTrio: this Trio's internals do not look as expected; the message names the versions tested.
    """
    check_arguments(ring, unavailable)
    with chosen_ring(ring, unavailable):
        return trio.run(
            async_fn,
            *args,
            clock=clock,
            instruments=instruments,
            restrict_keyboard_interrupt_to_checkpoints=restrict_keyboard_interrupt_to_checkpoints,
            strict_exception_groups=strict_exception_groups,
        )


def start_guest_run(
    async_fn: Callable[[*PosArgT], Awaitable[RetT]],
    *args: *PosArgT,
    run_sync_soon_threadsafe: Callable[[Callable[[], object]], object],
    done_callback: Callable[[outcome.Outcome[RetT]], object],
    run_sync_soon_not_threadsafe: Callable[[Callable[[], object]], object] | None = None,
    host_uses_signal_set_wakeup_fd: bool = False,
    ring: RingOptions | None = None,
    unavailable: Unavailable | None = None,
    clock: trio.abc.Clock | None = None,
    instruments: Sequence[trio.abc.Instrument] = (),
    restrict_keyboard_interrupt_to_checkpoints: bool = False,
    strict_exception_groups: bool = True,
) -> None:
    """`trio.lowlevel.start_guest_run` on a ring: Trio inside another loop's thread.

    The worker thread waits on an eventfd that the ring signals; the host thread alone enters the ring.
    Errors as for `run`.

    Args:
        async_fn, args: as for `trio.run`.
        run_sync_soon_threadsafe, done_callback, run_sync_soon_not_threadsafe, host_uses_signal_set_wakeup_fd:
            as for `trio.lowlevel.start_guest_run`.
        ring, unavailable: as for `run`.
        clock, instruments, restrict_keyboard_interrupt_to_checkpoints, strict_exception_groups: as for
            `trio.run`.
    """
    check_arguments(ring, unavailable)
    with chosen_ring(ring, unavailable):
        trio.lowlevel.start_guest_run(
            async_fn,
            *args,
            run_sync_soon_threadsafe=run_sync_soon_threadsafe,
            done_callback=done_callback,
            run_sync_soon_not_threadsafe=run_sync_soon_not_threadsafe,
            host_uses_signal_set_wakeup_fd=host_uses_signal_set_wakeup_fd,
            clock=clock,
            instruments=instruments,
            restrict_keyboard_interrupt_to_checkpoints=restrict_keyboard_interrupt_to_checkpoints,
            strict_exception_groups=strict_exception_groups,
        )


_installed: RingOptions | None = None
_unavailable: Unavailable = "raise"
"""The options of `install`, of the launcher or of the environment, for runs that give none."""


def install(
    *, ring: RingOptions | None = None, unavailable: Unavailable = "raise", files: bool = False
) -> None:
    """Makes plain ``trio.run`` (and AnyIO's on its Trio backend) use a ring in this process, and AnyIO know
    the backend ``uring``.

    Runs that are under way stay as they are. Calling it again replaces the options.

    Args:
        ring: sizes and behaviour of the rings; None: the defaults.
        unavailable: ``"raise"`` or ``"epoll"``, as for `run`.
        files: ``trio.open_file``, ``trio.Path``, ``anyio.open_file``, ``anyio.Path`` and AnyIO's file streams
            use the ring in ring runs, also where these names were imported before.

    Raises:
        RingUnavailable: with ``unavailable="raise"``, if a ring cannot be opened now.
        UnsupportedTrio: with ``unavailable="raise"``, if this Trio's internals do not look as expected.
    """
    check_arguments(ring, unavailable)
    if unavailable != "epoll":
        prepare().create_manager(ring).close()
    switch_on(ring, unavailable, files=files)


def switch_on(ring: RingOptions | None, unavailable: Unavailable, *, files: bool) -> None:
    """As `install`, with arguments known to be right, and without a check that a ring can be opened: a run
    that cannot have one raises."""
    global _installed, _unavailable
    announce_backend()
    parts = _parts_or_epoll(unavailable)
    _installed, _unavailable = ring, unavailable
    if parts is None:
        return
    seams.set_default_manager(partial(_make_manager, parts, ring, unavailable))
    parts.files(on_ring=files)


def uninstall() -> None:
    """Undoes `install` for runs that start from now on, and for files at once; other runs go on."""
    global _installed, _unavailable
    _installed, _unavailable = None, "raise"
    seams.set_default_manager(None)
    seams.restore()
    if _parts is not None:
        _parts.files(on_ring=False)


def check_arguments(ring: RingOptions | None, unavailable: str | None) -> None:
    if ring is not None and not isinstance(ring, RingOptions):
        raise TypeError(f"ring is a RingOptions, not {type(ring).__name__}")
    if unavailable not in (None, "raise", "epoll"):
        raise ValueError(f'unavailable is "raise" or "epoll", not {unavailable!r}')


def chosen_ring(ring: RingOptions | None, unavailable: Unavailable | None) -> AbstractContextManager[None]:
    """Chooses a ring, or the fallback, for the run that is set up inside the block."""
    unavailable = unavailable or _unavailable
    parts = _parts_or_epoll(unavailable)
    if parts is None:
        return nullcontext()
    return chosen_manager(_make_manager(parts, ring or _installed, unavailable))


class chosen_manager:
    """Chooses the manager of the run set up inside the block, in this thread; closes it if there is none."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self._taken = False

    def __enter__(self) -> None:
        seams.choose_for_next_run(self._take)

    def _take(self) -> Any:
        self._taken = True
        return self._manager

    def __exit__(self, *exc_info: object) -> None:
        seams.choose_for_next_run(None)
        if not self._taken:  # trio.run refused before it set a run up
            self._manager.close()


_parts: Any = None


def prepare() -> Any:
    """Makes this process able to run Trio on rings. Returns `uring_trio.launch.swap`.

    Raises:
        UnsupportedTrio: this Trio's internals do not look as expected.
    """
    global _parts
    seams.check()
    from . import swap

    swap.swap()
    _parts = swap
    return swap


def _parts_or_epoll(unavailable: Unavailable) -> Any:
    """As `prepare`; None where the installed Trio is not supported and ``unavailable`` allows for epoll."""
    try:
        return prepare()
    except seams.UnsupportedTrio as exc:
        if unavailable != "epoll":
            raise
        _warn(exc)
        return None


_streams_shortened = False


def _patch_anyio(parts: Any) -> None:
    """Makes the file functions of AnyIO, and the streams of its backend ``trio``, use the ring directly, once
    a program uses them: AnyIO imports that backend just before its first run gets here. Streams of an AnyIO
    that looks different stay as they are, which works and takes longer."""
    global _streams_shortened
    parts.patch_anyio()
    if not _streams_shortened and seams.anyio_is_on_trio():
        _streams_shortened = True
        try:
            importlib.import_module("uring_trio.seams.anyio").shorten_streams(parts.RingSocket)
        except ImportError:
            pass


_warned = False


def _make_manager(parts: Any, ring: RingOptions | None, unavailable: Unavailable) -> Any:
    _patch_anyio(parts)
    try:
        return parts.create_manager(ring)
    except RingUnavailable as exc:
        if unavailable != "epoll":
            raise
        _warn(exc)
        return seams.stock_manager()


def _warn(reason: Exception) -> None:
    """Logs why a run is on epoll, and warns of the first one."""
    global _warned
    _log.warning("a run on epoll begins: %s", reason)
    if not _warned:
        _warned = True
        warnings.warn(f"running on epoll: {reason}", RuntimeWarning, stacklevel=5)
