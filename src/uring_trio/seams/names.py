"""The private names of Trio that a ring run relies on, and what happens where one is missing.

`check` reports the ones that this Trio does not have, and a ring run refuses to start without them. The other
modules of this package take Trio's modules from here.
"""

from __future__ import annotations

import re
import warnings
from typing import TYPE_CHECKING, Any

import trio
from trio import socket as _public_socket

__all__ = [
    "DEFAULT_RECEIVE_SIZE",
    "NAMES",
    "NAMES_OF_METHODS",
    "NAMES_OF_SCOPES",
    "NAMES_OF_TASKS",
    "NAMES_OF_TICKS",
    "TESTED",
    "SocketType",
    "UnsupportedTrio",
    "check",
    "context",
    "core_run",
    "core_traps",
    "present",
    "replaced",
    "require",
    "socket_module",
    "stream_class",
    "subprocess_module",
    "tested",
    "unsupported",
]

TESTED = ("0.33", "0.34", "0.35")
"""Minor versions of Trio whose own test-suite has passed on the ring."""

NAMES = (
    "trio._core._io_epoll.EpollIOManager._epoll",
    "trio._core._io_epoll.EpollIOManager._registered",
    "trio._core._io_epoll.EpollWaiters.read_task",
    "trio._core._io_epoll.EpollWaiters.write_task",
    "trio._core._run.CancelStatus.effective_deadline",
    "trio._core._run.Deadlines._heap",
    "trio._core._run.GLOBAL_RUN_CONTEXT",
    "trio._core._run.Runner.clock",
    "trio._core._run.Runner.deadlines",
    "trio._core._run.Runner.entry_queue",
    "trio._core._run.SystemClock.offset",
    "trio._core._run.Runner.instruments",
    "trio._core._run.Runner.io_manager",
    "trio._core._run.Runner.reschedule",
    "trio._core._run.Runner.runq",
    "trio._core._run.TheIOManager",
    "trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING",
    "trio._core._run._r",
    "trio._core._run.perf_counter",
    "trio._core._run.Task._abort_func",
    "trio._core._run.Task._cancel_points",
    "trio._core._run.Task._cancel_status",
    "trio._core._run.Task._next_send",
    "trio._core._run.Task._next_send_fn",
    "trio._core._run.Task._runner",
    "trio._core._run.Task._schedule_points",
    "trio._core._run.CancelStatus.effectively_cancelled",
    "trio._core._run.Deadlines.next_deadline",
    "trio._core._run.Runner.ki_pending",
    "trio._core._run.Runner.main_task",
    "trio._core._run.Runner.is_guest",
    "trio._core._run.setup_runner",
    "trio._core._traps.CancelShieldedCheckpoint",
    "trio._core._traps.WaitTaskRescheduled",
    "trio._highlevel_socket.DEFAULT_RECEIVE_SIZE",
    "trio._highlevel_socket.SocketStream._send_conflict_detector",
    "trio._socket._SocketType",
    "trio._socket._SocketType._resolve_address_nocp",
    "trio._subprocess.create_pipe_from_child_output",
    "trio._subprocess.create_pipe_to_child_stdin",
)
"""Every ring run needs these: without one there is none. Dotted paths; fields of attrs classes,
and attributes that a constructor sets, count as present."""

NAMES_OF_TICKS = (
    "trio._core._run.CancelStatus",
    "trio._core._run.Deadlines",
    "trio._core._run.Deadlines._active",
    "trio._core._run.Deadlines._prune",
    "trio._core._run.GLOBAL_RUN_CONTEXT.__dict__",
    "trio._core._run.Runner.task_exited",
    "trio._core._run.Runner.tasks",
    "trio._core._run.Runner.waiting_for_idle",
    "trio._core._run.Task._attempt_delivery_of_any_pending_cancel",
    "trio._core._run.Task._attempt_delivery_of_pending_ki",
    "trio._core._run.Task._counter",
    "trio._core._run.Task.context",
    "trio._core._run.Task.coro",
    "trio._core._run.Task.custom_sleep_data",
    "trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING",
    "trio._core._run._r",
    "trio._core._traps.PermanentlyDetachCoroutineObject",
)
"""Ticks in C need these besides: without one the run is Trio's own loop, and slower."""

NAMES_OF_SCOPES = (
    "trio._core._run.CancelScope._cancel_called",
    "trio._core._run.CancelScope._cancel_reason",
    "trio._core._run.CancelScope._cancel_status",
    "trio._core._run.CancelScope._close",
    "trio._core._run.CancelScope._deadline",
    "trio._core._run.CancelScope._has_been_entered",
    "trio._core._run.CancelScope._registered_deadline",
    "trio._core._run.CancelScope._relative_deadline",
    "trio._core._run.CancelScope._shield",
    "trio._core._run.CancelStatus._children",
    "trio._core._run.CancelStatus._parent",
    "trio._core._run.CancelStatus._scope",
    "trio._core._run.CancelStatus._tasks",
    "trio._core._run.CancelStatus.abandoned_by_misnesting",
)
"""Cancel scopes in C need these besides: the fields of their classes, all of them, and no others. Without
one, or beside another, scopes stay Trio's."""

NAMES_OF_TASKS = (
    "trio._core._run.CancelStatus._tasks",
    "trio._core._run.CancelStatus.abandoned_by_misnesting",
    "trio._core._run.GLOBAL_PARKING_LOT_BREAKER",
    "trio._core._run.Nursery._check_nursery_closed",
    "trio._core._run.Nursery._child_finished",
    "trio._core._run.Runner.spawn_impl",
    "trio._core._run.Task._activate_cancel_status",
    "trio._core._run.Task._child_nurseries",
    "trio._core._run.Task._eventual_parent_nursery",
    "trio._core._run.Task._ki_protected",
    "trio._core._run.Task._parent_nursery",
    "trio._core._run._NO_SEND",
)
"""Tasks that start and end in C need these besides: the fields of their class, and no others."""

NAMES_OF_METHODS = ("trio._core._run.GLOBAL_PARKING_LOT_BREAKER",)
"""Locks and memory channels in C need these besides, with the fields of their classes."""


class UnsupportedTrio(RuntimeError):
    """The installed Trio is older than those tested, or lacks internals that a ring run needs."""


_compared = False


def unsupported() -> str | None:
    """Why the installed Trio is not supported; None where it is no older than those tested and has every name
    in `NAMES`."""
    if _minor(trio.__version__) < _minor(TESTED[0]):
        lacks = "is older"
    elif missing := [name for name in NAMES if not present(name)]:
        lacks = f"lacks {', '.join(missing)}"
    else:
        return None
    return f"uring_trio supports Trio {', '.join(TESTED)}; Trio {trio.__version__} {lacks}"


def _minor(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:2]]


def require() -> None:
    """Raises `UnsupportedTrio` if `unsupported` says why."""
    if reason := unsupported():
        raise UnsupportedTrio(reason)


def check() -> None:
    """As `require`; warns, once, of a Trio never tested."""
    global _compared
    require()
    if not _compared:
        _compared = True
        if not tested():
            warnings.warn(
                f"Trio {trio.__version__} was never tested on the ring, only {', '.join(TESTED)}",
                RuntimeWarning,
                stacklevel=5,
            )


def tested() -> bool:
    """Whether this Trio is of a version that was tested."""
    return _minor(trio.__version__) in map(_minor, TESTED)


_PARTS_OF_CALLS = (
    "add_parking_lot_breaker",
    "cancel_shielded_checkpoint",
    "checkpoint",
    "checkpoint_if_cancelled",
    "current_task",
    "remove_parking_lot_breaker",
    "reschedule",
    "wait_task_rescheduled",
)


def replaced() -> bool:
    """Whether a program has replaced a function of Trio's that most calls use."""
    modules = trio.lowlevel, core, core_run
    found = (vars(module)[name] for module in modules for name in _PARTS_OF_CALLS if name in vars(module))
    return any(getattr(each, "__globals__", {}).get("__name__", "")[:5] != "trio." for each in found)


def _no_code() -> None: ...


def present(dotted: str) -> bool:
    """Whether this Trio has what a dotted path names."""
    parts = dotted.split(".")
    found: Any = trio
    for depth, part in enumerate(parts[1:], 1):
        if hasattr(found, part):
            found = getattr(found, part)
            continue
        fields = {field.name for field in getattr(found, "__attrs_attrs__", ())}
        known = fields | set(getattr(found, "__slots__", ())) | set(getattr(found, "__annotations__", ()))
        known |= set(getattr(getattr(found, "__init__", None), "__code__", _no_code.__code__).co_names)
        return depth == len(parts) - 1 and part in known
    return True


if TYPE_CHECKING:
    core: Any
    core_run: Any
    core_traps: Any
    socket_module: Any
    subprocess_module: Any
    stream_class: Any
    DEFAULT_RECEIVE_SIZE: int
    SocketType = trio.socket.SocketType
else:
    # A missing name must not make importing fail: ``check`` says what is wrong when a run starts.
    core = getattr(trio, "_core", None)
    core_run = getattr(core, "_run", None)
    core_traps = getattr(core, "_traps", None)
    socket_module = getattr(trio, "_socket", None)
    subprocess_module = getattr(trio, "_subprocess", None)
    stream_class = trio.SocketStream
    DEFAULT_RECEIVE_SIZE = getattr(getattr(trio, "_highlevel_socket", None), "DEFAULT_RECEIVE_SIZE", 65536)
    SocketType = getattr(socket_module, "_SocketType", _public_socket.SocketType)
context: Any = getattr(core_run, "GLOBAL_RUN_CONTEXT", None)
