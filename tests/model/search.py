"""Breadth-first search over every state of a world, with the shortest way to each.

A world is small, and its state can be taken out of it and put back (``freeze``, ``thaw``). What it leaves
open while it acts (how many entries the kernel takes, in which order two completions come) it asks `Choices`,
and the search repeats the act for every answer.
"""

from __future__ import annotations

import gc
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

__all__ = ["Choices", "Explored", "World", "explore"]


class Choices:
    """The answers to what an act leaves open: those given beforehand, then the first of each."""

    def __init__(self) -> None:
        self.made: list[tuple[int, int]] = []
        self._given: tuple[int, ...] = ()

    def begin(self, given: tuple[int, ...]) -> None:
        self.made = []
        self._given = given

    def __call__(self, number: int) -> int:
        """One of 0 to ``number`` - 1."""
        place = len(self.made)
        chosen = self._given[place] if place < len(self._given) else 0
        self.made.append((chosen, number))
        return chosen

    def others(self) -> Iterator[tuple[int, ...]]:
        """The answers that have not been tried where this act chose for itself."""
        for place in range(len(self._given), len(self.made)):
            before = tuple(chosen for chosen, _ in self.made[:place])
            for other in range(1, self.made[place][1]):
                yield (*before, other)


class World(Protocol):
    choices: Choices

    def freeze(self) -> Hashable: ...
    def thaw(self, state: Hashable) -> None: ...
    def acts(self) -> list[tuple[str, int]]:
        """What may happen next."""
        ...

    def act(self, name: str, which: int) -> None: ...
    def check(self) -> None:
        """Raises AssertionError where a promise is broken in this state."""
        ...

    def over(self) -> bool:
        """Whether this is where everything has to end."""
        ...


@dataclass
class Explored:
    """What a search found."""

    states: int
    steps: int
    ends: int


def explore(world: World) -> Explored:
    """Visits every state.

    Raises:
        AssertionError: a promise is broken, or a state from which the end cannot be reached; a note tells the
            shortest way there.
    """
    collects = gc.isenabled()
    gc.disable()  # it would look through all the states again and again
    try:
        return _explore(world)
    finally:
        if collects:
            gc.enable()


def _explore(world: World) -> Explored:
    first = world.freeze()
    came: dict[Hashable, tuple[Hashable, str] | None] = {first: None}
    before: dict[Hashable, list[Hashable]] = {first: []}
    todo, ends, steps = deque([first]), [], 0

    def way(state: Hashable, last: str = "") -> str:
        told = [last] if last else []
        step = came[state]
        while step is not None:
            told.append(step[1])
            step = came[step[0]]
        return "the way there: " + ", ".join(reversed(told))

    while todo:
        state = todo.popleft()
        world.thaw(state)
        if world.over():
            ends.append(state)
            continue
        for name, which in world.acts():
            untried: list[tuple[int, ...]] = [()]
            while untried:
                given = untried.pop()
                world.thaw(state)
                world.choices.begin(given)
                told = f"{name} {which}"
                try:
                    world.act(name, which)
                    told += "".join(f" {chosen}" for chosen, _ in world.choices.made)
                    world.check()
                except Exception as exc:
                    exc.add_note(way(state, told))
                    raise
                untried += world.choices.others()
                after = world.freeze()
                steps += 1
                if after not in came:
                    came[after] = (state, told)
                    before[after] = []
                    todo.append(after)
                before[after].append(state)

    # Whatever happened, the end can be reached.
    ending, todo = set(ends), deque(ends)
    while todo:
        for state in before[todo.popleft()]:
            if state not in ending:
                ending.add(state)
                todo.append(state)
    for state in came:
        assert state in ending, f"the end cannot be reached; {way(state)}"
    return Explored(len(came), steps, len(ends))
