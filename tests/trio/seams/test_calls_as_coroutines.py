"""Calls in C as programs treat coroutines: awaited twice or by two tasks, stepped by hand, looked at."""

from __future__ import annotations

import asyncio
import collections.abc
import copy
import inspect
import pickle
import types
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.lowlevel import cancel_shielded_checkpoint, checkpoint, checkpoint_if_cancelled

import uring_trio
from tests.trio.bothways import on_ring, pair
from tests.trio.seams.modes import same, turns
from tests.trio.seams.scoped import without_numbers
from tests.trio.seams.test_locks_and_channels import HAS_CHANNELS
from uring_trio import RingOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


class Objects:
    """What calls are made of, and what lets a call that waits go on."""

    def __init__(self) -> None:
        self.send, self.receive = trio.open_memory_channel[str](1)
        self.lock = trio.Lock()
        self.near, self.far = trio.socket.socketpair()

    async def receives(self) -> Any:
        return self.receive.receive(), lambda: self.send.send_nowait("sent")

    async def follows(self) -> Any:
        return self.receive.__anext__(), lambda: self.send.send_nowait("sent")

    async def sends(self) -> Any:
        return self.send.send("1"), lambda: None

    async def waits_to_send(self) -> Any:
        self.send.send_nowait("0")
        return self.send.send("1"), self.receive.receive_nowait

    async def acquires(self) -> Any:
        return self.lock.acquire(), lambda: None

    async def enters(self) -> Any:
        return self.lock.__aenter__(), lambda: None

    async def passes(self) -> Any:
        return checkpoint(), lambda: None

    async def passes_shielded(self) -> Any:
        return cancel_shielded_checkpoint(), lambda: None

    async def looks(self) -> Any:
        return checkpoint_if_cancelled(), lambda: None

    async def writes(self) -> Any:
        return self.near.send(b"x"), lambda: None

    async def reads(self) -> Any:
        return self.near.recv(10), lambda: self.far._sock.send(b"x")  # type: ignore[attr-defined]


KINDS = [name for name in vars(Objects) if not name.startswith("_")]
STEPPED = [name for name in KINDS if name != "reads"]


@types.coroutine
def delegates(coro: Any) -> Generator[Any, Any, Any]:
    return (yield from coro)


def yields(coro: Any) -> Generator[Any, Any, Any]:
    return (yield from coro)


def told(call: Callable[[], object]) -> object:
    try:
        found = call()
    except BaseException as exc:
        return [type(exc).__name__, without_numbers(exc)]
    return found if isinstance(found, (bool, list, str, type(None))) else type(found).__name__


async def awaited(coro: Any) -> object:
    try:
        return await coro
    except BaseException as exc:
        return [type(exc).__name__, without_numbers(exc)]


def played(kind: str, program: Callable[[Any, Any], Any]) -> Any:
    async def main() -> object:
        await turns()
        objects = Objects()
        with objects.near, objects.far:
            call, go_on = await getattr(objects, kind)()
            found = await program(call, go_on)
            call.close()
            return found

    return same(main)


@pytest.mark.parametrize("kind", KINDS)
def test_awaited_by_two_tasks(kind: str) -> None:
    async def program(call: Any, go_on: Any) -> list[object]:
        found: list[object] = []

        async def awaits(name: str) -> None:
            found.append([name, await awaited(call)])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(awaits, "first")
            await turns(3)
            nursery.start_soon(awaits, "second")
            await turns(3)
            go_on()
        return sorted(found, key=str)

    played(kind, program)


@pytest.mark.parametrize("kind", KINDS)
def test_awaited_twice(kind: str) -> None:
    async def program(call: Any, go_on: Any) -> list[object]:
        if kind in ("receives", "follows", "waits_to_send", "reads"):
            go_on()
        found = [await awaited(call), await awaited(call), inspect.getcoroutinestate(call), call.cr_frame]
        return [*found, told(lambda: call.send(None)), told(lambda: call.throw(ValueError())), call.close()]

    played(kind, program)


@pytest.mark.parametrize("kind", STEPPED)
@pytest.mark.parametrize("looked_at", [False, True])
def test_awaited_after_a_step_by_hand(kind: str, looked_at: bool) -> None:
    async def program(call: Any, go_on: Any) -> list[object]:
        found = [told(lambda: call.send(None))]
        if looked_at:
            found.append(call.cr_frame is None)
        found += [await awaited(call), inspect.getcoroutinestate(call)]
        trio.lowlevel.current_task().custom_sleep_data = None
        return found

    played(kind, program)


LOOKS: list[Callable[[Any], object]] = [
    inspect.iscoroutine,
    inspect.isawaitable,
    inspect.isgenerator,
    asyncio.iscoroutine,
    inspect.getcoroutinestate,
    lambda call: isinstance(call, types.CoroutineType),
    lambda call: isinstance(call, collections.abc.Coroutine),
    lambda call: isinstance(call, collections.abc.Generator),
    lambda call: type(call).__name__,
    lambda call: call.__class__.__name__,
    lambda call: weakref.ref(call)() is call,
    lambda call: call.cr_running,
    iter,
    aiter,
    bool,
    len,
    copy.copy,
    copy.deepcopy,
    pickle.dumps,
    vars,
    lambda call: call(),
    lambda call: call < call,
    lambda call: call.no_such_name,
    lambda call: setattr(call, "no_such_name", 1),
    lambda call: call.send(5),
    lambda call: call.throw(ValueError),
    lambda call: call.throw(5),
    lambda call: call.throw(),
    lambda call: [call.close(), call.close()],
    lambda call: delegates(call).send(None),
    lambda call: next(call.__await__()),
    lambda call: [
        next(call.__await__()) and None,
        told(lambda: call.__await__().throw(ValueError("thrown"))),
    ],
    lambda call: call.__await__().close(),
]


@pytest.mark.parametrize("kind", STEPPED)
def test_looked_at(kind: str) -> None:
    async def main() -> list[object]:
        await turns()
        found = []
        for look in LOOKS:
            objects = Objects()
            with objects.near, objects.far:
                call, _ = await getattr(objects, kind)()
                found.append(told(lambda call=call, look=look: look(call)))  # type: ignore[misc]
                call.close()
            trio.lowlevel.current_task().custom_sleep_data = None
        return found

    same(main)


@pytest.mark.parametrize("kind", KINDS)
def test_that_they_are_in_c(kind: str) -> None:
    async def main() -> bool:
        await turns()
        objects = Objects()
        with objects.near, objects.far:
            call, _ = await getattr(objects, kind)()
            call.close()
            return type(call) is not types.CoroutineType

    # Trio 0.33 has other fields of channels, and keeps their methods.
    there = HAS_CHANNELS or kind not in {"receives", "follows", "sends", "waits_to_send"}
    assert uring_trio.run(main, ring=RingOptions(compiled=True)) is there


@pytest.mark.parametrize("filled", [True, False])
def test_the_next_item_or_a_default(filled: bool) -> None:
    """`anext` asks for the iterator of what it awaits at each step."""

    async def program() -> list[object]:
        send, receive = trio.open_memory_channel[int](1)
        found: list[object] = []

        async def take() -> None:
            found.append(await anext(receive, None))

        await turns()
        if filled:
            send.send_nowait(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            await turns()
            if not filled:
                send.send_nowait(2)
        send.close()
        await take()
        receive.close()
        return found

    assert same(program) == [1 if filled else 2, None]


def test_the_next_chunk_or_a_default() -> None:
    async def program() -> list[bytes]:
        async with pair() as (near, far), uring_trio.UringStream(far).chunks() as chunks:
            found = []

            async def take() -> None:
                found.append(await anext(chunks, b""))

            for data in (b"one", b"two"):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(take)
                    await turns()
                    await near.send(data)
            near.close()
            await take()
            return found

    assert on_ring(program) == [b"one", b"two", b""]
