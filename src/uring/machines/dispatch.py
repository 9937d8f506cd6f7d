"""From a completion to the machine it belongs to.

A machine that submits under extended slots stores itself in the slot's ``fn``, so that no table is needed to
find it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from ..contexts.context import ExtSQE, find_slot

if TYPE_CHECKING:
    from ..contexts.views import Completion

__all__ = ["CompletionOwner", "dispatch"]


class CompletionOwner(ABC):
    """An object that submits under extended slots, with itself as their ``fn``."""

    @abstractmethod
    def handle_cqe(self, cqe: Completion) -> bool:
        """Handles a completion of this object.

        Args:
            cqe: the completion, of any of the ring's ``wait`` functions.

        Returns:
            False when it is not one of this object's.
        """


def dispatch(cqe: Completion) -> bool:
    """Gives a completion to its owner: a subscription, a tracker, a receiver, a listener's manager.

    A loop is ``for cqe in ring.wait(): dispatch(cqe) or …``. An exception of a handler is raised here; the
    owner's state is nevertheless correct.

    Args:
        cqe: the completion, of any of the ring's ``wait`` functions.

    Returns:
        False when the completion is the caller's own.
    """
    if cqe[0] >> 62 != 2:
        return False
    slot = find_slot(cqe[0])
    owner = slot.sidecar[0] if isinstance(slot, ExtSQE) else None
    return isinstance(owner, CompletionOwner) and owner.handle_cqe(cqe)
