"""State machines as tables, and the one interpreter of them.

Invariant: a table has a cell for every pair of state and event, which is checked when the table is made. The
cell of an event that cannot happen says why; such an event raises `IllegalEvent`, with ``-O`` too.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["IllegalEvent", "Table"]

S = TypeVar("S", bound=Enum)
E = TypeVar("E", bound=Enum)
A = TypeVar("A", bound="Enum | None")

Cell: TypeAlias = "tuple[S, A] | S | str"


class IllegalEvent(RuntimeError):
    """An event that cannot happen in the machine's state: a mistake of the caller, or a forged completion."""


class Table(Generic[S, E, A]):
    """The transition of each state and event.

    Args:
        name: of the machine, for messages.
        events: the events, in the order of the columns.
        rows: for each state its cells: the next state and the action; the next state alone; or a text that
            says why the event cannot happen.
        nothing: the action of the cells that name none.

    Raises:
        ValueError: a state without a row, or a row with a cell too few or too many.
    """

    def __init__(
        self,
        name: str,
        states: type[S],
        events: type[E],
        rows: Mapping[S, Sequence[Cell[S, A]]],
        nothing: A | None = None,
    ) -> None:
        columns = list(events)
        if list(rows) != list(states):
            raise ValueError(f"{name}: the rows are not the states in their order")
        self.name: str = name
        self._cells: dict[tuple[S, E], tuple[S, Any] | str] = {}
        for state, row in rows.items():
            if len(row) != len(columns):
                raise ValueError(f"{name}: {state.name} has {len(row)} cells for {len(columns)} events")
            for event, cell in zip(columns, row, strict=True):
                self._cells[state, event] = cell if isinstance(cell, (tuple, str)) else (cell, nothing)

    def step(self, state: S, event: E) -> tuple[S, A]:
        """The state after an event, and the action.

        Raises:
            IllegalEvent: the event cannot happen in this state.
        """
        cell = self._cells[state, event]
        if isinstance(cell, str):
            raise IllegalEvent(f"{self.name}: {event.name} while {state.name}: {cell}")
        return cell

    def legal(self, state: S, event: E) -> bool:
        """Whether the event can happen in this state."""
        return not isinstance(self._cells[state, event], str)

    def __getitem__(self, state: S) -> dict[E, S | None]:
        """The states that follow a state, by event; None where the event cannot happen."""
        row = {event: cell for (before, event), cell in self._cells.items() if before is state}
        return {event: None if isinstance(cell, str) else cell[0] for event, cell in row.items()}

    def __iter__(self) -> Iterator[tuple[S, E]]:
        """Every pair of state and event."""
        return iter(self._cells)

    def __len__(self) -> int:
        return len(self._cells)
