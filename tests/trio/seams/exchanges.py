"""Random programs of tasks that lock, send and receive, and what they tell: for stock Trio and for C alike.

A program is drawn from a seed. Each of its tasks has steps of its own, and some of them are cancelled. The
transcript has every result and error in order, the counts of checkpoints, and the state of the objects.

Trio wakes the waiters of an event that is set, and those of a channel that is closed, in the order of a set,
which is that of addresses. Programs with such steps sort each batch of tasks before it is shuffled.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import trio

from uring_trio.seams.names import core_run

if TYPE_CHECKING:
    from collections.abc import Callable

    Step = tuple[str, int, int, str]

TASKS = 4
STEPS = 8
TURNS = 150
WORK = ("lock", "lock", "held", "take", "free", "semaphore", "limiter", "turn")
MOVES = (*("send", "receive") * 3, "next", "each", "nowait", "clone", "swap", "turn")
SETS = ("event", "set", "close")
SCOPES = ("", "", "", "", "", "0", "cancelled", "shield", "soon")


def draw(seed: int) -> list[list[Step]]:
    """The steps of each task: what is done, with which object, with which number, and in which scope."""
    chance = random.Random(seed)
    work = (WORK, MOVES, WORK + MOVES)[seed % 3] + (SETS if is_sorted(seed) else ())
    return [
        [
            (chance.choice(work), chance.randrange(2), chance.randrange(100), chance.choice(SCOPES))
            for _ in range(STEPS)
        ]
        for _ in range(TASKS)
    ]


def is_sorted(seed: int) -> bool:
    """Whether the batches of that program are sorted."""
    return seed % 2 > 0


class World:
    """The objects of one play of a program."""

    def __init__(self, seed: int) -> None:
        self.locks = [trio.Lock(), trio.StrictFIFOLock()]
        self.semaphores = [trio.Semaphore(1), trio.Semaphore(2, max_value=2)]
        self.limiter = trio.CapacityLimiter(1)
        self.events = [trio.Event(), trio.Event()]
        sizes = seed // 3 % 2, (2, float("inf"))[seed // 6 % 2]
        pairs = [trio.open_memory_channel[int](size) for size in sizes]
        self.sends = [[send] for send, _ in pairs]
        self.receives = [[receive] for _, receive in pairs]
        self.scopes = [trio.CancelScope() for _ in range(TASKS)]
        self.inner = list(self.scopes)
        self.told: list[object] = []

    def state(self) -> list[object]:
        shared = [send[0].statistics() for send in self.sends]
        return [
            *shared,
            *(lock.locked() for lock in self.locks),
            *(lock.statistics().tasks_waiting for lock in self.locks),
            *(semaphore.value for semaphore in self.semaphores),
            self.limiter.statistics().borrowed_tokens,
            len(core_run.GLOBAL_PARKING_LOT_BREAKER),
        ]

    async def task(self, name: int, steps: list[Step]) -> None:
        with self.scopes[name]:
            await self.steps(name, steps)

    async def steps(self, name: int, steps: list[Step]) -> None:
        task: Any = trio.lowlevel.current_task()
        for number, (what, which, value, scope) in enumerate(steps):
            result: object = "left"
            try:
                with scoped(scope) as self.inner[name]:
                    result = await getattr(self, f"do_{what}")(which, value)
            except (trio.Cancelled, KeyboardInterrupt):
                self.told.append((name, number, what, "cancelled", task._cancel_points))
                raise
            except BaseException as exc:
                result = type(exc).__name__, str(exc).partition(" at 0x")[0], str(exc.__cause__)
            self.told.append((name, number, what, result, task._cancel_points, task._schedule_points))
            self.told.append(self.state())

    async def do_lock(self, which: int, value: int) -> None:
        async with self.locks[which]:
            self.told.append(value)
            if value % 2:
                await trio.lowlevel.checkpoint()
            if value % 7 == 0:
                raise ValueError(value)

    async def do_held(self, which: int, value: int) -> None:
        async with self.locks[which]:
            await self.do_swap(which, value) if value % 2 else await self.do_send(which, value)

    async def do_take(self, which: int, value: int) -> None:
        await self.locks[which].acquire()

    async def do_free(self, which: int, value: int) -> None:
        self.locks[which].release()

    async def do_semaphore(self, which: int, value: int) -> None:
        async with self.semaphores[which]:
            await turns(value % 3)

    async def do_limiter(self, which: int, value: int) -> None:
        async with self.limiter:
            await turns(value % 3)

    async def do_event(self, which: int, value: int) -> None:
        await self.events[which].wait()

    async def do_set(self, which: int, value: int) -> None:
        self.events[which].set()

    async def do_send(self, which: int, value: int) -> object:
        sends = self.sends[which]
        return await sends[value % len(sends)].send(value)

    async def do_receive(self, which: int, value: int) -> object:
        receives = self.receives[which]
        return await receives[value % len(receives)].receive()

    async def do_next(self, which: int, value: int) -> object:
        receives = self.receives[which]
        return await receives[value % len(receives)].__anext__()

    async def do_each(self, which: int, value: int) -> object:
        found = []
        async for each in self.receives[which][0]:
            found.append(each)
            if len(found) > value % 4:
                break
        return found

    async def do_nowait(self, which: int, value: int) -> object:
        if value % 2:
            return self.sends[which][0].send_nowait(value)
        return self.receives[which][0].receive_nowait()

    async def do_clone(self, which: int, value: int) -> None:
        ends: Any = self.sends[which] if value % 2 else self.receives[which]
        ends.append(ends[0].clone())

    async def do_close(self, which: int, value: int) -> None:
        ends: Any = self.sends[which] if value % 2 else self.receives[which]
        end = ends[value % len(ends)]
        if len(ends) > 1 or value > 80:
            end.close() if value % 3 else await end.aclose()

    async def do_swap(self, which: int, value: int) -> object:
        await self.do_send(which, value)
        return await self.do_receive(which, value)

    async def do_turn(self, which: int, value: int) -> None:
        await turns(value % 3)


async def turns(number: int) -> None:
    for _ in range(number):
        await trio.lowlevel.checkpoint()


def scoped(kind: str) -> trio.CancelScope:
    scope = trio.CancelScope(shield=kind == "shield")
    if kind == "cancelled":
        scope.cancel()
    elif kind == "0":
        scope = trio.move_on_after(0)
    elif kind == "soon":
        nursery: Any = trio.lowlevel.current_task().parent_nursery
        nursery.start_soon(cancel_in, scope)
    return scope


async def cancel_in(scope: trio.CancelScope) -> None:
    await turns(3)
    scope.cancel()


def program(seed: int) -> Callable[[], Any]:
    """What plays the program of that seed, and returns its transcript."""
    steps = draw(seed)

    async def main() -> list[object]:
        core_run._r.seed(seed)
        core_run._ALLOW_DETERMINISTIC_SCHEDULING = is_sorted(seed)
        await turns(5)
        world = World(seed)
        async with trio.open_nursery() as nursery:
            for name, of_task in enumerate(steps):
                nursery.start_soon(world.task, name, of_task)
            await turns(TURNS)
            # One by one: the tasks of one scope are cancelled in the order of a set.
            for name, scope in enumerate(world.scopes):
                world.told.append("the end")
                scope.cancel()
                world.inner[name].shield = False
                await turns(3)
        core_run._ALLOW_DETERMINISTIC_SCHEDULING = False
        return [*world.told, world.state()]

    return main
