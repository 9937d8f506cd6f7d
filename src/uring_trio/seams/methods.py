"""Locks and memory channels in C, for runs whose scheduler ticks are in C.

In a step in C the methods of a lock and of a channel return awaitables that do the usual case: a lock that
is free, a value that is handed over, put into the buffer or waited for. Trio's own methods do everything
else: a lock that is taken, a cancelled scope, a closed channel, an error, a run with instruments. The
objects are Trio's in either case, field by field, so the methods may take turns on one object.

The C text names every field that it writes, and the names that each method uses. A Trio whose classes
have others keeps its methods. Nothing is done in C for as long as a program has replaced a method that
another one would have called.

An awaitable whose work is done may have to become a coroutine. It becomes one of `_after`, which has the
name, the file and the place of Trio's method where that waits: tracebacks and lists of frames show the same.
"""

from __future__ import annotations

import collections
import dis
import types
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import Abort, cancel_shielded_checkpoint, enable_ki_protection, wait_task_rescheduled

from .names import NAMES_OF_METHODS, core_run, present
from .shortcuts import Codes, Places, copy, has_arguments, has_fields

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["exchange", "restore"]

_LOCK = ("_lot", "_owner")
_LOT = ("_parked", "broken_by")
_CHANNEL = ("_state", "_closed", "_tasks")
_STATE = (
    "max_buffer_size",
    "data",
    "open_send_channels",
    "open_receive_channels",
    "send_tasks",
    "receive_tasks",
    "peak_buffer_used",
)
_PARKS = {"trio", "lowlevel", "checkpoint_if_cancelled", "cancel_shielded_checkpoint", "WouldBlock"}
_WAITS = _PARKS | {"current_task", "_tasks", "add", "_state", "custom_sleep_data", "wait_task_rescheduled"}
_MOVES = {
    "_closed",
    "trio",
    "ClosedResourceError",
    "_state",
    "send_tasks",
    "receive_tasks",
    "data",
    "popitem",
}
_MOVES |= {"custom_sleep_data", "_tasks", "remove", "lowlevel", "reschedule", "append", "WouldBlock"}
_USED = {
    "acquire": _PARKS | {"acquire_nowait", "_lot", "park", "BrokenResourceError", "_owner"},
    "acquire_nowait": {
        *("trio", "lowlevel", "current_task", "_owner", "RuntimeError", "_lot", "add_parking_lot_breaker"),
        "WouldBlock",
    },
    "release": {
        *("trio", "lowlevel", "current_task", "_owner", "RuntimeError", "remove_parking_lot_breaker", "_lot"),
        *("unpark", "add_parking_lot_breaker"),
    },
    "__aenter__": {"acquire"},
    "__aexit__": {"release"},
    "send": _WAITS | {"send_nowait", "send_tasks"},
    "send_nowait": (_MOVES - {"send_tasks"})
    | {
        "open_receive_channels",
        "BrokenResourceError",
        "Value",
        "len",
        "max_buffer_size",
        "max",
        "peak_buffer_used",
    },
    "receive": _WAITS | {"receive_nowait", "receive_tasks"},
    "receive_nowait": (_MOVES - {"receive_tasks"}) | {"popleft", "open_send_channels", "EndOfChannel"},
    "__anext__": {"receive", "trio", "EndOfChannel", "StopAsyncIteration"},
}
"""The names that each method uses."""
_LOCK_CALLS: dict[str, tuple[str, ...]] = {
    "acquire": ("self",),
    "__aenter__": ("self",),
    "__aexit__": ("self", "exc_type", "exc_value", "traceback"),
}
"""The arguments of the coroutine functions."""
_codes = Codes()
_places = Places()


def exchange(extension: Any, find_offsets: Callable[[Iterable[tuple[Any, str]]], Any]) -> None:
    """Puts the functions of the extension into the methods. Idempotent."""
    if _codes or not all(map(present, NAMES_OF_METHODS)):
        return
    _exchange_locks(extension, find_offsets)
    _exchange_channels(extension, find_offsets)


def restore() -> None:
    """Undoes `exchange`, see `Places.restore`. Awaitables are not affected."""
    _codes.restore()
    _places.restore()


def _exchange_locks(extension: Any, find_offsets: Callable[[Iterable[tuple[Any, str]]], Any]) -> None:
    lock, lots = trio.Lock, trio.lowlevel.ParkingLot
    offsets = find_offsets((lots, name) for name in _LOT)
    of_class = {name: vars(kind).get(name) for kind in reversed(lock.__mro__) for name in vars(kind)}
    names = (*_LOCK_CALLS, "acquire_nowait", "release")
    if (
        offsets is None
        or not has_fields(lock, _LOCK)
        or not has_fields(lots, _LOT)
        or not all(has_arguments(of_class.get(name), arguments) for name, arguments in _LOCK_CALLS.items())
        or not all(_uses(of_class.get(name), name) for name in names)
        or any(getattr(trio.StrictFIFOLock, name, None) is not of_class[name] for name in names)
    ):
        return
    acquire, enter = of_class["acquire"], of_class["__aenter__"]
    yields = _after(acquire, "cancel_shielded_checkpoint", _yielded)
    entered = _after(enter, "acquire", _entered(yields))
    classes = lock, trio.StrictFIFOLock
    shortcut = extension.use_locks(
        classes, lots, core_run.GLOBAL_PARKING_LOT_BREAKER, offsets, of_class["release"]
    )
    owner = next(kind for kind in lock.__mro__ if "release" in vars(kind))
    _places.put(owner, "release", shortcut)
    extension.stand_for_lock(acquire, of_class["acquire_nowait"], shortcut)
    for name, function, after in (
        ("lock_acquire", acquire, yields),
        ("lock_enter", enter, entered),
        ("lock_leave", of_class["__aexit__"], None),
    ):
        _put(extension, name, function, after, None)


def _exchange_channels(extension: Any, find_offsets: Callable[[Iterable[tuple[Any, str]]], Any]) -> None:
    senders, receivers = trio.MemorySendChannel, trio.MemoryReceiveChannel
    sides = _sides()
    offsets = sides and find_offsets((sides, name) for name in _STATE)
    send, receive, following = senders.send, receivers.receive, receivers.__anext__
    if (
        not offsets
        or not has_fields(sides, _STATE)
        or not all(has_fields(kind, _CHANNEL) for kind in (senders, receivers))
        or not has_arguments(send, ("self", "value"))
        or not all(has_arguments(each, ("self",)) for each in (receive, following))
        or not all(_uses(getattr(senders, name), name) for name in ("send", "send_nowait"))
        or not all(
            _uses(getattr(receivers, name), name) for name in ("receive", "receive_nowait", "__anext__")
        )
    ):
        return
    deques, ordered = collections.deque, collections.OrderedDict
    kinds = senders, receivers, sides, deques, ordered, Abort.SUCCEEDED
    stood_for = senders.send_nowait, receive, receivers.receive_nowait
    extension.use_channels((*kinds, deques.append, deques.popleft, ordered.popitem, *stood_for), offsets)
    received = _after(receive, "cancel_shielded_checkpoint", _yielded)
    waited = _after(receive, "wait_task_rescheduled", _parked)
    sent, waited_to_send = (
        _after(send, "cancel_shielded_checkpoint", _yielded),
        _after(send, "wait_task_rescheduled", _parked_to_send),
    )
    _put(extension, "channel_send", send, sent, waited_to_send)
    _put(extension, "channel_receive", receive, received, waited)
    went_on = (
        _after(following, "receive", _followed(received)),
        _after(following, "receive", _followed(waited)),
    )
    _put(extension, "channel_next", following, *went_on)


def _put(extension: Any, name: str, function: Any, yielded: Any, parked: Any) -> None:
    extension.use_method(name, copy(function), yielded, parked)
    _codes.put(function, getattr(extension, name))
    enable_ki_protection(function)


def _sides() -> Any:
    """The class of what the two sides of a memory channel share."""
    send, _ = trio.open_memory_channel[None](0)
    return type(getattr(send, "_state", None))


def _uses(function: Any, name: str) -> bool:
    """Whether a method is as Trio has it: these are the names that it uses."""
    return set(getattr(getattr(function, "__code__", None), "co_names", ())) == _USED[name]


# ---- after the work ----


async def _yielded(self: Any, value: Any) -> Any:
    await cancel_shielded_checkpoint()
    return value


async def _parked(self: Any) -> Any:
    return await wait_task_rescheduled(_aborts)


async def _parked_to_send(self: Any) -> None:
    await wait_task_rescheduled(_aborts)


def _aborts(_: object) -> Abort:
    """The object that the task waits with is in its place already."""
    return Abort.SUCCEEDED


def _entered(acquire: Any) -> Any:
    async def enter(self: Any, value: Any) -> None:
        await acquire(self, value)

    return enter


def _followed(receive: Any) -> Any:
    async def following(*args: Any) -> Any:
        try:
            return await receive(*args)
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    return following


def _after(stock: Any, waits_by: str, function: Any) -> Any:
    """The function, which waits once, in the guise of Trio's method where that calls ``waits_by``."""
    code, guise = function.__code__, stock.__code__
    here, there = _place(code), _place(guise, waits_by)
    moved = [there if each == here else _moved(each, there[0] - here[0]) for each in code.co_positions()]
    changed = code.replace(
        co_filename=guise.co_filename,
        co_firstlineno=guise.co_firstlineno,
        co_name=guise.co_name,
        co_qualname=guise.co_qualname,
        co_linetable=_location_table(guise.co_firstlineno, moved),
    )
    after = types.FunctionType(changed, function.__globals__, stock.__name__, None, function.__closure__)
    return enable_ki_protection(after)


def _place(code: types.CodeType, name: str | None = None) -> Any:
    """Where the first wait stands, after a use of this name: its first and last line and its columns."""
    used = name is None
    for each in dis.get_instructions(code):
        used = used or each.argval == name
        if used and each.opname == "SEND" and each.positions and None not in each.positions:
            return tuple(each.positions)
    return code.co_firstlineno, code.co_firstlineno, 0, 0


def _moved(place: Any, lines: int) -> Any:
    first, last, *columns = place
    return place if None in place else (first + lines, last + lines, *columns)


def _location_table(first: int, places: Iterable[Any]) -> bytes:
    """The table of positions of a code object that begins in line ``first``, in the interpreter's long form:
    one entry for each unit of code."""
    table, line = bytearray(), first
    for place in places:
        if None in place:
            table.append(0xF8)  # no position
            continue
        start, end, column, end_column = place
        table.append(0xF0)
        delta = start - line
        for number in (
            delta << 1 if delta >= 0 else (-delta << 1) | 1,
            end - start,
            column + 1,
            end_column + 1,
        ):
            while number > 0x3F:
                table.append(0x40 | number & 0x3F)
                number >>= 6
            table.append(number)
        line = start
    return bytes(table)
